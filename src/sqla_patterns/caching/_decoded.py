"""The entries that this process used last, decoded, so that a hit need not read them from the region again."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from uuid import UUID

from ._replay import new_lru_cache
from ._session_backend import SessionLocalBackend

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from ._entries import Header
    from ._regions import Region
    from ._replay import RawRows

#: Types of values that cannot be changed, so that hits may share them.
_IMMUTABLE: Final = frozenset(
    {type(None), bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID}
)


class DecodedRows:
    """The decoded rows of the entries that were used last.

    They are checked against the stamps like those in the region, so that they are never older than what the region
    would have been allowed to serve. Rows with a value that could be changed are not kept.

    Args:
        size: How many entries to keep; 0 is none.
    """

    def __init__(self, size: int) -> None:
        self._entries: Final[MutableMapping[tuple[Region, str], tuple[Header, RawRows, int]] | None] = (
            new_lru_cache(size) if size else None
        )

    def get(self, region: Region, key: str) -> tuple[Header, RawRows, int] | None:
        """Return the header, the rows and the encoded size of an entry."""
        return None if self._entries is None else self._entries.get((region, key))

    def keep(self, region: Region, key: str, header: Header, raw: RawRows, size: int) -> None:
        """Keep an entry that was decoded."""
        if self._entries is None or isinstance(region.actual_backend, SessionLocalBackend):
            return
        if {type(value) for row in raw.rows for value in row} <= _IMMUTABLE:
            self._entries[region, key] = (header, raw, size)
