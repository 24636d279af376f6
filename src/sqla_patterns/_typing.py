"""Types that two or more packages use in annotations.

The aliases at the top stand for SQLAlchemy's generic classes where the type parameter is the user's own class or column
type, which the library handles without knowing it: ``AnyMapper`` is the mapper of whatever class the user has mapped.

An attribute whose type is *the user's own class* cannot be written ``Mapped[Self]`` in a mixin: mypy then refuses
``selectinload(Category.children)``, and SQLAlchemy cannot instantiate ``Self``. `ToSelf`, `ToSelves` and `ToSelfMap`
are descriptors that only type checkers see. They take the type from the class on which the attribute is read:
``Category.children`` is an ``InstrumentedAttribute[list[Category]]`` and ``category.children`` a ``list[Category]``, in
mypy and pyright, on SQLAlchemy 2.0 and 2.1. `ParentKey` gives a foreign key to the class itself the type of the key
that it refers to.

Their ``__set__`` takes any object of a mixin that derives from `SelfLinked`, also one of another class: with one type
variable for the object and the value, both checkers would infer a type that is wide enough for any value at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar, overload

from sqlalchemy import Column, ColumnElement, Result, Select
from sqlalchemy.orm import (
    InstanceState,
    InstrumentedAttribute,
    Mapped,
    Mapper,
    QueryableAttribute,
    RelationshipProperty,
)
from sqlalchemy.types import TypeEngine

#: A class that the user has mapped. Its attributes are the user's, so that no checker knows them here.
MappedClass: TypeAlias = type[Any]
#: An object of such a class.
MappedObject: TypeAlias = Any
#: What a primary key column holds, such as an int, a str or a UUID; where the key is composite, a tuple.
PrimaryKey: TypeAlias = Any
AnyMapper: TypeAlias = Mapper[Any]
AnyState: TypeAlias = InstanceState[Any]
AnyColumn: TypeAlias = Column[Any]
AnyExpression: TypeAlias = ColumnElement[Any]
AnyAttribute: TypeAlias = QueryableAttribute[Any]
AnyRelationship: TypeAlias = RelationshipProperty[Any]
AnySelect: TypeAlias = Select[Any]
AnyResult: TypeAlias = Result[Any]
AnyType: TypeAlias = TypeEngine[Any]

K = TypeVar("K")
K_co = TypeVar("K_co", covariant=True)
N = TypeVar("N", bound="SelfLinked")


class SelfLinked:
    """Marks mixins whose objects refer to other objects of the same class; it has no behaviour."""


class _MappedId(Protocol[K]):
    """How pyright sees a class with ``id: Mapped[K]``."""

    id: Mapped[K]


class _PlainId(Protocol[K_co]):
    """How mypy sees a class with ``id: Mapped[K]``, or anyone a class with an ``id`` property."""

    @property
    def id(self) -> K_co: ...


class ToSelf:
    """An optional reference to an object of the owner's own class."""

    @overload
    def __get__(self, obj: None, owner: type[N]) -> InstrumentedAttribute[N | None]: ...
    @overload
    def __get__(self, obj: N, owner: type[N]) -> N | None: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: SelfLinked, value: SelfLinked | None) -> None:
        raise NotImplementedError


class ToSelves:
    """A list of objects of the owner's own class."""

    @overload
    def __get__(self, obj: None, owner: type[N]) -> InstrumentedAttribute[list[N]]: ...
    @overload
    def __get__(self, obj: N, owner: type[N]) -> list[N]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: SelfLinked, value: Iterable[SelfLinked]) -> None:
        raise NotImplementedError


class ToSelfMap:
    """A dictionary of objects of the owner's own class, by a string key."""

    @overload
    def __get__(self, obj: None, owner: type[N]) -> InstrumentedAttribute[dict[str, N]]: ...
    @overload
    def __get__(self, obj: N, owner: type[N]) -> dict[str, N]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: SelfLinked, value: Mapping[str, SelfLinked]) -> None:
        raise NotImplementedError


class ParentKey:
    """A nullable key of the type of the owner's ``id``; `object` where the key has another name."""

    @overload
    def __get__(self, obj: None, owner: type[_MappedId[K]]) -> InstrumentedAttribute[K | None]: ...
    @overload
    def __get__(self, obj: None, owner: type[_PlainId[K]]) -> InstrumentedAttribute[K | None]: ...
    @overload
    def __get__(self, obj: None, owner: type[object]) -> InstrumentedAttribute[object]: ...
    @overload
    def __get__(self, obj: _MappedId[K], owner: type[object]) -> K | None: ...
    @overload
    def __get__(self, obj: _PlainId[K], owner: type[object]) -> K | None: ...
    @overload
    def __get__(self, obj: object, owner: type[object]) -> object: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        raise NotImplementedError

    def __set__(self, obj: object, value: object) -> None:
        raise NotImplementedError
