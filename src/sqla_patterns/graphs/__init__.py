"""Directed graphs: nodes, edges with attributes, reachability, paths, order, and graphs that are kept free of cycles.

**When to use it.** Rows of one table refer to each other in any number and any direction: stations and tracks, tasks
and what they need, pages and links. A node class mixes in `GraphNode`. An edge class mixes in `GraphEdge`, has a table,
and can have any further columns. Each edge leads from its *lower* node to its *higher* node.
``__graph__ = GraphOptions(acyclic=True)`` on the edge class makes the graph acyclic (a DAG), also under concurrent
writers.

**When not to use it.** Where each row has one parent at most, `sqla_patterns.trees` has more methods and costs less.
Two tables that refer to each other are no graph but a many-to-many relationship. For repeated computations over a whole
graph of millions of edges (centrality, clustering), export it once to a graph library, with `to_networkx`.

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

**Cost.** Neighbours of a node: one SELECT. A predicate: one recursive common table expression in the user's statement.
`topological_order` and `connected_component`: one SELECT; paths, `find_cycles` and `load_graph`: two. After
`load_graph`, following the edges of the loaded nodes emits no SQL. A flush checks the class of each object in it. Where
nodes are deleted, it loads their edges with one SELECT for each edge class and deletes them with one DELETE, and once
more for nodes that are orphans of another relationship or that a ``before_flush`` listener deletes. With ``acyclic``, a
flush that adds edges emits three statements more, however many edges there are: four if stored edges connect the new
ones, and none if all nodes that the new edges join are new too.

**Locks.** Only ``acyclic`` takes locks. PostgreSQL: one advisory lock for each edge table, and an UPDATE of the nodes
at the ends of new edges that changes nothing; under REPEATABLE READ and SERIALIZABLE also a share lock on each node
that the search visits, so that a stale snapshot becomes a serialization failure of the database. MariaDB and MySQL: row
locks on the nodes at the ends of new edges and on those that the search visits, with one SELECT for each step of it;
concurrent writers may cause a deadlock, which the database ends by an error in one of them. SQLite: the write lock of
the file.

**What a flush does not see.** Bulk statements (``insert(Track)``, ``session.execute(update(Track))``) bypass the check;
`find_cycles` finds the cycles that they leave. Mapper events such as ``before_insert`` run after the check, and
therefore cannot change the ends of an edge.

.. seealso:: :doc:`/patterns/graphs`, the guide, with a table for users of the upstream recipe.
"""

from ._export import DiGraphLike, to_dot, to_networkx
from ._loading import load_graph
from ._model import CycleError, GraphEdge, GraphNode
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
