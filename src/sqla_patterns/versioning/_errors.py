"""What can go wrong with versions."""

from __future__ import annotations

from sqlalchemy.orm.exc import StaleDataError

from ..exceptions import InvalidArgumentError, PatternError, StateError

__all__ = ("NoSuchVersionError", "NotVersionedError", "PastObjectError", "StaleVersionError", "UnversionedWriteError")


class NotVersionedError(InvalidArgumentError):
    """A class has no history, or its history was not asked to keep what is asked of it, for instance periods."""


class NoSuchVersionError(StateError):
    """The version, or the object, that is asked for does not exist."""


class PastObjectError(StateError):
    """An object from the past would be changed, or put into a session."""


class UnversionedWriteError(StateError):
    """A statement would change versioned rows in a way of which no history can be kept; it was not executed."""


class StaleVersionError(PatternError, StaleDataError):
    """A row that is to be changed or deleted is gone: another transaction has deleted it."""
