"""Shards: names, and the engine of each, in three layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from weakref import WeakSet

from sqlalchemy import Connection, Engine, ExceptionContext, MetaData, event, inspect, literal, select

from .._typing import AnyExpression
from ..exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

AnyEngine: TypeAlias = "Engine | AsyncEngine"

#: The execution option of an engine with the name of its shard.
SHARD: Final = "sqla_patterns_shard"
_PREFIX: Final = "sqla_patterns_prefix"
# A schema of this name stands for a prefix until the statement is complete. It is quoted, since it has a colon.
_MARKER: Final = re.compile(r"""(["`\[])sqla_patterns_prefix:([^"`\]]*)["`\]]\.(["`\[]?)([^\s"`\].,();]+)(["`\]]?)""")
_INDEX: Final = re.compile(r"(CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?)(\S+)( ON )(\S+)", re.IGNORECASE)


def sync_engine_of(engine: AnyEngine) -> Engine:
    """Return the sync engine behind an async one, and any other as it is."""
    found: Any = engine
    return cast("Engine", getattr(found, "sync_engine", found))


class Shards:
    """The shards of a sharded session, by name.

    Made by `from_engines`, `from_schemas` or `from_table_prefix`. All are databases of one kind.

    Attributes:
        engines: The engine of each shard. It carries the name of the shard as an execution option, and shares the pool
            of the engine that it was made from.
    """

    engines: Mapping[str, Engine]

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        wrong = [each for each in cast("Iterable[object]", engines) if not isinstance(each, str)]
        if wrong or not engines:
            raise InvalidArgumentError(f"Shard ids are strings, at least one; given: {list(engines)!r}")
        kinds = {engine.dialect.name for engine in engines.values()}
        if len(kinds) > 1:
            raise InvalidArgumentError(
                f"Shards are databases of one kind, and these are {', '.join(sorted(kinds))}: they would order and "
                "compare values differently; use one kind"
            )
        self.engines = {name: engine.execution_options(**{SHARD: name}) for name, engine in engines.items()}
        #: Connections on which a statement has failed since the last rollback.
        self.failed: WeakSet[Connection] = WeakSet()
        self._exact: dict[str | None, bool] = {}
        for engine in self.engines.values():
            event.listen(engine, "handle_error", self._note_failure)
            event.listen(engine, "rollback", self._note_rollback)
            event.listen(engine, "rollback_savepoint", self._note_savepoint)

    @classmethod
    def from_engines(cls, engines: Mapping[str, AnyEngine]) -> Shards:
        """Return shards that are databases of their own.

        Args:
            engines: The engine, sync or async, of each.
        """
        found: dict[str, Engine] = {name: sync_engine_of(engine) for name, engine in engines.items()}
        if len(set(map(id, found.values()))) < len(found):
            raise InvalidArgumentError(
                f"Two of the shards {', '.join(map(str, found))} have one engine, and would have the same rows; "
                "use from_schemas() or from_table_prefix() within one database"
            )
        return cls(found)

    @classmethod
    def from_schemas(cls, engine: AnyEngine, schemas: Iterable[str] | Mapping[str, str]) -> Shards:
        """Return shards that are schemas of one database: tables without a schema are looked for there.

        All shards share the pool: a session that uses four of them takes four connections.

        Args:
            engine: The engine of the database.
            schemas: The names of the schemas, which are those of the shards; or the schema of each shard.
        """
        base = sync_engine_of(engine)
        found = _by_name(schemas)
        return cls(
            {name: base.execution_options(schema_translate_map={None: schema}) for name, schema in found.items()}
        )

    @classmethod
    def from_table_prefix(cls, engine: AnyEngine, prefixes: Iterable[str] | Mapping[str, str]) -> Shards:
        """Return shards that are tables of one database, whose names begin with different prefixes.

        For databases without schemas, such as SQLite. Tables are renamed where SQLAlchemy has a table, never in texts:
        a text names the table as it is in the database. Indexes get the prefix too; unique constraints and primary keys
        that have names of their own cannot, and would collide on PostgreSQL: leave them unnamed.

        Args:
            engine: The engine of the database.
            prefixes: The names of the shards, whose tables begin with the name and an underscore; or the whole prefix
                of each shard.
        """
        base = sync_engine_of(engine)
        found = _by_name(prefixes, suffix="_")
        engines: dict[str, Engine] = {}
        for name, prefix in found.items():
            if not re.fullmatch(r"\w+", prefix):
                raise InvalidArgumentError(f"The prefix {prefix!r} has more than letters, digits and underscores")
            options: dict[str, Any] = {_PREFIX: prefix, "schema_translate_map": {None: f"{_PREFIX}:{prefix}"}}
            engines[name] = base.execution_options(**options)
            event.listen(engines[name], "before_cursor_execute", _insert_prefix, retval=True)
        return cls(engines)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the shards, in the order in which they were given."""
        return tuple(self.engines)

    @property
    def dialect_name(self) -> str:
        """Return the kind of the databases, such as ``postgresql``."""
        return next(iter(self.engines.values())).dialect.name

    def compares_bytes(self, connection: Connection, collation: str | None) -> bool:
        """Return whether strings are in the order of their code points, as they are to Python.

        One small SELECT, once for each collation.
        """
        known = self._exact.get(collation)
        if known is None:
            upper: AnyExpression = literal("B")
            lower: AnyExpression = literal("a")
            if collation is not None:
                upper, lower = upper.collate(collation), lower.collate(collation)
            known = self._exact[collation] = bool(connection.scalar(select(upper < lower)))
        return known

    def __repr__(self) -> str:
        return f"<Shards {', '.join(self.names)}>"

    def _note_failure(self, context: ExceptionContext) -> None:
        if context.connection is not None:
            self.failed.add(context.connection)

    def _note_rollback(self, connection: Connection) -> None:
        self.failed.discard(connection)

    def _note_savepoint(self, connection: Connection, name: str, context: object) -> None:
        self.failed.discard(connection)


