"""Read nested data for `insert_tree`: check every node against its class, and flatten the trees. No SQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Column
from sqlalchemy.orm import ColumnProperty, Mapper

from ..exceptions import DuplicateKeyError, InvalidArgumentError
from ._config import TreeConfig

__all__ = ("CHILDREN", "Entry", "Mappers", "TreeData", "is_written", "read_data")

TreeData = Mapping[str, object] | Iterable[Mapping[str, object]]
"""What `insert_tree` takes: one node, several, or, for a `KeyedTreeNode`, nodes by key."""

CHILDREN = "children"
_MISSING = dataclasses.MISSING


@dataclass(slots=True, eq=False)
class Entry:
    """One new row; `above` is the entry of its parent, None for those that go below `parent`; `label` its index there."""

    mapper: Mapper[Any]
    values: dict[str, Any]
    above: Entry | None
    label: str
    level: int
    pk: Any = None


class Mappers:
    """Which attributes a node may have, by the class that its discriminator picks."""

    def __init__(self, config: TreeConfig, mapper: Mapper[Any]) -> None:
        self.config = config
        self.mapper = mapper
        self._known: dict[Mapper[Any], _Shape] = {}

    def shape(self, values: Mapping[str, object]) -> _Shape:
        mapper = self.mapper
        if mapper.polymorphic_on is not None:
            attr = mapper.get_property_by_column(cast("Any", mapper.polymorphic_on)).key
            identity = values.get(attr, mapper.polymorphic_identity)
            found = mapper.polymorphic_map.get(identity)
            if found is None or not found.isa(mapper):
                raise InvalidArgumentError(f"{attr} = {identity!r} names no kind of {mapper.class_.__name__}")
            mapper = found
        shape = self._known.get(mapper)
        if shape is None:
            shape = self._known[mapper] = _Shape(self.config, mapper)
        return shape


class _Shape:
    """Attributes, defaults and obligations of one class of nodes."""

    def __init__(self, config: TreeConfig, mapper: Mapper[Any]) -> None:
        self.mapper = mapper
        self.allowed = {attr.key for attr in mapper.column_attrs if is_written(attr)} - {
            "parent_id",
            "position",
            *config.index.attributes,
        }
        if config.position is None and "position" in mapper.column_attrs:
            self.allowed.add("position")  # The user's own column of that name.
        self.fixed: dict[str, Any] = {}
        self.factories: dict[str, Callable[[], Any]] = {}
        if mapper.polymorphic_on is not None:
            attr = mapper.get_property_by_column(cast("Any", mapper.polymorphic_on)).key
            self.fixed[attr] = mapper.polymorphic_identity
        if dataclasses.is_dataclass(mapper.class_):
            self._take_dataclass_defaults(config)
        self.required = (
            {
                attr.key
                for attr in mapper.column_attrs
                if not all(_may_be_missing(column, config) for column in attr.columns if hasattr(column, "nullable"))
            }
            - self.fixed.keys()
            - self.factories.keys()
        )
        # Given as NULL where data leaves them out, which keeps rows of different data in one batch.
        self.nullable = {
            attr.key
            for attr in mapper.column_attrs
            if attr.key in self.allowed and all(_is_null_by_default(column) for column in attr.columns)
        } - self.factories.keys()
        self.not_null = [
            attr.key
            for attr in mapper.column_attrs
            if attr.key in self.allowed
            and not any(
                getattr(column, "nullable", True) or column.type.should_evaluate_none for column in attr.columns
            )
        ]
        self._checked: set[frozenset[str]] = set()

    def _take_dataclass_defaults(self, config: TreeConfig) -> None:
        # SQLAlchemy 2.0 leaves them to __init__, which is not called here; 2.1 makes them column defaults.
        for field in dataclasses.fields(self.mapper.class_):
            if field.name == config.pk_attr and field.default is None:
                continue  # A way to say that the database makes the key.
            if field.name in self.allowed and field.name not in self.fixed:
                if field.default_factory is not _MISSING:
                    self.factories[field.name] = field.default_factory
                elif field.default is not _MISSING and field.default.__class__.__module__.split(".")[0] != "sqlalchemy":
                    self.fixed[field.name] = field.default

    def check(self, values: Mapping[str, Any], where: Callable[[], str]) -> None:
        keys = frozenset(values)
        if keys in self._checked:
            return
        unknown = keys - self.allowed
        if unknown:
            raise InvalidArgumentError(
                f"{where()}: {self.mapper.class_.__name__} has no attribute {min(unknown)!r} that data can set; "
                f"known are {', '.join(sorted(self.allowed))} and {CHILDREN!r}"
            )
        missing = self.required - keys
        if missing:
            raise InvalidArgumentError(f"{where()}: {min(missing)!r} is missing, which is NOT NULL and has no default")
        self._checked.add(keys)

    def check_values(self, values: Mapping[str, Any], where: Callable[[], str]) -> None:
        for key in self.not_null:
            if values.get(key, _MISSING) is None:
                raise InvalidArgumentError(f"{where()}: {key!r} is None, and the column is NOT NULL")


def is_written(attr: ColumnProperty[Any]) -> bool:
    """Whether an attribute is a column that an INSERT may set: no SQL expression, and not computed by the database."""
    return all(isinstance(column, Column) and column.computed is None for column in attr.columns)


def _may_be_missing(column: Any, config: TreeConfig) -> bool:
    return bool(
        column.nullable
        or column.default is not None
        or column.server_default is not None
        or column.identity is not None
        or column.computed is not None
        or column is column.table.autoincrement_column
        or column is config.position
        or (column.primary_key and column.foreign_keys)
    )


def _is_null_by_default(column: Any) -> bool:
    return bool(
        getattr(column, "nullable", False)
        and column.default is None
        and column.server_default is None
        and not column.primary_key
    )


def read_data(config: TreeConfig, mappers: Mappers, data: TreeData) -> list[Entry]:
    """Flatten `data`, parents before children and siblings in order; iterative, for depth."""
    entries: list[Entry] = []
    stack: list[tuple[Entry | None, Iterator[tuple[str, Mapping[str, object]]], int, set[Any]]] = []
    stack.append((None, _nodes(config, data, lambda: "data"), 0, set()))
    while stack:
        above, nodes, index, keys = stack[-1]
        item = next(nodes, None)
        if item is None:
            stack.pop()
            continue
        label, node = item
        stack[-1] = (above, nodes, index + 1, keys)
        values = {key: value for key, value in node.items() if key != CHILDREN}
        entry = Entry(mappers.mapper, values, above, label, len(stack) - 1)

        def where(entry: Entry = entry) -> str:
            return f"{_path(entry)} ({' / '.join(_names(config, entry))})"

        if values.get(config.pk_attr, _MISSING) is None:
            del values[config.pk_attr]
        shape = mappers.shape(values)
        shape.check(values, where)
        shape.check_values(values, where)
        for key, value in shape.fixed.items():
            values.setdefault(key, value)
        for key in shape.nullable:
            values.setdefault(key, None)
        for key, factory in shape.factories.items():
            if key not in values:
                values[key] = factory()
        if config.key_attr is not None:
            own = values.get(config.key_attr)
            if not isinstance(own, Hashable):
                raise InvalidArgumentError(f"{where()}: {config.key_attr} = {own!r} cannot be a key")
            if own in keys:
                raise DuplicateKeyError(f"{where()}: a sibling in the data has {config.key_attr} = {own!r} already")
            keys.add(own)
        if config.position is not None:
            values["position"] = index
        entry.mapper, entry.pk = shape.mapper, values.get(config.pk_attr)
        entries.append(entry)
        children = node.get(CHILDREN)
        if children is not None:
            below = _nodes(config, children, _children_of(entry))
            stack.append((entry, below, 0, set()))
    return entries


def _above(entry: Entry) -> list[Entry]:
    """An entry and those above it, top first."""
    found = [entry]
    while (above := found[-1].above) is not None:
        found.append(above)
    return found[::-1]


def _path(entry: Entry) -> str:
    return "data" + f".{CHILDREN}".join(each.label for each in _above(entry))


def _children_of(entry: Entry) -> Callable[[], str]:
    return lambda: f"{_path(entry)}.{CHILDREN}"


def _names(config: TreeConfig, entry: Entry) -> list[str]:
    return [str(each.values.get(config.key_attr or "name", "?")) for each in _above(entry)]


def _nodes(config: TreeConfig, data: object, what: Callable[[], str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Nodes in any of the forms that the class allows, each with its index; `what` names all of them, for errors."""
    if isinstance(data, Mapping):
        mapping = cast("Mapping[str, object]", data)
        key_attr = config.key_attr
        if key_attr is None or (key_attr in mapping and not isinstance(mapping[key_attr], Mapping | None)):
            yield "", mapping
            return
        for key, node in mapping.items():
            if not isinstance(node, Mapping | None):
                raise InvalidArgumentError(
                    f"{what()}[{key!r}] must be a mapping of attributes, not {type(node).__name__}; "
                    f"to give one node without its key, put {{{key_attr!r}: ...}} in a list"
                )
            values: dict[str, object] = dict(cast("Mapping[str, object]", node or {}))
            own = values.setdefault(key_attr, key)
            if own != key:
                raise InvalidArgumentError(f"{what()}[{key!r}] has {key_attr} = {own!r}, which differs from its key")
            yield f"[{key!r}]", values
        return
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise InvalidArgumentError(f"{what()} must be a mapping or an iterable of mappings, not {type(data).__name__}")
    for index, node in enumerate(cast("Iterable[object]", data)):
        if not isinstance(node, Mapping):
            raise InvalidArgumentError(f"{what()}[{index}] must be a mapping of attributes, not {type(node).__name__}")
        yield f"[{index}]", cast("Mapping[str, object]", node)
