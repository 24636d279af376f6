"""The options of a class with temporal rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OnDelete = Literal["close", "delete"]


@dataclass(frozen=True, kw_only=True)
class TemporalOptions:
    """Options of a class with temporal rows, given as ``__temporal__ = TemporalOptions(...)`` in the class body.

    Attributes:
        on_delete: What the deletion of an object does. With ``"close"`` its current row is closed and stays, with
            ``"delete"`` the current row is removed and the closed ones stay.
        period: For `VersionedRow` and `CopiedRow`: store when each version began and ended, in ``valid_from`` and
            ``valid_to``, so that `valid_at` works. A `TemporalRow` always has both.
        no_overlap: Have PostgreSQL refuse, at the commit, two versions of an object whose periods overlap, whoever
            writes them: an exclusion constraint, for which its extension ``btree_gist`` must be installed. On other
            databases it is an error at ``create_all()``.
    """

    on_delete: OnDelete = "close"
    period: bool = False
    no_overlap: bool = False
