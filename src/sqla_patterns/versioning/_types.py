"""`UTCDateTime`: the column type of times, and the check that a time has a time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from .._typing import AnyType
from ..exceptions import InvalidArgumentError

if TYPE_CHECKING:
    _Decorator = TypeDecorator[datetime]
else:
    _Decorator = TypeDecorator


class UTCDateTime(_Decorator):
    """A column type for times with a time zone, to the microsecond, also on databases that store none.

    Values are converted to UTC when they are written, and are in UTC when they are read. The class is public because
    Alembic writes its name into migration scripts.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> AnyType:
        """Return the type for a dialect; without ``fsp``, MariaDB and MySQL would cut off fractions of seconds."""
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def bind_processor(self, dialect: Dialect) -> Any:
        """Return the function that makes values ones of the database; faster than `process_bind_param`."""
        write: Callable[[Any], object] | None = self.load_dialect_impl(dialect).bind_processor(dialect)

        def process(value: Any) -> object:
            found = self.process_bind_param(value, dialect)
            return found if write is None or found is None else write(found)

        def process_text(value: Any) -> object:
            # As SQLAlchemy writes it, without the time zone.
            return None if value is None else aware(value).astimezone(UTC).isoformat(" ", "microseconds")[:26]

        return process_text if dialect.name == "sqlite" else process

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a value to UTC, and drop its time zone for databases that accept none."""
        if value is None:
            return None
        utc = aware(value).astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return the function that makes values of the database ones with UTC as their time zone.

        `process_result_value` does the same. This takes a third of the time, for SQLite a sixth: `datetime.replace()`
        is slow, and reading a text with a time zone is not.
        """
        read: Callable[[Any], datetime | None] | None = self.load_dialect_impl(dialect).result_processor(
            dialect, coltype
        )

        def process(value: Any) -> datetime | None:
            found = value if read is None or value is None else read(value)
            if found is None:
                return None
            if found.tzinfo is None:
                return datetime.combine(found, found.time(), UTC)
            return found if found.tzinfo is UTC else found.astimezone(UTC)

        def process_text(value: Any) -> datetime | None:
            if value is None:
                return None
            try:
                return datetime.fromisoformat(value + "+00:00")
            except (TypeError, ValueError):
                return process(value)  # not as SQLAlchemy has written it

        return process_text if dialect.name == "sqlite" else process

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return a value of the database with UTC as its time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Migration scripts shall name the public path.
UTCDateTime.__module__ = __name__.rpartition(".")[0]


def aware(moment: object) -> datetime:
    """Return `moment`, which must be a datetime with a time zone.

    Raises:
        InvalidArgumentError: `moment` has no time zone, so that a guess could be wrong by hours, or it is something
            else, for instance a date.
    """
    if not isinstance(moment, datetime):
        raise InvalidArgumentError(
            f"{moment!r} is no datetime; give a moment with a time zone, for instance datetime.now(UTC)"
        )
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidArgumentError(
            f"{moment!r} has no time zone; give a moment that has one, for instance datetime.now(UTC)"
        )
    return moment
