"""Make versions during a flush.

``before_flush`` looks at all objects that were changed, and refuses what is wrong before anything is written; it closes
the rows of deleted objects. The mapper events, right before the unit of work writes, make the versions: they know the
foreign keys that the flush itself sets, and whom it deletes. The event of the first changed object of a hierarchy
closes the rows of all changed objects, with one UPDATE, and inserts their new versions, with another statement. What
is inserted counts as flushed, so that the unit of work has nothing to update; it sees that the primary key has changed,
and moves the object to its new identity by itself, and back after a rollback, also one to a savepoint.

A column with ``onupdate``, and a value that is an SQL expression, are left to the unit of work: it updates the row that
was just inserted. So it does with all changes to a version that this transaction has made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, update
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.attributes import set_attribute, set_committed_value

from ..._declarative import keep_onupdate
from ..._maintained import deletes_for_good, forget_new_keys, note_new_keys
from ..._sql import chunks, structural
from ..._sqlalchemy import (
    can_be_orphan,
    flushed_states,
    forget_change,
    is_orphan,
    mark_deleted,
    state_of,
    unflushed_removals,
    values_before_changes,
)
from ..._typing import AnyColumn, AnyMapper, AnyState, MappedObject
from ...exceptions import StateError
from .._errors import StaleVersionError
from .._types import aware
from ._changes import check_change, check_new, is_changed, is_closed, is_expression, key_of, look_up, row_of
from ._config import (
    IS_CURRENT,
    OBJECT_ID,
    VALID_FROM,
    VALID_TO,
    VERSION_ID,
    KeyValues,
    TemporalConfig,
    config_of,
    require_config,
)
from ._errors import ClosedVersionError
from ._pins import check_cycles, repoint_rows, settle_objects
from ._session import RowVersions, known_versions, later, row_versions
from ._writer import close_rows, insert_rows, last_versions


def _connection(session: Session, config: TemporalConfig, obj: MappedObject) -> Connection:
    return session.connection(bind_arguments={"mapper": config.mapper, "instance": obj})


# -- before anything is written ------------------------------------------------------------------


def before_flush(session: Session, context: object, instances: object) -> None:
    """Refuse what is wrong, and close the rows of deleted objects."""
    modified = list(session.dirty)
    dirty, new, deleted = _by_class(modified), _by_class(session.new), _by_class(session.deleted)
    orphans = _by_class(_orphans(session, modified))
    versions = known_versions(session)
    if versions is None:
        if not (dirty or new or deleted or orphans):
            return
        versions = row_versions(session)
    versions.begin_flush(context)
    forget_new_keys(session)
    for config, states in new.items():
        _check_new(session, config, states)
    for config, states in dirty.items():
        check_cycles(config)
        changed = [state for state in states if values_before_changes(state)]
        if changed:
            look_up(_connection(session, config, changed[0].obj()), config, versions, changed)
            for state in changed:
                if is_changed(config, state, versions):
                    check_change(config, state, versions)
                    versions.judged[state] = len(values_before_changes(state))
    for config in dict.fromkeys([*deleted, *orphans]):
        if config.closes and not deletes_for_good(session):
            _close(session, config, versions, [*deleted.get(config, ()), *orphans.get(config, ())])


def _by_class(objects: Iterable[MappedObject]) -> dict[TemporalConfig, list[AnyState]]:
    found: dict[TemporalConfig, list[AnyState]] = {}
    for obj in objects:
        state = state_of(obj)
        config = config_of(state.mapper.class_)
        if config is not None:
            found.setdefault(config, []).append(state)
    return found


def _check_new(session: Session, config: TemporalConfig, states: Sequence[AnyState]) -> None:
    for state in states:
        check_new(session, config, state)
        if config.has_time:
            for attribute in (VALID_FROM, VALID_TO):
                given = state.dict.get(attribute)
                if given is not None:
                    # In UTC, as it will be read: in a primary key it is part of the identity.
                    set_attribute(state.obj(), attribute, aware(given).astimezone(UTC))


def _orphans(session: Session, modified: Sequence[MappedObject]) -> Iterator[MappedObject]:
    """Yield objects with temporal rows that SQLAlchemy is about to delete, because they have lost their parent."""
    by_mapper: dict[AnyMapper, list[AnyState]] = {}
    for obj in modified:
        state = state_of(obj)
        by_mapper.setdefault(state.mapper, []).append(state)
    deleted = {id(each) for each in session.deleted}
    seen: set[int] = set()
    for mapper, states in by_mapper.items():
        own = (
            [state.obj() for state in states] if config_of(mapper.class_) is not None and can_be_orphan(mapper) else []
        )
        removed = [
            child
            for relationship in mapper.relationships
            if relationship.cascade.delete_orphan and config_of(relationship.mapper.class_) is not None
            for state in states
            for child in unflushed_removals(state, relationship.key)
        ]
        for obj in (*removed, *own):
            state = state_of(obj)
            if id(obj) not in seen | deleted and state.persistent and is_orphan(state):
                seen.add(id(obj))
                yield obj


def _close(session: Session, config: TemporalConfig, versions: RowVersions, states: list[AnyState]) -> None:
    """Close the rows of deleted objects, and tell the session that they are gone."""
    connection = _connection(session, config, states[0].obj())
    if config.form != "temporal" and config.has_time:
        look_up(connection, config, versions, states)
    for state in states:
        if is_closed(config, state, versions):
            raise ClosedVersionError(
                f"{config.name} {key_of(state)!r} is a closed version and cannot be deleted; delete the current "
                "version of the object, which a SELECT without include_history finds"
            )
    moment = versions.moment(session) if config.has_time else None
    ends = {
        key_of(state): None if moment is None else later(moment, _valid_from(config, state, versions))
        for state in states
    }
    close_rows(connection, config, ends, "deleted")
    mark_deleted(session, [state.obj() for state in states])


def _valid_from(config: TemporalConfig, state: AnyState, versions: RowVersions) -> datetime:
    """Return when the version in hand began."""
    if config.form == "temporal":
        found: datetime = key_of(state)[config.key_names.index(VALID_FROM)]
        return found
    row, key = versions.looked_up.get(state, {}), config.column_keys[VALID_FROM]
    value: datetime = row[key] if key in row else state.dict[VALID_FROM]
    return value


# -- updates -------------------------------------------------------------------------------------


def before_update(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Make the versions of all changed objects of a hierarchy."""
    session = _session_of(state)
    versions = row_versions(session)
    if state in versions.handled:
        return
    if not values_before_changes(state):
        return
    states = [state]
    if session.connection_callable is None:  # a sharded session has several databases
        states = list(flushed_states(versions.context, mapper, deletes=False)) or states
    config = require_config(mapper)
    made = versions.made(session)
    waiting = [
        each
        for each in states
        if each.key is not None
        and each not in versions.handled
        and values_before_changes(each)
        and each.key not in made
    ]
    # Most were looked at when the flush began. Since then the flush may have set foreign keys, and listeners anything.
    judged = versions.judged
    other = [each for each in waiting if judged.get(each) != len(values_before_changes(each))]
    look_up(connection, config, versions, other)
    unchanged = {each for each in other if not is_changed(config, each, versions)}
    changed = [each for each in waiting if each not in unchanged]
    for each in other:
        if each not in unchanged:
            check_change(config, each, versions)
    if changed:
        make_versions(session, config, connection, changed)


