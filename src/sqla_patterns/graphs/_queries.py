"""Find paths, a topological order, cycles and connected components; the SQL reads edges, Python does the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from graphlib import CycleError as FoundCycle
from graphlib import TopologicalSorter
from itertools import islice
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Executable, SQLColumnExpression, select, union_all
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors

from .._locks import allow_deep_recursion
from .._session import SyncSession, at_object, require_class, resolve_session
from .._sql import chunks, is_column, structural_part
from .._sqlalchemy import autoflush
from .._typing import AnyExpression, MappedObject, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._algorithms import (
    Number,
    lightest_path,
    lightest_paths,
    path_with_fewest_edges,
    strongly_connected_components,
)
from ._config import EdgeConfig, Edges, edges_of, resolve_pk
from ._ends import MAX_KEYS, Pair
from ._model import CycleError, GraphEdge, N
from ._predicates import between

_Weight = SQLColumnExpression[float | Decimal | None]


@at_object
def shortest_path(
    session: SyncSession, a: N, b: N, *, weight: _Weight | None = None, edge: type[GraphEdge[Any]] | None = None
) -> Sequence[N] | None:
    """Return a path from `a` up to `b` with the fewest edges, or of the least weight; None if there is no path.

    The path begins with `a` and ends with `b`; from a node to itself it is that node alone. Of several shortest paths,
    the same one is found each time.

    Two SELECTs: the keys of the edges on any path from `a` to `b`, and the nodes of the path that was found.

    Args:
        session: The session to load in.
        a: The first node.
        b: The last node.
        weight: The weight of an edge: a numeric column of the edge class, or an expression of such columns, never NULL
            or negative. With a weight, `edge` can be left out.
        edge: The edge class, where there are several.

    Raises:
        StateError: `a` or `b` has no primary key yet.
        InvalidArgumentError: The weight of an edge is NULL or less than zero, or `weight` belongs to another class.
    """
    session = resolve_session(session, "shortest_path")
    paths = _Paths(session, a, b, weight=weight, edge=edge)
    found = paths.first()
    return _nodes(session, paths.config, found) if found else None


@at_object
def all_paths(
    session: SyncSession,
    a: N,
    b: N,
    *,
    limit: int,
    weight: _Weight | None = None,
    edge: type[GraphEdge[Any]] | None = None,
) -> Sequence[Sequence[N]]:
    """Return the paths from `a` up to `b` that visit no node twice, the shortest first.

    The time grows with `limit`, the length of the paths, and the number of edges between `a` and `b`. Two SELECTs, as
    for `shortest_path`.

    Args:
        session: The session to load in.
        a: The first node.
        b: The last node.
        limit: How many paths to return at most. It has no default, because a graph of n nodes may have more than 2 to
            the power of n such paths.
        weight: As for `shortest_path`.
        edge: The edge class, where there are several.

    Raises:
        StateError: As `shortest_path`.
        InvalidArgumentError: As `shortest_path`, or `limit` is no number of paths.
    """
    session = resolve_session(session, "all_paths")
    if not isinstance(cast("object", limit), int) or limit < 0:
        raise InvalidArgumentError(f"limit is a number of paths and cannot be {limit!r}")
    paths = _Paths(session, a, b, weight=weight, edge=edge)
    found = paths.lightest(limit)
    nodes = _by_key(session, paths.config, {key for path in found for key in path})
    return [[nodes[key] for key in path if key in nodes] for path in found]


def topological_order(
    session: SyncSession, entity: type[N], *, edge: type[GraphEdge[Any]] | None = None
) -> Sequence[N]:
    """Return all nodes in an order in which each node comes before those that its edges lead to.

    Where edges lead from a task to what it needs, `reversed()` gives the order in which to do the tasks. Equal graphs
    give equal orders.

    One SELECT, of nodes and edges together.

    Args:
        session: The session to load in.
        entity: The node class, or a subclass of it.
        edge: The edge class, where there are several.

    Raises:
        CycleError: There is no such order. ``path`` has the nodes of one cycle; `find_cycles` finds more.
    """
    session = resolve_session(session, "topological_order")
    require_class(entity, "topological_order")
    edges = edges_of(entity, edge)
    config, pairs = edges.config, edges.pairs()
    statement = (
        select(config.node, config.pk_attribute, pairs.c.higher_key)
        .outerjoin(pairs, pairs.c.lower_key == config.pk_attribute)
        .order_by(config.pk_attribute, pairs.c.higher_key)
    )
    nodes: dict[PrimaryKey, MappedObject] = {}
    sorter: TopologicalSorter[PrimaryKey] = TopologicalSorter()
    # Joined eager loading of collections multiplies rows. Comparing the two keys removes duplicates faster than the
    # default, which compares whole rows.
    for node, lower, higher in session.execute(statement).unique(lambda row: (row[1], row[2])):
        if lower not in nodes:
            nodes[lower] = node
            sorter.add(lower)
        if higher is not None:
            sorter.add(higher, lower)
    try:
        order = list(sorter.static_order())
    except FoundCycle as error:
        cycle: list[PrimaryKey] = error.args[1]
        raise CycleError(
            f"{config.node_name} nodes have no topological order: {' -> '.join(map(repr, cycle))} is a cycle of "
            f"{config.name}; find_cycles() finds one in each strongly connected component",
            [nodes[key] for key in cycle if key in nodes],
        ) from None
    return [node for key in order if isinstance(node := nodes.get(key), entity)]


def find_cycles(
    session: SyncSession, entity: type[N], *, edge: type[GraphEdge[Any]] | None = None
) -> Sequence[Sequence[N]]:
    """Return one cycle for each strongly connected component that has one.

    Such a component is a largest set of nodes that can all reach each other. For a graph without cycles the result is
    empty. Each cycle is a shortest one through the node of the component with the lowest key, and has that node again
    at the end. A component may have more cycles: remove an edge, and call `find_cycles` again.

    Two SELECTs: the keys of all edges, and the nodes of the cycles.

    Args:
        session: The session to load in.
        entity: The node class, or a subclass of it.
        edge: The edge class, where there are several.
    """
    session = resolve_session(session, "find_cycles")
    require_class(entity, "find_cycles")
    edges = edges_of(entity, edge)
    after = _adjacency(_rows(session, edges, edges.select().order_by(edges.config.lower, edges.config.higher)))
    place = {key: number for number, key in enumerate(after)}
    found: list[list[PrimaryKey]] = []
    for group in strongly_connected_components(after):
        first = min(group, key=lambda key: place.get(key, len(place)))
        if len(group) > 1 or first in after.get(first, ()):
            found.append([first, *path_with_fewest_edges(after, after[first], first)])
    found.sort(key=lambda cycle: place[cycle[0]])
    nodes = _by_key(session, edges.config, {key for cycle in found for key in cycle})
    cycles = [[nodes[key] for key in cycle if key in nodes] for cycle in found]
    return [cycle for cycle in cycles if all(isinstance(node, entity) for node in cycle)]


@at_object
def connected_component(session: SyncSession, node: N, *, edge: type[GraphEdge[Any]] | None = None) -> Sequence[N]:
    """Return all nodes that are connected with `node`, itself included, whatever the direction of the edges.

    They are in the order of their keys. One SELECT.

    Args:
        session: The session to load in.
        node: The node.
        edge: The edge class, where there are several.

    Raises:
        StateError: `node` has no primary key yet.
    """
    session = resolve_session(session, "connected_component")
    edges = edges_of(node, edge)
    config, pairs, reversed_pairs = edges.config, edges.pairs(), edges.pairs()
    both = union_all(
        structural_part(select(pairs.c.lower_key.label("here"), pairs.c.higher_key.label("there"))),
        structural_part(select(reversed_pairs.c.higher_key, reversed_pairs.c.lower_key)),
    ).subquery()
    start = structural_part(select(config.node_pk.label("key")).where(config.node_pk == resolve_pk(config, node)))
    found = start.cte(recursive=True)
    found = found.union(select(both.c.there).join(found, both.c.here == found.c.key))
    pk = config.pk_attribute
    statement = select(config.node).where(pk.in_(select(found.c.key))).order_by(pk)
    connect(session, config)
    return session.scalars(statement).unique().all()


# -- shared --------------------------------------------------------------------------------------


def connect(session: Session, config: EdgeConfig) -> Connection:
    """Return the connection to query this graph on, with MariaDB's limit on recursion lifted."""
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    allow_deep_recursion(connection)
    return connection


