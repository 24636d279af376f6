"""The errors that only the cache raises."""

from __future__ import annotations

from sqlalchemy import exc

from ..exceptions import InvalidArgumentError, PatternError


class CacheMiss(PatternError, exc.InvalidRequestError, LookupError):  # noqa: N818 - what everybody calls it
    """A statement that may only be answered from the cache (``ignore_expiration=True``) is not in it."""


def cache_miss(region: str, sql: str, reason: str) -> CacheMiss:
    """Return the error for a statement that may only be answered from the cache, and cannot be."""
    return CacheMiss(
        f"The cache cannot answer {sql[:500]!r} from region {region!r} ({reason}), and ignore_expiration=True forbids "
        "to ask the database; run the statement once without it, or catch CacheMiss and do so then."
    )


class UnknownRegionError(InvalidArgumentError, KeyError):
    """An option names a region that the cache was not given."""

    def __str__(self) -> str:
        # KeyError would show the repr() of the text.
        return str(self.args[0])


class UncacheableStatementError(PatternError, exc.InvalidRequestError):
    """A statement has a cache option, and its SQL does not show which tables it reads."""


class UncacheableParameterError(PatternError, exc.InvalidRequestError):
    """A ``vary`` value cannot be part of a cache key, as it has no form that is the same in every process.

    A statement with such a parameter goes to the database instead.
    """


class UnsafeCodecError(InvalidArgumentError):
    """A `PickleCodec`, which can run code from entries, was made without a secret of sufficient length to sign them."""
