"""Names of tables, and the tags under which a stamp store knows them.

Whoever reads a table and whoever writes it must arrive at one tag, in whichever process, over whichever driver, host name or user. A tag is
therefore made of what names the table *inside* its database, and of nothing that names the way there: being too coarse costs a miss, being too fine serves what is
stale. Databases whose tables have equal names share their tags, unless their engines are told apart by the execution option ``cache_database``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

from sqlalchemy import Connection, Engine, FromClause, Table, TableClause, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import visitors

from ..exceptions import InvalidArgumentError

__all__ = (
    "EVERYTHING",
    "SchemaMap",
    "TableName",
    "database_of",
    "expand",
    "schema_map_of",
    "table_name",
    "table_tags",
    "tables_in",
    "tables_of",
)

#: The tag that every read depends on, and that a write of unknown tables stamps.
EVERYTHING: Final = "*"
_DATABASE_OPTION: Final = "cache_database"

SchemaMap: TypeAlias = Mapping[str | None, str | None]


class TableName(NamedTuple):
    """A table as its metadata names it: before ``schema_translate_map``, and without the schema of the connection."""

    schema: str | None
    name: str


def tables_of(thing: object) -> frozenset[TableName]:
    """The tables behind a mapped class, a table, or a name as in ``"address"`` or ``"shop.address"``.

    Raises:
        InvalidArgumentError: `thing` is none of these.
    """
    if isinstance(thing, str):
        schema, _, name = thing.rpartition(".")
        return frozenset({TableName(schema or None, name)})
    inspected: Any = inspect(thing, raiseerr=False)
    # An alias of a class leads to the class.
    mapper: Any = inspected if _is(inspected, Mapper) else getattr(inspected, "mapper", None)
    if _is(mapper, Mapper):
        tables: list[FromClause] = list(mapper.tables)
        return frozenset(name for table in tables for name in tables_in(table))
    if _is(inspected, FromClause):
        return tables_in(cast(FromClause, inspected))
    raise InvalidArgumentError(f"{thing!r} names no table: give a mapped class, a Table, or the name of a table.")


def tables_in(element: FromClause) -> frozenset[TableName]:
    """The tables that `element` consists of."""
    return frozenset(
        table_name(cast(TableClause, part)) for part in visitors.iterate(element) if _is(part, TableClause)
    )


def table_name(table: TableClause) -> TableName:
    """The name of one table; ``table()`` has a schema too, which its type does not tell."""
    return TableName(cast("str | None", getattr(table, "schema", None)), table.name)


def _is(thing: object, kind: type[Any]) -> bool:
    # Narrowing to classes that are generic, or that checkers cannot see through, would leave unknown types behind.
    return isinstance(thing, kind)


def real_tables(element: FromClause) -> frozenset[Table]:
    """Those of the tables of `element` that have metadata, without annotations of the ORM."""
    found = [cast(Table, part) for part in visitors.iterate(element) if _is(part, Table)]
    return frozenset(part.metadata.tables.get(part.key, part) for part in found)


def expand(tables: Iterable[TableName], depends: Mapping[TableName, frozenset[TableName]]) -> frozenset[TableName]:
    """`tables`, and what the views among them are declared to read."""
    found: set[TableName] = set()
    open_ = set(tables)
    while open_:
        name = open_.pop()
        found.add(name)
        open_ |= depends.get(name, frozenset()) - found
    return frozenset(found)


def table_tags(
    bind: Engine | Connection, tables: Collection[TableName], schema_map: SchemaMap | None = None
) -> frozenset[str]:
    """The tags of `tables` in the database of `bind`.

    A table without a schema is in the default schema of the connection, so that the tag is that of the same table where somebody gives the
    schema's name. The engine asks its database for that name once, when it first connects.
    """
    database = database_of(bind)
    default: str | None = None
    tags: set[str] = set()
    for schema, name in tables:
        if schema_map:
            schema = schema_map.get(schema, schema)
        if schema is None:
            default = default or _default_schema(bind)
            schema = default
        tags.add(f"t:{database}|{schema}.{name}")
    return frozenset(tags)


def database_of(bind: Engine | Connection) -> str:
    """The name that the execution option ``cache_database`` gives the database, or nothing."""
    options: Mapping[str, Any] = bind.get_execution_options()
    return str(options.get(_DATABASE_OPTION, ""))


def schema_map_of(bind: Engine | Connection, options: Mapping[str, Any] | None = None) -> SchemaMap | None:
    """The ``schema_translate_map`` of a statement with `options` on `bind`."""
    given: SchemaMap | None = (options or {}).get("schema_translate_map")
    if given is None:
        given = cast("Mapping[str, Any]", bind.get_execution_options()).get("schema_translate_map")
    return given


def _default_schema(bind: Engine | Connection) -> str:
    dialect = bind.dialect
    if dialect.name == "sqlite":
        return "main"
    if dialect.default_schema_name is None and isinstance(bind, Engine):
        with bind.connect():  # The first connection is what tells.
            pass
    return dialect.default_schema_name or ""
