"""Plan what a flush does to edges, and check it, before anything is written.

All ways to change edges end in a flush, so that they are handled here, in two steps:

- **before_flush** handles what the application has changed. It deletes the edges of deleted nodes, which takes one
  SELECT for each edge class, deletes edges that have lost an end, and checks new edges of classes with ``acyclic``.
  (``ON DELETE CASCADE`` alone would not do: SQLite does not enforce foreign keys by default, and edges in the session
  would outlive their rows.) Errors of this step leave the transaction as it is.
- **The last step** (`_LastStep`) runs once the unit of work has collected all objects. It handles in the same way what
  ``before_flush`` listeners of the user's have changed, which run after the library's, and nodes that are deleted as
  orphans of another relationship, which the unit of work finds last. It also updates the loaded collections. Errors of
  this step roll the transaction back, as all later errors in a flush do.

Mapper events such as ``before_insert`` run later still. They must not change the ends of an edge: `refuse_late_key` and
`refuse_late_node` raise.

A flush without edges and without deleted nodes costs one check of the class of each object in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from sqlalchemy import or_
from sqlalchemy.orm import Session, object_session
from sqlalchemy.orm.attributes import instance_state, set_attribute

from .._sql import chunks
from .._sqlalchemy import UnitOfWork, changed, is_writing, join_flush, register_deleted
from .._typing import AnyState, MappedObject, PrimaryKey
from ..exceptions import StateError
from ._acyclic import find_new_cycle
from ._collections import follow_keys, loaded_ends, remove_from_collection
from ._config import EdgeConfig, config_of, node_configs
from ._ends import (
    SIDES,
    EdgeKey,
    NewEdge,
    Pair,
    Token,
    end_changed,
    end_of,
    ends_changed,
    ends_of,
    load_edges,
    stored_pairs,
)

_STEP: Final = "sqla_patterns.graphs"

# Half of what one statement may have: each key is in it twice.
_MAX_KEYS: Final = 5_000


@dataclass(frozen=True)
class _Changes:
    """The edges of one class that a flush is about to write, and the nodes that it is about to delete."""

    new: Sequence[object]
    dirty: Sequence[object]
    deleted: Sequence[object]
    deleted_nodes: Sequence[object]

    @property
    def size(self) -> tuple[int, ...]:
        """Return the numbers of objects, which only grow in the course of a flush."""
        return len(self.new), len(self.dirty), len(self.deleted), len(self.deleted_nodes)


@dataclass(frozen=True)
class _FlushPlan:
    """What a flush does to the edges of one class.

    Attributes:
        nodes: The deleted nodes whose edges have been loaded for this plan.
        to_delete: Persistent edges that have to be deleted and are not marked as deleted yet.
        to_expunge: New edges to a node that is deleted.
        stored: The pairs in the database of the edges whose ends change or which are deleted.
        new: The edges that are about to be written.
        removed: The pairs that the flush removes from the database.
        moved: The pairs in the database of edges with a surrogate key that get other ends, by that key.
    """

    nodes: Sequence[AnyState]
    to_delete: Sequence[object]
    to_expunge: Sequence[object]
    stored: Mapping[int, Pair]
    new: Sequence[NewEdge]
    removed: Set[Pair]
    moved: Mapping[EdgeKey, Pair]

    @cached_property
    def tokens(self) -> Set[tuple[Token, Token]]:
        """Return what distinguishes the edges in `new` from those of an earlier plan of the same flush."""
        return {edge.token for edge in self.new}


def before_flush(session: Session, flush_context: object, instances: object) -> None:
    """Plan and check the changes that the application has made; a listener for ``before_flush``."""
    plans: dict[EdgeConfig, _FlushPlan] = {}
    checked: dict[EdgeConfig, Set[tuple[Token, Token]]] = {}
    for config, changes in _in_lock_order(_changes_in_session(session)):
        plan = plans[config] = _make_plan(session, config, changes, changes.deleted_nodes, {})
        for edge in plan.to_delete:
            session.delete(edge)
        for edge in plan.to_expunge:
            session.expunge(edge)
            for side in SIDES:
                set_attribute(edge, f"{side}_node", None)
        if config.options.acyclic and plan.new:
            cycle = find_new_cycle(session, config, plan.new, plan.removed, plan.moved)
            if cycle is None:
                checked[config] = plan.tokens
            # A node on the cycle may be an orphan that this flush deletes: the last step checks again, once that is
            # known.
            elif not _may_delete_orphans(session):
                raise config.cycle_error(cycle.message, cycle.nodes)
    join_flush(flush_context, _STEP, _LastStep(session, plans, checked))


class _LastStep:
    """The step of one flush that plans and checks what `before_flush` could not see.

    The unit of work executes its steps repeatedly, until none of them has changed anything.
    """

    def __init__(
        self,
        session: Session,
        plans: Mapping[EdgeConfig, _FlushPlan],
        checked: Mapping[EdgeConfig, Set[tuple[Token, Token]]],
    ) -> None:
        self._session = session
        self._checked = dict(checked)
        self._stored = {config: dict(plan.stored) for config, plan in plans.items()}
        self._nodes = {(config, node) for config, plan in plans.items() for node in plan.nodes}
        self._plans: dict[EdgeConfig, tuple[tuple[int, ...], _FlushPlan]] = {}
        # The unit of work refers to states only, so that an edge that was loaded to be deleted needs a reference here.
        self._kept_alive: list[object] = []
        self._states: dict[AnyState, tuple[bool, bool]] | None = None

    def execute(self, uow: UnitOfWork) -> bool:
        """Plan the changes that are new since the last call, and return whether the flush has more to do now."""
        again = False
        unchecked: list[tuple[EdgeConfig, _FlushPlan]] = []
        for config, changes in _in_lock_order(_changes_in_flush(uow)):
            known = self._plans.get(config)
            if known is not None and known[0] == changes.size:
                plan = known[1]
            else:
                plan = self._plan(uow, config, changes)
                again = again or bool(plan.to_delete)
            if config.options.acyclic and plan.tokens - self._checked.get(config, frozenset()):
                unchecked.append((config, plan))
        if again or not unchecked:
            return again
        if self._states != uow.states:
            # Steps that come after this one may still add deletions, which can remove a cycle. Check when no step has
            # changed anything.
            self._states = dict(uow.states)
            return True
        for config, plan in unchecked:
            cycle = find_new_cycle(self._session, config, plan.new, plan.removed, plan.moved)
            if cycle is not None:
                raise config.cycle_error(cycle.message, cycle.nodes)
            self._checked[config] = plan.tokens
        return False

    def _plan(self, uow: UnitOfWork, config: EdgeConfig, changes: _Changes) -> _FlushPlan:
        """Plan the edges of one class, delete those that have to be deleted, and update the loaded collections."""
        nodes = [node for node in changes.deleted_nodes if (config, instance_state(node)) not in self._nodes]
        plan = _make_plan(self._session, config, changes, nodes, self._stored.get(config, {}))
        if plan.to_expunge:
            raise _joins_deleted_node(config)
        self._kept_alive += plan.to_delete
        for edge in plan.to_delete:
            register_deleted(uow, instance_state(edge))
        for edge in (*changes.deleted, *plan.to_delete):
            for node in loaded_ends(self._session, config, edge, plan.stored):
                for collection in (config.options.lower_edges, config.options.higher_edges):
                    remove_from_collection(uow, node, collection, edge)
        follow_keys(self._session, uow, config, (*changes.new, *changes.dirty), plan.stored)
        self._plans[config] = (changes.size, plan)
        self._stored[config] = dict(plan.stored)
        self._nodes.update((config, node) for node in plan.nodes)
        return plan


# -- the changes of a flush ----------------------------------------------------------------------


def _in_lock_order(changes: Mapping[EdgeConfig, _Changes]) -> list[tuple[EdgeConfig, _Changes]]:
    # The same order in all transactions, since they may take a lock for each class.
    return sorted(changes.items(), key=lambda item: item[0].table.fullname)


def _changes_in_session(session: Session) -> dict[EdgeConfig, _Changes]:
    """Return the changes that `session` knows of before a flush, by edge class."""
    configs: dict[type[object], tuple[EdgeConfig | None, tuple[EdgeConfig, ...]]] = {}
    lists: dict[EdgeConfig, dict[str, list[object]]] = {}
    for name, objects in (("new", session.new), ("dirty", session.dirty), ("deleted", session.deleted)):
        for obj in objects:
            cls: type[object] = instance_state(obj).class_
            if cls not in configs:
                configs[cls] = (config_of(cls), node_configs(cls))
            config, joined_by = configs[cls]
            if config is not None:
                lists.setdefault(config, {}).setdefault(name, []).append(obj)
            if joined_by and name == "deleted":
                for each in joined_by:
                    lists.setdefault(each, {}).setdefault("nodes", []).append(obj)
    return _to_changes(lists)


def _changes_in_flush(uow: UnitOfWork) -> dict[EdgeConfig, _Changes]:
    """Return the changes that the unit of work has collected, by edge class."""
    lists: dict[EdgeConfig, dict[str, list[object]]] = {}
    for mapper, states in list(uow.mappers.items()):
        config, joined_by = config_of(mapper.class_), node_configs(mapper.class_)
        if config is None and not joined_by:
            continue
        for state in states:
            deleted, listed_only = uow.states[state]
            if listed_only or (obj := state.obj()) is None:
                continue
            if config is not None:
                name = "deleted" if deleted else "new" if state.identity is None else "dirty"
                lists.setdefault(config, {}).setdefault(name, []).append(obj)
            if deleted:
                for each in joined_by:
                    lists.setdefault(each, {}).setdefault("nodes", []).append(obj)
    return _to_changes(lists)


def _to_changes(lists: Mapping[EdgeConfig, Mapping[str, list[object]]]) -> dict[EdgeConfig, _Changes]:
    names = ("new", "dirty", "deleted", "nodes")
    return {config: _Changes(*(tuple(found.get(name, ())) for name in names)) for config, found in lists.items()}


def _may_delete_orphans(session: Session) -> bool:
    """Return whether the unit of work may find orphans among nodes: a relationship that deletes orphans has changed."""
    return any(
        relationship.cascade.delete_orphan and changed(instance_state(obj), relationship.key)
        for obj in (*session.dirty, *session.deleted)
        for relationship in instance_state(obj).mapper.relationships
        if config_of(relationship.mapper.class_) is None
    )


# -- the plan ------------------------------------------------------------------------------------


def _make_plan(
    session: Session,
    config: EdgeConfig,
    changes: _Changes,
    deleted_nodes: Sequence[object],
    known: Mapping[int, Pair],
) -> _FlushPlan:
    """Plan the edges of one class.

    Args:
        session: The session that flushes.
        config: The edge class.
        changes: The changes of the flush.
        deleted_nodes: Those of ``changes.deleted_nodes`` whose edges have not been loaded yet.
        known: The `stored_pairs` that an earlier plan of the same flush has read.

    Raises:
        StateError: Key and node of an end are set to different nodes.
    """
    edges_of_deleted = _load_edges_of(session, config, deleted_nodes)
    changed_edges = [edge for edge in changes.dirty if ends_changed(edge)]
    candidates = (*edges_of_deleted, *changed_edges)
    unread = {id(edge): edge for edge in (*candidates, *changes.deleted) if id(edge) not in known}
    stored = {**known, **stored_pairs(session, config, unread.values())}
    deleted_ids = {id(edge) for edge in changes.deleted}
    deleted = _deleted_nodes(session, config, changes)
    to_delete: list[object] = []
    for edge in candidates:
        if id(edge) not in deleted_ids and (_has_lost_an_end(edge) or deleted.has_an_end_of(edge, stored)):
            deleted_ids.add(id(edge))
            to_delete.append(edge)
    to_expunge: list[object] = []
    new: list[NewEdge] = []
    removed = {stored[key] for key in deleted_ids if key in stored}
    moved: dict[EdgeKey, Pair] = {}
    for edge in (*changes.new, *changed_edges):
        if id(edge) in deleted_ids:
            continue
        _check_key_and_node(config, edge)
        ends = ends_of(config, edge, stored)
        if ends is None:
            continue  # Incomplete; SQLAlchemy raises when it writes the edge.
        before = stored.get(id(edge))
        if deleted.has_an_end_of(edge, stored):
            to_expunge.append(edge)
        elif ends.pair != before:
            new.append(ends)
            if before is not None:
                removed.add(before)
                if not config.pair_is_primary_key:
                    moved[tuple(instance_state(edge).identity or ())] = before
    nodes = [instance_state(node) for node in deleted_nodes]
    return _FlushPlan(nodes, to_delete, to_expunge, stored, new, removed, moved)


def _has_lost_an_end(edge: object) -> bool:
    state = instance_state(edge)
    return any(changed(state, f"{side}_node") and state.dict.get(f"{side}_node") is None for side in SIDES)


@dataclass(frozen=True)
class _DeletedNodes:
    """The nodes that a flush deletes.

    Attributes:
        config: The edge class.
        ids: The ``id()`` of each.
        keys: The key of each.
        replaced: Those of `keys` that a new node of the same flush has. An edge that has had such a key is deleted
            with the old node; an edge that is given it now belongs to the new node.
    """

    config: EdgeConfig
    ids: Set[int]
    keys: Set[PrimaryKey]
    replaced: Set[PrimaryKey]

    def has_an_end_of(self, edge: object, stored: Mapping[int, Pair]) -> bool:
        """Return whether one of these nodes is at an end of `edge`."""
        if not self.ids:
            return False
        for side in SIDES:
            end = end_of(self.config, edge, side, stored)
            if end is None:
                continue
            if end_changed(edge, side) or id(edge) not in stored:
                if id(end.node) in self.ids or (end.node is None and end.key in self.keys - self.replaced):
                    return True
            elif end.key in self.keys:
                return True
        return False


def _deleted_nodes(session: Session, config: EdgeConfig, changes: _Changes) -> _DeletedNodes:
    keys = {config.pk_of(node) for node in changes.deleted_nodes}
    new = {config.pk_of(obj) for obj in session.new if keys and isinstance(obj, config.node)}
    return _DeletedNodes(config, {id(node) for node in changes.deleted_nodes}, keys, keys & new)


def _load_edges_of(session: Session, config: EdgeConfig, nodes: Sequence[object]) -> list[MappedObject]:
    """Load all edges of `nodes`, whatever criteria the session has."""
    found: list[MappedObject] = []
    for keys in chunks([config.pk_of(node) for node in nodes], _MAX_KEYS):
        found += load_edges(session, config, or_(config.lower.in_(keys), config.higher.in_(keys)))
    return found


def _check_key_and_node(config: EdgeConfig, edge: object) -> None:
    """Raise if key and node of an end are set to different nodes."""
    state = instance_state(edge)
    for side in SIDES:
        if not (changed(state, f"{side}_id") and changed(state, f"{side}_node")):
            continue
        key, node = state.dict.get(f"{side}_id"), state.dict.get(f"{side}_node")
        pk_of_node = None if node is None else config.pk_of(node)
        if key is not None and pk_of_node is not None and pk_of_node != key:
            raise StateError(
                f"{config.name}.{side}_id is {key!r}, and {side}_node is {config.node_name} {pk_of_node!r}: assign one "
                "of them only"
            )


def _joins_deleted_node(config: EdgeConfig) -> StateError:
    return StateError(
        f"a new {config.name} cannot join a {config.node_name} that the same flush deletes, as an orphan or in one of "
        f"your listeners: remove the {config.name} as well, or keep the {config.node_name}"
    )


# -- changes that come too late ------------------------------------------------------------------


def refuse_late_key(config: EdgeConfig, side: str) -> Callable[[object, object, object, object], None]:
    """Return a listener that refuses to set the key of an end while the flush writes, unless its node has that key."""
    name = f"{side}_id"

    def refuse(edge: object, value: object, old: object, initiator: object) -> None:
        session = object_session(edge)
        if session is None or not is_writing(session) or value is None:
            return
        values = instance_state(edge).dict
        node = values.get(f"{side}_node")
        # The unit of work copies the key of the node, which a new node has only now.
        if value != values.get(name) and (node is None or instance_state(node).dict.get(config.pk_name) != value):
            raise _too_late(config, name)

    return refuse


def refuse_late_node(config: EdgeConfig, side: str) -> Callable[[object, object, object, object], None]:
    """Return a listener that refuses to set the node of an end while the flush writes."""
    name = f"{side}_node"

    def refuse(edge: object, value: object, old: object, initiator: object) -> None:
        session = object_session(edge)
        if session is not None and is_writing(session) and value is not instance_state(edge).dict.get(name):
            raise _too_late(config, name)

    return refuse


def _too_late(config: EdgeConfig, attribute: str) -> StateError:
    return StateError(
        f"{config.name}.{attribute} cannot be set while a flush writes, in a mapper event such as before_insert, "
        "because its edges have been planned and checked by then; set it in a before_flush listener"
    )
