"""Write the history of rows that the database itself deletes or changes: ``ON DELETE CASCADE`` and ``SET NULL``.

The ORM does not see these rows with ``passive_deletes``, nor in a bulk DELETE. When a versioned class is configured,
its foreign keys of this kind are recorded on the tables that they refer to. Right before a row of such a table is
deleted, the rows that depend on it are copied. Those that the unit of work deletes itself do not exist any more then,
so that nothing is copied twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    ForeignKeyConstraint,
    Table,
    and_,
    event,
    select,
    update,
)
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.exc import UnmappedColumnError

from .._sql import chunks, is_table, key_in
from .._sqlalchemy import flushed_states, mappers_of, objects_in_session, values_before_changes
from .._typing import AnyColumn, AnyMapper, AnySelect, AnyState
from ._config import KeyValues, VersionConfig, config_of, config_of_table, hierarchy, pk_of
from ._expressions import bind_values, is_captured, stamp_parameters, version_values
from ._flush import before_delete
from ._history_writer import capture_matching
from ._session import flush_context, session_of, session_versions
from ._table_records import RecordKey, record, recorded

#: What a row has in some columns.
_Values: TypeAlias = "dict[AnyColumn, object]"


@dataclass(frozen=True, eq=False)
class Cascade:
    """A foreign key through which the database deletes or changes rows when the row that they refer to is deleted.

    Attributes:
        constraint: The foreign key.
        deletes: Whether the rows are deleted; else the columns of the foreign key are set to NULL.
    """

    constraint: ForeignKeyConstraint
    deletes: bool

    @property
    def table(self) -> Table:
        return self.constraint.table

    @property
    def columns(self) -> list[AnyColumn]:
        return [element.parent for element in self.constraint.elements]

    @property
    def referred(self) -> list[AnyColumn]:
        return [element.column for element in self.constraint.elements]


CASCADES: Final = RecordKey[list[Cascade]]("cascades")


def cascades_of(table: object) -> list[Cascade]:
    """Return the foreign keys to `table` through which versioned rows are deleted or changed, perhaps indirectly."""
    return (recorded(table, CASCADES) or []) if is_table(table) else []


def record_cascades(mapper: AnyMapper, tables: Iterable[Table]) -> None:
    """Record the cascades that lead to `tables`, and listen for deletions of the rows in which they begin."""
    todo, seen = list(tables), set[Table]()
    while todo:
        table = todo.pop()
        if table in seen:
            continue
        seen.add(table)
        for constraint in table.foreign_key_constraints:
            rule = (constraint.ondelete or "").upper()
            if rule not in {"CASCADE", "SET NULL"} or (rule == "SET NULL" and config_of_table(table) is None):
                continue
            try:
                above = constraint.referred_table
            except NoReferenceError:
                continue
            cascades = cascades_of(above)
            if not any(cascade.constraint is constraint for cascade in cascades):
                record(above, CASCADES, [*cascades, Cascade(constraint, deletes=rule == "CASCADE")])
            for each in mappers_of(mapper.registry):
                if above in each.tables and not event.contains(each.class_, "before_delete", before_parent_delete):
                    event.listen(each.class_, "before_delete", before_parent_delete, raw=True)
            todo.append(above)


def before_parent_delete(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Copy the rows that the database deletes or changes together with the objects that the flush deletes.

    The listener is also attached to classes that are not versioned.
    """
    if config_of(mapper.class_) is not None:
        # First the row itself: if tables cascade into each other, the search below finds it again.
        before_delete(mapper, connection, state)
    session = session_of(state)
    versions = session_versions(session)
    if state in versions.checked_parents or versions.disabled:
        return
    states = list(flushed_states(flush_context(session), mapper, deletes=True)) or [state]
    versions.checked_parents.update(states)
    for table in dict.fromkeys(table for each in states for table in each.mapper.tables):
        if is_table(table) and cascades_of(table):
            in_table = [each for each in states if table in each.mapper.tables]
            rows = [{column: _value(each, column) for column in table.c} for each in in_table]
            capture_dependent_rows(session, mapper, table, rows)


