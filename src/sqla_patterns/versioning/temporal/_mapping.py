"""Look at a class while it is mapped: its key, its columns, and the index that allows one current row for an object."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from sqlalchemy import Boolean, Column, Computed, Connection, Index, Integer, Table, event, text
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType

from ..._declarative import listen_once
from ..._maintained import maintained_columns
from ..._sql import is_table
from ..._sqlalchemy import renamed_column
from ..._typing import AnyColumn, AnyMapper
from ...exceptions import MappingError
from ._config import (
    CONFIG_ATTRIBUTE,
    IS_CURRENT,
    OBJECT_ID,
    TEMPORAL,
    VALID_FROM,
    VALID_TO,
    VERSION_ID,
    Form,
    TemporalConfig,
)
from ._flush import MAPPER_LISTENERS, SESSION_LISTENERS
from ._options import TemporalOptions
from ._reading import on_execute

_GENERATED: Final = "sqla_current"
_NAME_LENGTH: Final = 63


def type_object_id(mapper: AnyMapper) -> None:
    """Give ``object_id`` the type of the primary key."""
    table = _table(mapper)
    keys = list(table.primary_key)
    if len(keys) != 1:
        raise MappingError(
            f"{mapper.class_.__name__} is a CopiedRow and needs a primary key of one column, of which each version "
            f"gets a new value; table {table.name!r} has {len(keys)}. Give it a surrogate key, or use VersionedRow"
        )
    key = keys[0]
    column = _column(mapper, OBJECT_ID)
    if isinstance(column.type, NullType):
        column.type = key.type
    if key.default is None and key.server_default is None and not _counts(key):
        raise MappingError(
            f"{mapper.class_.__name__} is a CopiedRow, and its {key.name!r} cannot be made for a new version: it is no "
            "integer that the database counts and has no default. Write mapped_column(default=...), on a dataclass "
            "base insert_default=..."
        )


def _counts(column: AnyColumn) -> bool:
    return column.table.autoincrement_column is column


def map_rows(mapper: AnyMapper, form: Form, options: TemporalOptions) -> None:
    """Check the key of a class, and store what the other modules need to know about it.

    Raises:
        MappingError: The class has no key of its own, inherits from a mapped class, or names two forms.
    """
    cls = mapper.class_
    table = _table(mapper)
    forms = [base.__name__ for base in cls.__mro__ if base.__name__ in _FORMS and base.__module__ == _mixins_module()]
    if len(forms) != 1:
        raise MappingError(f"{cls.__name__} is a {' and a '.join(forms)}; choose one form of temporal rows")
    version = maintained_columns(cls).get("version")
    if version is not None:
        raise MappingError(
            f"{cls.__name__} is a {forms[0]} and {version.maintained_by}: rows are closed by statements of which the "
            "history table would not know. Choose one of them"
        )
    if mapper.inherits is not None:
        raise MappingError(
            f"{cls.__name__} has temporal rows and inherits from {mapper.inherits.class_.__name__}, which has not; put "
            f"{forms[0]} on the topmost class of the hierarchy"
        )
    key = list(table.primary_key)
    if form == "copied":
        stable = [_column(mapper, OBJECT_ID)]
    else:
        added = _column(mapper, VERSION_ID if form == "versioned" else VALID_FROM)
        stable = [column for column in key if column is not added]
    if not stable:
        raise MappingError(
            f"{cls.__name__} is a {forms[0]} without a primary key of its own, so that its objects cannot be told "
            "apart; declare one, for instance id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid4)"
        )
    config = TemporalConfig(cls, mapper, table, form, options, tuple(stable), tuple(key))
    setattr(cls, CONFIG_ATTRIBUTE, config)
    if form != "copied":
        _count_in_composite_key(config)


_FORMS: Final = ("VersionedRow", "TemporalRow", "CopiedRow")


def _mixins_module() -> str:
    return __name__.rpartition(".")[0] + "._mixins"


def _column(mapper: AnyMapper, attribute: str) -> AnyColumn:
    found = renamed_column(mapper, attribute)
    return _table(mapper).c[attribute] if found is None else found


def _table(mapper: AnyMapper) -> Table:
    table = mapper.local_table
    if not is_table(table):
        raise MappingError(f"{mapper.class_.__name__} has temporal rows and is mapped to {table!r}; map it to a table")
    return table


def refuse_subclass(mapper: AnyMapper, cls: type[Any]) -> None:
    """Refuse subclasses with a table of their own.

    Raises:
        MappingError: The class has one.
    """
    above = mapper.inherits
    if above is not None and mapper.local_table is not above.local_table:
        if is_table(mapper.local_table):
            mapper.local_table.metadata.remove(mapper.local_table)
        raise MappingError(
            f"{cls.__name__} has a table of its own and inherits from {above.class_.__name__}, whose rows are "
            "temporal: the versions of a row in two tables are not kept. Use single-table inheritance, or Versioned, "
            "which keeps a history of both tables"
        )


# -- keys that the database counts ---------------------------------------------------------------


def _count_in_composite_key(config: TemporalConfig) -> None:
    """Have the database count an integer key that has no default, as it would if the key were the only one."""
    if len(config.stable) != 1:
        return
    column = config.stable[0]
    is_plain = column.default is None and column.server_default is None and not column.foreign_keys
    if isinstance(column.type, Integer) and is_plain and column.autoincrement == "auto":
        column.autoincrement = True
        event.listen(config.table, "before_create", _refuse_on_sqlite)


def _refuse_on_sqlite(table: Table, connection: Any, **_: object) -> None:
    if connection.dialect.name == "sqlite":
        key = table.primary_key.columns[0].name
        raise MappingError(
            f"table {table.name!r} cannot be created on SQLite, which does not count {key!r} in a primary key of "
            "several columns; write mapped_column(primary_key=True, default=...), for instance a "
            "UUID, or autoincrement=False if you set the key of each object"
        )


# -- one current row -----------------------------------------------------------------------------


def watch(mapper: AnyMapper) -> None:
    """Add the index of the current row, and listen to the class and to all sessions."""
    config: TemporalConfig = vars(mapper.class_)[CONFIG_ATTRIBUTE]
    mapper.registry.metadata.info[TEMPORAL] = True
    _add_unique_index(config)
    if config.options.no_overlap:
        _add_exclusion(config)
    for identifier, listener in MAPPER_LISTENERS.items():
        event.listen(mapper, identifier, listener, raw=True, propagate=True)
    for identifier, on_session in SESSION_LISTENERS.items():
        listen_once(Session, identifier, on_session)
    listen_once(Session, "do_orm_execute", on_execute)


def _add_unique_index(config: TemporalConfig) -> None:
    """Allow one current row for an object, by a unique index with a generated column that is NULL in closed rows.

    NULL is equal to nothing, on every database. On SQLite and PostgreSQL the index is partial as well, so that it holds
    current rows only; MariaDB and MySQL have no partial indexes. One index and one column for all databases, since
    Alembic compares the MetaData with each of them. The column is not mapped.
    """
    table = config.table
    if config.form == "temporal":
        generated = f"NULLIF({config.column(VALID_TO).name} IS NULL, 1 = 0)"
    else:
        generated = f"NULLIF({config.column(IS_CURRENT).name}, 1 = 0)"
    # In the one spelling that all three databases give back as it was written, so that Alembic finds no difference.
    table.append_column(Column(_GENERATED, Boolean, Computed(generated, persisted=True), nullable=True))
    current = config.is_current()
    columns = (*config.stable, table.c[_GENERATED])
    Index(_index_name(table), *columns, unique=True, sqlite_where=current, postgresql_where=current)


def _index_name(table: Table, prefix: str = "uq", suffix: str = "current") -> str:
    name = f"{prefix}_{table.name}_{suffix}"
    if len(name) <= _NAME_LENGTH:
        return name
    digest = hashlib.blake2b(table.name.encode(), digest_size=4).hexdigest()
    return f"{prefix}_{table.name[: len(table.name) - len(name) + _NAME_LENGTH - 9]}_{digest}_{suffix}"


# -- no overlapping periods ----------------------------------------------------------------------


def _add_exclusion(config: TemporalConfig) -> None:
    if not config.has_time:
        raise MappingError(
            f"{config.name} has no_overlap=True, and its rows do not say when they were valid; write "
            "TemporalOptions(period=True, no_overlap=True)"
        )
    # Here, since the dialect defines tables of the catalogue of PostgreSQL when it is imported.
    from sqlalchemy.dialects.postgresql import ExcludeConstraint

    begin, end = config.column(VALID_FROM).name, config.column(VALID_TO).name
    # A row that update() has inserted and not yet finished ends before it begins, which no range may. It counts as
    # one without extent here.
    period = text(f"tstzrange({begin}, CASE WHEN {end} < {begin} THEN {begin} ELSE {end} END, '[)')")
    constraint = ExcludeConstraint(
        *((column, "=") for column in config.stable),
        (period, "&&"),
        name=_index_name(config.table, "ex", "no_overlap"),
        using="gist",
        # Versions are closed and inserted by different statements.
        deferrable=True,
        initially="DEFERRED",
    )
    config.table.append_constraint(constraint)
    event.listen(config.table, "before_create", _require_btree_gist)


def _require_btree_gist(table: Table, connection: Any, **_: object) -> None:
    if connection.dialect.name != "postgresql":
        raise MappingError(
            f"table {table.name!r} cannot be created on {connection.dialect.name}: no_overlap=True is an exclusion "
            "constraint, which only PostgreSQL has; leave it out, since flushes and update() make no overlaps"
        )
    installed = text("SELECT count(*) FROM pg_extension WHERE extname = 'btree_gist'")
    if isinstance(connection, Connection) and not connection.scalar(installed):
        raise MappingError(
            f"table {table.name!r} cannot be created, since no_overlap=True needs the extension btree_gist; execute "
            "CREATE EXTENSION btree_gist first"
        )
