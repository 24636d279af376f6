"""One reader fills each key among threads, tasks and processes, and no reader waits without end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dogpile.cache import make_region
from dogpile.cache.backends.memory import MemoryBackend
from dogpile.cache.region import register_backend
from sqlalchemy import Engine, event, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache
from sqla_patterns.caching._fill_locks import FillLocks
from sqla_patterns.caching._regions import Region
from tests._support import count_statements
from tests.caching._world import PEOPLE, Person, World, fill, memory_region

cached = select(Person).order_by(Person.id).options(FromCache())


def slowly(engine: Engine, seconds: float) -> None:
    """Make the statement of these tests slow, without stopping an event loop."""

    def wait(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "cache_person" in statement and "SELECT" in statement:
            time.sleep(seconds)

    event.listen(engine, "after_cursor_execute", wait)


@pytest.fixture
def region() -> Region:
    return Region("default", memory_region(), lambda name, error: None)


def test_threads_that_miss_one_key_send_one_statement(engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    fill(engine)
    world = World(engine)
    world.rows(select(Person.id).options(FromCache()))
    slowly(engine, 0.2)
    start = threading.Barrier(4)

    def load() -> int:
        start.wait(10)
        with world.session() as session:
            return len(session.scalars(cached).all())

    with count_statements(engine) as log, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(load) for _ in range(4)]
        assert [future.result(timeout=30) for future in futures] == [PEOPLE] * 4
    assert len([statement for statement in log if "cache_person" in statement]) == 1
    assert len(world.cache._reader.locks) == 0
    world.close()


async def test_fifty_tasks_that_miss_one_key_send_one_statement(async_engine: AsyncEngine) -> None:
    # 34: the recipe stops the event loop without end
    async with async_engine.begin() as connection:
        await connection.run_sync(fill)
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps(), lock_timeout=50)
    factory = async_sessionmaker(async_engine)
    cache.listen_on_session(factory)

    async def load() -> int:
        async with factory() as session:
            return len((await session.scalars(cached)).all())

    with count_statements(async_engine) as log:
        async with asyncio.timeout(60):
            assert await asyncio.gather(*(load() for _ in range(50))) == [PEOPLE] * 50
    assert len([statement for statement in log if "cache_person" in statement]) == 1
    assert len(cache._reader.locks) == 0
    cache.detach()


# asyncmy cannot continue with a connection that was cancelled in the middle of an answer, and aiosqlite leaves one open
# that was cancelled while it was made.
@pytest.mark.only_on("postgresql")
async def test_a_task_that_is_cancelled_while_it_waits_or_fills_leaves_no_lock(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(fill)
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
    factory = async_sessionmaker(async_engine)
    cache.listen_on_session(factory)

    async def load() -> int:
        async with factory() as session:
            return len((await session.scalars(cached)).all())

    async with asyncio.timeout(40):
        for pause in (0, 0.001, 0.005):
            cache.invalidate_all()
            tasks = [asyncio.create_task(load()) for _ in range(6)]
            await asyncio.sleep(pause)
            for task in tasks[::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(each == PEOPLE or isinstance(each, asyncio.CancelledError) for each in found)
            assert await load() == PEOPLE
    assert len(cache._reader.locks) == 0
    cache.detach()


def test_two_event_loops_do_not_wait_for_each_others_locks(region: Region) -> None:
    locks = FillLocks(timeout=5)
    assert len(locks) == 0
    with locks.hold(region, "a") as waited, locks.hold(region, "b") as other:
        assert (waited, other) == (False, False)
        assert len(locks) == 2
    assert len(locks) == 0


def test_who_waits_too_long_asks_the_database(region: Region) -> None:
    locks = FillLocks(timeout=0.1)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.hold(region, "key"):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    started = time.monotonic()
    with locks.hold(region, "key") as waited:
        assert waited
    assert 0.05 < time.monotonic() - started < 5
    done.set()
    thread.join(10)
    assert len(locks) == 0


def test_a_filler_that_fails_leaves_the_next_one_to_fill(world: World) -> None:
    boom = {"times": 1}

    def fail(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "cache_person" in statement and boom["times"]:
            boom["times"] -= 1
            raise ValueError("boom")

    event.listen(world.engine, "before_cursor_execute", fail)
    with pytest.raises(ValueError, match="boom"):
        world.rows(cached)
    assert [world.rows(cached)[1] for _ in range(2)] == [1, 0]
    assert len(world.cache._reader.locks) == 0
    event.remove(world.engine, "before_cursor_execute", fail)


def test_who_waited_takes_nothing_that_was_ended_meanwhile(engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    fill(engine)
    world = World(engine)
    world.rows(select(Person.id).options(FromCache()))
    filling, written = threading.Event(), threading.Event()

    def pause(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.lstrip().startswith("SELECT") and "cache_person.name" in statement and not filling.is_set():
            filling.set()
            written.wait(20)

    event.listen(engine, "after_cursor_execute", pause)

    def load() -> str:
        with world.session() as session:
            return session.scalars(select(Person.name).where(Person.id == 1).options(FromCache())).one()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(load)
        assert filling.wait(20)
        if engine.dialect.name == "sqlite":
            # Its reader holds the file until it has read.
            written.set()
            first.result(timeout=20)
            world.write(update(Person).where(Person.id == 1).values(name="new"))
            second = pool.submit(load)
        else:
            second = pool.submit(load)
            world.write(update(Person).where(Person.id == 1).values(name="new"))
            third = pool.submit(load)
            time.sleep(0.1)
            written.set()
            assert first.result(timeout=20) == "person 01"
            assert third.result(timeout=20) == "new"
            assert second.result(timeout=20) in {"person 01", "new"}
            second = pool.submit(load)
        assert second.result(timeout=20) == "new"
    event.remove(engine, "after_cursor_execute", pause)
    world.close()


# -- the backend's own locks ---------------------------------------------------------------------


class _Mutex:
    def __init__(self, log: list[str], held_by_others: int, broken: bool) -> None:
        self.log, self.held_by_others, self.broken = log, held_by_others, broken

    def acquire(self, wait: bool = True) -> bool:
        assert not wait, "a lock that others hold is asked for again, never waited for"
        if self.broken:
            raise ConnectionError("down")
        self.log.append("acquire")
        self.held_by_others -= 1
        return self.held_by_others < 0

    def release(self) -> None:
        self.log.append("release")
        if self.broken:
            raise ConnectionError("down")


class LockingBackend(MemoryBackend):
    """A backend with a lock for all processes."""

    log: list[str]
    held_by_others = 0
    broken = False

    def get_mutex(self, key: str) -> Any:
        return _Mutex(self.log, self.held_by_others, self.broken)


register_backend("sqla_patterns.test_locking", __name__, "LockingBackend")


@pytest.mark.parametrize(("others", "broken"), [(0, False), (2, False), (0, True), (10**6, False)])
def test_a_lock_of_the_backend_is_used_and_never_waited_for(
    others: int, broken: bool, worlds: Callable[..., World]
) -> None:
    region = make_region().configure("sqla_patterns.test_locking")
    backend: Any = region.actual_backend
    backend.log, backend.held_by_others, backend.broken = [], others, broken
    world = worlds(regions={"default": region}, lock_timeout=0.2)
    started = time.monotonic()
    assert [world.rows(cached)[1] for _ in range(2)] == [1, 0]
    assert time.monotonic() - started < 5
    assert backend.log.count("release") == (1 if others < 10 else 0)


# redis-py deprecates what dogpile uses for redis_expiration_time.
@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_a_lock_of_redis(worlds: Callable[..., World], redis_url: str) -> None:
    import uuid

    prefix = uuid.uuid4().hex
    region = make_region(key_mangler=lambda key: f"{prefix}:{key}").configure(
        "dogpile.cache.redis",
        arguments={
            "url": redis_url,
            "redis_expiration_time": 60,
            "distributed_lock": True,
            "lock_timeout": 5,
            "thread_local_lock": False,
        },
    )
    world = worlds(regions={"default": region}, lock_timeout=2)
    assert [world.rows(cached)[1] for _ in range(2)] == [1, 0]
    lock = region.backend.get_mutex(f"{prefix}:another")
    assert lock.acquire()
    lock.release()