class _Paths:
    """The paths from one node to another; their edges are read when it is made."""

    def __init__(self, session: Session, a: object, b: object, *, weight: _Weight | None, edge: object) -> None:
        if weight is not None:
            _check_weight(weight)
        edges = edges_of(a, edge if edge is not None or weight is None else _class_of(weight))
        self.config = config = edges.config
        self._start, self._end = resolve_pk(config, a), resolve_pk(config, b)
        self._after: dict[PrimaryKey, list[PrimaryKey]] = {}
        self._weights: dict[Pair, Number] = {}
        if self._start != self._end:
            statement = edges.select(*(() if weight is None else (_without_entities(edges, weight),)))
            statement = statement.where(between(edges, starts=[self._start], ends=[self._end]))
            rows = _rows(session, edges, statement.order_by(config.lower, config.higher))
            self._after = _adjacency(rows)
            if weight is not None:
                self._weights = {(lower, higher): value for lower, higher, value in rows}
                _check_weights(config, self._weights)

    def first(self) -> list[PrimaryKey]:
        """Return the keys of the lightest path; an empty list if there is no path."""
        return lightest_path(self._after, self._start, self._end, self._weigh)

    def lightest(self, limit: int) -> list[list[PrimaryKey]]:
        """Return the keys of the `limit` lightest paths."""
        return list(islice(lightest_paths(self._after, self._start, self._end, self._weigh), limit))

    def _weigh(self, lower: PrimaryKey, higher: PrimaryKey) -> Number:
        return self._weights[lower, higher] if self._weights else 1


