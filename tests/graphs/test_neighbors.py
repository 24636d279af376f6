"""Adding, removing and following the edges of a node, with a test for each defect of the upstream recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, raiseload, selectinload

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.graphs import GraphEdge, GraphNode, GraphOptions
from tests.graphs._models import KEYS, GraphModels, names

Make = Callable[..., GraphModels]


def test_edges_made_by_assignment_are_neighbours_at_once_and_after_loading(
    graph: GraphModels, session: Session
) -> None:
    nodes = [graph.make_node(name, number) for number, name in enumerate("abcdefg")]
    a, b, c, d, e, f, g = nodes
    for lower, higher in ((a, b), (a, c), (b, a), (b, e), (c, d), (d, f), (e, c), (g, a)):
        graph.make_edge(lower, higher)
    assert names(a.higher_neighbors()) == "bc"
    assert names(a.lower_neighbors()) == "bg"
    session.add_all(nodes)
    session.commit()
    assert names(a.higher_neighbors()) == "bc"
    assert names(c.lower_neighbors()) == "ae"
    assert names(f.higher_neighbors()) == ""


# -- defects of the upstream recipe --------------------------------------------------------------


def test_adding_a_neighbour_twice_makes_one_edge(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc")
    a, b, c = nodes.values()
    first = a.add_neighbor(b, c)
    assert a.add_neighbor(c, b) == first[::-1]
    session.commit()
    a.add_neighbor(b, b, c)
    session.commit()
    assert graph.pairs(session) == {"ab", "ac"}
    assert names(a.higher_neighbors()) == "bc"


def test_adding_a_neighbour_twice_to_a_new_node_makes_one_edge(graph: GraphModels, session: Session) -> None:
    a, b = graph.make_node("a", 0), graph.make_node("b", 1)
    a.add_neighbor(b)
    a.add_neighbor(b)
    session.add(a)
    session.commit()
    assert graph.pairs(session) == {"ab"}


def test_adding_a_neighbour_again_sets_what_is_given(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab", "ab7").values()
    assert a.add_neighbor(b)[0].weight == 7
    a.add_neighbor(b, weight=9)
    session.commit()
    assert session.scalars(select(graph.Edge.weight)).all() == [9]


def test_neighbours_are_loaded_in_one_statement(graph: GraphModels, session: Session, statements: Any) -> None:
    nodes = graph.insert(session, "abcdefgh", "ab ac ad ae af ag ah ba ca")
    session.expire_all()
    a = nodes["a"]
    assert a.id
    with statements() as log:
        assert names(a.higher_neighbors()) == "bcdefgh"
        assert len(log) == 1
        assert names(a.lower_neighbors()) == "bc"
        assert len(log) == 2
        a.higher_neighbors()
        assert len(log) == 2


def test_neighbours_of_loaded_edges_are_loaded_in_one_statement(
    graph: GraphModels, session: Session, engine: Any, statements: Any
) -> None:
    graph.insert(session, "abcd", "ab ac ad")
    with Session(engine) as other:
        a = other.scalars(select(graph.Node).where(graph.Node.name == "a").options(selectinload("*"))).one()
        assert len(a.lower_edges) == 3
        other.expunge_all()
        a = other.scalars(
            select(graph.Node).where(graph.Node.name == "a").options(selectinload(graph.Node.lower_edges))
        ).one()
        with statements() as log:
            assert names(a.higher_neighbors()) == "bcd"
        assert len(log) == 1


def test_neighbours_load_eagerly_and_then_emit_nothing(graph: GraphModels, session: Session, statements: Any) -> None:
    graph.insert(session, "abcd", "ab ac bd")
    session.expunge_all()
    load = selectinload(graph.Node.lower_edges).joinedload(graph.Edge.higher_node)
    with statements() as log:
        a, b, c, d = session.scalars(select(graph.Node).order_by(graph.Node.name).options(load, raiseload("*")))
        assert len(log) == 2
        assert [names(node.higher_neighbors()) for node in (a, b, c, d)] == ["bc", "d", "", ""]
        assert len(log) == 2


def test_neighbours_are_ordered_by_key_whatever_the_order_of_insertion(graph: GraphModels, session: Session) -> None:
    a, b, c, d = graph.insert(session, "abcd").values()
    for other in (d, b, c):
        a.add_neighbor(other)
        other.add_neighbor(a)
        session.commit()
    assert names(a.higher_neighbors()) == "bcd"
    assert names(a.lower_neighbors()) == "bcd"


def test_a_duplicate_edge_made_by_hand_is_an_error_of_the_database(make_graph: Make, session: Session) -> None:
    graph = make_graph()
    a, b = graph.insert(session, "ab", "ab").values()
    keys = {"lower_id": a.id, "higher_id": b.id}
    session.expunge_all()
    session.add(graph.Edge(**keys))
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    assert graph.pairs(session) == {"ab"}


def test_a_self_loop_is_an_edge_like_any_other(graph: GraphModels, session: Session) -> None:
    a, _ = graph.insert(session, "ab").values()
    a.add_neighbor(a)
    session.commit()
    assert names(a.higher_neighbors()) == names(a.lower_neighbors()) == "a"
    session.delete(a)
    session.commit()
    assert graph.count(session) == 0


@pytest.mark.parametrize("key", KEYS)
def test_neighbours_work_with_keys_of_every_shape(make_graph: Make, session: Session, key: str) -> None:
    graph = make_graph(key=key)
    a, b, c = graph.insert(session, "abc", "ab bc").values()
    assert names(a.higher_neighbors()) == "b"
    assert names(c.lower_neighbors()) == "b"
    a.add_neighbor(c, b)
    a.remove_neighbor(b)
    session.commit()
    assert graph.pairs(session) == {"ac", "bc"}
    session.delete(b)
    session.commit()
    assert graph.pairs(session) == {"ac"}


# -- statements ----------------------------------------------------------------------------------


def test_adding_costs_one_select_for_all_and_none_where_edges_are_loaded(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    nodes = list(graph.insert(session, "abcdef", "ab").values())
    for node in nodes:
        session.refresh(node)
    a = nodes[0]
    with statements() as log:
        a.add_neighbor(*nodes[1:])
        assert len(log) == 1
        session.flush()
        assert len(log) == 2, log.text
        a.higher_neighbors()
        before = len(log)
        a.add_neighbor(*nodes)
        assert len(log) == before
        session.flush()
        assert len(log) == before + 1, log.text


def test_a_pending_edge_is_found_without_a_flush(graph: GraphModels, session: Session, statements: Any) -> None:
    a, b = graph.insert(session, "ab").values()
    assert (a.id, b.id) == (1, 2)
    with session.no_autoflush, statements() as log:
        first = a.add_neighbor(b)
        assert a.add_neighbor(b) == first
        assert log.starting("INSERT") == []


def test_deleting_nodes_costs_one_select_and_one_delete_of_edges(
    graph: GraphModels, session: Session, statements: Any
) -> None:
    nodes = graph.insert(session, "abcdef", "ab bc cd de ef fa ac ce ea")
    doomed = [nodes[name] for name in "abc"]
    for node in nodes.values():
        session.refresh(node)
    with statements() as log:
        for node in doomed:
            session.delete(node)
        session.flush()
    edges = [statement for statement in log if "graph_edge" in statement]
    assert [statement.split()[0] for statement in edges] == ["SELECT", "DELETE"]
    assert len(log) == 3, log.text
    session.commit()
    assert graph.pairs(session) == {"de", "ef"}


def test_a_flush_without_edges_costs_nothing(graph: GraphModels, session: Session, statements: Any) -> None:
    a = graph.insert(session, "ab", "ab")["a"]
    session.refresh(a)
    a.name = "z"
    with statements() as log:
        session.flush()
    assert len(log) == 1


# -- loaded objects equal the database -----------------------------------------------------------


def test_removing_a_neighbour_deletes_the_edge_and_shows_at_once(graph: GraphModels, session: Session) -> None:
    a, b, _c = graph.insert(session, "abc", "ab ac").values()
    assert names(a.higher_neighbors()) == "bc"
    assert names(b.lower_neighbors()) == "a"
    assert a.remove_neighbor(b) == 1
    assert names(a.higher_neighbors()) == "c"
    assert names(b.lower_neighbors()) == ""
    session.flush()
    assert names(a.higher_neighbors()) == "c"
    session.commit()
    assert graph.pairs(session) == {"ac"}


def test_removing_what_is_not_there_removes_nothing(graph: GraphModels, session: Session) -> None:
    a, b, c = graph.insert(session, "abc", "ab").values()
    assert a.remove_neighbor(c) == 0
    assert b.remove_neighbor(a) == 0
    session.commit()
    assert graph.pairs(session) == {"ab"}


@pytest.mark.parametrize("loaded", [True, False])
def test_an_edge_removed_and_added_in_one_flush_stays(graph: GraphModels, session: Session, loaded: bool) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    if loaded:
        assert names(a.higher_neighbors()) == "b"
    a.remove_neighbor(b)
    a.add_neighbor(b, weight=5)
    session.commit()
    assert graph.pairs(session) == {"ab"}
    assert names(a.higher_neighbors()) == "b"
    assert a.lower_edges[0].weight == 5


def test_a_pending_edge_can_be_removed_again(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab").values()
    a.add_neighbor(b)
    assert a.remove_neighbor(b) == 1
    session.commit()
    assert graph.count(session) == 0
    assert a.higher_neighbors() == []


def test_a_deleted_edge_leaves_the_collections_of_both_nodes(graph: GraphModels, session: Session) -> None:
    a, b, _c = graph.insert(session, "abc", "ab ac").values()
    assert names(a.higher_neighbors()) == "bc"
    assert names(b.lower_neighbors()) == "a"
    session.delete(a.lower_edges[0])
    session.flush()
    assert names(a.higher_neighbors()) == "c"
    assert b.lower_neighbors() == []


def test_an_edge_taken_out_of_a_collection_is_deleted(graph: GraphModels, session: Session) -> None:
    a, b, _c = graph.insert(session, "abc", "ab ac").values()
    assert names(b.lower_neighbors()) == "a"
    a.lower_edges.remove(a.lower_edges[0])
    session.flush()
    assert b.lower_neighbors() == []
    session.commit()
    assert graph.pairs(session) == {"ac"}


def test_deleting_a_node_removes_its_edges_from_loaded_collections(graph: GraphModels, session: Session) -> None:
    a, b, c = graph.insert(session, "abc", "ab bc ca").values()
    for node in (a, b, c):
        node.higher_neighbors(), node.lower_neighbors()
    session.delete(b)
    session.flush()
    assert (names(a.higher_neighbors()), names(a.lower_neighbors())) == ("", "c")
    assert (names(c.higher_neighbors()), names(c.lower_neighbors())) == ("a", "")
    assert len(session.scalars(select(graph.Edge)).all()) == 1


def test_an_edge_in_the_session_is_deleted_with_its_node_though_no_collection_is_loaded(
    graph: GraphModels, session: Session
) -> None:
    _, b, _ = graph.insert(session, "abc", "ab bc").values()
    edges = session.scalars(select(graph.Edge)).all()
    session.delete(b)
    session.commit()
    assert [edge for edge in edges if edge in session] == []


def test_equal_dataclass_edges_are_distinguished(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abcd", "ab ac ad")
    a, d = nodes["a"], nodes["d"]
    assert names(a.higher_neighbors()) == "bcd"
    a.remove_neighbor(nodes["c"])
    assert names(a.higher_neighbors()) == "bd"
    a.lower_edges[1].lower_node = nodes["b"]
    assert names(a.higher_neighbors()) == "b"
    session.commit()
    assert graph.pairs(session) == {"ab", "bd"}
    assert names(d.lower_neighbors()) == "b"


def test_an_edge_that_is_pointed_elsewhere_moves_between_collections(graph: GraphModels, session: Session) -> None:
    a, b, c = graph.insert(session, "abc", "ab").values()
    for node in (a, b, c):
        node.higher_neighbors(), node.lower_neighbors()
    edge = a.lower_edges[0]
    edge.higher_id = c.id
    session.flush()
    assert names(a.higher_neighbors()) == "c"
    assert (names(b.lower_neighbors()), names(c.lower_neighbors())) == ("", "a")
    edge.lower_node = b
    session.flush()
    assert (names(a.higher_neighbors()), names(b.higher_neighbors())) == ("", "c")
    session.commit()
    assert graph.pairs(session) == {"bc"}


def test_an_edge_pointed_at_a_node_that_is_not_loaded_leaves_the_old_one(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab")
    a, b, key = nodes["a"], nodes["b"], nodes["c"].id
    assert names(a.higher_neighbors()) == "b"
    assert names(b.lower_neighbors()) == "a"
    session.expunge(nodes.pop("c"))
    a.lower_edges[0].higher_id = key
    session.flush()
    assert b.lower_neighbors() == []
    assert names(a.higher_neighbors()) == "c"


def test_an_edge_made_of_keys_shows_in_loaded_collections(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab").values()
    assert a.higher_neighbors() == b.lower_neighbors() == []
    edge = graph.Edge()
    edge.lower_id, edge.higher_id = a.id, b.id
    session.add(edge)
    session.flush()
    assert names(a.higher_neighbors()) == "b"
    assert names(b.lower_neighbors()) == "a"


@pytest.mark.parametrize("savepoint", [False, True])
def test_after_a_rollback_loaded_objects_equal_the_database(
    graph: GraphModels, session: Session, savepoint: bool
) -> None:
    a, b, c = graph.insert(session, "abc", "ab").values()
    for node in (a, b, c):
        node.higher_neighbors(), node.lower_neighbors()
    transaction = session.begin_nested() if savepoint else None
    a.remove_neighbor(b)
    a.add_neighbor(c)
    session.flush()
    assert names(a.higher_neighbors()) == "c"
    (transaction or session).rollback()
    assert names(a.higher_neighbors()) == "b"
    assert names(b.lower_neighbors()) == "a"
    assert c.lower_neighbors() == []
    session.commit()
    assert graph.pairs(session) == {"ab"}


@pytest.mark.parametrize("savepoint", [False, True])
def test_a_rollback_brings_the_edges_of_a_deleted_node_back(
    graph: GraphModels, session: Session, savepoint: bool
) -> None:
    a, b, c = graph.insert(session, "abc", "ab bc").values()
    for node in (a, b, c):
        node.higher_neighbors(), node.lower_neighbors()
    transaction = session.begin_nested() if savepoint else None
    session.delete(b)
    session.flush()
    (transaction or session).rollback()
    assert names(a.higher_neighbors()) == "b"
    assert names(c.lower_neighbors()) == "b"
    assert (names(b.higher_neighbors()), names(b.lower_neighbors())) == ("c", "a")


# -- errors --------------------------------------------------------------------------------------


def test_a_neighbour_of_another_kind_is_refused_and_changes_nothing(make_graph: Make, session: Session) -> None:
    graph = make_graph()
    a, b = graph.insert(session, "ab").values()
    with pytest.raises(InvalidArgumentError, match="is no Node, which is what Edge joins"):
        a.add_neighbor(b, graph.Edge())
    with pytest.raises(InvalidArgumentError, match="is no Node"):
        a.remove_neighbor("b")
    with pytest.raises(TypeError, match="colour"):
        a.add_neighbor(b, colour="red")
    session.commit()
    assert graph.count(session) == 0


def test_two_edge_classes_between_the_same_nodes_are_distinguished(
    plain_bases: Any, engine: Any, session: Session
) -> None:
    Base: type[DeclarativeBase] = plain_bases()

    class Town(GraphNode, Base):  # type: ignore[valid-type, misc]
        __tablename__ = "town"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Road(GraphEdge[Town], Base):  # type: ignore[valid-type, misc]
        __tablename__ = "road"

    class River(GraphEdge[Town], Base):  # type: ignore[valid-type, misc]
        __tablename__ = "river"
        __graph__ = GraphOptions(lower_edges="rivers_out", higher_edges="rivers_in")

    Road.metadata.create_all(engine)
    a, b, c = Town(), Town(), Town()
    session.add_all([a, b, c])
    with pytest.raises(InvalidArgumentError, match=r"Town has several edge classes \(Road, River\): say which"):
        a.add_neighbor(b)
    with pytest.raises(InvalidArgumentError, match="joins no Town nodes; its edge classes are: Road, River"):
        a.add_neighbor(b, edge=GraphEdge)
    a.add_neighbor(b, edge=Road)
    assert [type(edge) for edge in a.add_neighbor(c, edge=River)] == [River]
    session.commit()
    assert a.higher_neighbors(Road) == [b]
    assert a.higher_neighbors(River) == [c]
    assert c.lower_neighbors(edge=River) == [a]
    options = joinedload(River.higher_node)
    assert [edge.higher_node for edge in session.scalars(select(River).options(options))] == [c]
    session.delete(a)
    session.commit()
    assert session.scalars(select(Road)).all() == [] == session.scalars(select(River)).all()


def test_an_edge_class_may_be_mapped_when_its_nodes_are_in_use_already(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base: type[DeclarativeBase] = plain_bases()

    class Town(GraphNode, Base):  # type: ignore[valid-type, misc]
        __tablename__ = "town"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Road(GraphEdge[Town], Base):  # type: ignore[valid-type, misc]
        __tablename__ = "road"

    Base.metadata.create_all(engine)
    a, b = Town(), Town()
    a.add_neighbor(b)
    session.add(a)
    session.commit()

    class River(GraphEdge[Town], Base):  # type: ignore[valid-type, misc]
        __tablename__ = "river"
        __graph__ = GraphOptions(lower_edges="rivers_out", higher_edges="rivers_in")

    Base.metadata.create_all(engine)
    towns = session.scalars(select(Town).options(selectinload(Town.rivers_out))).all()  # type: ignore[attr-defined]
    assert towns == [a, b]
    b.add_neighbor(a, edge=River)
    session.commit()
    assert a.higher_neighbors(Road) == [b]
    assert b.higher_neighbors(River) == [a]
    assert a.lower_neighbors(River) == [b]


def test_a_node_class_without_edges_says_so(plain_bases: Any) -> None:
    class Lonely(GraphNode, plain_bases()):  # type: ignore[misc]
        __tablename__ = "lonely"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(InvalidArgumentError, match=r"and a mapped GraphEdge\[Lonely\]"):
        Lonely().add_neighbor(Lonely())
