"""Kinds of tree for the concurrency tests and the state machine, and what must hold for the rows of any of them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, String, Uuid, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.trees import KeyedTreeNode, LtreePath, TreeNode, TreeOptions, verify_tree
from tests.trees._indexes import assert_index_sound
from tests.trees._shapes import INDEXES, IndexKind, create_ltree_with

__all__ = ("KEYED", "SHAPES", "SIBLINGS", "Shape", "assert_sound", "each", "read_forest")


@dataclass(frozen=True)
class Shape:
    """A kind of tree: which mixins, and who makes the primary keys.

    Each node has a `name`, the key of a keyed tree, and a `tag`, a number that the test chooses.
    """

    name: str
    mixins: tuple[type[Any], ...] = (TreeNode,)
    client_keys: bool = False
    databases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def keyed(self) -> bool:
        return any(issubclass(mixin, KeyedTreeNode) for mixin in self.mixins)

    def make(self, base: type[Any], **options: Any) -> Any:
        """Map a tree class of this kind on the declarative base *base*, with *options* for its `TreeOptions`."""
        body: dict[str, Any] = {
            "__module__": __name__,
            "__qualname__": "Node",
            "__tablename__": "node",
            "__annotations__": {
                "id": Mapped[uuid.UUID if self.client_keys else int],
                "name": Mapped[str],
                "tag": Mapped[int],
            },
            "name": mapped_column(String(100)),
            "tag": mapped_column(),
        }
        if self.client_keys:
            body["id"] = mapped_column(Uuid(), primary_key=True)
        else:
            body["id"] = mapped_column(primary_key=True)
        if self.keyed:
            options["key"] = "name"
        body["__tree__"] = TreeOptions(**options)
        if LtreePath in self.mixins:
            create_ltree_with(base.metadata)
        return type("Node", (*self.mixins, base), body)

    def add(self, session: Session, cls: Any, name: str, tag: int = 0, **values: Any) -> Any:
        """Add a new node to *session*."""
        node = self.new(cls, name, tag, **values)
        session.add(node)
        return node

    def new(self, cls: Any, name: str, tag: int = 0, **values: Any) -> Any:
        if self.client_keys:
            values["id"] = uuid.uuid4()
        return cls(name=name, tag=tag, **values)

    def put(self, parent: Any, node: Any) -> None:
        """Put *node* into the collection of *parent*, the last one where there is an order."""
        if self.keyed:
            parent.children[node.name] = node
        else:
            parent.children.append(node)


def _shapes(index: IndexKind) -> list[Shape]:
    def shape(name: str, mixin: type[Any], **more: Any) -> Shape:
        mixins = (mixin,) if index.mixin is None else (index.mixin, mixin)
        return Shape(name if index.mixin is None else f"{index.name}-{name}", mixins, databases=index.databases, **more)

    if index.mixin is not None:
        return [shape("siblings", TreeNode), shape("keyed", KeyedTreeNode)]
    return [
        shape("siblings", TreeNode),
        shape("client_keys", TreeNode, client_keys=True),
        shape("keyed", KeyedTreeNode),
    ]


#: Three kinds of tree for each index of the contract suite: keys made by the database, by the client, and a keyed tree.
SHAPES: Sequence[Shape] = tuple(shape for index in INDEXES for shape in _shapes(index))
SIBLINGS, _, KEYED = SHAPES[:3]


def each(*kinds: str) -> pytest.MarkDecorator:
    """Parametrise a test by `shape`: those whose name ends with one of *kinds*, or all."""
    chosen = [shape for shape in SHAPES if not kinds or shape.name.endswith(kinds)]
    marks = [[pytest.mark.only_on(*shape.databases)] if shape.databases else [] for shape in chosen]
    return pytest.mark.parametrize(
        "shape", [pytest.param(shape, id=str(shape), marks=mark) for shape, mark in zip(chosen, marks, strict=True)]
    )


def read_forest(connection: Connection, cls: Any) -> dict[Any, list[Any]]:
    """Read ``{key of the parent or None: rows of its children in order}``."""
    table = cls.__table__
    order = (table.c.position, table.c.id) if "position" in table.c else (table.c.name, table.c.id)
    forest: dict[Any, list[Any]] = {}
    for row in connection.execute(select(table).order_by(*order)):
        forest.setdefault(row.parent_id, []).append(row)
    return forest


def assert_sound(session: Session, cls: Any) -> dict[Any, list[Any]]:
    """Assert that the rows of *cls* are a forest: no orphan, no cycle, no place or key taken twice; return them."""
    forest = read_forest(session.connection(), cls)
    every = {row.id: row for rows in forest.values() for row in rows}
    reached: set[Any] = set()
    level = [row.id for row in forest.get(None, ())]
    while level:
        reached.update(level)
        level = [row.id for pk in level for row in forest.get(pk, ())]
    lost = {pk: row.parent_id for pk, row in every.items() if pk not in reached}
    assert not lost, f"orphans or cycles (node: parent): {lost}"
    unique = "name" if issubclass(cls, KeyedTreeNode) else "position"
    if unique in cls.__table__.c:
        for parent, rows in forest.items():
            twice = {value: n for value, n in Counter(getattr(row, unique) for row in rows).items() if n > 1}
            assert not twice, f"{unique} taken more than once below {parent}: {twice}"
    assert_index_sound(session.connection(), cls)
    assert not list(verify_tree(session, cls))
    return forest
