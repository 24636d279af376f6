"""Hand loaded nodes and edges on to programs that draw or analyse graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast, overload

from sqlalchemy import inspect

from ..exceptions import StateError
from ._config import EdgeConfig, Edges, edges_of
from ._model import E, GraphEdge, N

__all__ = ("DiGraphLike", "to_dot", "to_networkx")


class DiGraphLike(Protocol):
    """What `to_networkx` fills: ``networkx.DiGraph`` and its subclasses have it."""

    def add_node(self, node_for_adding: Any, /, **attr: Any) -> object:
        """Add a node."""

    def add_edge(self, u_of_edge: Any, v_of_edge: Any, /, **attr: Any) -> object:
        """Add an edge."""


G = TypeVar("G", bound=DiGraphLike)


def to_dot(
    nodes: Iterable[N],
    *,
    label: Callable[[N], str] | None = None,
    edge: type[E] | None = None,
    edge_label: Callable[[E], str] | None = None,
    name: str = "graph",
) -> str:
    r"""Return `nodes`, and the edges between them, in the DOT language of Graphviz.

    Args:
        nodes: whose ``lower_edges`` are loaded, as `load_graph` returns them.
        label: the text in a node; its key unless given.
        edge: the edge class, where there are several.
        edge_label: the text at an edge; none unless given.
        name: the name of the digraph.

    No SQL.

    Raises:
        StateError: the edges of a node are not loaded.
    """
    members = list(nodes)
    lines = [f"digraph {_quote(name)} {{"]
    if members:
        edges = edges_of(members[0], edge)
        names = _names(edges.config, members)
        for node in members:
            text = "" if label is None else f" [label={_quote(label(node))}]"
            lines.append(f"  {_quote(names[id(node)])}{text};")
        for item, lower, higher in _between(edges, members):
            text = "" if edge_label is None else f" [label={_quote(edge_label(item))}]"
            lines.append(f"  {_quote(names[id(lower)])} -> {_quote(names[id(higher)])}{text};")
    return "\n".join([*lines, "}"]) + "\n"


@overload
def to_networkx(nodes: Iterable[N], *, create_using: type[G], edge: type[GraphEdge[Any]] | None = None) -> G: ...
@overload
def to_networkx(
    nodes: Iterable[N], *, create_using: None = None, edge: type[GraphEdge[Any]] | None = None
) -> DiGraphLike: ...
def to_networkx(
    nodes: Iterable[N], *, create_using: Any = None, edge: type[GraphEdge[Any]] | None = None
) -> DiGraphLike:
    """Return `nodes`, and the edges between them, as a directed graph of networkx.

    Its nodes are the primary keys, each with the object as attribute ``node``; its edges have theirs as ``edge``.

    Args:
        nodes: whose ``lower_edges`` are loaded, as `load_graph` returns them.
        create_using: the class of the graph; ``networkx.DiGraph`` unless given. Checkers know the result better with it.
        edge: the edge class, where there are several.

    No SQL.

    Raises:
        StateError: the edges of a node are not loaded, or a node has no primary key yet.
        ImportError: networkx is not installed, and `create_using` not given.
    """
    graph: DiGraphLike = (create_using or _digraph())()
    members = list(nodes)
    if members:
        edges = edges_of(members[0], edge)
        config = edges.config
        keys: dict[int, Any] = {}
        for node in members:
            key = keys[id(node)] = config.key_of(node)
            if key is None:
                raise StateError(f"{node!r} has no primary key yet, which names it in networkx: flush first")
            graph.add_node(key, node=node)
        for item, lower, higher in _between(edges, members):
            graph.add_edge(keys[id(lower)], keys[id(higher)], edge=item)
    return graph


def _digraph() -> type[DiGraphLike]:
    # By name, because networkx has no types of its own, and checkers refuse an import of what is not installed.
    try:
        module: Any = import_module("networkx")
    except ImportError as error:
        raise ImportError("to_networkx() needs networkx: pip install networkx") from error
    return cast("type[DiGraphLike]", module.DiGraph)


def _between(edges: Edges, members: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """The edges that have both ends in `members`, with those ends."""
    config = edges.config
    known = {id(node) for node in members}
    by_key = {key: node for node in members if (key := config.key_of(node)) is not None}
    for node in members:
        for item in _loaded(config, node):
            if not isinstance(item, edges.entity):
                continue
            values = inspect(item).dict
            higher = values.get("higher_node")
            if higher is None:
                higher = by_key.get(values.get("higher_id"))
            if higher is not None and id(higher) in known:
                yield item, node, higher


def _loaded(config: EdgeConfig, node: Any) -> list[Any]:
    state = inspect(node)
    if config.options.lower_edges in state.dict:
        return list(state.dict[config.options.lower_edges])
    if state.identity is None:
        return []
    raise StateError(
        f"the edges of {config.node_name} {config.key_of(node)!r} are not loaded, and this function emits no SQL: get the nodes from "
        "load_graph() first"
    )


def _names(config: EdgeConfig, members: list[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, node in enumerate(members):
        key = config.key_of(node)
        names[id(node)] = f"new {number}" if key is None else str(key)
    return names


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r\n", "\\n").replace("\n", "\\n")
    return f'"{escaped}"'
