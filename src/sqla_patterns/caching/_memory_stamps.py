"""`MemoryStamps`: a stamp store in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from threading import Lock
from typing import NamedTuple

from ..exceptions import InvalidArgumentError
from ._fork_detector import ForkDetector
from ._stamps import Epoch, Snapshot, StampsUnavailableError, new_nonce


class _Lease(NamedTuple):
    """A commit under way: its tags, and when it counts as ended; None is never."""

    tags: frozenset[str]
    deadline: float | None


class MemoryStamps:
    """A stamp store for caches that one process alone writes and reads; its threads share it.

    Two processes that write to one database do not see each other's stamps and would serve what the other has changed:
    use `RedisStamps` or `SQLStamps` there. This includes processes that result from a fork, as in servers that load the
    application first: in a process that did not make the store nothing is cached, nor in the one that made it once
    another has written, and a ``RuntimeWarning`` says so.

    Args:
        max_tags: How many of the tags that were written are kept. The one whose last write is oldest is dropped first.
            A tag that is not kept counts as written when the last of the dropped tags was.
        clock: Returns the time for leases, in seconds that only grow.
    """

    def __init__(
        self,
        *,
        max_tags: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
        _fork_detector: ForkDetector | None = None,
    ) -> None:
        if max_tags < 1:
            raise InvalidArgumentError(f"MemoryStamps(max_tags={max_tags!r}): keep one tag at least.")
        self._max_tags = max_tags
        self._clock = clock
        # A cache that makes its store when it is first needed was perhaps made in another process.
        self._fork_detector = ForkDetector() if _fork_detector is None else _fork_detector
        self._lock = Lock()
        self._generation = new_nonce()
        self._number = 0
        # No tag that is not among the stamps was written after this.
        self._floor = 0
        self._stamps: OrderedDict[str, int] = OrderedDict()
        self._leases: dict[str, _Lease] = {}

    def read(self, tags: Collection[str]) -> Snapshot:
        """Return the epoch, the stamps and the leases of `tags`."""
        self._check()
        with self._lock:
            if self._leases:
                self._expire()
            stamps = {tag: self._stamps.get(tag, self._floor) for tag in tags}
            leased = {tag for lease in self._leases.values() for tag in lease.tags if tag in stamps}
            return Snapshot(self._epoch(), stamps, frozenset(leased))

    def epoch(self) -> Epoch:
        """Return the epoch alone."""
        self._check()
        with self._lock:
            return self._epoch()

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        """Stamp `tags` and lease them."""
        self._check(writes=True)
        with self._lock:
            self._stamp(tags)
            deadline = None if seconds is None else self._clock() + seconds
            self._leases[lease] = _Lease(frozenset(tags), deadline)
            self._forget()
            return self._epoch()

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        """Stamp `tags` and those of the lease, and end it."""
        self._check(writes=True)
        with self._lock:
            self._end(lease, tags)
            self._forget()
            return self._epoch()

    def touch(self, tags: Collection[str]) -> Epoch:
        """Stamp `tags`."""
        self._check(writes=True)
        with self._lock:
            self._stamp(tags)
            self._forget()
            return self._epoch()

    def new_generation(self, *, drop_leases: bool = False) -> Epoch:
        """Make every existing entry invalid."""
        self._check(writes=True)
        with self._lock:
            self._generation = new_nonce()
            self._stamps.clear()
            self._number += 1
            self._floor = self._number
            if drop_leases:
                self._leases.clear()
            return self._epoch()

    def __repr__(self) -> str:
        return f"<MemoryStamps at epoch {self._number}, {len(self._stamps)} tags, {len(self._leases)} leases>"

    def _check(self, *, writes: bool = False) -> None:
        """Raise in a process that does not learn of the writes of others."""
        # Before taking the lock, which a thread may have held during the fork.
        problem = self._fork_detector.problem("MemoryStamps()", writes=writes)
        if problem is not None:
            raise StampsUnavailableError(problem)

    # The methods below are called with the lock held.

    def _epoch(self) -> Epoch:
        return Epoch(self._generation, self._number)

    def _stamp(self, tags: Iterable[str]) -> None:
        self._number += 1
        for tag in tags:
            self._stamps[tag] = self._number
            self._stamps.move_to_end(tag)

    def _end(self, lease: str, tags: Collection[str]) -> None:
        ended = self._leases.pop(lease, None)
        self._stamp(tags if ended is None else {*tags, *ended.tags})

    def _expire(self) -> None:
        now = self._clock()
        for name, lease in list(self._leases.items()):
            if lease.deadline is not None and lease.deadline <= now:
                self._end(name, ())

    def _forget(self) -> None:
        while len(self._stamps) > self._max_tags:
            self._floor = max(self._floor, self._stamps.popitem(last=False)[1])
