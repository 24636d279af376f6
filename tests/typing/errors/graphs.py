"""What both checkers must refuse about graphs."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.graphs import GraphEdge, GraphNode, GraphOptions, all_paths, shortest_path


class Base(DeclarativeBase):
    pass


class Station(GraphNode, Base):
    __tablename__ = "station"

    id: Mapped[int] = mapped_column(primary_key=True)


class Town(GraphNode, Base):
    __tablename__ = "town"

    id: Mapped[int] = mapped_column(primary_key=True)


class Track(GraphEdge[Station], Base):
    __tablename__ = "track"
    __graph__ = GraphOptions(acyclic=True)

    minutes: Mapped[int]
    name: Mapped[str]


class Wrong(GraphEdge[Track], Base):  # E: "Track"
    __tablename__ = "wrong"


def use(session: Session, a: Station, b: Station, town: Town, track: Track) -> None:
    Track(a, town)  # E: "Town"
    a.add_neighbor(3)  # E: int
    a.add_neighbor(b, edge=Station)  # E: Station
    a.higher_neighbors(Station)  # E: Station
    shortest_path(session, a, b, weight=Track.name)  # E: str
    shortest_path(session, a, b, edge=Station)  # E: Station
    all_paths(session, a, b)  # E: limit
    text: str = track.lower_id  # E: "int"
    other: Town = track.lower_node  # E: "Station"
    GraphOptions(True).acyclic = False  # E: acyclic
