"""The mixins `GraphNode` and `GraphEdge`, and `CycleError`, whose types refer to each other.

The attributes that lead from nodes to edges and back have descriptors that tell type checkers their types.
``Mapped[Node]`` in a generic class would not do: mypy refuses ``selectinload(Track.lower_node)`` as ambiguous. The
descriptors take the node class from the class on which they are read: ``Track.lower_node`` is an
``InstrumentedAttribute[Station]``, ``track.lower_node`` a ``Station``. They do not exist at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from sqlalchemy import Column, ColumnElement, exc
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.attributes import set_attribute
from sqlalchemy.types import NullType

from .._declarative import mixin_attr, on_mapped
from ..exceptions import InvalidArgumentError, PatternError
from . import _neighbors, _predicates
from ._descriptors import EndKey
from ._mapping import (
    check_node_table,
    complete_edge_table,
    end_relationship,
    node_class_of,
    options_of,
    prepare_node_class,
)
from ._markers import AnyEdge, AnyNode
from ._options import GraphOptions

N = TypeVar("N", bound="GraphNode")
E = TypeVar("E", bound="GraphEdge[Any]")


class _EdgeList:
    """The edges at one side of a node, for type checkers."""

    @overload
    def __get__(self, obj: None, owner: type[N]) -> InstrumentedAttribute[list[GraphEdge[N]]]: ...
    @overload
    def __get__(self, obj: N, owner: type[N]) -> list[GraphEdge[N]]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: GraphNode, value: Iterable[GraphEdge[Any]]) -> None:
        raise NotImplementedError


class _EndNode:
    """The node at one end of an edge, for type checkers."""

    @overload
    def __get__(self, obj: None, owner: type[GraphEdge[N]]) -> InstrumentedAttribute[N]: ...
    @overload
    def __get__(self, obj: GraphEdge[N], owner: type[object]) -> N: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    # pyright checks the value; mypy infers Any for a type variable here and accepts any value.
    def __set__(self, obj: GraphEdge[N], value: N) -> None:
        raise NotImplementedError


class GraphNode(AnyNode):
    """A node of a directed graph.

    Mix it in before the declarative base. It adds no column. Each edge class that names the node class adds two
    collections to it: ``lower_edges``, in which the node is the lower end, and ``higher_edges``.

    Where several edge classes join the same nodes, each method needs ``edge=`` to say which of them is meant. A
    subclass of an edge class may be given too, and then only its edges are meant.
    """

    if TYPE_CHECKING:
        lower_edges = _EdgeList()
        higher_edges = _EdgeList()
    else:

        @mixin_attr
        def _sqla_graph_node(cls):
            # Adds nothing: SQLAlchemy evaluates it while it maps a class, which is when a key of two columns has to be
            # refused.
            on_mapped(cls, table=check_node_table)
            return

    @overload
    def add_neighbor(self, *nodes: GraphNode, edge: type[E], **attributes: object) -> list[E]: ...
    @overload
    def add_neighbor(self, *nodes: GraphNode, edge: None = None, **attributes: object) -> list[GraphEdge[Self]]: ...
    def add_neighbor(
        self, *nodes: GraphNode, edge: type[GraphEdge[Any]] | None = None, **attributes: object
    ) -> list[Any]:
        """Add an edge from this node, the lower end, to each of `nodes`, and return the edges in the order of `nodes`.

        New edges belong to the session of this node and are written by its next flush. One SELECT if this node has a
        row and ``lower_edges`` is not loaded, however many `nodes` there are; else none.

        Args:
            nodes: The higher ends.
            edge: The edge class, where there are several.
            attributes: Values for attributes of the edges. Edges that exist are kept and given these values too, so
                that a second call changes nothing.

        Raises:
            InvalidArgumentError: One of `nodes` is no node that such an edge can join.
        """
        return _neighbors.add_neighbors(self, nodes, edge, attributes)

    def remove_neighbor(self, *nodes: GraphNode, edge: type[GraphEdge[Any]] | None = None) -> int:
        """Delete the edges from this node to each of `nodes`, and return how many there were.

        The next flush deletes the rows. SELECTs as in `add_neighbor`.

        Args:
            nodes: The higher ends.
            edge: The edge class, where there are several.

        Raises:
            InvalidArgumentError: One of `nodes` is no node that such an edge can join.
        """
        return _neighbors.remove_neighbors(self, nodes, edge)

    @overload
    def higher_neighbors(self, edge: type[GraphEdge[N]]) -> list[N]: ...
    @overload
    def higher_neighbors(self, edge: None = None) -> list[Self]: ...
    def higher_neighbors(self, edge: type[GraphEdge[Any]] | None = None) -> list[Any]:
        """Return the nodes to which an edge leads from this one; unflushed changes count.

        They are in the order of their keys when they were loaded. One SELECT for edges and nodes together, none where
        both are loaded: by `load_graph`, or by ``selectinload(Station.lower_edges).joinedload(Track.higher_node)``.

        Args:
            edge: The edge class, where there are several.
        """
        return _neighbors.neighbors(self, edge, higher=True)

    @overload
    def lower_neighbors(self, edge: type[GraphEdge[N]]) -> list[N]: ...
    @overload
    def lower_neighbors(self, edge: None = None) -> list[Self]: ...
    def lower_neighbors(self, edge: type[GraphEdge[Any]] | None = None) -> list[Any]:
        """Return the nodes from which an edge leads to this one; order and cost are those of `higher_neighbors`.

        Args:
            edge: The edge class, where there are several.
        """
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
        """Match the nodes to which a path of one edge or more leads from `node`, from lower to higher ends.

        The start itself matches where it lies on a cycle, or with `inclusive`. A key that does not exist matches
        nothing.

        It is one recursive common table expression, whose cost grows with the number of edges that it finds; with
        `within`, it may find each edge as often as `within` says. With another entity as `node` it is computed once,
        for all pairs of nodes of the table.

        MariaDB and MySQL end a recursion after 1,000 steps, MariaDB without an error. Sessions lift that limit on their
        connections once a graph is mapped; on a Core connection lift it yourself (``SET SESSION
        max_recursive_iterations``).

        Args:
            node: A node, a primary key, a sequence of either (reachable from one of them), or another entity or alias
                of the node class, to join by.
            within: How many edges the path has at most; None for any number.
            inclusive: Match `node` itself in any case.
            edge: The edge class, where there are several.

        Raises:
            StateError: A node has no primary key yet.
            InvalidArgumentError: `node` is nothing of the above, or `within` is negative.
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
        """Match the nodes from which a path of one edge or more leads to `node`; the reverse of `reachable_from`.

        Args:
            node: As for `reachable_from`.
            within: As for `reachable_from`.
            inclusive: As for `reachable_from`.
            edge: As for `reachable_from`.

        Raises:
            StateError: As `reachable_from`.
            InvalidArgumentError: As `reachable_from`.
        """
        return _predicates.reaching(cls, node, edge, within=within, inclusive=inclusive)

    @classmethod
    def is_source(cls, *, edge: type[GraphEdge[Any]] | None = None) -> ColumnElement[bool]:
        """Match the nodes to which no edge leads.

        Args:
            edge: The edge class, where there are several.
        """
        return _predicates.is_source(cls, edge)

    @classmethod
    def is_sink(cls, *, edge: type[GraphEdge[Any]] | None = None) -> ColumnElement[bool]:
        """Match the nodes from which no edge leads.

        Args:
            edge: The edge class, where there are several.
        """
        return _predicates.is_sink(cls, edge)


