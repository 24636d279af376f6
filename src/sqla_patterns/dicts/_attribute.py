"""The attribute of a class that shows a dictionary on its instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Never, Self, TypeVar, overload
from weakref import WeakKeyDictionary

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper, QueryableAttribute

from ..exceptions import InvalidArgumentError
from ._asyncio import AsyncWriteOnlyDict
from ._mapping import WriteOnlyDict
from ._shape import Shape

__all__ = ("DictAttribute", "async_write_only_dict", "write_only_dict")

D_co = TypeVar("D_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")


def write_only_dict(
    target: str, member: Callable[[], type[V]], key: Callable[[], QueryableAttribute[K]]
) -> DictAttribute[WriteOnlyDict[K, V]]:
    """Show a write-only collection as a dictionary.

    Args:
        target: the relationship, a ``WriteOnlyMapped`` of the same class.
        member: returns the class of the values, as in ``lambda: Child``.
        key: returns its attribute that is the key, as in ``lambda: Child.key``. Put a unique constraint over the foreign key
            and this column: it is the index that makes the lookups fast.

    Raises:
        InvalidArgumentError: on use, if the relationship is not write-only, holds another class, or the class has no such
            column.
    """
    return DictAttribute[WriteOnlyDict[K, V]](target, member, key, WriteOnlyDict[K, V])


def async_write_only_dict(
    target: str, member: Callable[[], type[V]], key: Callable[[], QueryableAttribute[K]]
) -> DictAttribute[AsyncWriteOnlyDict[K, V]]:
    """Show a write-only collection as a dictionary whose operations are awaited; the arguments are those of `write_only_dict`.

    Raises:
        InvalidArgumentError: on use, as with `write_only_dict`.
    """
    return DictAttribute[AsyncWriteOnlyDict[K, V]](target, member, key, AsyncWriteOnlyDict[K, V])


class DictAttribute(Generic[D_co]):
    """The attribute of a class that `write_only_dict` and `async_write_only_dict` make; an instance shows its dictionary."""

    def __init__(
        self,
        target: str,
        member: Callable[[], type[Any]],
        key: Callable[[], QueryableAttribute[Any]],
        show: Callable[[Any, Shape], D_co],
    ) -> None:
        self._target: Final = target
        self._member: Final = member
        self._key: Final = key
        self._show: Final = show
        self._name = target
        self._shapes: Final = WeakKeyDictionary[type[Any], Shape]()

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> D_co: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Self | D_co:
        return self if instance is None else self._show(instance, self._shape(type(instance)))

    def __set__(self, instance: object, value: Never) -> None:
        raise AttributeError(
            f"{type(instance).__name__}.{self._name} cannot be assigned, which would load what is there; "
            "use update(), and clear() before it to replace everything"
        )

    def _shape(self, owner: type[Any]) -> Shape:
        if owner not in self._shapes:
            self._shapes[owner] = self._resolve(inspect(owner))
        return self._shapes[owner]

    def _resolve(self, owner: Mapper[Any]) -> Shape:
        label = f"{owner.class_.__name__}.{self._name}"
        relationship = owner.relationships.get(self._target)
        if relationship is None or relationship.lazy != "write_only":
            raise InvalidArgumentError(
                f"{label} needs a write-only relationship {self._target!r}; map it as "
                f"{self._target}: WriteOnlyMapped[...] = relationship(...)"
            )
        member, mapper = self._member(), relationship.mapper
        key: Any = self._key()
        if member is not mapper.class_:
            raise InvalidArgumentError(
                f"{label} is a dictionary of {member!r}, and {self._target!r} holds {mapper.class_.__name__}; "
                f"return that"
            )
        if not isinstance(key, QueryableAttribute) or key.key not in mapper.column_attrs:
            raise InvalidArgumentError(
                f"{label} has {key!r} as its key; return a column attribute of {mapper.class_.__name__}"
            )
        return Shape(
            label=label,
            relationship=self._target,
            member=member,
            key=getattr(member, key.key),
            nullable=any(getattr(column, "nullable", True) for column in mapper.column_attrs[key.key].columns),
            identity=tuple(getattr(member, mapper.get_property_by_column(each).key) for each in mapper.primary_key),
        )