def _by_name(given: Iterable[str] | Mapping[str, str], *, suffix: str = "") -> dict[str, str]:
    if isinstance(given, Mapping):
        return dict(cast("Mapping[str, str]", given))
    return {name: f"{name}{suffix}" for name in given}


def create_all(shards: Shards, metadata: MetaData) -> None:
    """Create the tables of `metadata` on each shard, those that are not there."""
    for engine in shards.engines.values():
        prefix = engine.get_execution_options().get(_PREFIX)
        if prefix is None:
            metadata.create_all(engine)
        else:
            there = _table_names(engine)
            missing = [table for table in metadata.sorted_tables if prefix + table.name not in there]
            metadata.create_all(engine, tables=missing, checkfirst=False)


def drop_all(shards: Shards, metadata: MetaData) -> None:
    """Drop the tables of `metadata` on each shard, those that are there."""
    for engine in shards.engines.values():
        prefix = engine.get_execution_options().get(_PREFIX)
        if prefix is None:
            metadata.drop_all(engine)
        else:
            there = _table_names(engine)
            found = [table for table in metadata.sorted_tables if prefix + table.name in there]
            metadata.drop_all(engine, tables=found, checkfirst=False)


def for_each_shard(shards: Shards, function: Callable[[str, Engine], object]) -> None:
    """Call `function` with the name and the engine of each shard, one after the other; for DDL and migrations."""
    for name, engine in shards.engines.items():
        function(name, engine)


def _table_names(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def _insert_prefix(
    connection: Connection, cursor: object, statement: str, parameters: Any, context: object, executemany: bool
) -> tuple[str, Any]:
    if _PREFIX in statement:
        prefix = str(connection.get_execution_options()[_PREFIX])
        # SQLite gives the schema to the index, others to its table; both need the prefix.
        found = _INDEX.match(statement)
        if found is not None:
            index, table = (_quoted(connection, prefix + _bare(part)) for part in found.group(2, 4))
            return f"{found[1]}{index} ON {table}{statement[found.end() :]}", parameters
        statement = _MARKER.sub(lambda part: _quoted(connection, part[2] + part[4]), statement)
    return statement, parameters


def _bare(name: str) -> str:
    return name.rpartition(".")[2].strip('"`[]')


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)
