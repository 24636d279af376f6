"""Where in the tree a row lies, as criteria.

Each function takes the entity on which the mixin's classmethod was called, the class or an alias of it, and returns a
`ColumnElement[bool]` over that entity. Structure is always read from the bare table, so criteria that a session adds to
entities cannot hide a part of a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, and_, exists, inspect, literal, not_, or_, select
from sqlalchemy.orm.util import AliasedClass

from ..exceptions import InvalidArgumentError, StateError
from ._config import TreeConfig, config_of

__all__ = (
    "ancestor_of",
    "child_of",
    "descendant_of",
    "is_leaf",
    "is_root",
    "key_of",
    "keys_of",
    "sibling_of",
)


def key_of(config: TreeConfig, node: object) -> Any:
    """The primary key meant by `node`, an instance or a key.

    Raises:
        StateError: an instance without identity.
        InvalidArgumentError: an instance of something else, or None.
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
        f"this {config.name} has no primary key yet, so no row can be compared with it: add it to a session and flush first"
    )


def keys_of(config: TreeConfig, node: object) -> list[Any]:
    """The primary keys meant by `node`: one, or a sequence of instances and keys."""
    if isinstance(node, (list, tuple, set, frozenset)):
        return [key_of(config, item) for item in cast("Sequence[object]", node)]
    return [key_of(config, node)]


def _entity(node: object) -> Any:
    """`node` itself if it is a mapped class or an alias, to correlate with; else None."""
    return cast("Any", node) if isinstance(node, (type, AliasedClass)) else None


def _pk(entity: Any, config: TreeConfig) -> Any:
    return getattr(entity, config.pk_attr)


def descendant_of(
    entity: Any, node: object, *, inclusive: bool = False, max_depth: int | None = None
) -> ColumnElement[bool]:
    config = config_of(entity)
    if max_depth is not None and max_depth < 0:
        raise InvalidArgumentError(f"max_depth counts edges and cannot be {max_depth}; use None for no limit")
    other = _entity(node)
    if other is not None:
        _same_tree(config, other)
        return config.index.related(other, entity, inclusive=inclusive, max_depth=max_depth)
    return config.index.descendants(entity, keys_of(config, node), inclusive=inclusive, max_depth=max_depth)


def ancestor_of(entity: Any, node: object, *, inclusive: bool = False) -> ColumnElement[bool]:
    config = config_of(entity)
    other = _entity(node)
    if other is not None:
        _same_tree(config, other)
        return config.index.related(entity, other, inclusive=inclusive)
    return config.index.ancestors(entity, keys_of(config, node), inclusive=inclusive)


def child_of(entity: Any, node: object) -> ColumnElement[bool]:
    config = config_of(entity)
    other = _entity(node)
    if other is not None:
        _same_tree(config, other)
        return cast("ColumnElement[bool]", entity.parent_id == _pk(other, config))
    return cast("ColumnElement[bool]", entity.parent_id.in_(keys_of(config, node)))


def sibling_of(entity: Any, node: object, *, inclusive: bool = False) -> ColumnElement[bool]:
    config = config_of(entity)
    other = _entity(node)
    if other is not None:
        _same_tree(config, other)
        shared = _same_parent(entity.parent_id, other.parent_id)
        return shared if inclusive else and_(shared, _pk(entity, config) != _pk(other, config))
    alias = config.table.alias()
    pk, parent_id = alias.c[config.pk.key], alias.c[config.parent_id.key]
    match = and_(pk.in_(keys_of(config, node)), _same_parent(entity.parent_id, parent_id))
    if not inclusive:
        match = and_(match, pk != _pk(entity, config))
    return exists(select(literal(1)).select_from(alias).where(match))


def is_root(entity: Any) -> ColumnElement[bool]:
    config_of(entity)
    return cast("ColumnElement[bool]", entity.parent_id.is_(None))


def is_leaf(entity: Any) -> ColumnElement[bool]:
    config = config_of(entity)
    child = config.table.alias()
    return not_(
        exists(select(literal(1)).select_from(child).where(child.c[config.parent_id.key] == _pk(entity, config)))
    )


def _same_parent(one: Any, other: Any) -> ColumnElement[bool]:
    # Not IS NOT DISTINCT FROM, which PostgreSQL cannot answer from an index.
    return or_(one == other, and_(one.is_(None), other.is_(None)))


def _same_tree(config: TreeConfig, entity: Any) -> None:
    if config_of(entity).cls is not config.cls:
        raise InvalidArgumentError(f"{entity!r} belongs to another tree than {config.name}")
