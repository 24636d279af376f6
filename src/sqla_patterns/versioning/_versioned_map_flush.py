"""Turn a changed map into a new version: the object in hand becomes a new row, and the row that it was stays.

A flush with changed maps runs in these steps:

1. ``before_flush``, after the listeners of the user's. What a changed object has not loaded is read, for all of them in
   one statement. Each becomes pending again, with the next number of its stream and no key, and remembers what it was.
   Values that it has as before are shared; new ones are told which version they come from.
2. The unit of work inserts versions, values and entries, each in one executemany.
3. ``after_flush_postexec``: what referred to an object by the key that it had is expired.
4. After a rollback, also of a savepoint, each object gets back the key that it had. A first version becomes transient,
   as any new object does.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection
from sqlalchemy.orm import Session, SessionTransaction, make_transient
from sqlalchemy.orm.attributes import get_history, set_attribute
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE
from sqlalchemy.orm.interfaces import MANYTOONE

from .._sqlalchemy import (
    UNKNOWN,
    has_own_listeners,
    is_last,
    listen_last,
    mappers_of,
    set_value_before_change,
    state_of,
    values_before_changes,
)
from .._typing import AnyMapper, AnyRelationship, MappedObject
from ..exceptions import MappingError, StateError
from ._versioned_map_config import ORIGIN, ROWS, VERSION, MapConfig, by_config, map_config, maps_in, rows_of
from ._versioned_map_deletes import checked_deletes
from ._versioned_map_loading import load_rows, load_values
from ._versioned_map_session import Former, SessionMaps, known_maps, maps_of

# -- before the flush --------------------------------------------------------------------------------------------------


def before_flush(session: Session, context: object, instances: object) -> None:
    """Listen for ``before_flush``: make versions after all other listeners."""
    # Listeners of a session come after those of its class; ours is to be the last of both.
    if _has_maps(session):
        called = has_own_listeners(session)
        listen_last(session, of_class=before_flush, of_session=_before_flush_of_session)
        # A listener that is added to a session which had none is called from the next flush on.
        if is_last(session, before_flush) or not called:
            _make_versions(session)


def after_transaction_create(session: Session, transaction: SessionTransaction) -> None:
    """Listen for ``after_transaction_create``: before the first flush there is time to become the last listener."""
    if transaction.parent is None:
        listen_last(session, of_class=before_flush, of_session=_before_flush_of_session)


def _before_flush_of_session(session: Session, context: object, instances: object) -> None:
    if _has_maps(session) or known_maps(session) is not None:
        _make_versions(session)


def _has_maps(session: Session) -> bool:
    """Return whether the flush has maps to look at."""
    return next(maps_in((*session.new, *session.dirty, *session.deleted)), None) is not None


def _make_versions(session: Session) -> None:
    """Prepare all new and changed maps of a session for the flush.

    Raises:
        StateError: A change that is none of a new version, such as another stream.
        StaleVersionError: The row of a changed map was deleted.
    """
    maps = maps_of(session)
    maps.new_rows.clear()
    maps.flushing.clear()
    maps.deleted = checked_deletes(session, list(maps_in(session.deleted)))
    changed = [(obj, config) for obj, config in maps_in(session.dirty) if _is_touched(obj, config)]
    for config, objects in by_config(changed).items():
        check_relationships(config.mapper)
        load_rows(session, config, objects)
    # All are checked before one is changed.
    versions = [(obj, config) for obj, config in changed if _is_changed(obj, config)]
    for config, objects in by_config(versions).items():
        load_values(session, config, objects)
    transaction = session.get_nested_transaction() or session.get_transaction()
    for obj, config in versions:
        _become_next(session, maps, obj, config, transaction)
    for obj, config in maps_in(session.new):
        _prepare_insert(session, maps, obj, config, transaction)


def check_relationships(mapper: AnyMapper) -> None:
    """Refuse a relationship whose rows would stay at the former version, which looks as if they had gone.

    Raises:
        MappingError: There is one.
    """
    for prop in mapper.relationships:
        if prop.key != ROWS and not prop.viewonly and prop.direction is not MANYTOONE:
            raise MappingError(
                f"{mapper.class_.__name__}.{prop.key} holds rows that refer to one version, and each change of a "
                "versioned map makes a new version, without them; have them refer to what the stream belongs to, or "
                "make the relationship viewonly=True"
            )


def _is_touched(obj: MappedObject, config: MapConfig) -> bool:
    """Return whether a column or the values of a persistent object were set, possibly to what they were."""
    before = values_before_changes(state_of(obj))
    if any(name in before for name in (config.pk_attribute, VERSION, *config.stream, *config.details)):
        return True
    return _values_changed(obj) or _changed_reference(obj, config) is not None


def _changed_reference(obj: MappedObject, config: MapConfig) -> AnyRelationship | None:
    """Return a relationship of the user's that was set, and whose foreign key the flush will write; None without."""
    before = values_before_changes(state_of(obj))
    for prop in config.mapper.relationships:
        is_users = prop.key in before and prop.key != ROWS and not prop.viewonly
        if is_users and get_history(obj, prop.key, PASSIVE_NO_INITIALIZE).has_changes():
            return prop
    return None


