"""The type of moments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..exceptions import InvalidArgumentError

__all__ = ("UTCDateTime", "aware")

if TYPE_CHECKING:
    _Decorator = TypeDecorator[datetime]
else:
    _Decorator = TypeDecorator


class UTCDateTime(_Decorator):
    """A moment with a time zone, always UTC when it is read, to the microsecond, also on databases that keep no time zone.

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
        """Send UTC; without its mark where the database would not take it."""
        if value is None:
            return None
        utc = aware(value).astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Migration scripts should name the public path.
UTCDateTime.__module__ = __name__.rpartition(".")[0]


def aware(moment: datetime) -> datetime:
    """`moment`, if it says which time zone it is in.

    Raises:
        InvalidArgumentError: it does not; guessing would be off by hours.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidArgumentError(
            f"{moment!r} has no time zone; give a moment that has one, for instance datetime.now(UTC)"
        )
    return moment
