"""`VersionOptions`: the options of a versioned class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ._revision_log import RevisionLog


Granularity = Literal["flush", "transaction"]


@dataclass(frozen=True, kw_only=True)
class VersionOptions:
    """Options of a versioned class, given as ``__versioned__ = VersionOptions(...)`` in the class body.

    Without options, the columns are exactly those of SQLAlchemy's recipe. The classes of an inheritance hierarchy share
    the options of its root.

    Attributes:
        period: Store when each version began and ended: ``valid_from`` on the main table, ``valid_from`` and
            ``valid_to`` on the history table. A version holds at ``valid_from`` and no longer at ``valid_to``.
            `version_at` and `as_of` need this option.
        operation: Store what ended a version, ``"update"`` or ``"delete"``, in a column of the history table.
        revision: A class mapped with `RevisionLog`. ``revision_id`` on both tables refers to the revision that made a
            version, ``ended_by_id`` on the history table to the revision that ended it.
        granularity: With ``"flush"``, each flush that changes an object makes a version, as in SQLAlchemy's recipe.
            With ``"transaction"``, each revision makes at most one, or each transaction where there are no revisions.
            This needs `period` or `revision`, which tell what the transaction has already made.
        exclude: Names of attributes whose columns are left out of the history. A change of these alone makes no
            version.
        ignore: Names of attributes that are stored in the history, but whose change alone makes no version.
        associations: Names of many-to-many relationships whose rows have a history too.
    """

    period: bool = False
    operation: bool = False
    revision: type[RevisionLog] | None = None
    granularity: Granularity = "flush"
    exclude: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    associations: tuple[str, ...] = ()
