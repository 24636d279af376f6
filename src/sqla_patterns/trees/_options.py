"""`TreeOptions`: the options of a tree class, which it gives as ``__tree__``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

OnDelete = Literal["cascade", "restrict", "adopt", "root"]


@dataclass(frozen=True)
class TreeOptions:
    """Options of a tree, given as ``__tree__ = TreeOptions(...)`` in the class body.

    Attributes:
        key: The name of the attribute that keys the children of a `KeyedTreeNode`; required there, refused on
            `TreeNode`.
        order_by: The names of the attributes by which siblings sort. A `TreeNode` without it has a ``position`` column
            and keeps the order in which its children are put.
        on_delete: What happens to the children of a node that is deleted: ``"cascade"`` deletes them too,
            ``"restrict"`` raises `DeleteRestrictedError`, ``"adopt"`` gives them to the parent of the deleted node, at
            its place, and ``"root"`` makes them roots.
    """

    key: str | None = None
    order_by: Sequence[str] = ()
    on_delete: OnDelete = "cascade"
