"""Bringing versions back, and forgetting them: `revert`, `restore`, `erase`."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy.orm import Session

from ._version import Version

__all__ = ("erase", "restore", "revert")

T = TypeVar("T")


def revert(session: Session, obj: T, to: int | Version[T]) -> T:
    """Give `obj` the values that it had in an older version, as a new version, and return it.

    The session is flushed. Associations stay as they are; ``VersionOptions(exclude=...)`` attributes too.

    Raises:
        NoSuchVersionError: there is no such version.
        StateError: `obj` is deleted or not in `session`; see `restore`.
    """
    raise NotImplementedError


def restore(session: Session, entity: type[T], key: object) -> T:
    """Bring a deleted object back under its old key, with the values of its last version, and return it.

    Its version continues where it ended. The session is flushed.

    Raises:
        NoSuchVersionError: there is no history of it.
        StateError: the object exists.
    """
    raise NotImplementedError


def erase(session: Session, entity: type[T], key: object) -> int:
    """Delete an object and all of its history, without a trace, and return how many rows of history there were.

    For privacy law. Either may be gone already. The session is flushed. What other tables know of the object, the log of revisions
    included, is not touched.
    """
    raise NotImplementedError
