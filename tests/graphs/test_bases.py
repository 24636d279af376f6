"""Graphs on the declarative bases of other libraries, on bases that bring a key, and of objects that are false."""

from __future__ import annotations

import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from sqlalchemy import Engine, Integer, MetaData, String, UniqueConstraint, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    configure_mappers,
    declared_attr,
    mapped_column,
    registry,
    relationship,
)
from sqlmodel import Field, SQLModel

from sqla_patterns.exceptions import MappingError
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
from tests._support import assert_migrates
from tests.conftest import BaseFactory
from tests.graphs._models import KEYS, GraphModels

Make = Callable[..., GraphModels]


# -- SQLModel ------------------------------------------------------------------------------------


class Models:
    """Stations and tracks that are SQLModel classes."""

    def __init__(self, engine: Engine) -> None:
        mapped = registry()

        class Model(SQLModel, registry=mapped):
            metadata = MetaData()

        class Station(GraphNode, Model, table=True):
            id: int | None = Field(default=None, primary_key=True)
            name: str

        class Track(GraphEdge[Station], Model, table=True):
            __graph__ = GraphOptions(acyclic=True)
            minutes: int = 1

        self.Station, self.Track, self.metadata, self.registry = Station, Track, Model.metadata, mapped
        Model.metadata.create_all(engine)

    def insert(self, session: Session, letters: str, edges: str) -> dict[str, Any]:
        nodes: dict[str, Any] = {name: self.Station(name=name) for name in letters}
        session.add_all(nodes.values())
        session.flush()
        for lower, higher in edges.split():
            nodes[lower].add_neighbor(nodes[higher])
        session.commit()
        return nodes


@pytest.fixture
def models(engine: Engine) -> Iterator[Models]:
    models = Models(engine)
    yield models
    models.registry.dispose(cascade=True)


def test_neighbours_of_sqlmodels_are_added_and_removed(models: Models, session: Session) -> None:
    a, b, c = models.insert(session, "abc", "ab").values()
    a.add_neighbor(c, minutes=7)
    a.remove_neighbor(b)
    session.commit()
    assert a.higher_neighbors() == [c]
    assert a.lower_edges[0].minutes == 7


def test_an_edge_that_is_a_sqlmodel_takes_its_ends_in_the_constructor(models: Models, session: Session) -> None:
    a, b = models.insert(session, "ab", "").values()
    session.add(models.Track(a, b, minutes=3))
    session.commit()
    assert b.lower_neighbors() == [a]


def test_an_edge_that_is_a_sqlmodel_takes_its_keys_in_the_constructor(models: Models, session: Session) -> None:
    a, b = models.insert(session, "ab", "").values()
    session.add(models.Track(lower_id=a.id, higher_id=b.id))
    session.commit()
    assert b.lower_neighbors() == [a]


@pytest.mark.parametrize("by_key", [False, True])
def test_the_ends_of_a_sqlmodel_can_be_assigned(models: Models, session: Session, by_key: bool) -> None:
    a, _, c = models.insert(session, "abc", "ab").values()
    (track,) = a.lower_edges
    if by_key:
        track.higher_id = c.id
    else:
        track.higher_node = c
    session.commit()
    assert a.higher_neighbors() == [c]


def test_a_cycle_of_sqlmodels_is_refused(models: Models, session: Session) -> None:
    a, _, c = models.insert(session, "abc", "ab bc").values()
    c.add_neighbor(a)
    with pytest.raises(CycleError):
        session.commit()


def test_the_edges_of_a_deleted_sqlmodel_are_deleted(models: Models, session: Session) -> None:
    a, b, _ = models.insert(session, "abc", "ab bc").values()
    assert a.higher_neighbors() == [b]
    session.delete(b)
    session.commit()
    assert session.scalars(select(models.Track)).all() == []


