"""The one clock of the room."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ("now",)


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)
