"""`ReadEpoch`: the moment to which the rows of one read belong; it decides which entries the read may use and store.

The stamp store counts writes: its *epoch* is a number that grows with each one, and each table's *stamp* is the epoch
of its last write. A read that begins at epoch 7 sees all writes up to 7 at least. Its rows are stored with that number.
They are up to date as long as no table that they were read from has a stamp greater than 7.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

from ._stamps import Epoch, Snapshot
from ._tags import EVERYTHING

_NO_EPOCH: Final = Epoch("", -1)
_NO_SNAPSHOT: Final = Snapshot(_NO_EPOCH, {}, frozenset())


@dataclass(frozen=True, slots=True)
class ReadEpoch:
    """The moment of one read: the epoch and the stamps of the tags that it depends on, as they were before it.

    It is taken before looking for an entry and before reading the database: what is written after it then has a later
    stamp.

    Attributes:
        bypass: Why this read neither takes an entry nor stores one; None if it may.
        may_serve: Whether an entry may be served at all. If not, the database must be read, and the entry may be
            stored.
    """

    bypass: str | None = None
    may_serve: bool = False
    _snapshot: Snapshot = _NO_SNAPSHOT
    #: The epoch up to which this read sees all writes: the one of the snapshot, or the one before its transaction
    #: began.
    _seen: Epoch = _NO_EPOCH
    #: Whether the transaction reads one snapshot, and may therefore not be served what is newer.
    _strict: bool = False
    _fills: bool = False

    def serves(self, entry: Epoch) -> bool:
        """Return whether an entry may be served that was stored with the epoch `entry`."""
        return (
            self.may_serve
            and self._settled()
            and entry.generation == self._snapshot.epoch.generation
            and entry.number >= self._highest()
            and not (self._strict and entry.number > self._snapshot.epoch.number)
        )

    @property
    def entry_epoch(self) -> Epoch | None:
        """The epoch to store an entry with; None if what is read now must not be stored."""
        return self._seen if self._fills and self._settled() else None

    def narrow(self, tags: Collection[str]) -> Self:
        """Return the read epoch of a part of this read, which depends on some of its tags only."""
        if self.bypass is not None:
            return self
        kept = {*tags, EVERYTHING}
        snapshot = self._snapshot
        stamps = {tag: snapshot.stamps[tag] for tag in kept}
        return type(self)(
            self.bypass,
            self.may_serve,
            Snapshot(snapshot.epoch, stamps, snapshot.leased & kept),
            self._seen,
            self._strict,
            self._fills,
        )

    def agrees_with(self, later: Self) -> bool:
        """Return whether none of the tags was written between this read epoch and a `later` one for the same tags.

        Entries that were served by this one, and rows that the database returned before the later one was taken, then
        belong to one moment.
        """
        return (
            self.bypass is None
            and later.bypass is None
            and not later._snapshot.leased
            and self._snapshot.epoch.generation == later._snapshot.epoch.generation
            and self._snapshot.stamps == later._snapshot.stamps
        )

    def _settled(self) -> bool:
        """Return whether no commit to the tags is under way, and none has ended that this transaction does not see."""
        snapshot = self._snapshot
        return (
            self.bypass is None
            and not snapshot.leased
            and self._seen.generation == snapshot.epoch.generation
            and self._highest() <= self._seen.number
        )

    def _highest(self) -> int:
        return max(self._snapshot.stamps.values(), default=0)
