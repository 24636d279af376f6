"""How a versioned map is mapped: found out once, while its class is mapped, and shared by all objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Table, inspect

from .._typing import AnyAttribute, AnyColumn, AnyMapper, MappedClass, MappedObject
from ..exceptions import InvalidArgumentError, StateError
from ._versioned_map_values import detached_copy

#: The attribute of a mapped class with its `MapConfig`.
CONFIG_ATTRIBUTE: Final = "__sqla_versioned_map__"
#: The relationship of a versioned map to its values.
ROWS: Final = "value_rows"
#: The relationship of a value to the version that had it first.
ORIGIN: Final = "origin"
VERSION: Final = "version"


@dataclass(frozen=True, eq=False)
class MapConfig:
    """How the versions of a class are stored.

    Attributes:
        mapper: The mapper of the class.
        table: Its table, with a row for each version.
        pk: The column of the primary key.
        pk_attribute: The attribute of it.
        stream: The attributes that tell streams apart.
        details: The other attributes of the user's, which describe a version.
        generated: Those of them that the database, or a default, gives each version again.
        value_class: The class of the values, each a row that several versions share.
        value_table: Its table.
        entry_table: The table that says which versions have which values.
        types: The classes that values may have; None if that is not known.
        as_json: Whether values are stored as JSON.
        key_length: How long a key may be.
    """

    mapper: AnyMapper
    table: Table
    pk: AnyColumn
    pk_attribute: str
    stream: tuple[str, ...]
    details: tuple[str, ...]
    generated: tuple[str, ...]
    value_class: MappedClass
    value_table: Table
    entry_table: Table
    types: frozenset[type[object]] | None
    as_json: bool
    key_length: int

    @property
    def cls(self) -> MappedClass:
        """The class."""
        return self.mapper.class_

    @property
    def name(self) -> str:
        """The name of the class, for messages."""
        return str(self.mapper.class_.__name__)

    def column(self, attribute: str) -> AnyColumn:
        """Return the column of an attribute."""
        return self.mapper.columns[attribute]

    def new_row(self, key: str, value: object) -> MappedObject:
        """Return a new row for a value."""
        row: MappedObject = self.value_class()
        row.key, row.value = key, detached_copy(value)
        return row

    def label(self, obj: MappedObject) -> str:
        """Return how messages name an object, from what is loaded: ``Config(tenant='t1', version=2)``."""
        values: Mapping[str, object] = inspect(obj).dict
        shown = [f"{each}={values[each]!r}" for each in (*self.stream, VERSION) if values.get(each) is not None]
        return f"{self.name}({', '.join(shown)})"

    def checked_stream(self, function: str, given: Mapping[str, object], *arguments: str) -> dict[str, object]:
        """Return the key of a stream, in the order of its columns.

        Args:
            function: The function that the user has called.
            given: The key.
            arguments: What else the function takes, for the message.

        Raises:
            InvalidArgumentError: Something is missing, None, or no part of the key.
        """
        call = ", ".join(("session", self.name, *arguments, *(f"{each}=..." for each in self.stream)))
        if set(given) != set(self.stream):
            what = f"the values of {', '.join(self.stream)}" if self.stream else "no values, as there is one stream"
            raise InvalidArgumentError(
                f"{function}() tells a stream of {self.name} by {what}, and was given "
                f"{', '.join(given) or 'none'}; write {function}({call})"
            )
        for name, value in given.items():
            if value is None:
                raise InvalidArgumentError(
                    f"{function}() was given None for {self.name}.{name}, which is never NULL; give the value"
                )
        return {each: given[each] for each in self.stream}

    def is_stream(self, entity: Any, key: Mapping[str, object]) -> list[ColumnElement[bool]]:
        """Return the conditions that rows of an entity belong to a stream."""
        return [cast("AnyAttribute", getattr(entity, name)) == value for name, value in key.items()]


def map_config(cls: MappedClass) -> MapConfig | None:
    """Return how a class is mapped as a versioned map, or None if it is none."""
    found = getattr(cls, CONFIG_ATTRIBUTE, None)
    return found if isinstance(found, MapConfig) else None


def require_map_config(cls: object, function: str) -> MapConfig:
    """Return how a class is mapped as a versioned map.

    Raises:
        InvalidArgumentError: It is none.
    """
    found = map_config(cls) if isinstance(cls, type) else None
    if found is None:
        raise InvalidArgumentError(
            f"{function}() needs a class that is mapped with VersionedMap and was given {cls!r}; pass such a class"
        )
    return found


def rows_of(obj: object) -> MutableMapping[str, MappedObject]:
    """Return the rows with the values of an object by key; they are loaded unless they are in memory.

    Raises:
        StateError: Its class is not mapped.
    """
    if map_config(type(obj)) is None:
        raise StateError(f"{type(obj).__name__} is not mapped; map it to a table before you use it")
    return cast("MutableMapping[str, MappedObject]", getattr(obj, ROWS))


def maps_in(objects: Iterable[object]) -> Iterator[tuple[MappedObject, MapConfig]]:
    """Yield those of some objects that are versioned maps, with how they are mapped."""
    for obj in objects:
        config = map_config(type(obj))
        if config is not None:
            yield obj, config


def by_config(found: Iterable[tuple[MappedObject, MapConfig]]) -> dict[MapConfig, list[MappedObject]]:
    """Group objects by class."""
    grouped: dict[MapConfig, list[MappedObject]] = {}
    for obj, config in found:
        grouped.setdefault(config, []).append(obj)
    return grouped
