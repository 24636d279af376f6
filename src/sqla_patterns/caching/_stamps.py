"""The interface of a stamp store: the one place that knows when tables were last written.

A store keeps one number that only grows, the *epoch*; for each *tag* (a table, a statement, whatever the cache names)
the epoch of its last write, its *stamp*; and the *leases* of commits that are under way. Every method is one atomic
step, and that is all that the cache asks of a store. Cached entries carry the epoch of their read and are compared with
the stamps when they are read, so that nothing is ever deleted, and an old value that a reader stores too late is
ignored.

A tag that the store does not know may have been written: its stamp was dropped, or was never there. The store knows up
to which epoch that may have been, and counts the tag as written then: no older entry is served. A store that has lost
its epoch starts a new *generation*, whose epochs cannot be compared with those of any other.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from sqlalchemy import exc

from ..exceptions import PatternError


class StampsUnavailableError(PatternError, exc.SQLAlchemyError):
    """The stamp store does not answer."""


class Epoch(NamedTuple):
    """A moment as a stamp store counts it; moments of different generations cannot be compared."""

    generation: str
    number: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer of a stamp store about some tags, read in one atomic step.

    Attributes:
        epoch: The epoch of that step.
        stamps: The last stamp of each tag that was asked for.
        leased: Those of the tags that a commit under way may be changing.
    """

    epoch: Epoch
    stamps: Mapping[str, int]
    leased: frozenset[str]


@runtime_checkable
class StampStore(Protocol):
    """The interface of stamp stores: what the cache calls.

    Each method is one atomic step, and raises `StampsUnavailableError` if it cannot be taken.
    """

    def read(self, tags: Collection[str]) -> Snapshot:
        """Return the epoch, the stamps and the leases of `tags`.

        A tag that has no stamp of this generation counts as written at the last moment when it may have been. A lease
        that has expired, whichever process made it, is ended as by `done`.
        """
        ...

    def epoch(self) -> Epoch:
        """Return the epoch alone."""
        ...

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        """Take a new epoch, stamp `tags` with it, and lease them until `done`, or for `seconds` if they are given."""
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
        """Make every existing entry invalid. Leases go on unless they are dropped."""
        ...


def new_nonce() -> str:
    """Return a name for a generation or a lease that was never used before."""
    return secrets.token_hex(8)
