"""What an index must keep, told from ``parent_id`` alone and written apart from the library."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, inspect, select

__all__ = ("INDEX_ATTRIBUTES", "assert_index_sound")

#: Attributes that some index keeps on nodes.
INDEX_ATTRIBUTES = ("left", "right", "depth", "tree_id", "path")


class _Tree:
    """The links of a table: parent, children in their order, and what the index keeps, by key."""

    def __init__(self, connection: Connection, cls: Any) -> None:
        columns = inspect(cls).columns
        pk = next(iter(columns["parent_id"].table.primary_key))
        position = columns.get("position")
        self.ordered = position is not None
        self.names = [name for name in INDEX_ATTRIBUTES if name in columns]
        wanted = [pk, columns["parent_id"], *([position] if position is not None else [])]
        kept = [columns[name] for name in self.names]
        rows = connection.execute(select(*wanted, *kept)).all()
        self.parent = {row[0]: row[1] for row in rows}
        self.position = {row[0]: row[2] if self.ordered else 0 for row in rows}
        self.kept = {row[0]: dict(zip(self.names, row[len(wanted) :], strict=True)) for row in rows}

    def chain(self, pk: Any) -> list[Any]:
        """Return the primary keys from `pk` up to its root."""
        found = [pk]
        while (above := self.parent[found[-1]]) is not None:
            found.append(above)
        return found


def assert_index_sound(connection: Connection, cls: Any) -> None:
    """Assert that the rows of the index say what the parent links say."""
    for name, check in _CHECKS.items():
        if any(base.__name__ == name for base in cls.__mro__):
            check(connection, cls)


def _nested_sets(connection: Connection, cls: Any) -> None:
    tree = _Tree(connection, cls)
    ends: list[tuple[Any, int]] = []
    for pk, kept in tree.kept.items():
        chain = tree.chain(pk)
        assert None not in kept.values(), f"{pk} has {kept}"
        assert kept["depth"] == len(chain) - 1, f"depth of {pk}: {kept}"
        assert kept["tree_id"] == chain[-1], f"tree of {pk}: {kept}"
        ends += [(kept["tree_id"], kept["left"]), (kept["tree_id"], kept["right"])]
    assert len(set(ends)) == len(ends), "a number is taken twice"
    for pk, kept in tree.kept.items():
        assert kept["left"] < kept["right"]
        above = set(tree.chain(pk))
        # Whatever encloses a node is above it, and nothing else.
        enclosing = {
            other
            for other, its in tree.kept.items()
            if its["tree_id"] == kept["tree_id"] and its["left"] <= kept["left"] and kept["right"] <= its["right"]
        }
        assert enclosing == above, f"{pk} lies below {above} and inside {enclosing}"
    if tree.ordered:
        _assert_ordered(tree, "left")


def _assert_ordered(tree: _Tree, name: str) -> None:
    families: dict[Any, list[Any]] = {}
    for pk, parent in tree.parent.items():
        if parent is not None:
            families.setdefault(parent, []).append(pk)
    for siblings in families.values():
        by_position = sorted(siblings, key=lambda pk: tree.position[pk])
        by_index = sorted(siblings, key=lambda pk: tree.kept[pk][name])
        assert by_position == by_index, f"siblings {by_position} stand as {by_index} in the index"


def _closure(connection: Connection, cls: Any) -> None:
    tree = _Tree(connection, cls)
    table = inspect(cls).columns["parent_id"].table
    closure = table.metadata.tables[f"{table.fullname}_closure"]
    rows = connection.execute(select(closure.c.ancestor_id, closure.c.descendant_id, closure.c.depth))
    found = sorted((repr(row[1]), row[2], repr(row[0])) for row in rows)
    wanted = sorted((repr(pk), depth, repr(above)) for pk in tree.parent for depth, above in enumerate(tree.chain(pk)))
    assert found == wanted, "pairs of the closure: (descendant, depth, ancestor)"


def _paths(connection: Connection, cls: Any) -> None:
    tree = _Tree(connection, cls)
    steps = {pk: (kept["path"] or "").split(".") for pk, kept in tree.kept.items()}
    if not any(len(labels) > 1 for labels in steps.values()):
        steps = {pk: re.findall("......", labels[0]) for pk, labels in steps.items()}
    for pk, labels in steps.items():
        chain = tree.chain(pk)
        path = tree.kept[pk]["path"]
        assert path is not None, f"{pk} has no path"
        assert path in ("".join(labels), ".".join(labels)), f"path of {pk}: {path}"
        assert all(len(label) == 6 and label.isdigit() for label in labels), f"path of {pk}: {path}"
        assert len(labels) == len(chain), f"{pk} lies below {chain[1:]} and has the path {path}"
        if tree.parent[pk] is not None:
            assert labels[:-1] == steps[tree.parent[pk]], f"path of {pk}: {path}, of its parent {chain[1]}"
            if tree.ordered:
                assert int(labels[-1]) == tree.position[pk], f"path of {pk}: {path}, position {tree.position[pk]}"
    assert len({tuple(labels) for labels in steps.values()}) == len(steps), f"a path is taken twice: {steps}"


_CHECKS: dict[str, Callable[[Connection, Any], None]] = {
    "NestedSets": _nested_sets,
    "ClosureTable": _closure,
    "MaterializedPath": _paths,
    "LtreePath": _paths,
}