def make_versions(session: Session, config: TemporalConfig, connection: Connection, states: list[AnyState]) -> None:
    """Close the rows of objects and insert their new versions: one UPDATE and one INSERT for a thousand."""
    versions = row_versions(session)
    moment = versions.moment(session) if config.has_time else None
    ends: dict[KeyValues, datetime | None] = {}
    keys_of = config.column_keys
    rows: list[dict[str, Any]] = []
    maintained: list[dict[str, Any]] = []
    for state in states:
        begin = None if moment is None else later(moment, _valid_from(config, state, versions))
        ends[key_of(state)] = begin
        row = row_of(config, state, versions)
        values = _next_version(config, row, begin)
        row.update((keys_of[attribute], value) for attribute, value in values.items())
        if config.form == "copied":
            del row[config.key[0].key]
        rows.append(row)
        maintained.append(values)
    close_rows(connection, config, ends, "changed")
    made = insert_rows(connection, config, rows)
    if config.form == "copied":
        (attribute,) = config.key_names
        for values, key in zip(maintained, made, strict=True):
            values[attribute] = key
    keys: list[Any] = []
    replaced = versions.replaced.setdefault(config, {})
    for state, values in zip(states, maintained, strict=True):
        keys.append(_take_over(session, config, state, values))
        replaced[key_of(state)] = state
    versions.handled.update(states)
    versions.note_made(session, keys)
    note_new_keys(session, states)