def test_graphs_of_sqlmodels_are_loaded_and_searched(models: Models, session: Session) -> None:
    a, b, c = models.insert(session, "abc", "ab bc").values()
    assert load_graph(session, models.Station) == [a, b, c]
    assert shortest_path(session, a, c, weight=cast("Any", models.Track.minutes)) == [a, b, c]
    assert session.scalars(select(models.Station).where(models.Station.reachable_from(a))).all() == [b, c]


# -- keys of edges -------------------------------------------------------------------------------


def _keyed(base: Any) -> Any:
    class Keyed(base):  # type: ignore[misc]
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)

    return Keyed


def _keyed_dataclass(base: Any) -> Any:
    class Keyed(MappedAsDataclass, base):  # type: ignore[misc]
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True, init=False)

    return Keyed


def _declared(base: Any) -> Any:
    class Keyed(base):  # type: ignore[misc]
        __abstract__ = True

        @declared_attr
        def id(cls) -> Mapped[int]:
            return mapped_column("number", Integer, primary_key=True)

    return Keyed


BASES = {each.__name__: each for each in (_keyed, _keyed_dataclass, _declared)}


def _graph(base: Any, node_base: Any, options: GraphOptions | None = None) -> tuple[Any, Any]:
    class Page(GraphNode, node_base):  # type: ignore[misc]
        __tablename__ = "page"
        # SQLAlchemy cannot insert rows in a batch that have nothing but a key from a sequence.
        title = mapped_column(String(20))

    class Link(GraphEdge[Page], base):  # type: ignore[misc]
        __tablename__ = "link"
        __graph__ = options

    return Page, Link


@pytest.mark.parametrize("kind", BASES)
def test_a_key_that_the_base_brings_is_the_key_of_edges(plain_bases: BaseFactory, engine: Engine, kind: str) -> None:
    base = BASES[kind](plain_bases())
    _, Link = _graph(base, base)
    assert [column.name for column in inspect(Link).primary_key] == ["number" if kind == "_declared" else "id"]


@pytest.mark.parametrize("kind", BASES)
def test_the_pair_is_unique_where_the_base_brings_a_key(
    plain_bases: BaseFactory, engine: Engine, session: Session, kind: str
) -> None:
    base = BASES[kind](plain_bases())
    Page, Link = _graph(base, base)
    base.metadata.create_all(engine)
    a, b = Page(), Page()
    session.add_all([a, b])
    session.flush()
    a.add_neighbor(b)
    session.commit()
    again = Link()
    again.lower_id, again.higher_id = a.id, b.id
    session.expunge_all()
    session.add(again)
    with pytest.raises(IntegrityError):
        session.commit()


@pytest.mark.filterwarnings("ignore:The declarative_mixin decorator")
@pytest.mark.parametrize("name", ["UUIDBase", "BigIntBase"])
def test_edges_work_on_a_base_of_advanced_alchemy(name: str, engine: Engine, session: Session) -> None:
    # Imported here, because the import warns on SQLAlchemy 2.1.
    from advanced_alchemy import base as bases

    base: Any = getattr(bases, name)
    base.registry.dispose()

    class Local(base):  # type: ignore[misc]
        __abstract__ = True
        metadata = MetaData()

    Page, _ = _graph(Local, Local, GraphOptions(acyclic=True))
    Local.metadata.create_all(engine)
    a, b, c = Page(), Page(), Page()
    a.add_neighbor(b)
    b.add_neighbor(c)
    session.add(a)
    session.commit()
    assert shortest_path(session, a, c) == [a, b, c]
    c.add_neighbor(a)
    with pytest.raises(CycleError):
        session.commit()
    session.rollback()
    session.delete(b)
    session.commit()
    assert a.higher_neighbors() == c.lower_neighbors() == []
    base.registry.dispose()


def test_a_surrogate_key_in_the_class_body_needs_the_option(plain_bases: BaseFactory, engine: Engine) -> None:
    graph = GraphModels(plain_bases(), surrogate=True)
    table = graph.Edge.__table__
    assert [column.name for column in table.primary_key] == ["id"]
    assert [
        [column.name for column in each.columns] for each in table.constraints if isinstance(each, UniqueConstraint)
    ] == [["lower_id", "higher_id"]]
    assert not table.c.lower_id.nullable


