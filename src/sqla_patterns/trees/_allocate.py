"""Primary keys for new rows ahead of their INSERT, so that one batch can hold parents and children."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from sqlalchemy import Column, Connection, Table, func, select, text
from sqlalchemy.types import Integer

from ._config import TreeConfig
from ._data import Entry

__all__ = ("allocate_keys",)


def allocate_keys(
    connection: Connection, config: TreeConfig, entries: list[Entry], unknown: list[Entry]
) -> list[Any] | None:
    """Keys for the new rows that have none, ahead of their INSERT, or None where only the INSERT can make them."""
    pk, table = config.pk, config.table
    default = cast("Any", pk.default)
    if default is not None and default.is_callable:
        return [default.arg(_DefaultContext(entry)) for entry in unknown]
    if default is not None:
        return None
    if not isinstance(pk.type, Integer) or pk.server_default is not None or table.autoincrement_column is not pk:
        return None
    dialect = connection.dialect.name
    given = [entry.pk for entry in entries if entry.pk is not None]
    if dialect == "sqlite":
        # The write lock is held, and SQLite has one writer: nobody else takes these numbers.
        highest = [connection.scalar(select(func.max(pk))) or 0, *given]
        if table.dialect_options["sqlite"]["autoincrement"]:
            used = f"SELECT seq FROM {_qualified(connection, table, 'sqlite_sequence')} WHERE name = :name"
            highest.append(connection.execute(text(used), {"name": table.name}).scalar() or 0)
        first: int = max(highest) + 1
        return list(range(first, first + len(unknown)))
    if dialect == "postgresql" and not (pk.identity is not None and pk.identity.always):
        return _from_sequence(connection, table, pk.name, len(unknown), set(given))
    return None


class _DefaultContext:
    """What a column default that takes an argument may ask: the other values of the row."""

    def __init__(self, entry: Entry) -> None:
        attrs = entry.mapper.column_attrs
        self.current_parameters = {
            column.key: entry.values[attr.key]
            for attr in attrs
            if attr.key in entry.values
            for column in attr.columns
            if isinstance(column, Column)
        }

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:
        return self.current_parameters


def _qualified(connection: Connection, table: Table, name: str) -> str:
    """`name` in the schema of `table`, which the user's ``schema_translate_map`` may have renamed."""
    options = connection.get_execution_options()
    translated = cast("dict[str | None, str | None]", options.get("schema_translate_map") or {})
    schema = translated.get(table.schema, table.schema)
    preparer = connection.dialect.identifier_preparer
    return f"{preparer.quote_schema(schema)}.{preparer.quote(name)}" if schema else preparer.quote(name)


def _from_sequence(
    connection: Connection, table: Table, column: str, count: int, given: Collection[Any]
) -> list[Any] | None:
    name = connection.scalar(select(func.pg_get_serial_sequence(_qualified(connection, table, table.name), column)))
    if name is None:
        return None
    keys: list[Any] = []
    while len(keys) < count:
        # A number that the data give to another node is skipped.
        numbers = func.generate_series(1, count - len(keys)).table_valued("n")
        drawn = connection.scalars(select(func.nextval(name)).select_from(numbers))
        keys += [key for key in drawn if key not in given]
    return keys
