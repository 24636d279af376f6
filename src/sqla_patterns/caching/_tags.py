"""Names of tables, and the tags under which a stamp store knows them.

A reader and a writer of a table must use the same tag, in whichever process, with whichever driver, host name or user.
A tag is therefore made of what names the table *inside* its database, and not of how the database is reached: a tag
that two tables share costs misses, whereas two tags for one table would let stale rows be served. Databases whose
tables have equal names share their tags, unless their engines have different values of the execution option
``cache_database``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias, cast

from sqlalchemy import Connection, Engine, FromClause, Table, TableClause, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import visitors

from .._typing import AnyMapper
from ..exceptions import InvalidArgumentError

#: The tag that every read depends on, and that a write to unknown tables stamps.
EVERYTHING: Final = "*"
_DATABASE_OPTION: Final = "cache_database"

SchemaMap: TypeAlias = Mapping[str | None, str | None]


class TableName(NamedTuple):
    """A table as its metadata names it: before ``schema_translate_map``, and without the schema of the connection."""

    schema: str | None
    name: str


def tables_of(thing: object) -> frozenset[TableName]:
    """Return the tables of a mapped class, a table, or a name as in ``"address"`` or ``"shop.address"``.

    Raises:
        InvalidArgumentError: `thing` is none of these.
    """
    if isinstance(thing, str):
        schema, _, name = thing.rpartition(".")
        return frozenset({TableName(schema or None, name)})
    inspected: object = inspect(thing, raiseerr=False)
    # An alias of a class has its mapper.
    mapper: object = inspected if _is(inspected, Mapper) else getattr(inspected, "mapper", None)
    if _is(mapper, Mapper):
        return frozenset(name for table in cast("AnyMapper", mapper).tables for name in tables_in(table))
    if _is(inspected, FromClause):
        return tables_in(cast(FromClause, inspected))
    raise InvalidArgumentError(f"{thing!r} names no table: give a mapped class, a Table, or the name of a table.")


def tables_in(element: FromClause) -> frozenset[TableName]:
    """Return the names of the tables that `element` consists of."""
    return frozenset(
        table_name(cast(TableClause, part)) for part in visitors.iterate(element) if _is(part, TableClause)
    )


def table_name(table: TableClause) -> TableName:
    """Return the name of one table."""
    # table() has a schema too, which its type does not tell.
    schema: str | None = getattr(table, "schema", None)
    return TableName(schema, table.name)


def _is(thing: object, kind: type) -> bool:
    # Narrowing to generic classes would leave type parameters that checkers do not know.
    return isinstance(thing, kind)


def real_tables(element: FromClause) -> frozenset[Table]:
    """Return those tables of `element` that have metadata, without annotations of the ORM."""
    found = [cast(Table, part) for part in visitors.iterate(element) if _is(part, Table)]
    return frozenset(part.metadata.tables.get(part.key, part) for part in found)


def expand(tables: Iterable[TableName], depends: Mapping[TableName, frozenset[TableName]]) -> frozenset[TableName]:
    """Return `tables`, and what the views among them are declared to read."""
    found: set[TableName] = set()
    pending = set(tables)
    while pending:
        name = pending.pop()
        found.add(name)
        pending |= depends.get(name, frozenset()) - found
    return frozenset(found)


def table_tags(
    bind: Engine | Connection, tables: Collection[TableName], schema_map: SchemaMap | None = None
) -> frozenset[str]:
    """Return the tags of `tables` in the database of `bind`.

    A table without a schema is in the default schema of the connection, and has the same tag as if the name of that
    schema were given. The engine asks its database for that name once, when it first connects.
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
    """Return the name that the execution option ``cache_database`` gives the database, or an empty one."""
    return str(bind.get_execution_options().get(_DATABASE_OPTION, ""))


def schema_map_of(bind: Engine | Connection, options: Mapping[str, object] | None = None) -> SchemaMap | None:
    """Return the ``schema_translate_map`` of a statement with `options` on `bind`."""
    given = (options or {}).get("schema_translate_map")
    if given is None:
        given = bind.get_execution_options().get("schema_translate_map")
    return cast("SchemaMap | None", given)


def _default_schema(bind: Engine | Connection) -> str:
    dialect = bind.dialect
    if dialect.name == "sqlite":
        return "main"
    if dialect.default_schema_name is None and isinstance(bind, Engine):
        with bind.connect():  # The first connection finds it out.
            pass
    return dialect.default_schema_name or ""
