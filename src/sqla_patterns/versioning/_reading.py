"""Reading history: `versions`, `version_at`, `as_of`, `diff`, `versions_of_association`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast, overload

from sqlalchemy import Column, Row, Select, inspect, literal, select, union_all
from sqlalchemy.orm import Session, class_mapper

from ..exceptions import InvalidArgumentError, StateError
from ._as_of import selected_entity, statement_as_of
from ._association_reading import load_association, show_associations
from ._associations import association_of
from ._clauses import chunks, key_in
from ._config import VersionConfig, require_config, require_period
from ._past import PastObjects
from ._revision_log import RevisionLog
from ._rows import reader_of
from ._sa import autoflush
from ._tables import CHANGED, ENDED_BY, OPERATION, REVISION, VERSION
from ._types import aware
from ._version import AssociationVersion, Version

__all__ = (
    "as_of",
    "diff",
    "key_of",
    "load_versions",
    "version_at",
    "versions",
    "versions_of_association",
)

T = TypeVar("T")


@overload
def versions(session: Session, obj: type[T], key: object) -> Sequence[Version[T]]: ...
@overload
def versions(session: Session, obj: T) -> Sequence[Version[T]]: ...
def versions(session: Session, obj: Any, key: object = None) -> Any:
    """Return all versions of an object, the oldest first and the current one last.

    Args:
        obj: an object that has a row, or with `key` a versioned class, for an object that may be deleted.
        key: its primary key; a tuple where it has several columns.

    Pending changes are flushed first where the session autoflushes. One SELECT, one more where there are revisions.

    Raises:
        NotVersionedError: the class is not versioned.
        StateError: `obj` has no primary key yet.
    """
    if isinstance(obj, type):
        config = require_config(cast("object", obj))
        identity = key_of(config, key)
    else:
        config = require_config(obj.__class__)
        identity = _identity_of(config, obj)
    autoflush(session)
    return load_versions(session, config, identity)


def key_of(config: VersionConfig, key: object) -> tuple[Any, ...]:
    """`key` as a tuple.

    Raises:
        InvalidArgumentError: it has not as many values as the primary key has columns.
    """
    values: tuple[Any, ...] = tuple(cast("Iterable[Any]", key)) if isinstance(key, (tuple, list, Row)) else (key,)
    if len(values) != len(config.key) or None in values:
        raise InvalidArgumentError(
            f"{key!r} is no primary key of {config.name}, which consists of: {', '.join(config.root.key_attrs)}"
        )
    return values


def _identity_of(config: VersionConfig, obj: Any) -> tuple[Any, ...]:
    state: Any = inspect(obj)
    if state.identity is not None:
        return cast("tuple[Any, ...]", state.identity)
    key = tuple(state.dict.get(attr) for attr in config.root.key_attrs)
    if None in key:
        raise StateError(f"this {config.name} has no primary key yet; flush it first")
    return key


def load_versions(session: Session, config: VersionConfig, key: tuple[Any, ...]) -> list[Version[Any]]:
    """All versions of what has this key."""
    reader = reader_of(config)
    root = config.root
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    history = reader.select_history().where(key_in(root.history_key, [key])).add_columns(literal(0))
    present = reader.select_main().where(key_in(root.key, [key])).add_columns(literal(1))
    # In one statement, so that nothing falls between the tables when somebody writes at the same time.
    found = connection.execute(union_all(history, present))
    rows = sorted(((row, bool(row[-1])) for row in found), key=lambda entry: reader.head(entry[0], VERSION))
    ids = {reader.head(row, name) for row, _ in rows for name in (REVISION, ENDED_BY)}
    revisions = load_revisions(session, root, ids)
    return [
        Version(
            number=reader.head(row, VERSION),
            object=reader.object(row),
            changed=reader.head(row, CHANGED),
            operation=reader.head(row, OPERATION),
            revision=revisions.get(reader.head(row, REVISION)),
            ended_by=revisions.get(reader.head(row, ENDED_BY)),
            current=current,
        )
        for row, current in rows
    ]


def load_revisions(session: Session, root: VersionConfig, ids: Iterable[Any]) -> dict[Any, RevisionLog]:
    """Detached revisions by key."""
    cls = root.options.revision
    wanted = [(each,) for each in ids if each is not None]
    if cls is None or not wanted:
        return {}
    mapper = class_mapper(cls, configure=False)
    attrs = [attr for attr in mapper.column_attrs if isinstance(attr.columns[0], Column)]
    connection = session.connection(bind_arguments={"mapper": mapper})
    statement = select(*(attr.columns[0] for attr in attrs))
    past = PastObjects(mapper, [attr.key for attr in attrs])
    found: dict[Any, RevisionLog] = {}
    for chunk in chunks(wanted):
        for row in connection.execute(statement.where(key_in(list(mapper.primary_key), chunk))):
            each = past.make(row)
            found[inspect(each).identity[0]] = each
    return found


def version_at(session: Session, entity: type[T], key: object, moment: datetime) -> T | None:
    """Return the object as it was at `moment`, or None before its birth and after its deletion.

    One SELECT. Needs ``VersionOptions(period=True)``.

    Raises:
        NotVersionedError: the class is not versioned, or keeps no periods.
        InvalidArgumentError: `moment` has no time zone.
    """
    config = require_config(entity)
    require_period(config, "version_at()")
    criteria = [
        getattr(entity, attr) == value for attr, value in zip(config.root.key_attrs, key_of(config, key), strict=True)
    ]
    found: Sequence[T] = as_of(session, select(entity).where(*criteria), moment)
    return found[0] if found else None


@overload
def as_of(session: Session, statement: Select[tuple[T]], moment: datetime) -> Sequence[T]: ...
@overload
def as_of(session: Session, statement: Select[T], moment: datetime) -> Sequence[T]: ...  # type: ignore[type-var, unused-ignore]
def as_of(session: Session, statement: Any, moment: datetime) -> Any:
    """Return the objects that a SELECT of one versioned class would have found at `moment`, as they were.

    Criteria, order, joins, limits and EXISTS see the rows of that moment, of every class in the statement that keeps periods.

    One SELECT, one more for each subclass with a table of its own and each association.

    Raises:
        NotVersionedError: the class is not versioned, or keeps no periods.
        InvalidArgumentError: `statement` does not select one class, or `moment` has no time zone.
    """
    entity = selected_entity(statement)
    config = require_config(entity)
    require_period(config, "as_of()")
    aware(moment)
    autoflush(session)
    reader = reader_of(config)
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    rows = connection.execute(statement_as_of(connection, reader, entity, statement, moment)).all()
    found: dict[tuple[Any, ...], Any] = {}
    answer: list[Any] = []
    for row in rows:
        key = reader.key(row)
        if key not in found:
            found[key] = reader.object(row)
        answer.append(found[key])
    if config.options.associations:
        show_associations(session, found, moment, as_of)
    return answer


@overload
def diff(old: Version[T], new: Version[T]) -> dict[str, tuple[object, object]]: ...
@overload
def diff(old: Version[T], new: T) -> dict[str, tuple[object, object]]: ...
@overload
def diff(old: T, new: Version[T]) -> dict[str, tuple[object, object]]: ...
@overload
def diff(old: T, new: T) -> dict[str, tuple[object, object]]: ...
def diff(old: Any, new: Any) -> dict[str, tuple[object, object]]:
    """Return what differs between two versions, or two objects, as old and new value by attribute name.

    Columns only; ``version`` and what the room itself maintains are left out. What is not loaded in either is left out too. No SQL.

    Raises:
        InvalidArgumentError: they are of different hierarchies.
    """
    before = _state_of(old)
    after = _state_of(new)
    first, second = require_config(before.mapper.class_), require_config(after.mapper.class_)
    if first.root is not second.root:
        raise InvalidArgumentError(f"diff() was given a {first.name} and a {second.name}, which have nothing in common")
    found: dict[str, tuple[object, object]] = {}
    for attr in {**first.columns, **second.columns}:
        if attr in before.dict and attr in after.dict:
            pair: tuple[object, object] = before.dict[attr], after.dict[attr]
            same = (first.columns.get(attr) if attr in first.columns else second.columns[attr]).type.compare_values  # type: ignore[union-attr]
            if (pair[0] is None) is not (pair[1] is None) or (pair[0] is not None and not same(*pair)):
                found[attr] = pair
    return found


def _state_of(each: Any) -> Any:
    is_version = isinstance(each, Version)
    obj: Any = cast("Any", each).object if is_version else each
    require_config(obj.__class__)
    return inspect(obj)


def versions_of_association(session: Session, obj: object, name: str) -> Sequence[AssociationVersion]:
    """Return what `obj` was associated with, and when, by the relationship `name`, in the order in which it began.

    The relationship must stand in ``VersionOptions(associations=...)``. One SELECT, one more where there are revisions.
    """
    config = require_config(type(obj))
    association = association_of(config, name)
    autoflush(session)
    return load_association(session, config, association, _identity_of(config, obj), load_revisions)