def _next_version(config: TemporalConfig, row: dict[str, Any], begin: datetime | None) -> dict[str, Any]:
    """Return what the library sets in the row that follows, by attribute."""
    values: dict[str, Any] = {}
    if config.form == "versioned":
        values[VERSION_ID] = row[config.column_keys[VERSION_ID]] + 1
    if config.form == "copied":
        object_id = row[config.column_keys[OBJECT_ID]]
        # A row that came past the ORM is the first of its object.
        values[OBJECT_ID] = row[config.key[0].key] if object_id is None else object_id
    if config.form != "temporal":
        values[IS_CURRENT] = True
    if config.has_time:
        values |= {VALID_FROM: begin, VALID_TO: None}
    return values


def _take_over(session: Session, config: TemporalConfig, state: AnyState, values: dict[str, Any]) -> Any:
    """Make an object the version that was inserted, and return the identity key that it will have."""
    obj, loaded, layout = state.obj(), state.dict, config.layout(state.mapper)
    # The unit of work shall update the row once more where only it knows what an UPDATE sets.
    if not config.onupdate:
        for attribute in [each for each in values_before_changes(state) if each in layout.keys]:
            if not is_expression(loaded.get(attribute)):
                forget_change(state, attribute)
    for attribute, value in values.items():
        if attribute not in loaded or loaded[attribute] != value:
            set_committed_value(obj, attribute, value)
    # All of the key, also what is not loaded: the unit of work reads it to see that the identity has changed, and would
    # load it from the former row.
    for attribute, value in zip(config.key_names, key_of(state), strict=True):
        if attribute not in loaded:
            set_committed_value(obj, attribute, value)
    if layout.computed:
        stale = [each for each in layout.computed if each in loaded]
        if stale:
            session.expire(obj, stale)
    former: Any = state.key
    return former[0], tuple([loaded[attribute] for attribute in config.key_names]), former[2]


