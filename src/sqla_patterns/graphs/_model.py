"""The two mixins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from sqlalchemy import Column, ColumnElement, inspect
from sqlalchemy.orm import Mapper, Session, foreign, relationship, remote
from sqlalchemy.types import NullType

from .._declarative import listen_once, mixin_attr, on_mapped, sole_primary_key
from .._locks import lift_recursion_limit
from ..exceptions import MappingError
from . import _neighbors, _predicates
from ._config import EdgeConfig, complete_table, config_of, node_argument, options_of, register
from ._flush import before_flush
from ._links import EdgeList, EndKey, EndNode, Joins
from ._options import GraphOptions
from ._sa import add_relationships

__all__ = ("E", "GraphEdge", "GraphNode", "N")

N = TypeVar("N", bound="GraphNode")
E = TypeVar("E", bound="GraphEdge[Any]")


class GraphNode:
    """A node of a directed graph.

    Mix it in before the declarative base. It adds no column; each edge class that names the node class adds two collections to it,
    ``lower_edges``, in which the node is the lower end, and ``higher_edges``.

    Where several edge classes join the same nodes, each method needs ``edge=`` to say which of them is meant. A subclass of an edge
    class may be given too, and then means its edges only.
    """

    if TYPE_CHECKING:
        lower_edges = EdgeList()
        higher_edges = EdgeList()
    else:

        @mixin_attr
        def _sqla_graph_node(cls):
            # Adds nothing: SQLAlchemy evaluates it while it maps a class, which is when a key of two columns is to be refused.
            on_mapped(cls, table=_check_node)
            return

    @overload
    def add_neighbor(self, *nodes: GraphNode, edge: type[E], **attributes: Any) -> list[E]: ...
    @overload
    def add_neighbor(self, *nodes: GraphNode, edge: None = None, **attributes: Any) -> list[GraphEdge[Self]]: ...
    def add_neighbor(self, *nodes: GraphNode, edge: Any = None, **attributes: Any) -> Any:
        """Have an edge from this node to each of `nodes`, as their lower end, and return the edges in the order of `nodes`.

        Args:
            edge: the edge class, where there are several.
            attributes: values for attributes of the edges. Edges that exist are kept and given them too, so calling it twice changes
                nothing the second time.

        New edges belong to the session of this node and are written by its next flush. One SELECT if this node has a row and
        ``lower_edges`` is not loaded, however many `nodes` there are; else none.

        Raises:
            InvalidArgumentError: one of `nodes` is no node that such an edge can join.
        """
        return _neighbors.add_neighbors(self, nodes, edge, attributes)

    def remove_neighbor(self, *nodes: GraphNode, edge: type[GraphEdge[Any]] | None = None) -> int:
        """Delete the edges from this node to each of `nodes`, where there are any, and return how many there were.

        The rows go with the next flush. SQL as in `add_neighbor`.

        Raises:
            InvalidArgumentError: one of `nodes` is no node that such an edge can join.
        """
        return _neighbors.remove_neighbors(self, nodes, edge)

    @overload
    def higher_neighbors(self, edge: type[GraphEdge[N]]) -> list[N]: ...
    @overload
    def higher_neighbors(self, edge: None = None) -> list[Self]: ...
    def higher_neighbors(self, edge: Any = None) -> Any:
        """Return the nodes to which an edge leads from this one; changes that are not flushed yet count.

        In the order of their keys as of loading. One SELECT for edges and nodes together, none where both are loaded: by `load_graph`,
        or by ``selectinload(Station.lower_edges).joinedload(Track.higher_node)``.
        """
        return _neighbors.neighbors(self, edge, higher=True)

    @overload
    def lower_neighbors(self, edge: type[GraphEdge[N]]) -> list[N]: ...
    @overload
    def lower_neighbors(self, edge: None = None) -> list[Self]: ...
    def lower_neighbors(self, edge: Any = None) -> Any:
        """Return the nodes from which an edge leads to this one; as `higher_neighbors`."""
        return _neighbors.neighbors(self, edge, higher=False)

    @classmethod
    def reachable_from(
        cls,
        node: object,
        *,
        within: int | None = None,
        inclusive: bool = False,
        edge: type[GraphEdge[Any]] | None = None,
    ) -> ColumnElement[bool]:
        """Match the nodes to which a path leads from `node`: by one edge or more, always upwards.

        The start itself matches where it lies on a cycle, or with `inclusive`.

        Args:
            node: an instance, a primary key, a sequence of either (reachable from one of them), or another entity or alias of the
                node class, to join by.
            within: how many edges at most; None for any number.
            inclusive: match `node` itself in any case.
            edge: the edge class, where there are several.

        Raises:
            StateError: an instance has no primary key yet.
            InvalidArgumentError: `node` is nothing of the above, or `within` is negative.

        A key that does not exist matches nothing. One recursive common table expression, which costs about the edges that it finds; with
        `within`, that many times at most. By another entity it is computed once, for all pairs of the whole table.

        MariaDB and MySQL end a recursion after 1,000 steps, MariaDB without an error. Sessions lift that limit on their connections once
        a graph is mapped; on a Core connection lift it yourself (``SET SESSION max_recursive_iterations``).
        """
        return _predicates.reachable_from(cls, node, edge, within=within, inclusive=inclusive)

    @classmethod
    def reaching(
        cls,
        node: object,
        *,
        within: int | None = None,
        inclusive: bool = False,
        edge: type[GraphEdge[Any]] | None = None,
    ) -> ColumnElement[bool]:
        """Match the nodes from which a path leads to `node`; the reverse of `reachable_from`, with its arguments and errors."""
        return _predicates.reaching(cls, node, edge, within=within, inclusive=inclusive)

    @classmethod
    def is_source(cls, *, edge: type[GraphEdge[Any]] | None = None) -> ColumnElement[bool]:
        """Match the nodes to which no edge leads."""
        return _predicates.is_source(cls, edge)

    @classmethod
    def is_sink(cls, *, edge: type[GraphEdge[Any]] | None = None) -> ColumnElement[bool]:
        """Match the nodes from which no edge leads."""
        return _predicates.is_sink(cls, edge)


class GraphEdge(Joins[N], Generic[N]):
    """An edge from a lower node to a higher one, as an association object: what else it has is up to the class.

    Mix it in before the declarative base, with the node class in brackets: ``class Track(GraphEdge[Station], Base)``. It adds
    ``lower_id`` and ``higher_id``, which are the primary key, foreign keys with ``ON DELETE CASCADE`` and an index of the reverse, and
    ``lower_node`` and ``higher_node``.

    On a plain base, ``Track(here, there, minutes=3)`` makes an edge. On a dataclass base ``__init__`` is that of the dataclass; make
    edges with `GraphNode.add_neighbor`.
    """

    __graph__: GraphOptions | None = None

    if TYPE_CHECKING:
        lower_id = EndKey()
        higher_id = EndKey()
        lower_node = EndNode()
        higher_node = EndNode()
    else:

        @mixin_attr
        def lower_id(cls):
            # The type is that of the node's key and is set once the table exists.
            return Column("lower_id", NullType(), primary_key=True)

        @mixin_attr
        def higher_id(cls):
            return Column("higher_id", NullType(), primary_key=True)

        @mixin_attr
        def lower_node(cls):
            node = _node_class(cls)
            on_mapped(cls, table=lambda mapper: complete_table(mapper, node), constructed=lambda m: _prepare(m, node))
            return _end(cls, node, "lower", options_of(cls).lower_edges)

        @mixin_attr
        def higher_node(cls):
            return _end(cls, _node_class(cls), "higher", options_of(cls).higher_edges)

    def __init__(self, lower_node: N | None = None, higher_node: N | None = None, **attributes: Any) -> None:
        if lower_node is not None:
            attributes["lower_node"] = lower_node
        if higher_node is not None:
            attributes["higher_node"] = higher_node
        following: Any = super().__init__
        if getattr(following, "__objclass__", None) is not object:
            following(**attributes)
            return
        # Mapped by a registry, without a base whose constructor would do this.
        for name, value in attributes.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{name!r} is an invalid keyword argument for {type(self).__name__}")
            setattr(self, name, value)


def _check_node(mapper: Mapper[Any]) -> None:
    table: Any = mapper.local_table
    if table is not None and mapper.inherits is None:
        sole_primary_key(table, mapper.class_, "GraphNode")


def _node_class(cls: type[Any]) -> type[Any]:
    node: Any = node_argument(cls, GraphEdge)
    if not isinstance(node, type) or not issubclass(node, GraphNode) or inspect(node, raiseerr=False) is None:
        given = "nothing" if node is None else f"{node!r}"
        raise MappingError(
            f"edge class {cls.__name__!r} says {given} about the nodes that it joins; name a class that is mapped with GraphNode, "
            f"before the edge class: class {cls.__name__}(GraphEdge[Node], Base)"
        )
    return node


def _end(cls: type[Any], node: type[Any], side: str, collection: str) -> Any:
    return relationship(
        lambda: node,
        primaryjoin=lambda: foreign(getattr(_config(cls), side)) == remote(_config(cls).node_pk),
        uselist=False,
        back_populates=collection,
    )


def _config(cls: type[Any]) -> EdgeConfig:
    config = config_of(cls)
    if config is None:
        raise MappingError(f"edge class {cls.__name__!r} is used before it is mapped")
    return config


def _prepare(mapper: Mapper[Any], node: type[Any]) -> None:
    """Register a mapped edge class and give its node class the two collections."""
    config = register(mapper, node)
    ends = (
        (config.options.lower_edges, config.lower, config.higher),
        (config.options.higher_edges, config.higher, config.lower),
    )
    relationships = {
        name: relationship(
            config.cls,
            primaryjoin=remote(foreign(here)) == config.node_pk,
            uselist=True,
            back_populates="lower_node" if here is config.lower else "higher_node",
            order_by=there,
            collection_class=_neighbors.EdgeCollection,
            # An edge without one of its nodes is none.
            cascade="all, delete-orphan",
            # The flush loads the edges of all deleted nodes at once, not node by node.
            passive_deletes=True,
        )
        for name, here, there in ends
    }
    add_relationships(config.node_mapper, relationships)
    listen_once(Session, "before_flush", before_flush)
    listen_once(Session, "after_begin", lift_recursion_limit)
