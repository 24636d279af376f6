"""`EndKey`, which tells type checkers the type of an edge's ``lower_id`` and ``higher_id``; it is not used at run time.

The type follows from the node class of the edge: ``track.lower_id`` has the type of ``Station.id``.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, overload

from sqlalchemy.orm import InstrumentedAttribute, Mapped

from ._markers import AnyEdge

K = TypeVar("K")
K_co = TypeVar("K_co", covariant=True)


class _MappedId(Protocol[K]):
    """How pyright sees a class with ``id: Mapped[K]``."""

    id: Mapped[K]


class _PlainId(Protocol[K_co]):
    """How mypy sees a class with ``id: Mapped[K]``, and both checkers a class with an ``id`` property."""

    @property
    def id(self) -> K_co: ...


class EndKey:
    """The key of one end: of the type of the node's ``id``; `object` where the node's key has another name."""

    @overload
    def __get__(self, obj: None, owner: type[AnyEdge[_MappedId[K]]]) -> InstrumentedAttribute[K]: ...
    @overload
    def __get__(self, obj: None, owner: type[AnyEdge[_PlainId[K]]]) -> InstrumentedAttribute[K]: ...
    @overload
    def __get__(self, obj: None, owner: type[object]) -> InstrumentedAttribute[object]: ...
    @overload
    def __get__(self, obj: AnyEdge[_MappedId[K]], owner: type[object]) -> K: ...
    @overload
    def __get__(self, obj: AnyEdge[_PlainId[K]], owner: type[object]) -> K: ...
    @overload
    def __get__(self, obj: object, owner: type[object]) -> object: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: object, value: object) -> None:
        raise NotImplementedError
