"""`VerticalMapping`: the mixin for objects that are the dictionary of their own values."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar, cast, overload

from sqlalchemy import event

from .._declarative import mixin_attr, on_mapped
from .._typing import AnyMapper, MappedClass
from ..exceptions import MappingError
from ._attribute import VerticalAttributes, attribute_named, attribute_names
from ._mapping import VerticalDict

T = TypeVar("T")
V = TypeVar("V")

# The attribute that shows the dictionary, where the class has no VerticalAttributes over the relationship.
_ATTRIBUTE: Final = "_sqla_vertical_mapping"
_MISSING: Final = object()


class VerticalMapping(Generic[V]):
    """A mixin for objects that are the dictionary of their own values: ``animal["color"] = "red"``.

    Mix it in before the declarative base, and name the relationship in ``__vertical__``. Where the class has a
    `VerticalAttributes` over that relationship, its schema holds here too. The methods do what those of `VerticalDict`
    do. Unlike a dictionary the object is true when it is empty, equal to itself only, and as hashable as without the
    mixin.

    Raises:
        MappingError: While the class is mapped, if ``__vertical__`` is missing; once mappers are configured, as
            `VerticalAttributes`.
    """

    __vertical__: ClassVar[str]

    if not TYPE_CHECKING:

        @mixin_attr
        def _sqla_vertical_mapping_hook(cls):
            # Adds nothing: SQLAlchemy evaluates it while it maps a class.
            on_mapped(cls)
            # SQLAlchemy does not evaluate attributes of a mixin again for subclasses of a mapped class, and they may
            # name another relationship.
            event.listen(cls, "after_mapper_constructed", _prepare, propagate=True)
            return

    def __getitem__(self, key: str) -> V:
        """Return a value, or raise a KeyError."""
        return cast("V", _view(self)[key])

    def __setitem__(self, key: str, value: V) -> None:
        """Set a value."""
        _view(self)[key] = value

    def __delitem__(self, key: str) -> None:
        """Delete a value, or raise a KeyError."""
        del _view(self)[key]

    def __contains__(self, key: object) -> bool:
        return key in _view(self)

    def __iter__(self) -> Iterator[str]:
        return iter(_view(self))

    def __len__(self) -> int:
        return len(_view(self))

    def __bool__(self) -> bool:
        # An animal without facts is an animal.
        return True

    def keys(self) -> KeysView[str]:
        """Return a view of the keys."""
        return _view(self).keys()

    def values(self) -> ValuesView[V]:
        """Return a view of the values."""
        return cast("ValuesView[V]", _view(self).values())

    def items(self) -> ItemsView[str, V]:
        """Return a view of keys and values."""
        return cast("ItemsView[str, V]", _view(self).items())

    @overload
    def get(self, key: str, /) -> V | None: ...
    @overload
    def get(self, key: str, /, default: V | T) -> V | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """Return a value, or the default."""
        return _view(self).get(key, default)

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V | T) -> V | T: ...
    def pop(self, key: str, /, default: Any = _MISSING) -> Any:
        """Delete a value and return it, or return the default; without one raise a KeyError."""
        return _view(self).pop(key) if default is _MISSING else _view(self).pop(key, default)

    def setdefault(self, key: str, default: V, /) -> V:
        """Return a value, after setting it if the key is missing."""
        return cast("V", _view(self).setdefault(key, default))

    @overload
    def update(self, values: Mapping[str, V], /, **more: V) -> None: ...
    @overload
    def update(self, values: Iterable[tuple[str, V]] = (), /, **more: V) -> None: ...
    def update(self, values: Mapping[str, V] | Iterable[tuple[str, V]] = (), /, **more: V) -> None:
        """Set several values, or none if one of them is refused."""
        _view(self).update(values, **more)

    def clear(self) -> None:
        """Delete all values."""
        _view(self).clear()


def _view(instance: object) -> VerticalDict[Any]:
    return VerticalDict[Any](instance, _attribute_of(type(instance)).shape(type(instance)))


def _attribute_of(cls: MappedClass) -> VerticalAttributes[Any]:
    relationship = cls.__vertical__
    for name in attribute_names(cls):
        attribute = attribute_named(cls, name)
        if attribute is not None and attribute.is_over(relationship):
            return attribute
    raise MappingError(
        f"{cls.__name__!r} is not mapped yet, and has no VerticalAttributes over {relationship!r}; map it to a table "
        "first"
    )


def _prepare(mapper: AnyMapper, cls: MappedClass) -> None:
    """Give a class a `VerticalAttributes` over the relationship that it names, unless it has one."""
    relationship = getattr(cls, "__vertical__", None)
    if not isinstance(relationship, str):
        raise MappingError(
            f"VerticalMapping on {cls.__name__!r} needs the name of the relationship to its values; "
            'write __vertical__ = "facts"'
        )
    attributes = [attribute_named(cls, name) for name in attribute_names(cls)]
    if not any(attribute is not None and attribute.is_over(relationship) for attribute in attributes):
        attribute = VerticalAttributes[Any](relationship)
        setattr(cls, _ATTRIBUTE, attribute)
        attribute.__set_name__(cls, _ATTRIBUTE)
