"""Stamps in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from threading import Lock
from typing import NamedTuple

from ..exceptions import InvalidArgumentError
from ._stamps import Epoch, Snapshot, new_nonce

__all__ = ("MemoryStamps",)


class _Lease(NamedTuple):
    tags: frozenset[str]
    deadline: float | None


class MemoryStamps:
    """A stamp store for caches that one process alone writes and reads; threads share it.

    Two processes that write to one database do not see each other's stamps and would serve what the other has changed: use
    `RedisStamps` or `SQLStamps` there.

    :param max_tags: how many of the tags that were written are kept; the one whose write is longest ago goes first. A tag that is not kept counts as
        written when the last one went that was forgotten.
    :param clock: for leases; seconds that only grow.
    """

    def __init__(self, *, max_tags: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        if max_tags < 1:
            raise InvalidArgumentError(f"MemoryStamps(max_tags={max_tags!r}): keep one tag at least.")
        self._max_tags = max_tags
        self._clock = clock
        self._lock = Lock()
        self._generation = new_nonce()
        self._number = 0
        # No tag that is not among the stamps was written after this.
        self._floor = 0
        self._stamps: OrderedDict[str, int] = OrderedDict()
        self._leases: dict[str, _Lease] = {}

    def read(self, tags: Collection[str]) -> Snapshot:
        """Return the epoch, the stamps and leases of `tags`."""
        with self._lock:
            if self._leases:
                self._expire()
            stamps = {tag: self._stamps.get(tag, self._floor) for tag in tags}
            leased = {tag for lease in self._leases.values() for tag in lease.tags if tag in stamps}
            return Snapshot(self._epoch(), stamps, frozenset(leased))

    def epoch(self) -> Epoch:
        """Return the epoch alone."""
        with self._lock:
            return self._epoch()

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        """Stamp `tags` and lease them."""
        with self._lock:
            self._stamp(tags)
            deadline = None if seconds is None else self._clock() + seconds
            self._leases[lease] = _Lease(frozenset(tags), deadline)
            self._forget()
            return self._epoch()

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        """Stamp `tags` and those of the lease, and end it."""
        with self._lock:
            self._end(lease, tags)
            self._forget()
            return self._epoch()

    def touch(self, tags: Collection[str]) -> Epoch:
        """Stamp `tags`."""
        with self._lock:
            self._stamp(tags)
            self._forget()
            return self._epoch()

    def new_generation(self, *, drop_leases: bool = False) -> Epoch:
        """Make every entry there is invalid."""
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

    # Below, the lock is held.

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
