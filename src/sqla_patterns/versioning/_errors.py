"""The exceptions of the package."""

from __future__ import annotations

from sqlalchemy.orm.exc import StaleDataError

from ..exceptions import InvalidArgumentError, PatternError, StateError


class NotVersionedError(InvalidArgumentError):
    """A class has no history, or its options do not keep what was asked for, for instance periods."""


class NoSuchVersionError(StateError):
    """The requested version or object does not exist."""


class PastObjectError(StateError):
    """An object from the past would be changed, or added to a session."""


class UnversionedWriteError(StateError):
    """A statement would change versioned rows without any way to write their history; it was not executed."""


class StaleVersionError(PatternError, StaleDataError):
    """What is to be changed is not the last state: its row was deleted, or a map has a newer version, elsewhere."""


def deleted_elsewhere(name: str, key: object) -> StaleVersionError:
    """Return the error about a row that another transaction has deleted, by the name of its class and its key."""
    return StaleVersionError(
        f"the row of {name} {key!r} was deleted by another transaction, so that no history of it can be kept"
    )
