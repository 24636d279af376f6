"""What `gather_calls()` returns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from sqla_patterns.asyncio import gather_calls
from sqla_patterns.exceptions import InvalidArgumentError

from ._models import Author, Book, Maker


async def test_results_come_as_a_tuple_in_the_order_of_the_functions(runner: asyncio.Runner, maker: Maker) -> None:
    async def author(session: AsyncSession) -> str:
        await asyncio.sleep(0.01)
        return (await session.get_one(Author, 1)).name

    async def books(session: AsyncSession) -> int | None:
        return await session.scalar(select(func.count(Book.id)))

    assert await gather_calls(maker, author, books) == ("a1", 6)


async def test_a_lambda_is_a_function(runner: asyncio.Runner, maker: Maker) -> None:
    assert await gather_calls(maker, lambda s: s.scalar(select(func.count(Author.id)))) == (3,)


async def test_each_function_has_a_session_of_its_own(runner: asyncio.Runner, maker: Maker) -> None:
    async def session_of(session: AsyncSession) -> AsyncSession:
        return session

    found = await gather_calls(maker, *[session_of] * 5, limit=2)
    assert len({id(session) for session in found}) == 5


async def test_no_function_gives_an_empty_tuple(runner: asyncio.Runner, maker: Maker) -> None:
    assert await gather_calls(maker) == ()


async def test_functions_need_no_more_connections_than_run_at_once(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    await pooled.dispose()
    made: list[object] = []
    event.listen(pooled.sync_engine, "connect", lambda *connection: made.append(connection))
    for _ in range(2):
        await gather_calls(maker, *[lambda s: s.scalar(select(func.count(Author.id)))] * 6, limit=3)
    assert len(made) == 3


async def test_the_limit_holds(runner: asyncio.Runner, maker: Maker) -> None:
    running = most = 0

    async def watch(session: AsyncSession) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1

    await gather_calls(maker, *[watch] * 10, limit=3)
    assert most == 3


async def test_what_is_no_function_is_refused() -> None:
    coroutine: Any = object()
    with pytest.raises(InvalidArgumentError, match="needs functions that take a session"):
        await gather_calls(async_sessionmaker(), coroutine)