def test_a_surrogate_key_that_is_not_there_is_refused(plain_bases: BaseFactory) -> None:
    Base = plain_bases()

    class Page(GraphNode, Base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MappingError, match=r"surrogate_key=True\) of 'Link' needs a primary key column"):

        class Link(GraphEdge[Page], Base):  # type: ignore[misc, valid-type]
            __tablename__ = "link"
            __graph__ = GraphOptions(surrogate_key=True)


def test_a_unique_constraint_of_the_users_is_not_repeated(plain_bases: BaseFactory) -> None:
    Base = plain_bases()

    class Page(GraphNode, Base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Link(GraphEdge[Page], _keyed(Base)):  # type: ignore[misc]
        __tablename__ = "link"
        __table_args__ = (UniqueConstraint("higher_id", "lower_id", name="mine"),)

    found = [each.name for each in Link.__table__.constraints if isinstance(each, UniqueConstraint)]
    assert found == ["mine"]


@pytest.mark.parametrize("surrogate", [False, True])
@pytest.mark.parametrize("key", [key for key in KEYS if key != "schema"])
def test_alembic_creates_the_tables(bases: BaseFactory, engine: Engine, key: str, surrogate: bool) -> None:
    graph = GraphModels(bases(), key=key, surrogate=surrogate, acyclic=True)
    assert_migrates(engine, graph.base.metadata)


def test_alembic_creates_tables_that_are_named_by_a_convention(plain_bases: BaseFactory, engine: Engine) -> None:
    convention = {
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
    base = _keyed(plain_bases(metadata=MetaData(naming_convention=convention)))
    _graph(base, base)
    source = assert_migrates(engine, base.metadata)
    assert "uq_link_lower_id_higher_id" in source
    assert "pk_link" in source


def test_alembic_creates_the_tables_of_several_edge_classes(plain_bases: BaseFactory, engine: Engine) -> None:
    base = _keyed(plain_bases())
    Page, _ = _graph(base, base)

    class Cites(GraphEdge[Page], base):  # type: ignore[misc]
        __tablename__ = "cites"
        __graph__ = GraphOptions(lower_edges="cites", higher_edges="cited_by")

    assert_migrates(engine, base.metadata)


def test_alembic_creates_the_tables_of_sqlmodels(models: Models, engine: Engine) -> None:
    models.metadata.drop_all(engine)
    assert_migrates(engine, models.metadata, "import sqlmodel.sql.sqltypes\nimport sqlmodel")


# -- objects that are false, relationships that load by joins ------------------------------------


def _place(base: Any) -> tuple[Any, Any]:
    class Place(GraphNode, base):  # type: ignore[misc]
        __tablename__ = "place"
        # 0 is a key here; MariaDB would generate one for it.
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

        def __len__(self) -> int:
            return 0

    class Way(GraphEdge[Place], base):  # type: ignore[misc]
        __tablename__ = "way"
        __graph__ = GraphOptions(acyclic=True)
        length: Mapped[int] = mapped_column(default=0)

        def __bool__(self) -> bool:
            return False

    return Place, Way


@pytest.fixture
def places(plain_bases: BaseFactory, engine: Engine) -> tuple[Any, Any]:
    base = plain_bases()
    found = _place(base)
    base.metadata.create_all(engine)
    return found


def _insert_places(session: Session, place: Any, letters: str, edges: str) -> dict[str, Any]:
    nodes = {name: place(id=number) for number, name in enumerate(letters)}
    session.add_all(nodes.values())
    session.flush()
    for lower, higher in edges.split():
        nodes[lower].add_neighbor(nodes[higher])
    session.commit()
    return nodes


def test_false_nodes_are_neighbours(places: tuple[Any, Any], session: Session) -> None:
    a, b, c = _insert_places(session, places[0], "abc", "ab bc").values()
    assert (b.higher_neighbors(), b.lower_neighbors()) == ([c], [a])
    session.add(places[1](a, c))
    a.add_neighbor(b)
    session.commit()
    assert a.higher_neighbors() == [b, c]
    assert a.remove_neighbor(b) == 1
    session.commit()
    assert a.higher_neighbors() == [c]


def test_false_nodes_are_found_by_every_function(places: tuple[Any, Any], session: Session) -> None:
    place, way = places
    a, b, c = _insert_places(session, place, "abc", "ab bc").values()
    assert load_graph(session, place) == [a, b, c]
    assert shortest_path(session, a, c, weight=way.length) == [a, b, c]
    assert all_paths(session, a, c, limit=5) == [[a, b, c]]
    assert topological_order(session, place) == [a, b, c]
    assert connected_component(session, b) == [a, b, c]
    assert find_cycles(session, place) == []


def test_a_cycle_of_false_nodes_is_refused(places: tuple[Any, Any], session: Session) -> None:
    a, b, c = _insert_places(session, places[0], "abc", "ab bc").values()
    c.add_neighbor(a)
    with pytest.raises(CycleError) as caught:
        session.commit()
    assert caught.value.path == (c, a, b, c)


def test_false_nodes_are_deleted_with_their_edges(places: tuple[Any, Any], session: Session) -> None:
    a, b, _ = _insert_places(session, places[0], "abc", "ab bc").values()
    session.delete(b)
    session.commit()
    assert a.higher_neighbors() == []


def test_a_false_edge_can_be_pointed_elsewhere(places: tuple[Any, Any], session: Session) -> None:
    a, _, c = _insert_places(session, places[0], "abc", "ab").values()
    a.lower_edges[0].higher_id = c.id
    session.commit()
    assert a.higher_neighbors() == [c]


@pytest.fixture
def joined(plain_bases: BaseFactory, engine: Engine) -> tuple[Any, Any]:
    """Return a node class and an edge class whose relationships are loaded by joins."""
    base: type[DeclarativeBase] = plain_bases()

    class Tag(base):  # type: ignore[misc, valid-type]
        __tablename__ = "tag"
        id = mapped_column(Integer, primary_key=True)
        spot_id = mapped_column(Integer)

    class Spot(GraphNode, base):  # type: ignore[misc, valid-type]
        __tablename__ = "spot"
        id: Mapped[int] = mapped_column(primary_key=True)
        name = mapped_column(String(20))
        tags = relationship(Tag, primaryjoin="foreign(Tag.spot_id) == Spot.id", lazy="joined")

    class Hop(GraphEdge[Spot], base):  # type: ignore[misc, valid-type]
        __tablename__ = "hop"
        __graph__ = GraphOptions(acyclic=True)
        length: Mapped[int] = mapped_column(default=0)
        tags = relationship(
            Tag, primaryjoin="foreign(Tag.spot_id) == Hop.lower_id", lazy="joined", viewonly=True, uselist=True
        )

    base.metadata.create_all(engine)
    return Spot, Hop


def test_collections_that_load_by_joins_break_no_function(joined: tuple[Any, Any], session: Session) -> None:
    spot, hop = joined
    tag = spot.tags.property.entity.class_
    a, b, c, d = (spot(id=number, tags=[tag(), tag()]) for number in range(1, 5))
    session.add_all([a, b, c, d])
    session.flush()
    a.add_neighbor(b)
    b.add_neighbor(c)
    session.commit()
    assert load_graph(session, spot) == [a, b, c, d]
    assert load_graph(session, spot, a, within=1) == [a, b]
    assert shortest_path(session, a, c, weight=hop.length) == [a, b, c]
    assert topological_order(session, spot) == [a, d, b, c]
    assert connected_component(session, b) == [a, b, c]
    session.expire_all()
    assert (b.higher_neighbors(), b.lower_neighbors()) == ([c], [a])
    session.expire_all()
    a.add_neighbor(b, c)
    session.commit()
    a.lower_edges[1].higher_id = d.id
    session.commit()
    d.add_neighbor(a)
    with pytest.raises(CycleError):
        session.commit()
    session.rollback()
    session.delete(b)
    session.commit()
    assert a.higher_neighbors() == [d]


# -- classes that are refused --------------------------------------------------------------------


def _refuse(base: Any, **body: Any) -> MappingError:
    with pytest.raises(MappingError) as caught:
        types.new_class(
            "Bad",
            (GraphEdge[base.Node], base),
            exec_body=lambda space: space.update({"__tablename__": "bad", "__module__": __name__, **body}),
        )
    return caught.value


@pytest.fixture
def base_with_node(plain_bases: BaseFactory) -> Any:
    base: Any = plain_bases()

    class Node(GraphNode, base):  # type: ignore[misc]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.Node = Node
    return base


FAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "key": lambda: {"id": mapped_column(Integer, primary_key=True)},
    "no surrogate": lambda: {"__graph__": GraphOptions(surrogate_key=True)},
    "options": lambda: {"__graph__": {}},
    "names": lambda: {"__graph__": GraphOptions(lower_edges="id")},
    "method": lambda: {"__graph__": GraphOptions(lower_edges="add_neighbor")},
    "foreign key": lambda: {"lower_id": mapped_column("from_id", Integer, primary_key=True)},
    "no key": lambda: {"lower_id": mapped_column("from_id", Integer), "id": mapped_column(Integer, primary_key=True)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_edge_class_breaks_no_other_class(
    base_with_node: Any, engine: Engine, session: Session, fault: str
) -> None:
    kept = _refuse(base_with_node, **FAULTS[fault]())
    Node = base_with_node.Node

    class Good(GraphEdge[Node], base_with_node):  # type: ignore[misc]
        __tablename__ = "good"

    configure_mappers()
    base_with_node.metadata.create_all(engine)
    a, b = Node(), Node()
    session.add_all([a, b])
    session.flush()
    a.add_neighbor(b)
    session.commit()
    assert a.higher_neighbors() == [b]
    assert kept is not None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_edge_class_leaves_no_table(base_with_node: Any, fault: str) -> None:
    _refuse(base_with_node, **FAULTS[fault]())
    assert set(base_with_node.metadata.tables) == {"node"}


def test_a_refused_edge_class_can_be_declared_again(base_with_node: Any, engine: Engine) -> None:
    _refuse(base_with_node, id=mapped_column(Integer, primary_key=True))

    class Edge(GraphEdge[base_with_node.Node], base_with_node):  # type: ignore[misc, name-defined]
        __tablename__ = "bad"

    base_with_node.metadata.create_all(engine)
    assert inspect(engine).get_pk_constraint("bad")["constrained_columns"] == ["lower_id", "higher_id"]


def test_a_refused_node_class_leaves_no_table(plain_bases: BaseFactory) -> None:
    base: Any = plain_bases()
    with pytest.raises(MappingError):

        class Pair(GraphNode, base):  # type: ignore[misc]
            __tablename__ = "pair"
            a: Mapped[int] = mapped_column(primary_key=True)
            b: Mapped[int] = mapped_column(primary_key=True)

    assert set(base.metadata.tables) == set()
    configure_mappers()


def test_keys_of_edges_may_be_made_by_the_client(plain_bases: BaseFactory, engine: Engine, session: Session) -> None:
    base: Any = plain_bases()

    class Keyed(base):  # type: ignore[misc]
        __abstract__ = True
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)

    Page, Link = _graph(Keyed, Keyed)
    base.metadata.create_all(engine)
    a, b = Page(), Page()
    a.add_neighbor(b)
    session.add(a)
    session.commit()
    assert isinstance(session.scalars(select(Link.id)).one(), uuid.UUID)
