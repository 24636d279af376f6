"""Load trees: one SELECT, and every link between the loaded nodes in place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

from sqlalchemy import Integer, and_, literal, select
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value

from .._locks import allow_deep_recursion
from ..exceptions import InvalidArgumentError
from ._collections import KeyedChildren
from ._config import TreeConfig, config_of
from ._node import NodeT
from ._peek import identity_of
from ._predicates import key_of, keys_of
from ._sa import changed, key_of_state, state_of

__all__ = ("TreeRow", "load_rows", "load_tree", "lowest_common_ancestor", "walk_tree")

T = TypeVar("T")


class TreeRow(NamedTuple, Generic[T]):
    """A node and how many edges it lies below the root that was asked for."""

    node: T
    depth: int


def load_tree(
    session: Session, entity: type[NodeT], root: object = None, *, max_depth: int | None = None
) -> Sequence[NodeT]:
    """Load whole trees and return their roots, in order.

    Args:
        entity: the tree class.
        root: load what lies below this node, itself included: an instance, a primary key, or a sequence of either. None loads all
            trees of the table.
        max_depth: how many edges below the root; None for all.

    ``children`` and ``parent`` of all loaded nodes are populated, leaves included, so that walking them emits nothing, also where
    relationships are set to raise; the ``children`` of nodes at `max_depth` are left unloaded, and so is the ``parent`` of a
    `root` that has one. Changes that are pending in the session survive.

    One SELECT. Raises what `descendant_of` raises.
    """
    return [row.node for row in load_rows(session, entity, root, max_depth) if row.depth == 0]


def walk_tree(
    session: Session, entity: type[NodeT], root: object = None, *, max_depth: int | None = None
) -> Sequence[TreeRow[NodeT]]:
    """Load as `load_tree` does and return all nodes depth first, with their depths; one SELECT."""
    return load_rows(session, entity, root, max_depth)


def load_rows(
    session: Session,
    entity: type[NodeT],
    root: object = None,
    max_depth: int | None = None,
    *,
    options: Sequence[Any] = (),
) -> list[TreeRow[NodeT]]:
    """Load nodes depth first and link them, with loader `options` for the one SELECT."""
    config = config_of(entity)
    if max_depth is not None and max_depth < 0:
        raise InvalidArgumentError(f"max_depth counts edges and cannot be {max_depth}; use None for no limit")
    starts = None if root is None else keys_of(config, root)
    by_key: dict[Any, Any] = {}
    below: dict[Any, list[Any]] = defaultdict(list)
    for node in _select_nodes(session, config, starts, max_depth, options):
        by_key[key_of_state(state_of(node))] = node
        below[node.parent_id].append(node)
    if starts is None:
        tops = below.get(None, [])
    else:
        wanted = set(starts)
        tops = [node for key, node in by_key.items() if key in wanted and not _below_other(node, wanted, by_key)]
    rows: list[TreeRow[Any]] = []
    stack = [(node, 0) for node in reversed(tops)]
    seen: set[int] = set()
    while stack:
        node, depth = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        rows.append(TreeRow(node, depth))
        state = state_of(node)
        parent_id = node.parent_id
        # A node that was asked for keeps what it knows of a parent that was not.
        if depth or parent_id is None:
            _set_parent(state, node, by_key.get(parent_id))
        if max_depth is not None and depth == max_depth:
            continue
        children = below.get(key_of_state(state), [])
        _set_children(config, state, node, children)
        stack += [(child, depth + 1) for child in reversed(children)]
    return rows


def _below_other(node: Any, wanted: set[Any], by_key: dict[Any, Any]) -> bool:
    seen: set[int] = set()
    above = by_key.get(node.parent_id)
    while above is not None and id(above) not in seen:
        if above is not node and identity_of(above) in wanted:
            return True
        seen.add(id(above))
        above = by_key.get(above.parent_id)
    return False


def _select_nodes(
    session: Session, config: TreeConfig, starts: list[Any] | None, max_depth: int | None, options: Sequence[Any]
) -> Sequence[Any]:
    allow_deep_recursion(session.connection(bind_arguments={"mapper": config.mapper}))
    # The class that carries the tree, whichever subclass was asked for: a path may lead through other kinds of node.
    statement = select(config.cls).options(*options).order_by(*config.order_by)
    if starts is not None:
        statement = statement.where(config.index.descendants(config.cls, starts, inclusive=True, max_depth=max_depth))
    elif max_depth is not None:
        statement = statement.where(config.index.within(config.cls, max_depth))
    return session.scalars(statement).all()


def _set_parent(state: InstanceState[Any], node: Any, parent: Any) -> None:
    if state.committed_state and (changed(state, "parent") or changed(state, "parent_id")):
        return
    if "parent" not in state.dict or state.dict["parent"] is not parent:
        set_committed_value(node, "parent", parent)


def _set_children(config: TreeConfig, state: InstanceState[Any], node: Any, children: list[Any]) -> None:
    if state.committed_state and changed(state, "children"):
        return  # Changed and not flushed: what the user did stays.
    present = state.dict.get("children")
    if present is not None and _same_members(config, present, children):
        return  # Keep the very collection that the user may hold.
    set_committed_value(node, "children", children)


def _same_members(config: TreeConfig, present: Any, children: list[Any]) -> bool:
    if len(present) != len(children):
        return False
    if isinstance(present, KeyedChildren):
        return all(present.get(getattr(child, config.key_attr or "")) is child for child in children)
    return all(one is other for one, other in zip(present, children, strict=True))


def lowest_common_ancestor(session: Session, a: NodeT, b: NodeT) -> NodeT | None:
    """The deepest node that both `a` and `b` lie below or are; None where they are in different trees.

    One SELECT. Raises `StateError` for a node without identity.
    """
    config = config_of(a)
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    allow_deep_recursion(connection)
    first, second = (_up(config, key_of(config, node)) for node in (a, b))
    pk = getattr(config.cls, config.pk_attr)
    statement = (
        select(config.cls)
        .join(first, pk == first.c.pk)
        .join(second, pk == second.c.pk)
        .order_by(first.c.distance)
        .limit(1)
    )
    return cast("NodeT | None", session.scalars(statement).first())


def _up(config: TreeConfig, key: Any) -> Any:
    """``(pk, parent_id, distance)`` of a node and of all above it; bounded, should the links run in a circle."""
    zero = literal(0, Integer)
    up = (
        select(config.pk.label("pk"), config.parent_id.label("parent_id"), zero.label("distance"))
        .where(config.pk == key)
        .cte(recursive=True, nesting=True)
    )
    above = select(config.pk, config.parent_id, up.c.distance + 1).join(
        up, and_(config.pk == up.c.parent_id, up.c.distance < 100_000)
    )
    return up.union_all(above)
