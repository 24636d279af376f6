"""`move_to`: what a node does to itself and its neighbours in memory, before the flush does it in the table."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect

from ..exceptions import InvalidArgumentError
from ._config import config_of
from ._errors import InvalidMoveError
from ._marks import Mark, set_mark
from ._peek import describe, loaded_list, loaded_parent
from ._sa import changed

__all__ = ("move_to",)

_POSITIONS = ("first_child", "last_child", "before", "after")


def move_to(node: Any, target: Any, position: str) -> None:
    config = config_of(node)
    if position not in _POSITIONS:
        known = ", ".join(repr(name) for name in _POSITIONS)
        raise InvalidArgumentError(f"{position!r} is no place in a tree; known are {known}")
    if target is None:
        if position not in ("last_child", "first_child"):
            raise InvalidArgumentError(
                f"move_to(None) makes a root and cannot be {position!r} nothing; name a root instead"
            )
        _to_root(node, Mark(side="first" if position == "first_child" else "last"))
        return
    if not isinstance(target, config.cls):
        raise InvalidArgumentError(f"{describe(node)} cannot move to {target!r}, which is no {config.name}")
    if target is node:
        raise InvalidMoveError(f"{describe(node)} cannot move {_words(position)} itself")
    if position in ("before", "after") and config.orders_itself:
        raise InvalidArgumentError(
            f"siblings of {config.name} sort by {', '.join(config.order_attrs[:-1])}; "
            f"{position!r} has no meaning there: change what they sort by"
        )
    _refuse_own_descendant(node, target, position)
    if position in ("first_child", "last_child"):
        _to_child(node, target, Mark(side="first" if position == "first_child" else "last"))
    else:
        _to_sibling(node, target, Mark(side=position, anchor=target))


def _words(position: str) -> str:
    return {"first_child": "into", "last_child": "into"}.get(position, position)


def _refuse_own_descendant(node: Any, target: Any, position: str) -> None:
    seen: set[int] = set()
    above = target if position in ("first_child", "last_child") else loaded_parent(target)
    while above is not None and id(above) not in seen:
        if above is node:
            raise InvalidMoveError(
                f"{describe(node)} cannot move {_words(position)} {describe(target)}, which lies below it"
            )
        seen.add(id(above))
        above = loaded_parent(above)


def _to_root(node: Any, mark: Mark) -> None:
    node.parent = None
    # An unloaded parent hides the change from the relationship, so say it with the column too.
    if node.__dict__.get("parent_id") is not None or "parent_id" not in node.__dict__:
        node.parent_id = None
    set_mark(node, mark, touch="position")


def _to_child(node: Any, parent: Any, mark: Mark) -> None:
    node.parent = parent
    children = loaded_list(parent)
    if children is not None:
        _place(children, node, 0 if mark.side == "first" else len(children))
        mark.listed = True
    set_mark(node, mark, touch="position")


def _to_sibling(node: Any, sibling: Any, mark: Mark) -> None:
    parent_id = _parent_id_of(sibling)  # Loads an expired sibling, whose parent can be told then.
    parent = loaded_parent(sibling)
    if parent is not None:
        node.parent = parent
        children = loaded_list(parent)
        if children is not None and any(child is sibling for child in children):
            others = [child for child in children if child is not node]
            index = next(i for i, child in enumerate(others) if child is sibling)
            _place(children, node, index + (mark.side == "after"))
            mark.listed = True
    elif parent_id is None:
        _to_root(node, mark)
    else:
        node.parent_id = parent_id
    set_mark(node, mark, touch="position")


def _parent_id_of(sibling: Any) -> Any:
    """The key of the parent that `sibling` has or will have, where no object of it is loaded."""
    state = inspect(sibling)
    if changed(state, "parent") and not changed(state, "parent_id"):
        return None  # Made a root, which `parent_id` will say only after the flush.
    return sibling.parent_id


def _place(children: list[Any], node: Any, index: int) -> None:
    """Order a loaded list without events: the node is in it already."""
    others = [child for child in children if child is not node]
    others.insert(index, node)
    list[Any].__setitem__(children, slice(None), others)
