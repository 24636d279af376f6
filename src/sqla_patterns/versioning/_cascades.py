"""Rows that the database itself deletes or changes: ``ON DELETE CASCADE`` and ``SET NULL`` below a row that is deleted.

The ORM does not see them with ``passive_deletes``, nor after a bulk DELETE. When a versioned class is configured, the tables that it refers to that
way are told; right before a row of theirs is deleted, what hangs below it is captured. What the unit of work has deleted by itself is gone by
then, so that nothing is captured twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    Connection,
    ForeignKeyConstraint,
    Select,
    Table,
    and_,
    event,
    select,
    update,
)
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import InstanceState, Mapper, Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.exc import UnmappedColumnError

from ._capture import capture
from ._clauses import bound, bound_values, captured, chunks, key_in, new_values
from ._config import VersionConfig, config_of, hierarchy
from ._flush import before_delete
from ._sa import flushed_states
from ._session import flush_context, session_versions

__all__ = ("cascades_of", "delete_below", "follow_keys")

_EDGES = "sqla_patterns.versioning.cascades"
_INFO = "sqla_patterns.versioning"


@dataclass(frozen=True, eq=False)
class _Edge:
    """A foreign key by which the database carries a deletion on."""

    constraint: ForeignKeyConstraint
    deletes: bool

    @property
    def table(self) -> Table:
        return self.constraint.table

    @property
    def columns(self) -> list[Any]:
        return [element.parent for element in self.constraint.elements]

    @property
    def referred(self) -> list[Any]:
        return [element.column for element in self.constraint.elements]


def cascades_of(table: object) -> list[_Edge]:
    """What the database deletes or changes together with rows of `table`, as far as it leads to something versioned."""
    return cast("list[_Edge]", table.info.get(_EDGES, [])) if isinstance(table, Table) else []


def follow_keys(mapper: Mapper[Any], tables: Iterable[Table]) -> None:
    """Tell the tables that `tables` refer to, and those that they refer to, to look after them when rows are deleted."""
    todo, seen = list(tables), set[Table]()
    while todo:
        table = todo.pop()
        if table in seen:
            continue
        seen.add(table)
        for constraint in table.foreign_key_constraints:
            rule = (constraint.ondelete or "").upper()
            if rule not in {"CASCADE", "SET NULL"} or (rule == "SET NULL" and _INFO not in table.info):
                continue
            try:
                above = constraint.referred_table
            except NoReferenceError:
                continue
            edges: list[_Edge] = above.info.setdefault(_EDGES, [])
            if not any(edge.constraint is constraint for edge in edges):
                edges.append(_Edge(constraint, deletes=rule == "CASCADE"))
            for each in mapper.registry.mappers:
                if above in each.tables and not event.contains(each.class_, "before_delete", before_parent_delete):
                    event.listen(each.class_, "before_delete", before_parent_delete, raw=True)
            todo.append(above)


def before_parent_delete(mapper: Mapper[Any], connection: Connection, state: InstanceState[Any]) -> None:
    """A listener of classes that need not be versioned themselves."""
    if config_of(mapper.class_) is not None:
        # First the row itself: where tables cascade into each other, the search below comes by it again.
        before_delete(mapper, connection, state)
    session = cast("Session", state.session)
    versions = session_versions(session)
    if state in versions.parents or versions.disabled:
        return
    states = list(flushed_states(flush_context(session), mapper, deletes=True)) or [state]
    versions.parents.update(states)
    tables: dict[Any, None] = dict.fromkeys(table for each in states for table in each.mapper.tables)
    for table in tables:
        if cascades_of(table):
            mine = [each for each in states if table in each.mapper.tables]
            rows = [{column: _value(each, column) for column in table.c} for each in mine]
            delete_below(session, mapper, table, rows)


def _value(state: InstanceState[Any], column: Any) -> Any:
    identity = dict(zip(state.mapper.primary_key, state.identity or (), strict=False))
    if column in identity:
        return identity[column]
    try:
        key = state.mapper.get_property_by_column(column).key
    except UnmappedColumnError:
        return None
    return state.committed_state.get(key, state.dict.get(key))


def delete_below(session: Session, mapper: Mapper[Any] | None, table: Table, rows: list[dict[Any, Any]]) -> None:
    """Capture what the database will delete or change below `rows` of `table`."""
    connection = session.connection(bind_arguments={"mapper": mapper} if mapper is not None else {"clause": table})
    if connection.dialect.name == "sqlite" and not connection.exec_driver_sql("PRAGMA foreign_keys").scalar():
        return  # SQLite carries nothing on unless told to
    _below(session, connection, table, rows, set())


def _below(
    session: Session, connection: Connection, table: Table, rows: list[dict[Any, Any]], seen: set[tuple[Any, ...]]
) -> None:
    for edge in cascades_of(table):
        keys = [tuple(row.get(column) for column in edge.referred) for row in rows]
        for chunk in chunks(key for key in dict.fromkeys(keys) if None not in key):
            criterion = key_in(edge.columns, chunk)
            config = cast("VersionConfig | None", edge.table.info.get(_INFO))
            below: list[dict[Any, Any]] = []
            if edge.deletes and cascades_of(edge.table):
                below = _rows(connection, edge.table, criterion, seen)
            if config is not None and edge.table is config.root.pair.main:
                _capture(session, connection, config.root, edge, criterion, chunk)
            if below:
                _below(session, connection, edge.table, below, seen)


def _rows(connection: Connection, table: Table, criterion: Any, seen: set[tuple[Any, ...]]) -> list[dict[Any, Any]]:
    wanted = {column for edge in cascades_of(table) for column in edge.referred}
    columns = list(dict.fromkeys([*table.primary_key, *wanted]))
    statement: Select[Any] = select(*columns).where(criterion)
    rows: list[dict[Any, Any]] = []
    for row in connection.execute(statement):
        mark = (table.fullname, *row)
        if mark not in seen:
            seen.add(mark)
            rows.append(dict(zip(columns, row, strict=True)))
    return rows


def _capture(
    session: Session, connection: Connection, root: VersionConfig, edge: _Edge, criterion: Any, keys: list[Any]
) -> None:
    stamp_free = and_(criterion, ~captured(root))
    if edge.deletes:
        capture(session, root, stamp_free, hierarchy(root), "delete")
        return
    stamp, _ = capture(session, root, stamp_free, hierarchy(root), "update")
    changing = {**new_values(root, stamp), **{column.key: None for column in edge.columns}}
    statement = update(root.pair.main).where(criterion).values(changing)
    connection.execute(bound(statement, bound_values(stamp)))
    attrs = [str(root.mapper.get_property_by_column(column).key) for column in edge.columns]
    loaded = {
        cast("Any", each.key)[1]: each
        for each in (instance_state(obj) for obj in session.identity_map.values() if isinstance(obj, root.cls))
        if tuple(each.dict.get(attr) for attr in attrs) in set(keys)
    }
    names = sorted(root.own)
    for chunk in chunks(loaded):
        columns = [root.pair.main.c[name] for name in names]
        for row in connection.execute(select(*root.key, *columns).where(key_in(root.key, chunk))):
            state = loaded[tuple(row[: len(root.key)])]
            values = {**dict.fromkeys(attrs), **dict(zip(names, row[len(root.key) :], strict=True))}
            for name, value in values.items():
                set_committed_value(state.obj(), name, value)