def _values_changed(obj: MappedObject) -> bool:
    history = get_history(obj, ROWS, PASSIVE_NO_INITIALIZE)
    return bool(history.added or history.deleted)


def _is_changed(obj: MappedObject, config: MapConfig) -> bool:
    """Return whether a persistent object differs from the version that it is.

    Raises:
        StateError: The number, the stream or the key was changed.
    """
    for name in (config.pk_attribute, VERSION, *config.stream):
        if get_history(obj, name, PASSIVE_NO_INITIALIZE).has_changes():
            what = "the stream" if name in config.stream else "the key of a version"
            raise StateError(
                f"{config.label(obj)}: {name} was set, which tells {what} and never changes; roll back, or make a new "
                f"{config.name} with the values of this one"
            )
    reference = _changed_reference(obj, config)
    if reference is not None and {config.column(name) for name in config.stream} & set(reference.local_columns):
        raise StateError(
            f"{config.label(obj)}: {reference.key} was set, which tells the stream and never changes; roll back, or "
            f"make a new {config.name} with the values of this one"
        )
    return (
        _values_changed(obj)
        or reference is not None
        or any(get_history(obj, name, PASSIVE_NO_INITIALIZE).has_changes() for name in config.details)
    )


def _become_next(
    session: Session, maps: SessionMaps, obj: MappedObject, config: MapConfig, transaction: SessionTransaction | None
) -> None:
    """Make a persistent object pending as the next version of its stream."""
    state = state_of(obj)
    number, key = getattr(obj, VERSION) + 1, cast("Any", state.key)[1][0]
    set_by_user = {name for name in config.generated if get_history(obj, name, PASSIVE_NO_INITIALIZE).has_changes()}
    maps.made.append(Former(state, key, transaction))
    make_transient(obj)
    for name in {config.pk_attribute, *config.generated} - set_by_user:
        # Not set to None, which some types would store.
        state.dict.pop(name, None)
        values_before_changes(state).pop(name, None)
    maps.numbers[state] = number
    session.add(obj)


def _prepare_insert(
    session: Session, maps: SessionMaps, obj: MappedObject, config: MapConfig, transaction: SessionTransaction | None
) -> None:
    """Give a pending object its number, and have the unit of work write an entry for each of its values."""
    state = state_of(obj)
    number = maps.numbers.get(state)
    if number is None:
        maps.made.append(Former(state, None, transaction))
        number = 1
    if state.dict.get(VERSION) != number:
        set_attribute(obj, VERSION, number)
    maps.flushing.add(state)
    rows = rows_of(obj)
    for key, row in list(rows.items()):
        stored = _row_to_store(session, config, key, row, number)
        if stored is not row:
            rows[key] = stored
        if not state_of(stored).has_identity:
            set_attribute(stored, ORIGIN, obj)
            session.add(stored)
            maps.new_rows.append(stored)
    # As if the values had not been loaded: those of the former version would count as written.
    set_value_before_change(state, ROWS, UNKNOWN)


