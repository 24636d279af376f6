"""A directed graph: edges, neighbours in both directions, and reachable nodes.

The graph of SQLAlchemy's ``examples/graphs/directed_graph.py``, with more than that shows: neighbours are added with
``add_neighbor``, which can be called twice; paths are found, also with weights; and a second edge class over the same
nodes refuses cycles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.demos._support import demo_engine, demo_options
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
    to_dot,
    topological_order,
)


class Base(DeclarativeBase):
    pass


class Place(GraphNode, Base):
    __tablename__ = "graph_place"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Way(GraphEdge[Place], Base):
    __tablename__ = "graph_way"

    minutes: Mapped[int] = mapped_column(default=1)


class Before(GraphEdge[Place], Base):
    """Which place a tour visits before which."""

    __tablename__ = "graph_before"
    __graph__ = GraphOptions(acyclic=True, lower_edges="before", higher_edges="after")


def names(places: Iterable[Place]) -> str:
    return " ".join(place.name for place in places)


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        # Edges between new nodes are added to the session with them.
        n1, n2, n3, n4, n5, n6, n7 = places = [Place(id=number, name=f"n{number}") for number in range(1, 8)]
        for lower, higher in ((n1, n2), (n1, n3), (n2, n1), (n2, n4), (n3, n6), (n6, n3), (n7, n2)):
            Way(lower, higher)
        session.add_all(places)
        session.commit()

        options.say("n1 leads to:", names(n1.higher_neighbors(Way)))
        options.say("to n1 lead:", names(n1.lower_neighbors(Way)))
        assert names(n1.higher_neighbors(Way)) == "n2 n3"
        assert names(n3.lower_neighbors(Way)) == "n1 n6"

        for _ in range(2):
            n2.add_neighbor(n5, n6, edge=Way, minutes=7)
            session.commit()
        options.say("n2 leads to, after the same two were added twice:", names(n2.higher_neighbors(Way)))
        assert names(n2.higher_neighbors(Way)) == "n1 n4 n5 n6"

        reachable = session.scalars(select(Place).where(Place.reachable_from(n3, edge=Way)).order_by(Place.id)).all()
        options.say("reachable from n3:", names(reachable), "(itself too, as it lies on a cycle)")
        assert names(reachable) == "n3 n6"
        sources = session.scalars(select(Place).where(Place.is_source(edge=Way))).all()
        options.say("nothing leads to:", names(sources))
        assert sources == [n7]

        shortest = shortest_path(session, n7, n6, edge=Way)
        quickest = shortest_path(session, n7, n6, weight=Way.minutes)
        assert shortest is not None
        assert quickest is not None
        options.say("from n7 to n6 with the fewest edges:", names(shortest), "and in the least time:", names(quickest))
        assert names(shortest) == "n7 n2 n6"
        assert names(quickest) == "n7 n2 n1 n3 n6"
        for path in all_paths(session, n7, n6, limit=10, edge=Way):
            options.say("  a path:", names(path))
        assert shortest_path(session, n6, n7, edge=Way) is None

        cycles = [names(cycle) for cycle in find_cycles(session, Place, edge=Way)]
        options.say("cycles:", "; ".join(cycles))
        assert cycles == ["n1 n2 n1", "n3 n6 n3"]
        assert len(connected_component(session, n5, edge=Way)) == 7

        n1.add_neighbor(n2, n3, edge=Before)
        n2.add_neighbor(n4, edge=Before)
        n3.add_neighbor(n4, edge=Before)
        session.commit()
        n4.add_neighbor(n1, edge=Before)
        refused: CycleError | None = None
        try:
            session.commit()
        except CycleError as error:
            refused = error
            session.rollback()
        assert refused is not None
        assert refused.path[0] is refused.path[-1] is n4
        options.say("refused:", refused)
        order = topological_order(session, Place, edge=Before)
        options.say("an order for the tour:", names(order))
        assert [place for place in order if place in (n1, n2, n3, n4)] == [n1, n2, n3, n4]

        options.say(to_dot(load_graph(session, Place, n3, edge=Way), edge=Way, label=lambda place: place.name))
    return 0
