"""Join a flush, ask what it writes, and tell a session which rows other statements have inserted or deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.attributes import set_committed_value

from .._typing import AnyMapper, AnyState, MappedObject, PrimaryKey
from ..exceptions import StateError
from . import _names as names

Listener = Callable[..., None]


class UnitOfWork(Protocol):
    """What the library uses of the object that ``before_flush`` passes as ``flush_context``."""

    states: Mapping[AnyState, tuple[bool, bool]]
    mappers: Mapping[AnyMapper, set[AnyState]]

    def register_object(self, state: AnyState, isdelete: bool = False, listonly: bool = False) -> bool: ...


class FlushStep(Protocol):
    """A step of a flush that runs when all objects of the flush are collected and none is written."""

    def execute(self, uow: Any, /) -> bool:
        """Run again and again, until no step says that it has changed something."""
        ...


# -- the flush in hand -------------------------------------------------------------------------------------------------


def join_flush(flush_context: object, name: str, step: FlushStep) -> None:
    """Have `step` executed after the last ``before_flush`` listener, while orphans are found, before any write.

    There is no public event in that place: the unit of work finds orphans of other relationships itself, in steps such
    as this one.

    Raises:
        StateError: This SQLAlchemy has no such steps. Without them edges of deleted nodes would be left behind unseen.
    """
    steps = names.PRESORT_ACTIONS.get(flush_context)
    if not isinstance(steps, dict):
        raise StateError(
            "sqla_patterns.graphs cannot take part in this flush, because this release of SQLAlchemy has a unit of "
            "work that it does not know; install one of the supported releases"
        )
    steps[name] = step


def register_deleted(uow: UnitOfWork, state: AnyState) -> None:
    """Have the flush `uow` delete an object, and what its relationships delete with it, as it does with an orphan.

    The steps of the flush may have taken such an object for an update already, and never look at one twice.
    """
    dependents = [dependent for _, _, dependent, _ in state.mapper.cascade_iterator("delete", state)]
    for each in (state, *dependents):
        if each in uow.states:
            for step in names.PRESORT_ACTIONS.get(uow, {}).values():
                processed: set[AnyState] = names.PROCESSED.get(step, set[AnyState]())
                processed.discard(each)
        uow.register_object(each, isdelete=True)


def is_writing(session: Session) -> bool:
    """Return whether a flush of `session` has planned everything and is about to write, or writes.

    SQLAlchemy keeps the flag to warn of operations in mapper events.
    """
    return bool(names.WARN_ON_EVENTS.get(session, False))


def flushed_states(context: object, mapper: AnyMapper, *, deletes: bool) -> Iterator[AnyState]:
    """Return the objects of the hierarchy of `mapper` that the present flush writes, or deletes.

    Mapper events see one object at a time, and the unit of work, which ``before_flush`` hands out, is documented as
    internal.
    """
    listed: Callable[[AnyMapper, bool, bool], Iterator[AnyState]] | None = names.STATES_OF_HIERARCHY.get(context)
    return iter(()) if listed is None else listed(mapper, deletes, False)


def is_deleted(context: object, state: AnyState) -> bool:
    """Return whether the present flush deletes an object.

    ``session.deleted`` does not know the objects that a cascade inside the flush deletes.
    """
    states: Mapping[AnyState, tuple[bool, bool]] = names.FLUSHED_STATES.get(context, {})
    return states.get(state, (False, False))[0]


def flushed_mappers(context: object) -> list[AnyMapper]:
    """Return the mappers whose objects the present flush writes or deletes."""
    mappers: Mapping[AnyMapper, set[AnyState]] = names.FLUSHED_MAPPERS.get(context, {})
    return [mapper for mapper, states in mappers.items() if states]


def flushed_of(context: object, mapper: AnyMapper) -> list[tuple[AnyState, bool]]:
    """Return the objects of exactly this mapper in the present flush, each with whether the flush deletes it."""
    mappers: Mapping[AnyMapper, set[AnyState]] = names.FLUSHED_MAPPERS.get(context, {})
    return [(state, is_deleted(context, state)) for state in mappers.get(mapper, ())]


# -- listeners to before_flush -----------------------------------------------------------------------------------------


def _before_flush_listeners(session: Session) -> list[Listener]:
    # `event.contains` does not tell who comes last.
    return list(getattr(names.SESSION_LISTENERS.get(session), "before_flush", ()))


def listens(session: Session, fn: Listener) -> bool:
    """Return whether `fn` listens to ``before_flush`` of `session`, by its class or by itself."""
    return any(each is fn for each in _before_flush_listeners(session))


def is_last(session: Session, *fns: Listener) -> bool:
    """Return whether the last listener to ``before_flush`` of `session` is one of `fns`."""
    listeners = _before_flush_listeners(session)
    return bool(listeners) and any(listeners[-1] is fn for fn in fns)


def has_own_listeners(session: Session) -> bool:
    """Return whether a session has listeners to ``before_flush`` by itself, beside those of its class.

    Without any, SQLAlchemy calls those of the class only, also if a listener adds one to the session meanwhile.
    """
    return bool(getattr(getattr(names.SESSION_LISTENERS.get(session), "before_flush", None), "listeners", ()))


def listen_last(session: Session, *, of_class: Listener, of_session: Listener) -> None:
    """Have `of_session` listen to ``before_flush`` after all others, unless `of_class` is the last one already.

    Listeners of a session come after those of its class. Those of a class must not be put into another order, since
    other threads may be calling them.
    """
    if is_last(session, of_class, of_session) or not listens(session, of_class):
        return
    if listens(session, of_session):
        event.remove(session, "before_flush", of_session)
    event.listen(session, "before_flush", of_session)


# -- what statements have done -----------------------------------------------------------------------------------------


def mark_deleted(session: Session, objects: Iterable[MappedObject]) -> None:
    """Tell the session that a statement of the library's has deleted the rows of `objects`.

    ``synchronize_session`` of an ORM-enabled DELETE does just this, but overlooks expired objects. A rollback makes
    them persistent again.
    """
    objects = list(objects)
    remove: Callable[[list[AnyState]], None] | None = names.REMOVE_NEWLY_DELETED.get(session)
    if remove is not None:
        remove([inspect(each) for each in objects])
    else:
        for each in objects:
            session.expunge(each)


def mark_inserted(session: Session, objects: Iterable[MappedObject]) -> None:
    """Tell the session that a statement of the library's has inserted the rows of `objects`, which are loaded since.

    A rollback, also one to a savepoint, then takes them out of the session again, as it does with objects of a flush.
    """
    transaction = session.get_nested_transaction() or session.get_transaction()
    new = names.NEW_IN_TRANSACTION.get(transaction)
    if new is not None:
        for each in objects:
            new[inspect(each)] = True


def can_move_keys(session: Session) -> bool:
    """Return whether `move_to_key` can be undone by a rollback in this SQLAlchemy; a transaction is begun for it."""
    session.connection()
    transaction = session.get_nested_transaction() or session.get_transaction()
    return names.KEY_SWITCHES.get(transaction) is not None and names.REGISTER_ALTERED.get(session) is not None


def move_to_key(session: Session, state: AnyState, pk: Sequence[PrimaryKey]) -> object:
    """Make an object stand for another row: a statement of the library's has given its object a new primary key.

    Its attributes are expired, those of the key are set. A rollback, also one to a savepoint, gives it its former key
    back, as it does with a key that a flush has changed. Ask `can_move_keys` before the statement is executed.

    Returns:
        The new identity key.
    """
    switched = names.KEY_SWITCHES.get(session.get_nested_transaction() or session.get_transaction())
    key: Any = state.mapper.identity_key_from_primary_key(tuple(pk), identity_token=state.identity_token)
    session.identity_map.safe_discard(state)
    switched[state] = (switched[state][0] if state in switched else state.key, key)
    state.key = key
    session.identity_map.replace(state)
    names.REGISTER_ALTERED.get(session)([state])
    obj = state.obj()
    session.expire(obj)
    for column, value in zip(state.mapper.primary_key, pk, strict=True):
        set_committed_value(obj, state.mapper.get_property_by_column(column).key, value)
    return key


def is_clean(session: Session) -> bool:
    """Return whether a flush would find nothing; False where that is not known."""
    answer: Callable[[], bool] | None = names.IS_CLEAN.get(session)
    return answer is not None and answer()


def can_hide(session: Session) -> bool:
    """Return whether `hidden()` is possible."""
    return names.NEW_OBJECTS.exists() and names.DELETED_OBJECTS.exists() and names.MODIFIED_OBJECTS.exists()


@contextmanager
def hidden(session: Session, states: Collection[AnyState]) -> Generator[None, None, None]:
    """Keep what is pending for some objects from a flush within a block.

    If the flush fails, they are what a rollback makes of the objects of a flush: new ones leave the session.
    """
    new: dict[AnyState, object] = names.NEW_OBJECTS.get(session)
    deleted: dict[AnyState, object] = names.DELETED_OBJECTS.get(session)
    modified: set[AnyState] = names.MODIFIED_OBJECTS.get(session.identity_map)
    kept_new = {state: new.pop(state) for state in states if state in new}
    kept_deleted = {state: deleted.pop(state) for state in states if state in deleted}
    kept_modified = modified.intersection(states)
    modified -= kept_modified
    try:
        yield
    except BaseException:
        new |= kept_new
        for obj in kept_new.values():
            session.expunge(obj)
        raise
    new |= kept_new
    deleted |= kept_deleted
    modified |= kept_modified


# -- transactions ------------------------------------------------------------------------------------------------------


def release(transaction: SessionTransaction, connection: Connection) -> None:
    """Give a connection of a session back to its pool, so that the end of the transaction does not concern it."""
    known: dict[Any, tuple[Any, ...]] = names.CONNECTIONS.get(transaction, {})
    for key in [key for key, entry in known.items() if entry[0] is connection]:
        del known[key]
    if names.CONNECTIONS.exists():
        connection.close()
