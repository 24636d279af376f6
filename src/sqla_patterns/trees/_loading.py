"""Load whole trees by one SELECT, with ``parent`` and ``children`` of all loaded nodes populated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar, cast

from sqlalchemy import CTE, Integer, and_, literal, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.base import ExecutableOption

from .._locks import allow_deep_recursion
from .._session import SyncSession, at_object, require_class, resolve_session
from .._sql import structural_part
from .._sqlalchemy import changed, pk_of_state, state_of
from .._typing import AnyState, MappedObject, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._collections import KeyedChildren
from ._config import TreeConfig
from ._loaded_state import pk_of
from ._mixins import NodeT
from ._predicates import resolve_pk, resolve_pks
from ._tree import Tree, tree_of

T = TypeVar("T")


class TreeRow(NamedTuple, Generic[T]):
    """A node, and how many edges it lies below the root that was asked for."""

    node: T
    depth: int


@at_object
def load_tree(
    session: SyncSession, entity: type[NodeT], root: object = None, *, max_depth: int | None = None
) -> Sequence[NodeT]:
    """Load whole trees and return their roots, in order; one SELECT.

    ``children`` and ``parent`` of all loaded nodes are populated, leaves included, so that walking them emits nothing,
    also where relationships are set to raise. The ``children`` of nodes at `max_depth` are left unloaded, and so is the
    ``parent`` of a `root` that has one. Changes that are pending in the session survive.

    Args:
        session: The session.
        entity: The tree class.
        root: What to load, with all that lies below it: an instance, a primary key, or a sequence of either. None loads
            all trees of the table.
        max_depth: How many edges below the root; None for all.

    Raises:
        StateError: An instance has no primary key yet.
        InvalidArgumentError: `root` is none of the above, or `max_depth` is negative.
    """
    session = resolve_session(session, "load_tree")
    require_class(entity, "load_tree", "root")
    return [row.node for row in load_rows(session, entity, root, max_depth) if row.depth == 0]


@at_object
def walk_tree(
    session: SyncSession, entity: type[NodeT], root: object = None, *, max_depth: int | None = None
) -> Sequence[TreeRow[NodeT]]:
    """Load trees as `load_tree` does and return all nodes depth first, with their depths; one SELECT.

    Args:
        session: The session.
        entity: The tree class.
        root: What to load, as in `load_tree`.
        max_depth: How many edges below the root; None for all.
    """
    session = resolve_session(session, "walk_tree")
    require_class(entity, "walk_tree", "root")
    return load_rows(session, entity, root, max_depth)


def load_rows(
    session: Session,
    entity: type[NodeT],
    root: object = None,
    max_depth: int | None = None,
    *,
    options: Sequence[ExecutableOption] = (),
) -> list[TreeRow[NodeT]]:
    """Load nodes by one SELECT with loader `options`, populate their relationships, and return them depth first."""
    tree = tree_of(entity)
    config = tree.config
    if max_depth is not None and max_depth < 0:
        raise InvalidArgumentError(f"max_depth counts edges and cannot be {max_depth}; use None for no limit")
    starts = None if root is None else resolve_pks(config, root)
    by_key: dict[PrimaryKey, MappedObject] = {}
    below: dict[PrimaryKey, list[MappedObject]] = defaultdict(list)
    for node in _select_nodes(session, tree, starts, max_depth, options):
        by_key[pk_of_state(state_of(node))] = node
        below[node.parent_id].append(node)
    if starts is None:
        tops = below.get(None, [])
    else:
        wanted = set(starts)
        tops = [node for key, node in by_key.items() if key in wanted and not _below_other(node, wanted, by_key)]
    rows: list[TreeRow[NodeT]] = []
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
        # A node that was asked for keeps the parent that it shows, if that was not asked for.
        if depth or parent_id is None:
            _set_parent(state, node, by_key.get(parent_id))
        if max_depth is not None and depth == max_depth:
            continue
        children = below.get(pk_of_state(state), [])
        _set_children(config, state, node, children)
        stack += [(child, depth + 1) for child in reversed(children)]
    return rows


def _below_other(node: MappedObject, wanted: set[PrimaryKey], by_key: dict[PrimaryKey, MappedObject]) -> bool:
    """Return whether a wanted node lies below another wanted one."""
    seen: set[int] = set()
    above = by_key.get(node.parent_id)
    while above is not None and id(above) not in seen:
        if above is not node and pk_of(above) in wanted:
            return True
        seen.add(id(above))
        above = by_key.get(above.parent_id)
    return False


def _select_nodes(
    session: Session,
    tree: Tree,
    starts: list[PrimaryKey] | None,
    max_depth: int | None,
    options: Sequence[ExecutableOption],
) -> Sequence[MappedObject]:
    config, index = tree.config, tree.index
    allow_deep_recursion(session.connection(bind_arguments={"mapper": config.mapper}))
    # The class that carries the tree, whichever subclass was asked for: a path may lead through other kinds of node.
    statement = select(config.cls).options(*options).order_by(*config.order_by)
    if starts is not None:
        statement = statement.where(index.descendants(config.cls, starts, inclusive=True, max_depth=max_depth))
    elif max_depth is not None:
        statement = statement.where(index.within_depth(config.cls, max_depth))
    return session.scalars(statement).unique().all()


def _set_parent(state: AnyState, node: MappedObject, parent: MappedObject) -> None:
    if state.committed_state and (changed(state, "parent") or changed(state, "parent_id")):
        return
    if "parent" not in state.dict or state.dict["parent"] is not parent:
        set_committed_value(node, "parent", parent)


def _set_children(config: TreeConfig, state: AnyState, node: MappedObject, children: list[MappedObject]) -> None:
    if state.committed_state and changed(state, "children"):
        return  # Changed and not flushed: what the user did stays.
    present = state.dict.get("children")
    if present is not None and _same_members(config, present, children):
        return  # Keep the very collection that the user may hold.
    set_committed_value(node, "children", children)


def _same_members(config: TreeConfig, present: MappedObject, children: list[MappedObject]) -> bool:
    """Return whether a loaded collection holds `children`, in this order where it has one."""
    if len(present) != len(children):
        return False
    if isinstance(present, KeyedChildren):
        return all(present.get(getattr(child, config.key_attr or "")) is child for child in children)
    return all(one is other for one, other in zip(present, children, strict=True))


@at_object
def lowest_common_ancestor(session: SyncSession, a: NodeT, b: NodeT) -> NodeT | None:
    """Return the deepest node that is above or equal to both `a` and `b`; None if they are in different trees.

    One SELECT.

    Args:
        session: The session.
        a: A node.
        b: Another node of the same class.

    Raises:
        StateError: A node has no identity.
    """
    session = resolve_session(session, "lowest_common_ancestor")
    config = tree_of(a).config
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    allow_deep_recursion(connection)
    first, second = (_distances_cte(config, resolve_pk(config, node)) for node in (a, b))
    pk = getattr(config.cls, config.pk_attr)
    statement = (
        select(config.cls)
        .join(first, pk == first.c.pk)
        .join(second, pk == second.c.pk)
        .order_by(first.c.distance)
        .limit(1)
    )
    return cast("NodeT | None", session.scalars(statement).unique().first())


def _distances_cte(config: TreeConfig, key: PrimaryKey) -> CTE:
    """Return ``(pk, parent_id, distance)`` of a node and of all above it; bounded, should the links form a cycle."""
    zero = literal(0, Integer)
    up = (
        structural_part(select(config.pk.label("pk"), config.parent_id.label("parent_id"), zero.label("distance")))
        .where(config.pk == key)
        .cte(recursive=True, nesting=True)
    )
    above = select(config.pk, config.parent_id, up.c.distance + 1).join(
        up, and_(config.pk == up.c.parent_id, up.c.distance < 100_000)
    )
    return up.union_all(structural_part(above))
