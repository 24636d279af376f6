"""Add, remove and follow the edges of one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import and_, select
from sqlalchemy.orm import Session, joinedload, object_session
from sqlalchemy.orm.attributes import instance_state, set_attribute, set_committed_value

from .._session import at_object
from .._sql import chunks
from .._sqlalchemy import pending_additions
from .._typing import MappedObject, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._config import EdgeConfig, Edges, edges_of
from ._ends import MAX_KEYS, SIDES, Pair, end_of, ends_of, load_edges, stored_pairs


@at_object
def add_neighbors(
    node: object, nodes: Sequence[object], edge: object, attributes: Mapping[str, object]
) -> list[MappedObject]:
    """Add edges from `node` to each of `nodes`; see `GraphNode.add_neighbor`."""
    edges = edges_of(node, edge)
    _check_nodes(edges.config, nodes)
    session = object_session(node)
    candidates = _candidates(edges.config, session, node, nodes)
    stored = _stored_pairs(edges.config, session, candidates)
    present = _edges_to(edges, candidates, stored, nodes)
    # Two of `nodes` may be the same. All edges are made before the first one gets its ends, so that a wrong attribute
    # leaves everything as it is.
    made: dict[int, MappedObject] = {}
    for other in nodes:
        if id(other) not in present and id(other) not in made:
            made[id(other)] = edges.entity(**attributes)
    found: list[MappedObject] = []
    for other in nodes:
        item = present.get(id(other))
        if item is None:
            item = made[id(other)]
        else:
            for name, value in attributes.items():
                setattr(item, name, value)
        _set_end(edges.config, item, "lower", node, stored)
        _set_end(edges.config, item, "higher", other, stored)
        if session is not None:
            session.add(item)
        found.append(item)
    return found


def _set_end(config: EdgeConfig, edge: object, side: str, node: object, stored: Mapping[int, Pair]) -> None:
    """Set one end of `edge` to `node`, unless it is that already."""
    state, name = instance_state(edge), f"{side}_node"
    if state.dict.get(name) is node:
        return
    ends = ends_of(config, edge, stored)
    end = None if ends is None else getattr(ends, side)
    if state.persistent and name not in state.dict and end is not None and end.key == config.pk_of(node):
        # Assigning it would put the edge into the collection a second time.
        set_committed_value(edge, name, node)
    else:
        set_attribute(edge, name, node)


@at_object
def remove_neighbors(node: object, nodes: Sequence[object], edge: object) -> int:
    """Delete the edges from `node` to each of `nodes`, and return how many there were."""
    edges = edges_of(node, edge)
    _check_nodes(edges.config, nodes)
    session = object_session(node)
    candidates = _candidates(edges.config, session, node, nodes)
    stored = _stored_pairs(edges.config, session, candidates)
    found = _edges_to(edges, candidates, stored, nodes).values()
    for item in found:
        state = instance_state(item)
        if session is not None and state.persistent:
            session.delete(item)
            _remove_from_collections(edges.config, session, item, stored)
            continue
        if session is not None and state.pending:
            session.expunge(item)
        # This also removes it from collections that are not loaded, to which it would be appended when they are.
        for side in SIDES:
            set_attribute(item, f"{side}_node", None)
    return len(found)


def _remove_from_collections(config: EdgeConfig, session: Session, edge: object, stored: Mapping[int, Pair]) -> None:
    """Remove `edge` from the loaded collections of its nodes."""
    ends = ends_of(config, edge, stored)
    if ends is None:
        return
    for end, collection in ((ends.lower, config.options.lower_edges), (ends.higher, config.options.higher_edges)):
        node = end.node if end.node is not None else config.find_loaded(session, end.key)
        if node is None:
            continue
        loaded: list[object] = instance_state(node).dict.get(collection, [])
        if any(item is edge for item in loaded):
            getattr(node, collection).remove(edge)


@at_object
def neighbors(node: object, edge: object, *, higher: bool) -> list[MappedObject]:
    """Return the nodes at the other ends of the edges of `node`; see `GraphNode.higher_neighbors`.

    Args:
        node: The node.
        edge: The edge class, where there are several.
        higher: Return the higher ends of the edges in which `node` is the lower end, rather than the reverse.
    """
    edges = edges_of(node, edge)
    config = edges.config
    options = config.options
    collection = options.lower_edges if higher else options.higher_edges
    other_side = "higher" if higher else "lower"
    other_end = f"{other_side}_node"
    state = instance_state(node)
    session = state.session
    if collection not in state.dict and state.persistent and session is not None:
        here = config.lower if higher else config.higher
        there = config.higher if higher else config.lower
        statement = (
            select(config.cls)
            .where(here == config.pk_of(node))
            .order_by(there)
            # An outer join: an edge to a node that criteria of the session hide still belongs to the collection.
            .options(joinedload(getattr(config.cls, other_end)))
        )
        set_committed_value(node, collection, session.scalars(statement).unique().all())
    members = [item for item in getattr(node, collection) if isinstance(item, edges.entity)]
    if session is not None:
        deleted = session.deleted
        members = [item for item in members if item not in deleted]
        _load_ends(config, session, members, other_side)
    # An edge that is not complete yet may lack its other end.
    return [end for item in members if (end := getattr(item, other_end)) is not None]


def _load_ends(config: EdgeConfig, session: Session, members: list[MappedObject], side: str) -> None:
    """Load the nodes at one end of edges in one statement, rather than edge by edge."""
    name = f"{side}_node"
    missing = [item for item in members if (state := instance_state(item)).persistent and name not in state.dict]
    stored = stored_pairs(session, config, missing)
    ends = [(item, end.key) for item in missing if (end := end_of(config, item, side, stored)) is not None]
    known: dict[PrimaryKey, MappedObject] = {}
    for _, key in ends:
        node = config.find_loaded(session, key)
        if node is not None:
            known[key] = node
    wanted = {key for _, key in ends} - known.keys()
    for keys in chunks(wanted, MAX_KEYS):
        for node in session.scalars(select(config.node).where(config.pk_attribute.in_(keys))).unique():
            known[config.pk_of(node)] = node
    for item, key in ends:
        if key in known:
            set_committed_value(item, name, known[key])


def _check_nodes(config: EdgeConfig, nodes: Sequence[object]) -> None:
    for each in nodes:
        if not isinstance(each, config.node):
            raise InvalidArgumentError(f"{each!r} is no {config.node_name}, which is what {config.name} joins")


def _candidates(
    config: EdgeConfig, session: Session | None, node: object, nodes: Sequence[object]
) -> Sequence[MappedObject]:
    """Return edges from `node`, among them all those to `nodes`."""
    state, collection = instance_state(node), config.options.lower_edges
    if collection in state.dict:
        return list(state.dict[collection])
    if not state.persistent or session is None:
        return list(getattr(node, collection))
    keys = {identity[0] for other in nodes if (identity := instance_state(other).identity) is not None}
    stored: list[MappedObject] = []
    # A flush here would write, and check, edges that the caller has not completed yet.
    with session.no_autoflush:
        for some in chunks(keys, MAX_KEYS):
            stored += load_edges(session, config, and_(config.lower == config.pk_of(node), config.higher.in_(some)))
    return [*pending_additions(state, collection), *stored]


def _stored_pairs(config: EdgeConfig, session: Session | None, candidates: Sequence[object]) -> Mapping[int, Pair]:
    if session is None:
        return {}
    with session.no_autoflush:
        return stored_pairs(session, config, candidates)


def _edges_to(
    edges: Edges, candidates: Sequence[MappedObject], stored: Mapping[int, Pair], nodes: Sequence[object]
) -> dict[int, MappedObject]:
    """Return the edges to each of `nodes`, by the ``id()`` of the node; those marked for deletion too."""
    config = edges.config
    by_key = {key: other for other in nodes if (key := config.pk_of(other)) is not None}
    wanted = {id(other) for other in nodes}
    found: dict[int, MappedObject] = {}
    for item in candidates:
        if isinstance(item, edges.entity):
            end = end_of(config, item, "higher", stored)
            if end is None:
                continue
            other = end.node if end.node is not None else by_key.get(end.key)
            if other is not None and id(other) in wanted:
                found.setdefault(id(other), item)
    return found
