"""The whole cache over a Redis with entries and stamps that stops, comes back, or holds something else."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from dogpile.cache import make_region
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_patterns.caching import FromCache, ORMCache, StampsUnavailableError
from tests.caching._redis_server import RedisServer


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "end_counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class World:
    def __init__(self, engine: Engine, server: RedisServer, **options: Any) -> None:
        region = make_region().configure("dogpile.cache.redis", expiration_time=600, arguments={"url": server.url})
        self.cache = ORMCache({"default": region}, **options)
        self.make = sessionmaker(engine)
        self.cache.listen_on_session(self.make)

    def write(self, value: int) -> None:
        with self.make() as session:
            session.get_one(Counter, 1).value = value
            session.commit()

    def read(self) -> tuple[int, bool]:
        hits = self.cache.stats.hits
        with self.make() as session:
            value = session.scalars(select(Counter).options(FromCache("default"))).one().value
        return value, self.cache.stats.hits > hits

    def settle(self, value: int) -> None:
        deadline = time.monotonic() + 30
        while True:
            seen, hit = self.read()
            assert seen == value
            if hit:
                return
            assert time.monotonic() < deadline, self.cache.stats
            time.sleep(0.05)


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Generator[RedisServer, None, None]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def engine(engine_factory: Callable[..., Engine]) -> Engine:
    engine = engine_factory()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Counter(id=1, value=0))
        session.commit()
    return engine


def test_a_redis_that_is_down_costs_the_hits_and_little_time(engine: Engine, server: RedisServer) -> None:
    world = World(engine, server)
    world.settle(0)
    server.stop()
    started = time.monotonic()
    for value in (1, 2, 3):
        world.write(value)
        assert world.read() == (value, False)
    assert time.monotonic() - started < 10
    server.start()
    world.settle(3)
    world.write(4)
    world.settle(4)
    world.cache.detach()


def test_a_redis_that_comes_back_with_old_entries_and_the_stamps_of_that_time_serves_neither(
    engine: Engine, server: RedisServer
) -> None:
    world = World(engine, server)
    world.settle(0)
    with redis.Redis.from_url(server.url) as client:
        client.save()
    world.write(1)
    server.stop()
    server.start()
    fresh = World(engine, server)
    assert fresh.read() == (1, False)
    assert world.read()[0] == 1
    world.settle(1)
    for each in (world, fresh):
        each.cache.detach()


def test_commits_are_refused_while_redis_is_down_where_that_was_asked_for(engine: Engine, server: RedisServer) -> None:
    world = World(engine, server, on_error="raise")
    world.settle(0)
    server.stop()
    with pytest.raises(StampsUnavailableError):
        world.write(1)
    assert world.read() == (0, False)
    server.start()
    world.settle(0)
    world.cache.detach()


class _Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("poison", ["pickle", "noise", "empty", "cut", "json", "swapped"])
def test_what_another_program_has_stored_is_a_miss_and_runs_nothing(
    engine: Engine, server: RedisServer, tmp_path: Path, poison: str
) -> None:
    world = World(engine, server)
    world.settle(0)
    mark = tmp_path / "exploded"
    with redis.Redis.from_url(server.url) as client:
        keys = [key for key in client.scan_iter() if key != b"sqla_patterns:stamps"]
        assert keys
        for key in keys:
            old = client.get(key)
            assert isinstance(old, bytes)
            bad = {
                "pickle": pickle.dumps((_Bomb(str(mark)), {"ct": time.time(), "v": 2})),
                "noise": os.urandom(200),
                "empty": b"",
                "cut": old[: len(old) // 2],
                "json": b'{"rows": [[1, 99]]}',
                "swapped": old[::-1],
            }
            client.set(key, bad[poison])
    assert world.read() == (0, False)
    assert not mark.exists()
    world.settle(0)
    world.write(1)
    assert world.read()[0] == 1
    world.cache.detach()


def test_two_caches_in_one_process_each_know_what_the_other_engine_wrote(
    engine: Engine, engine_factory: Callable[..., Engine], server: RedisServer
) -> None:
    one, two = World(engine, server), World(engine_factory(), server)
    for value in range(1, 6):
        one.settle(value - 1)
        two.settle(value - 1)
        writer, reader = (one, two) if value % 2 else (two, one)
        writer.write(value)
        assert reader.read() == (value, False)
    with engine.begin() as connection:
        connection.execute(update(Counter.__table__).values(value=9))  # type: ignore[arg-type,unused-ignore]
    assert [one.read()[0], two.read()[0]] == [9, 9]
    for each in (one, two):
        each.cache.detach()
