"""What a stamp store is: the one place that knows when tables were last written.

A store keeps one number that only grows, the *epoch*; for each *tag* (a table, a statement, whatever the cache has invented) the epoch
of its last write, its *stamp*; and the *leases* of commits that are under way. Every method is one atomic step, and that is all that the
cache asks of a store. Cached entries carry the epoch of their read and are compared with the stamps when they are read, so that nothing
is ever deleted, and a reader that puts an old value too late puts something that nobody will take.

A tag that the store does not know may have been written: its stamp was dropped, or was never there. The store knows up to which epoch that
may have been, and counts the tag as written then: no older entry can pass. A store that has lost its epoch starts a new *generation*, whose epochs compare with no others.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from sqlalchemy import exc

from ..exceptions import PatternError

__all__ = ("Epoch", "Snapshot", "StampStore", "StampsUnavailableError", "new_nonce")


class StampsUnavailableError(PatternError, exc.SQLAlchemyError):
    """The stamp store does not answer."""


class Epoch(NamedTuple):
    """A moment of a stamp store; moments of different generations compare with nothing."""

    generation: str
    number: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store said, in one atomic step, about some tags."""

    epoch: Epoch
    #: The last stamp of each tag that was asked for.
    stamps: Mapping[str, int]
    #: Those of the tags that a commit under way may be changing.
    leased: frozenset[str]


@runtime_checkable
class StampStore(Protocol):
    """What the cache needs of a store; each method is one atomic step and raises `StampsUnavailableError` if it cannot be taken."""

    def read(self, tags: Collection[str]) -> Snapshot:
        """Return the epoch, the stamps and leases of `tags`.

        A tag that has no stamp of this generation counts as written at the last moment when it may have been. A lease that has expired, whosever it is, is ended as by `done`.
        """
        ...

    def epoch(self) -> Epoch:
        """Return the epoch alone."""
        ...

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        """Take a new epoch, stamp `tags` with it, and lease them until `done`, or for `seconds`; None is until `done`."""
        ...

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        """Take a new epoch, stamp with it `tags` and those of the lease, and end the lease.

        `tags` are for the case that the store has lost the lease.
        """
        ...

    def touch(self, tags: Collection[str]) -> Epoch:
        """Take a new epoch and stamp `tags` with it."""
        ...

    def new_generation(self, *, drop_leases: bool = False) -> Epoch:
        """Make every entry there is invalid. Leases go on unless they are dropped."""
        ...


def new_nonce() -> str:
    """A name for a generation or a lease that nobody has used."""
    return secrets.token_hex(8)
