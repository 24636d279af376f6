"""Directed graphs: nodes, edges with attributes, reachability, paths, order, and graphs that are kept free of cycles.

**When to use it.** Rows of one table refer to each other in any number and any direction: stations and tracks, tasks and what they
need, pages and links. A node mixes in `GraphNode`; an edge mixes in `GraphEdge`, is a table of its own, and has whatever columns you give
it. ``__graph__ = GraphOptions(acyclic=True)`` on the edge class makes it a DAG, also under concurrent writers.

**When not to use it.** Where each row has one parent at most, `sqla_patterns.trees` knows more and costs less. Two tables that refer to each
other are no graph but a many-to-many relationship. And where the question is about a whole graph of millions of edges, again and again
(centrality, clustering), hand it to a graph library once; `to_networkx` does.

>>> from sqlalchemy import create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
>>> from sqla_patterns.graphs import GraphEdge, GraphNode, shortest_path
>>> class Base(DeclarativeBase): ...
>>> class Station(GraphNode, Base):
...     __tablename__ = "station"
...     name: Mapped[str] = mapped_column(primary_key=True)
>>> class Track(GraphEdge[Station], Base):
...     __tablename__ = "track"
...     minutes: Mapped[int]
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     harbour, market, palace, zoo = (Station(name=name) for name in ("harbour", "market", "palace", "zoo"))
...     _ = harbour.add_neighbor(market, minutes=4)
...     _ = harbour.add_neighbor(palace, minutes=9)
...     _ = market.add_neighbor(palace, minutes=3)
...     session.add_all([harbour, zoo])
...     session.commit()
...     print([station.name for station in harbour.higher_neighbors()])
...     print(session.scalars(select(Station.name).where(Station.reachable_from(market))).all())
...     print([station.name for station in shortest_path(session, harbour, palace, weight=Track.minutes)])
['market', 'palace']
['palace']
['harbour', 'market', 'palace']

**Cost.** Neighbours of a node: one SELECT. A predicate: one recursive common table expression inside your statement. `topological_order` and
`connected_component`: one SELECT; paths, `find_cycles` and `load_graph`: two. After `load_graph` nothing that walks the loaded nodes emits
SQL. A flush looks at the class of each object in it; where nodes are deleted, it loads their edges with one SELECT for each edge class and
deletes them with one DELETE. With ``acyclic``, a flush that adds edges emits three statements more, however many the edges are, a fourth
where new edges hang together, and none where all their ends are new too.

**Locks.** Only ``acyclic`` takes any. PostgreSQL: one advisory lock for each edge table, and an UPDATE to no effect of the rows of the
linked nodes; under REPEATABLE READ and SERIALIZABLE also a share lock on each node that the search comes by, so that a stale snapshot becomes
a serialization failure of the database. MariaDB and MySQL: row locks on the linked nodes and on those that the search comes by, with one
SELECT for each step of it; crossing writers may meet in a deadlock, which the database ends. SQLite: the write lock of the file.

**What no flush can see.** Bulk statements (``insert(Track)``, ``session.execute(update(Track))``) go past the check; `find_cycles` finds what
they leave.

.. seealso:: :doc:`/patterns/graphs`, the guide, with a table for users of the upstream recipe.
"""

from ._errors import CycleError
from ._export import DiGraphLike, to_dot, to_networkx
from ._loading import load_graph
from ._model import GraphEdge, GraphNode
from ._options import GraphOptions
from ._queries import all_paths, connected_component, find_cycles, shortest_path, topological_order

__all__ = (
    "CycleError",
    "DiGraphLike",
    "GraphEdge",
    "GraphNode",
    "GraphOptions",
    "all_paths",
    "connected_component",
    "find_cycles",
    "load_graph",
    "shortest_path",
    "to_dot",
    "to_networkx",
    "topological_order",
)
