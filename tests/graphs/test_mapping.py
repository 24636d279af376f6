"""What mapping with the mixins makes, such as tables, keys and subclasses, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest
from sqlalchemy import Engine, ForeignKey, Index, MetaData, String, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, registry

from sqla_patterns.exceptions import MappingError
from sqla_patterns.graphs import GraphEdge, GraphNode, GraphOptions, shortest_path
from tests._support import assert_empty_diff
from tests.graphs._models import KEYS, GraphModels

T = TypeVar("T", bound=GraphNode)
Make = Callable[..., GraphModels]


def _node(base: Any, **columns: Any) -> Any:
    class Node(GraphNode, base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Node


# -- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_alembic_finds_nothing_to_migrate(make_graph: Make, engine: Engine, key: str) -> None:
    if key == "schema":
        # In another schema, reflection compares more than this table.
        key = "integer"
    graph = make_graph(key=key)
    assert_empty_diff(engine, graph.base.metadata)


def test_the_edge_table_has_both_directions_in_an_index_and_cascades(graph: GraphModels, engine: Engine) -> None:
    found = inspect(engine)
    assert found.get_pk_constraint("graph_edge")["constrained_columns"] == ["lower_id", "higher_id"]
    assert [index["column_names"] for index in found.get_indexes("graph_edge")] == [["higher_id", "lower_id"]]
    keys = found.get_foreign_keys("graph_edge")
    assert {key["constrained_columns"][0] for key in keys} == {"lower_id", "higher_id"}
    assert {key["options"].get("ondelete") for key in keys} == {"CASCADE"}


def test_constraints_are_named_by_the_users_convention(plain_bases: Any) -> None:
    convention = {
        "ix": "ix_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
    Base = plain_bases(metadata=MetaData(naming_convention=convention))
    graph = GraphModels(Base)
    table = graph.Edge.__table__
    assert [index.name for index in table.indexes] == ["ix_higher_id_lower_id"]
    assert {key.name for key in table.foreign_key_constraints} == {"fk_graph_edge_lower_id", "fk_graph_edge_higher_id"}


def test_edge_columns_of_the_user_are_kept(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()
    Node = _node(Base)

    class Edge(GraphEdge[Node], Base):
        __tablename__ = "edge"
        lower_id: Mapped[int] = mapped_column("from_id", ForeignKey("node.id"), primary_key=True)
        higher_id: Mapped[int] = mapped_column("to_id", ForeignKey("node.id"), primary_key=True)
        __table_args__ = (Index(None, "to_id"),)

    Base.metadata.create_all(engine)
    assert set(Edge.__table__.c.keys()) == {"from_id", "to_id"}
    a, b = Node(), Node()
    a.add_neighbor(b)
    session.add(a)
    session.commit()
    assert session.scalars(select(Node).where(Node.reachable_from(a))).all() == [b]


def test_keys_that_are_only_typed_by_a_foreign_key_work(plain_bases: Any, engine: Engine) -> None:
    Base = plain_bases()

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[str] = mapped_column(String(9), primary_key=True)

    class Node(GraphNode, Base):
        __tablename__ = "node"
        id = mapped_column(ForeignKey("thing.id"), primary_key=True)

    class Edge(GraphEdge[Node], Base):
        __tablename__ = "edge"

    Base.metadata.create_all(engine)
    assert isinstance(Edge.__table__.c.lower_id.type, String)


def test_classes_mapped_by_a_registry_work(engine: Engine, session: Session) -> None:
    mapped = registry()

    @mapped.mapped
    class Node(GraphNode):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)

    @mapped.mapped
    class Edge(GraphEdge[Node]):
        __tablename__ = "edge"

    mapped.metadata.create_all(engine)
    a, b = Node(), Node()
    a.add_neighbor(b)
    session.add(a)
    session.commit()
    assert b.lower_neighbors() == [a]
    session.add(Edge(b, a))
    with pytest.raises(TypeError, match="'colour' is an invalid keyword argument for Edge"):
        Edge(a, b, colour="red")
    session.commit()
    assert a.lower_neighbors() == [b]
    mapped.dispose()


# -- the node class ------------------------------------------------------------------------------


def test_the_node_class_is_found_behind_a_generic_class_of_the_users(plain_bases: Any, engine: Engine) -> None:
    Base = plain_bases()

    class Weighted(GraphEdge[T], Generic[T]):
        weight: Mapped[int] = mapped_column(default=1)

    Node = _node(Base)

    class Edge(Weighted[Node], Base):
        __tablename__ = "edge"

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        a, b = Node(), Node()
        a.add_neighbor(b, weight=4)
        session.add(a)
        session.commit()
        assert shortest_path(session, a, b, weight=Edge.weight) == [a, b]


def test_the_node_class_is_found_behind_a_class_that_is_generic_by_its_base_only(plain_bases: Any) -> None:
    Base = plain_bases()

    class Weighted(GraphEdge[T]):
        weight: Mapped[int] = mapped_column(default=1)

    class Labelled(Weighted[T]):
        label: Mapped[str] = mapped_column(default="")

    Node = _node(Base)

    class Edge(Labelled[Node], Base):
        __tablename__ = "edge"

    assert inspect(Edge).relationships["lower_node"].entity.class_ is Node


# -- inheritance ---------------------------------------------------------------------------------


@pytest.mark.parametrize("joined", [False, True])
def test_subclasses_of_nodes_and_edges_share_the_graph(
    plain_bases: Any, engine: Engine, session: Session, joined: bool
) -> None:
    Base = plain_bases()

    class Place(GraphNode, Base):
        __tablename__ = "place"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "place"}

    class Link(GraphEdge[Place], Base):
        __tablename__ = "link"
        __graph__ = GraphOptions(acyclic=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "link"}

    if joined:

        class Port(Place):
            __tablename__ = "port"
            id: Mapped[int] = mapped_column(ForeignKey("place.id"), primary_key=True)
            __mapper_args__ = {"polymorphic_identity": "port"}

        class Ferry(Link):
            __tablename__ = "ferry"
            lower_id: Mapped[int] = mapped_column(primary_key=True)
            higher_id: Mapped[int] = mapped_column(primary_key=True)
            hours: Mapped[int]
            from sqlalchemy import ForeignKeyConstraint

            __table_args__ = (
                ForeignKeyConstraint(
                    ["lower_id", "higher_id"], ["link.lower_id", "link.higher_id"], ondelete="CASCADE"
                ),
            )
            __mapper_args__ = {"polymorphic_identity": "ferry"}
    else:

        class Port(Place):  # type: ignore[no-redef]
            __mapper_args__ = {"polymorphic_identity": "port"}

        class Ferry(Link):  # type: ignore[no-redef]
            hours: Mapped[int] = mapped_column(nullable=True)
            __mapper_args__ = {"polymorphic_identity": "ferry"}

    Base.metadata.create_all(engine)
    a, b, c, d = Place(), Port(), Port(), Place()
    session.add_all([a, b, c, d])
    session.flush()
    a.add_neighbor(b)
    b.add_neighbor(c, edge=Ferry, hours=3)
    a.add_neighbor(c, edge=Ferry, hours=9)
    c.add_neighbor(d)
    session.commit()
    assert set(a.higher_neighbors()) == {b, c}
    assert a.higher_neighbors(Ferry) == [c]
    below = Place.reachable_from(a)
    assert set(session.scalars(select(Place).where(below))) == {b, c, d}
    assert set(session.scalars(select(Port).where(Port.reachable_from(a)))) == {b, c}
    assert session.scalars(select(Place).where(Place.reachable_from(a, edge=Ferry))).all() == [c]
    assert shortest_path(session, a, c, weight=Ferry.hours) == [a, c]
    assert shortest_path(session, a, d, edge=Ferry) is None
    session.delete(b)
    session.commit()
    assert {type(edge) for edge in session.scalars(select(Link))} == {Link, Ferry}
    assert len(session.scalars(select(Link)).all()) == 2


# -- what is refused -----------------------------------------------------------------------------


def test_a_node_with_a_composite_key_is_refused_when_it_is_mapped(bases: Any) -> None:
    with pytest.raises(MappingError, match=r"GraphNode on 'Pair' needs a primary key of one column.*'a', 'b'"):

        class Pair(GraphNode, bases()):  # type: ignore[misc]
            __tablename__ = "pair"
            a: Mapped[int] = mapped_column(primary_key=True)
            b: Mapped[int] = mapped_column(primary_key=True)


def test_an_edge_without_a_mapped_node_class_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    edges = (GraphEdge, GraphEdge["Node"], GraphEdge[int])  # type: ignore[type-var, name-defined]
    for number, wrong in enumerate(edges):
        with pytest.raises(MappingError, match="about the nodes that it joins; name a class that is mapped"):
            type("Edge", (wrong, Base), {"__tablename__": f"edge{number}"}) if wrong is GraphEdge else _edge(
                wrong, Base, f"edge{number}"
            )


def _edge(generic: Any, base: Any, table: str, **body: Any) -> Any:
    import types

    return types.new_class(
        table.title(), (generic, base), exec_body=lambda space: space.update({"__tablename__": table, **body})
    )


def test_a_second_primary_key_on_edges_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    Node = _node(Base)
    with pytest.raises(MappingError, match=r"must be \('lower_id', 'higher_id'\).*unique=True"):
        _edge(GraphEdge[Node], Base, "edge", id=mapped_column(String(5), primary_key=True))


def test_collections_of_the_same_name_are_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    Node = _node(Base)
    _edge(GraphEdge[Node], Base, "edge")
    with pytest.raises(MappingError, match="has an attribute 'lower_edges' already, so 'Edge2' needs names of its own"):
        _edge(GraphEdge[Node], Base, "edge2")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"acyclic": True}, r"must be GraphOptions\(...\), not dict"),
        (GraphOptions(lower_edges="x", higher_edges="x"), "needs two different attribute names"),
        (GraphOptions(lower_edges="not a name"), "needs two different attribute names"),
    ],
)
def test_options_that_make_no_sense_are_refused(plain_bases: Any, options: Any, fault: str) -> None:
    Base = plain_bases()
    Node = _node(Base)
    with pytest.raises(MappingError, match=fault):
        _edge(GraphEdge[Node], Base, "edge", __graph__=options)
