"""The values that describe versions: what the reading functions return, and what a transaction writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, NamedTuple, TypeVar

from .._typing import PrimaryKey
from ._revision_log import RevisionLog

T = TypeVar("T")

Operation = Literal["update", "delete"]


@dataclass(frozen=True, eq=False)
class Version(Generic[T]):
    """One version of an object.

    Attributes:
        number: The number of the version, counted from 1.
        object: The object as it was, detached and read-only. Attributes that ``VersionOptions(exclude=...)`` leaves out
            are not loaded.
        changed: When this version ended; None for the current one.
        operation: What ended it; None for the current one, and without ``VersionOptions(operation=True)``.
        revision: The revision that made it, where there are revisions: a detached instance of the class given as
            ``VersionOptions(revision=...)``.
        ended_by: The revision that ended it; None for the current one.
        current: Whether it is the version in the main table.
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
    """A period during which two objects were associated.

    Attributes:
        target: The primary key of the object at the other end; a tuple where it has several columns.
        valid_from: When the association began.
        valid_to: When it ended; None while it lasts.
        revision: The revision that began it, where there are revisions.
        ended_by: The revision that ended it.
    """

    target: object
    valid_from: datetime
    valid_to: datetime | None
    revision: RevisionLog | None
    ended_by: RevisionLog | None


class VersionStamp(NamedTuple):
    """What a transaction writes into the versions that it makes and ends.

    Attributes:
        moment: The time of the transaction.
        revision: The primary key of the revision, None where there are no revisions.
    """

    moment: datetime
    revision: PrimaryKey
