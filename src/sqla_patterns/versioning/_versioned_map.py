"""The mixin of versioned maps."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar, cast, overload

from sqlalchemy import ColumnElement, Integer, event, exists
from sqlalchemy.orm import MappedColumn, aliased, mapped_column
from sqlalchemy.orm.attributes import get_history

from .._declarative import mixin_attr, on_mapped
from .._maintained import MaintainedColumn
from .._sql import is_column
from .._sqlalchemy import mapper_of, state_of
from ..exceptions import StateError
from ._versioned_map_config import ROWS, VERSION, MapConfig, map_config, rows_of
from ._versioned_map_mapping import check_hierarchy, map_versions
from ._versioned_map_values import check_value, checked_key, checked_mapping, detached_copy, is_same

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem
    from sqlalchemy.orm import Mapped

    from .._typing import AnyMapper
    from ._versioned_map_options import VersionedMapOptions

T = TypeVar("T")
V = TypeVar("V")

_MISSING: Final = object()

if TYPE_CHECKING:
    # At run time the metaclass of ABCs and that of declarative bases would be in each other's way.
    class _Mapping(MutableMapping[str, V]): ...

else:
    _Mapping = Generic


class VersionedMap(_Mapping[V]):
    """An object that is a mapping, and becomes a new version of itself with each flush that changes it.

    Mix it in before the declarative base, and map what tells streams of versions apart::

        class Config(VersionedMap[int | str], Base):
            __tablename__ = "config"
            id: Mapped[int] = mapped_column(primary_key=True)
            tenant: Mapped[str] = mapped_column(String(50))

        config = Config({"user_name": "twitter"}, tenant="t1")
        config["user_name"] = "yahoo"

    The mixin adds ``version``, which counts from 1 in each stream, a UNIQUE over stream and version, the tables
    ``<table>_value`` and ``<table>_entry``, and an integer ``id`` unless the class maps a primary key. A primary key of
    another type needs a default, since the library makes new rows.

    Methods do what those of a dictionary do. A value that can be changed in place, such as a list, is copied when it is
    set and when it is read: set it again to change it. The object equals a dictionary with the same values, and of
    versioned maps only itself; it is hashable, and true when it is empty.

    Raises:
        MappingError: While the class is mapped, if a column of the stream may be NULL, the primary key is composite or
            gets no value by itself, JSON cannot store the values, or an attribute has the name of a method of mappings.
    """

    __versioned_map__: ClassVar[VersionedMapOptions | None] = None

    # Not in a dump: a row that is inserted elsewhere has no past there.
    __sqla_maintained_columns__: ClassVar[tuple[MaintainedColumn, ...]] = (MaintainedColumn(VERSION, "VersionedMap"),)

    if TYPE_CHECKING:
        version: Mapped[int]
        #: The rows with the values, for options such as ``lazyload()``; read and write the object itself instead.
        value_rows: Mapped[dict[str, object]]
    else:

        @mixin_attr
        def id(cls):
            return None if _has_primary_key(cls) else mapped_column(Integer, primary_key=True, sort_order=-2)

        @mixin_attr
        def version(cls):
            return mapped_column(Integer, nullable=False, sort_order=-1)

        @mixin_attr
        def _sqla_versioned_map(cls):
            # Adds nothing: SQLAlchemy evaluates it while it maps a class.
            on_mapped(cls, constructed=_map_versions)
            event.listen(cls, "instrument_class", _check_hierarchy, propagate=True)
            return

    # Overloads, since mypy infers no type for a dictionary that may also be an iterable.
    @overload
    def __init__(self, values: Mapping[str, V], **attributes: Any) -> None: ...
    @overload
    def __init__(self, values: Iterable[tuple[str, V]] = (), **attributes: Any) -> None: ...
    # Not positional only: SQLAlchemy wraps the method, and passes what it takes by name.
    def __init__(self, values: Mapping[str, V] | Iterable[tuple[str, V]] = (), **attributes: Any) -> None:
        """Make the first version of a stream.

        Args:
            values: The values by key.
            attributes: Values of mapped attributes, among them those that tell the stream.
        """
        if next(base for base in _bases_above(type(self)) if "__init__" in vars(base)) is object:
            # A class of registry.mapped, whose constructor is not on a base.
            mapper_of(type(self)).registry.constructor(self, **attributes)
        else:
            super().__init__(**attributes)
        self.update(values)

    # -- reading -------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str, /) -> V:
        """Return a value, or raise a KeyError."""
        return cast("V", detached_copy(rows_of(self)[key].value))

    def __contains__(self, key: object, /) -> bool:
        return key in rows_of(self)

    def __iter__(self) -> Iterator[str]:
        return iter(rows_of(self))

    def __len__(self) -> int:
        return len(rows_of(self))

    def __bool__(self) -> bool:
        # A configuration without values is a configuration.
        return True

    def __eq__(self, other: object) -> bool:
        # Two versions may have the same values, and list.remove() must not take one for the other.
        if isinstance(other, VersionedMap):
            return self is other
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(self) == dict(cast("Mapping[object, object]", other))

    def __hash__(self) -> int:
        return object.__hash__(self)

    def keys(self) -> KeysView[str]:
        """Return a view of the keys."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, V]:
        """Return a view of keys and values."""
        return ItemsView(self)

    @overload
    def get(self, key: str, /) -> V | None: ...
    @overload
    def get(self, key: str, /, default: V) -> V: ...
    @overload
    def get(self, key: str, /, default: T) -> V | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """Return a value, or the default."""
        row = rows_of(self).get(key)
        return default if row is None else detached_copy(row.value)

    def copy(self) -> dict[str, V]:
        """Return the values in a dictionary."""
        return dict(self)

    def __or__(self, other: Mapping[str, T], /) -> dict[str, V | T]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, T], /) -> dict[str, V | T]:
        return {**other, **self}

    def __repr__(self) -> str:
        # From what is loaded: printing an object emits no SQL.
        config = map_config(type(self))
        rows = None if config is None else state_of(self).dict.get(ROWS)
        if config is None or rows is None:
            return object.__repr__(self)
        shown = {key: state_of(row).dict.get("value", ...) for key, row in rows.items()}
        return f"<{config.label(self)}: {shown!r}>"

    # -- writing -------------------------------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: V, /) -> None:
        """Set a value; one that is there already makes no version.

        Raises:
            MapValueError: The value cannot be stored.
            InvalidArgumentError: The key cannot be one.
        """
        _put(self, {key: value})

    def __delitem__(self, key: str, /) -> None:
        """Take a key out, or raise a KeyError; the versions of the past keep it."""
        del rows_of(self)[key]

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V) -> V: ...
    @overload
    def pop(self, key: str, /, default: T) -> V | T: ...
    def pop(self, key: str, /, default: Any = _MISSING) -> Any:
        """Take a key out and return its value, or return the default; without one raise a KeyError."""
        if default is not _MISSING and key not in self:
            return default
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, V]:
        """Take a key out and return it with its value, or raise a KeyError."""
        for key in self:
            return key, self.pop(key)
        raise KeyError(f"popitem(): {type(self).__name__} is empty")

    @overload
    def setdefault(self: VersionedMap[T | None], key: str, default: None = None, /) -> T | None: ...
    @overload
    def setdefault(self, key: str, default: V, /) -> V: ...
    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """Return a value, after setting it if the key is missing."""
        if key not in self:
            self[key] = default
        return self[key]

    @overload
    def update(self, values: SupportsKeysAndGetItem[str, V], /, **more: V) -> None: ...
    @overload
    def update(self, values: Iterable[tuple[str, V]] = (), /, **more: V) -> None: ...
    def update(self, values: SupportsKeysAndGetItem[str, V] | Iterable[tuple[str, V]] = (), /, **more: V) -> None:
        """Set several values, or none if one of them is refused."""
        _put(self, checked_mapping(type(self).__name__, values, more))

    # As with a dictionary, what it takes in place is less than what it is joined with, and the result is itself.
    @overload  # type: ignore[misc]
    def __ior__(self, values: SupportsKeysAndGetItem[str, V], /) -> Self: ...
    @overload
    def __ior__(self, values: Iterable[tuple[str, V]], /) -> Self: ...
    def __ior__(  # type: ignore[misc]
        self, values: SupportsKeysAndGetItem[str, V] | Iterable[tuple[str, V]], /
    ) -> Self:
        _put(self, checked_mapping(type(self).__name__, values, {}))
        return self

    def clear(self) -> None:
        """Take all keys out."""
        rows_of(self).clear()

    # -- expressions ---------------------------------------------------------------------------------------------------

    @classmethod
    def is_current(cls) -> ColumnElement[bool]:
        """Match the current version of each stream, which is the one with the highest number."""
        # An alias of the class has a mapper too.
        config = _config_of(mapper_of(cls).mapper.class_)
        # An alias of the class and not of its table, so that criteria of tenancy can be added to it.
        newer: Any = aliased(config.cls)
        entity: Any = cls
        same_stream = [getattr(newer, name) == getattr(entity, name) for name in config.stream]
        return ~exists().where(newer.version > entity.version, *same_stream)


