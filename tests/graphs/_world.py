"""Graph classes for the tests: with keys of every shape, on either base."""

from __future__ import annotations

import types
import uuid
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, Integer, String, Uuid, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.graphs import GraphEdge, GraphNode, GraphOptions

KEYS = ("integer", "server", "uuid", "string", "renamed", "schema")


class World:
    """A node class ``Node`` with ``name``, and an edge class ``Edge`` with ``weight``."""

    def __init__(
        self, base: type[DeclarativeBase], *, key: str = "integer", acyclic: bool = False, schema: str | None = None
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
            {"weight": Mapped[int]},
            {
                "__tablename__": "graph_edge",
                "__table_args__": table_args,
                "__graph__": GraphOptions(acyclic=acyclic),
                "weight": mapped_column(default=1),
            },
        )

    def node(self, name: str, number: int = 0) -> Any:
        """A new node; keys that the client makes follow `number`."""
        node = self.Node(name=name)
        if self.key == "uuid":
            node.id = uuid.UUID(int=number + 1)
        elif self.key in {"string", "renamed"}:
            node.id = f"k{number:05}"
        elif self.key == "integer":
            node.id = number + 1
        return node

    def plant(self, session: Session, names: Iterable[str], edges: str = "") -> dict[str, Any]:
        """Add nodes, and edges given as in ``"ab bc"`` with an optional weight, ``"ab7"``; commit."""
        nodes = {name: self.node(name, number) for number, name in enumerate(names)}
        session.add_all(nodes.values())
        session.flush()  # One after the other for the database's own keys: tests read them as an order.
        for edge in edges.split():
            weight = {"weight": int(edge[2:])} if edge[2:] else {}
            nodes[edge[0]].add_neighbor(nodes[edge[1]], **weight)
        session.commit()
        return nodes

    def link(self, lower: Any, higher: Any, **attributes: Any) -> Any:
        """An edge made by its constructor where the base leaves that to the mixin, and by assignment where it does not."""
        if not self.dataclass:
            return self.Edge(lower, higher, **attributes)
        edge = self.Edge(**attributes)
        edge.lower_node, edge.higher_node = lower, higher
        return edge

    def pairs(self, session: Session) -> set[str]:
        """The edges in the database, each as the two names."""
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
