"""Criteria for where in the tree a row lies.

Each function takes the entity on which the mixin's classmethod was called, the class or an alias of it, and returns a
`ColumnElement[bool]` over that entity. Structure is always read from the bare table, so criteria that a session adds to
entities cannot hide a part of a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy import ColumnElement, and_, exists, inspect, literal, not_, or_, select
from sqlalchemy.orm import aliased
from sqlalchemy.orm.util import AliasedClass

from .._typing import AnyExpression, PrimaryKey
from ..exceptions import InvalidArgumentError, StateError
from ._config import Entity, TreeConfig
from ._tree import Tree, tree_of


def resolve_pk(config: TreeConfig, node: object) -> PrimaryKey:
    """Return the primary key meant by `node`, an instance or a primary key.

    Raises:
        StateError: An instance without identity.
        InvalidArgumentError: An instance of something else, or None.
    """
    insp = inspect(node, raiseerr=False)
    if insp is None:
        if node is None:
            raise InvalidArgumentError(f"expected a {config.name} or a primary key of one, not None")
        return node
    if not isinstance(node, config.cls):
        raise InvalidArgumentError(f"{node!r} is no {config.name}")
    if insp.identity is not None:
        return insp.identity[0]
    raise StateError(
        f"this {config.name} has no primary key yet, so no row can be compared with it: add it to a session and flush "
        "first"
    )


def resolve_pks(config: TreeConfig, node: object) -> list[PrimaryKey]:
    """Return the primary keys meant by `node`: one, or a sequence of instances and primary keys."""
    if isinstance(node, (list, tuple, set, frozenset)):
        return [resolve_pk(config, each) for each in cast("Sequence[object]", node)]
    return [resolve_pk(config, node)]


def descendant_of(
    entity: Entity, node: object, *, inclusive: bool = False, max_depth: int | None = None
) -> ColumnElement[bool]:
    """Match `entity` below `node` (see `TreeNode.descendant_of`)."""
    tree = tree_of(entity)
    if max_depth is not None and max_depth < 0:
        raise InvalidArgumentError(f"max_depth counts edges and cannot be {max_depth}; use None for no limit")
    other = _other_entity(tree, node)
    if other is not None:
        return tree.index.related(ancestor=other, descendant=entity, inclusive=inclusive, max_depth=max_depth)
    keys = resolve_pks(tree.config, node)
    return tree.index.descendants(entity, keys, inclusive=inclusive, max_depth=max_depth)


def ancestor_of(entity: Entity, node: object, *, inclusive: bool = False) -> ColumnElement[bool]:
    """Match `entity` above `node` (see `TreeNode.ancestor_of`)."""
    tree = tree_of(entity)
    other = _other_entity(tree, node)
    if other is not None:
        return tree.index.related(ancestor=entity, descendant=other, inclusive=inclusive)
    return tree.index.ancestors(entity, resolve_pks(tree.config, node), inclusive=inclusive)


def child_of(entity: Entity, node: object) -> ColumnElement[bool]:
    """Match `entity` one step below `node` (see `TreeNode.child_of`)."""
    tree = tree_of(entity)
    other = _other_entity(tree, node)
    parent_id = _parent_id(entity)
    if other is not None:
        return parent_id == tree.config.pk_attribute(other)
    return parent_id.in_(resolve_pks(tree.config, node))


def sibling_of(entity: Entity, node: object, *, inclusive: bool = False) -> ColumnElement[bool]:
    """Match `entity` with the parent of `node` (see `TreeNode.sibling_of`)."""
    tree = tree_of(entity)
    config = tree.config
    other = _other_entity(tree, node)
    if other is not None:
        shared = _same_parent(_parent_id(entity), _parent_id(other))
        return shared if inclusive else and_(shared, config.pk_attribute(entity) != config.pk_attribute(other))
    # Of the class, so that the session's criteria apply: whoever does not see the node does not see its siblings.
    alias = aliased(config.cls, config.table.alias())
    pk, parent_id = config.pk_attribute(alias), _parent_id(alias)
    match = and_(pk.in_(resolve_pks(config, node)), _same_parent(_parent_id(entity), parent_id))
    if not inclusive:
        match = and_(match, pk != config.pk_attribute(entity))
    return exists(select(literal(1)).select_from(alias).where(match))


def is_root(entity: Entity) -> ColumnElement[bool]:
    """Match `entity` without a parent."""
    tree_of(entity)
    return _parent_id(entity).is_(None)


def is_leaf(entity: Entity) -> ColumnElement[bool]:
    """Match `entity` without children."""
    config = tree_of(entity).config
    # Of the class: a child that the session's criteria hide is none.
    child = aliased(config.cls, config.table.alias())
    has_parent = _parent_id(child) == config.pk_attribute(entity)
    return not_(exists(select(literal(1)).select_from(child).where(has_parent)))


def _other_entity(tree: Tree, node: object) -> Entity | None:
    """Return `node` if it is a mapped class or an alias, to correlate with; else None.

    Raises:
        InvalidArgumentError: It is one of another tree.
    """
    if not isinstance(node, (type, AliasedClass)):
        return None
    entity = cast("Entity", node)
    if tree_of(entity).config.cls is not tree.config.cls:
        raise InvalidArgumentError(f"{entity!r} belongs to another tree than {tree.config.name}")
    return entity


def _parent_id(entity: Entity) -> AnyExpression:
    parent_id: AnyExpression = entity.parent_id
    return parent_id


def _same_parent(one: AnyExpression, other: AnyExpression) -> ColumnElement[bool]:
    # Not IS NOT DISTINCT FROM, which PostgreSQL cannot answer from an index.
    return or_(one == other, and_(one.is_(None), other.is_(None)))
