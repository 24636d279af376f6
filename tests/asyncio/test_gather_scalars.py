"""What `gather_scalars()` returns, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import func, insert, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import joinedload, selectinload
from sqlalchemy.orm.exc import DetachedInstanceError

from sqla_patterns.asyncio import gather_scalars
from sqla_patterns.exceptions import InvalidArgumentError
from tests._support import Database, StatementLog

from ._models import Author, Base, Book, Maker, sleep

Statements = Callable[..., AbstractContextManager[StatementLog]]


async def test_results_come_in_the_order_of_the_statements(runner: asyncio.Runner, maker: Maker) -> None:
    statements = [select(Author.name).where(Author.id == n) for n in (3, 1, 2, 1)]
    assert await gather_scalars(maker, statements) == [["a3"], ["a1"], ["a2"], ["a1"]]


async def test_no_statement_gives_no_result(runner: asyncio.Runner, maker: Maker) -> None:
    assert await gather_scalars(maker, []) == []


async def test_a_statement_without_rows_gives_an_empty_result(runner: asyncio.Runner, maker: Maker) -> None:
    assert await gather_scalars(maker, [select(Author).where(Author.id == 77)]) == [[]]


async def test_a_tuple_of_statements_has_a_tuple_of_results(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        found = await gather_scalars(maker, (select(Author.name), select(Book.id).where(Book.id < 1)), into=session)
        assert found == (["a1", "a2", "a3"], [])


async def test_a_value_of_none_is_a_value(runner: asyncio.Runner, maker: Maker) -> None:
    assert await gather_scalars(maker, [select(func.max(Author.id)).where(Author.id > 77)]) == [[None]]


async def test_a_generator_of_statements_is_taken(runner: asyncio.Runner, maker: Maker) -> None:
    found = await gather_scalars(maker, (select(Author.name).where(Author.id == n) for n in (1, 2)))
    assert found == [["a1"], ["a2"]]


async def test_a_hundred_statements_go_through_five_connections(runner: asyncio.Runner, maker: Maker) -> None:
    found = await gather_scalars(maker, [select(literal(n)) for n in range(100)], limit=50)
    assert found == [[n] for n in range(100)]


async def test_each_statement_is_one_select(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, statements: Statements
) -> None:
    async with maker() as session:
        with statements(pooled) as log:
            await gather_scalars(maker, [select(Author), select(Book)], into=session)
    assert len(log) == 2


async def test_an_eager_load_is_one_select_more(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, statements: Statements
) -> None:
    with statements(pooled) as log:
        await gather_scalars(maker, [select(Author).options(selectinload(Author.books)), select(Book)])
    assert len(log) == 3


async def test_statements_run_at_the_same_time(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, database: Database
) -> None:
    running = most = 0

    class Counting(AsyncSession):
        async def run_sync(self, *args: Any, **kw: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return await super().run_sync(*args, **kw)
            finally:
                running -= 1

    await gather_scalars(async_sessionmaker(pooled, class_=Counting), [sleep(database.name, 0.05)] * 6, limit=3)  # type: ignore[list-item]
    assert most == 3


async def test_joined_collections_need_no_unique(runner: asyncio.Runner, maker: Maker) -> None:
    statement = select(Author).options(joinedload(Author.books)).order_by(Author.id)
    (authors,) = await gather_scalars(maker, [statement])
    assert [(author.name, len(author.books)) for author in authors] == [("a1", 2), ("a2", 2), ("a3", 2)]


async def test_without_a_session_the_objects_are_detached(runner: asyncio.Runner, maker: Maker) -> None:
    ((author,),) = await gather_scalars(maker, [select(Author).where(Author.id == 1)])
    assert author.name == "a1"
    with pytest.raises(DetachedInstanceError):
        _ = author.books


async def test_an_object_that_is_merged_can_load_lazily(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        ((author,),) = await gather_scalars(maker, [select(Author).where(Author.id == 1)], into=session)
        assert await session.run_sync(lambda _: len(author.books)) == 2


async def test_what_others_have_not_committed_is_not_seen(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    async with pooled.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(pooled)
    async with maker() as session:
        session.add(Author(id=9, name="new"))
        await session.flush()
        assert await gather_scalars(maker, [select(Author.name)], into=session) == [[]]


async def test_from_statement_is_taken(runner: asyncio.Runner, maker: Maker) -> None:
    statement: Any = select(Author).from_statement(text("SELECT * FROM author WHERE id = 2"))
    ((author,),) = await gather_scalars(maker, [statement])
    assert author.name == "a2"


# -- isolation levels --------------------------------------------------------------------------------------------------


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize(
    ("level", "shown"), [("AUTOCOMMIT", "read committed"), ("SERIALIZABLE", "serializable"), (None, "read committed")]
)
async def test_the_isolation_level_is_that_of_each_connection(
    level: str | None, shown: str, runner: asyncio.Runner, maker: Maker
) -> None:
    show: Any = text("SHOW transaction_isolation")
    assert await gather_scalars(maker, [show], isolation_level=level) == [[shown]]


async def test_connections_are_given_back_with_their_own_level(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    async with pooled.connect() as connection:
        before = await connection.get_isolation_level()
    await gather_scalars(maker, [select(Author)] * 5)
    async with pooled.connect() as connection:
        assert await connection.get_isolation_level() == before


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        (select(Author), "pass a list of statements"),
        (7, "pass a list of statements"),
        ([Author], "needs SELECTs and was given"),
        (["SELECT 1"], "needs SELECTs and was given 'SELECT 1'"),
        ([update(Author).values(name="x")], "write in gather_calls"),
        ([select(Author).from_statement(insert(Author).values(id=4, name="x").returning(Author))], "write in gather"),
    ],
)
async def test_what_is_no_list_of_selects_is_refused(statements: Any, fault: str) -> None:
    with pytest.raises(InvalidArgumentError, match=fault):
        await gather_scalars(async_sessionmaker(), statements)


@pytest.mark.parametrize(
    ("maker", "way_out"),
    [
        (AsyncSession(), "pass an async_sessionmaker"),
        (None, "pass an async_sessionmaker"),
        (async_scoped_session(async_sessionmaker(), lambda: 1), "pass its session_factory"),
    ],
)
async def test_what_makes_no_sessions_is_refused(maker: Any, way_out: str) -> None:
    with pytest.raises(InvalidArgumentError, match=way_out):
        await gather_scalars(maker, [select(Author)])


@pytest.mark.parametrize("limit", [0, -1, 1.5, None])
async def test_a_limit_that_is_no_positive_integer_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="limit of at least 1"):
        await gather_scalars(async_sessionmaker(), [select(Author)], limit=limit)


@pytest.mark.parametrize("timeout", [0, -1, "1"])
async def test_a_timeout_that_is_no_positive_number_is_refused(timeout: Any) -> None:  # noqa: ASYNC109
    with pytest.raises(InvalidArgumentError, match="timeout in seconds"):
        await gather_scalars(async_sessionmaker(), [select(Author)], timeout=timeout)


async def test_a_session_to_merge_into_that_is_not_async_is_refused(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        with pytest.raises(InvalidArgumentError, match="needs an AsyncSession"):
            await gather_scalars(maker, [select(Author)], into=session.sync_session)  # type: ignore[call-overload]


async def test_a_scoped_session_is_merged_into(runner: asyncio.Runner, maker: Maker) -> None:
    scoped = async_scoped_session(maker, asyncio.current_task)
    ((author,),) = await gather_scalars(maker, [select(Author).where(Author.id == 1)], into=scoped)
    assert author in scoped
    await scoped.remove()


# -- shards ------------------------------------------------------------------------------------------------------------


async def test_sharded_sessions_choose_their_connections(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    def choose_shard(mapper: Any, instance: Any, clause: Any = None) -> str:
        assert mapper is not None or instance is not None or clause is not None
        return "one"

    sharded = async_sessionmaker(
        sync_session_class=ShardedSession,
        shards={"one": pooled.sync_engine},
        shard_chooser=choose_shard,
        identity_chooser=lambda *_, **__: ["one"],
        execute_chooser=lambda _: ["one"],
    )
    found = await gather_scalars(sharded, [select(Author.name).where(Author.id == 1)] * 2, isolation_level=None)
    assert found == [["a1"], ["a1"]]
