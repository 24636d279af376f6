"""One filler for each key: threads, asyncio tasks and, where the backend can, processes wait for the first one's entry.

Waiting is limited, and ends in a query of one's own: a lock of a cache must never be what an application waits for. The caller
takes its database connection *before* it waits. The filler would otherwise wait for a connection of the pool that is held by
those who wait for the filler.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from ._replay import await_here, in_event_loop

if TYPE_CHECKING:
    from ._regions import Region

__all__ = ("FillLocks",)

#: How often somebody else's lock in the backend is asked for, in seconds.
_POLL: Final = (0.01, 0.02, 0.05, 0.1)


class _Waiters:
    """A lock and the number of those who hold or want it, so that it goes with the last."""

    __slots__ = ("lock", "users")

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.users = 0


class FillLocks:
    """Locks by region and key, for threads and for each event loop.

    :param timeout: seconds to wait for another's fill before the database is asked all the same.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        self.timeout: Final = timeout
        self._mutex: Final = Lock()
        self._waiters: dict[tuple[object, ...], _Waiters] = {}

    @contextmanager
    def hold(self, region: Region, key: str) -> Generator[bool]:
        """Hold the lock of a key; yields whether somebody else had it, so that there may be an entry by now.

        A blocking lock would stop the event loop in which its holder is to go on, so tasks wait for a lock of asyncio.
        """
        deadline = time.monotonic() + self.timeout
        loop = asyncio.get_running_loop() if in_event_loop() else None
        name = (region.region, key, loop)
        waiters = self._enter(name, asyncio.Lock if loop is not None else Lock)
        try:
            waited = waiters.lock.locked()
            held = self._acquire(waiters.lock, deadline, loop)
            try:
                with _everywhere(region.mutex(key), deadline, loop) as others:
                    yield waited or others
            finally:
                if held:
                    waiters.lock.release()
        finally:
            self._leave(name, waiters)

    def _acquire(self, lock: Any, deadline: float, loop: object) -> bool:
        seconds = max(0.0, deadline - time.monotonic())
        if loop is None:
            return bool(lock.acquire(timeout=seconds))
        if not lock.locked():
            # Nobody else runs between the question and this, so it does not wait.
            return bool(await_here(lock.acquire()))
        try:
            return bool(await_here(asyncio.wait_for(lock.acquire(), seconds)))
        except TimeoutError:
            return False

    def _enter(self, name: tuple[object, ...], new: type[Any]) -> _Waiters:
        with self._mutex:
            waiters = self._waiters.get(name)
            if waiters is None:
                waiters = self._waiters[name] = _Waiters(new())
            waiters.users += 1
            return waiters

    def _leave(self, name: tuple[object, ...], waiters: _Waiters) -> None:
        with self._mutex:
            waiters.users -= 1
            if not waiters.users:
                del self._waiters[name]

    def __len__(self) -> int:
        return len(self._waiters)


@contextmanager
def _everywhere(mutex: Any, deadline: float, loop: object) -> Generator[bool]:
    """Hold the backend's lock for other processes, if it has one; yields whether somebody had it."""
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
        pause = _POLL[min(attempt, len(_POLL) - 1)]
        if loop is None:
            time.sleep(pause)
        else:
            await_here(asyncio.sleep(pause))
    try:
        yield waited
    finally:
        if held:
            _release(mutex)


def _take(mutex: Any) -> bool:
    try:
        return bool(mutex.acquire(False))
    except Exception:  # noqa: BLE001 - a backend that is down, whose errors have no base in common, has no locks
        return True


def _release(mutex: Any) -> None:
    try:
        mutex.release()
    except Exception:  # noqa: BLE001 - the lock has timed out, or the backend has gone
        return
