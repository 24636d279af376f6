"""Gathers that fail or are cancelled at random moments leave no task, connection, thread or warning behind."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import joinedload, selectinload

from sqla_patterns.asyncio import SuppressedErrorWarning, gather_calls, gather_scalars
from tests._support import Database

from ._models import Author, Book, Maker, backends, checked_out, make, others, sleep

STATEMENTS: list[Any] = [
    select(Author).order_by(Author.id),
    select(Author).options(selectinload(Author.books)),
    select(Author).options(joinedload(Author.books)),
    select(Book.title),
]


class Chaos:
    """Gathers one after the other, each with a fault that a seed chooses."""

    def __init__(self, maker: Maker, database: str, seed: int, *, calls: bool) -> None:
        self._maker = maker
        self._database = database
        self._random = random.Random(seed)
        self._calls = calls
        self.outcomes: dict[str, int] = {}

    async def round(self) -> None:
        """Gather once; note how it ended."""
        try:
            await self._gather()
        except asyncio.CancelledError:
            outcome = "cancelled"
        except TimeoutError:
            outcome = "timed out"
        except Exception as error:  # noqa: BLE001 - which one it is depends on the moment
            outcome = "failed" if "nonsense" in str(error) or "chosen" in str(error) else f"unexpected: {error!r}"
        else:
            outcome = "succeeded"
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    async def _gather(self) -> None:
        chance = self._random
        statements = [chance.choice(STATEMENTS) for _ in range(chance.randint(1, 12))]
        for fault in (text("SELECT nonsense FROM nowhere"), sleep(self._database, chance.uniform(0, 0.02))):
            if chance.random() < 0.5:
                statements.insert(chance.randint(0, len(statements)), fault)
        options: dict[str, Any] = {"limit": chance.randint(1, 8)}
        if chance.random() < 0.3:
            options["timeout"] = chance.uniform(0.0005, 0.03)
        if chance.random() < 0.3:
            options["return_exceptions"] = True
        async with self._maker() as session:
            if self._calls:
                coroutine: Any = gather_calls(self._maker, *map(self._call, statements), **options)
            else:
                into = session if chance.random() < 0.5 else None
                coroutine = gather_scalars(self._maker, statements, into=into, **options)
            task = asyncio.ensure_future(coroutine)
            for _ in range(chance.choice([0, 0, 1, 2])):
                await asyncio.sleep(chance.uniform(0, 0.02))
                task.cancel()
            try:
                await task
            finally:
                await session.commit()  # the session is usable

    def _call(self, statement: Any) -> Callable[[AsyncSession], Any]:
        fails = self._random.random() < 0.1

        async def run(session: AsyncSession) -> None:
            await session.execute(statement)
            if fails:
                raise ValueError("chosen")

        return run


async def _run_rounds(engine: AsyncEngine, database: str, seed: int, rounds: int, *, calls: bool) -> dict[str, int]:
    maker = await make(engine)
    chaos = Chaos(maker, database, seed, calls=calls)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for number in range(rounds):
        await chaos.round()
        assert checked_out(engine) == 0, f"after round {number}"
        if number % 50 == 0:
            assert await others() == set(), f"after round {number}"
    assert await others() == set()
    gc.collect()
    await asyncio.sleep(0.05)
    assert complaints == []
    if database != "sqlite":
        async with engine.connect() as connection:
            # A server takes a moment to notice that a connection is gone.
            for _ in range(100):
                if await backends(connection) <= int(engine.pool.size()) + 2:  # type: ignore[attr-defined]
                    break
                await asyncio.sleep(0.05)
            else:
                pytest.fail(f"{await backends(connection)} connections on the server")
    await engine.dispose()
    return chaos.outcomes


def _test(runner: asyncio.Runner, database: Database, seed: int, rounds: int, *, calls: bool) -> None:
    before = threading.active_count()
    engine = database.create_async_engine(pool_size=5, max_overflow=0, pool_timeout=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", SuppressedErrorWarning)
        outcomes = runner.run(_run_rounds(engine, database.name, seed, rounds, calls=calls))
        gc.collect()
    # Of aiosqlite, each connection is a thread.
    assert threading.active_count() <= before + 1
    assert {each for each in outcomes if each.startswith("unexpected")} == set()
    assert min(outcomes.get(each, 0) for each in ("succeeded", "failed", "cancelled", "timed out")) > 0, outcomes


@pytest.mark.parametrize("calls", [False, True], ids=["scalars", "calls"])
def test_gathers_that_end_badly_leave_nothing_behind(runner: asyncio.Runner, database: Database, calls: bool) -> None:
    _test(runner, database, 1, 120, calls=calls)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.every_combination
@pytest.mark.parametrize("calls", [False, True], ids=["scalars", "calls"])
def test_a_thousand_gathers_that_end_badly_leave_nothing_behind(
    runner: asyncio.Runner, database: Database, calls: bool
) -> None:
    _test(runner, database, 2, 1000, calls=calls)