def before_delete(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Refuse to remove a row that shall be closed, if nobody could know of it before the flush.

    Raises:
        StateError: The object was deleted by a listener during the flush.
    """
    session, config = _session_of(state), require_config(mapper)
    if config.closes and not deletes_for_good(session):
        raise StateError(
            f"{config.name} {key_of(state)!r} would be removed, although its class closes the rows of deleted objects: "
            "it was deleted, or lost its parent, while the flush was going on; delete it before the flush"
        )


# -- inserts -------------------------------------------------------------------------------------


def before_insert(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Give new objects of a hierarchy their first version, or the next one of a key that was used before."""
    session = _session_of(state)
    versions = row_versions(session)
    if state in versions.inserted:
        return
    states = [state]
    if session.connection_callable is None:
        states = list(flushed_states(versions.context, mapper, deletes=False)) or states
    config = require_config(mapper)
    new = [each for each in states if each.key is None and each not in versions.inserted]
    versions.inserted.update(new)
    former = _former_versions(config, connection, new)
    moment = versions.moment(session) if config.has_time else None
    for each in new:
        _begin(config, each, moment, former.get(_stable_key(config, each)))


def _stable_key(config: TemporalConfig, state: AnyState) -> KeyValues:
    return tuple(state.dict.get(config.attribute(column)) for column in config.stable)


def _former_versions(
    config: TemporalConfig, connection: Connection, states: Iterable[AnyState]
) -> dict[KeyValues, Sequence[Any]]:
    """Return the last number and the last end of the objects that had the keys of new ones, if the user set these."""
    keys = [key for state in states if None not in (key := _stable_key(config, state))]
    wanted = {"versioned": [VERSION_ID], "temporal": [], "copied": []}[config.form]
    columns = [config.column(each) for each in wanted + ([VALID_FROM, VALID_TO] if config.has_time else [])]
    return last_versions(connection, config, keys, columns) if keys and columns else {}


def _begin(config: TemporalConfig, state: AnyState, moment: datetime | None, former: Sequence[Any] | None) -> None:
    given, obj = state.dict, state.obj()
    last = list(former or ())
    if config.form == "versioned":
        number = last.pop(0) if last else 0
        if given.get(VERSION_ID) is None:
            set_attribute(obj, VERSION_ID, number + 1)
        elif given[VERSION_ID] <= number:
            raise StaleVersionError(
                f"a new {config.name} has the key {_stable_key(config, state)!r} and version_id {given[VERSION_ID]}, "
                f"and there is a version {number} of this object already; leave version_id out, or load the current "
                "version"
            )
    if config.form == "copied" and given.get(OBJECT_ID) is None:
        own = given.get(config.attribute(config.key[0]))
        if own is not None:
            set_attribute(obj, OBJECT_ID, own)
    if config.form != "temporal" and given.get(IS_CURRENT) is None:
        set_attribute(obj, IS_CURRENT, True)
    if moment is not None and given.get(VALID_FROM) is None:
        begun: datetime | None
        ended: datetime | None
        begun, ended = last or (None, None)
        if ended is not None and ended > moment:
            moment = ended  # the moment at which the former version ended is the first one after it
        set_attribute(obj, VALID_FROM, later(moment, begun))


def after_insert(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Note that this transaction has made the version, and which ``object_id`` it has."""
    session, config = _session_of(state), require_config(mapper)
    versions = row_versions(session)
    obj = state.obj()
    key = tuple(state.dict[config.attribute(column)] for column in config.key)
    if config.form == "copied" and state.dict.get(OBJECT_ID) is None:
        # Now, since relationships copy it to other objects; the row gets it after the flush, with all others.
        set_committed_value(obj, OBJECT_ID, key[0])
        versions.unnamed.setdefault(config, []).append(key[0])
    versions.note_made(session, [mapper.identity_key_from_primary_key(key, identity_token=state.identity_token)])


# -- after it ------------------------------------------------------------------------------------


def after_flush(session: Session, context: object) -> None:
    """Set ``object_id`` of new rows, and what refers to the versions that were closed."""
    versions = known_versions(session)
    if versions is None:
        return
    for config, keys in versions.unnamed.items():
        connection = session.connection(bind_arguments={"mapper": config.mapper})
        (key,) = config.key
        values: dict[AnyColumn, Any] = keep_onupdate(config.table)
        naming = structural(update(config.table).values(values | {config.column(OBJECT_ID): key}))
        for chunk in chunks(keys):
            connection.execute(naming.where(key.in_(chunk)))
    for config, replaced in versions.replaced.items():
        repoint_rows(session, config, replaced)


def after_flush_postexec(session: Session, context: object) -> None:
    """Bring objects that refer to the new versions into step, and forget the flush that has ended."""
    versions = known_versions(session)
    if versions is None:
        return
    replaced, levels = dict(versions.replaced), dict(versions.levels)
    versions.begin_flush(None)
    versions.levels.clear()
    for config, by_key in replaced.items():
        versions.levels.update(settle_objects(session, config, by_key, levels))


def after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    """Forget the versions that a rollback has removed."""
    versions = known_versions(session)
    if versions is not None:
        versions.begin_flush(None)
        versions.levels.clear()
        versions.forget_rolled_back(previous)


def _session_of(state: AnyState) -> Session:
    session = state.session
    if session is None:
        raise StateError(f"this {state.mapper.class_.__name__} is in no session; add it to one")
    return session


MAPPER_LISTENERS: dict[str, Callable[..., None]] = {
    "before_insert": before_insert,
    "after_insert": after_insert,
    "before_update": before_update,
    "before_delete": before_delete,
}
SESSION_LISTENERS: dict[str, Callable[..., None]] = {
    "before_flush": before_flush,
    "after_flush": after_flush,
    "after_flush_postexec": after_flush_postexec,
    "after_soft_rollback": after_soft_rollback,
}
