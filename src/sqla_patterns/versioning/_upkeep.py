"""Upkeep of history tables: `prune` and `seed`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

__all__ = ("prune", "seed")


def prune(session: Session, entity: type[Any], *, keep: int | None = None, before: datetime | None = None) -> int:
    """Delete old rows of history, and return how many.

    Args:
        entity: the versioned class; its whole hierarchy is pruned.
        keep: how many rows each object keeps, the newest ones, the current version aside.
        before: delete only versions that ended before this moment.

    With both, a row goes only if both allow it. One DELETE for each table.

    Raises:
        InvalidArgumentError: neither is given, `keep` is negative, or `before` has no time zone.
    """
    raise NotImplementedError


def seed(session: Session, entity: type[Any], *, batch_size: int = 1000) -> int:
    """Adopt a table that has rows from before it was versioned, and return how many rows were filled.

    Fills ``version``, ``valid_from`` and ``revision_id`` where they are NULL, and begins associations that have no history yet.
    """
    raise NotImplementedError
