"""The collections of edges on nodes: their class, and how a flush updates those that are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from .._sql import chunks
from .._sqlalchemy import UnitOfWork, changed, load_unfiltered
from .._typing import MappedObject, PrimaryKey
from ._config import EdgeConfig
from ._ends import MAX_KEYS, SIDES, Pair

T = TypeVar("T")


class EdgeCollection(list[T]):
    """A list of edges that compares by identity: edges of a dataclass are equal if their other attributes are."""

    def remove(self, value: T) -> None:
        """Remove the edge that is `value`.

        Raises:
            ValueError: It is not in the list.
        """
        for index, item in enumerate(self):
            if item is value:
                # Not by the instrumented __delitem__: SQLAlchemy has sent the event of this removal already.
                list[T].__delitem__(self, index)
                return
        raise ValueError(f"{value!r} is not in this collection")


def loaded_ends(
    session: Session, config: EdgeConfig, edge: object, stored: Mapping[int, Pair]
) -> Iterator[MappedObject]:
    """Yield the nodes in `session` that may have `edge` in a collection."""
    for key in stored.get(id(edge), ()):
        node = config.find_loaded(session, key)
        if node is not None:
            yield node
    for side in SIDES:
        node = instance_state(edge).dict.get(f"{side}_node")
        if node is not None:
            yield node


def remove_from_collection(uow: UnitOfWork, node: object, collection: str, edge: object) -> None:
    """Remove `edge` from a collection if that is loaded, without events, which the unit of work no longer handles.

    A node that is deleted itself keeps its collection, for the rollback of a savepoint that makes it persistent again.
    """
    if uow.states.get(instance_state(node), (False, False))[0]:
        return
    loaded: list[object] = instance_state(node).dict.get(collection, [])
    for index in [index for index, each in enumerate(loaded) if each is edge]:
        list[object].__delitem__(loaded, index)
        _expire_on_rollback(uow, node)


def _add_to_collection(uow: UnitOfWork, node: object, collection: str, edge: object) -> None:
    """Add `edge` to a collection if that is loaded, without events."""
    loaded: list[object] | None = instance_state(node).dict.get(collection)
    if loaded is not None and not any(each is edge for each in loaded):
        list[object].append(loaded, edge)
        _expire_on_rollback(uow, node)


def _expire_on_rollback(uow: UnitOfWork, node: object) -> None:
    """Make the rollback of a savepoint expire `node`, for which the flush writes nothing."""
    state = instance_state(node)
    if state not in uow.states:
        uow.register_object(state, listonly=True)


def follow_keys(
    session: Session, uow: UnitOfWork, config: EdgeConfig, edges: Sequence[object], stored: Mapping[int, Pair]
) -> None:
    """Set the nodes of edges whose keys were assigned, and move these edges between the loaded collections."""
    assigned: list[tuple[object, str, PrimaryKey]] = []
    for edge in edges:
        state = instance_state(edge)
        for side in SIDES:
            key = state.dict.get(f"{side}_id")
            if key is not None and changed(state, f"{side}_id") and not changed(state, f"{side}_node"):
                assigned.append((edge, side, key))
    if not assigned:
        return
    nodes = _nodes_in_session(session, config, {key for _, _, key in assigned})
    # The node attribute of a persistent edge must not be left expired.
    missing = {key for edge, _, key in assigned if key not in nodes and instance_state(edge).identity is not None}
    for keys in chunks(missing, MAX_KEYS):
        rows = select(*config.node_mapper.persist_selectable.c).where(config.node_pk.in_(keys))
        for node in load_unfiltered(session, config.node_mapper, rows):
            nodes[config.pk_of(node)] = node
    for edge, side, key in assigned:
        collection = config.options.lower_edges if side == "lower" else config.options.higher_edges
        before = stored.get(id(edge))
        old = None if before is None else config.find_loaded(session, before[SIDES.index(side)])
        new = nodes.get(key)
        if old is not None and old is not new:
            remove_from_collection(uow, old, collection, edge)
        if new is not None:
            _add_to_collection(uow, new, collection, edge)
            set_committed_value(edge, f"{side}_node", new)


def _nodes_in_session(session: Session, config: EdgeConfig, keys: set[PrimaryKey]) -> dict[PrimaryKey, MappedObject]:
    """Return the nodes with these keys that are in the session, new ones too, by key."""
    nodes: dict[PrimaryKey, MappedObject] = {}
    for key in keys:
        node = config.find_loaded(session, key)
        if node is not None:
            nodes[key] = node
    if len(nodes) < len(keys):
        for obj in session.new:
            if isinstance(obj, config.node) and (key := config.pk_of(obj)) in keys:
                nodes[key] = obj
    return nodes
