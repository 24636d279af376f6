"""Bring versions back: `revert` an object to an older version, and `restore` a deleted one."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Computed, null, select
from sqlalchemy.orm import RelationshipDirection, Session
from sqlalchemy.orm.attributes import instance_state, set_attribute, set_committed_value

from .._session import SyncSession, database_of, resolve_session
from .._sql import key_in, structural
from .._sqlalchemy import announce_refresh
from .._typing import AnySelect, AnyState
from ..exceptions import StateError
from ._config import (
    VersionConfig,
    connection_of,
    pk_of,
    require_config,
)
from ._errors import NoSuchVersionError
from ._expressions import join_condition, lock_rows
from ._names import VERSION
from ._reading import as_key, load_history_row
from ._row_reader import reader_of
from ._version import Version

T = TypeVar("T")


def revert(session: SyncSession, obj: T, to: int | Version[T]) -> T:
    """Give an object the values of an older version, which makes a new version, and return the object.

    The session is flushed. The row is locked and read first, so that what other sessions have committed is reverted
    too. Associations do not change, nor do attributes that ``VersionOptions(exclude=...)`` leaves out, and those that
    another package derives from others, such as the bounds of nested sets.

    Args:
        session: The session of the object.
        obj: A persistent object.
        to: The version, or its number.

    Raises:
        NoSuchVersionError: There is no such version.
        StateError: `obj` is deleted or not in `session`; see `restore`.
    """
    session = resolve_session(session, "revert")
    config = require_config(type(obj))
    state = instance_state(obj)
    if not state.persistent or state.session is not session:
        raise StateError(
            f"this {config.name} is not persistent in the session; add it, or bring a deleted one back with restore()"
        )
    session.flush()
    with database_of(session, obj):
        return _revert(session, config, obj, to.number if isinstance(to, Version) else to)


def _revert(session: Session, config: VersionConfig, obj: T, number: int) -> T:
    state = instance_state(obj)
    present = _present_row(session, config, state)
    values: dict[str, object] = {}
    if number != present[VERSION]:
        row = load_history_row(session, config, pk_of(state), number)
        values = {
            attr: value for attr, value in reader_of(config).values(row, config).items() if _is_settable(config, attr)
        }
    changed = _refresh(config, state, present)
    # A position is set after what it refers to, such as the parent in a tree, and set even if the number is the same: a
    # tree places a node last if only its parent is set.
    for attr, value in sorted(values.items(), key=lambda item: item[0] in config.shifted):
        if state.dict[attr] is not value or (changed and attr in config.shifted):
            set_attribute(obj, attr, value)
            changed.add(attr)
    session.flush()
    _expire_references(session, config, state, changed)
    return obj


def _present_row(session: Session, config: VersionConfig, state: AnyState) -> dict[str, object]:
    """Lock the row of an object, and return its values by attribute."""
    root, main = config.root, config.root.pair.main
    columns = {**config.columns, **{name: main.c[name] for name in root.version_columns}}
    statement: AnySelect = select(*columns.values()).where(key_in(root.key, [pk_of(state)]))
    for pair in config.pairs[1:]:
        statement = statement.where(join_condition(config, pair))
    connection = connection_of(session, root)
    row = connection.execute(structural(lock_rows(connection, statement, main))).first()
    if row is None:
        raise StateError(
            f"{config.name} {pk_of(state)!r} was deleted by another transaction; bring it back with restore()"
        )
    return dict(zip(columns, row, strict=True))


def _refresh(config: VersionConfig, state: AnyState, present: dict[str, object]) -> set[str]:
    """Set the attributes of an object to what its row has, and return those that had something else."""
    changed: set[str] = set()
    for attr, value in present.items():
        column = config.columns.get(attr, config.root.pair.main.c.get(attr))
        if attr not in state.dict or column is None or not column.type.compare_values(state.dict[attr], value):
            set_committed_value(state.obj(), attr, value)
            changed.add(attr)
    if changed:
        announce_refresh(state, changed)
    return changed


def _expire_references(session: Session, config: VersionConfig, state: AnyState, changed: set[str]) -> None:
    """Expire many-to-one relationships whose foreign keys have changed, so that they are loaded again."""
    columns = {config.columns[attr] for attr in changed if attr in config.columns}
    names = [
        str(relation.key)
        for relation in config.mapper.relationships
        if relation.direction is RelationshipDirection.MANYTOONE and not columns.isdisjoint(relation.local_columns)
    ]
    if loaded := [name for name in names if name in state.dict]:
        session.expire(state.obj(), loaded)


def _is_settable(config: VersionConfig, attr: str) -> bool:
    """Return whether an attribute can be set: it is no key, and the database does not compute it."""
    column = config.columns[attr]
    return (
        not column.primary_key
        and not isinstance(column.server_default, Computed)
        and column is not config.root.mapper.polymorphic_on
    )


def restore(session: SyncSession, entity: type[T], key: object) -> T:
    """Insert a deleted object again under its old key, with the values of its last version, and return it.

    Its versions continue where they ended. The session is flushed.

    Args:
        session: The session.
        entity: The versioned class.
        key: The primary key; a tuple where it has several columns.

    Raises:
        NoSuchVersionError: There is no history of the object.
        StateError: The object exists.
    """
    session = resolve_session(session, "restore")
    config = require_config(entity)
    key_values = as_key(config, key)
    session.flush()
    root = config.root
    connection = connection_of(session, root)
    present = connection.scalar(select(root.pair.main.c[VERSION]).where(key_in(root.key, [key_values])))
    if present is not None:
        raise StateError(
            f"{config.name} {key_values!r} is not deleted; bring an older version of it back with revert()"
        )
    row = load_history_row(session, config, key_values, None)
    reader = reader_of(config)
    member = reader.member(row)
    if not issubclass(member.cls, config.cls):
        raise NoSuchVersionError(f"{key_values!r} was a {member.name} and no {config.name}")
    obj: T = member.mapper.class_manager.new_instance()
    empty: list[str] = []
    for attr, value in reader.values(row, member).items():
        column = member.columns[attr]
        if isinstance(column.server_default, Computed):
            continue
        if value is None and (column.default is not None or column.server_default is not None):
            # In a new object, the ORM replaces None by the default; not null().
            empty.append(attr)
            set_attribute(obj, attr, null())
        else:
            set_attribute(obj, attr, value)
    session.add(obj)
    session.flush()
    for attr in empty:
        set_committed_value(obj, attr, None)
    return obj
