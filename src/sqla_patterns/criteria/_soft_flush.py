"""Mark deleted objects and orphans in a flush, and refuse what would remove their rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.orm import Mapper, RelationshipProperty, Session
from sqlalchemy.orm.attributes import set_committed_value

from .._maintained import deletes_for_good
from .._typing import AnyState, MappedObject
from ..exceptions import StateError
from ._errors import UnfilteredStatementError
from ._flushed_values import check_flushed_values
from ._moments import next_stamp
from ._private import forget_removal, is_orphan, is_replaced, private, set_has_parent
from ._soft_rule import SOFT, Deletable, mark


def before_flush(session: Session, context: object, instances: object) -> None:
    """Listen for ``before_flush``."""
    if deletes_for_good(session):
        return
    check_flushed_values(session, SOFT, UnfilteredStatementError)
    marked = [each for each in session.deleted if isinstance(each, Deletable)]
    orphans = list(_orphans(session))
    if not marked and not orphans:
        return
    stamp = next_stamp()
    _refuse_removed_parents(session, marked)
    kept = _cascaded(session, marked)
    for obj in (*marked, *kept):
        session.add(obj)  # which takes back that it is deleted
    for obj in marked:
        _mark(obj, stamp)
    for parent, relationship, child in orphans:
        _keep(session, parent, relationship, child)
        _mark(child, stamp)


def _mark(obj: MappedObject, stamp: datetime) -> None:
    if obj.deleted_at is None:
        mark(obj, stamp)


def _cascaded(session: Session, marked: list[MappedObject]) -> list[MappedObject]:
    """Return objects that are deleted because a marked one is, and have no mark of their own: nothing happens to
    them.
    """
    plain = [each for each in session.deleted if not isinstance(each, Deletable)]
    if not plain:
        return []
    reached = {id(each) for obj in marked for each in _below(obj)}
    return [each for each in plain if id(each) in reached]


def _below(obj: MappedObject) -> Iterator[MappedObject]:
    state: AnyState = inspect(obj)
    for child, _, _, _ in state.mapper.cascade_iterator("delete", state):
        yield child


def _refuse_removed_parents(session: Session, marked: list[MappedObject]) -> None:
    """Refuse to remove the parent of rows that are only marked: they would refer to nothing."""
    found = {id(each): each for each in marked}
    below_marked = {id(each) for obj in marked for each in _below(obj)} if marked else set[int]()
    for obj in session.deleted:
        if not isinstance(obj, Deletable) and id(obj) not in below_marked:
            for child in _below(obj):
                if id(child) in found:
                    raise StateError(
                        f"Deleting {obj!r} would remove the row that {child!r} belongs to, and {type(child).__name__} "
                        f"is "
                        f"SoftDelete and keeps its rows; make {type(obj).__name__} SoftDelete too, or call "
                        "hard_delete(session, ...)"
                    )


# -- orphans -------------------------------------------------------------------------------------


def _orphans(session: Session) -> Iterator[tuple[AnyState | None, RelationshipProperty[Any] | None, MappedObject]]:
    """Yield objects that SQLAlchemy is about to delete as orphans, each with the parent that it has left, if that is
    known.
    """
    seen: set[int] = set()
    deleted = {id(each) for each in session.deleted}
    for obj in list(session.dirty):
        state: AnyState = inspect(obj)
        for relationship in state.mapper.relationships:
            if not relationship.cascade.delete_orphan or not issubclass(relationship.mapper.class_, Deletable):
                continue
            for child in state.attrs[relationship.key].history.deleted or ():
                if child is None or id(child) in seen | deleted or not inspect(child).persistent:
                    continue
                if _is_lost(child) or (not relationship.uselist and is_replaced(relationship, inspect(child))):
                    seen.add(id(child))
                    yield state, relationship, child
    for obj in list(session.dirty):
        if isinstance(obj, Deletable) and id(obj) not in seen | deleted and _is_lost(obj):
            yield None, None, obj


def _is_lost(child: MappedObject) -> bool:
    state: AnyState = inspect(child)
    return state.persistent and is_orphan(state)


def _keep(
    session: Session, parent: AnyState | None, relationship: RelationshipProperty[Any] | None, child: MappedObject
) -> None:
    """Undo, for the unit of work, that a child has left its parent: the row keeps its foreign key, and can be
    restored.
    """
    state: AnyState = inspect(child)
    if parent is not None and relationship is not None:
        set_has_parent(parent, relationship, state)
        forget_removal(parent, relationship.key, child)
        for back in _reverses(relationship):
            set_committed_value(child, back.key, parent.obj())
        return
    for back in state.mapper.relationships:
        for forward in _reverses(back):
            if forward.cascade.delete_orphan and back.key in state.committed_state:
                former = [each for each in state.attrs[back.key].history.deleted or () if each is not None]
                if former:
                    set_has_parent(inspect(former[0]), forward, state)
                    forget_removal(inspect(former[0]), forward.key, child)
                    set_committed_value(child, back.key, former[0])
                else:
                    # It was never loaded: what was assigned is forgotten, and the foreign key is what it was.
                    session.expire(child, [back.key])
                    former_parent = getattr(child, back.key)
                    if former_parent is not None:
                        set_has_parent(inspect(former_parent), forward, state)


def _reverses(relationship: RelationshipProperty[Any]) -> list[RelationshipProperty[Any]]:
    return list(private(relationship)._reverse_property)


# -- what is removed -----------------------------------------------------------------------------


def before_delete(mapper: Mapper[Any], connection: Connection, target: MappedObject) -> None:
    """Listen to mappers: whoever deletes an object after `before_flush` has not had it marked."""
    session: Session | None = inspect(target).session
    if session is not None and not deletes_for_good(session):
        raise StateError(
            f"{type(target).__name__} {inspect(target).identity} would be removed, although it is SoftDelete: it was "
            f"deleted, or "
            "lost its parent, while the flush was going on; delete it before, or call hard_delete(session, ...)"
        )
