"""The errors that packages share.

Every error of the library derives from `PatternError` *and* from the SQLAlchemy error that it refines, so that code
which already catches ``sqlalchemy.exc.ArgumentError`` or ``InvalidRequestError`` keeps working:

>>> from sqla_patterns.exceptions import InvalidArgumentError, PatternError
>>> import sqlalchemy.exc
>>> issubclass(InvalidArgumentError, PatternError), issubclass(InvalidArgumentError, sqlalchemy.exc.ArgumentError)
(True, True)

An error that only one package raises lives in that package. The text of each names the object, the fault and the way
out. Errors are raised before the first write of the flush or function that meets them; the session is usable after
``rollback()``.
"""

from __future__ import annotations

from sqlalchemy import exc

__all__ = (
    "DuplicateKeyError",
    "InvalidArgumentError",
    "KeyMismatchError",
    "MappingError",
    "PatternError",
    "StateError",
)


class PatternError(Exception):
    """Base of the errors that the library itself raises."""


class InvalidArgumentError(PatternError, exc.ArgumentError):
    """An argument has the wrong type or value."""


class MappingError(PatternError, exc.ArgumentError):
    """A class cannot be mapped with a pattern; raised while the class is mapped, never later."""


class StateError(PatternError, exc.InvalidRequestError):
    """An object or a session is in the wrong state for the request, for instance an object that was not flushed yet."""


class DuplicateKeyError(PatternError, exc.InvalidRequestError):
    """Two members of one keyed collection would have the same key."""


class KeyMismatchError(InvalidArgumentError, ValueError):
    """A member is put into a keyed collection under a key that is not its own, or was made with another key."""