if not TYPE_CHECKING:
    # What isinstance() and match statements go by.
    MutableMapping.register(VersionedMap)


def _bases_above(cls: type[object]) -> Iterator[type[object]]:
    mro = iter(cls.__mro__)
    for base in mro:
        if base is VersionedMap:
            break
    return mro


def _put(obj: object, values: Mapping[Any, Any]) -> None:
    """Set values, after all of them have been checked."""
    config, name = _config_of(type(obj)), type(obj).__name__
    checked = {checked_key(name, key, config.key_length): value for key, value in values.items()}
    for key, value in checked.items():
        check_value(f"{name}[{key!r}]", value, config.types, as_json=config.as_json)
    rows = rows_of(obj)
    # A value that is set back is the row that was there before, so that nothing has changed.
    before = {row.key: row for row in get_history(obj, ROWS).deleted}
    for key, value in checked.items():
        if key in rows and is_same(rows[key].value, value):
            continue
        former = before.get(key)
        rows[key] = former if former is not None and is_same(former.value, value) else config.new_row(key, value)


def _config_of(cls: type[object]) -> MapConfig:
    found = map_config(cls)
    if found is None:
        raise StateError(f"{cls.__name__} is not mapped; map it to a table before you use it")
    return found


def _has_primary_key(cls: type[object]) -> bool:
    """Return whether a class maps a primary key by itself, while it is being mapped."""
    if getattr(cls, "__table__", None) is not None:
        return True
    for base in cls.__mro__:
        if base is VersionedMap or "__mapper__" in vars(base):
            continue
        if "id" in vars(base) or "id" in vars(base).get("__annotations__", {}):
            return True
        for value in vars(base).values():
            column: object = cast("Any", value).column if isinstance(value, MappedColumn) else value
            if is_column(column) and column.primary_key:
                return True
    return False


def _map_versions(mapper: AnyMapper) -> None:
    map_versions(mapper, VersionedMap)


def _check_hierarchy(mapper: AnyMapper, _: type[object]) -> None:
    check_hierarchy(mapper)
