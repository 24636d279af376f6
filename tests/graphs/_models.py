"""Graph classes for the tests, with keys of every shape, on plain and on dataclass bases."""

from __future__ import annotations

import types
import uuid
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, Integer, String, Uuid, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.graphs import GraphEdge, GraphNode, GraphOptions

KEYS = ("integer", "server", "uuid", "string", "renamed", "schema")


class GraphModels:
    """A node class ``Node`` with ``name``, and an edge class ``Edge`` with ``weight``."""

    def __init__(
        self,
        base: type[DeclarativeBase],
        *,
        key: str = "integer",
        acyclic: bool = False,
        schema: str | None = None,
        surrogate: bool = False,
    ) -> None:
        self.base, self.key = base, key
        dataclass = bool(getattr(base, "__dataclass_fields__", None) is not None) or "MappedAsDataclass" in {
            each.__name__ for each in base.__mro__
        }
        self.dataclass = dataclass
        table_args = {"schema": schema} if schema else {}
        self.Node: Any = _class(
            "Node",
            (GraphNode, base),
            {"id": _annotation(key), "name": Mapped[str]},
            {
                "__tablename__": "graph_node",
                "__table_args__": table_args,
                "id": _key(key, dataclass),
                "name": mapped_column(String(50)),
            },
        )
        self.Edge: Any = _class(
            "Edge",
            (GraphEdge[self.Node], base),
            {"weight": Mapped[int], **({"id": Mapped[int]} if surrogate else {})},
            {
                "__tablename__": "graph_edge",
                "__table_args__": table_args,
                "__graph__": GraphOptions(acyclic=acyclic, surrogate_key=surrogate),
                "weight": mapped_column(default=1),
                **({"id": _key("server", dataclass)} if surrogate else {}),
            },
        )

    def make_node(self, name: str, number: int = 0) -> Any:
        """Return a new node; keys that the client makes follow `number`."""
        node = self.Node(name=name)
        if self.key == "uuid":
            node.id = uuid.UUID(int=number + 1)
        elif self.key in {"string", "renamed"}:
            node.id = f"k{number:05}"
        elif self.key == "integer":
            node.id = number + 1
        return node

    def insert(self, session: Session, names: Iterable[str], edges: str = "") -> dict[str, Any]:
        """Insert nodes and edges, commit, and return the nodes by name.

        Args:
            session: The session.
            names: The names of the nodes.
            edges: The edges, as in ``"ab bc"``; with a weight, as in ``"ab7"``.
        """
        nodes = {name: self.make_node(name, number) for number, name in enumerate(names)}
        session.add_all(nodes.values())
        session.flush()  # Before the edges, so that keys which the database makes are in the order of the names.
        for edge in edges.split():
            weight = {"weight": int(edge[2:])} if edge[2:] else {}
            nodes[edge[0]].add_neighbor(nodes[edge[1]], **weight)
        session.commit()
        return nodes

    def make_edge(self, lower: Any, higher: Any, **attributes: Any) -> Any:
        """Return a new edge, made by the constructor of the mixin, or by assignments where the base has its own."""
        if not self.dataclass:
            return self.Edge(lower, higher, **attributes)
        edge = self.Edge(**attributes)
        edge.lower_node, edge.higher_node = lower, higher
        return edge

    def find_edge(self, session: Session, lower: Any, higher: Any) -> Any:
        """Return the edge between two nodes, as an object of `session`."""
        pair = self.Edge.lower_id == lower.id, self.Edge.higher_id == higher.id
        return session.scalars(select(self.Edge).where(*pair)).one()

    def pairs(self, session: Session) -> set[str]:
        """Return the edges in the database, each as the names of its two nodes."""
        table, edges = self.Node.__table__, self.Edge.__table__
        key = next(iter(table.primary_key))
        found = session.connection().execute(select(key, table.c.name))
        names: dict[Any, str] = {row[0]: row[1] for row in found}
        rows = session.connection().execute(select(edges.c.lower_id, edges.c.higher_id))
        return {names[lower] + names[higher] for lower, higher in rows}

    def count(self, session: Session) -> int:
        return session.connection().scalar(select(func.count()).select_from(self.Edge.__table__)) or 0

    def create(self, engine: Engine) -> None:
        self.base.metadata.create_all(engine)


def names(nodes: Iterable[Any]) -> str:
    return "".join(node.name for node in nodes)


def _class(name: str, parents: tuple[Any, ...], annotations: dict[str, Any], body: dict[str, Any]) -> Any:
    def fill(namespace: dict[str, Any]) -> None:
        namespace.update({"__module__": __name__, "__annotations__": annotations, **body})

    return types.new_class(name, parents, exec_body=fill)


def _annotation(key: str) -> Any:
    if key == "uuid":
        return Mapped[uuid.UUID]
    return Mapped[str] if key in {"string", "renamed"} else Mapped[int]


def _key(key: str, dataclass: bool) -> Any:
    options: dict[str, Any] = {"init": False} if dataclass else {}
    if key == "uuid":
        return mapped_column(Uuid(), primary_key=True, **options)
    if key == "string":
        return mapped_column(String(20), primary_key=True, **options)
    if key == "renamed":
        return mapped_column("node_key", String(20), primary_key=True, **options)
    return mapped_column(Integer(), primary_key=True, **options)
