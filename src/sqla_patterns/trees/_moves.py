"""`move_to`: the move of a node in memory, which the next flush carries out in the table."""

from __future__ import annotations

from sqlalchemy import inspect
from sqlalchemy.orm.attributes import set_attribute

from .._sqlalchemy import changed
from .._typing import MappedObject, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._errors import InvalidMoveError
from ._loaded_children import replace_list
from ._loaded_state import describe, loaded_list, loaded_parent
from ._placement_hints import PlacementHint, set_hint
from ._tree import tree_of

_POSITIONS = ("first_child", "last_child", "before", "after")


def move_to(node: MappedObject, target: MappedObject, position: str) -> None:
    """Move a node in memory (see `TreeNode.move_to`)."""
    config = tree_of(node).config
    if position not in _POSITIONS:
        known = ", ".join(repr(name) for name in _POSITIONS)
        raise InvalidArgumentError(f"{position!r} is no place in a tree; known are {known}")
    if target is None:
        if position not in ("last_child", "first_child"):
            raise InvalidArgumentError(
                f"move_to(None) makes a root and cannot be {position!r} nothing; name a root instead"
            )
        _to_root(node, PlacementHint(side="first" if position == "first_child" else "last"))
        return
    if not isinstance(target, config.cls):
        raise InvalidArgumentError(f"{describe(node)} cannot move to {target!r}, which is no {config.name}")
    if target is node:
        raise InvalidMoveError(f"{describe(node)} cannot move {_words(position)} itself")
    if position in ("before", "after") and config.sorts_by_attributes:
        raise InvalidArgumentError(
            f"siblings of {config.name} sort by {', '.join(config.order_attrs[:-1])}; "
            f"{position!r} has no meaning there: change what they sort by"
        )
    _refuse_descendant(node, target, position)
    if position in ("first_child", "last_child"):
        _to_child(node, target, PlacementHint(side="first" if position == "first_child" else "last"))
    else:
        _to_sibling(node, target, PlacementHint(side=position, anchor=target))


def _words(position: str) -> str:
    return {"first_child": "into", "last_child": "into"}.get(position, position)


def _refuse_descendant(node: MappedObject, target: MappedObject, position: str) -> None:
    """Refuse a move of a node to below itself, as far as the nodes are loaded."""
    seen: set[int] = set()
    above = target if position in ("first_child", "last_child") else loaded_parent(target)
    while above is not None and id(above) not in seen:
        if above is node:
            raise InvalidMoveError(
                f"{describe(node)} cannot move {_words(position)} {describe(target)}, which lies below it"
            )
        seen.add(id(above))
        above = loaded_parent(above)


def _to_root(node: MappedObject, hint: PlacementHint) -> None:
    set_attribute(node, "parent", None)
    # An unloaded parent hides the change from the relationship, so say it with the column too.
    if node.__dict__.get("parent_id") is not None or "parent_id" not in node.__dict__:
        set_attribute(node, "parent_id", None)
    set_hint(node, hint, flag="position")


def _to_child(node: MappedObject, parent: MappedObject, hint: PlacementHint) -> None:
    set_attribute(node, "parent", parent)
    children = loaded_list(parent)
    if children is not None:
        _place(children, node, 0 if hint.side == "first" else len(children))
        hint.in_loaded_list, hint.reordered_parent = True, parent
    set_hint(node, hint, flag="position")


def _to_sibling(node: MappedObject, sibling: MappedObject, hint: PlacementHint) -> None:
    parent_id = _parent_id_of(sibling)  # Loads an expired sibling, whose parent can be told then.
    parent = loaded_parent(sibling)
    if parent is not None:
        set_attribute(node, "parent", parent)
        children = loaded_list(parent)
        if children is not None and any(child is sibling for child in children):
            others = [child for child in children if child is not node]
            index = next(i for i, child in enumerate(others) if child is sibling)
            _place(children, node, index + (hint.side == "after"))
            hint.in_loaded_list, hint.reordered_parent = True, parent
    elif parent_id is None:
        _to_root(node, hint)
    else:
        set_attribute(node, "parent_id", parent_id)
    set_hint(node, hint, flag="position")


def _parent_id_of(sibling: MappedObject) -> PrimaryKey:
    """Return the primary key of the parent that `sibling` has or will have, where no object of it is loaded."""
    state = inspect(sibling)
    if changed(state, "parent") and not changed(state, "parent_id"):
        return None  # Made a root, which `parent_id` will say only after the flush.
    return sibling.parent_id


def _place(children: list[MappedObject], node: MappedObject, index: int) -> None:
    """Put a node at another place of the loaded list that contains it, without events."""
    others = [child for child in children if child is not node]
    others.insert(index, node)
    replace_list(children, others)
