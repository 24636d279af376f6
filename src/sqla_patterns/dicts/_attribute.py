"""`DictAttribute`, the descriptor that gives the objects of a mapped class their dictionary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Never, Self, TypeVar, overload
from weakref import WeakKeyDictionary

from sqlalchemy.orm import QueryableAttribute

from .._functions import call_named
from .._sqlalchemy import mapper_of
from .._typing import AnyAttribute, AnyMapper, MappedClass
from ..exceptions import InvalidArgumentError
from ._async_write_only_dict import AsyncWriteOnlyDict
from ._config import DictConfig
from ._keys import key_converter
from ._write_only_dict import WriteOnlyDict

D_co = TypeVar("D_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")


def write_only_dict(
    target: str, member: Callable[[], type[V]], key: Callable[[], QueryableAttribute[K]]
) -> DictAttribute[WriteOnlyDict[K, V]]:
    """Show a write-only collection as a dictionary.

    Args:
        target: The name of the relationship, a ``WriteOnlyMapped`` of the same class.
        member: Returns the class of the values, as in ``lambda: Child``.
        key: Returns the attribute of that class which is the key, as in ``lambda: Child.key``. Put a unique constraint
            over the foreign key and this column: it is the index that makes the lookups fast.

    Raises:
        InvalidArgumentError: On first use, if the relationship is not write-only, holds another class, or the class
            has no such column.
    """
    return DictAttribute[WriteOnlyDict[K, V]](target, member, key, WriteOnlyDict[K, V])


def async_write_only_dict(
    target: str, member: Callable[[], type[V]], key: Callable[[], QueryableAttribute[K]]
) -> DictAttribute[AsyncWriteOnlyDict[K, V]]:
    """Show a write-only collection as a dictionary whose operations are awaited.

    Args:
        target: As for `write_only_dict`.
        member: As for `write_only_dict`.
        key: As for `write_only_dict`.

    Raises:
        InvalidArgumentError: On first use, as with `write_only_dict`.
    """
    return DictAttribute[AsyncWriteOnlyDict[K, V]](target, member, key, AsyncWriteOnlyDict[K, V])


class DictAttribute(Generic[D_co]):
    """An attribute made by `write_only_dict` or `async_write_only_dict`; read on an object, it is a dictionary."""

    def __init__(
        self,
        target: str,
        member: Callable[[], type[object]],
        key: Callable[[], AnyAttribute],
        make_dict: Callable[[object, DictConfig], D_co],
    ) -> None:
        self._target: Final = target
        self._member: Final = member
        self._key: Final[Callable[[], object]] = key
        self._make_dict: Final = make_dict
        self._name = target
        self._configs: Final = WeakKeyDictionary[type[object], DictConfig]()

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[object]) -> D_co: ...
    def __get__(self, instance: object | None, owner: type[object]) -> Self | D_co:
        return self if instance is None else self._make_dict(instance, self._config(type(instance)))

    def __set__(self, instance: object, value: Never) -> None:
        raise AttributeError(
            f"{type(instance).__name__}.{self._name} cannot be assigned, which would load what is there; "
            "use update(), and clear() before it to replace everything"
        )

    def _config(self, owner: MappedClass) -> DictConfig:
        if owner not in self._configs:
            self._configs[owner] = self._resolve(mapper_of(owner))
        return self._configs[owner]

    def _resolve(self, owner: AnyMapper) -> DictConfig:
        """Call the functions that the user has given, and check what they return."""
        label = f"{owner.class_.__name__}.{self._name}"
        relationship = owner.relationships.get(self._target)
        if relationship is None or relationship.lazy != "write_only":
            raise InvalidArgumentError(
                f"{label} needs a write-only relationship {self._target!r}; map it as "
                f"{self._target}: WriteOnlyMapped[...] = relationship(...)"
            )
        member, mapper = call_named(self._member, label), relationship.mapper
        key = call_named(self._key, label)
        if member is not mapper.class_:
            raise InvalidArgumentError(
                f"{label} is a dictionary of {member!r}, and {self._target!r} holds {mapper.class_.__name__}; "
                f"return that"
            )
        if not isinstance(key, QueryableAttribute) or key.key not in mapper.column_attrs:
            raise InvalidArgumentError(
                f"{label} has {key!r} as its key; return a column attribute of {mapper.class_.__name__}"
            )
        return DictConfig(
            label=label,
            owner=relationship.parent.class_,
            relationship=self._target,
            member=member,
            key=getattr(member, key.key),
            nullable=any(getattr(column, "nullable", True) for column in mapper.column_attrs[key.key].columns),
            primary_key=tuple(getattr(member, mapper.get_property_by_column(each).key) for each in mapper.primary_key),
            to_column_value=key_converter(mapper.column_attrs[key.key].columns[0].type),
        )
