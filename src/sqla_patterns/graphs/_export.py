"""Export loaded nodes and edges to programs that draw or analyse graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast, overload

from sqlalchemy.orm.attributes import instance_state

from .._typing import MappedObject, PrimaryKey
from ..exceptions import StateError
from ._config import EdgeConfig, Edges, edges_of
from ._ends import Pair, end_of, loaded_pair
from ._model import E, GraphEdge, N


class DiGraphLike(Protocol):
    """A graph that `to_networkx` can fill, such as ``networkx.DiGraph`` and its subclasses."""

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

    No SQL.

    Args:
        nodes: Nodes whose ``lower_edges`` are loaded, as `load_graph` returns them.
        label: Returns the text in a node; without it, that is the key.
        edge: The edge class, where there are several.
        edge_label: Returns the text at an edge; without it, there is none.
        name: The name of the digraph.

    Raises:
        StateError: The edges of a node are not loaded.
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
    nodes: Iterable[N],
    *,
    create_using: type[DiGraphLike] | None = None,
    edge: type[GraphEdge[Any]] | None = None,
) -> DiGraphLike:
    """Return `nodes`, and the edges between them, as a directed graph of networkx.

    Its nodes are the primary keys, each with the object as attribute ``node``; its edges have theirs as ``edge``. No
    SQL.

    Args:
        nodes: Nodes whose ``lower_edges`` are loaded, as `load_graph` returns them.
        create_using: The class of the graph; without it, ``networkx.DiGraph``. With it, type checkers know the class of
            the result.
        edge: The edge class, where there are several.

    Raises:
        StateError: The edges of a node are not loaded, or a node has no primary key yet.
        ImportError: networkx is not installed, and `create_using` is not given.
    """
    graph: DiGraphLike = (create_using or _digraph())()
    members = list(nodes)
    if members:
        edges = edges_of(members[0], edge)
        config = edges.config
        keys: dict[int, PrimaryKey] = {}
        for node in members:
            key = keys[id(node)] = config.pk_of(node)
            if key is None:
                raise StateError(f"{node!r} has no primary key yet, which names it in networkx: flush first")
            graph.add_node(key, node=node)
        for item, lower, higher in _between(edges, members):
            graph.add_edge(keys[id(lower)], keys[id(higher)], edge=item)
    return graph


def _digraph() -> type[DiGraphLike]:
    # By name: type checkers report the import of a package that has no types or is not installed.
    try:
        module = import_module("networkx")
    except ImportError as error:
        raise ImportError("to_networkx() needs networkx: pip install networkx") from error
    return cast("type[DiGraphLike]", module.DiGraph)


def _between(edges: Edges, members: list[N]) -> Iterator[tuple[MappedObject, N, N]]:
    """Yield the edges that have both ends in `members`, with those ends, the lower one first."""
    config = edges.config
    known = {id(node) for node in members}
    by_key = {key: node for node in members if (key := config.pk_of(node)) is not None}
    for node in members:
        for item in _loaded_edges(config, node):
            if not isinstance(item, edges.entity):
                continue
            end = end_of(config, item, "higher", _loaded_pair(config, item))
            if end is None:
                continue  # New, and still without its other end.
            higher = end.node if end.node is not None else by_key.get(end.key)
            if higher is not None and id(higher) in known:
                yield item, node, higher


def _loaded_edges(config: EdgeConfig, node: object) -> list[MappedObject]:
    """Return the edges in which `node` is the lower end.

    Raises:
        StateError: They are not loaded.
    """
    state = instance_state(node)
    if config.options.lower_edges in state.dict:
        return list(state.dict[config.options.lower_edges])
    if state.identity is None:
        return []
    raise StateError(
        f"the edges of {config.node_name} {config.pk_of(node)!r} are not loaded, and this function emits no SQL: get "
        "the nodes from load_graph() first"
    )


def _loaded_pair(config: EdgeConfig, edge: object) -> Mapping[int, Pair]:
    """Return the keys of both ends of `edge` by its ``id()``; an empty mapping if it is new.

    Raises:
        StateError: They are not loaded.
    """
    pair = loaded_pair(config, edge)
    if pair is not None:
        return {id(edge): pair}
    if instance_state(edge).identity is None:
        return {}
    raise StateError(
        f"a {config.name} has ends that are not loaded, and this function emits no SQL: get the nodes from "
        "load_graph() first"
    )


def _names(config: EdgeConfig, members: Sequence[object]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, node in enumerate(members):
        key = config.pk_of(node)
        names[id(node)] = f"new {number}" if key is None else str(key)
    return names


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r\n", "\\n").replace("\n", "\\n")
    return f'"{escaped}"'
