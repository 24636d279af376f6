"""Load a graph in two SELECTs, with the edges of all nodes and the nodes of all edges populated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Executable, literal, or_, select
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from .._session import SyncSession, at_object, require_class, resolve_session
from .._sqlalchemy import changed
from .._typing import AnySelect, MappedObject, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._config import EdgeConfig, Edges, edges_of, resolve_pks
from ._model import GraphEdge, N
from ._predicates import check_within, reach
from ._queries import connect


@at_object
def load_graph(
    session: SyncSession,
    entity: type[N],
    start: object = None,
    *,
    within: int | None = None,
    edge: type[GraphEdge[Any]] | None = None,
) -> Sequence[N]:
    """Load a graph, or the part of it that can be reached from `start`, and return its nodes in the order of keys.

    The edges of all returned nodes are populated, also those that lead out of the loaded part, with the nodes at their
    other ends. So `higher_neighbors` and `lower_neighbors` emit no SQL for any of them, also where relationships are
    set to raise, and under asyncio. Changes that are pending in the session are kept.

    Two SELECTs.

    Args:
        session: The session to load in.
        entity: The node class, or a subclass of it.
        start: Load what can be reached from this node, itself included: a node, a primary key, or a sequence of
            either. None loads all nodes.
        within: How many edges away from `start` at most; None for any number.
        edge: The edge class, where there are several. If it is a subclass of an edge class, paths from `start` consist
            of its edges; the collections hold all edges nevertheless.

    Raises:
        StateError: A node of `start` has no primary key yet.
        InvalidArgumentError: `start` is no node or key, or `within` is negative or given without `start`.
    """
    session = resolve_session(session, "load_graph")
    require_class(entity, "load_graph", "start")
    check_within(within)
    edges = edges_of(entity, edge)
    config = edges.config
    if start is None and within is not None:
        raise InvalidArgumentError("within counts edges from a start: give load_graph() the start, or leave within out")
    connect(session, config)
    every_edge: AnySelect = select(config.cls).order_by(config.lower, config.higher)
    nodes_statement: Executable
    edges_statement: Executable = every_edge
    if start is None:
        nodes_statement = select(config.node, literal(True)).order_by(config.pk_attribute)
    else:
        nodes_statement, edges_statement = _select_part(edges, every_edge, resolve_pks(config, start), within)
    nodes: dict[PrimaryKey, MappedObject] = {}
    inside: dict[PrimaryKey, MappedObject] = {}
    for node, is_inside in session.execute(nodes_statement).unique():
        key = config.pk_of(node)
        nodes[key] = node
        if is_inside:
            inside[key] = node
    _populate(config, nodes, inside, session.scalars(edges_statement).unique().all())
    return [node for node in inside.values() if isinstance(node, entity)]


def _select_part(
    edges: Edges, every_edge: AnySelect, keys: list[PrimaryKey], within: int | None
) -> tuple[Executable, Executable]:
    """Return the statements for a part of a graph.

    The first one selects the nodes in reach and their neighbours, each with whether it is in reach; the second one the
    edges of the nodes in reach.
    """
    config, pairs = edges.config, Edges(edges.config, edges.config.cls).pairs()
    reached = reach(edges, keys, up=True, inclusive=True, within=within, nesting=False)
    inside = select(reached.c.key)
    is_inside = config.pk_attribute.in_(inside)
    above = select(pairs.c.higher_key).where(pairs.c.lower_key.in_(inside))
    below = select(pairs.c.lower_key).where(pairs.c.higher_key.in_(inside))
    pk = config.pk_attribute
    nodes = select(config.node, is_inside).where(or_(is_inside, pk.in_(above), pk.in_(below)))
    has_end_inside = or_(config.lower.in_(inside), config.higher.in_(inside))
    return nodes.order_by(pk), every_edge.where(has_end_inside)


def _populate(
    config: EdgeConfig,
    nodes: dict[PrimaryKey, MappedObject],
    inside: dict[PrimaryKey, MappedObject],
    found: Sequence[MappedObject],
) -> None:
    """Set the nodes of the edges that were `found`, and the edges of the nodes `inside`."""
    lower: dict[PrimaryKey, list[MappedObject]] = defaultdict(list)
    higher: dict[PrimaryKey, list[MappedObject]] = defaultdict(list)
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


def _set_collection(node: object, collection: str, edges: list[MappedObject]) -> None:
    state = instance_state(node)
    present: list[object] | None = state.dict.get(collection)
    if present is not None:
        if changed(state, collection):
            return  # The user's changes are not flushed yet; keep them.
        if len(present) == len(edges) and all(one is other for one, other in zip(present, edges, strict=True)):
            return  # Keep the list object, to which the user may have a reference.
    set_committed_value(node, collection, edges)
