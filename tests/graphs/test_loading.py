"""`load_graph`, after which nothing emits SQL, and the export of loaded graphs to DOT and networkx."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, raiseload

from sqla_patterns.exceptions import InvalidArgumentError, StateError
from sqla_patterns.graphs import (
    CycleError,
    connected_component,
    find_cycles,
    load_graph,
    shortest_path,
    to_dot,
    to_networkx,
    topological_order,
)
from tests.conftest import BaseFactory
from tests.graphs._models import GraphModels, names

GRAPH = "ab bc cd ce eb fc fg"


def around(nodes: Any) -> dict[str, tuple[str, str]]:
    return {node.name: (names(node.lower_neighbors()), names(node.higher_neighbors())) for node in nodes}


WHOLE = {
    "a": ("", "b"),
    "b": ("ae", "c"),
    "c": ("bf", "de"),
    "d": ("c", ""),
    "e": ("c", "b"),
    "f": ("", "cg"),
    "g": ("f", ""),
    "h": ("", ""),
}


def test_a_whole_graph_is_loaded_in_two_selects_and_emits_nothing_more(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    graph.insert(session, "abcdefgh", GRAPH)
    session.expunge_all()
    with statements() as log:
        nodes = load_graph(session, graph.Node)
        assert len(log) == 2, log.text
        assert names(nodes) == "abcdefgh"
        assert around(nodes) == WHOLE
        assert len(log) == 2


def test_a_part_has_all_neighbours_of_its_nodes_also_those_outside(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    start = graph.insert(session, "abcdefgh", GRAPH)["b"].id
    for within, expected in ((None, "bcde"), (0, "b"), (1, "bc"), (2, "bcde")):
        session.expunge_all()
        with statements() as log:
            nodes = load_graph(session, graph.Node, start, within=within)
            assert len(log) == 2, log.text
            assert names(nodes) == expected
            assert around(nodes) == {name: WHOLE[name] for name in expected}
            assert len(log) == 2


def test_loading_works_where_relationships_raise(graph: GraphModels, session: Session) -> None:
    graph.insert(session, "abcdefgh", GRAPH)
    session.expunge_all()
    raising = session.scalars(select(graph.Node).options(raiseload("*"))).all()
    assert around(load_graph(session, graph.Node)) == WHOLE
    assert around(raising) == WHOLE


def test_loading_again_shows_what_others_have_changed(graph: GraphModels, engine: Any) -> None:
    with Session(engine) as session:
        graph.insert(session, "abcdefgh", GRAPH)
        nodes = load_graph(session, graph.Node)
        kept = nodes[0].lower_edges
        session.commit()
        load_graph(session, graph.Node)
        with Session(engine) as other:
            a, c = (other.scalars(select(graph.Node).where(graph.Node.name == name)).one() for name in "ac")
            a.add_neighbor(c)
            other.commit()
        session.rollback()
        assert names(load_graph(session, graph.Node)[0].higher_neighbors()) == "bc"
        assert len(kept) == 1


def test_loading_keeps_pending_changes(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abcdefgh", GRAPH)
    load_graph(session, graph.Node)
    a, b, d, g = (nodes[name] for name in "abdg")
    with session.no_autoflush:
        a.add_neighbor(d)
        a.remove_neighbor(b)
        session.expire(g, ["lower_edges"])
        g.add_neighbor(d)
        load_graph(session, graph.Node)
        assert names(a.higher_neighbors()) == "d"
        assert names(g.higher_neighbors()) == "d"
    session.commit()
    assert graph.pairs(session) == {"ad", "bc", "cd", "ce", "eb", "fc", "fg", "gd"}


def test_loading_keeps_the_list_object_of_an_unchanged_collection(graph: GraphModels, session: Session) -> None:
    a = graph.insert(session, "abcdefgh", GRAPH)["a"]
    held = a.lower_edges
    load_graph(session, graph.Node)
    assert a.lower_edges is held


def test_within_needs_a_start(graph: GraphModels, session: Session) -> None:
    with pytest.raises(InvalidArgumentError, match="within counts edges from a start"):
        load_graph(session, graph.Node, within=2)


# -- asyncio -------------------------------------------------------------------------------------


async def test_everything_works_under_asyncio(
    async_engine: AsyncEngine, async_session: AsyncSession, bases: BaseFactory
) -> None:
    graph = GraphModels(bases(), acyclic=True)
    async with async_engine.begin() as connection:
        await connection.run_sync(graph.base.metadata.create_all)
    a, b, c, d = (graph.make_node(name, number) for number, name in enumerate("abcd"))
    a.add_neighbor(b)
    b.add_neighbor(c)
    async_session.add_all([a, d])
    await async_session.commit()
    async_session.expunge_all()

    nodes = await async_session.run_sync(load_graph, graph.Node)
    a, b, c, d = nodes
    assert (names(b.lower_neighbors()), names(b.higher_neighbors())) == ("a", "c")
    c.add_neighbor(d)
    await async_session.commit()
    assert names(c.higher_neighbors()) == "d"
    assert names(await async_session.run_sync(shortest_path, a, d)) == "abcd"  # type: ignore[arg-type]
    assert names(await async_session.run_sync(topological_order, graph.Node)) == "abcd"
    assert names(await async_session.run_sync(connected_component, d)) == "abcd"
    assert await async_session.run_sync(find_cycles, graph.Node) == []
    d.add_neighbor(a)
    with pytest.raises(CycleError) as caught:
        await async_session.commit()
    assert names(caught.value.path) == "dabcd"
    await async_session.rollback()

    a, b, c, d = await async_session.run_sync(load_graph, graph.Node)
    await async_session.delete(b)
    await async_session.commit()
    assert (a.higher_neighbors(), c.lower_neighbors()) == ([], [])
    reachable = await async_session.scalars(select(graph.Node).where(graph.Node.reachable_from(c)))
    assert reachable.all() == [d]


# -- DOT and networkx ----------------------------------------------------------------------------


def test_a_loaded_graph_becomes_dot_without_sql(graph: GraphModels, session: Session, statements: Any) -> None:
    graph.insert(session, "abc", "ab1 bc2 ca3")
    nodes = load_graph(session, graph.Node)
    with statements() as log:
        plain = to_dot(nodes)
        labelled = to_dot(
            nodes[:2], label=lambda node: f'"{node.name}\\\n', edge_label=lambda edge: str(edge.weight), name="my graph"
        )
    assert len(log) == 0
    assert plain == 'digraph "graph" {\n  "1";\n  "2";\n  "3";\n  "1" -> "2";\n  "2" -> "3";\n  "3" -> "1";\n}\n'
    assert labelled == (
        'digraph "my graph" {\n  "1" [label="\\"a\\\\\\n"];\n  "2" [label="\\"b\\\\\\n"];\n'
        '  "1" -> "2" [label="1"];\n}\n'
    )
    assert to_dot([]) == 'digraph "graph" {\n}\n'


def test_dot_takes_new_nodes_and_refuses_unloaded_ones(graph: GraphModels, session: Session) -> None:
    new = [graph.Node(name="x"), graph.Node(name="y")]
    new[0].add_neighbor(new[1])
    assert '"new 0" -> "new 1";' in to_dot(new)
    a, _ = graph.insert(session, "ab", "ab").values()
    session.expire(a)
    with pytest.raises(StateError, match=r"not loaded.*load_graph\(\) first"):
        to_dot([a])
    with pytest.raises(StateError, match="no primary key yet"):
        to_networkx(new, create_using=DiGraph)


class DiGraph:
    """The part of ``networkx.DiGraph`` that `to_networkx` uses."""

    def __init__(self) -> None:
        self.nodes: dict[Any, Any] = {}
        self.edges: dict[Any, Any] = {}

    def add_node(self, node_for_adding: Any, /, **attr: Any) -> None:
        self.nodes[node_for_adding] = attr

    def add_edge(self, u_of_edge: Any, v_of_edge: Any, /, **attr: Any) -> None:
        self.edges[u_of_edge, v_of_edge] = attr


def test_a_loaded_graph_becomes_a_networkx_graph(
    graph: GraphModels, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.insert(session, "abc", "ab1 bc2")
    nodes = load_graph(session, graph.Node)
    digraph = to_networkx(nodes, create_using=DiGraph)
    assert {key: attributes["node"] for key, attributes in digraph.nodes.items()} == {
        1: nodes[0],
        2: nodes[1],
        3: nodes[2],
    }
    assert {pair: attributes["edge"].weight for pair, attributes in digraph.edges.items()} == {(1, 2): 1, (2, 3): 2}
    fake = ModuleType("networkx")
    fake.DiGraph = DiGraph  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "networkx", fake)
    assert isinstance(to_networkx(nodes), DiGraph)
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match="pip install networkx"):
        to_networkx(nodes)
