"""Read and correct what SQLAlchemy knows of an object: values as of the last flush, pending changes, orphans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy.orm import AttributeEventToken, Session, attributes
from sqlalchemy.orm.attributes import get_history, instance_state
from sqlalchemy.orm.base import NO_VALUE, PASSIVE_NO_INITIALIZE

from .._session import current_database
from .._typing import AnyAttribute, AnyMapper, AnyRelationship, AnyState, MappedObject, PrimaryKey
from . import _names as names

#: What `committed` returns for a value that is not loaded.
UNKNOWN: Final = NO_VALUE

#: Returns the state of a mapped object, as ``inspect()`` does in ten times the time: for loops over many objects.
state_of: Final[Callable[[object], AnyState]] = instance_state


def pk_of_state(state: AnyState) -> PrimaryKey:
    """Return the primary key, of one column, of a persistent object; ``state.identity`` copies it each time."""
    key: PrimaryKey = state.key
    return key[1][0]


def object_in_session(
    session: Session, mapper: AnyMapper, pk: Sequence[PrimaryKey], *, near: AnyState | None = None
) -> MappedObject | None:
    """Return the object with a primary key that is in the session already, without SQL; None if there is none.

    Args:
        session: The session.
        mapper: The mapper of the class or of one that it inherits from.
        pk: The values of the primary key in the order of its columns.
        near: An object on the same database, for sessions that have several; otherwise it is the one worked with now.
    """
    token = None if near is None else near.identity_token
    token = current_database(session) if token is None else token
    return session.identity_map.get(mapper.identity_key_from_primary_key(tuple(pk), identity_token=token))


def objects_in_session(session: Session, cls: type[Any]) -> list[MappedObject]:
    """Return the persistent objects of a class that a session holds, of the database that it works with now."""
    token = current_database(session)
    found: list[MappedObject] = [obj for obj in session.identity_map.values() if isinstance(obj, cls)]
    return found if token is None else [obj for obj in found if instance_state(obj).identity_token == token]


def changed(state: AnyState, key: str) -> bool:
    """Return whether attribute `key` was set since the last flush, possibly to the value that it had.

    `History` reports a net change only, and loads the former value of some attributes.
    """
    return key in state.committed_state


def committed(state: AnyState, key: str, default: object = UNKNOWN) -> PrimaryKey:
    """Return the value of attribute `key` as of the last flush or load; `default`, and no SQL, if it is not known."""
    if key in state.committed_state:
        return state.committed_state[key]
    return state.dict.get(key, default)


def values_before_changes(state: AnyState) -> dict[str, object]:
    """Return what was set since the last flush, with the values before; those that were not loaded are symbols.

    `History` tells the same at ten times the cost.
    """
    return state.committed_state


def set_value_before_change(state: AnyState, key: str, value: object) -> None:
    """Take `value` for what attribute `key` was at the last flush, as if it had been loaded before it was set."""
    state.committed_state[key] = value


def forget_change(state: AnyState, key: str) -> None:
    """Take the present value of relationship `key` as flushed, and keep the very collection that the user may hold.

    `set_committed_value` would do for a scalar, but puts a new collection in place of a loaded one: what the user
    appends to the former one later would be lost.
    """
    state.committed_state.pop(key, None)
    pending: dict[str, object] = state.__dict__.get(names.PENDING_MUTATIONS.name) or {}
    pending.pop(key, None)


def forget_former_value(state: AnyState, key: str) -> None:
    """Take None for what relationship `key` held before; the change to what it holds now stays.

    The unit of work has an object wait for its former parent too, which may itself wait for the object by now.
    """
    if key in state.committed_state:
        state.committed_state[key] = None


def has_pending_changes(state: AnyState, key: str) -> bool:
    """Return whether collection `key`, which is not loaded, was changed from its other end.

    `get_history` does not tell.
    """
    return key in (state.__dict__.get(names.PENDING_MUTATIONS.name) or {})


def pending_additions(state: AnyState, key: str) -> list[MappedObject]:
    """Return what was added to collection `key`, which is not loaded, since the last flush."""
    return _pending(state, key, "added_items")


def unflushed_additions(state: AnyState, key: str) -> list[MappedObject]:
    """Return what was added to collection `key` since the last flush, also where the collection is not loaded."""
    added = get_history(state.obj(), key, PASSIVE_NO_INITIALIZE).added or ()
    return [*added, *_pending(state, key, "added_items")]


def unflushed_removals(state: AnyState, key: str) -> list[MappedObject]:
    """Return what left relationship `key` since the last flush, also where a collection is not loaded."""
    removed = get_history(state.obj(), key, PASSIVE_NO_INITIALIZE).deleted or ()
    return [each for each in (*removed, *_pending(state, key, "deleted_items")) if each is not None]


def _pending(state: AnyState, key: str, name: str) -> list[MappedObject]:
    # Not by getattr(): that would make an empty dictionary for each state.
    changes: dict[str, object] = state.__dict__.get(names.PENDING_MUTATIONS.name) or {}
    return list(getattr(changes.get(key), name, None) or ())


# -- orphans -----------------------------------------------------------------------------------------------------------


def can_be_orphan(mapper: AnyMapper) -> bool:
    """Return whether a relationship with ``delete-orphan`` leads to `mapper`."""
    return any(names.DELETE_ORPHANS.get(each) for each in mapper.iterate_to_root())


def is_orphan(state: AnyState) -> bool:
    """Return whether the flush takes an object for an orphan and deletes it."""
    decide: Callable[[AnyState], bool] | None = names.IS_ORPHAN.get(state.mapper)
    return decide is not None and bool(decide(state))


def is_unsaved_orphan(state: AnyState) -> bool:
    """Return whether the flush leaves out a pending object, which lost its parent before it came into the session."""
    return bool(names.ORPHANED_OUTSIDE.get(state))


def has_parent(relation: AnyRelationship, obj: object) -> bool:
    """Return whether `obj` is a member of anybody's `relation`; what was loaded counts as one until it is removed."""
    return bool(attributes.has_parent(relation.parent.class_, obj, relation.key, optimistic=True))


