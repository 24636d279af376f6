"""`DeletedAt`, the column type for the time at which a row was deleted, and the clock that makes these times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import DateTime
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

if TYPE_CHECKING:
    _Decorator = TypeDecorator[datetime]
else:
    _Decorator = TypeDecorator


class DeletedAt(_Decorator):
    """A column type for moments in UTC, to the microsecond, also on databases that keep no time zone.

    Public because Alembic writes its name into migration scripts.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """MariaDB and MySQL cut seconds whole unless told."""
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Send UTC; without its mark where the database would not take it. What has no zone counts as UTC."""
        if value is None:
            return None
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Migration scripts should name the public path.
DeletedAt.__module__ = __name__.rpartition(".")[0]


class _Clock:
    """Moments that strictly increase, however coarse or unsteady the clock of the machine is."""

    def __init__(self) -> None:
        self._lock: Final = Lock()
        self._last = datetime.min.replace(tzinfo=UTC)

    def next(self) -> datetime:
        with self._lock:
            self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
            return self._last


_CLOCK: Final = _Clock()


def next_stamp() -> datetime:
    """Return the present moment, later than every other one that this process was given."""
    return _CLOCK.next()
