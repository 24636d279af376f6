"""What one read may take from the cache, and put there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

from ._stamps import Epoch, Snapshot
from ._tags import EVERYTHING

__all__ = ("Ticket",)

_NOWHERE: Final = Epoch("", -1)
_UNKNOWN: Final = Snapshot(_NOWHERE, {}, frozenset())


@dataclass(frozen=True, slots=True)
class Ticket:
    """The stamps that a read depends on, as they were before the read.

    Take a ticket before looking for an entry and before reading the database: what is written in between then has a later stamp.
    """

    #: Why this read has nothing to do with the cache, neither way.
    bypass: str | None = None
    #: Whether an entry may be served at all; if not, the database must be read, and the entry may be put.
    may_serve: bool = False
    _snapshot: Snapshot = _UNKNOWN
    #: The epoch that the data of this read have seen at least: that of the ticket, or that of the transaction's begin.
    _seen: Epoch = _NOWHERE
    #: Whether the transaction reads one snapshot, and may therefore not be served what is newer.
    _strict: bool = False
    _fills: bool = False

    def serves(self, entry: Epoch) -> bool:
        """Whether an entry whose read had the horizon `entry` may be served."""
        return (
            self.may_serve
            and self._settled()
            and entry.generation == self._snapshot.epoch.generation
            and entry.number >= self._highest()
            and not (self._strict and entry.number > self._snapshot.epoch.number)
        )

    @property
    def horizon(self) -> Epoch | None:
        """What to put an entry with; None if what is read now must not be put."""
        return self._seen if self._fills and self._settled() else None

    def narrow(self, tags: Collection[str]) -> Self:
        """The ticket for one of several things that are read together, each with tags of its own among those of this ticket."""
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
        """Whether nothing that this ticket is about was written up to a `later` one for the same tags.

        What was served by this ticket, and what the database has said before the later one was taken, are then of one moment.
        """
        return (
            self.bypass is None
            and later.bypass is None
            and not later._snapshot.leased
            and self._snapshot.epoch.generation == later._snapshot.epoch.generation
            and self._snapshot.stamps == later._snapshot.stamps
        )

    def _settled(self) -> bool:
        """No commit to the tags is under way, nor was there one since what this transaction sees."""
        snapshot = self._snapshot
        return (
            self.bypass is None
            and not snapshot.leased
            and self._seen.generation == snapshot.epoch.generation
            and self._highest() <= self._seen.number
        )

    def _highest(self) -> int:
        return max(self._snapshot.stamps.values(), default=0)
