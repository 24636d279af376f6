"""How type checkers see the attributes that lead from nodes to edges and back; nothing here runs.

``Mapped[Node]`` in a generic class would not do: mypy refuses ``selectinload(Track.lower_node)`` as ambiguous. These
descriptors read the node class off the access instead: ``Track.lower_node`` is an ``InstrumentedAttribute[Station]``,
``track.lower_node`` a ``Station``, and ``track.lower_id`` has the type of ``Station.id``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute, Mapped

    from ._model import GraphEdge, GraphNode

__all__ = ("EdgeList", "EndKey", "EndNode", "Joins")

K = TypeVar("K")
K_co = TypeVar("K_co", covariant=True)
N = TypeVar("N", bound="GraphNode")
N_co = TypeVar("N_co", covariant=True)


class _MappedId(Protocol[K]):
    """How pyright sees a class with ``id: Mapped[K]``."""

    id: Mapped[K]


class _PlainId(Protocol[K_co]):
    """How mypy sees a class with ``id: Mapped[K]``, or anyone a class with an ``id`` property."""

    @property
    def id(self) -> K_co: ...


class Joins(Generic[N_co]):
    """A covariant base of `GraphEdge`, which is invariant: only so do checkers find the type of ``id`` behind the node class."""


class EndKey:
    """The key of one end: of the type of the node's ``id``; `object` where the node's key has another name."""

    @overload
    def __get__(self, obj: None, owner: type[Joins[_MappedId[K]]]) -> InstrumentedAttribute[K]: ...
    @overload
    def __get__(self, obj: None, owner: type[Joins[_PlainId[K]]]) -> InstrumentedAttribute[K]: ...
    @overload
    def __get__(self, obj: None, owner: type[object]) -> InstrumentedAttribute[object]: ...
    @overload
    def __get__(self, obj: Joins[_MappedId[K]], owner: type[object]) -> K: ...
    @overload
    def __get__(self, obj: Joins[_PlainId[K]], owner: type[object]) -> K: ...
    @overload
    def __get__(self, obj: object, owner: type[object]) -> object: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: object, value: object) -> None:
        raise NotImplementedError


class EndNode:
    """The node at one end."""

    @overload
    def __get__(self, obj: None, owner: type[GraphEdge[N]]) -> InstrumentedAttribute[N]: ...
    @overload
    def __get__(self, obj: GraphEdge[N], owner: type[object]) -> N: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    # pyright checks the value; mypy infers Any for a type variable here and takes whatever comes.
    def __set__(self, obj: GraphEdge[N], value: N) -> None:
        raise NotImplementedError


class EdgeList:
    """The edges at one side of a node."""

    @overload
    def __get__(self, obj: None, owner: type[N]) -> InstrumentedAttribute[list[GraphEdge[N]]]: ...
    @overload
    def __get__(self, obj: N, owner: type[N]) -> list[GraphEdge[N]]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: GraphNode, value: Iterable[GraphEdge[Any]]) -> None:
        raise NotImplementedError
