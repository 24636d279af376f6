"""A reader does not wait where waiting is useless, and looks again after it has waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, update

from sqla_patterns.caching import FromCache, MemoryStamps, TypedCodec
from sqla_patterns.caching._codec import UnencodableValueError
from tests._support import count_statements
from tests.caching._world import PEOPLE, Person, World, fill

cached = select(Person.id).order_by(Person.id).options(FromCache())
expected = list(range(1, PEOPLE + 1))


class Overlap:
    """A listener that makes the statement of these tests slow, and records how many run at once."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self.seconds = seconds
        self.running = 0
        self.most = 0
        self.count = 0
        self._lock = threading.Lock()
        event.listen(engine, "after_cursor_execute", self._wait)

    def _wait(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "cache_person" not in statement or not statement.startswith("SELECT"):
            return
        with self._lock:
            self.count += 1
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self._lock:
            self.running -= 1


class Refusing:
    """A codec that knows no value."""

    name = "refusing"

    def dumps(self, rows: Any) -> bytes:
        raise UnencodableValueError("a value")

    def loads(self, data: bytes) -> Any:
        return TypedCodec().loads(data)


@pytest.fixture
def busy(engine_factory: Callable[..., Engine]) -> Generator[Callable[..., tuple[World, Overlap]], None, None]:
    made: list[World] = []

    def make(seconds: float = 0.2, pool_size: int = 10, **options: Any) -> tuple[World, Overlap]:
        engine = engine_factory(pool_size=pool_size, max_overflow=0)
        fill(engine)
        world = World(engine, **options)
        made.append(world)
        # The name of the database is asked for once.
        with world.session() as session:
            session.scalars(select(Person.score).options(FromCache())).all()
        return world, Overlap(engine, seconds)

    yield make
    for world in made:
        world.close()


def _together(world: World, threads: int) -> None:
    start = threading.Barrier(threads)

    def load() -> list[int]:
        start.wait(20)
        with world.session() as session:
            return list(session.scalars(cached))

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(load) for _ in range(threads)]
        assert [future.result(timeout=60) for future in futures] == [expected] * threads


def test_readers_of_a_leased_table_do_not_queue(busy: Callable[..., tuple[World, Overlap]]) -> None:
    world, overlap = busy()
    lease = world.cache._freshness._stamp_client.mark(world.cache._freshness.tags(world.engine, {_table()}))
    _together(world, 4)
    world.cache._freshness._stamp_client.done(lease)
    assert overlap.most > 1


def _table() -> Any:
    from sqla_patterns.caching._tags import TableName

    return TableName(None, "cache_person")


def test_readers_of_a_result_that_cannot_be_kept_queue_once_at_most(
    busy: Callable[..., tuple[World, Overlap]],
) -> None:
    world, overlap = busy(codec=Refusing())
    most: list[int] = []
    for _ in range(2):
        overlap.most = 0
        _together(world, 4)
        most.append(overlap.most)
    # Under a lock they would run one after the other.
    assert min(most) > 1


def test_a_result_that_the_backend_refuses_is_not_locked(busy: Callable[..., tuple[World, Overlap]]) -> None:
    world, overlap = busy()

    def refuse(key: str, value: bytes) -> None:
        raise ValueError("too large")

    backend: Any = world.regions["default"].backend
    backend.set_serialized = refuse
    with world.session() as session:
        session.scalars(cached).all()
    overlap.most = 0
    _together(world, 4)
    # Under a lock they would run one after the other; how many meet depends on how fast they connect.
    assert overlap.most > 1


def test_a_result_that_can_be_kept_is_read_once(busy: Callable[..., tuple[World, Overlap]]) -> None:
    world, overlap = busy()
    _together(world, 4)
    assert overlap.count == 1


def test_who_has_waited_for_a_connection_looks_again(busy: Callable[..., tuple[World, Overlap]]) -> None:
    world, overlap = busy(seconds=0.3, pool_size=2)
    _together(world, 9)
    assert overlap.count == 1


def test_a_result_is_waited_for_again_once_it_was_kept(busy: Callable[..., tuple[World, Overlap]]) -> None:
    world, overlap = busy()
    codec = world.cache._reader.codec
    world.cache._reader.codec = Refusing()
    with world.session() as session:
        session.scalars(cached).all()
    world.cache._reader.codec = codec
    with world.session() as session:
        session.scalars(cached).all()
    world.cache.invalidate_all()
    overlap.count = 0
    _together(world, 4)
    assert overlap.count == 1


# -- connections that are kept after a commit ----------------------------------------------------


class Leases(MemoryStamps):
    """A store that records its leases."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Any:
        self.calls.append("mark")
        return super().mark(lease, tags, seconds)

    def done(self, lease: str, tags: Collection[str] = ()) -> Any:
        self.calls.append("done")
        return super().done(lease, tags)


def test_an_idle_connection_holds_no_lease_after_its_commit(busy: Callable[..., tuple[World, Overlap]]) -> None:
    world, _ = busy()
    worker = world.engine.connect()
    worker.execute(update(Person).values(score=1))
    worker.commit()
    counts: list[int] = []
    for _ in range(2):
        with world.session() as session, count_statements(world.engine) as log:
            assert list(session.scalars(cached)) == expected
            counts.append(len([statement for statement in log if "cache_person" in statement]))
    worker.close()
    assert counts == [1, 0]


def test_a_commit_takes_two_messages_also_where_the_connection_is_kept(
    busy: Callable[..., tuple[World, Overlap]],
) -> None:
    stamps = Leases()
    world, _ = busy(stamps=stamps)
    stamps.calls.clear()
    with world.engine.connect() as connection:
        for score in (1, 2):
            connection.execute(update(Person).values(score=score))
            connection.commit()
    assert stamps.calls == ["mark", "done"] * 2


def test_detaching_leaves_the_dialect_as_it_was(worlds: Callable[..., World]) -> None:
    world = worlds()
    other = worlds()
    assert "do_commit" in vars(world.engine.dialect)
    world.close()
    assert "do_commit" in vars(world.engine.dialect)
    other.close()
    assert "do_commit" not in vars(world.engine.dialect)
