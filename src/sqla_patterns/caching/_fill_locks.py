"""Locks by which one reader fills an entry while others that miss the same key wait for it.

Threads and asyncio tasks wait for each other, and processes too where the backend has locks. A wait is limited: when
its time is over the reader queries the database, so that no application stands still because of a cache. The caller
takes its database connection *before* it waits. Otherwise the filler could need a connection of the pool that is held
by those who wait for the filler. After a wait, for the lock or for the connection, it looks for the entry again.

A reader does not wait where that is useless: where the result may not be stored, or where the last result of the same
key was not stored.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from ._replay import await_here, in_event_loop, new_lru_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, MutableMapping

    from dogpile.cache.api import CacheMutex

    from ._regions import Region

#: Seconds between two attempts to take the backend's lock.
_POLL_SECONDS: Final = (0.01, 0.02, 0.05, 0.1)
#: Seconds for which no reader waits for the fill of a key whose result was not kept.
_UNKEPT_SECONDS: Final = 5.0
#: Seconds of a wait for anything after which another process may have made the entry.
_LONG_WAIT: Final = 0.05
#: Keys whose last fill is remembered.
_KEYS: Final = 1000


class FillHistory:
    """The outcomes of the last fills in this process: they tell who should wait, and who should look again."""

    def __init__(self) -> None:
        self._numbers: Final = itertools.count(1)
        self._last = 0
        self._kept: Final[MutableMapping[object, int]] = new_lru_cache(_KEYS)
        self._unkept: Final[MutableMapping[object, float]] = new_lru_cache(_KEYS)

    def moment(self) -> tuple[int, float]:
        """Return the present moment, for `may_have_ended_since()`."""
        return self._last, time.monotonic()

    def may_have_ended_since(self, region: Region, key: str, moment: tuple[int, float]) -> bool:
        """Return whether there may be an entry by now: because one was made here, or because a long time has passed."""
        number, at = moment
        return self._kept.get((region.region, key), 0) > number or time.monotonic() - at > _LONG_WAIT

    def note(self, region: Region, key: str, *, kept: bool) -> None:
        """Take note of whether a result was kept."""
        name = (region.region, key)
        if kept:
            self._last = self._kept[name] = next(self._numbers)
            self._unkept.pop(name, None)
        else:
            self._unkept[name] = time.monotonic() + _UNKEPT_SECONDS

    def was_not_kept(self, region: Region, key: str) -> bool:
        """Return whether the last result of a key was not kept, so that waiting for its entry is useless."""
        return self._unkept.get((region.region, key), 0.0) > time.monotonic()


@dataclass(slots=True)
class _CountedLock:
    """A lock and the number of those who hold or want it, so that it is dropped with the last of them."""

    lock: Lock | asyncio.Lock
    users: int = 0


class FillLocks:
    """Locks by region and key, for threads and for each event loop.

    Args:
        timeout: Seconds to wait for the fill of another reader before the database is asked all the same.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        self.timeout: Final = timeout
        self._mutex: Final = Lock()
        self._locks: dict[tuple[object, ...], _CountedLock] = {}

    @contextmanager
    def hold(self, region: Region, key: str) -> Generator[bool]:
        """Hold the lock of a key, and yield whether another reader had it, so that there may be an entry by now.

        A blocking lock would stop the event loop in which its holder has to continue, so tasks wait for a lock of
        asyncio.
        """
        deadline = time.monotonic() + self.timeout
        loop = asyncio.get_running_loop() if in_event_loop() else None
        name = (region.region, key, loop)
        counted = self._enter(name, asyncio.Lock if loop is not None else Lock)
        try:
            waited = counted.lock.locked()
            held = _acquire(counted.lock, deadline)
            try:
                with _hold_in_backend(region.mutex(key), deadline, is_async=loop is not None) as others:
                    yield waited or others
            finally:
                if held:
                    counted.lock.release()
        finally:
            self._leave(name, counted)

    def _enter(self, name: tuple[object, ...], new_lock: Callable[[], Lock | asyncio.Lock]) -> _CountedLock:
        with self._mutex:
            counted = self._locks.get(name)
            if counted is None:
                counted = self._locks[name] = _CountedLock(new_lock())
            counted.users += 1
            return counted

    def _leave(self, name: tuple[object, ...], counted: _CountedLock) -> None:
        with self._mutex:
            counted.users -= 1
            if not counted.users:
                del self._locks[name]

    def __len__(self) -> int:
        return len(self._locks)


def _acquire(lock: Lock | asyncio.Lock, deadline: float) -> bool:
    """Wait for a lock of this process; return whether it was acquired in time."""
    seconds = max(0.0, deadline - time.monotonic())
    if not isinstance(lock, asyncio.Lock):
        return lock.acquire(timeout=seconds)
    if not lock.locked():
        # No other task runs between the question and this, so it does not wait.
        return await_here(lock.acquire())
    try:
        return await_here(asyncio.wait_for(lock.acquire(), seconds))
    except TimeoutError:
        return False


@contextmanager
def _hold_in_backend(mutex: CacheMutex | None, deadline: float, *, is_async: bool) -> Generator[bool]:
    """Hold the backend's lock for other processes, if it has one, and yield whether another process had it."""
    if mutex is None:
        yield False
        return
    waited = False
    held = False
    for attempt in range(1_000_000):
        held = _take(mutex)
        if held or time.monotonic() > deadline:
            break
        waited = True
        pause = _POLL_SECONDS[min(attempt, len(_POLL_SECONDS) - 1)]
        if is_async:
            await_here(asyncio.sleep(pause))
        else:
            time.sleep(pause)
    try:
        yield waited
    finally:
        if held:
            _release(mutex)


def _take(mutex: CacheMutex) -> bool:
    try:
        return bool(mutex.acquire(False))
    except Exception:  # noqa: BLE001 - a backend that is down, whose errors have no base in common, has no locks
        return True


def _release(mutex: CacheMutex) -> None:
    try:
        mutex.release()
    except Exception:  # noqa: BLE001 - the lock has timed out, or the backend has gone
        return
