"""Read history: `versions`, `version_at`, `as_of`, `diff`, `versions_of_association`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast, overload

from sqlalchemy import Row, Select, literal, select, union_all
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from .._session import SyncSession, database_of, resolve_session
from .._sql import key_in
from .._sqlalchemy import autoflush
from .._typing import AnySelect, AnyState, MappedObject
from ..exceptions import InvalidArgumentError, StateError
from ._as_of import selected_entity, statement_as_of
from ._association_reading import load_association_versions, set_associations_of_versions, set_past_associations
from ._associations import association_of
from ._config import KeyValues, RowValues, VersionConfig, connection_of, pk_of, require_config, require_period
from ._criteria import apply_session_criteria, visible_versions
from ._errors import NoSuchVersionError
from ._names import CHANGED, ENDED_BY, OPERATION, REVISION, VERSION
from ._revisions import load_revisions
from ._row_reader import reader_of
from ._types import aware
from ._version import AssociationVersion, Version

T = TypeVar("T")


@overload
def versions(session: SyncSession, obj: type[T], key: object) -> Sequence[Version[T]]: ...
@overload
def versions(session: SyncSession, obj: T) -> Sequence[Version[T]]: ...
def versions(session: SyncSession, obj: object, key: object = None) -> Sequence[Version[Any]]:
    """Return all versions of an object, the oldest first and the current one last.

    Where listeners of the session add criteria to its SELECTs, versions that do not meet them, by their own values, are
    left out. ``version.object`` has the associations named in ``VersionOptions(associations=...)`` as they were when
    the version ended.

    Pending changes are flushed first where the session autoflushes. Emits one SELECT, one more where there are
    revisions, one where the session adds criteria, and two for each association.

    Args:
        session: The session.
        obj: An object that has a row; or with `key`, a versioned class, for an object that may be deleted.
        key: The primary key of the object; a tuple where it has several columns.

    Raises:
        NotVersionedError: The class is not versioned.
        StateError: `obj` has no primary key yet.
    """
    session = resolve_session(session, "versions")
    if isinstance(obj, type):
        config = require_config(cast("object", obj))
        key_values = as_key(config, key)
    else:
        config = require_config(obj.__class__)
        key_values = _pk_of(config, obj)
    autoflush(session)
    with database_of(session, obj):
        return _load_versions(session, config, key_values)


def as_key(config: VersionConfig, key: object) -> KeyValues:
    """Return a primary key as a tuple.

    Raises:
        InvalidArgumentError: `key` has not as many values as the primary key has columns, or one is None.
    """
    values: KeyValues = tuple(cast("Iterable[object]", key)) if isinstance(key, (tuple, list, Row)) else (key,)
    if len(values) != len(config.key) or None in values:
        raise InvalidArgumentError(
            f"{key!r} is no primary key of {config.name}, which consists of: {', '.join(config.root.key_attrs)}"
        )
    return values


def _pk_of(config: VersionConfig, obj: object) -> KeyValues:
    """Return the primary key of an object, which may be pending."""
    state = instance_state(obj)
    if state.key is not None:
        return pk_of(state)
    key = tuple(state.dict.get(attr) for attr in config.root.key_attrs)
    if None in key:
        raise StateError(f"this {config.name} has no primary key yet; flush it first")
    return key


def _load_versions(session: Session, config: VersionConfig, key: KeyValues) -> list[Version[Any]]:
    """Return all versions of the object with this key."""
    reader = reader_of(config)
    root = config.root
    connection = connection_of(session, root)
    history = reader.select_history().where(key_in(root.history_key, [key])).add_columns(literal(0))
    present = reader.select_main().where(key_in(root.key, [key])).add_columns(literal(1))
    # In one statement, so that no version is missed that another transaction moves from one table to the other.
    found: list[RowValues] = list(connection.execute(union_all(history, present)))
    # The current one is the last, even if its number was set back.
    rows = sorted(
        ((row, bool(row[-1])) for row in found), key=lambda entry: (entry[1], reader.version_data(entry[0], VERSION))
    )
    visible = visible_versions(session, config, [key]) if rows else None
    if visible is not None:
        rows = [entry for entry in rows if reader.versioned_key(entry[0]) in visible]
    revisions = load_revisions(
        session, root, {reader.version_data(row, name) for row, _ in rows for name in (REVISION, ENDED_BY)}
    )
    found_versions: list[Version[Any]] = [
        Version(
            number=reader.version_data(row, VERSION),
            object=reader.object_of(row),
            changed=reader.version_data(row, CHANGED),
            operation=reader.version_data(row, OPERATION),
            revision=revisions.get(reader.version_data(row, REVISION)),
            ended_by=revisions.get(reader.version_data(row, ENDED_BY)),
            current=current,
        )
        for row, current in rows
    ]
    if root.options.associations:
        set_associations_of_versions(session, key, found_versions)
    return found_versions


def load_history_row(
    session: Session, config: VersionConfig, key: KeyValues, number: int | None, *, all_rows: bool = False
) -> RowValues:
    """Return the history row of a version.

    Args:
        session: The session.
        config: The configuration of the class.
        key: The primary key.
        number: The number of the version, None for the last one.
        all_rows: Whether to return rows that do not meet the criteria of the session.

    Raises:
        NoSuchVersionError: There is no such row, or the criteria of the session hide it.
    """
    root = config.root
    history = root.pair.history
    statement: AnySelect = reader_of(config).select_history().where(key_in(root.history_key, [tuple(key)]))
    if number is None:
        statement = statement.order_by(history.c[VERSION].desc()).limit(1)
    else:
        statement = statement.where(history.c[VERSION] == number)
    connection = connection_of(session, root)
    row = connection.execute(statement).first()
    if row is not None and not all_rows:
        visible = visible_versions(session, config, [tuple(key)])
        if visible is not None and reader_of(config).versioned_key(row) not in visible:
            row = None
    if row is None:
        what = "history" if number is None else f"version {number}"
        raise NoSuchVersionError(f"there is no {what} of {config.name} {tuple(key)!r}")
    return row


def version_at(session: SyncSession, entity: type[T], key: object, moment: datetime) -> T | None:
    """Return the object as it was at `moment`, or None if it did not exist then.

    Emits one SELECT. Needs ``VersionOptions(period=True)``.

    Args:
        session: The session.
        entity: The versioned class.
        key: The primary key; a tuple where it has several columns.
        moment: A time with a time zone.

    Raises:
        NotVersionedError: The class is not versioned, or its history has no periods.
        InvalidArgumentError: `moment` has no time zone.
    """
    session = resolve_session(session, "version_at")
    config = require_config(entity)
    require_period(config, "version_at()")
    criteria = [
        getattr(entity, attr) == value for attr, value in zip(config.root.key_attrs, as_key(config, key), strict=True)
    ]
    found: Sequence[T] = as_of(session, select(entity).where(*criteria), moment)
    return found[0] if found else None


@overload
def as_of(session: SyncSession, statement: Select[tuple[T]], moment: datetime) -> Sequence[T]: ...
@overload
def as_of(
    session: SyncSession,
    statement: Select[T],  # type: ignore[type-var, unused-ignore]
    moment: datetime,
) -> Sequence[T]: ...
def as_of(session: SyncSession, statement: AnySelect, moment: datetime) -> Sequence[Any]:
    """Return the objects that a SELECT of one versioned class would have found at `moment`, as they were.

    Criteria, order, joins, limits and EXISTS apply to the rows of that moment, of every class in the statement whose
    history has periods; so do the criteria that listeners of the session add to its SELECTs, of a tenant for instance.

    A clause cannot use what the history does not store: attributes that ``VersionOptions(exclude=...)`` leaves out;
    those that another package derives from others, such as the bounds of nested sets; and those that another package
    also changes in rows that get no version, such as the position of siblings. The objects do not have the last ones.

    Emits one SELECT, and one more for each subclass with its own table and each association.

    Args:
        session: The session.
        statement: A SELECT of one versioned class.
        moment: A time with a time zone.

    Raises:
        NotVersionedError: The class is not versioned, its history has no periods, or a clause uses an attribute that
            the history does not store.
        InvalidArgumentError: `statement` does not select one class, or `moment` has no time zone.
    """
    session = resolve_session(session, "as_of")
    entity = selected_entity(statement)
    config = require_config(entity)
    require_period(config, "as_of()")
    aware(moment)
    autoflush(session)
    reader = reader_of(config, at_a_moment=True)
    statement = apply_session_criteria(session, statement)
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    rows = connection.execute(statement_as_of(connection, reader, entity, statement, moment)).all()
    found: dict[KeyValues, MappedObject] = {}
    for row in rows:
        key = reader.key(row)
        if key not in found:
            found[key] = reader.object_of(row)
    if config.options.associations:
        set_past_associations(session, found, moment, as_of)
    return [found[reader.key(row)] for row in rows]


@overload
def diff(old: Version[T], new: Version[T]) -> dict[str, tuple[object, object]]: ...
@overload
def diff(old: Version[T], new: T) -> dict[str, tuple[object, object]]: ...
@overload
def diff(old: T, new: Version[T]) -> dict[str, tuple[object, object]]: ...
@overload
def diff(old: T, new: T) -> dict[str, tuple[object, object]]: ...
def diff(old: object, new: object) -> dict[str, tuple[object, object]]:
    """Return what differs between two versions or objects, as old and new value by attribute name.

    Only columns are compared, without those that this package maintains or another one derives, and without attributes
    that are not loaded in both. Emits no SQL.

    Raises:
        InvalidArgumentError: `old` and `new` are of different hierarchies.
    """
    before = _state_of(old)
    after = _state_of(new)
    first, second = require_config(before.mapper.class_), require_config(after.mapper.class_)
    if first.root is not second.root:
        raise InvalidArgumentError(f"diff() was given a {first.name} and a {second.name}, which have nothing in common")
    found: dict[str, tuple[object, object]] = {}
    for attr in {**first.columns, **second.columns}:
        if attr in first.derived or attr in second.derived:
            continue
        if attr in before.dict and attr in after.dict:
            pair: tuple[object, object] = before.dict[attr], after.dict[attr]
            same = (first.columns if attr in first.columns else second.columns)[attr].type.compare_values
            if (pair[0] is None) is not (pair[1] is None) or (pair[0] is not None and not same(*pair)):
                found[attr] = pair
    return found


def _state_of(version: object) -> AnyState:
    """Return the state of a versioned object, or of the object of a version."""
    obj = cast("Version[object]", version).object if isinstance(version, Version) else version
    require_config(obj.__class__)
    return instance_state(obj)


def versions_of_association(session: SyncSession, obj: object, name: str) -> Sequence[AssociationVersion]:
    """Return what an object was associated with, and when, in the order in which the associations began.

    Emits one SELECT, and one more where there are revisions.

    Args:
        session: The session.
        obj: The object.
        name: The name of a relationship in ``VersionOptions(associations=...)``.

    Raises:
        NotVersionedError: The class is not versioned, or the relationship has no history.
        StateError: `obj` has no primary key yet.
    """
    session = resolve_session(session, "versions_of_association")
    config = require_config(type(obj))
    association = association_of(config, name)
    autoflush(session)
    with database_of(session, obj):
        return load_association_versions(session, config, association, _pk_of(config, obj))
