"""The errors about keys and values."""

from __future__ import annotations

from ..exceptions import InvalidArgumentError, StateError


class UnknownKeyError(InvalidArgumentError, KeyError):
    """A key cannot be written: it is not in the schema, or is no string that the table can store."""


class UnsupportedValueError(InvalidArgumentError, TypeError):
    """No value column, or not the one that the schema asks for, takes values of this type."""


class UnstorableValueError(InvalidArgumentError, ValueError):
    """A value has a supported type, but would be different when it is read again from its column."""


class MissingKeyError(StateError):
    """An object is about to be flushed without a key that its schema requires."""


for _error in (UnknownKeyError, UnsupportedValueError, UnstorableValueError, MissingKeyError):
    # Tracebacks and the documentation should name the public path.
    _error.__module__ = __name__.rpartition(".")[0]