class GraphEdge(AnyEdge[N]):
    """An edge from a lower node to a higher one: an association object, to which the class can add columns.

    Mix it in before the declarative base, with the node class in brackets: ``class Track(GraphEdge[Station], Base)``.
    It adds ``lower_id`` and ``higher_id``, which are the primary key (where the class has none already), foreign keys
    with ``ON DELETE CASCADE`` and an index for the reverse direction, and ``lower_node`` and ``higher_node``.

    On a plain base, ``Track(here, there, minutes=3)`` makes an edge. On a dataclass base ``__init__`` is that of the
    dataclass; make edges with `GraphNode.add_neighbor`.
    """

    __graph__: GraphOptions | None = None

    if TYPE_CHECKING:
        lower_id = EndKey()
        higher_id = EndKey()
        lower_node = _EndNode()
        higher_node = _EndNode()
    else:

        @mixin_attr
        def _sqla_graph_edge(cls):
            # Adds nothing; SQLAlchemy evaluates it while it maps the class.
            node = node_class_of(cls, GraphEdge)
            on_mapped(
                cls, table=lambda mapper: complete_edge_table(mapper, node, CycleError), constructed=prepare_node_class
            )
            return

        @mixin_attr
        def lower_id(cls):
            # The type is that of the node's key and is set once the table exists.
            return Column("lower_id", NullType(), primary_key=True)

        @mixin_attr
        def higher_id(cls):
            return Column("higher_id", NullType(), primary_key=True)

        @mixin_attr
        def lower_node(cls):
            return end_relationship(cls, node_class_of(cls, GraphEdge), "lower", options_of(cls).lower_edges)

        @mixin_attr
        def higher_node(cls):
            return end_relationship(cls, node_class_of(cls, GraphEdge), "higher", options_of(cls).higher_edges)

    def __init__(self, lower_node: N | None = None, higher_node: N | None = None, **attributes: object) -> None:
        ends: dict[str, object] = {"lower_node": lower_node, "higher_node": higher_node}
        ends |= {name: attributes.pop(name) for name in ("lower_id", "higher_id") if name in attributes}
        following: Callable[..., None] = super().__init__
        if getattr(following, "__objclass__", None) is not object:
            following(**attributes)
        else:
            # Mapped by a registry, without a base whose constructor would do this.
            for name, value in attributes.items():
                if not hasattr(type(self), name):
                    raise TypeError(f"{name!r} is an invalid keyword argument for {type(self).__name__}")
                setattr(self, name, value)
        # Not by the constructor of the base: that of a SQLModel ignores attributes that are not its fields.
        for name, value in ends.items():
            if value is not None:
                set_attribute(self, name, value)


class CycleError(PatternError, exc.InvalidRequestError):
    """A new edge would close a cycle, or a graph cannot be sorted because it has a cycle.

    Attributes:
        path: The nodes along the cycle, the first again at the end. A node that criteria of the session hide is left
            out; the message names all nodes by key. For type checkers these are nodes of any class; `path_of` returns
            the same nodes, typed as objects of the user's class.
    """

    path: tuple[GraphNode, ...]

    def __init__(self, message: str, path: Sequence[GraphNode] = ()) -> None:
        super().__init__(message)
        self.path = tuple(path)

    def path_of(self, node_class: type[N]) -> tuple[N, ...]:
        """Return `path`, typed as nodes of `node_class`.

        Args:
            node_class: The node class of the graph, or a base of it.

        Raises:
            InvalidArgumentError: The nodes of the cycle are of another class.
        """
        path = tuple(node for node in self.path if isinstance(node, node_class))
        if len(path) != len(self.path):
            others = sorted({type(node).__name__ for node in self.path if not isinstance(node, node_class)})
            raise InvalidArgumentError(
                f"this cycle has nodes of {', '.join(others)}, which are no {node_class.__name__}; use .path, or name "
                "their class"
            )
        return path
