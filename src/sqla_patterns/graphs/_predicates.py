"""Conditions on the place of a node in a graph, and the recursive common table expressions behind them.

Each public function takes the entity on which the mixin's classmethod was called, the class or an alias of it, and
returns a `ColumnElement[bool]` over that entity.
"""

from __future__ import annotations

from typing import cast

from sqlalchemy import CTE, ColumnElement, Integer, and_, exists, false, func, inspect, literal, or_, select, tuple_
from sqlalchemy.orm.util import AliasedClass

from .._sql import structural_part
from .._typing import AnyAttribute, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._config import EdgeConfig, Edges, edges_of, resolve_pks


def check_within(within: int | None) -> None:
    """Raise unless `within` is a number of edges, or None.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if within is not None and (not isinstance(cast("object", within), int) or within < 0):
        raise InvalidArgumentError(f"within counts edges and cannot be {within!r}; use None for any number")


def reach(
    edges: Edges, keys: list[PrimaryKey], *, up: bool, inclusive: bool, within: int | None = None, nesting: bool = True
) -> CTE:
    """Return a recursive CTE with the keys of the nodes that can be reached from other nodes.

    Its column is ``key``, and with `within` also ``hop``, the number of edges. A UNION of keys alone ends on cycles,
    since it drops the rows that it has already. With ``hop`` the rows of a cycle differ, so that the column exists only
    where it also limits the recursion.

    Args:
        edges: The edges to follow.
        keys: The keys of the nodes to start from.
        up: Follow the edges from lower to higher ends, rather than from higher to lower ones.
        inclusive: Include `keys` themselves.
        within: How many edges to follow at most; None for any number.
        nesting: Render the CTE at the place where it is used.
    """
    config, pairs = edges.config, edges.pairs()
    here, there = (pairs.c.lower_key, pairs.c.higher_key) if up else (pairs.c.higher_key, pairs.c.lower_key)
    if inclusive:
        first = structural_part(select(config.node_pk.label("key")).where(config.node_pk.in_(keys)))
    else:
        start = edges.pairs()
        columns = (start.c.lower_key, start.c.higher_key) if up else (start.c.higher_key, start.c.lower_key)
        first = structural_part(select(columns[1].label("key")).where(columns[0].in_(keys)))
    if within is None:
        found = first.cte(recursive=True, nesting=nesting)
        return found.union(structural_part(select(there).join(found, here == found.c.key)))
    found = first.add_columns(literal(0 if inclusive else 1, Integer).label("hop")).cte(recursive=True, nesting=nesting)
    further = select(there, found.c.hop + 1).join(found, here == found.c.key).where(found.c.hop < within)
    return found.union(structural_part(further))


def between(edges: Edges, *, starts: list[PrimaryKey], ends: list[PrimaryKey]) -> ColumnElement[bool]:
    """Match the edges on any path from one of `starts` to one of `ends`."""
    config = edges.config
    up = reach(edges, starts, up=True, inclusive=True)
    down = reach(edges, ends, up=False, inclusive=True)
    # Not the bare column: SQLite would then look each pair of the product of the two sets up in the primary key.
    higher = func.coalesce(config.higher, config.higher)
    return and_(config.lower.in_(select(up.c.key)), higher.in_(select(down.c.key)))


def _closure(edges: Edges, within: int | None) -> CTE:
    """Return a recursive CTE with the columns ``start`` and ``key`` for all pairs of nodes with a path between them.

    MariaDB refuses a CTE that refers to the outer query. This one does not refer to it and is computed once.
    """
    start, pairs = edges.pairs(), edges.pairs()
    first = structural_part(select(start.c.lower_key.label("start"), start.c.higher_key.label("key")))
    if within is None:
        found = first.cte(recursive=True, nesting=True)
        step = select(found.c.start, pairs.c.higher_key).join(found, pairs.c.lower_key == found.c.key)
        return found.union(structural_part(step))
    found = first.add_columns(literal(1, Integer).label("hop")).cte(recursive=True, nesting=True)
    further = select(found.c.start, pairs.c.higher_key, found.c.hop + 1)
    further = further.join(found, pairs.c.lower_key == found.c.key).where(found.c.hop < within)
    return found.union(structural_part(further))


def reachable_from(
    entity: object, node: object, edge: object, *, within: int | None, inclusive: bool
) -> ColumnElement[bool]:
    """Match the rows of `entity` to which a path leads from `node`; see `GraphNode.reachable_from`."""
    return _is_connected(entity, node, edge, within=within, inclusive=inclusive, up=True)


def reaching(entity: object, node: object, edge: object, *, within: int | None, inclusive: bool) -> ColumnElement[bool]:
    """Match the rows of `entity` from which a path leads to `node`; see `GraphNode.reaching`."""
    return _is_connected(entity, node, edge, within=within, inclusive=inclusive, up=False)


def _is_connected(
    entity: object, node: object, edge: object, *, within: int | None, inclusive: bool, up: bool
) -> ColumnElement[bool]:
    check_within(within)
    edges = edges_of(entity, edge)
    config = edges.config
    here: AnyAttribute = getattr(entity, config.pk_name)
    if isinstance(node, (type, AliasedClass)):
        there = _pk_of_entity(config, cast("object", node))
        return _is_joined(edges, here, there, within=within, inclusive=inclusive, up=up)
    keys = resolve_pks(config, node)
    if within == 0 and not inclusive:
        return false()
    found = reach(edges, keys, up=up, inclusive=inclusive, within=within)
    return here.in_(select(found.c.key))


def _is_joined(
    edges: Edges, here: AnyAttribute, there: AnyAttribute, *, within: int | None, inclusive: bool, up: bool
) -> ColumnElement[bool]:
    """Match the pairs of rows of two entities between which a path leads."""
    if within == 0:
        return here == there if inclusive else false()
    closure = _closure(edges, within)
    start, end = (there, here) if up else (here, there)
    pair = tuple_(start, end).in_(select(closure.c.start, closure.c.key))
    return or_(pair, here == there) if inclusive else pair


def _pk_of_entity(config: EdgeConfig, entity: object) -> AnyAttribute:
    inspected = inspect(entity, raiseerr=False)
    if inspected is None or not issubclass(inspected.mapper.class_, config.node):
        raise InvalidArgumentError(f"{entity!r} is no {config.node_name}, nor an alias of it")
    attribute: AnyAttribute = getattr(entity, config.pk_name)
    return attribute


def is_source(entity: object, edge: object) -> ColumnElement[bool]:
    """Match the rows of `entity` to which no edge leads."""
    return _has_no_edge(entity, edge, "higher_key")


def is_sink(entity: object, edge: object) -> ColumnElement[bool]:
    """Match the rows of `entity` from which no edge leads."""
    return _has_no_edge(entity, edge, "lower_key")


def _has_no_edge(entity: object, edge: object, end: str) -> ColumnElement[bool]:
    edges = edges_of(entity, edge)
    pairs = edges.pairs()
    return ~exists(select(literal(1)).select_from(pairs).where(pairs.c[end] == getattr(entity, edges.config.pk_name)))
