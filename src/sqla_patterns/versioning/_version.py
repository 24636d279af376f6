"""What the reading functions return."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

from ._revision_log import RevisionLog

__all__ = ("AssociationVersion", "Operation", "Version")

T = TypeVar("T")

Operation = Literal["update", "delete"]


@dataclass(frozen=True, eq=False)
class Version(Generic[T]):
    """One version of an object.

    Attributes:
        number: the version's number, counted from 1.
        object: the object as it was, detached and read-only. What ``VersionOptions(exclude=...)`` leaves out is not loaded in it.
        changed: when this version ended, None for the current one.
        operation: what ended it; None for the current one and where ``VersionOptions(operation=True)`` is not set.
        revision: the revision that made it, where there are revisions. A detached instance of the class given as
            ``VersionOptions(revision=...)``.
        ended_by: the revision that ended it, None for the current one.
        current: whether it is the version in the main table.
    """

    number: int
    object: T
    changed: datetime | None
    operation: Operation | None
    revision: RevisionLog | None
    ended_by: RevisionLog | None
    current: bool


@dataclass(frozen=True)
class AssociationVersion:
    """A time for which two objects were associated.

    Attributes:
        target: the primary key of the object at the other end; a tuple where it has several columns.
        valid_from: when the association began.
        valid_to: when it ended, None while it lasts.
        revision: the revision that began it, where there are revisions.
        ended_by: the revision that ended it.
    """

    target: object
    valid_from: datetime
    valid_to: datetime | None
    revision: RevisionLog | None
    ended_by: RevisionLog | None
