"""Change loaded collections of children so that the unit of work does not see it: no events, no history, no SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from .._typing import MappedObject
from ._config import TreeConfig
from ._loaded_state import loaded_list, loaded_map


class ChildrenChanges:
    """Nodes that leave and join the children of several parents; each collection is gone through once."""

    def __init__(self, config: TreeConfig) -> None:
        self.config = config
        self.parents: dict[int, MappedObject] = {}
        self._gone: dict[int, list[MappedObject]] = {}
        self._joined: dict[int, list[MappedObject]] = {}

    def leave(self, parent: MappedObject, node: MappedObject) -> None:
        """Note that `node` is no child of `parent` any more."""
        self.parents[id(parent)] = parent
        self._gone.setdefault(id(parent), []).append(node)

    def join(self, parent: MappedObject, node: MappedObject) -> None:
        """Note that `node` is a child of `parent` now."""
        self.parents[id(parent)] = parent
        self._joined.setdefault(id(parent), []).append(node)

    def carry_out(self) -> None:
        """Change the collections."""
        for key, parent in self.parents.items():
            change_children(self.config, parent, gone=self._gone.get(key, ()), joined=self._joined.get(key, ()))


def replace_list(children: list[MappedObject], members: Sequence[MappedObject]) -> None:
    """Put `members` in place of all that a loaded list of children holds."""
    list[MappedObject].__setitem__(children, slice(None), members)


def change_children(
    config: TreeConfig, parent: MappedObject, *, gone: Iterable[MappedObject] = (), joined: Iterable[MappedObject] = ()
) -> None:
    """Change the loaded children of `parent`.

    Args:
        config: The tree.
        parent: The node with the children.
        gone: Nodes to take out.
        joined: Nodes to put in; those that are there already get their present keys.
    """
    by_key, in_order = loaded_map(parent), loaded_list(parent)
    if by_key is not None:
        keys = {id(child): key for key, child in by_key.items()}
        for node in gone:
            if id(node) in keys:
                dict[object, MappedObject].pop(by_key, keys[id(node)])
        for node in joined:
            new = getattr(node, config.key_attr or "")
            rekey(by_key, node, old=keys.get(id(node), new), new=new)
    elif in_order is not None:
        left = {id(node) for node in gone}
        if left:
            replace_list(in_order, [child for child in in_order if id(child) not in left])
        present = {id(child) for child in in_order}
        list[MappedObject].extend(in_order, [node for node in joined if id(node) not in present])


def rekey(children: dict[object, MappedObject], node: MappedObject, *, old: object, new: object) -> None:
    """Put `node` under its key `new`; another node may have taken the place `old` meanwhile."""
    if old != new and children.get(old) is node:
        dict[object, MappedObject].pop(children, old)
    if children.get(new) is not node:
        dict[object, MappedObject].__setitem__(children, new, node)


def sort_children(config: TreeConfig, parent: MappedObject) -> None:
    """Put a loaded list of children into the order of their positions, as the database returns them.

    Those that sort by attributes of the user's are sorted by `SiblingOrder`.
    """
    children = loaded_list(parent)
    if children is None or len(children) < 2 or config.sorts_by_attributes:
        return
    positions = [child.__dict__.get("position") for child in children]
    if None in positions:
        return
    order = sorted(range(len(children)), key=lambda i: cast("int", positions[i]))
    if order != list(range(len(children))):
        replace_list(children, [children[i] for i in order])
