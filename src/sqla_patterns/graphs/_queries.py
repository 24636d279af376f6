"""Questions to a whole graph: paths, order, cycles and components."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from graphlib import CycleError as FoundCycle
from graphlib import TopologicalSorter
from itertools import islice
from typing import Any, cast

from sqlalchemy import Column, Connection, SQLColumnExpression, select, union_all
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors

from .._locks import allow_deep_recursion
from ..exceptions import InvalidArgumentError
from ._algorithms import components, lightest_walk, lightest_walks, shortest_walk
from ._config import EdgeConfig, Edges, edges_of, key_of
from ._errors import CycleError
from ._model import GraphEdge, N
from ._neighbors import chunks
from ._predicates import between
from ._sa import autoflush

__all__ = ("all_paths", "connected_component", "find_cycles", "shortest_path", "topological_order")

_Weight = SQLColumnExpression[float | Decimal | None]


def shortest_path(
    session: Session, a: N, b: N, *, weight: _Weight | None = None, edge: type[GraphEdge[Any]] | None = None
) -> Sequence[N] | None:
    """Find a path from `a` up to `b` of the fewest edges, or of the least weight; None if there is no path.

    Args:
        weight: what an edge costs: a numeric column of the edge class, or an expression of such, never NULL or negative. The edge
            class need then not be named by `edge`.
        edge: the edge class, where there are several.

    The path begins with `a` and ends with `b`; from a node to itself it is that node. Of several shortest paths, the same one is found
    each time.

    Two SELECTs: the keys of the edges on any way from `a` to `b`, and the nodes of the path.

    Raises:
        StateError: `a` or `b` has no primary key yet.
        InvalidArgumentError: an edge on the way weighs NULL or less than zero, or `weight` belongs to another class.
    """
    way = _Ways(session, a, b, weight, edge)
    found = way.first()
    return _nodes(session, way.config, found) if found else None


def all_paths(
    session: Session,
    a: N,
    b: N,
    *,
    limit: int,
    weight: _Weight | None = None,
    edge: type[GraphEdge[Any]] | None = None,
) -> Sequence[Sequence[N]]:
    """Find the paths from `a` up to `b` that come by no node twice, the shortest first, `limit` of them at most.

    A graph of n nodes may have more than 2 to the power of n such paths, so there is no default for `limit`; the time taken grows with
    `limit`, the length of the paths, and the number of edges between `a` and `b`.

    Arguments, statements and errors are those of `shortest_path`.
    """
    if limit < 0:
        raise InvalidArgumentError(f"limit is a number of paths and cannot be {limit}")
    ways = _Ways(session, a, b, weight, edge)
    found = ways.every(limit)
    nodes = _by_key(session, ways.config, {key for way in found for key in way})
    return [[nodes[key] for key in way if key in nodes] for way in found]


def topological_order(session: Session, entity: type[N], *, edge: type[GraphEdge[Any]] | None = None) -> Sequence[N]:
    """Return all nodes in an order in which each comes before those that its edges lead to.

    Where edges point at what something needs, `reversed()` gives the order in which to do things. Equal graphs give equal orders.

    One SELECT, of nodes and edges together.

    Raises:
        CycleError: there is no such order. ``path`` has the nodes of one cycle; `find_cycles` finds more.
    """
    edges = edges_of(entity, edge)
    config, pairs = edges.config, edges.pairs()
    statement = (
        select(config.node, config.node_key, pairs.c.higher_key)
        .outerjoin(pairs, pairs.c.lower_key == config.node_key)
        .order_by(config.node_key, pairs.c.higher_key)
    )
    nodes: dict[Any, Any] = {}
    sorter: TopologicalSorter[Any] = TopologicalSorter()
    # Joined eager loading of collections multiplies rows; two keys tell them apart faster than the default, objects and all.
    for node, lower, higher in session.execute(statement).unique(lambda row: (row[1], row[2])):
        if lower not in nodes:
            nodes[lower] = node
            sorter.add(lower)
        if higher is not None:
            sorter.add(higher, lower)
    try:
        order = list(sorter.static_order())
    except FoundCycle as error:
        cycle: list[Any] = error.args[1]
        raise CycleError(
            f"{config.node_name} nodes have no topological order: {_arrows(cycle)} is a cycle of {config.name}; find_cycles() finds one "
            "in each knot",
            [nodes[key] for key in cycle if key in nodes],
        ) from None
    return [node for key in order if isinstance(node := nodes.get(key), entity)]


def find_cycles(
    session: Session, entity: type[N], *, edge: type[GraphEdge[Any]] | None = None
) -> Sequence[Sequence[N]]:
    """Find cycles: one in each knot, where a knot is a largest set of nodes that can all reach each other.

    A graph without cycles has no knots, so the result is then empty. From each knot comes a shortest cycle through its first node, that
    of the lowest key, with that node again at the end. A knot may hold more cycles; take an edge out and look again.

    Two SELECTs: the keys of all edges, and the nodes of the cycles.
    """
    edges = edges_of(entity, edge)
    after = _adjacency(_pairs(session, edges, edges.select().order_by(edges.config.lower, edges.config.higher)))
    place = {key: number for number, key in enumerate(after)}
    found: list[list[Any]] = []
    for group in components(after):
        first = min(group, key=lambda key: place.get(key, len(place)))
        if len(group) > 1 or first in after.get(first, ()):
            found.append([first, *shortest_walk(after, after[first], first)])
    found.sort(key=lambda cycle: place[cycle[0]])
    nodes = _by_key(session, edges.config, {key for cycle in found for key in cycle})
    cycles = [[nodes[key] for key in cycle if key in nodes] for cycle in found]
    return [cycle for cycle in cycles if all(isinstance(node, entity) for node in cycle)]


def connected_component(session: Session, node: N, *, edge: type[GraphEdge[Any]] | None = None) -> Sequence[N]:
    """Return all nodes that hang together with `node`, itself included, whichever way the edges point; in order of their keys.

    One SELECT.

    Raises:
        StateError: `node` has no primary key yet.
    """
    edges = edges_of(node, edge)
    config, pairs, turned = edges.config, edges.pairs(), edges.pairs()
    both = union_all(
        select(pairs.c.lower_key.label("here"), pairs.c.higher_key.label("there")),
        select(turned.c.higher_key, turned.c.lower_key),
    ).subquery()
    found = select(config.node_pk.label("key")).where(config.node_pk == key_of(config, node)).cte(recursive=True)
    found = found.union(select(both.c.there).join(found, both.c.here == found.c.key))
    statement = select(config.node).where(config.node_key.in_(select(found.c.key))).order_by(config.node_key)
    connect(session, config)
    return session.scalars(statement).unique().all()


# -- shared --------------------------------------------------------------------------------------


def connect(session: Session, config: EdgeConfig) -> Connection:
    """The connection for questions to this graph, made ready for long recursions."""
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    allow_deep_recursion(connection)
    return connection


class _Ways:
    """The edges on all ways from one node to another, and the choice among them."""

    def __init__(self, session: Session, a: object, b: object, weight: Any, edge: Any) -> None:
        edges = edges_of(a, edge if edge is not None or weight is None else _owner(weight))
        self.config = config = edges.config
        self.start, self.end = key_of(config, a), key_of(config, b)
        self.after: dict[Any, list[Any]] = {}
        self.weights: dict[tuple[Any, Any], Any] = {}
        if self.start != self.end:
            statement = edges.select(*(() if weight is None else (_checked(edges, weight),)))
            statement = statement.where(between(edges, [self.start], [self.end]))
            rows = _pairs(session, edges, statement.order_by(config.lower, config.higher))
            self.after = _adjacency(rows)
            if weight is not None:
                self.weights = {(lower, higher): cost for lower, higher, cost in rows}
                _check_weights(config, self.weights)

    @property
    def weigh(self) -> Callable[[Any, Any], Any]:
        weights = self.weights
        return (lambda lower, higher: weights[lower, higher]) if weights else (lambda lower, higher: 1)

    def first(self) -> list[Any]:
        return lightest_walk(self.after, self.start, self.end, self.weigh)

    def every(self, limit: int) -> list[list[Any]]:
        return list(islice(lightest_walks(self.after, self.start, self.end, self.weigh), limit))


def _owner(weight: Any) -> Any:
    """The edge class of the column `weight`; None for an expression that belongs to no single class."""
    return getattr(weight, "class_", None)


def _checked(edges: Edges, weight: Any) -> Any:
    """`weight`, if it needs no other table than the edges have; another one would multiply the rows."""
    tables: Any = edges.mapper.tables
    raw: dict[Any, Any] = {column: column for table in tables for column in table.c}

    def unmapped(element: Any, **_: object) -> Any:
        return raw.get(element) if isinstance(element, Column) else None

    # Columns instead of attributes, which would bring the criteria of a session along.
    attribute: Any = getattr(weight, "expression", weight)
    expression: Any = cast("Any", visitors).replacement_traverse(attribute, {}, unmapped)
    foreign: list[Any] = [each for each in visitors.iterate(expression) if isinstance(each, Column) and each not in raw]
    if foreign:
        raise InvalidArgumentError(
            f"weight: {foreign[0]} is no column of {edges.entity.__name__}; give a column of the edge class"
        )
    return expression.label("weight")


def _check_weights(config: EdgeConfig, weights: dict[tuple[Any, Any], Any]) -> None:
    for (lower, higher), cost in weights.items():
        if cost is None or cost < 0:
            raise InvalidArgumentError(
                f"{config.name} from {lower!r} to {higher!r} weighs {cost!r}; a path needs weights of zero or more: use "
                "func.coalesce() or func.abs() on the column, or correct the row"
            )


def _pairs(session: Session, edges: Edges, statement: Any) -> Sequence[Any]:
    autoflush(session)
    connect(session, edges.config)
    return session.execute(statement, bind_arguments={"mapper": edges.config.mapper}).all()


def _adjacency(rows: Sequence[Any]) -> dict[Any, list[Any]]:
    after: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        after[row[0]].append(row[1])
    return dict(after)


def _by_key(session: Session, config: EdgeConfig, keys: Iterable[Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for some in chunks(keys):
        for node in session.scalars(select(config.node).where(config.node_key.in_(some))).unique():
            found[config.key_of(node)] = node
    return found


def _nodes(session: Session, config: EdgeConfig, keys: Sequence[Any]) -> list[Any]:
    found = _by_key(session, config, keys)
    return [found[key] for key in keys if key in found]


def _arrows(keys: Iterable[Any]) -> str:
    return " -> ".join(map(repr, keys))
