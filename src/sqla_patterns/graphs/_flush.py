"""The flush: what every spelling of a change to edges comes down to.

Once per flush, before the unit of work looks at anything. A flush without edges, and without deleted nodes, pays one look at the
class of each object in it.

1. The edges of deleted nodes are loaded, in one SELECT for each edge class, and deleted with them. ``ON DELETE CASCADE`` would do
   where the database enforces foreign keys; SQLite does not unless asked, and edges in the session would outlive their rows.
2. Edges that go leave the loaded collections of both nodes.
3. An assignment to ``lower_id`` or ``higher_id`` becomes one to ``lower_node`` or ``higher_node``, so that the collections follow.
4. For classes with ``acyclic``, `check_acyclic` sees all new links of the flush at once. It raises before the first write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import inspect, or_, select
from sqlalchemy.orm import InstanceState, Session

from ..exceptions import StateError
from ._acyclic import Link, check_acyclic
from ._config import EdgeConfig, config_of, node_configs
from ._neighbors import chunks, detach
from ._sa import changed

__all__ = ("before_flush",)

_SIDES = ("lower", "higher")


class _Work:
    """What one flush does to the edges of one class."""

    def __init__(self) -> None:
        self.new: list[Any] = []
        self.dirty: list[Any] = []
        self.deleted: list[Any] = []
        self.deleted_nodes: list[Any] = []


def before_flush(session: Session, flush_context: object, instances: object) -> None:
    # In one order for all transactions, since they may take a lock for each class.
    for config, work in sorted(_collect(session).items(), key=lambda item: item[0].table.fullname):
        _delete_edges_of_nodes(session, config, work)
        for edge in list(work.dirty):
            if _is_orphan(edge):
                session.delete(edge)
                work.dirty.remove(edge)
                work.deleted.append(edge)
        for edge in work.deleted:
            detach(config, edge)
        _follow_keys(session, config, work)
        if config.options.acyclic:
            _check(session, config, work)


def _collect(session: Session) -> dict[EdgeConfig, _Work]:
    kinds: dict[type[Any], tuple[EdgeConfig | None, tuple[EdgeConfig, ...]]] = {}
    found: dict[EdgeConfig, _Work] = {}

    def kind_of(obj: object) -> tuple[EdgeConfig | None, tuple[EdgeConfig, ...]]:
        cls = type(obj)
        try:
            return kinds[cls]
        except KeyError:
            kinds[cls] = kind = (config_of(cls), node_configs(cls))
            return kind

    for name, objects in (("new", session.new), ("dirty", session.dirty), ("deleted", session.deleted)):
        for obj in objects:
            config, joined_by = kind_of(obj)
            if config is not None:
                getattr(found.setdefault(config, _Work()), name).append(obj)
            if joined_by and name == "deleted":
                for each in joined_by:
                    found.setdefault(each, _Work()).deleted_nodes.append(obj)
    return found


def _delete_edges_of_nodes(session: Session, config: EdgeConfig, work: _Work) -> None:
    gone = {id(edge) for edge in work.deleted}
    for keys in chunks([config.key_of(node) for node in work.deleted_nodes], 5_000):
        touching = or_(config.lower.in_(keys), config.higher.in_(keys))
        for edge in session.scalars(select(config.cls).where(touching)).unique():
            if id(edge) not in gone:
                session.delete(edge)
                gone.add(id(edge))
                work.deleted.append(edge)
    work.dirty = [edge for edge in work.dirty if id(edge) not in gone]


def _is_orphan(edge: Any) -> bool:
    state = inspect(edge)
    return any(changed(state, f"{side}_node") and state.dict.get(f"{side}_node", edge) is None for side in _SIDES)


# -- keys that were assigned ---------------------------------------------------------------------


def _follow_keys(session: Session, config: EdgeConfig, work: _Work) -> None:
    assigned: list[tuple[Any, str, Any]] = []
    for edge in (*work.new, *work.dirty):
        state = inspect(edge)
        for side in _SIDES:
            key = state.dict.get(f"{side}_id")
            if key is None or not changed(state, f"{side}_id"):
                continue
            if changed(state, f"{side}_node"):
                _check_same(config, state, side, key)
            else:
                assigned.append((edge, side, key))
    if not assigned:
        return
    nodes = _known_nodes(session, config, {key for _, _, key in assigned})
    # A persistent edge that moves to a node out of sight has to leave the collection of the old one.
    moved = {key for edge, _, key in assigned if key not in nodes and inspect(edge).persistent}
    for keys in chunks(moved):
        for node in session.scalars(select(config.node).where(config.node_key.in_(keys))).unique():
            nodes[config.key_of(node)] = node
    for edge, side, key in assigned:
        if key in nodes:
            setattr(edge, f"{side}_node", nodes[key])


def _check_same(config: EdgeConfig, state: InstanceState[Any], side: str, key: Any) -> None:
    node = state.dict.get(f"{side}_node")
    of_node = None if node is None else config.key_of(node)
    if of_node is not None and of_node != key:
        raise StateError(
            f"{config.name}.{side}_id is {key!r}, and {side}_node is {config.node_name} {of_node!r}: assign one of them only"
        )


def _known_nodes(session: Session, config: EdgeConfig, keys: set[Any]) -> dict[Any, Any]:
    """The nodes of `keys` that are in the session, new ones too."""
    nodes: dict[Any, Any] = {}
    for key in keys:
        node = config.in_session(session, key)
        if node is not None:
            nodes[key] = node
    if len(nodes) < len(keys):
        for obj in session.new:
            if isinstance(obj, config.node) and (key := config.key_of(obj)) in keys:
                nodes[key] = obj
    return nodes


# -- acyclic graphs ------------------------------------------------------------------------------


def _check(session: Session, config: EdgeConfig, work: _Work) -> None:
    links: list[Link] = []
    removed = {_pair(config, edge) for edge in work.deleted if inspect(edge).identity is not None}
    for edge in work.new:
        links += _links(config, edge)
    for edge in work.dirty:
        state = inspect(edge)
        if any(changed(state, f"{side}_{what}") for side in _SIDES for what in ("id", "node")):
            old = _pair(config, edge)
            for link in _links(config, edge):
                if (link.lower.key, link.higher.key) != old:
                    links.append(link)
                    removed.add(old)
    if links:
        check_acyclic(session, config, links, removed)


def _pair(config: EdgeConfig, edge: Any) -> tuple[Any, Any]:
    """The keys of both ends as the database has them."""
    identity = dict(zip(config.mapper.primary_key, inspect(edge).identity or (), strict=True))
    return identity[config.lower], identity[config.higher]


def _links(config: EdgeConfig, edge: Any) -> Iterable[Link]:
    link = Link.of(config, edge)
    return () if link is None else (link,)
