"""A stamp store that may not answer, and what the cache makes of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import RLock
from typing import Final, Literal, NamedTuple, TypeAlias

from ..exceptions import InvalidArgumentError
from ._stamps import Epoch, Snapshot, StampStore, StampsUnavailableError, new_nonce

__all__ = ("Contact", "Lease", "Observer", "OnError")

OnError: TypeAlias = Literal["raise", "degrade"]
#: Told of each failure: what was being done, and the error.
Observer: TypeAlias = Callable[[str, StampsUnavailableError], None]


class Lease(NamedTuple):
    """A commit under way; unless `marked`, the store does not know of it."""

    name: str
    tags: frozenset[str]
    marked: bool = True


class Contact:
    """Asks a store, and carries on without it.

    - A read that gets no answer goes to the database, and for `pause` seconds the store is not asked again.
    - A commit of which the store cannot be told is refused (``on_error="raise"``), or goes on (``"degrade"``). From then on nothing is read from
      the cache in this process, and the first contact after that commit starts a new generation, before anything else is asked.
    - A commit that has ended and of which the store cannot be told leaves its lease, which expires.
    """

    def __init__(
        self,
        store: StampStore | Callable[[], StampStore],
        *,
        on_error: OnError = "degrade",
        lease: float = 30.0,
        pause: float = 1.0,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if on_error not in ("raise", "degrade"):
            raise InvalidArgumentError(f"on_error={on_error!r}: choose 'raise' or 'degrade'.")
        if lease <= 0:
            raise InvalidArgumentError(f"lease={lease!r}: give the seconds that a COMMIT takes at most.")
        self._store: StampStore | None = store if isinstance(store, StampStore) else None
        self._make: Final = store
        self._on_error: Final = on_error
        self._seconds: Final = lease
        self._pause: Final = pause
        self._observer: Final = observer
        self._clock: Final = clock
        self._lock = RLock()
        self._silent_until = float("-inf")
        # Whether the store has missed a commit, and the commits under way that it does not know, with the time when they count as over.
        self._behind = False
        self._unmarked: dict[str, float] = {}

    @property
    def store(self) -> StampStore:
        """The store, made when it is first needed."""
        if self._store is None:
            with self._lock:
                if self._store is None:
                    made = self._make() if callable(self._make) else self._make
                    self._store = made
        return self._store

    @property
    def made(self) -> StampStore | None:
        """The store, if it has been needed."""
        return self._store

    def read(self, tags: Collection[str]) -> Snapshot | None:
        """The stamps of `tags`, or None if the store does not answer."""
        if self._clock() < self._silent_until or not self._catch_up():
            return None
        try:
            return self.store.read(tags)
        except StampsUnavailableError as error:
            self._failed("read", error)
            return None

    def epoch(self) -> Epoch | None:
        """The epoch, or None if the store does not answer."""
        if self._clock() < self._silent_until or not self._catch_up():
            return None
        try:
            return self.store.epoch()
        except StampsUnavailableError as error:
            self._failed("read", error)
            return None

    def mark(self, tags: Collection[str], *, name: str | None = None, endless: bool = False) -> Lease:
        """Tell the store that a commit begins.

        Raises:
            StampsUnavailableError: it cannot be told, and such commits are refused.
        """
        lease = Lease(name or new_nonce(), frozenset(tags))
        self._catch_up()
        try:
            self.store.mark(lease.name, lease.tags, None if endless else self._seconds)
        except StampsUnavailableError as error:
            self._failed("mark", error)
            if self._on_error == "raise":
                raise
            with self._lock:
                self._behind = True
                self._unmarked[lease.name] = self._clock() + self._seconds
            return lease._replace(marked=False)
        return lease

    def done(self, lease: Lease) -> None:
        """Tell the store that a commit has ended, one way or the other. It is too late to raise."""
        if not lease.marked:
            with self._lock:
                self._unmarked.pop(lease.name, None)
            self._catch_up()
            return
        try:
            self.store.done(lease.name, lease.tags)
        except StampsUnavailableError as error:
            self._failed("done", error)

    def touch(self, tags: Collection[str]) -> None:
        """Stamp tags on request.

        Raises:
            StampsUnavailableError: the store does not answer; with ``on_error="degrade"`` it is made up for later instead.
        """
        self._explicitly(lambda: self.store.touch(tags))

    def new_generation(self, *, drop_leases: bool = False) -> None:
        """Void all entries on request.

        Raises:
            StampsUnavailableError: as for `touch`.
        """
        self._explicitly(lambda: self.store.new_generation(drop_leases=drop_leases))

    def _explicitly(self, step: Callable[[], Epoch]) -> None:
        self._catch_up()
        try:
            step()
        except StampsUnavailableError as error:
            self._failed("touch", error)
            if self._on_error == "raise":
                raise
            with self._lock:
                self._behind = True

    def _catch_up(self) -> bool:
        """Start the generation that is due, if any; return whether the store is up to date."""
        if not self._behind:
            return True
        with self._lock:
            now = self._clock()
            self._unmarked = {name: over for name, over in self._unmarked.items() if over > now}
            if self._unmarked:
                # Such a commit may take effect any moment. Whatever is read now may be old and must not outlive it.
                return False
            if self._behind:
                try:
                    self.store.new_generation()
                except StampsUnavailableError as error:
                    self._failed("catch up", error)
                    return False
                self._behind = False
        return True

    def _failed(self, doing: str, error: StampsUnavailableError) -> None:
        self._silent_until = self._clock() + self._pause
        if self._observer is not None:
            self._observer(doing, error)
