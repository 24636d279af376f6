"""The edges next to one node: add, remove, and follow them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import inspect, select
from sqlalchemy.orm import joinedload, object_session
from sqlalchemy.orm.attributes import set_committed_value

from ..exceptions import InvalidArgumentError
from ._config import EdgeConfig, Edges, edges_of
from ._sa import pending_additions

__all__ = ("EdgeCollection", "add_neighbors", "chunks", "detach", "neighbors", "remove_neighbors")

T = TypeVar("T")

# Below the number of parameters that SQLite (32,766) and asyncpg (32,767) take in one statement.
_CHUNK = 10_000


def chunks(items: Iterable[T], size: int = _CHUNK) -> Iterable[list[T]]:
    """`items` in lists that fit into one IN."""
    every = list(items)
    return (every[start : start + size] for start in range(0, len(every), size))


class EdgeCollection(list[T]):
    """Edges by identity: two edges of a dataclass are equal where their payloads are, and yet are two edges."""

    def remove(self, value: T) -> None:
        for index, item in enumerate(self):
            if item is value:
                # Past the instrumented __delitem__: SQLAlchemy has told about this removal already.
                list[T].__delitem__(self, index)
                return
        raise ValueError(f"{value!r} is not in this collection")


def add_neighbors(node: Any, nodes: Sequence[Any], edge: Any, attributes: Mapping[str, Any]) -> list[Any]:
    edges = edges_of(node, edge)
    _check_nodes(edges.config, nodes)
    present = _edges_to(edges, node, nodes)
    # Two of `nodes` may be the same, and all edges must be made before the first is linked: a wrong attribute changes nothing.
    made: dict[int, Any] = {}
    for other in nodes:
        if id(other) not in present and id(other) not in made:
            made[id(other)] = _make(edges, attributes)
    session = object_session(node)
    found: list[Any] = []
    for other in nodes:
        item = present.get(id(other))
        if item is None:
            item = made[id(other)]
        else:
            for name, value in attributes.items():
                setattr(item, name, value)
        _link(edges.config, item, "lower", node)
        _link(edges.config, item, "higher", other)
        if session is not None:
            session.add(item)
        found.append(item)
    return found


def _link(config: EdgeConfig, item: Any, side: str, node: Any) -> None:
    state, name = inspect(item), f"{side}_node"
    if state.dict.get(name) is node:
        return
    if state.persistent and name not in state.dict and state.dict.get(f"{side}_id") == config.key_of(node):
        # Assigning it would put the edge into the collection a second time.
        set_committed_value(item, name, node)
    else:
        setattr(item, name, node)


def remove_neighbors(node: Any, nodes: Sequence[Any], edge: Any) -> int:
    edges = edges_of(node, edge)
    _check_nodes(edges.config, nodes)
    found = _edges_to(edges, node, nodes).values()
    session = object_session(node)
    for item in found:
        state = inspect(item)
        if session is not None and state.persistent:
            session.delete(item)
            detach(edges.config, item)
            continue
        if session is not None and state.pending:
            session.expunge(item)
        # So that it also leaves collections that are not loaded, where it waits to be appended.
        item.lower_node = item.higher_node = None
    return len(found)


def detach(config: EdgeConfig, edge: Any) -> None:
    """Take `edge` out of the collections of its nodes, as far as those are loaded."""
    here = inspect(edge)
    ends = (
        ("lower_node", "lower_id", config.options.lower_edges),
        ("higher_node", "higher_id", config.options.higher_edges),
    )
    for name, id_name, collection in ends:
        node = here.dict.get(name)
        if node is None and here.session is not None and here.dict.get(id_name) is not None:
            node = config.in_session(here.session, here.dict[id_name])
        if node is None:
            continue
        loaded: list[Any] = inspect(node).dict.get(collection, [])
        for item in loaded:
            if item is edge:
                getattr(node, collection).remove(edge)
                break


def neighbors(node: Any, edge: Any, *, higher: bool) -> list[Any]:
    edges = edges_of(node, edge)
    config = edges.config
    options = config.options
    collection = options.lower_edges if higher else options.higher_edges
    there = "higher_node" if higher else "lower_node"
    state = inspect(node)
    session = state.session
    if collection not in state.dict and state.persistent and session is not None:
        own = config.lower if higher else config.higher
        other = config.higher if higher else config.lower
        statement = (
            select(config.cls)
            .where(own == config.key_of(node))
            .order_by(other)
            # An outer join: where criteria of the session hide a node, its edge is still one.
            .options(joinedload(getattr(config.cls, there)))
        )
        set_committed_value(node, collection, session.scalars(statement).unique().all())
    members = [item for item in getattr(node, collection) if isinstance(item, edges.entity)]
    if session is not None:
        deleted = session.deleted
        members = [item for item in members if item not in deleted]
        _load_ends(config, session, members, there)
    # An edge that is still being put together may lack its other end.
    return [end for item in members if (end := getattr(item, there)) is not None]


def _load_ends(config: EdgeConfig, session: Any, members: list[Any], there: str) -> None:
    """Load what the edges lead to in one statement, rather than edge by edge."""
    id_name = there.replace("node", "id")
    missing = [item for item in members if inspect(item).persistent and there not in inspect(item).dict]
    known: dict[Any, Any] = {}
    for item in missing:
        key = getattr(item, id_name)
        node = config.in_session(session, key)
        if node is not None:
            known[key] = node
    wanted = {getattr(item, id_name) for item in missing} - known.keys()
    for keys in chunks(wanted):
        for node in session.scalars(select(config.node).where(config.node_key.in_(keys))).unique():
            known[config.key_of(node)] = node
    for item in missing:
        node = known.get(getattr(item, id_name))
        if node is not None:
            set_committed_value(item, there, node)


def _check_nodes(config: EdgeConfig, nodes: Sequence[Any]) -> None:
    for each in nodes:
        if not isinstance(each, config.node):
            raise InvalidArgumentError(f"{each!r} is no {config.node_name}, which is what {config.name} joins")


def _make(edges: Edges, attributes: Mapping[str, Any]) -> Any:
    return edges.entity(**attributes)


def _edges_to(edges: Edges, node: Any, nodes: Sequence[Any]) -> dict[int, Any]:
    """The edges from `node` to each of `nodes`, by the identity of the latter; those marked for deletion too."""
    config, state = edges.config, inspect(node)
    collection = config.options.lower_edges
    if collection in state.dict:
        candidates: list[Any] = state.dict[collection]
    elif state.persistent and state.session is not None:
        candidates = [*pending_additions(state, collection), *_stored(config, node, nodes)]
    else:
        candidates = getattr(node, collection)
    by_key = {key: other for other in nodes if (key := config.key_of(other)) is not None}
    wanted = {id(other) for other in nodes}
    found: dict[int, Any] = {}
    for item in candidates:
        if isinstance(item, edges.entity):
            values = inspect(item).dict
            end = values.get("higher_node", None)
            if end is None:
                end = by_key.get(values.get("higher_id"))
            if end is not None and id(end) in wanted:
                found.setdefault(id(end), item)
    return found


def _stored(config: EdgeConfig, node: Any, nodes: Sequence[Any]) -> list[Any]:
    session = cast("Any", object_session(node))
    keys = {inspect(other).identity[0] for other in nodes if inspect(other).identity is not None}
    stored: list[Any] = []
    # A flush here would write, and judge, edges of which the caller is not done yet.
    with session.no_autoflush:
        for some in chunks(keys):
            statement = select(config.cls).where(config.lower == config.key_of(node), config.higher.in_(some))
            stored += session.scalars(statement).unique()
    return stored
