"""Types that two or more rooms use; nothing here exists at run time for a user to call.

An attribute whose type is *the user's own class* cannot be written ``Mapped[Self]`` in a mixin: mypy then refuses
``selectinload(Category.children)``, and SQLAlchemy cannot instantiate ``Self``. `ToSelf`, `ToSelves` and `ToSelfMap` are
descriptors that only type checkers see. They read the class off the access: ``Category.children`` is an
``InstrumentedAttribute[list[Category]]`` and ``category.children`` a ``list[Category]``, in mypy and pyright, on SQLAlchemy
2.0 and 2.1. `ParentKey` types a foreign key to the class itself like the key that it refers to.

Their ``__set__`` takes any `SelfLinked` object: a type variable shared between object and value would be widened by both
checkers until any value fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute, Mapped

__all__ = ("ParentKey", "SelfLinked", "ToSelf", "ToSelfMap", "ToSelves")

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
