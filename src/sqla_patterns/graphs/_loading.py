"""Load graphs: two SELECTs, and every link between the loaded nodes in place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import literal, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from ..exceptions import InvalidArgumentError
from ._config import EdgeConfig, Edges, edges_of, keys_of
from ._model import GraphEdge, N
from ._predicates import check_within, reach
from ._queries import connect
from ._sa import changed

__all__ = ("load_graph",)


def load_graph(
    session: Session,
    entity: type[N],
    start: object = None,
    *,
    within: int | None = None,
    edge: type[GraphEdge[Any]] | None = None,
) -> Sequence[N]:
    """Load a graph, or the part of it that can be reached from `start`, and return its nodes in the order of their keys.

    Args:
        start: load what can be reached from this node, itself included: an instance, a primary key, or a sequence of either. None
            loads all nodes.
        within: how many edges away from `start` at most; None for any number.
        edge: the edge class, where there are several. A subclass of an edge class is what paths from `start` are made of; the
            collections hold all edges, as ever.

    The edges of all returned nodes are populated, those that lead out of the loaded part too, with the nodes at their other ends: so
    `higher_neighbors` and `lower_neighbors` emit nothing for any of them, also where relationships are set to raise, or under asyncio.
    Changes that are pending in the session survive.

    Two SELECTs. Raises what `reachable_from` raises.
    """
    check_within(within)
    edges = edges_of(entity, edge)
    config = edges.config
    if start is None and within is not None:
        raise InvalidArgumentError("within counts edges from a start: give load_graph() the start, or leave within out")
    connect(session, config)
    every_edge = select(config.cls).order_by(config.lower, config.higher)
    if start is None:
        statement = select(config.node, literal(True)).order_by(config.node_key)
    else:
        statement, every_edge = _part(edges, every_edge, keys_of(config, start), within)
    nodes: dict[Any, Any] = {}
    inside: dict[Any, Any] = {}
    for node, is_inside in session.execute(statement).unique():
        key = config.key_of(node)
        nodes[key] = node
        if is_inside:
            inside[key] = node
    _link(config, nodes, inside, session.scalars(every_edge).unique().all())
    return [node for node in inside.values() if isinstance(node, entity)]


def _part(edges: Edges, every_edge: Any, keys: list[Any], within: int | None) -> tuple[Any, Any]:
    """The statement for the nodes that can be reached and all next to them, which it tells apart, and that for their edges."""
    config, pairs = edges.config, Edges(edges.config, edges.config.cls).pairs()
    reached = reach(edges, keys, up=True, inclusive=True, within=within, nesting=False)
    inside = select(reached.c.key)
    is_inside = config.node_key.in_(inside)
    above = select(pairs.c.higher_key).where(pairs.c.lower_key.in_(inside))
    below = select(pairs.c.lower_key).where(pairs.c.higher_key.in_(inside))
    nodes = select(config.node, is_inside).where(or_(is_inside, config.node_key.in_(above), config.node_key.in_(below)))
    touching = or_(config.lower.in_(inside), config.higher.in_(inside))
    return nodes.order_by(config.node_key), every_edge.where(touching)


def _link(config: EdgeConfig, nodes: dict[Any, Any], inside: dict[Any, Any], found: Sequence[Any]) -> None:
    lower: dict[Any, list[Any]] = defaultdict(list)
    higher: dict[Any, list[Any]] = defaultdict(list)
    for edge in found:
        state = instance_state(edge)
        lower[edge.lower_id].append(edge)
        higher[edge.higher_id].append(edge)
        for name, key in (("lower_node", edge.lower_id), ("higher_node", edge.higher_id)):
            if key in nodes and state.dict.get(name) is not nodes[key] and not changed(state, name):
                set_committed_value(edge, name, nodes[key])
    for collection, edges in ((config.options.lower_edges, lower), (config.options.higher_edges, higher)):
        for key, node in inside.items():
            _set_collection(node, collection, edges.get(key, []))


def _set_collection(node: Any, collection: str, edges: list[Any]) -> None:
    state = instance_state(node)
    present: list[Any] | None = state.dict.get(collection)
    if present is not None:
        if changed(state, collection):
            return  # Changed and not flushed: what the user did stays.
        if len(present) == len(edges) and all(one is other for one, other in zip(present, edges, strict=True)):
            return  # Keep the very collection that the user may hold.
    set_committed_value(node, collection, edges)
