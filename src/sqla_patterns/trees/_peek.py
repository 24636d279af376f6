"""What a node says without SQL."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import inspect

from ._sa import changed

__all__ = ("describe", "identity_of", "loaded_list", "loaded_map", "loaded_parent")


def describe(node: Any) -> str:
    """A node, for the text of an error."""
    key = identity_of(node)
    return f"<new {type(node).__name__}>" if key is None else f"<{type(node).__name__} {key!r}>"


def identity_of(node: Any) -> Any:
    """The primary key of a node that has a row, else None."""
    identity = inspect(node).identity
    return identity[0] if identity else None


def loaded_parent(node: Any) -> Any:
    """The parent of `node` if it can be told without SQL, else None."""
    state = inspect(node)
    parent = node.__dict__.get("parent")
    # Of two that disagree, the one that was set since the last flush is right.
    if changed(state, "parent") or (parent is not None and not changed(state, "parent_id")):
        return parent
    key = node.__dict__.get("parent_id")
    if key is None or state.session is None:
        return None
    return state.session.identity_map.get(state.mapper.base_mapper.identity_key_from_primary_key((key,)))


def loaded_list(node: Any) -> list[Any] | None:
    """The children of a `TreeNode` as they are in memory; None where they are not loaded or no list."""
    children: Any = node.__dict__.get("children") if node is not None else None
    return cast("Any", children) if isinstance(children, list) else None


def loaded_map(node: Any) -> dict[Any, Any] | None:
    """The children of a `KeyedTreeNode` as they are in memory; None where they are not loaded or no dictionary."""
    children: Any = node.__dict__.get("children") if node is not None else None
    return cast("Any", children) if isinstance(children, dict) else None
