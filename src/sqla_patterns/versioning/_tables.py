"""Build history tables, and add the columns of the library to main tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ClauseElement,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    event,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.exc import CompileError, NoReferenceError
from sqlalchemy.orm import class_mapper
from sqlalchemy.types import NullType

from .._declarative import refuse_annotation
from .._sql import is_column
from .._typing import AnyColumn, AnyExpression, AnyType, MappedClass, PrimaryKey
from ..exceptions import MappingError
from . import _clock
from ._names import CHANGED, ENDED_BY, OPERATION, REVISION, STAMP_OPTION, VALID_FROM, VALID_TO, VERSION
from ._options import VersionOptions
from ._revision_log import RevisionLog
from ._table_records import HISTORY_OF, record, recorded
from ._traversal import ClauseT, replace_elements
from ._types import UTCDateTime

# PostgreSQL cuts names at 63 bytes, MariaDB and MySQL refuse more than 64.
_NAME_LENGTH = 63
_SUFFIX = "_history"
# Options that do not apply to a history table, which has a composite key, no partitions and no parents.
_NOT_COPIED = {"sqlite_autoincrement", "postgresql_partition_by", "postgresql_inherits"}


def history_name(name: str) -> str:
    """Return `name` with ``_history`` at its end, shortened in the middle if it would be too long for a database."""
    if len(name) + len(_SUFFIX) <= _NAME_LENGTH:
        return name + _SUFFIX
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: _NAME_LENGTH - len(_SUFFIX) - 9]}_{digest}{_SUFFIX}"


# -- the main table ------------------------------------------------------------------------------


def revision_type(revision: type[RevisionLog]) -> AnyType:
    """Return the type of the primary key of a revision class."""
    return class_mapper(revision, configure=False).primary_key[0].type


def _main_columns(options: VersionOptions) -> list[tuple[AnyColumn, type[AnyType]]]:
    """Return new columns for ``version`` and what the options ask for, each with the class of its type."""
    wanted: list[tuple[AnyColumn, type[AnyType]]] = [(Column(VERSION, Integer, nullable=False, default=1), Integer)]
    if options.period:
        # For rows that bypass the ORM; a flush gives all rows of one transaction one time.
        wanted.append((Column(VALID_FROM, UTCDateTime(), nullable=False, default=_stamped_moment), UTCDateTime))
    if options.revision is not None:
        key_type = revision_type(options.revision)
        wanted.append((Column(REVISION, key_type, nullable=True, default=_stamped_revision), key_type.__class__))
    return wanted


def refuse_annotations(cls: MappedClass, options: VersionOptions) -> None:
    """Raise if the user annotates an attribute of the library with another type, on `cls` or one of its bases.

    Raises:
        MappingError: There is such an annotation.
    """
    for column, _ in _main_columns(options):
        for base in cls.__mro__:
            refuse_annotation(base, str(column.key), column.type, "Versioned")


def add_main_columns(table: Table, cls: MappedClass, options: VersionOptions) -> list[AnyColumn]:
    """Add ``version`` and what the options ask for to the main table of a hierarchy, and return these columns.

    Raises:
        MappingError: The user has a column or an annotation of another kind under one of these names.
    """
    refuse_annotations(cls, options)
    wanted = _main_columns(options)
    for column, python_type in wanted:
        present = table.c.get(column.key)
        if present is None:
            table.append_column(column)
        elif column.key not in vars(cls):
            # A reflected table has the column, but knows neither its default nor its time zone.
            table.append_column(column, replace_existing=True)
        elif not isinstance(present.type, python_type) or (present.default is None) != (column.default is None):
            raise MappingError(
                f"versioned class {cls.__name__!r} has {column.key!r} for itself; leave it out of the class, as "
                "Versioned adds it"
            )
    return [table.c[column.key] for column, _ in wanted]


def _stamped_moment(context: ExecutionContext) -> datetime:
    """Return when a row begins that does not come from a flush: with its transaction, or now if it bypasses the ORM."""
    stamp = context.execution_options.get(STAMP_OPTION)
    return _clock.now() if stamp is None else stamp.moment


def _stamped_revision(context: ExecutionContext) -> PrimaryKey:
    stamp = context.execution_options.get(STAMP_OPTION)
    return None if stamp is None else stamp.revision


def keep_ids_unique(table: Table) -> None:
    """Have SQLite never generate the key of a deleted row again, which would join the histories of two objects."""
    column = table.autoincrement_column
    # `in list(...)`, because a lookup in `dialect_kwargs` also finds the defaults of options that were not given.
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
    added: frozenset[str],
    parent: Table | None,
    parent_history: Table | None,
) -> Table:
    """Return the history table of `table`, which is made if it does not exist.

    Args:
        table: The main table.
        excluded: Keys of columns to leave out.
        options: The options of the class.
        added: Keys of the columns that the library has added to the main table; the history has these after the user's
            columns, as in SQLAlchemy's recipe.
        parent: The main table that `table` joins, in joined inheritance.
        parent_history: The history table of `parent`.

    Raises:
        MappingError: There is another table of that name.
    """
    name = history_name(table.name)
    existing = table.metadata.tables.get(name if table.schema is None else f"{table.schema}.{name}")
    if existing is not None and recorded(existing, HISTORY_OF) is table:
        return existing  # a table that is mapped again, after its mappers were disposed of
    if existing is not None:
        raise MappingError(
            f"table {table.fullname!r} cannot have a history table {name!r}: there is a table of that name; rename one "
            "of them"
        )
    columns: list[AnyColumn] = [copy_column(column) for column in table.c if column.key not in excluded | added]
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
            columns.append(Column(REVISION, revision_type(options.revision), nullable=True))
            columns.append(Column(ENDED_BY, revision_type(options.revision), nullable=True))
    constraints: list[ForeignKeyConstraint] = []
    if parent_history is not None and keys:
        referred = [parent_history.c[column.key] for _, column in keys]
        constraints.append(
            ForeignKeyConstraint(
                [*(table.c[key].name for key, _ in keys), VERSION],
                [*referred, parent_history.c[VERSION]],
            )
        )
    kwargs = {key: value for key, value in table.dialect_kwargs.items() if key not in _NOT_COPIED}
    history = Table(name, table.metadata, *columns, *constraints, schema=table.schema, **kwargs)
    record(history, HISTORY_OF, table)
    for constraint in list(history.constraints):
        # Boolean and Enum types add a constraint to each table that uses them.
        if isinstance(constraint, CheckConstraint):
            history.constraints.discard(constraint)
    copy_indexes(table, history)
    return history


def copy_indexes(table: Table, history: Table) -> None:
    """Add copies of the indexes of `table` to `history`, under other names and not unique, unless they are there."""
    present = {index.name for index in history.indexes}
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.name is None or history_name(str(index.name)) not in present:
            _copy_index(index, table, history)


def copy_column(column: AnyColumn) -> AnyColumn:
    """Return a column for the same values, without default, foreign key, unique, identity or computation.

    It takes NULL unless it is part of the key: a NOT NULL column that is added to the class later has no value in older
    rows of the history, and Alembic's autogenerate would find a difference each time.
    """
    return Column(
        column.name,
        column.type,
        key=column.key,
        primary_key=column.primary_key,
        nullable=not column.primary_key,
        autoincrement=False,
        quote=getattr(column.name, "quote", None),
        comment=column.comment,
    )


def resolve_types(pairs: Iterable[tuple[AnyColumn, AnyColumn]]) -> bool:
    """Set the types of copies whose originals take them from the columns that they refer to.

    Args:
        pairs: Originals and their copies.

    Returns:
        Whether all copies have a type now.
    """
    missing = [(column, copy) for column, copy in pairs if isinstance(copy.type, NullType) and column.foreign_keys]
    for column, copy in missing:
        for key in column.foreign_keys:
            with suppress(NoReferenceError):
                copy.type = key.column.type
    return not any(isinstance(copy.type, NullType) for _, copy in missing)


def complete_types(history: Table, pairs: Sequence[tuple[AnyColumn, AnyColumn]]) -> Callable[..., None]:
    """Call `resolve_types` now, and again until the columns exist that the originals refer to.

    A foreign key may refer to a table that is declared later. Alembic reads the MetaData without configuring mappers,
    so the types are looked up whenever a table is added to it.

    Args:
        history: The table of the copies.
        pairs: Originals and their copies.

    Returns:
        A listener that looks the types up once more, to be called when mappers are configured.
    """
    metadata = history.metadata

    def look_up() -> bool:
        return resolve_types(pairs)

    def added(table: Table, parent: object) -> None:
        if parent is metadata:
            look_up()

    def complete(*_: object, **__: object) -> None:
        # Not in `added`, as a listener cannot be removed while it is being called.
        if look_up() and event.contains(Table, "after_parent_attach", added):
            event.remove(Table, "after_parent_attach", added)

    if not look_up():
        event.listen(Table, "after_parent_attach", added)
    event.listen(history, "before_create", complete)
    return complete


def _parent_columns(table: Table, parent: Table | None) -> list[tuple[AnyColumn, AnyColumn]]:
    """Return the columns of `table` that refer to the table that it joins, with those they refer to."""
    if parent is None:
        return []
    return [(column, key.column) for column in table.c for key in column.foreign_keys if key.references(parent)]


def _copy_index(index: Index, table: Table, history: Table) -> None:
    expressions: list[AnyExpression] = []
    for expression in index.expressions:
        moved = None if isinstance(expression, str) else move_expression(expression, table, history)
        if moved is None:
            return  # it is about a column that the history leaves out
        expressions.append(moved)
    if not expressions:
        return
    kwargs: dict[str, Any] = {
        key: move_expression(value, table, history) if isinstance(value, ClauseElement) else value
        for key, value in index.dialect_kwargs.items()
    }
    name = None if index.name is None else history_name(str(index.name))
    Index(name, *expressions, unique=False, **kwargs)


def move_expression(expression: ClauseT, table: Table, history: Table) -> ClauseT | None:
    """Return `expression` with the columns of `history` in place of those of `table`; None if one is missing."""
    missing: list[str] = []

    def replacement(element: object) -> AnyColumn | None:
        if not is_column(element) or element.table is not table:
            return None
        moved = history.c.get(element.key)
        if moved is None:
            missing.append(element.key)
        return moved

    moved = replace_elements(expression, replacement)
    return None if missing else moved