def _value(state: AnyState, column: AnyColumn) -> object:
    """Return what the row of an object has in a column, None if that is not mapped."""
    identity = dict(zip(state.mapper.primary_key, state.identity or (), strict=False))
    if column in identity:
        return identity[column]
    try:
        key = state.mapper.get_property_by_column(column).key
    except UnmappedColumnError:
        return None
    return values_before_changes(state).get(key, state.dict.get(key))


def capture_dependent_rows(session: Session, mapper: AnyMapper | None, table: Table, rows: list[_Values]) -> None:
    """Copy the rows that the database will delete or change when `rows` of `table` are deleted.

    Args:
        session: The session that deletes the rows.
        mapper: The mapper of `table`, None if it has none.
        table: The table of the rows.
        rows: What the rows have in the columns that cascades refer to.
    """
    connection = session.connection(bind_arguments={"mapper": mapper} if mapper is not None else {"clause": table})
    if connection.dialect.name == "sqlite" and not connection.exec_driver_sql("PRAGMA foreign_keys").scalar():
        return  # SQLite does not cascade without this setting
    _capture_dependent_rows(session, connection, table, rows, set())


def _capture_dependent_rows(
    session: Session, connection: Connection, table: Table, rows: list[_Values], seen: set[tuple[object, ...]]
) -> None:
    for cascade in cascades_of(table):
        keys = [tuple(row.get(column) for column in cascade.referred) for row in rows]
        for chunk in chunks(key for key in dict.fromkeys(keys) if None not in key):
            criterion = key_in(cascade.columns, chunk)
            config = config_of_table(cascade.table)
            dependent: list[_Values] = []
            if cascade.deletes and cascades_of(cascade.table):
                dependent = _select_unseen(connection, cascade.table, criterion, seen)
            if config is not None and cascade.table is config.root.pair.main:
                _capture(session, connection, config.root, cascade, criterion, chunk)
            if dependent:
                _capture_dependent_rows(session, connection, cascade.table, dependent, seen)


def _select_unseen(
    connection: Connection, table: Table, criterion: ColumnElement[bool], seen: set[tuple[object, ...]]
) -> list[_Values]:
    """Return the rows that match a criterion and are not in `seen`, and add them to `seen`.

    Tables may cascade into each other, or into themselves.
    """
    referred = {column for cascade in cascades_of(table) for column in cascade.referred}
    columns = list(dict.fromkeys([*table.primary_key, *referred]))
    statement: AnySelect = select(*columns).where(criterion)
    rows: list[_Values] = []
    for row in connection.execute(statement):
        entry = (table.fullname, *row)
        if entry not in seen:
            seen.add(entry)
            rows.append(dict(zip(columns, row, strict=True)))
    return rows


def _capture(
    session: Session,
    connection: Connection,
    root: VersionConfig,
    cascade: Cascade,
    criterion: ColumnElement[bool],
    keys: list[KeyValues],
) -> None:
    """Copy the rows that one cascade deletes or changes, and give those that it changes their next version."""
    not_captured = and_(criterion, ~is_captured(root))
    erased_with = session_versions(session).erased_with
    if cascade.deletes and erased_with is not None:
        deleted = connection.execute(select(*root.key).where(criterion))
        erased_with.setdefault(root, set()).update(tuple(row) for row in deleted)
    if cascade.deletes:
        capture_matching(session, root, not_captured, hierarchy(root), "delete")
        return
    stamp = capture_matching(session, root, not_captured, hierarchy(root), "update").stamp
    values = {**version_values(root, stamp), **{column.key: None for column in cascade.columns}}
    statement = update(root.pair.main).where(criterion).values(values)
    connection.execute(bind_values(statement, stamp_parameters(stamp)))
    attrs = [str(root.mapper.get_property_by_column(column).key) for column in cascade.columns]
    loaded = {
        pk_of(each): each
        for each in map(instance_state, objects_in_session(session, root.cls))
        if tuple(each.dict.get(attr) for attr in attrs) in set(keys)
    }
    names = sorted(root.version_columns)
    for chunk in chunks(loaded):
        columns = [root.pair.main.c[name] for name in names]
        for row in connection.execute(select(*root.key, *columns).where(key_in(root.key, chunk))):
            state = loaded[tuple(row[: len(root.key)])]
            values = {**dict.fromkeys(attrs), **dict(zip(names, row[len(root.key) :], strict=True))}
            for name, value in values.items():
                set_committed_value(state.obj(), name, value)