def _row_to_store(session: Session, config: MapConfig, key: str, row: MappedObject, number: int) -> MappedObject:
    """Return the row of a value that a version of this number can refer to, in this session."""
    if not state_of(row).has_identity:
        return row
    if number == 1:
        # Of another stream: the user has made a new object of one that was stored.
        return config.new_row(key, row.value)
    # The object may come from another session, or from a pickle, where a value has another object.
    return row if row in session else session.merge(row, load=False)


# -- what comes later --------------------------------------------------------------------------------------------------


def refuse_late_change(mapper: AnyMapper, _: Connection, obj: MappedObject) -> None:
    """Raise if an UPDATE is about to be written for a version, which came up after the versions were made.

    Raises:
        StateError: It is.
    """
    config = map_config(mapper.class_)
    if config is not None and _is_touched(obj, config) and _is_changed(obj, config):
        raise StateError(
            f"{config.label(obj)} was changed inside of the flush, after its new version had been made; change maps "
            "before the flush, or in a before_flush listener"
        )


def refuse_late_value(mapper: AnyMapper, _: Connection, row: MappedObject) -> None:
    """Raise if a value is about to be changed that versions of the past have as well.

    Raises:
        StateError: It is.
    """
    if any(get_history(row, name, PASSIVE_NO_INITIALIZE).has_changes() for name in ("origin_id", "key", "value")):
        raise StateError(
            f"the value {row.key!r} of {mapper.class_.__qualname__} was set, and versions of the past share it; set "
            "the key of the map instead"
        )


# -- after the flush, and after a rollback -----------------------------------------------------------------------------


def after_flush_postexec(session: Session, context: object) -> None:
    """Listen for ``after_flush_postexec``: expire what refers to the versions that objects were."""
    maps = known_maps(session)
    if maps is None or not (maps.flushing or maps.new_rows):
        return
    for row in maps.new_rows:
        # The object goes on to be another version, and the value keeps the one that it comes from.
        session.expire(row, [ORIGIN])
    _expire_references(session, maps)
    for state in maps.flushing:
        maps.numbers.pop(state, None)
    maps.new_rows.clear()
    maps.flushing.clear()


def _expire_references(session: Session, maps: SessionMaps) -> None:
    """Expire relationships of other objects to a version that the object which they hold was before."""
    moved = {former.state for former in maps.made if former.pk is not None} & maps.flushing
    if not moved:
        return
    owners = {state.mapper.base_mapper for state in moved}
    references = _references_to(owners)
    if not references:
        return
    for other in list(session.identity_map.values()):
        for prop in references.get(state_of(other).mapper, ()):
            target = state_of(other).dict.get(prop.key)
            if target is not None and state_of(target) in moved and _refers_to_another(other, prop, target):
                session.expire(other, [prop.key])


def _references_to(owners: set[AnyMapper]) -> dict[AnyMapper, list[AnyRelationship]]:
    found: dict[AnyMapper, list[AnyRelationship]] = {}
    for owner in owners:
        for mapper in mappers_of(owner.registry):
            for prop in mapper.relationships:
                if prop.direction is MANYTOONE and prop.mapper.base_mapper is owner:
                    found.setdefault(mapper, []).append(prop)
    return found


def _refers_to_another(obj: MappedObject, prop: AnyRelationship, target: MappedObject) -> bool:
    state = state_of(obj)
    for local, remote in prop.local_remote_pairs or ():
        local_key = state.mapper.get_property_by_column(cast("Any", local)).key
        remote_key = prop.mapper.get_property_by_column(cast("Any", remote)).key
        if state.dict.get(local_key, UNKNOWN) != state_of(target).dict.get(remote_key, UNKNOWN):
            return True
    return False
