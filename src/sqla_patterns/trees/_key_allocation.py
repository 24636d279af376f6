"""Primary keys for new rows ahead of their INSERT, so that one batch can hold parents and children."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

from sqlalchemy import Column, ColumnDefault, Connection, Table, func, select, text
from sqlalchemy.types import Integer

from .._typing import PrimaryKey
from ._config import TreeConfig
from ._nested_data import NewRow


def allocate_primary_keys(
    connection: Connection, config: TreeConfig, rows: list[NewRow], unknown: list[NewRow]
) -> list[PrimaryKey] | None:
    """Return primary keys for the new rows that have none, or None where only the INSERT can make them.

    Args:
        connection: The connection of the tree, which holds the lock of the place.
        config: The tree.
        rows: All new rows.
        unknown: Those that need a key.
    """
    pk, table = config.pk, config.table
    default = pk.default
    if default is not None:
        if not isinstance(default, ColumnDefault) or not default.is_callable:
            return None
        return [default.arg(_DefaultContext(row)) for row in unknown]
    if not isinstance(pk.type, Integer) or pk.server_default is not None or table.autoincrement_column is not pk:
        return None
    dialect = connection.dialect.name
    given = [row.pk for row in rows if row.pk is not None]
    if dialect == "sqlite":
        # The write lock is held, and SQLite has one writer: no other transaction takes these numbers.
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
    """The context of a column default that takes one: it gives access to the other values of the row."""

    def __init__(self, row: NewRow) -> None:
        attrs = row.mapper.column_attrs
        self.current_parameters: dict[str, object] = {
            column.key: row.values[attr.key]
            for attr in attrs
            if attr.key in row.values
            for column in attr.columns
            if isinstance(column, Column)
        }

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, object]:
        """Return the values of the row, by the key of the column."""
        return self.current_parameters


def _qualified(connection: Connection, table: Table, name: str) -> str:
    """Return `name` in the schema of `table`, which the user's ``schema_translate_map`` may have renamed."""
    options = connection.get_execution_options()
    translated = cast("Mapping[str | None, str | None]", options.get("schema_translate_map") or {})
    schema = translated.get(table.schema, table.schema)
    preparer = connection.dialect.identifier_preparer
    return f"{preparer.quote_schema(schema)}.{preparer.quote(name)}" if schema else preparer.quote(name)


def _from_sequence(
    connection: Connection, table: Table, column: str, count: int, given: Collection[PrimaryKey]
) -> list[PrimaryKey] | None:
    """Return numbers of the sequence of a column, None if it has none."""
    name = connection.scalar(select(func.pg_get_serial_sequence(_qualified(connection, table, table.name), column)))
    if name is None:
        return None
    keys: list[PrimaryKey] = []
    while len(keys) < count:
        # A number that the data give to another node is skipped.
        numbers = func.generate_series(1, count - len(keys)).table_valued("n")
        drawn = connection.scalars(select(func.nextval(name)).select_from(numbers))
        keys += [key for key in drawn if key not in given]
    return keys
