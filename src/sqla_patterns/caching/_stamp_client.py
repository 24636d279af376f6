"""`StampClient`: it asks the stamp store, and decides what happens when the store does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import RLock
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

from ..exceptions import InvalidArgumentError, PatternError
from ._stamps import Epoch, Snapshot, StampStore, StampsUnavailableError, new_nonce

T = TypeVar("T")

OnError: TypeAlias = Literal["raise", "degrade"]
#: Called for each failure with what was being done, and the error.
Observer: TypeAlias = Callable[[str, StampsUnavailableError], None]


class Lease(NamedTuple):
    """A commit under way and the tags that it may change; unless `marked`, the store does not know of it."""

    name: str
    tags: frozenset[str]
    marked: bool = True


class StampClient:
    """A stamp store as the cache uses it, which may fail.

    - A read that gets no answer goes to the database, and for `pause` seconds the store is not asked again.
    - A commit of which the store cannot be told is refused (``on_error="raise"``), or goes on (``"degrade"``). From
      then on this process reads nothing from the cache, and the first request to the store after that commit starts a
      new generation, before anything else is asked.
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
        # Whether the store has missed a commit, and the commits under way that it does not know, with the time when
        # they count as ended.
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

    def keeps_stamps_in(self, table: object) -> bool:
        """Return whether a table is one of the store's."""
        tables: tuple[object, ...] = getattr(self._store, "tables", ())
        return any(table is each for each in tables)

    def read(self, tags: Collection[str]) -> Snapshot | None:
        """Return the stamps of `tags`, or None if the store does not answer."""
        if self._clock() < self._silent_until or not self._catch_up():
            return None
        try:
            return self._call(lambda store: store.read(tags))
        except StampsUnavailableError as error:
            self._failed("read", error)
            return None

    def epoch(self) -> Epoch | None:
        """Return the epoch, or None if the store does not answer."""
        if self._clock() < self._silent_until or not self._catch_up():
            return None
        try:
            return self._call(lambda store: store.epoch())
        except StampsUnavailableError as error:
            self._failed("read", error)
            return None

    def mark(self, tags: Collection[str], *, name: str | None = None, endless: bool = False) -> Lease:
        """Tell the store that a commit begins.

        Raises:
            StampsUnavailableError: It cannot be told, and such commits are refused.
        """
        lease = Lease(name or new_nonce(), frozenset(tags))
        self._catch_up()
        try:
            self._call(lambda store: store.mark(lease.name, lease.tags, None if endless else self._seconds))
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
        """Tell the store that a commit has ended, with success or not. It is too late to raise."""
        if not lease.marked:
            with self._lock:
                self._unmarked.pop(lease.name, None)
            self._catch_up()
            return
        try:
            self._call(lambda store: store.done(lease.name, lease.tags))
        except StampsUnavailableError as error:
            self._failed("done", error)

    def touch(self, tags: Collection[str]) -> None:
        """Stamp tags on request.

        Raises:
            StampsUnavailableError: The store does not answer. With ``on_error="degrade"`` all entries are invalidated
                once it answers instead.
        """
        self._invalidate(lambda store: store.touch(tags))

    def new_generation(self, *, drop_leases: bool = False) -> None:
        """Invalidate all entries on request.

        Raises:
            StampsUnavailableError: As for `touch`.
        """
        self._invalidate(lambda store: store.new_generation(drop_leases=drop_leases))

    def _invalidate(self, step: Callable[[StampStore], Epoch]) -> None:
        self._catch_up()
        try:
            self._call(step)
        except StampsUnavailableError as error:
            self._failed("touch", error)
            if self._on_error == "raise":
                raise
            with self._lock:
                self._behind = True

    def _catch_up(self) -> bool:
        """Start a new generation if the store has missed a commit; return whether it is up to date."""
        if not self._behind:
            return True
        with self._lock:
            now = self._clock()
            self._unmarked = {name: over for name, over in self._unmarked.items() if over > now}
            if self._unmarked:
                # Such a commit may take effect at any moment. What is read now may be older and must not be kept.
                return False
            if self._behind:
                try:
                    self._call(lambda store: store.new_generation())
                except StampsUnavailableError as error:
                    self._failed("catch up", error)
                    return False
                self._behind = False
        return True

    def _call(self, step: Callable[[StampStore], T]) -> T:
        """Take a step of the store.

        Raises:
            StampsUnavailableError: The step failed, for whatever reason.
        """
        try:
            return step(self.store)
        except PatternError:
            raise
        except Exception as error:
            # The store may be a class of the user's, which raises anything.
            raise StampsUnavailableError(f"{self._store!r} failed: {type(error).__name__}: {error}") from error

    def _failed(self, doing: str, error: StampsUnavailableError) -> None:
        self._silent_until = self._clock() + self._pause
        if self._observer is not None:
            self._observer(doing, error)
