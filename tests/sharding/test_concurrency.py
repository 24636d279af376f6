"""Several shards that are asked at once: by threads, and by tasks under asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, create_engine, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, selectinload, sessionmaker

from sqla_patterns.criteria import TenantScoped, tenant_scope
from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.sharding import (
    LookupRouter,
    ShardKey,
    Shards,
    async_sharded_sessionmaker,
    create_all,
    sharded_sessionmaker,
)
from sqla_patterns.versioning import Versioned, versions
from tests._support import Database
from tests.sharding._async import filled
from tests.sharding._models import NAMES, Base, Location, Report, Unit, location_rows, report_rows, rules

Maker = sessionmaker[ShardedSession]
ROUTER = LookupRouter({"Asia": "asia", "Europe": "europe", "North America": "america"})

#: Waits until as many transactions as that are in it, or fails after some seconds.
MEET = """
CREATE FUNCTION {schema}.meet(wanted integer, seconds integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4711);
    FOR turn IN 1..100 * seconds LOOP
        IF (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) >= wanted
        THEN
            -- The others have to see this transaction too.
            PERFORM pg_sleep(0.1);
            RETURN wanted;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RAISE EXCEPTION 'nobody came';
END
$$
"""


class Meeting:
    """Makes the SQL function ``meet(n, seconds)``: it returns when `n` shards execute it at once, or fails."""

    def __init__(self) -> None:
        self.barriers: dict[int, threading.Barrier] = {}
        self._lock = threading.Lock()

    def meet(self, wanted: int, seconds: int) -> int:
        with self._lock:
            barrier = self.barriers.setdefault(wanted, threading.Barrier(wanted))
        barrier.wait(seconds)
        return wanted

    def arrange(self, shards: Shards) -> None:
        for name, engine in shards.engines.items():
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", lambda connection, _: connection.create_function("meet", 2, self.meet))
            elif not engine.dialect.is_async:
                with engine.begin() as connection:
                    connection.exec_driver_sql(MEET.format(schema=name))


@pytest.fixture
def concurrent(shards: Shards) -> Maker:
    """Make a factory that asks three shards at once, with rows on each and a function ``meet()``."""
    Meeting().arrange(shards)
    for engine in shards.engines.values():
        engine.dispose()  # connections that were made without the function
    maker = sharded_sessionmaker(shards, keys=rules(), reference=[Unit], concurrency=3)
    locations = location_rows()
    with maker.begin() as session:
        session.execute(insert(Unit), [{"id": 1, "name": "celsius"}, {"id": 2, "name": "kelvin"}])
        session.execute(insert(Location), locations)
        session.execute(insert(Report), report_rows(locations))
    return maker


def _meet(wanted: int, database: Database, *, seconds: int = 30) -> Any:
    """Return a criterion that is true where as many shards meet within some seconds, and fails otherwise."""
    here = func.meet(wanted, seconds) if database.name == "sqlite" else func.asia.meet(wanted, seconds)
    return select(here).scalar_subquery() == wanted


# -- threads -----------------------------------------------------------------------------------------------------------


def test_the_shards_execute_a_select_at_once(concurrent: Maker, database: Database) -> None:
    with concurrent() as session:
        statement = select(Location.id).where(_meet(3, database)).order_by(Location.id)
        assert session.scalars(statement).all() == list(range(1, 41))


def test_one_after_another_they_do_not(shards: Shards, concurrent: Maker, database: Database) -> None:
    maker = sharded_sessionmaker(shards, keys=rules(), reference=[Unit])
    with maker() as session, pytest.raises(DBAPIError):
        session.scalars(select(Location.id).where(_meet(3, database, seconds=1)).order_by(Location.id)).all()


def test_no_more_than_the_number_execute_at_once(shards: Shards, concurrent: Maker, database: Database) -> None:
    maker = sharded_sessionmaker(shards, keys=rules(), reference=[Unit], concurrency=2)
    with maker() as session, pytest.raises(DBAPIError):
        session.scalars(select(Location.id).where(_meet(3, database, seconds=1)).order_by(Location.id)).all()


def test_what_the_session_has_not_committed_is_seen(concurrent: Maker) -> None:
    with concurrent() as session:
        session.add_all(
            Location(id=100 + n, continent=each, city="new")
            for n, each in enumerate(("Asia", "Europe", "North America"))
        )
        assert session.scalar(select(func.count()).where(Location.city == "new")) == 3
        session.execute(update(Location).where(Location.id > 99).values(city="newer"))
        found = session.scalars(select(Location).where(Location.id > 99).order_by(Location.id)).all()
        assert [each.city for each in found] == ["newer"] * 3
        session.rollback()
        assert session.scalar(select(func.count()).where(Location.id > 99)) == 0


@pytest.mark.parametrize("load", [selectinload, joinedload])
def test_objects_are_those_of_the_session_with_what_is_loaded_eagerly(concurrent: Maker, load: Any) -> None:
    with concurrent() as session:
        held = session.scalars(select(Location).where(Location.continent == "Asia")).first()
        found = session.scalars(select(Location).order_by(Location.id).options(load(Location.reports))).unique().all()
        assert held in found
        assert len(found) == 40
        session.expire_all()
        everything = sorted(session.scalars(select(Report.id)).all())
        assert sorted(report.id for each in found for report in each.reports) == everything == list(range(1, 61))


def test_batches_and_concatenated_rows(concurrent: Maker) -> None:
    with concurrent() as session:
        reading = select(Location.id).order_by(Location.id).execution_options(yield_per=7)
        assert [len(part) for part in session.scalars(reading).partitions()] == [7] * 5 + [5]
        options = {"shard_merge": "concat"}
        assert sum(session.scalars(select(func.count()).select_from(Location), execution_options=options)) == 40


def test_legacy_queries_and_get(concurrent: Maker) -> None:
    with concurrent() as session:
        assert session.query(Location).count() == 40
        for number in (1, 17, 40):
            found = session.get(Location, number)
            assert found is not None
            assert found.id == number
        assert session.get(Location, 999) is None


def test_an_error_of_one_shard_comes_when_all_have_answered(concurrent: Maker, database: Database) -> None:
    """The session is as usable as after an error that came alone."""
    with concurrent() as session:
        broken = [session.connection(bind_arguments={"shard_id": each}) for each in ("europe", "america")]
        for connection in broken:
            connection.exec_driver_sql(f"ALTER TABLE {_table(connection)} RENAME TO hidden")
        with pytest.raises(DBAPIError) as caught:
            session.scalars(select(Location.id).order_by(Location.id)).all()
        assert caught.value.__notes__[0].startswith("Shard 'america' has failed as well: ")
        session.rollback()
        if database.name == "sqlite":  # whose driver begins no transaction for ALTER TABLE
            for connection in [session.connection(bind_arguments={"shard_id": each}) for each in ("europe", "america")]:
                connection.exec_driver_sql("ALTER TABLE hidden RENAME TO shard_location")
            session.commit()
        assert len(session.scalars(select(Location.id)).all()) == 40


def _table(connection: Any) -> str:
    shard = connection.get_execution_options()["sqla_patterns_shard"]
    return "shard_location" if connection.dialect.name == "sqlite" else f"{shard}.shard_location"


def test_listeners_are_called_by_one_thread_at_a_time(concurrent: Maker) -> None:
    inside: list[str] = []
    threads: set[int] = set()

    def listener(state: Any) -> None:
        if state.execution_options.get("identity_token") is None:
            return
        assert not inside, "two threads use the session at once"
        inside.append("in")
        for _ in range(10_000):
            pass
        threads.add(threading.get_ident())
        inside.clear()

    with concurrent() as session:
        # After the listener of the session, which sends the statement to its shards.
        event.listen(session, "do_orm_execute", listener)
        for _ in range(20):
            assert len(session.scalars(select(Location.id)).all()) == 40
    assert threads
    assert threading.get_ident() not in threads


def test_threads_know_the_context_of_the_caller(concurrent: Maker) -> None:
    here: ContextVar[str] = ContextVar("here", default="nobody")
    seen: set[str] = set()
    with concurrent() as session:
        event.listen(session, "do_orm_execute", lambda state: seen.add(here.get()))
        here.set("me")
        session.scalars(select(Location.id)).all()
    assert seen == {"me"}


def test_many_sessions_in_threads_of_their_own(concurrent: Maker) -> None:
    errors: list[BaseException] = []

    def job() -> None:
        try:
            for _ in range(10):
                with concurrent() as session:
                    statement = select(Location).order_by(Location.id).options(selectinload(Location.reports))
                    assert [each.id for each in session.scalars(statement)] == list(range(1, 41))
        except BaseException as error:  # noqa: BLE001 - is looked at below
            errors.append(error)

    jobs = [threading.Thread(target=job) for _ in range(4)]
    for each in jobs:
        each.start()
    for each in jobs:
        each.join()
    assert errors == []


@pytest.mark.only_on("sqlite")
def test_databases_in_memory_are_asked_one_after_another(database: Database) -> None:
    """Their connections may be used by one thread only."""
    shards = Shards.from_engines({name: create_engine("sqlite://") for name in NAMES})
    create_all(shards, Base.metadata)
    maker = sharded_sessionmaker(shards, keys=rules(), reference=[Unit], concurrency=3)
    with maker() as session:
        session.execute(insert(Location), location_rows())
        assert session.scalars(select(Location.id).order_by(Location.id)).all() == list(range(1, 41))
    for engine in shards.engines.values():
        engine.dispose()


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("concurrency", [0, -1, 2.5, None])
def test_a_number_is_wanted(shards: Shards, concurrency: Any) -> None:
    for make in (sharded_sessionmaker, async_sharded_sessionmaker):
        with pytest.raises(InvalidArgumentError, match=f"concurrency={concurrency}"):
            make(shards, keys=rules(), concurrency=concurrency)


# -- together ----------------------------------------------------------------------------------------------------------


def test_tenants_and_histories(make_shards: Callable[..., Shards]) -> None:
    class Own(DeclarativeBase):
        pass

    class Order(TenantScoped, Versioned, Own):
        __tablename__ = "concurrent_order"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        continent: Mapped[str] = mapped_column(String(20))
        total: Mapped[int]

    shards = make_shards(NAMES)
    create_all(shards, Own.metadata)
    maker = sharded_sessionmaker(shards, keys=[ShardKey(Order.continent, ROUTER)], concurrency=3)
    continents = ["Asia", "Europe", "North America"]
    for tenant in "ab":
        with tenant_scope(tenant), maker.begin() as session:
            start = 10 * (tenant == "b")
            session.add_all(Order(id=start + n, continent=each, total=n) for n, each in enumerate(continents, 1))
    with tenant_scope("b"), maker() as session:
        found = session.scalars(select(Order).order_by(Order.id)).all()
        assert [each.id for each in found] == [11, 12, 13]
        assert session.scalar(select(func.sum(Order.total))) == 6
        for each in found:
            each.total += 1
        session.commit()
        assert [[old.object.total for old in versions(session, each)] for each in found] == [[1, 2], [2, 3], [3, 4]]


# -- asyncio -----------------------------------------------------------------------------------------------------------


async def test_tasks_execute_a_select_at_once(database: Database, tmp_path: Path) -> None:
    async with filled(database, tmp_path, concurrency=3, arrange=Meeting().arrange) as maker, maker() as session:
        statement = select(Location).where(_meet(3, database)).order_by(Location.id)
        found = (await session.scalars(statement.options(selectinload(Location.reports)))).all()
        assert [each.id for each in found] == list(range(1, 41))
        assert sorted(report.id for each in found for report in each.reports) == list(range(1, 61))
        found[0].city = "changed"
        assert await session.scalar(select(func.count()).where(Location.city == "changed")) == 1


async def test_an_error_under_asyncio(database: Database, tmp_path: Path) -> None:
    async with filled(database, tmp_path, concurrency=3, arrange=Meeting().arrange) as maker, maker() as session:
        with pytest.raises(DBAPIError):
            await session.scalars(select(Location.id).where(_meet(4, database, seconds=1)).order_by(Location.id))
        await session.rollback()
        assert await session.scalar(select(func.count()).select_from(Location)) == 40


async def test_a_reading_that_is_cancelled_leaves_a_session_that_can_be_closed(
    database: Database, tmp_path: Path
) -> None:
    async with filled(database, tmp_path, concurrency=3, arrange=Meeting().arrange) as maker:
        async with maker() as session:
            before = asyncio.all_tasks()
            reading = asyncio.create_task(_read(session, _meet(4, database, seconds=5)))
            await asyncio.sleep(0.3)
            assert len(asyncio.all_tasks() - before) > 3, "one for each shard"
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert asyncio.all_tasks() == before
        async with maker() as session:
            assert await session.scalar(select(func.count()).select_from(Location)) == 40


async def _read(session: AsyncSession, criterion: Any) -> None:
    await session.scalars(select(Location.id).where(criterion).order_by(Location.id))
