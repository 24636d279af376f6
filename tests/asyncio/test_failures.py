"""What comes out of a gather that fails, is cancelled or takes too long, and what is left behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import warnings
from collections.abc import Iterable
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import StaticPool

from sqla_patterns.asyncio import SuppressedErrorWarning, gather_calls, gather_scalars
from tests._support import Database

from ._models import Author, Base, Maker, checked_out, make, others, sleep

BROKEN: Any = text("SELECT nonsense FROM nowhere")
#: What the drivers make of a table that does not exist.
BROKEN_ERRORS = (OperationalError, ProgrammingError)
ONE = select(Author.name).where(Author.id == 1)


async def nothing_is_left(engine: AsyncEngine) -> bool:
    return await others() == set() and checked_out(engine) == 0


# -- errors ------------------------------------------------------------------------------------------------------------


async def test_the_error_of_a_statement_comes_out_and_names_the_statement(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    with pytest.raises(BROKEN_ERRORS) as caught:
        await gather_scalars(maker, [ONE, ONE, BROKEN])
    assert caught.value.__notes__ == ["gather_scalars(): this is the error of statement 2"]
    assert await nothing_is_left(pooled)


async def test_the_error_has_no_other_one_as_its_context(runner: asyncio.Runner, maker: Maker) -> None:
    with pytest.raises(BROKEN_ERRORS) as caught:
        await gather_scalars(maker, [BROKEN, BROKEN])
    assert not isinstance(caught.value.__context__, BaseExceptionGroup)


@pytest.mark.only_on("postgresql", "mariadb")
async def test_the_first_error_cancels_what_is_running(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, database: Database
) -> None:
    slow: Any = sleep(database.name, 3)
    started = asyncio.get_running_loop().time()
    with pytest.raises(BROKEN_ERRORS):
        await gather_scalars(maker, [slow, BROKEN, slow])
    assert asyncio.get_running_loop().time() - started < 2.5
    assert await nothing_is_left(pooled)


async def test_statements_that_wait_for_their_turn_are_not_started_after_an_error(
    runner: asyncio.Runner, maker: Maker
) -> None:
    started: list[int] = []

    def call(number: int) -> Any:
        async def run(session: AsyncSession) -> None:
            started.append(number)
            await session.execute(BROKEN)

        return run

    with pytest.raises(BROKEN_ERRORS):
        await gather_calls(maker, *map(call, range(20)), limit=2)
    assert set(started) <= {0, 1}


async def test_of_errors_at_one_moment_the_first_in_order_comes_out(runner: asyncio.Runner, maker: Maker) -> None:
    ready = asyncio.Event()

    def fail(error: Exception) -> Any:
        async def run(session: AsyncSession) -> None:
            await ready.wait()
            raise error

        return run

    asyncio.get_running_loop().call_later(0.02, ready.set)
    with pytest.raises(ValueError, match="first"):
        await gather_calls(maker, fail(ValueError("first")), fail(KeyError("second")))


async def test_an_error_in_closing_the_session_does_not_hide_the_first_one(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    class Failing(AsyncSession):
        async def close(self) -> None:
            await super().close()
            raise RuntimeError("no")

    with pytest.raises(BROKEN_ERRORS) as caught:
        await gather_scalars(async_sessionmaker(pooled, class_=Failing), [BROKEN])
    assert "Closing the session has failed, too: RuntimeError: no" in caught.value.__notes__


# -- errors as results -------------------------------------------------------------------------------------------------


async def test_errors_are_returned_and_each_warns_once(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    with pytest.warns(SuppressedErrorWarning) as caught:
        found = await gather_scalars(maker, [BROKEN, ONE, BROKEN], return_exceptions=True)
    assert isinstance(found[0], BROKEN_ERRORS)
    assert found[1] == ["a1"]
    assert isinstance(found[2], BROKEN_ERRORS)
    assert [str(each.message).split(" is among")[0] for each in caught] == [
        "The error of statement 0",
        "The error of statement 2",
    ]
    assert caught[0].filename == __file__
    assert await nothing_is_left(pooled)


async def test_no_error_is_no_warning(runner: asyncio.Runner, maker: Maker) -> None:
    assert await gather_scalars(maker, [ONE], return_exceptions=True) == [["a1"]]


async def test_errors_of_functions_are_returned(runner: asyncio.Runner, maker: Maker) -> None:
    async def fail(session: AsyncSession) -> int:
        raise ValueError("no")

    async def succeed(session: AsyncSession) -> int:
        return 1

    with pytest.warns(SuppressedErrorWarning, match="error of function 0 is among the results: ValueError: no"):
        error, value = await gather_calls(maker, fail, succeed, return_exceptions=True)
    assert isinstance(error, ValueError)
    assert value == 1


async def test_what_succeeds_beside_an_error_is_merged(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SuppressedErrorWarning)
            found: Any = await gather_scalars(
                maker, [BROKEN, select(Author).where(Author.id == 1)], into=session, return_exceptions=True
            )
        assert isinstance(found[0], DBAPIError)
        assert found[1] == [await session.get_one(Author, 1)]


# -- cancellation and timeouts -----------------------------------------------------------------------------------------


@pytest.mark.only_on("postgresql", "mariadb")
async def test_a_cancelled_gather_does_not_wait_for_its_statements(
    runner: asyncio.Runner, maker: Maker, database: Database
) -> None:
    task = asyncio.create_task(gather_scalars(maker, [sleep(database.name, 5)] * 8))  # type: ignore[list-item]
    await asyncio.sleep(0.1)
    started = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - started < 2


async def test_cancelling_the_caller_cancels_the_statements(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, database: Database
) -> None:
    task = asyncio.create_task(gather_scalars(maker, [sleep(database.name, 3)] * 8))  # type: ignore[list-item]
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await nothing_is_left(pooled)
    assert await gather_scalars(maker, [ONE] * 8) == [["a1"]] * 8


async def test_a_gather_that_is_cancelled_twice_still_ends_its_tasks(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, database: Database
) -> None:
    task = asyncio.create_task(gather_scalars(maker, [sleep(database.name, 3)] * 4))  # type: ignore[list-item]
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await nothing_is_left(pooled)


async def test_a_timeout_is_a_timeout_error(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, database: Database
) -> None:
    with pytest.raises(TimeoutError):
        await gather_scalars(maker, [sleep(database.name, 3)] * 8, timeout=0.1)  # type: ignore[list-item]
    assert await nothing_is_left(pooled)


async def test_a_timeout_is_raised_although_errors_are_returned(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, database: Database
) -> None:
    with pytest.raises(TimeoutError):
        await gather_scalars(maker, [sleep(database.name, 3)], timeout=0.1, return_exceptions=True)  # type: ignore[list-item]
    assert await nothing_is_left(pooled)


async def test_the_session_that_is_merged_into_stays_usable_after_a_failure(
    runner: asyncio.Runner, maker: Maker
) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        own.name = "mine"
        with pytest.raises(BROKEN_ERRORS):
            await gather_scalars(maker, [ONE, BROKEN], into=session)
        await session.commit()
    assert await gather_scalars(maker, [ONE]) == [["mine"]]


# -- functions that write ----------------------------------------------------------------------------------------------


async def test_what_a_function_has_committed_stays_and_the_rest_is_rolled_back(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    committed = asyncio.Event()

    async def commit(session: AsyncSession) -> None:
        session.add(Author(id=10, name="committed"))
        await session.commit()
        committed.set()
        await asyncio.sleep(5)

    async def fail(session: AsyncSession) -> None:
        await committed.wait()
        session.add(Author(id=11, name="flushed"))
        await session.flush()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await gather_calls(maker, commit, fail)
    assert await nothing_is_left(pooled)
    assert await gather_scalars(maker, [select(Author.name).where(Author.id > 9)]) == [["committed"]]


async def test_a_function_that_does_not_commit_is_rolled_back(runner: asyncio.Runner, maker: Maker) -> None:
    async def forget(session: AsyncSession) -> int:
        session.add(Author(id=10, name="forgotten"))
        await session.flush()
        return 1

    assert await gather_calls(maker, forget) == (1,)
    assert await gather_scalars(maker, [select(Author.name).where(Author.id > 9)]) == [[]]


async def test_a_function_that_cancels_itself_cancels_the_caller(runner: asyncio.Runner, maker: Maker) -> None:
    async def give_up(session: AsyncSession) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await gather_calls(maker, give_up)


# -- pools of one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool_size", [1])
async def test_a_pool_of_one_is_used_by_one_statement_after_the_other(
    runner: asyncio.Runner, maker: Maker, pool_size: int
) -> None:
    assert await gather_scalars(maker, [ONE] * 20) == [["a1"]] * 20


@pytest.mark.parametrize("pool_size", [1])
async def test_a_session_that_holds_the_only_connection_is_named_by_the_error(
    runner: asyncio.Runner, database: Database, maker: Maker, pooled: AsyncEngine, pool_size: int
) -> None:
    short = async_sessionmaker(database.create_async_engine(pool_size=1, max_overflow=0, pool_timeout=0.2))
    async with short() as session:
        await session.scalars(ONE)
        with pytest.raises(PoolTimeoutError) as caught:
            await gather_scalars(short, [ONE], into=session)
        assert any(
            "the session in `into` holds a connection of the same pool" in note for note in caught.value.__notes__
        )
    await short.kw["bind"].dispose()


@pytest.mark.parametrize("pool_size", [1])
async def test_after_failures_a_pool_of_one_still_has_its_connection(
    runner: asyncio.Runner, maker: Maker, pool_size: int
) -> None:
    for _ in range(3):
        with pytest.raises(BROKEN_ERRORS):
            await gather_scalars(maker, [BROKEN, ONE, BROKEN])
    assert await gather_scalars(maker, [ONE]) == [["a1"]]


# -- one connection for all --------------------------------------------------------------------------------------------


# SQLite's driver begins no transaction before a SAVEPOINT, so that its release commits.
@pytest.mark.only_on("postgresql", "mariadb")
async def test_sessions_on_one_connection_read_what_its_transaction_has_written(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    """As tests do that roll everything back at the end."""
    async with pooled.connect() as connection:
        await connection.begin()
        bound = async_sessionmaker(connection, join_transaction_mode="create_savepoint")
        async with bound() as session:
            session.add(Author(id=10, name="new"))
            await session.commit()
        found = await gather_scalars(bound, [select(Author.name).where(Author.id == 10)] * 3)
        assert found == [["new"]] * 3
        async with bound() as session:
            assert await session.get(Author, 10) is not None
        await connection.rollback()
    assert await gather_scalars(maker, [select(Author.name).where(Author.id == 10)]) == [[]]


async def test_a_failure_leaves_the_transaction_of_one_connection_alone(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    async with pooled.connect() as connection:
        await connection.begin()
        bound = async_sessionmaker(connection, join_transaction_mode="create_savepoint")
        async with bound() as session:
            session.add(Author(id=10, name="new"))
            await session.commit()
        with pytest.raises(BROKEN_ERRORS):
            await gather_scalars(bound, [ONE, BROKEN])
        assert await gather_scalars(bound, [select(Author.name).where(Author.id == 10)]) == [["new"]]
        await connection.rollback()


@pytest.mark.only_on("sqlite")
async def test_sqlite_in_memory_keeps_what_the_session_has_flushed(runner: asyncio.Runner, database: Database) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    maker = await make(engine)
    async with maker() as session:
        session.add(Author(id=10, name="new"))
        await session.flush()
        found = await gather_scalars(maker, [select(Author.name).order_by(Author.id)] * 3, into=session)
        assert found == [["a1", "a2", "a3", "new"]] * 3
        with pytest.raises(BROKEN_ERRORS):
            await gather_scalars(maker, [BROKEN, ONE], into=session)
        await session.commit()
    assert await gather_scalars(maker, [select(Author.name).where(Author.id == 10)] * 3) == [["new"]] * 3
    await engine.dispose()


@pytest.mark.only_on("sqlite")
async def test_binds_by_class_find_their_engine(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    async with pooled.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(binds={Base: pooled})
    assert await gather_scalars(maker, [select(Author), select(Author.name)]) == [[], []]


# -- what a cancelled statement has locked -----------------------------------------------------------------------------


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("calls", [False, True])
async def test_a_cancelled_read_leaves_no_lock(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine, monkeypatch: pytest.MonkeyPatch, calls: bool
) -> None:
    reading = asyncio.Event()
    fetchall = aiosqlite.Cursor.fetchall

    async def fetch_slowly(cursor: aiosqlite.Cursor) -> Iterable[sqlite3.Row]:
        # SQLite holds its lock from the first row to the last, or until the cursor is gone.
        reading.set()
        await asyncio.sleep(5)
        return await fetchall(cursor)

    async def read(session: AsyncSession) -> list[str]:
        found = await session.scalars(select(Author.name))
        return list(found)

    async def fail(session: AsyncSession) -> None:
        await reading.wait()
        raise ValueError("no")

    gc.disable()
    try:
        with monkeypatch.context() as patched, pytest.raises((ValueError, asyncio.CancelledError)):
            patched.setattr(aiosqlite.Cursor, "fetchall", fetch_slowly)
            if calls:
                await gather_calls(maker, read, fail)
            else:
                gather = asyncio.ensure_future(gather_scalars(maker, [select(Author.name)]))
                await reading.wait()
                gather.cancel()
                await gather
        async with pooled.connect() as connection:
            await connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            await connection.execute(insert(Author).values(id=10, name="written"))
            await connection.commit()
    finally:
        gc.enable()
