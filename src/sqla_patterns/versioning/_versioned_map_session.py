"""What a session knows about the versions that its transaction has made, to take them back if it is rolled back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.orm import Session, SessionTransaction, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from .._typing import AnyState, MappedObject, PrimaryKey
from ._versioned_map_config import VERSION, map_config

_INFO: Final = "sqla_patterns.versioning.maps"


@dataclass(frozen=True)
class Former:
    """What an object was before a flush made a version of it.

    Attributes:
        state: The object.
        pk: Its primary key; None if it was new.
        transaction: The transaction or savepoint in which the version was made.
    """

    state: AnyState
    pk: PrimaryKey | None
    transaction: SessionTransaction | None


@dataclass
class SessionMaps:
    """What is known about the versions that the transaction of a session has made.

    Attributes:
        root: The transaction, without savepoints.
        made: What the objects were before, in the order of the flushes.
        numbers: Objects that are pending as the next version, with its number.
        new_rows: Values of the flush in hand, which refer to the objects that become their versions.
        deleted: Objects that the flush may delete.
        flushing: Objects of the flush in hand.
    """

    root: SessionTransaction | None
    made: list[Former] = field(default_factory=list[Former])
    numbers: dict[AnyState, int] = field(default_factory=dict[AnyState, int])
    new_rows: list[MappedObject] = field(default_factory=list[MappedObject])
    deleted: set[AnyState] = field(default_factory=set[AnyState])
    flushing: set[AnyState] = field(default_factory=set[AnyState])


def maps_of(session: Session) -> SessionMaps:
    """Return what is known about the versions that the present transaction of a session has made."""
    root = session.get_transaction()
    found: SessionMaps | None = session.info.get(_INFO)
    # session.close() ends a transaction without an event that tells how.
    if found is None or found.root is not root:
        found = session.info[_INFO] = SessionMaps(root)
    return found


def known_maps(session: Session) -> SessionMaps | None:
    """Return what is known about the versions of a session, or None if it has made none."""
    found: SessionMaps | None = session.info.get(_INFO)
    return found


def after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    """Give the objects of a transaction that was rolled back the keys that they had."""
    maps = known_maps(session)
    if maps is None:
        return
    # A flush that fails ends a transaction of its own within the one that is rolled back.
    ended = previous
    while not ended.nested and ended.parent is not None:
        ended = ended.parent
    back: dict[AnyState, Former] = {}
    kept: list[Former] = []
    for former in maps.made:
        if _is_within(former.transaction, ended):
            back.setdefault(former.state, former)
        else:
            kept.append(former)
    maps.made[:] = kept
    maps.new_rows.clear()
    maps.flushing.clear()
    for state, former in back.items():
        maps.numbers.pop(state, None)
        _take_back(session, state, former)


def _is_within(transaction: SessionTransaction | None, ended: SessionTransaction) -> bool:
    while transaction is not None:
        if transaction is ended:
            return True
        transaction = transaction.parent
    return False


def _take_back(session: Session, state: AnyState, former: Former) -> None:
    obj = state.obj()
    config = map_config(state.mapper.class_)
    if obj is None or config is None or state.key is not None or state.session is not None:
        # The session has let go of it by itself, or the user has.
        return
    if former.pk is None:
        # A new object is transient again, and begins at 1.
        state.dict.pop(VERSION, None)
        return
    key = state.mapper.identity_key_from_primary_key((former.pk,))
    other = session.identity_map.get(key)
    if other is not None:
        # Loaded as a version of the past while the object in hand was the next one.
        session.expunge(other)
    # Not set_attribute(), which would load the former value of a key, also of an object without a row.
    set_committed_value(obj, config.pk_attribute, former.pk)
    make_transient_to_detached(obj)
    session.add(obj)
    session.expire(obj)


def after_commit(session: Session) -> None:
    """Listen for ``after_commit``: forget what was made."""
    # The event is for savepoints as well, whose versions may still be rolled back.
    if session.get_nested_transaction() is None:
        session.info.pop(_INFO, None)
