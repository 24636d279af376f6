"""Measure graphs beside plain SQLAlchemy: ``python benchmarks/graphs.py [--url URL] [--nodes 10000] [--edges 15000]``.

No library for graphs on SQLAlchemy is on the package index; the yardsticks are the bare Core statement or ORM load that
does the same work, and the upstream recipe (``examples/graphs/directed_graph.py``), written out here as anybody would
use it.
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any

import sqlalchemy
from sqlalchemy import ForeignKey, create_engine, event, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.pool import StaticPool

from sqla_patterns.graphs import (
    GraphEdge,
    GraphNode,
    GraphOptions,
    connected_component,
    find_cycles,
    load_graph,
    shortest_path,
    topological_order,
)


class Base(DeclarativeBase):
    pass


class Node(GraphNode, Base):
    __tablename__ = "bench_node"
    id: Mapped[int] = mapped_column(primary_key=True)


class Edge(GraphEdge[Node], Base):
    __tablename__ = "bench_edge"
    __graph__ = GraphOptions(acyclic=True)
    weight: Mapped[int] = mapped_column(default=1)


class Free(GraphEdge[Node], Base):
    """The same without the check."""

    __tablename__ = "bench_free"
    __graph__ = GraphOptions(lower_edges="free_lower", higher_edges="free_higher")
    weight: Mapped[int] = mapped_column(default=1)


class UpNode(Base):
    """The upstream recipe, over tables of its own."""

    __tablename__ = "bench_up_node"
    id: Mapped[int] = mapped_column(primary_key=True)

    def higher_neighbors(self) -> list[Any]:
        return [edge.higher_node for edge in self.lower_edges]


class UpEdge(Base):
    __tablename__ = "bench_up_edge"
    lower_id: Mapped[int] = mapped_column(ForeignKey("bench_up_node.id"), primary_key=True)
    higher_id: Mapped[int] = mapped_column(ForeignKey("bench_up_node.id"), primary_key=True)
    lower_node = relationship(UpNode, foreign_keys=[lower_id], backref="lower_edges")
    higher_node = relationship(UpNode, foreign_keys=[higher_id], backref="higher_edges")


STATEMENTS: list[str] = []


def measure(engine: Any, jobs: list[Callable[[Session], Any]], rounds: int) -> list[tuple[float, int]]:
    """Return for each job the median of milliseconds, and statements.

    Jobs alternate, so that a slow moment of the machine hits all; each has a session of its own that is rolled back.
    """
    times: list[list[float]] = [[] for _ in jobs]
    counts = [0 for _ in jobs]
    for _ in range(rounds):
        for index, job in enumerate(jobs):
            gc.collect()
            with Session(engine) as session:
                session.connection()
                STATEMENTS.clear()
                started = time.perf_counter()
                job(session)
                times[index].append((time.perf_counter() - started) * 1000)
                counts[index] = len(STATEMENTS)
    return [(statistics.median(each), count) for each, count in zip(times, counts, strict=True)]


def random_dag(nodes: int, edges: int) -> list[dict[str, int]]:
    chance = random.Random(7)
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < edges:
        lower = chance.randrange(1, nodes)
        pairs.add((lower, chance.randrange(lower + 1, min(nodes, lower + 200) + 1)))
    return [
        {"lower_id": lower, "higher_id": higher, "weight": (lower * higher) % 9 + 1} for lower, higher in sorted(pairs)
    ]


def bare_rows(session: Session) -> None:
    session.execute(select(Node)).all()
    session.execute(select(Edge)).all()


def linked_by_hand(session: Session) -> None:
    nodes = {node.id: node for node in session.scalars(select(Node))}
    lower: dict[int, list[Edge]] = defaultdict(list)
    higher: dict[int, list[Edge]] = defaultdict(list)
    for edge in session.scalars(select(Edge)):
        set_committed_value(edge, "lower_node", nodes[edge.lower_id])
        set_committed_value(edge, "higher_node", nodes[edge.higher_id])
        lower[edge.lower_id].append(edge)
        higher[edge.higher_id].append(edge)
    for key, node in nodes.items():
        set_committed_value(node, "lower_edges", lower[key])
        set_committed_value(node, "higher_edges", higher[key])


def bare_sort(session: Session) -> None:
    nodes = {node.id: node for node in session.scalars(select(Node))}
    sorter: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(nodes, ()))
    for lower, higher in session.execute(select(Edge.__table__.c.lower_id, Edge.__table__.c.higher_id)):
        sorter.add(higher, lower)
    list(map(nodes.__getitem__, sorter.static_order()))


def bare_reach(session: Session, start: int) -> int:
    table = Edge.__table__
    found = select(table.c.higher_id).where(table.c.lower_id == start).cte(recursive=True)
    found = found.union(select(table.c.higher_id).join(found, table.c.lower_id == found.c.higher_id))
    return len(session.scalars(select(Node).where(Node.id.in_(select(found)))).all())


def upstream_reach(session: Session, start: int) -> int:
    seen: set[int] = set()
    pending = [session.get_one(UpNode, start)]
    while pending:
        for node in pending.pop().higher_neighbors():
            if node.id not in seen:
                seen.add(node.id)
                pending.append(node)
    return len(seen)


def add_edges(session: Session, edge: Any, pairs: list[tuple[int, int]]) -> None:
    for lower, higher in pairs:
        session.add(edge(lower_id=lower, higher_id=higher, weight=1))
    session.flush()


def add_one_by_one(session: Session, edge: Any, pairs: list[tuple[int, int]]) -> None:
    for lower, higher in pairs:
        session.add(edge(lower_id=lower, higher_id=higher, weight=1))
        session.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="sqlite://")
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--edges", type=int, default=15_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pool: dict[str, Any] = {"poolclass": StaticPool} if options.url == "sqlite://" else {}
    engine = create_engine(options.url, **pool)
    event.listen(engine, "before_cursor_execute", lambda *arguments: STATEMENTS.append(arguments[2]))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    rows = random_dag(options.nodes, options.edges)
    plain = [{"lower_id": row["lower_id"], "higher_id": row["higher_id"]} for row in rows]
    with engine.begin() as connection:
        for node in (Node, UpNode):
            connection.execute(insert(node.__table__), [{"id": key} for key in range(1, options.nodes + 1)])
        connection.execute(insert(Edge.__table__), rows)
        connection.execute(insert(Free.__table__), rows)
        connection.execute(insert(UpEdge.__table__), plain)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    print(
        f"{engine.dialect.name}, {options.nodes:,} nodes, {options.edges:,} edges; "
        f"SQLAlchemy {sqlalchemy.__version__}, "
        f"Python {platform.python_version()}; median of {options.rounds}\n"
    )
    try:
        report(engine, options.nodes, {(row["lower_id"], row["higher_id"]) for row in rows}, options.rounds)
    finally:
        Base.metadata.drop_all(engine)


def report(engine: Any, nodes: int, present: set[tuple[int, int]], rounds: int) -> None:
    low, middle = nodes // 100, nodes // 2
    with Session(engine) as session:
        # A node far above, with many ways to it.
        high = session.scalars(
            select(Node.id).where(Node.reachable_from(low, edge=Edge)).order_by(Node.id.desc()).limit(1).offset(20)
        ).one()
    chance = random.Random(1)
    new: list[tuple[int, int]] = []
    while len(new) < 100:
        lower = chance.randrange(1, nodes)
        pair = (lower, min(nodes, lower + chance.randrange(1, 200)))
        if pair[0] != pair[1] and pair not in present and pair not in new:
            new.append(pair)

    def node(session: Session, key: int) -> Node:
        return session.get_one(Node, key)

    def ours_reach(session: Session) -> None:
        session.scalars(select(Node).where(Node.reachable_from(middle, edge=Edge))).all()

    def path(session: Session, **weight: Any) -> None:
        if shortest_path(session, node(session, low), node(session, high), edge=Edge, **weight) is None:
            raise SystemExit("there is no path: choose other nodes")

    def component(session: Session) -> None:
        connected_component(session, node(session, low), edge=Edge)

    def added(add: Callable[[Session, Any, list[tuple[int, int]]], Any], edge: type) -> Callable[[Session], Any]:
        return lambda session: add(session, edge, new)

    cases: list[tuple[str, Callable[[Session], Any], str, Callable[[Session], Any]]] = [
        ("topological_order", lambda s: topological_order(s, Node, edge=Edge), "graphlib by hand", bare_sort),
        ("load_graph", lambda s: load_graph(s, Node, edge=Edge), "bare ORM load, no links", bare_rows),
        ("load_graph", lambda s: load_graph(s, Node, edge=Edge), "the same, linked by hand", linked_by_hand),
        ("reachable_from", ours_reach, "CTE written by hand", lambda s: bare_reach(s, middle)),
        ("reachable_from", ours_reach, "upstream recipe in a loop", lambda s: upstream_reach(s, middle)),
        ("shortest_path", path, "bare ORM load, no links", bare_rows),
        ("shortest_path, weight", lambda s: path(s, weight=Edge.weight), "bare ORM load, no links", bare_rows),
        ("find_cycles", lambda s: find_cycles(s, Node, edge=Edge), "bare ORM load, no links", bare_rows),
        ("connected_component", component, "bare ORM load, no links", bare_rows),
        ("100 edges, one flush, acyclic", added(add_edges, Edge), "not acyclic", added(add_edges, Free)),
        ("100 edges, 100 flushes, acyclic", added(add_one_by_one, Edge), "not acyclic", added(add_one_by_one, Free)),
    ]  # fmt: skip
    print(f"| {'graphs':<32} | {'ms':>8} | {'SQL':>4} | {'beside it':<31} | {'ms':>8} | {'SQL':>5} | ratio |")
    print(f"| {'-' * 32} | {'-' * 7}: | {'-' * 3}: | {'-' * 31} | {'-' * 7}: | {'-' * 4}: | ----: |")
    for name, ours, other, theirs in cases:
        (mine, mine_sql), (bare, bare_sql) = measure(engine, [ours, theirs], rounds)
        print(
            f"| {name:<32} | {mine:>8.1f} | {mine_sql:>4} | {other:<31} "
            f"| {bare:>8.1f} | {bare_sql:>5} | {mine / bare:>5.2f} |"
        )


if __name__ == "__main__":
    main()
