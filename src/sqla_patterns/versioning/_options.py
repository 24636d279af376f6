"""What a versioned class configures: one frozen object in ``__versioned__``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ._revision_log import RevisionLog

__all__ = ("Granularity", "VersionOptions")

Granularity = Literal["flush", "transaction"]


@dataclass(frozen=True, kw_only=True)
class VersionOptions:
    """Options of a versioned class, given as ``__versioned__ = VersionOptions(...)`` in the class body.

    Without any, the columns are exactly those of the upstream recipe. Subclasses of a hierarchy share the options of its root.

    Attributes:
        period: keep when each version began and ended: ``valid_from`` on the main table, ``valid_from`` and ``valid_to`` on the history
            table, half open. `version_at` and `as_of` need it.
        operation: keep what ended a version, ``"update"`` or ``"delete"``, in a column of the history table.
        revision: a class mapped with `RevisionLog`. ``revision_id`` on both tables names the revision that made a version, ``ended_by_id``
            on the history table the one that ended it.
        granularity: ``"flush"`` makes a version with each flush that changes an object, as upstream does; ``"transaction"`` one with
            each revision, or where there is none with each transaction. It needs `period` or `revision` to tell what a
            transaction has made already.
        exclude: names of attributes whose columns are left out of history. A change of these alone makes no version.
        ignore: names of attributes that are kept in history, but whose change alone makes no version.
        associations: names of many-to-many relationships whose rows have a history too.
    """

    period: bool = False
    operation: bool = False
    revision: type[RevisionLog] | None = None
    granularity: Granularity = "flush"
    exclude: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    associations: tuple[str, ...] = ()
