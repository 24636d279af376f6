"""A Redis that answers reads and refuses writes counts as down, for all readers and soon."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import sessionmaker

from sqla_patterns.caching import FromCache, ORMCache, RedisStamps, StampsUnavailableError
from tests.caching._redis_server import RedisServer
from tests.caching._world import Person, fill, memory_region

name_of_one = select(Person.name).where(Person.id == 1).options(FromCache())


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Generator[RedisServer, None, None]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def _read_only(client: Any) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")


def _too_few_replicas(client: Any) -> None:
    client.config_set("min-replicas-to-write", 1)


REFUSALS: dict[str, Callable[[Any], None]] = {
    "READONLY": _read_only,
    "NOREPLICAS": _too_few_replicas,
}


def _processes(engine: Engine, server: RedisServer) -> list[Any]:
    """Make two caches, as in two processes: each has its own client; they share entries and stamps."""
    region = memory_region()
    made: list[Any] = []
    for _ in range(2):
        cache = ORMCache({"default": region}, stamps=RedisStamps.from_url(server.url))
        factory = sessionmaker(engine)
        cache.listen_on_session(factory)
        made.append((cache, factory))
    return made


@pytest.mark.parametrize("refusal", REFUSALS)
def test_other_processes_are_stale_for_a_second_at_most(
    engine_factory: Callable[..., Engine], server: RedisServer, refusal: str
) -> None:
    # Each of the two has an engine, so that it hears of no write of the other but through Redis.
    engine, other_engine = engine_factory(), engine_factory()
    fill(engine)
    (writer, writing), _ = _processes(engine, server)
    _, (reader, reading) = _processes(other_engine, server)
    with reading() as session:
        before = session.scalar(name_of_one)
    with redis.Redis.from_url(server.url) as client:
        REFUSALS[refusal](client)
    with writing() as session:
        session.execute(update(Person).where(Person.id == 1).values(name="new"))
        session.commit()
    time.sleep(1.1)
    with reading() as session:
        after = session.scalar(name_of_one)
    writer.detach()
    reader.detach()
    assert (before, after) == ("person 01", "new")


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_read_fails_where_writes_are_refused(server: RedisServer, refusal: str) -> None:
    store = RedisStamps.from_url(server.url)
    store.read({"t"})
    with redis.Redis.from_url(server.url) as client:
        REFUSALS[refusal](client)
    time.sleep(1.1)
    with pytest.raises(StampsUnavailableError, match=r"does not answer to 'read': (You can't write|NOREPLICAS)"):
        store.read({"t"})


def test_reads_write_once_a_second_at_most(server: RedisServer) -> None:
    store = RedisStamps.from_url(server.url)
    store.read({"t"})
    with redis.Redis.from_url(server.url) as client:
        before = client.hget("sqla_patterns:stamps", "a")
        for _ in range(20):
            store.read({"t"})
        assert client.hget("sqla_patterns:stamps", "a") == before


def test_a_clock_that_was_set_back_is_followed(server: RedisServer) -> None:
    store = RedisStamps.from_url(server.url)
    store.read({"t"})
    with redis.Redis.from_url(server.url) as client:
        client.hset("sqla_patterns:stamps", "a", str(time.time() + 1e6))
        store.read({"t"})
        assert float(client.hget("sqla_patterns:stamps", "a") or 0) < time.time() + 100
