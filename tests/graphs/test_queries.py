"""Predicates, paths, order, cycles and components, some of them compared with a plain Python model."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    Mapped,
    Session,
    aliased,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
    with_loader_criteria,
)

from sqla_patterns.exceptions import InvalidArgumentError, PatternError, StateError
from sqla_patterns.graphs import (
    CycleError,
    GraphEdge,
    GraphNode,
    GraphOptions,
    all_paths,
    connected_component,
    find_cycles,
    load_graph,
    shortest_path,
    topological_order,
)
from tests.graphs._models import KEYS, GraphModels, names

Make = Callable[..., GraphModels]
GRAPH = "ab bc cd ce eb fg"  # one cycle, b c e; an edge from f to g; h without edges


def found(session: Session, graph: GraphModels, criterion: Any) -> str:
    return "".join(session.scalars(select(graph.Node.name).where(criterion).order_by(graph.Node.name)))


# -- predicates ----------------------------------------------------------------------------------


def test_reachable_nodes_include_the_start_only_on_a_cycle_or_when_asked(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abcdefgh", GRAPH)
    Node = graph.Node
    for start, below in {"a": "bcde", "b": "bcde", "c": "bcde", "d": "", "e": "bcde", "f": "g", "h": ""}.items():
        assert found(session, graph, Node.reachable_from(nodes[start])) == below
        inclusive = "".join(sorted({*below, start}))
        assert found(session, graph, Node.reachable_from(nodes[start], inclusive=True)) == inclusive
    for end, above in {"a": "", "b": "abce", "d": "abce", "g": "f", "h": ""}.items():
        assert found(session, graph, Node.reaching(nodes[end])) == above


def test_within_limits_the_number_of_edges(graph: GraphModels, session: Session) -> None:
    a = graph.insert(session, "abcdefgh", GRAPH)["a"]
    Node = graph.Node
    for within, below in enumerate(("", "b", "bc", "bcde", "bcde")):
        assert found(session, graph, Node.reachable_from(a, within=within)) == below
        assert found(session, graph, Node.reachable_from(a, within=within, inclusive=True)) == f"a{below}"
    assert found(session, graph, Node.reaching(a, within=3)) == ""


@pytest.mark.parametrize("key", KEYS)
def test_nodes_are_given_as_instances_keys_or_several(make_graph: Make, session: Session, key: str) -> None:
    graph = make_graph(key=key)
    nodes = graph.insert(session, "abcdefgh", GRAPH)
    Node = graph.Node
    for start in (nodes["c"], nodes["c"].id, [nodes["c"]], (nodes["c"].id, nodes["d"])):
        assert found(session, graph, Node.reachable_from(start)) == "bcde"
    assert found(session, graph, Node.reachable_from([nodes["a"], nodes["f"].id])) == "bcdeg"
    assert found(session, graph, Node.reachable_from([])) == ""
    missing = {"uuid": "9" * 32}.get(key, "9" if key in {"string", "renamed"} else 99)
    if key == "uuid":
        import uuid

        missing = uuid.UUID(missing)
    assert found(session, graph, Node.reachable_from(missing, inclusive=True)) == ""


def test_predicates_join_entities_and_aliases(graph: GraphModels, session: Session) -> None:
    graph.insert(session, "abcdefgh", GRAPH)
    Node, Other = graph.Node, aliased(graph.Node)

    def pairs(criterion: Any) -> set[str]:
        return {one + two for one, two in session.execute(select(Node.name, Other.name).join(Other, criterion))}

    closure = {
        start + end
        for start, ends in {"a": "bcde", "b": "bcde", "c": "bcde", "e": "bcde", "f": "g"}.items()
        for end in ends
    }
    assert pairs(Other.reachable_from(Node)) == closure
    assert pairs(Node.reaching(Other)) == closure
    assert pairs(Other.reachable_from(Node, within=1)) == set(GRAPH.split())
    assert pairs(Other.reachable_from(Node, within=1, inclusive=True)) == {*GRAPH.split(), *(2 * x for x in "abcdefgh")}
    assert pairs(Other.reachable_from(Node, within=0, inclusive=True)) == {2 * x for x in "abcdefgh"}
    assert pairs(Other.reachable_from(Node, within=0)) == set()


def test_sources_and_sinks_have_no_edge_on_that_side(graph: GraphModels, session: Session) -> None:
    graph.insert(session, "abcdefgh", f"{GRAPH} hh")
    assert found(session, graph, graph.Node.is_source()) == "af"
    assert found(session, graph, graph.Node.is_sink()) == "dg"
    Other = aliased(graph.Node)
    assert set(session.scalars(select(Other.name).where(Other.is_source()))) == {"a", "f"}


def test_several_predicates_serve_in_updates_and_deletes(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abcdefgh", GRAPH)
    Node = graph.Node
    both = Node.reachable_from(nodes["a"]) & ~Node.reaching(nodes["d"])
    assert found(session, graph, both) == "d"
    session.execute(update(Node).where(both).values(name="D"), execution_options={"synchronize_session": False})
    session.execute(
        delete(Node).where(Node.reachable_from(nodes["f"])), execution_options={"synchronize_session": False}
    )
    session.commit()
    assert "".join(sorted(session.scalars(select(Node.name)))) == "Dabcefh"


def test_criteria_of_the_session_hide_nodes_and_no_part_of_a_path(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abcd", "ab bc cd")
    hidden = with_loader_criteria(graph.Node, graph.Node.name != "b")
    statement = select(graph.Node.name).where(graph.Node.reachable_from(nodes["a"])).order_by(graph.Node.name)
    assert session.scalars(statement.options(hidden)).all() == ["c", "d"]


@pytest.mark.parametrize("within", [-1])
def test_bad_arguments_are_refused(graph: GraphModels, session: Session, within: int) -> None:
    a, _ = graph.insert(session, "ab").values()
    Node = graph.Node
    with pytest.raises(InvalidArgumentError, match="within counts edges and cannot be -1"):
        Node.reachable_from(a, within=within)
    with pytest.raises(StateError, match="no primary key yet"):
        Node.reachable_from(Node(name="x"))
    with pytest.raises(InvalidArgumentError, match="not None"):
        Node.reachable_from(None)
    with pytest.raises(InvalidArgumentError, match="is no Node"):
        Node.reachable_from(graph.Edge())
    with pytest.raises(InvalidArgumentError, match="is no Node, nor an alias"):
        Node.reachable_from(graph.Edge)
    with pytest.raises(InvalidArgumentError, match="limit is a number of paths"):
        all_paths(session, a, a, limit=-1)
    assert found(session, graph, Node.reachable_from(a, inclusive=True)) == "a"


# -- paths ---------------------------------------------------------------------------------------


def test_shortest_path_has_the_fewest_edges_or_the_least_weight(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    nodes = graph.insert(session, "abcdefx", "ad9 ab1 bc2 cd3 de1 fa1 dx0")
    a, _d, e, f, x = (nodes[name] for name in "adefx")
    for node in nodes.values():
        session.refresh(node)
    with statements() as log:
        assert names(shortest_path(session, a, e) or ()) == "ade"
        assert len(log) == 2, log.text
        assert names(shortest_path(session, a, e, weight=graph.Edge.weight) or ()) == "abcde"
        assert len(log) == 4
        assert names(shortest_path(session, a, e, weight=graph.Edge.weight + 100) or ()) == "ade"
        assert shortest_path(session, e, a) is None
        assert len(log) == 7
    assert shortest_path(session, a, a) == [a]
    assert shortest_path(session, a, f) is None
    assert names(shortest_path(session, a, x, weight=graph.Edge.weight) or ()) == "abcdx"


def test_paths_see_what_is_pending(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab")
    nodes["b"].add_neighbor(nodes["c"])
    assert names(shortest_path(session, nodes["a"], nodes["c"]) or ()) == "abc"
    assert names(topological_order(session, graph.Node)) == "abc"


def test_weights_below_zero_and_null_are_refused(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab1 bc1")
    a, b, c = nodes.values()
    a.add_neighbor(b, weight=-1)
    with pytest.raises(
        InvalidArgumentError, match=r"Edge from .* to .* weighs -1; a path needs weights of zero or more"
    ):
        shortest_path(session, a, c, weight=graph.Edge.weight)
    with pytest.raises(InvalidArgumentError, match="weighs None"):
        shortest_path(session, a, c, weight=func.nullif(func.abs(graph.Edge.weight), 1))
    with pytest.raises(PatternError, match=r"is no column of Edge|joins no Node"):
        shortest_path(session, a, c, weight=graph.Node.id)
    assert names(shortest_path(session, a, c, weight=func.abs(graph.Edge.weight)) or ()) == "abc"


@pytest.mark.parametrize("seed", range(12))
def test_paths_of_random_graphs_are_those_that_brute_force_finds(make_graph: Make, session: Session, seed: int) -> None:
    graph = make_graph()
    chance = random.Random(seed)
    letters = "abcdef"
    weights = {one + two: chance.randrange(5) for one in letters for two in letters if chance.random() < 0.35}
    nodes = graph.insert(session, letters, " ".join(f"{pair}{weight}" for pair, weight in weights.items()))
    inner = letters[1:-1]
    every = [f"a{''.join(middle)}f" for size in range(len(inner) + 1) for middle in permutations(inner, size)]
    every = [way for way in every if all(way[at : at + 2] in weights for at in range(len(way) - 1))]
    cost = {way: sum(weights[way[at : at + 2]] for at in range(len(way) - 1)) for way in every}
    ways = [names(way) for way in all_paths(session, nodes["a"], nodes["f"], limit=1000)]
    assert sorted(ways) == sorted(every)
    assert [len(way) for way in ways] == sorted(map(len, every))
    assert ways[:2] == [names(way) for way in all_paths(session, nodes["a"], nodes["f"], limit=2)]
    light = [names(way) for way in all_paths(session, nodes["a"], nodes["f"], limit=1000, weight=graph.Edge.weight)]
    assert [cost[way] for way in light] == sorted(cost.values())
    best = shortest_path(session, nodes["a"], nodes["f"], weight=graph.Edge.weight)
    assert (None if best is None else cost[names(best)]) == (min(cost.values()) if cost else None)


def test_a_limit_stops_where_there_are_very_many_paths(make_graph: Make, session: Session, statements: Any) -> None:
    graph = make_graph()
    # A chain of 40 diamonds has 2 to the power of 40 paths.
    nodes = [graph.make_node(str(number), number) for number in range(121)]
    for at in range(0, 120, 3):
        top, left, right, bottom = nodes[at : at + 4]
        top.add_neighbor(left, right)
        left.add_neighbor(bottom)
        right.add_neighbor(bottom)
    session.add_all(nodes)
    session.flush()
    with statements() as log:
        paths = all_paths(session, nodes[0], nodes[-1], limit=5)
    assert len({tuple(node.name for node in path) for path in paths}) == 5
    assert {len(path) for path in paths} == {81}
    assert len(log) == 2


# -- order and cycles ----------------------------------------------------------------------------


def test_topological_order_puts_lower_before_higher_in_one_select(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    graph.insert(session, "abcdefgh", "hg ga ab hb cb")
    with statements() as log:
        order = names(topological_order(session, graph.Node))
    assert len(log) == 1, log.text
    assert sorted(order) == list("abcdefgh")
    for lower, higher in ("hg", "ga", "ab", "hb", "cb"):
        assert order.index(lower) < order.index(higher)
    assert names(topological_order(session, graph.Node)) == order


def test_a_graph_with_a_cycle_has_no_order_and_the_error_names_the_cycle(graph: GraphModels, session: Session) -> None:
    graph.insert(session, "abcd", "ab bc ca cd")
    with pytest.raises(CycleError, match="have no topological order") as caught:
        topological_order(session, graph.Node)
    path = names(caught.value.path)
    assert len(path) == 4
    assert path[0] == path[-1]
    assert all(path[at : at + 2] in {"ab", "bc", "ca"} for at in range(3))


def test_find_cycles_finds_one_cycle_in_each_strongly_connected_component(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    graph.insert(session, "abcdefghi", "ab bc cd da ac de ef fe gg hi")
    with statements() as log:
        cycles = [names(cycle) for cycle in find_cycles(session, graph.Node)]
    assert cycles == ["acda", "efe", "gg"]
    assert len(log) == 2


def test_a_graph_without_cycles_has_none_to_find(graph: GraphModels, session: Session) -> None:
    graph.insert(session, "abcd", "ab bc ac")
    assert find_cycles(session, graph.Node) == []


def test_the_direction_of_edges_does_not_matter_for_a_connected_component(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    nodes = graph.insert(session, "abcdefgh", "ba bc dc ef fe")
    expected = {"a": "abcd", "d": "abcd", "e": "ef", "h": "h"}
    for node in nodes.values():
        session.refresh(node)
    with statements() as log:
        assert {name: names(connected_component(session, nodes[name])) for name in expected} == expected
    assert len(log) == 4


def test_queries_of_an_empty_graph_return_nothing(graph: GraphModels, session: Session) -> None:
    assert topological_order(session, graph.Node) == []
    assert find_cycles(session, graph.Node) == []


def test_a_graph_of_15000_edges_sorts_in_one_select(make_graph: Make, session: Session, statements: Any) -> None:
    graph = make_graph()
    chance = random.Random(3)
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < 15_000:
        low, high = sorted(chance.sample(range(1, 10_001), 2))
        # Higher keys come first, so that the order of the keys is not the answer.
        pairs.add((high, low))
    nodes = [{"id": key, "name": str(key)} for key in range(1, 10_001)]
    session.execute(graph.Node.__table__.insert(), nodes)
    rows = [{"lower_id": lower, "higher_id": higher, "weight": 1} for lower, higher in pairs]
    session.execute(graph.Edge.__table__.insert(), rows)
    with statements() as log:
        order = topological_order(session, graph.Node)
    assert len(log) == 1
    place = {node.id: number for number, node in enumerate(order)}
    assert len(place) == 10_000
    assert all(place[lower] < place[higher] for lower, higher in pairs)


def test_nodes_with_collections_that_load_eagerly_by_joins_are_returned_once(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()

    class Node(GraphNode, Base):  # type: ignore[valid-type, misc]
        __tablename__ = "eager_node"
        id: Mapped[int] = mapped_column(primary_key=True)
        tags: Mapped[list[Any]] = relationship(lambda: Tag, lazy="joined", uselist=True)

    class Tag(Base):  # type: ignore[valid-type, misc]
        __tablename__ = "eager_tag"
        id: Mapped[int] = mapped_column(primary_key=True)
        node_id: Mapped[int] = mapped_column(ForeignKey(Node.id))

    class Edge(GraphEdge[Node], Base):  # type: ignore[valid-type, misc]
        __tablename__ = "eager_edge"
        __graph__ = GraphOptions(acyclic=True)

    Base.metadata.create_all(engine)
    a, b, c = (Node(tags=[Tag(), Tag()]) for _ in range(3))
    session.add_all([a, b, c])
    session.flush()
    a.add_neighbor(b, c)
    b.add_neighbor(c)
    session.commit()
    session.expunge_all()
    a, b, c = topological_order(session, Node)
    assert [len(node.tags) for node in (a, b, c)] == [2, 2, 2]
    assert shortest_path(session, a, c) == [a, c]
    assert connected_component(session, c) == [a, b, c]
    session.expire_all()
    assert a.higher_neighbors() == [b, c]
    assert load_graph(session, Node) == [a, b, c]
    c.add_neighbor(a)
    with pytest.raises(CycleError) as caught:
        session.commit()
    assert caught.value.path == (c, a, c)
    session.rollback()


def test_a_chain_of_some_thousand_nodes_is_followed_to_its_end(make_graph: Make, session: Session) -> None:
    graph = make_graph()
    length = 1_500
    nodes = [graph.make_node(str(number), number) for number in range(length)]
    session.add_all(nodes)
    session.flush()
    session.execute(
        graph.Edge.__table__.insert(),
        [{"lower_id": at + 1, "higher_id": at + 2, "weight": 1} for at in range(length - 1)],
    )
    session.commit()
    path = shortest_path(session, nodes[0], nodes[-1])
    assert path is not None
    assert len(path) == length
    assert len(connected_component(session, nodes[700])) == length
    assert len(topological_order(session, graph.Node)) == length
    # The functions have lifted MariaDB's limit of 1,000 steps on this connection.
    assert session.scalar(select(func.count()).where(graph.Node.reachable_from(nodes[0]))) == length - 1
    nodes[-1].add_neighbor(nodes[0])
    (cycle,) = find_cycles(session, graph.Node)
    assert len(cycle) == length + 1


# -- wrong arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize("function", [shortest_path, partial(all_paths, limit=1)])
def test_a_weight_by_name_is_refused_before_any_sql(
    graph: GraphModels, session: Session, statements: Any, function: Any
) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    with (
        statements() as log,
        pytest.raises(InvalidArgumentError, match=r"weight='weight' is no column.*Track\.minutes"),
    ):
        function(session, a, b, weight="weight")
    assert len(log) == 0


def test_a_weight_that_is_no_number_is_refused_before_any_sql(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    with statements() as log, pytest.raises(InvalidArgumentError, match="of type str, and a path adds numbers"):
        shortest_path(session, a, b, weight=graph.Node.name)
    assert len(log) == 0


def test_a_relationship_as_weight_is_refused(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    with pytest.raises(InvalidArgumentError, match="weight"):
        shortest_path(session, a, b, weight=graph.Edge.lower_node)


def test_a_limit_or_distance_that_is_no_number_is_refused(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    with pytest.raises(InvalidArgumentError, match="limit is a number of paths and cannot be 'all'"):
        all_paths(session, a, b, limit="all")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="within counts edges and cannot be 'far'"):
        graph.Node.reachable_from(a, within="far")


def test_path_of_returns_the_path_of_an_error_as_nodes_of_the_class(graph: GraphModels, session: Session) -> None:
    graph.insert(session, "ab", "ab ba")
    with pytest.raises(CycleError) as caught:
        topological_order(session, graph.Node)
    assert caught.value.path_of(graph.Node) == caught.value.path


def test_path_of_refuses_another_class(graph: GraphModels, session: Session) -> None:
    graph.insert(session, "ab", "ab ba")
    with pytest.raises(CycleError) as caught:
        topological_order(session, graph.Node)
    with pytest.raises(InvalidArgumentError, match="this cycle has nodes of Node, which are no Edge"):
        caught.value.path_of(graph.Edge)


# -- kinds of sessions ---------------------------------------------------------------------------

CALLS: dict[str, Callable[[Any, GraphModels, Any, Any], Any]] = {
    "shortest_path": lambda session, graph, a, b: shortest_path(session, a, b),
    "all_paths": lambda session, graph, a, b: all_paths(session, a, b, limit=1),
    "topological_order": lambda session, graph, a, b: topological_order(session, graph.Node),
    "find_cycles": lambda session, graph, a, b: find_cycles(session, graph.Node),
    "connected_component": lambda session, graph, a, b: connected_component(session, a),
    "load_graph": lambda session, graph, a, b: load_graph(session, graph.Node),
}


@pytest.mark.parametrize("function", CALLS)
def test_every_function_takes_a_scoped_session(graph: GraphModels, engine: Engine, function: str) -> None:
    scoped = scoped_session(sessionmaker(engine))
    a, b = graph.insert(scoped(), "ab", "ab").values()
    expected = {"all_paths": [[a, b]], "find_cycles": []}.get(function, [a, b])
    assert CALLS[function](scoped, graph, a, b) == expected
    scoped.remove()


@pytest.mark.parametrize("function", CALLS)
def test_no_function_takes_an_async_session(graph: GraphModels, session: Session, function: str) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    with pytest.raises(InvalidArgumentError, match=rf"await session\.run_sync\({function}, \.\.\.\)"):
        CALLS[function](AsyncSession(), graph, a, b)


@pytest.mark.parametrize("function", CALLS)
def test_no_function_takes_a_sessionmaker(graph: GraphModels, session: Session, function: str) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    with pytest.raises(InvalidArgumentError, match=rf"{function}\(\) needs a session as its first argument"):
        CALLS[function](sessionmaker(), graph, a, b)
