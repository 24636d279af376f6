"""Reading history: `versions`, `version_at`, `as_of`, `diff`, `versions_of_association`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar, overload

from sqlalchemy import Select
from sqlalchemy.orm import Session

from ._version import AssociationVersion, Version

__all__ = ("as_of", "diff", "version_at", "versions", "versions_of_association")

T = TypeVar("T")


@overload
def versions(session: Session, obj: type[T], key: object) -> Sequence[Version[T]]: ...
@overload
def versions(session: Session, obj: T) -> Sequence[Version[T]]: ...
def versions(session: Session, obj: Any, key: object = None) -> Any:
    """Return all versions of an object, the oldest first and the current one last.

    Args:
        obj: an object that has a row, or with `key` a versioned class, for an object that may be deleted.
        key: its primary key; a tuple where it has several columns.

    Pending changes are flushed first where the session autoflushes. Two SELECTs, one more where there are revisions.

    Raises:
        NotVersionedError: the class is not versioned.
        StateError: `obj` has no primary key yet.
    """
    raise NotImplementedError


def version_at(session: Session, entity: type[T], key: object, moment: datetime) -> T | None:
    """Return the object as it was at `moment`, or None before its birth and after its deletion.

    One SELECT. Needs ``VersionOptions(period=True)``.

    Raises:
        NotVersionedError: the class is not versioned, or keeps no periods.
        InvalidArgumentError: `moment` has no time zone.
    """
    raise NotImplementedError


@overload
def as_of(session: Session, statement: Select[tuple[T]], moment: datetime) -> Sequence[T]: ...
@overload
def as_of(session: Session, statement: Select[T], moment: datetime) -> Sequence[T]: ...  # type: ignore[type-var, unused-ignore]
def as_of(session: Session, statement: Any, moment: datetime) -> Any:
    """Return the objects that a SELECT of one versioned class would have found at `moment`, as they were.

    Criteria, order, joins, limits and EXISTS see the rows of that moment, of every class in the statement that keeps periods.

    One SELECT, one more for each subclass with a table of its own and each association.

    Raises:
        NotVersionedError: the class is not versioned, or keeps no periods.
        InvalidArgumentError: `statement` does not select one class, or `moment` has no time zone.
    """
    raise NotImplementedError


def diff(old: T | Version[T], new: T | Version[T]) -> dict[str, tuple[object, object]]:
    """Return what differs between two versions, or two objects, as old and new value by attribute name.

    Columns only; ``version`` and what the room itself maintains are left out. What is not loaded in either is left out too. No SQL.

    Raises:
        InvalidArgumentError: they are of different hierarchies.
    """
    raise NotImplementedError


def versions_of_association(session: Session, obj: object, name: str) -> Sequence[AssociationVersion]:
    """Return what `obj` was associated with, and when, by the relationship `name`, in the order in which it began.

    The relationship must stand in ``VersionOptions(associations=...)``. One SELECT, one more where there are revisions.
    """
    raise NotImplementedError
