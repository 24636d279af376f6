"""`SuppressedErrorWarning`: the warning of gathered statements whose errors are returned."""

from __future__ import annotations

from sqlalchemy.exc import SAWarning


class SuppressedErrorWarning(SAWarning):
    """An error is among the results, because ``return_exceptions=True`` asked for it."""
