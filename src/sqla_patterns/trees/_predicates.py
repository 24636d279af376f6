"""Where in the tree a row lies, as criteria.

Each function takes the entity on which the mixin's classmethod was called, the class or an alias of it, and returns a
`ColumnElement[bool]` over that entity. Structure is always read from the bare table, so criteria that a session adds to
entities cannot hide a part of a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CTE, ColumnElement, Integer, and_, exists, inspect, literal, not_, or_, select, tuple_
from sqlalchemy.orm.util import AliasedClass

from ..exceptions import InvalidArgumentError, StateError
from ._config import TreeConfig, config_of

__all__ = (
    "ancestor_of",
    "ancestors_cte",
    "child_of",
    "descendant_of",
    "descendants_cte",
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


def descendants_cte(config: TreeConfig, keys: Sequence[Any], *, inclusive: bool, max_depth: int | None = None) -> CTE:
    """``(pk)`` of everything below `keys`; with `max_depth`, ``(pk, depth)``.

    UNION, not UNION ALL: it ends on a cycle that somebody wrote past the ORM. A depth would tell the rounds apart, so there is
    one only where it also bounds them.
    """
    table, pk, parent_id = config.table, config.pk, config.parent_id
    start = pk.in_(keys) if inclusive else parent_id.in_(keys)
    if max_depth is None:
        down = select(pk.label("pk")).select_from(table).where(start).cte(recursive=True, nesting=True)
        return down.union(select(pk).join(down, parent_id == down.c.pk))
    first = literal(0 if inclusive else 1, Integer)
    down = (
        select(pk.label("pk"), first.label("depth")).select_from(table).where(start).cte(recursive=True, nesting=True)
    )
    deeper = select(pk, down.c.depth + 1).join(down, parent_id == down.c.pk).where(down.c.depth < max_depth)
    return down.union(deeper)


def ancestors_cte(config: TreeConfig, keys: Sequence[Any]) -> CTE:
    """``(pk, parent_id)`` of `keys` and of everything above them."""
    pk, parent_id = config.pk, config.parent_id
    up = select(pk.label("pk"), parent_id.label("parent_id")).where(pk.in_(keys)).cte(recursive=True, nesting=True)
    return up.union(select(pk, parent_id).join(up, pk == up.c.parent_id))


def _closure(config: TreeConfig, max_depth: int | None = None) -> CTE:
    """``(ancestor, descendant)`` for the whole table, each node with itself included.

    A CTE that refers to the outer query is refused by MariaDB; this one refers to nothing and is computed once.
    """
    pk, parent_id = config.pk, config.parent_id
    columns = [pk.label("ancestor"), pk.label("descendant")]
    if max_depth is None:
        pairs = select(*columns).cte(recursive=True, nesting=True)
        return pairs.union(select(pairs.c.ancestor, pk).join(pairs, parent_id == pairs.c.descendant))
    pairs = select(*columns, literal(0, Integer).label("depth")).cte(recursive=True, nesting=True)
    deeper = (
        select(pairs.c.ancestor, pk, pairs.c.depth + 1)
        .join(pairs, parent_id == pairs.c.descendant)
        .where(pairs.c.depth < max_depth)
    )
    return pairs.union(deeper)


def _related(ancestor: Any, descendant: Any, closure: CTE, *, inclusive: bool) -> ColumnElement[bool]:
    pair = tuple_(ancestor, descendant).in_(select(closure.c.ancestor, closure.c.descendant))
    return pair if inclusive else and_(pair, ancestor != descendant)


def descendant_of(
    entity: Any, node: object, *, inclusive: bool = False, max_depth: int | None = None
) -> ColumnElement[bool]:
    config = config_of(entity)
    if max_depth is not None and max_depth < 0:
        raise InvalidArgumentError(f"max_depth counts edges and cannot be {max_depth}; use None for no limit")
    other = _entity(node)
    if other is not None:
        _same_tree(config, other)
        closure = _closure(config, max_depth)
        return _related(_pk(other, config), _pk(entity, config), closure, inclusive=inclusive)
    down = descendants_cte(config, keys_of(config, node), inclusive=inclusive, max_depth=max_depth)
    found = _pk(entity, config).in_(select(down.c.pk))
    if max_depth == 0 and not inclusive:
        return and_(found, literal(False))
    return cast("ColumnElement[bool]", found)


def ancestor_of(entity: Any, node: object, *, inclusive: bool = False) -> ColumnElement[bool]:
    config = config_of(entity)
    other = _entity(node)
    if other is not None:
        _same_tree(config, other)
        return _related(_pk(entity, config), _pk(other, config), _closure(config), inclusive=inclusive)
    up = ancestors_cte(config, keys_of(config, node))
    # A node lies above `node` when it is the parent of something on the way up.
    wanted = up.c.pk if inclusive else up.c.parent_id
    return cast("ColumnElement[bool]", _pk(entity, config).in_(select(wanted).where(wanted.is_not(None))))


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
