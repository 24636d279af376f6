"""History tables: a copy of a main table's columns, without what ties rows to the present."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeGuard

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    inspect,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import CompileError, NoReferenceError
from sqlalchemy.sql import visitors
from sqlalchemy.types import NullType

from ..exceptions import MappingError
from . import _clock
from ._options import VersionOptions
from ._types import UTCDateTime

__all__ = (
    "ASSOCIATION",
    "CHANGED",
    "ENDED_BY",
    "HISTORY_COLUMNS",
    "OPERATION",
    "REVISION",
    "STAMP",
    "VALID_FROM",
    "VALID_TO",
    "VERSION",
    "add_main_columns",
    "build_history_table",
    "complete_types",
    "copy_column",
    "copy_indexes",
    "history_name",
    "is_table",
    "keep_ids_unique",
    "move_expression",
    "revision_type",
)

VERSION, CHANGED, VALID_FROM, VALID_TO = "version", "changed", "valid_from", "valid_to"
OPERATION, REVISION, ENDED_BY = "operation", "revision_id", "ended_by_id"
#: Where a secondary table keeps the table of its history.
ASSOCIATION = "sqla_patterns.versioning.association"
#: The execution option in which an INSERT finds what its rows are stamped with.
STAMP = "sqla_patterns_version_stamp"
#: What a history table has beside the columns of the main table.
HISTORY_COLUMNS = frozenset({VERSION, CHANGED, VALID_FROM, VALID_TO, OPERATION, REVISION, ENDED_BY})

# PostgreSQL cuts names at 63 bytes, MariaDB and MySQL refuse more than 64.
_NAME_LENGTH = 63
_SUFFIX = "_history"
# Where a history table keeps the main one.
_HISTORY_OF = "sqla_patterns.versioning.of"
# Of the main table only: a history table has a composite key, no partitions and no parents.
_NOT_COPIED = {"sqlite_autoincrement", "postgresql_partition_by", "postgresql_inherits"}


def is_table(value: Any) -> TypeGuard[Table]:
    """`isinstance`, without leaving type checkers in doubt about the type of its columns."""
    return isinstance(value, Table)


def history_name(name: str) -> str:
    """`name` with ``_history``, shortened in the middle where databases would not take it."""
    if len(name) + len(_SUFFIX) <= _NAME_LENGTH:
        return name + _SUFFIX
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: _NAME_LENGTH - len(_SUFFIX) - 9]}_{digest}{_SUFFIX}"


# -- the main table ------------------------------------------------------------------------------


def revision_type(options: VersionOptions) -> Any:
    """The type of the key of the revision class."""
    mapper: Any = inspect(options.revision)
    return mapper.primary_key[0].type


def add_main_columns(table: Table, cls: type[Any], options: VersionOptions) -> list[Column[Any]]:
    """Add ``version``, and what the options ask for, to the main table of a hierarchy; return those columns."""
    wanted: list[tuple[Column[Any], type[Any]]] = [(Column(VERSION, Integer, nullable=False, default=1), Integer)]
    if options.period:
        # For rows that come past the ORM; a flush gives all rows of one transaction one moment.
        wanted.append((Column(VALID_FROM, UTCDateTime(), nullable=False, default=_present), UTCDateTime))
    if options.revision is not None:
        key_type = revision_type(options)
        wanted.append((Column(REVISION, key_type, nullable=True, default=_present_revision), key_type.__class__))
    for column, python_type in wanted:
        present = table.c.get(column.key)
        if present is None:
            table.append_column(column)
        elif column.key not in vars(cls):
            # A reflected table has the column, but knows neither its default nor its time zone.
            table.append_column(column, replace_existing=True)
        elif not isinstance(present.type, python_type) or (present.default is None) != (column.default is None):
            raise MappingError(
                f"versioned class {cls.__name__!r} has {column.key!r} for itself; leave it out of the class, as Versioned adds it"
            )
    return [table.c[column.key] for column, _ in wanted]


def _present(context: Any) -> Any:
    """When a row begins that does not come from a flush: with its transaction, or past the ORM now."""
    stamp = context.execution_options.get(STAMP)
    return _clock.now() if stamp is None else stamp.moment


def _present_revision(context: Any) -> Any:
    stamp = context.execution_options.get(STAMP)
    return None if stamp is None else stamp.revision


def keep_ids_unique(table: Table) -> None:
    """Have SQLite never hand out the key of a deleted row again, which would join the histories of two objects."""
    column: Any = table.autoincrement_column
    # Iterated, because looking a key up answers with the default of an option that nobody gave.
    if column is None or column.foreign_keys or "sqlite_autoincrement" in list(table.dialect_kwargs):
        return
    try:
        named = column.type.compile(dialect=sqlite.dialect())
    except CompileError:
        return
    if named == "INTEGER":
        table.dialect_kwargs["sqlite_autoincrement"] = True


# -- the history table ---------------------------------------------------------------------------


def build_history_table(
    table: Table,
    *,
    excluded: frozenset[str],
    options: VersionOptions,
    own: frozenset[str],
    parent: Table | None,
    parent_history: Table | None,
) -> Table:
    """The history table of `table`.

    Args:
        excluded: keys of columns to leave out.
        own: keys of the room's own columns on the main table, which are added in the order of upstream's.
        parent: the main table that `table` joins, in joined inheritance, and its history.
    """
    name = history_name(table.name)
    existing = table.metadata.tables.get(name if table.schema is None else f"{table.schema}.{name}")
    if existing is not None and existing.info.get(_HISTORY_OF) is table:
        return existing  # a table that is mapped again, after its mappers were disposed of
    if existing is not None:
        raise MappingError(
            f"table {table.fullname!r} cannot have a history table {name!r}: there is a table of that name; rename one of them"
        )
    columns: list[Column[Any]] = [copy_column(column) for column in table.c if column.key not in excluded | own]
    keys = [(column.key, parent_column) for column, parent_column in _parent_columns(table, parent)]
    columns.append(Column(VERSION, Integer, primary_key=True, autoincrement=False, nullable=False))
    columns.append(Column(CHANGED, UTCDateTime(), nullable=True))
    if parent is None:
        if options.period:
            columns.append(Column(VALID_FROM, UTCDateTime(), nullable=True))
            columns.append(Column(VALID_TO, UTCDateTime(), nullable=True))
        if options.operation:
            columns.append(Column(OPERATION, String(6), nullable=True))
        if options.revision is not None:
            columns.append(Column(REVISION, revision_type(options), nullable=True))
            columns.append(Column(ENDED_BY, revision_type(options), nullable=True))
    constraints: list[Any] = []
    if parent_history is not None and keys:
        referred = [parent_history.c[column.key] for _, column in keys]
        constraints.append(
            ForeignKeyConstraint(
                [*(table.c[key].name for key, _ in keys), VERSION],
                [*referred, parent_history.c[VERSION]],
            )
        )
    kwargs = {key: value for key, value in table.dialect_kwargs.items() if key not in _NOT_COPIED}
    info = {_HISTORY_OF: table}
    history = Table(name, table.metadata, *columns, *constraints, schema=table.schema, info=info, **kwargs)
    for constraint in list(history.constraints):
        # Boolean and Enum types bring theirs along.
        if isinstance(constraint, CheckConstraint):
            history.constraints.discard(constraint)
    copy_indexes(table, history)
    return history


def copy_indexes(table: Table, history: Table) -> None:
    """Index `history` as `table` is, by names of its own; none is unique. Those that it has already are left alone."""
    present = {index.name for index in history.indexes}
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.name is None or history_name(str(index.name)) not in present:
            _copy_index(index, table, history)


def copy_column(column: Column[Any]) -> Column[Any]:
    """A column for the same values: without default, foreign key, unique, identity or computation."""
    return Column(
        column.name,
        column.type,
        key=column.key,
        primary_key=column.primary_key,
        nullable=column.nullable and not column.primary_key,
        autoincrement=False,
        quote=getattr(column.name, "quote", None),
        comment=column.comment,
    )


def complete_types(pairs: Iterable[tuple[Column[Any], Column[Any]]]) -> None:
    """Give copies the types that their originals take from the columns they refer to, as far as those exist by now."""
    for column, copy in pairs:
        if not isinstance(copy.type, NullType):
            continue
        for key in column.foreign_keys:
            # A reference to a table that is not there yet; it is looked up again when mappers are configured.
            with suppress(NoReferenceError):
                copy.type = key.column.type


def _parent_columns(table: Table, parent: Table | None) -> list[tuple[Column[Any], Column[Any]]]:
    """The columns of `table` that refer to the table that it joins, with what they refer to."""
    if parent is None:
        return []
    return [(column, key.column) for column in table.c for key in column.foreign_keys if key.references(parent)]


def _copy_index(index: Index, table: Table, history: Table) -> None:
    expressions: list[Any] = []
    for expression in index.expressions:
        moved = move_expression(expression, table, history)
        if moved is None:
            return  # it is about a column that history leaves out
        expressions.append(moved)
    if not expressions:
        return
    kwargs = {
        key: move_expression(value, table, history) if hasattr(value, "_traverse_internals") else value
        for key, value in index.dialect_kwargs.items()
    }
    name = None if index.name is None else history_name(str(index.name))
    Index(name, *expressions, unique=False, **kwargs)


def move_expression(expression: Any, table: Table, history: Table) -> Any:
    """`expression` with the columns of `history` in place of those of `table`; None where one is missing."""
    missing: list[Any] = []

    def replace(element: Any, **_: object) -> Any:
        if isinstance(element, Column) and element.table is table:
            moved = history.c.get(element.key)
            if moved is None:
                missing.append(element)
            return moved
        return None

    replacing: Callable[..., Any] = visitors.replacement_traverse
    moved = replacing(expression, {}, replace)
    return None if missing else moved
