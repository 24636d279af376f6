"""Refuse what listeners change in the structure of a tree after its flush was planned, before that is written.

A flush goes through three phases after the plan:

==============================  ========================================================================================
what may make changes           what is done about it
==============================  ========================================================================================
``before_flush`` listeners      The tree's listener is the last one (see `_flush`) unless a listener was added to the
                                session itself during its transaction. `refuse_unplanned` compares the session with the
                                plan before the unit of work writes anything.
``before_insert``, ...          Attribute events call `refuse_late_change` at once, so that the traceback shows the
                                listener.
``set_committed_value()``       Fires no event: `refuse_overwritten` compares once more before the flush ends, and the
                                flush rolls back.
==============================  ========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.base import NO_VALUE

from .._sql import structural
from .._sqlalchemy import changed, committed, forget_change, state_of
from .._typing import AnyColumn, MappedObject, PrimaryKey
from ._apply import discard_derived
from ._config import TreeConfig
from ._errors import UnplannedChangeError
from ._loaded_state import describe, known_pk, loaded_list, pk_of
from ._placement_hints import clear_hint, hint_of
from ._tree import Tree, tree_of

_PLANNED = "sqla_patterns.trees.planned"
_ABSENT = object()


class Batch(NamedTuple):
    """The nodes of one tree that a flush has to do with."""

    new: list[MappedObject]
    dirty: list[MappedObject]
    deleted: list[MappedObject]


@dataclass(frozen=True, eq=False)
class PlannedNode:
    """What the plan says about one node; `parent` matters where its primary key is not known yet."""

    node: MappedObject
    new: bool
    parent: MappedObject
    parent_pk: PrimaryKey
    values: Mapping[str, object]


@dataclass(eq=False)
class PlannedFlush:
    """What the trees of one flush have planned.

    Attributes:
        nodes: New and linked nodes, by ``id()``.
        deleted: Nodes that are deleted, by ``id()``.
        executing: Whether the unit of work has begun.
    """

    nodes: dict[int, PlannedNode] = field(default_factory=dict[int, PlannedNode])
    deleted: dict[int, MappedObject] = field(default_factory=dict[int, MappedObject])
    executing: bool = False


def planned_flush(session: Session) -> PlannedFlush | None:
    """Return what the present flush of `session` has planned, None outside of a flush."""
    found = session.info.get(_PLANNED)
    return found if isinstance(found, PlannedFlush) else None


def begin_plan(session: Session) -> None:
    """Begin the plan of a flush, and forget one that was never carried out."""
    session.info[_PLANNED] = PlannedFlush()


def remember_plan(session: Session, nodes: Iterable[PlannedNode], deleted: Sequence[MappedObject]) -> None:
    """Add the plan of one tree to that of the flush."""
    planned = planned_flush(session)
    if planned is not None:
        planned.nodes.update((id(known.node), known) for known in nodes)
        planned.deleted.update((id(node), node) for node in deleted)


def forget_plan(session: Session) -> None:
    """End the plan of a flush."""
    session.info.pop(_PLANNED, None)


def refuse_late_change(node: MappedObject, attribute: str, value: object) -> None:
    """Refuse a change of where a node belongs by a mapper event, or another listener during a flush.

    Raises:
        UnplannedChangeError: `value` differs from what was planned.
    """
    session = state_of(node).session
    planned = None if session is None else planned_flush(session)
    if session is None or planned is None or not planned.executing:
        return
    if attribute == "parent":
        repeats = node.__dict__.get("parent", _ABSENT) is value
    else:
        shown = node.__dict__.get(attribute, _ABSENT)
        repeats = bool(shown == value) if shown is not _ABSENT else _is_stored(session, node, attribute, value)
        if not repeats and attribute == "parent_id":
            # The unit of work copies new and changed keys of parents to their children.
            repeats = value in _keys_of_parent(node, planned.nodes.get(id(node)))
    if not repeats:
        raise _unplanned(node, f"{attribute} of {describe(node)} is set")


def refuse_unplanned(session: Session, batches: Mapping[Tree, Batch]) -> None:
    """Refuse nodes of a session that are new, changed or deleted, and were not planned so.

    Raises:
        UnplannedChangeError: There is such a node.
    """
    planned = planned_flush(session)
    if planned is None:
        return
    for tree, batch in batches.items():
        for node in batch.new:
            known = planned.nodes.get(id(node))
            if known is None:
                raise _unplanned(node, f"{describe(node)} is added")
            _compare_new(tree.config, known)
        for node in batch.deleted:
            if id(node) not in planned.deleted:
                raise _unplanned(node, f"{describe(node)} is deleted")
        for node in batch.dirty:
            discard_derived(session, tree.index, node)
            _compare_dirty(session, tree.config, node, planned.nodes.get(id(node)))
    still_deleted = {id(node) for node in session.deleted}
    for node in planned.deleted.values():
        if node in session and id(node) not in still_deleted:
            raise _unplanned(node, f"the deletion of {describe(node)} is taken back")


def refuse_overwritten(session: Session) -> None:
    """Refuse a row that was written with another parent or position than planned; the flush rolls back then.

    Raises:
        UnplannedChangeError: There is such a row.
    """
    planned = planned_flush(session)
    for known in planned.nodes.values() if planned is not None else ():
        values = known.node.__dict__
        for name, wanted in known.values.items():
            # None stands for what is known only after the INSERT of the root.
            if wanted is not None and name in values and values[name] != wanted:
                raise _unplanned(known.node, f"{name} of {describe(known.node)} is set")
        shown = values.get("parent_id", known.parent_pk)
        if shown != known.parent_pk and shown not in _keys_of_parent(known.node, known):
            raise _unplanned(known.node, f"parent_id of {describe(known.node)} is set")


def _keys_of_parent(node: MappedObject, known: PlannedNode | None) -> list[PrimaryKey]:
    """Return the primary keys that the parent of a node has, before and after the flush."""
    parent = node.__dict__.get("parent") if known is None else known.parent
    if parent is None:
        return []
    keys = [pk_of(parent), parent.__dict__.get(tree_of(parent).config.pk_attr)]
    return [key for key in keys if key is not None]


def _compare_new(config: TreeConfig, known: PlannedNode) -> None:
    node, values = known.node, known.node.__dict__
    parent = values.get("parent")
    if parent is not known.parent and parent is not None:
        raise _unplanned(node, f"parent of {describe(node)} is set")
    shown = known_pk(config, parent) if parent is not None else values.get("parent_id")
    if shown != known.parent_pk or (values.get("parent_id") is not None and values["parent_id"] != known.parent_pk):
        raise _unplanned(node, f"parent_id of {describe(node)} is set")
    for name, wanted in known.values.items():
        if values.get(name) == wanted:
            continue
        if name == "position":
            raise _unplanned(node, f"position of {describe(node)} is set")
        set_committed_value(node, name, wanted)  # What an index derives is never taken from users.


def _compare_dirty(session: Session, config: TreeConfig, node: MappedObject, known: PlannedNode | None) -> None:
    state, hint = inspect(node), hint_of(node)
    _compare_list(config, node)
    if hint is None:
        return
    if hint.removed:
        raise _unplanned(node, f"{describe(node)} is taken out of the children of its parent")
    if hint.position is not None:
        position = known.values.get("position") if known is not None else committed(state, "position", NO_VALUE)
        if position is NO_VALUE:
            position = _stored(session, config, node, config.position)
        if hint.position != position:
            raise _unplanned(node, f"position of {describe(node)} is set")
    elif hint.asks_for_place:
        raise _unplanned(node, f"{describe(node)} is given another place")
    _compare_parent(session, config, node, known)
    clear_hint(node)


def _compare_parent(session: Session, config: TreeConfig, node: MappedObject, known: PlannedNode | None) -> None:
    state, values = inspect(node), node.__dict__
    if known is not None and known.parent is not None and known.parent_pk is None:
        if values.get("parent") is not known.parent:
            raise _unplanned(node, f"parent of {describe(node)} is set")
        return
    if known is not None:
        stored = known.parent_pk
    else:
        stored = committed(state, "parent_id", NO_VALUE)
        if stored is NO_VALUE:
            stored = _stored(session, config, node, config.parent_id)
    by_parent = changed(state, "parent")
    parent = values.get("parent")
    if by_parent and (parent is None) != (stored is None):
        raise _unplanned(node, f"parent of {describe(node)} is set")
    if by_parent and parent is not None and known_pk(config, parent) != stored:
        raise _unplanned(node, f"parent of {describe(node)} is set")
    if changed(state, "parent_id") and values.get("parent_id") != stored:
        raise _unplanned(node, f"parent_id of {describe(node)} is set")
    if by_parent:
        forget_change(state, "parent")
    if known is None and changed(state, "parent_id"):
        set_committed_value(node, "parent_id", stored)


def _compare_list(config: TreeConfig, parent: MappedObject) -> None:
    """Refuse a list of children that was sorted or reversed."""
    children = loaded_list(parent)
    if config.position is None or not children or not changed(inspect(parent), "children"):
        return
    positions = [child.__dict__.get("position") for child in children]
    known = [position for position in positions if position is not None]
    if known != sorted(known):
        raise _unplanned(parent, f"the children of {describe(parent)} are put into another order")


def _is_stored(session: Session, node: MappedObject, attribute: str, value: object) -> bool:
    config = tree_of(node).config
    column = config.mapper.columns.get(attribute)
    return pk_of(node) is not None and bool(_stored(session, config, node, column) == value)


def _stored(session: Session, config: TreeConfig, node: MappedObject, column: AnyColumn | None) -> object:
    """Return the value of a column in the row of a node; None if there is no such column."""
    if column is None:
        return None
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    return connection.scalar(structural(select(column).where(config.pk == pk_of(node))))


def _unplanned(node: MappedObject, what: str) -> UnplannedChangeError:
    return UnplannedChangeError(
        f"{what} by a listener, after the flush of {tree_of(node).config.name} was planned; nothing of it is written. "
        "Do it before the flush, or in a before_flush listener that is attached to the session's class or factory, or "
        "before its transaction begins"
    )
