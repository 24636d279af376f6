"""Where in a graph a row lies, as criteria.

Each function takes the entity on which the mixin's classmethod was called, the class or an alias of it, and returns a
`ColumnElement[bool]` over that entity.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CTE, ColumnElement, Integer, and_, exists, false, func, inspect, literal, or_, select, tuple_
from sqlalchemy.orm.util import AliasedClass

from ..exceptions import InvalidArgumentError
from ._config import EdgeConfig, Edges, edges_of, keys_of

__all__ = ("between", "check_within", "is_sink", "is_source", "reach", "reachable_from", "reaching")


def check_within(within: int | None) -> None:
    if within is not None and within < 0:
        raise InvalidArgumentError(f"within counts edges and cannot be {within}; use None for any number")


def reach(
    edges: Edges, keys: list[Any], *, up: bool, inclusive: bool, within: int | None = None, nesting: bool = True
) -> CTE:
    """``(key)`` of what can be reached from `keys`, going up or down; with `within` also ``hop``.

    UNION on the key alone ends on cycles. A hop would tell the rounds apart, so there is one only where it also bounds them.
    """
    config, pairs = edges.config, edges.pairs()
    here, there = (pairs.c.lower_key, pairs.c.higher_key) if up else (pairs.c.higher_key, pairs.c.lower_key)
    if inclusive:
        first = select(config.node_pk.label("key")).where(config.node_pk.in_(keys))
    else:
        start = edges.pairs()
        columns = (start.c.lower_key, start.c.higher_key) if up else (start.c.higher_key, start.c.lower_key)
        first = select(columns[1].label("key")).where(columns[0].in_(keys))
    if within is None:
        found = first.cte(recursive=True, nesting=nesting)
        return found.union(select(there).join(found, here == found.c.key))
    found = first.add_columns(literal(0 if inclusive else 1, Integer).label("hop")).cte(recursive=True, nesting=nesting)
    return found.union(select(there, found.c.hop + 1).join(found, here == found.c.key).where(found.c.hop < within))


def between(edges: Edges, starts: list[Any], ends: list[Any]) -> ColumnElement[bool]:
    """Match the edges on any way from one of `starts` to one of `ends`."""
    config = edges.config
    up = reach(edges, starts, up=True, inclusive=True)
    down = reach(edges, ends, up=False, inclusive=True)
    # Not the bare column: SQLite would look each pair of the two sets up in the primary key, which is a product of them.
    higher = func.coalesce(config.higher, config.higher)
    return and_(config.lower.in_(select(up.c.key)), higher.in_(select(down.c.key)))


def _closure(edges: Edges, within: int | None) -> CTE:
    """``(start, key)`` for all pairs of nodes with a path between them.

    A CTE that refers to the outer query is refused by MariaDB; this one refers to nothing and is computed once.
    """
    start, pairs = edges.pairs(), edges.pairs()
    first = select(start.c.lower_key.label("start"), start.c.higher_key.label("key"))
    if within is None:
        found = first.cte(recursive=True, nesting=True)
        return found.union(select(found.c.start, pairs.c.higher_key).join(found, pairs.c.lower_key == found.c.key))
    found = first.add_columns(literal(1, Integer).label("hop")).cte(recursive=True, nesting=True)
    further = select(found.c.start, pairs.c.higher_key, found.c.hop + 1)
    return found.union(further.join(found, pairs.c.lower_key == found.c.key).where(found.c.hop < within))


def reachable_from(entity: Any, node: object, edge: Any, *, within: int | None, inclusive: bool) -> ColumnElement[bool]:
    return _reaches(entity, node, edge, within=within, inclusive=inclusive, up=True)


def reaching(entity: Any, node: object, edge: Any, *, within: int | None, inclusive: bool) -> ColumnElement[bool]:
    return _reaches(entity, node, edge, within=within, inclusive=inclusive, up=False)


def _reaches(
    entity: Any, node: object, edge: Any, *, within: int | None, inclusive: bool, up: bool
) -> ColumnElement[bool]:
    check_within(within)
    edges = edges_of(entity, edge)
    config = edges.config
    here = getattr(entity, config.pk_attr)
    if isinstance(node, (type, AliasedClass)):
        return _joined(edges, here, _other_key(config, node), within=within, inclusive=inclusive, up=up)
    keys = keys_of(config, node)
    if within == 0 and not inclusive:
        return false()
    found = reach(edges, keys, up=up, inclusive=inclusive, within=within)
    return cast("ColumnElement[bool]", here.in_(select(found.c.key)))


def _joined(
    edges: Edges, here: Any, other: Any, *, within: int | None, inclusive: bool, up: bool
) -> ColumnElement[bool]:
    if within == 0:
        return cast("ColumnElement[bool]", here == other) if inclusive else false()
    closure = _closure(edges, within)
    start, end = (other, here) if up else (here, other)
    pair = tuple_(start, end).in_(select(closure.c.start, closure.c.key))
    return or_(pair, here == other) if inclusive else pair


def _other_key(config: EdgeConfig, other: Any) -> Any:
    insp = inspect(other, raiseerr=False)
    if insp is None or not issubclass(insp.mapper.class_, config.node):
        raise InvalidArgumentError(f"{other!r} is no {config.node_name}, nor an alias of it")
    return getattr(other, config.pk_attr)


def is_source(entity: Any, edge: Any) -> ColumnElement[bool]:
    return _without(entity, edge, "higher_key")


def is_sink(entity: Any, edge: Any) -> ColumnElement[bool]:
    return _without(entity, edge, "lower_key")


def _without(entity: Any, edge: Any, side: str) -> ColumnElement[bool]:
    edges = edges_of(entity, edge)
    pairs = edges.pairs()
    return ~exists(select(literal(1)).select_from(pairs).where(pairs.c[side] == getattr(entity, edges.config.pk_attr)))
