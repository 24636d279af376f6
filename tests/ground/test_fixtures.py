"""The fixtures themselves: what the other tests rely on."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from tests._support import Database


def _thing(bases: Any) -> Any:
    Base = bases()

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int]

    return Thing


def test_an_executemany_is_one_statement_and_savepoints_are_none(
    engine: Engine, session: Session, bases: Any, statements: Any
) -> None:
    Thing = _thing(bases)
    Thing.metadata.create_all(engine)
    with statements(engine) as log:
        with session.begin_nested():
            session.connection().execute(Thing.__table__.insert(), [{"id": 1, "size": 1}, {"id": 2, "size": 2}])
        session.commit()
    assert len(log) == 1, log.text
    assert len(log.parameters[0]) == 2
    assert log.starting("insert") == list(log)


def test_statements_counts_every_engine_unless_one_is_named(
    engine_factory: Callable[..., Engine], statements: Any
) -> None:
    one, other = engine_factory(), engine_factory()
    with statements() as everything, statements(one) as narrowed:
        for engine in (one, other):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
    assert (len(everything), len(narrowed)) == (2, 1)


@pytest.mark.parametrize("round_", [1, 2])
def test_every_test_starts_on_an_empty_database(round_: int, file_engine: Engine, bases: Any) -> None:
    assert inspect(file_engine).get_table_names() == []
    _thing(bases).metadata.create_all(file_engine)
    held = file_engine.connect()
    held.execute(text("SELECT * FROM thing"))
    held.close()


def test_file_engine_serves_threads(file_engine: Engine, plain_bases: Any) -> None:
    Thing = _thing(plain_bases)
    Thing.metadata.create_all(file_engine)

    def write(number: int) -> None:
        with Session(file_engine) as session:
            session.add(Thing(id=number, size=number))
            session.commit()

    threads = [Thread(target=write, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Session(file_engine) as session:
        assert sorted(session.scalars(select(Thing.size))) == [1, 2, 3]


async def test_async_session_keeps_values_after_commit(
    async_engine: AsyncEngine, async_session: AsyncSession, bases: Any, statements: Any
) -> None:
    Thing = _thing(bases)
    async with async_engine.begin() as connection:
        await connection.run_sync(Thing.metadata.create_all)
    thing = Thing(size=3) if bases.kind == "plain" else Thing(id=7, size=3)
    async_session.add(thing)
    with statements(async_engine) as log:
        await async_session.commit()
        assert thing.size == 3
    assert len(log) == 1, log.text


def test_a_test_that_is_no_coroutine_uses_the_runner(async_engine: AsyncEngine, runner: Any) -> None:
    async def one() -> int:
        async with async_engine.connect() as connection:
            return int((await connection.execute(text("SELECT 1"))).scalar_one())

    assert runner.run(one()) == 1


@pytest.mark.only_on("postgresql")
def test_only_on_runs_on_that_database_alone(database: Database, engine: Engine) -> None:
    assert database.name == engine.dialect.name == "postgresql"


def test_bases_have_a_registry_of_their_own(bases: Any) -> None:
    one, other = bases(), bases()
    assert one.registry is not other.registry
    assert one.metadata is not other.metadata