def _class_of(weight: _Weight) -> object:
    """Return the edge class of the column `weight`; None for an expression that belongs to no single class."""
    return getattr(weight, "class_", None)


def _check_weight(weight: _Weight) -> None:
    """Raise unless `weight` is an expression that may be a number.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if not isinstance(cast("object", weight), SQLColumnExpression) and not hasattr(weight, "__clause_element__"):
        raise InvalidArgumentError(
            f"weight={weight!r} is no column: give an attribute of the edge class itself, such as "
            "weight=Track.minutes, or an expression of such attributes"
        )
    expression: AnyExpression = getattr(weight, "expression", cast("Any", weight))
    try:
        python_type: type[object] = expression.type.python_type
    except (AttributeError, NotImplementedError):
        return  # The type says nothing about it; the values are checked when they are read.
    if python_type is not object and not issubclass(python_type, (int, float, Decimal)):
        raise InvalidArgumentError(
            f"weight={weight} is of type {python_type.__name__}, and a path adds numbers: give a numeric column of "
            "the edge class"
        )


def _without_entities(edges: Edges, weight: _Weight) -> ColumnElement[object]:
    """Return `weight` with columns in place of attributes, which would bring the criteria of a session along.

    Raises:
        InvalidArgumentError: It has a column of a table that the edges do not have, which would multiply the rows.
    """
    columns: dict[object, object] = {column: column for table in edges.mapper.tables for column in table.c}

    def column_of(element: object, **_: object) -> object:
        return columns.get(element) if is_column(element) else None

    attribute: object = getattr(weight, "expression", weight)
    # replacement_traverse() has no types.
    expression: AnyExpression = cast("Any", visitors).replacement_traverse(attribute, {}, column_of)
    for each in visitors.iterate(expression):
        if is_column(each) and each not in columns:
            raise InvalidArgumentError(
                f"weight: {each} is no column of {edges.entity.__name__}; give a column of the edge class"
            )
    return expression.label("weight")


def _check_weights(config: EdgeConfig, weights: Mapping[Pair, object]) -> None:
    for (lower, higher), value in weights.items():
        if not isinstance(value, (int, float, Decimal)) or value < 0:
            raise InvalidArgumentError(
                f"{config.name} from {lower!r} to {higher!r} weighs {value!r}; a path needs weights of zero or more: "
                "use func.coalesce() or func.abs() on the column, or correct the row"
            )


def _rows(session: Session, edges: Edges, statement: Executable) -> Sequence[Sequence[PrimaryKey]]:
    autoflush(session)
    connect(session, edges.config)
    return session.execute(statement, bind_arguments={"mapper": edges.config.mapper}).all()


def _adjacency(rows: Sequence[Sequence[PrimaryKey]]) -> dict[PrimaryKey, list[PrimaryKey]]:
    after: dict[PrimaryKey, list[PrimaryKey]] = defaultdict(list)
    for row in rows:
        after[row[0]].append(row[1])
    return dict(after)


def _by_key(session: Session, config: EdgeConfig, keys: Iterable[PrimaryKey]) -> dict[PrimaryKey, MappedObject]:
    """Load the nodes with these keys, and return them by key."""
    found: dict[PrimaryKey, MappedObject] = {}
    for some in chunks(keys, MAX_KEYS):
        for node in session.scalars(select(config.node).where(config.pk_attribute.in_(some))).unique():
            found[config.pk_of(node)] = node
    return found


def _nodes(session: Session, config: EdgeConfig, keys: Sequence[PrimaryKey]) -> list[MappedObject]:
    """Load the nodes with these keys, and return them in the order of the keys."""
    found = _by_key(session, config, keys)
    return [found[key] for key in keys if key in found]
