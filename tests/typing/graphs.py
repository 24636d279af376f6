"""What a user of graphs reads: both checkers must infer these types."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_type

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    MappedAsDataclass,
    Session,
    aliased,
    mapped_column,
    scoped_session,
    selectinload,
)

from sqla_patterns.graphs import (
    CycleError,
    DiGraphLike,
    GraphEdge,
    GraphNode,
    GraphOptions,
    all_paths,
    connected_component,
    find_cycles,
    load_graph,
    shortest_path,
    to_dot,
    to_networkx,
    topological_order,
)


class Base(DeclarativeBase):
    pass


class Station(GraphNode, Base):
    __tablename__ = "station"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Terminal(Station):
    pass


class Track(GraphEdge[Station], Base):
    __tablename__ = "track"

    minutes: Mapped[int]
    price: Mapped[Decimal]
    slope: Mapped[float | None]


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Task(GraphNode, DataBase):
    __tablename__ = "task"

    key: Mapped[str] = mapped_column(primary_key=True)


class Needs(GraphEdge[Task], DataBase):
    __tablename__ = "needs"
    __graph__ = GraphOptions(acyclic=True)

    hours: Mapped[int] = mapped_column(default=0)


def edges(a: Station, b: Station, terminal: Terminal, task: Task) -> None:
    track = Track(a, b, minutes=3)
    assert_type(track.lower_node, Station)
    assert_type(track.lower_id, int)
    assert_type(Track.lower_id, InstrumentedAttribute[int])
    assert_type(Track.higher_node, InstrumentedAttribute[Station])
    track.higher_node = terminal
    track.higher_id = 7
    needs = Needs(hours=3)
    needs.lower_node = task
    assert_type(needs.lower_node, Task)
    assert_type(needs.lower_id, object)
    assert_type(a.lower_edges, list[GraphEdge[Station]])
    assert_type(Station.higher_edges, InstrumentedAttribute[list[GraphEdge[Station]]])


def neighbours(a: Station, b: Station, terminal: Terminal, task: Task) -> None:
    assert_type(a.add_neighbor(b, terminal), list[GraphEdge[Station]])
    assert_type(a.add_neighbor(b, edge=Track, minutes=3), list[Track])
    assert_type(a.remove_neighbor(b), int)
    assert_type(a.higher_neighbors(), list[Station])
    assert_type(terminal.lower_neighbors(Track), list[Station])
    assert_type(task.higher_neighbors(edge=Needs), list[Task])


def predicates(session: Session, a: Station, b: Station) -> None:
    assert_type(Station.reachable_from(a, within=2), ColumnElement[bool])
    assert_type(aliased(Station).reaching(Station), ColumnElement[bool])
    assert_type(Station.is_sink(edge=Track), ColumnElement[bool])
    load = selectinload(Station.lower_edges).joinedload(Track.higher_node)
    statement = select(Station).where(Station.reachable_from(a, edge=Track)).options(load)
    assert_type(session.scalars(statement).all(), Sequence[Station])
    assert_type(session.scalars(select(Track).where(Track.lower_node == b)).all(), Sequence[Track])
    session.scalars(select(Station).where(Station.lower_edges.any(), ~Track.lower_node.has()))


def functions(session: Session, a: Station, b: Station, terminal: Terminal) -> None:
    assert_type(shortest_path(session, a, b), Sequence[Station] | None)
    assert_type(shortest_path(session, a, b, weight=Track.minutes), Sequence[Station] | None)
    shortest_path(session, a, terminal, weight=Track.price, edge=Track)
    shortest_path(session, a, b, weight=Track.slope)
    shortest_path(session, a, b, weight=Track.minutes + 1)
    assert_type(all_paths(session, a, b, limit=3), Sequence[Sequence[Station]])
    assert_type(topological_order(session, Station), Sequence[Station])
    assert_type(find_cycles(session, Terminal), Sequence[Sequence[Terminal]])
    assert_type(connected_component(session, a), Sequence[Station])
    assert_type(load_graph(session, Station, [1, a], within=2, edge=Track), Sequence[Station])


class Graph:
    def add_node(self, node_for_adding: object, /, **attr: object) -> None: ...

    def add_edge(self, u_of_edge: object, v_of_edge: object, /, **attr: object) -> None: ...


def minutes(track: Track) -> str:
    return str(track.minutes)


def export(nodes: Sequence[Station]) -> None:
    assert_type(to_dot(nodes, label=lambda node: node.name, edge=Track, edge_label=minutes), str)
    to_dot(nodes, edge=Track, edge_label=lambda track: str(track.minutes))
    assert_type(to_networkx(nodes), DiGraphLike)
    assert_type(to_networkx(nodes, create_using=Graph), Graph)


def errors(error: CycleError) -> None:
    assert_type(error.path, tuple[GraphNode, ...])
    assert_type(error.path_of(Station), tuple[Station, ...])


def sessions(scoped: scoped_session[Session], a: Station, b: Station) -> None:
    assert_type(shortest_path(scoped, a, b), Sequence[Station] | None)
    assert_type(load_graph(scoped, Station), Sequence[Station])
