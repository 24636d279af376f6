"""Read the key, the parent and the children of a node as far as they are loaded, without SQL."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from .._sqlalchemy import changed, object_in_session
from .._typing import MappedObject, PrimaryKey
from ._config import TreeConfig

_Children: TypeAlias = list[MappedObject] | dict[object, MappedObject]


def describe(node: MappedObject) -> str:
    """Return a text that names a node, for an error."""
    pk = pk_of(node)
    return f"<new {type(node).__name__}>" if pk is None else f"<{type(node).__name__} {pk!r}>"


def pk_of(node: MappedObject) -> PrimaryKey:
    """Return the primary key of a node that has a row, else None."""
    identity = inspect(node).identity
    return identity[0] if identity else None


def known_pk(config: TreeConfig, node: MappedObject) -> PrimaryKey:
    """Return the primary key of a node that has a row, or else the one that it will have, as far as that is known."""
    pk = pk_of(node)
    return node.__dict__.get(config.pk_attr) if pk is None else pk


def loaded_node(session: Session, config: TreeConfig, pk: PrimaryKey) -> MappedObject:
    """Return the node with this primary key that the session holds, or None."""
    return object_in_session(session, config.mapper, (pk,))


def loaded_parent(node: MappedObject) -> MappedObject:
    """Return the parent of `node` if it can be told without SQL, else None."""
    state = inspect(node)
    parent = node.__dict__.get("parent")
    # Of two that disagree, the one that was set since the last flush is right.
    if changed(state, "parent") or (parent is not None and not changed(state, "parent_id")):
        return parent
    key = node.__dict__.get("parent_id")
    if key is None or state.session is None:
        return None
    return object_in_session(state.session, state.mapper.base_mapper, (key,), near=state)


def loaded_list(node: MappedObject) -> list[MappedObject] | None:
    """Return the children of a `TreeNode` as they are in memory; None where they are not loaded or no list."""
    children: _Children | None = node.__dict__.get("children") if node is not None else None
    return children if isinstance(children, list) else None


def loaded_map(node: MappedObject) -> dict[object, MappedObject] | None:
    """Return the children of a `KeyedTreeNode` as they are in memory; None if they are not loaded or no dictionary."""
    children: _Children | None = node.__dict__.get("children") if node is not None else None
    return children if isinstance(children, dict) else None
