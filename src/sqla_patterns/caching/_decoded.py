"""Entries that this process has decoded already, so that a hit need not fetch and decode them again."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ._replay import new_compiled_cache
from ._session_backend import SessionLocalBackend

if TYPE_CHECKING:
    from ._entries import Header
    from ._regions import Region
    from ._replay import RawRows

__all__ = ("DecodedRows",)

#: Nobody can change a value of these, so that hits may share it.
_IMMUTABLE: Final = frozenset(
    {type(None), bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID}
)


class DecodedRows:
    """Rows of the entries that were used last.

    They are checked against the stamps like those in the region, so that they are not older than what the region would have been allowed to
    serve. Rows with a value that could be changed are not kept.
    """

    def __init__(self, size: int) -> None:
        self._entries: Final[Any] = new_compiled_cache(size) if size else None

    def get(self, region: Region, key: str) -> tuple[Header, RawRows, int] | None:
        """The header, rows and encoded size of an entry."""
        return None if self._entries is None else self._entries.get((region, key))

    def keep(self, region: Region, key: str, header: Header, raw: RawRows, size: int) -> None:
        """Keep an entry that was decoded."""
        if self._entries is None or isinstance(region.actual_backend, SessionLocalBackend):
            return
        if {type(value) for row in raw.rows for value in row} <= _IMMUTABLE:
            self._entries[region, key] = (header, raw, size)
