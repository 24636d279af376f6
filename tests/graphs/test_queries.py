"""Predicates, paths, order, cycles and components, against a plain Python model where there is one."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column, relationship, with_loader_criteria

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
from tests.graphs._world import KEYS, World, names

Make = Callable[..., World]
GRAPH = "ab bc cd ce eb fg"  # one cycle, b c e; g hangs on f; h is alone


def found(session: Session, world: World, criterion: Any) -> str:
    return "".join(session.scalars(select(world.Node.name).where(criterion).order_by(world.Node.name)))


# -- predicates ----------------------------------------------------------------------------------


def test_reachable_nodes_include_the_start_only_on_a_cycle_or_when_asked(world: World, session: Session) -> None:
    nodes = world.plant(session, "abcdefgh", GRAPH)
    Node = world.Node
    for start, below in {"a": "bcde", "b": "bcde", "c": "bcde", "d": "", "e": "bcde", "f": "g", "h": ""}.items():
        assert found(session, world, Node.reachable_from(nodes[start])) == below
        inclusive = "".join(sorted({*below, start}))
        assert found(session, world, Node.reachable_from(nodes[start], inclusive=True)) == inclusive
    for end, above in {"a": "", "b": "abce", "d": "abce", "g": "f", "h": ""}.items():
        assert found(session, world, Node.reaching(nodes[end])) == above


def test_within_bounds_the_number_of_edges(world: World, session: Session) -> None:
    a = world.plant(session, "abcdefgh", GRAPH)["a"]
    Node = world.Node
    for within, below in enumerate(("", "b", "bc", "bcde", "bcde")):
        assert found(session, world, Node.reachable_from(a, within=within)) == below
        assert found(session, world, Node.reachable_from(a, within=within, inclusive=True)) == f"a{below}"
    assert found(session, world, Node.reaching(a, within=3)) == ""


@pytest.mark.parametrize("key", KEYS)
def test_nodes_are_given_as_instances_keys_or_several(make_world: Make, session: Session, key: str) -> None:
    world = make_world(key=key)
    nodes = world.plant(session, "abcdefgh", GRAPH)
    Node = world.Node
    for start in (nodes["c"], nodes["c"].id, [nodes["c"]], (nodes["c"].id, nodes["d"])):
        assert found(session, world, Node.reachable_from(start)) == "bcde"
    assert found(session, world, Node.reachable_from([nodes["a"], nodes["f"].id])) == "bcdeg"
    assert found(session, world, Node.reachable_from([])) == ""
    missing = {"uuid": "9" * 32}.get(key, "9" if key in {"string", "renamed"} else 99)
    if key == "uuid":
        import uuid

        missing = uuid.UUID(missing)
    assert found(session, world, Node.reachable_from(missing, inclusive=True)) == ""


def test_predicates_join_entities_and_aliases(world: World, session: Session) -> None:
    world.plant(session, "abcdefgh", GRAPH)
    Node, Other = world.Node, aliased(world.Node)

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


def test_sources_and_sinks_have_no_edge_on_that_side(world: World, session: Session) -> None:
    world.plant(session, "abcdefgh", f"{GRAPH} hh")
    assert found(session, world, world.Node.is_source()) == "af"
    assert found(session, world, world.Node.is_sink()) == "dg"
    Other = aliased(world.Node)
    assert set(session.scalars(select(Other.name).where(Other.is_source()))) == {"a", "f"}


def test_several_predicates_serve_in_updates_and_deletes(world: World, session: Session) -> None:
    nodes = world.plant(session, "abcdefgh", GRAPH)
    Node = world.Node
    both = Node.reachable_from(nodes["a"]) & ~Node.reaching(nodes["d"])
    assert found(session, world, both) == "d"
    session.execute(update(Node).where(both).values(name="D"), execution_options={"synchronize_session": False})
    session.execute(
        delete(Node).where(Node.reachable_from(nodes["f"])), execution_options={"synchronize_session": False}
    )
    session.commit()
    assert "".join(sorted(session.scalars(select(Node.name)))) == "Dabcefh"


def test_criteria_of_the_session_hide_nodes_and_no_part_of_a_path(world: World, session: Session) -> None:
    nodes = world.plant(session, "abcd", "ab bc cd")
    hidden = with_loader_criteria(world.Node, world.Node.name != "b")
    statement = select(world.Node.name).where(world.Node.reachable_from(nodes["a"])).order_by(world.Node.name)
    assert session.scalars(statement.options(hidden)).all() == ["c", "d"]


@pytest.mark.parametrize("within", [-1])
def test_bad_arguments_are_refused(world: World, session: Session, within: int) -> None:
    a, _ = world.plant(session, "ab").values()
    Node = world.Node
    with pytest.raises(InvalidArgumentError, match="within counts edges and cannot be -1"):
        Node.reachable_from(a, within=within)
    with pytest.raises(StateError, match="no primary key yet"):
        Node.reachable_from(Node(name="x"))
    with pytest.raises(InvalidArgumentError, match="not None"):
        Node.reachable_from(None)
    with pytest.raises(InvalidArgumentError, match="is no Node"):
        Node.reachable_from(world.Edge())
    with pytest.raises(InvalidArgumentError, match="is no Node, nor an alias"):
        Node.reachable_from(world.Edge)
    with pytest.raises(InvalidArgumentError, match="limit is a number of paths"):
        all_paths(session, a, a, limit=-1)
    assert found(session, world, Node.reachable_from(a, inclusive=True)) == "a"


# -- paths ---------------------------------------------------------------------------------------


def test_shortest_path_has_the_fewest_edges_or_the_least_weight(
    world: World, session: Session, statements: Any
) -> None:
    nodes = world.plant(session, "abcdefx", "ad9 ab1 bc2 cd3 de1 fa1 dx0")
    a, _d, e, f, x = (nodes[name] for name in "adefx")
    for node in nodes.values():
        session.refresh(node)
    with statements() as log:
        assert names(shortest_path(session, a, e) or ()) == "ade"
        assert len(log) == 2, log.text
        assert names(shortest_path(session, a, e, weight=world.Edge.weight) or ()) == "abcde"
        assert len(log) == 4
        assert names(shortest_path(session, a, e, weight=world.Edge.weight + 100) or ()) == "ade"
        assert shortest_path(session, e, a) is None
        assert len(log) == 7
    assert shortest_path(session, a, a) == [a]
    assert shortest_path(session, a, f) is None
    assert names(shortest_path(session, a, x, weight=world.Edge.weight) or ()) == "abcdx"


def test_paths_see_what_is_pending(world: World, session: Session) -> None:
    nodes = world.plant(session, "abc", "ab")
    nodes["b"].add_neighbor(nodes["c"])
    assert names(shortest_path(session, nodes["a"], nodes["c"]) or ()) == "abc"
    assert names(topological_order(session, world.Node)) == "abc"


def test_weights_below_zero_and_null_are_refused(world: World, session: Session) -> None:
    nodes = world.plant(session, "abc", "ab1 bc1")
    a, b, c = nodes.values()
    a.add_neighbor(b, weight=-1)
    with pytest.raises(
        InvalidArgumentError, match=r"Edge from .* to .* weighs -1; a path needs weights of zero or more"
    ):
        shortest_path(session, a, c, weight=world.Edge.weight)
    with pytest.raises(InvalidArgumentError, match="weighs None"):
        shortest_path(session, a, c, weight=func.nullif(func.abs(world.Edge.weight), 1))
    with pytest.raises(PatternError, match=r"is no column of Edge|joins no Node"):
        shortest_path(session, a, c, weight=world.Node.id)
    assert names(shortest_path(session, a, c, weight=func.abs(world.Edge.weight)) or ()) == "abc"


@pytest.mark.parametrize("seed", range(12))
def test_paths_of_random_graphs_are_those_that_brute_force_finds(make_world: Make, session: Session, seed: int) -> None:
    world = make_world()
    chance = random.Random(seed)
    letters = "abcdef"
    weights = {one + two: chance.randrange(5) for one in letters for two in letters if chance.random() < 0.35}
    nodes = world.plant(session, letters, " ".join(f"{pair}{weight}" for pair, weight in weights.items()))
    inner = letters[1:-1]
    every = [f"a{''.join(middle)}f" for size in range(len(inner) + 1) for middle in permutations(inner, size)]
    every = [way for way in every if all(way[at : at + 2] in weights for at in range(len(way) - 1))]
    cost = {way: sum(weights[way[at : at + 2]] for at in range(len(way) - 1)) for way in every}
    ways = [names(way) for way in all_paths(session, nodes["a"], nodes["f"], limit=1000)]
    assert sorted(ways) == sorted(every)
    assert [len(way) for way in ways] == sorted(map(len, every))
    assert ways[:2] == [names(way) for way in all_paths(session, nodes["a"], nodes["f"], limit=2)]
    light = [names(way) for way in all_paths(session, nodes["a"], nodes["f"], limit=1000, weight=world.Edge.weight)]
    assert [cost[way] for way in light] == sorted(cost.values())
    best = shortest_path(session, nodes["a"], nodes["f"], weight=world.Edge.weight)
    assert (None if best is None else cost[names(best)]) == (min(cost.values()) if cost else None)


def test_a_limit_stops_where_there_are_very_many_paths(make_world: Make, session: Session, statements: Any) -> None:
    world = make_world()
    # A chain of 40 diamonds has 2 to the power of 40 paths.
    nodes = [world.node(str(number), number) for number in range(121)]
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
    world: World, session: Session, statements: Any
) -> None:
    world.plant(session, "abcdefgh", "hg ga ab hb cb")
    with statements() as log:
        order = names(topological_order(session, world.Node))
    assert len(log) == 1, log.text
    assert sorted(order) == list("abcdefgh")
    for lower, higher in ("hg", "ga", "ab", "hb", "cb"):
        assert order.index(lower) < order.index(higher)
    assert names(topological_order(session, world.Node)) == order


def test_a_graph_with_a_cycle_has_no_order_and_the_error_names_the_cycle(world: World, session: Session) -> None:
    world.plant(session, "abcd", "ab bc ca cd")
    with pytest.raises(CycleError, match="have no topological order") as caught:
        topological_order(session, world.Node)
    path = names(caught.value.path)
    assert len(path) == 4
    assert path[0] == path[-1]
    assert all(path[at : at + 2] in {"ab", "bc", "ca"} for at in range(3))


def test_find_cycles_finds_one_in_each_knot(world: World, session: Session, statements: Any) -> None:
    world.plant(session, "abcdefghi", "ab bc cd da ac de ef fe gg hi")
    with statements() as log:
        cycles = [names(cycle) for cycle in find_cycles(session, world.Node)]
    assert cycles == ["acda", "efe", "gg"]
    assert len(log) == 2


def test_a_graph_without_cycles_has_none_to_find(world: World, session: Session) -> None:
    world.plant(session, "abcd", "ab bc ac")
    assert find_cycles(session, world.Node) == []


def test_a_component_hangs_together_whichever_way_edges_point(world: World, session: Session, statements: Any) -> None:
    nodes = world.plant(session, "abcdefgh", "ba bc dc ef fe")
    expected = {"a": "abcd", "d": "abcd", "e": "ef", "h": "h"}
    for node in nodes.values():
        session.refresh(node)
    with statements() as log:
        assert {name: names(connected_component(session, nodes[name])) for name in expected} == expected
    assert len(log) == 4


def test_questions_to_an_empty_graph_have_empty_answers(world: World, session: Session) -> None:
    assert topological_order(session, world.Node) == []
    assert find_cycles(session, world.Node) == []


def test_a_graph_of_15000_edges_sorts_in_one_select(make_world: Make, session: Session, statements: Any) -> None:
    world = make_world()
    chance = random.Random(3)
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < 15_000:
        low, high = sorted(chance.sample(range(1, 10_001), 2))
        # Higher keys come first, so that the order of the keys is not the answer.
        pairs.add((high, low))
    nodes = [{"id": key, "name": str(key)} for key in range(1, 10_001)]
    session.execute(world.Node.__table__.insert(), nodes)
    rows = [{"lower_id": lower, "higher_id": higher, "weight": 1} for lower, higher in pairs]
    session.execute(world.Edge.__table__.insert(), rows)
    with statements() as log:
        order = topological_order(session, world.Node)
    assert len(log) == 1
    place = {node.id: number for number, node in enumerate(order)}
    assert len(place) == 10_000
    assert all(place[lower] < place[higher] for lower, higher in pairs)


def test_nodes_with_collections_that_load_eagerly_by_joins_are_told_once(
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


def test_a_chain_of_some_thousand_nodes_is_followed_to_its_end(make_world: Make, session: Session) -> None:
    world = make_world()
    length = 1_500
    nodes = [world.node(str(number), number) for number in range(length)]
    session.add_all(nodes)
    session.flush()
    session.execute(
        world.Edge.__table__.insert(),
        [{"lower_id": at + 1, "higher_id": at + 2, "weight": 1} for at in range(length - 1)],
    )
    session.commit()
    path = shortest_path(session, nodes[0], nodes[-1])
    assert path is not None
    assert len(path) == length
    assert len(connected_component(session, nodes[700])) == length
    assert len(topological_order(session, world.Node)) == length
    # The functions have lifted MariaDB's limit of 1,000 steps on this connection.
    assert session.scalar(select(func.count()).where(world.Node.reachable_from(nodes[0]))) == length - 1
    nodes[-1].add_neighbor(nodes[0])
    (cycle,) = find_cycles(session, world.Node)
    assert len(cycle) == length + 1
