"""Read, close and insert rows by Core statements, each for a thousand rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, Update, func, insert, null, select, update

from ..._declarative import keep_onupdate
from ..._sql import chunks, key_in, qualified_name, structural
from ..._typing import AnyColumn, PrimaryKey
from .._errors import StaleVersionError
from ._config import IS_CURRENT, OBJECT_ID, VALID_TO, KeyValues, TemporalConfig

#: The values of a row by the key of the column, as an INSERT takes them.
Row: TypeAlias = Mapping[str, Any]


def read_rows(
    connection: Connection, config: TemporalConfig, keys: Iterable[KeyValues], columns: Sequence[AnyColumn]
) -> dict[KeyValues, Row]:
    """Return columns of the rows with these primary keys, as an INSERT takes them; one SELECT for a thousand."""
    # None stands for a JSON null as well as for NULL in what is read, and for a JSON null in what is written.
    ambiguous = [column for column in columns if column.type.should_evaluate_none]
    flags = [column.is_(None).label(f"_null_{number}") for number, column in enumerate(ambiguous)]
    statement: Select[Any] = select(*config.key, *columns, *flags)
    width = len(config.key)
    found: dict[KeyValues, Row] = {}
    for chunk in chunks(keys):
        for row in connection.execute(structural(statement.where(key_in(config.key, chunk)))):
            values = dict(zip((column.key for column in columns), row[width:], strict=False))
            for column, is_null in zip(ambiguous, row[width + len(columns) :], strict=True):
                if is_null:
                    values[column.key] = null()
            found[tuple(row[:width])] = values
    return found


def close_rows(
    connection: Connection, config: TemporalConfig, ends: Mapping[KeyValues, datetime | None], action: str
) -> None:
    """Close current rows, each with the time of its end; one UPDATE for a thousand that end at the same time.

    Args:
        connection: A connection to the database of the rows.
        config: Their class.
        ends: The time at which each row ends, by primary key; None for rows without times.
        action: What is being done to the objects, for the error.

    Raises:
        StaleVersionError: One of the rows is not current any more.
    """
    by_end: dict[datetime | None, list[KeyValues]] = {}
    for key, end in ends.items():
        by_end.setdefault(end, []).append(key)
    for end, keys in by_end.items():
        values: dict[AnyColumn, Any] = keep_onupdate(config.table) | closing_values(config, end)
        closing = structural(update(config.table).where(config.is_current()).values(values))
        for chunk in chunks(keys):
            if connection.dialect.update_returning and len(config.key) > len(config.stable) == 1:
                missing = _close_by_object(connection, config, closing, chunk)
            else:
                closed = connection.execute(closing.where(key_in(config.key, chunk)))
                missing = chunk if closed.rowcount != len(chunk) else []
            if missing:
                raise not_current(config, missing, action)


def _close_by_object(
    connection: Connection, config: TemporalConfig, closing: Update, keys: Sequence[KeyValues]
) -> list[KeyValues]:
    """Close the current rows of objects, and return those of the keys that were not among them.

    PostgreSQL compares each row with each of a thousand tuples, and looks single values up.
    """
    (column,) = config.stable
    position = list(config.key).index(column)
    statement = closing.where(column.in_([key[position] for key in keys])).returning(*config.key)
    closed = {tuple(row) for row in connection.execute(statement)}
    return [key for key in keys if key not in closed]


def closing_values(config: TemporalConfig, end: datetime | None) -> dict[AnyColumn, Any]:
    """Return what is set in a row that is closed."""
    values: dict[AnyColumn, Any] = {}
    if config.form != "temporal":
        values[config.column(IS_CURRENT)] = False
    if config.has_time:
        values[config.column(VALID_TO)] = end
    return values


def not_current(config: TemporalConfig, keys: Sequence[KeyValues], action: str) -> StaleVersionError:
    """Return the error about versions, one of which at least is closed by now."""
    which = f"{config.name} {keys[0]!r} is" if len(keys) == 1 else f"of {len(keys)} {config.name} rows, one at least is"
    return StaleVersionError(
        f"{which} not the current version any more, since another transaction has changed or deleted the object, and "
        f"it cannot be {action}; roll back, load the current version and try again"
    )


def insert_rows(connection: Connection, config: TemporalConfig, rows: Sequence[dict[str, Any]]) -> list[PrimaryKey]:
    """Insert current rows, in one executemany, and return the keys that were made for them.

    Returns:
        For a `CopiedRow` class, the new ``id`` of each row, in the order of the rows, for which there is one SELECT for
        a thousand; nothing for the others, whose keys the rows tell.
    """
    inserting = structural(insert(config.table))
    if config.form != "copied":
        connection.execute(inserting, rows)
        return []
    (key,) = config.key
    numbers = _next_numbers(connection, key, len(rows))
    if numbers:
        connection.execute(inserting, [{**row, key.key: number} for row, number in zip(rows, numbers, strict=True)])
        return numbers
    # Not by RETURNING: SQLite would take one statement for each row to return them in order, and MySQL has none.
    connection.execute(inserting, rows)
    object_id = config.column(OBJECT_ID)
    wanted = [row[object_id.key] for row in rows]
    made: dict[PrimaryKey, PrimaryKey] = {}
    for chunk in chunks(wanted):
        statement = select(object_id, key).where(object_id.in_(chunk), config.is_current())
        made.update(tuple(row) for row in connection.execute(structural(statement)))
    return [made[each] for each in wanted]


def _next_numbers(connection: Connection, key: AnyColumn, count: int) -> list[PrimaryKey]:
    """Return numbers for new rows from the sequence of a column on PostgreSQL, nothing where the INSERT makes them."""
    always = key.identity is not None and key.identity.always
    if connection.dialect.name != "postgresql" or key.default is not None or always:
        return []
    sequence = func.pg_get_serial_sequence(qualified_name(connection, key.table), key.name)
    # In a subquery, so that the sequence is looked up once.
    number = func.nextval(select(func.to_regclass(sequence)).scalar_subquery())
    found = connection.scalars(structural(select(number).select_from(func.generate_series(1, count).alias()))).all()
    return [] if None in found else list(found)


def last_versions(
    connection: Connection, config: TemporalConfig, keys: Iterable[KeyValues], columns: Sequence[AnyColumn]
) -> dict[KeyValues, Sequence[Any]]:
    """Return the highest values of `columns` among all rows of the objects with these stable keys.

    One SELECT for a thousand; objects without a row are missing.
    """
    statement: Select[Any] = select(*config.stable, *map(func.max, columns)).group_by(*config.stable)
    width = len(config.stable)
    found: dict[KeyValues, Sequence[Any]] = {}
    for chunk in chunks(keys):
        for row in connection.execute(structural(statement.where(key_in(config.stable, chunk)))):
            found[tuple(row[:width])] = row[width:]
    return found
