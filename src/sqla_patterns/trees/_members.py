"""Change loaded collections of children behind the back of the unit of work: no events, no history, no SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._config import TreeConfig
from ._peek import loaded_list, loaded_map

__all__ = ("Changes", "change_children", "rekey", "sort_children")


class Changes:
    """Nodes that leave and join the children of several parents; each collection is gone through once."""

    def __init__(self, config: TreeConfig) -> None:
        self.config = config
        self.parents: dict[int, Any] = {}
        self._gone: dict[int, list[Any]] = {}
        self._joined: dict[int, list[Any]] = {}

    def leave(self, parent: Any, node: Any) -> None:
        self.parents[id(parent)] = parent
        self._gone.setdefault(id(parent), []).append(node)

    def join(self, parent: Any, node: Any) -> None:
        self.parents[id(parent)] = parent
        self._joined.setdefault(id(parent), []).append(node)

    def carry_out(self) -> None:
        for key, parent in self.parents.items():
            change_children(self.config, parent, gone=self._gone.get(key, ()), joined=self._joined.get(key, ()))


def change_children(config: TreeConfig, parent: Any, *, gone: Iterable[Any] = (), joined: Iterable[Any] = ()) -> None:
    """Take the nodes `gone` out of the loaded children of `parent`, and put `joined` in, or under their present keys there."""
    by_key, in_order = loaded_map(parent), loaded_list(parent)
    if by_key is not None:
        keys = {id(child): key for key, child in by_key.items()}
        for node in gone:
            if id(node) in keys:
                dict[Any, Any].pop(by_key, keys[id(node)])
        for node in joined:
            new = getattr(node, config.key_attr or "")
            rekey(by_key, keys.get(id(node), new), new, node)
    elif in_order is not None:
        left = {id(node) for node in gone}
        if left:
            list[Any].__setitem__(in_order, slice(None), [child for child in in_order if id(child) not in left])
        present = {id(child) for child in in_order}
        list[Any].extend(in_order, [node for node in joined if id(node) not in present])


def rekey(children: dict[Any, Any], old: Any, new: Any, node: Any) -> None:
    """Put `node` under its key `new`; another node may have taken the place `old` meanwhile."""
    if old != new and children.get(old) is node:
        dict[Any, Any].pop(children, old)
    if children.get(new) is not node:
        dict[Any, Any].__setitem__(children, new, node)


def sort_children(config: TreeConfig, parent: Any) -> None:
    """Put a loaded list of children into the order in which the database returns them."""
    children = loaded_list(parent)
    if children is None or len(children) < 2:
        return
    names = [name for name in config.order_attrs if name != config.pk_attr or config.orders_itself]
    if config.orders_itself:
        # What they sort by may be expired on a newcomer; a flush may load it.
        values: list[list[Any]] = [[getattr(child, name) for name in names] for child in children]
    else:
        values = [[child.__dict__.get(name) for name in names] for child in children]
    if any(value is None for row in values for value in row[: len(names) - config.orders_itself]):
        return
    order = sorted(range(len(children)), key=lambda i: [(value is not None, value) for value in values[i]])
    if order != list(range(len(children))):
        list[Any].__setitem__(children, slice(None), [children[i] for i in order])
