"""The errors that only the cache raises."""

from __future__ import annotations

from sqlalchemy import exc

from ..exceptions import InvalidArgumentError, PatternError

__all__ = (
    "CacheMiss",
    "UncacheableParameterError",
    "UncacheableStatementError",
    "UnknownRegionError",
    "UnsafeCodecError",
)


class CacheMiss(PatternError, exc.InvalidRequestError, LookupError):  # noqa: N818 - what everybody calls it
    """A statement that may only be answered from the cache (``ignore_expiration=True``) is not in it."""


class UnknownRegionError(InvalidArgumentError, KeyError):
    """An option names a region that the cache was not given."""

    def __str__(self) -> str:
        # KeyError would show the repr() of the text.
        return str(self.args[0])


class UncacheableStatementError(PatternError, exc.InvalidRequestError):
    """A statement with a cache option of which nobody can tell which tables it reads."""


class UncacheableParameterError(PatternError, exc.InvalidRequestError):
    """A parameter, or a ``vary`` value, has no form that is the same in every process."""


class UnsafeCodecError(InvalidArgumentError):
    """A codec that would run whatever a cache entry contains was asked for without a secret to sign entries with."""