def is_edited(obj: object) -> bool:
    """Return whether a column attribute has another value than at the last flush.

    A former value that is not known does not count.
    """
    state = instance_state(obj)
    for attribute in state.mapper.column_attrs:
        if attribute.key in state.committed_state:
            before = state.committed_state[attribute.key]
            if before is not NO_VALUE and bool(before != state.dict.get(attribute.key)):
                return True
    return False


# -- events ------------------------------------------------------------------------------------------------------------


def announce_refresh(state: AnyState, attrs: set[str]) -> None:
    """Tell all listeners to ``refresh`` that attributes were set from the row.

    ``ext.mutable`` wraps their values then.
    """
    listeners = names.STATE_LISTENERS.get(state.manager)
    if listeners is not None:
        listeners.refresh(state, None, attrs)


def coerce_mutable(state: AnyState, key: str) -> None:
    """Have ``sqlalchemy.ext.mutable`` take over a value that was put into the object's dictionary without an event.

    The extension does so by itself for values that come from the database, in a listener to ``refresh``. Only that
    listener is called here, with the one attribute: there was no refresh, and the user's own listeners must not be told
    of one. Listeners cannot be enumerated by public means.
    """
    # Without get(), which is one more call: a test counts those of an active default.
    listeners = getattr(getattr(state.manager, names.STATE_LISTENERS.name, None), "refresh", ())
    for listener in listeners:
        if getattr(listener, "__module__", None) == "sqlalchemy.ext.mutable":
            listener(state, None, (key,))


def is_propagated(attribute: AnyAttribute, initiator: AttributeEventToken | None) -> bool:
    """Return whether an event of `attribute` was started by another attribute, the other end of a relationship.

    SQLAlchemy's own handler of back references compares the same tokens; a class and its subclasses share one.
    """
    token: object = names.PARENT_TOKEN.get(initiator)
    return token is not None and token is not names.PARENT_TOKEN.get(attribute.impl, token)
