"""Stores that stop, lose their data, or come back with old data; writers that are killed during a commit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, event, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from sqla_patterns.caching._freshness import Freshness
from sqla_patterns.caching._memory_stamps import MemoryStamps
from sqla_patterns.caching._redis_stamps import RedisStamps
from sqla_patterns.caching._sql_stamps import SQLStamps
from sqla_patterns.caching._stamps import StampsUnavailableError
from sqla_patterns.exceptions import InvalidArgumentError
from tests._support import Database
from tests.caching._hooked import HookedStamps
from tests.caching._reader import Reader
from tests.caching._redis_server import RedisServer


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "failure_counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(unique=True)


VALUE = select(Counter.value).where(Counter.id == 1)


class World:
    """A counter, and one process that caches it; several worlds on one engine factory are several processes."""

    def __init__(self, engine: Engine, store: Any, entries: Any = None, **options: Any) -> None:
        self.engine = engine
        self.errors: list[str] = []
        observer: Callable[..., None] = lambda doing, error: self.errors.append(doing)  # noqa: E731
        self.freshness = Freshness(store, pause=0.05, observer=observer, **options)
        self.reader = Reader(self.freshness, entries)
        self.make = sessionmaker(engine)
        self.reader.attach(self.make)
        self.freshness.track_engine(engine)

    def write(self, value: int) -> None:
        with self.make() as session:
            session.execute(update(Counter).where(Counter.id == 1).values(value=value))
            session.commit()

    def read(self) -> tuple[int, str]:
        with self.make() as session:
            return int(self.reader.rows(session, VALUE)[0][0]), self.reader.last


@pytest.fixture
def engine(engine_factory: Callable[..., Engine]) -> Engine:
    engine = engine_factory()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Counter(id=1, value=0))
        session.commit()
    return engine


@pytest.fixture
def stamps() -> HookedStamps:
    return HookedStamps(MemoryStamps())


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Generator[RedisServer, None, None]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


# -- a store that does not answer ----------------------------------------------------------------


def test_reads_go_to_the_database_while_the_store_does_not_answer(engine: Engine, stamps: HookedStamps) -> None:
    world = World(engine, stamps)
    world.read()
    stamps.broken = {"read"}
    assert world.read() == (0, "read")
    assert world.errors == ["read"]
    assert world.reader.bypasses[-1] == "stamps_unavailable"
    stamps.broken = set()
    time.sleep(0.06)
    assert world.read() == (0, "hit")


def test_a_store_that_did_not_answer_is_left_alone_for_a_while(engine: Engine, stamps: HookedStamps) -> None:
    world = World(engine, stamps)
    world.read()
    stamps.broken = {"read", "epoch"}
    for _ in range(3):
        world.read()
    assert len(world.errors) <= 2
    before = len(stamps.calls)
    world.read()
    assert len(stamps.calls) <= before + 1


def test_a_commit_is_refused_if_the_store_cannot_be_told_and_nothing_is_written(
    engine: Engine, stamps: HookedStamps
) -> None:
    world = World(engine, stamps, on_error="raise")
    world.read()
    stamps.broken = {"mark"}
    with world.make() as session:
        session.execute(update(Counter).values(value=5))
        with pytest.raises(StampsUnavailableError):
            session.commit()
        session.rollback()
        assert session.scalars(VALUE).one() == 0, "the session is usable"
    with pytest.raises(StampsUnavailableError), engine.begin() as connection:
        connection.execute(update(Counter).values(value=6))
    with pytest.raises(StampsUnavailableError):
        world.write(
            6
        )  # Closes the session without a rollback; the connection must not go back to the pool with the write.
    with pytest.raises(StampsUnavailableError), engine.connect() as connection:
        connection.execute(update(Counter).values(value=6))
        connection.commit()
    stamps.broken = set()
    with engine.begin() as connection:
        connection.execute(select(1))
    with engine.connect() as connection:
        assert connection.scalars(VALUE).one() == 0
    time.sleep(0.06)
    assert world.read() == (0, "hit")
    world.write(7)
    assert world.read() == (7, "put")


def test_a_statement_in_autocommit_is_refused_before_it_runs(engine: Engine, stamps: HookedStamps) -> None:
    World(engine, stamps, on_error="raise")
    stamps.broken = {"mark"}
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        with pytest.raises(StampsUnavailableError):
            connection.execute(update(Counter).values(value=5))
        assert connection.scalars(VALUE).one() == 0


def test_a_commit_of_which_the_store_is_not_told_invalidates_everything_once_it_answers(
    engine: Engine, stamps: HookedStamps
) -> None:
    world = World(engine, stamps)
    assert [world.read(), world.read()] == [(0, "put"), (0, "hit")]
    stamps.broken = {"mark", "done", "new_generation"}
    world.write(1)
    assert world.read() == (1, "read"), "not from the cache as long as the store has not been told"
    stamps.broken = set()
    time.sleep(0.06)
    stamps.calls.clear()
    assert world.read()[0] == 1
    assert stamps.calls[0] == "new_generation", "before anything else"
    world.read()
    assert world.read() == (1, "hit")


def test_no_read_is_served_or_put_while_an_untold_commit_is_under_way(engine: Engine, stamps: HookedStamps) -> None:
    world = World(engine, stamps)
    assert [world.read(), world.read()] == [(0, "put"), (0, "hit")]
    seen: list[Any] = []
    stamps.broken = {"mark"}

    def meanwhile(connection: Any) -> None:
        # After the failed MARK, before COMMIT; the store answers again by now.
        stamps.broken = set()
        time.sleep(0.06)
        seen.append(world.read())

    event.listen(engine, "commit", meanwhile)
    world.write(1)
    event.remove(engine, "commit", meanwhile)
    assert seen == [(0, "read")]
    world.read()
    assert [world.read(), world.read()] == [(1, "hit"), (1, "hit")]


def test_a_done_that_does_not_arrive_leaves_the_lease_which_expires(engine: Engine, stamps: HookedStamps) -> None:
    world = World(engine, stamps, lease=0.3)
    assert [world.read(), world.read()] == [(0, "put"), (0, "hit")]
    stamps.broken = {"done"}
    world.write(1)
    stamps.broken = set()
    time.sleep(0.06)
    assert [world.read(), world.read()] == [(1, "read"), (1, "read")]
    time.sleep(0.3)
    world.read()
    world.read()
    assert world.read() == (1, "hit")


def test_invalidation_on_request_is_made_up_for(engine: Engine, stamps: HookedStamps) -> None:
    world = World(engine, stamps)
    assert [world.read(), world.read()] == [(0, "put"), (0, "hit")]
    stamps.broken = {"touch"}
    world.freshness.touch({"u:anything"})
    stamps.broken = set()
    time.sleep(0.06)
    assert world.read()[1] != "hit"
    strict = World(engine, stamps, on_error="raise")
    stamps.broken = {"touch"}
    with pytest.raises(StampsUnavailableError):
        strict.freshness.touch({"u:anything"})


@pytest.mark.parametrize(
    ("options", "message"), [({"on_error": "panic"}, "'raise' or 'degrade'"), ({"lease": 0}, "COMMIT takes at most")]
)
def test_unknown_policies_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Freshness(MemoryStamps(), **options)


# -- transactions that do not end well -----------------------------------------------------------


def test_a_commit_that_the_database_refuses_ends_its_lease(engine: Engine, stamps: HookedStamps) -> None:
    world = World(engine, stamps)
    world.read()

    def refuse(connection: Any) -> None:
        raise RuntimeError("refused")

    event.listen(engine, "commit", refuse)
    with world.make() as session:
        session.execute(update(Counter).values(value=1))
        with pytest.raises(RuntimeError, match="refused"):
            session.commit()
        session.rollback()
    event.remove(engine, "commit", refuse)
    assert stamps.read(["x", "*"]).leased == frozenset()
    world.read()
    world.read()
    assert world.read() == (0, "hit")


@pytest.mark.only_on("postgresql")
def test_a_deferred_constraint_that_fails_at_commit_ends_its_lease(engine: Engine, stamps: HookedStamps) -> None:
    world = World(engine, stamps)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE failure_counter DROP CONSTRAINT failure_counter_value_key"))
        connection.execute(text("ALTER TABLE failure_counter ADD UNIQUE (value) DEFERRABLE INITIALLY DEFERRED"))
    with world.make() as session:
        session.add(Counter(id=2, value=0))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert world.read()[0] == 0
    assert stamps.read(["*"]).leased == frozenset()
    world.read()
    assert world.read() == (0, "hit")


@pytest.mark.only_on("postgresql", "mariadb")
def test_a_connection_that_breaks_in_commit_keeps_its_lease_until_it_expires(
    engine: Engine, stamps: HookedStamps
) -> None:
    world = World(engine, stamps, lease=0.5)
    assert [world.read(), world.read()] == [(0, "put"), (0, "hit")]

    def cut() -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            if engine.dialect.name == "postgresql":
                other.exec_driver_sql(f"SELECT pg_terminate_backend({number})")
            else:
                other.exec_driver_sql(f"KILL {number}")

    with world.make() as session:
        session.execute(update(Counter).values(value=1))
        identify = "SELECT pg_backend_pid()" if engine.dialect.name == "postgresql" else "SELECT connection_id()"
        number = session.connection().exec_driver_sql(identify).scalar()
        stamps.hooks["after mark"] = cut
        with pytest.raises(DBAPIError):
            session.commit()
    # It is unknown whether the server has committed.
    assert world.read() == (0, "read")
    time.sleep(0.5)
    world.read()
    world.read()
    assert world.read() == (0, "hit")


_WRITER = """
import os, signal, sys
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool
sys.path[:0] = {path!r}
from sqla_patterns.caching._freshness import Freshness
from sqla_patterns.caching._redis_stamps import RedisStamps
engine = create_engine({url!r}, poolclass=NullPool)
store = RedisStamps.from_url({redis!r}, prefix={prefix!r}, timeout=5)
store.done = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
Freshness(store, lease=1.5).track_engine(engine)
with engine.begin() as connection:
    options = dict(cache_touches="failure_counter")
    connection.execute(text("UPDATE failure_counter SET value = 1"), execution_options=options)
"""


def test_a_writer_that_is_killed_between_commit_and_its_second_stamp_leaves_nothing_stale(
    engine: Engine, redis_url: str, database: Database
) -> None:
    prefix = f"test:{uuid.uuid4().hex}"
    world = World(engine, RedisStamps.from_url(redis_url, prefix=prefix, timeout=5))
    world.read()
    world.read()
    assert world.read() == (0, "hit")
    script = _WRITER.format(path=sys.path, url=database.url_string, redis=redis_url, prefix=prefix)
    killed = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert world.read() == (1, "read"), "committed, and nothing is served while the lease is there"
    deadline = time.monotonic() + 20
    while world.read()[1] != "hit":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert world.read() == (1, "hit")
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(match=f"*{prefix}*"):
            client.delete(key)


# -- Redis that stops ----------------------------------------------------------------------------


def _settle(world: World, value: int) -> None:
    """Read until the cache serves again."""
    deadline = time.monotonic() + 20
    while True:
        seen, how = world.read()
        assert seen == value
        if how == "hit":
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_redis_that_stops_costs_hits_and_nothing_else(engine: Engine, server: RedisServer) -> None:
    entries: dict[Any, Any] = {}
    here = World(engine, RedisStamps.from_url(server.url), entries)
    there = World(engine, RedisStamps.from_url(server.url), entries)
    _settle(here, 0)
    server.stop()
    started = time.monotonic()
    assert here.read() == (0, "read")
    here.write(1)
    assert here.read() == (1, "read")
    assert there.read() == (1, "read")
    assert time.monotonic() - started < 5, "redis-py's default retries would take longer"
    server.start()
    time.sleep(0.1)
    _settle(here, 1)
    _settle(there, 1)
    here.write(2)
    assert there.read()[0] == 2
    _settle(there, 2)


def test_redis_that_comes_back_with_old_data_serves_nothing_old(engine: Engine, server: RedisServer) -> None:
    entries: dict[Any, Any] = {}
    here = World(engine, RedisStamps.from_url(server.url), entries)
    _settle(here, 0)
    with redis.Redis.from_url(server.url) as client:
        client.save()
    here.write(1)  # Its stamps are not in the file.
    server.stop()
    server.start()
    there = World(engine, RedisStamps.from_url(server.url), entries)
    time.sleep(0.1)
    assert there.read()[0] == 1
    assert here.read()[0] == 1
    _settle(there, 1)


def test_redis_that_is_flushed_serves_nothing_old(engine: Engine, server: RedisServer) -> None:
    world = World(engine, RedisStamps.from_url(server.url))
    _settle(world, 0)
    (key, old), *_ = world.reader.entries.items()
    world.write(1)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    world.reader.entries[key] = old
    assert world.read()[0] == 1
    _settle(world, 1)


def test_stamps_that_are_evicted_in_mid_commit_leave_nothing_stale(engine: Engine, server: RedisServer) -> None:
    hooked = HookedStamps(RedisStamps.from_url(server.url))
    world = World(engine, hooked)
    _settle(world, 0)

    def evict() -> None:
        with redis.Redis.from_url(server.url) as client:
            assert client.delete("sqla_patterns:stamps") == 1
        world.read()
        world.read()

    hooked.hooks["after mark"] = evict
    world.write(1)
    assert world.read()[0] == 1
    _settle(world, 1)


def test_writes_while_redis_is_down_are_refused_on_request(engine: Engine, server: RedisServer) -> None:
    world = World(engine, RedisStamps.from_url(server.url), on_error="raise")
    _settle(world, 0)
    server.stop()
    with pytest.raises(StampsUnavailableError):
        world.write(1)
    assert world.read() == (0, "read")
    server.start()
    time.sleep(0.1)
    _settle(world, 0)
    world.write(2)
    _settle(world, 2)


# -- stores in the way of themselves -------------------------------------------------------------


def test_sql_stamps_on_the_engine_that_they_watch_are_refused(engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    freshness = Freshness(SQLStamps(engine))
    with pytest.raises(InvalidArgumentError, match="an engine of its own"):
        freshness.track_engine(engine)
    freshness.track_engine(engine_factory()) if engine.dialect.name != "sqlite" else None


@pytest.mark.only_on("sqlite")
def test_sql_stamps_in_the_sqlite_file_that_they_watch_are_refused(engine_factory: Callable[..., Engine]) -> None:
    freshness = Freshness(SQLStamps(engine_factory()))
    with pytest.raises(InvalidArgumentError, match="a file of its own"):
        freshness.track_engine(engine_factory())


def test_sql_stamps_work_beside_the_application(engine: Engine, database: Database, tmp_path: Path) -> None:
    url = database.url if database.name != "sqlite" else f"sqlite:///{tmp_path / 'stamps.db'}"
    own = create_engine(url, poolclass=NullPool)
    store = SQLStamps(own)
    store.create_tables()
    world = World(engine, store)
    _settle(world, 0)
    for value in range(1, 4):
        world.write(value)
        assert world.read()[0] == value
    _settle(world, 3)
    with engine.connect() as connection:
        assert connection.scalars(VALUE).one() == 3
