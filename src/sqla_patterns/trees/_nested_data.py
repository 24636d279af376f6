"""Nested data for `insert_tree`: check every node against its class, and flatten the trees to rows. No SQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Column
from sqlalchemy.orm import ColumnProperty

from .._maintained import maintained_columns
from .._typing import AnyColumn, AnyMapper, PrimaryKey
from ..exceptions import DuplicateKeyError, InvalidArgumentError
from ._config import TreeConfig

TreeData = Mapping[str, object] | Iterable[Mapping[str, object]]
"""What `insert_tree` takes: one node, several, or, for a `KeyedTreeNode`, nodes by key."""

CHILDREN = "children"
_MISSING = dataclasses.MISSING


@dataclass(slots=True, eq=False)
class NewRow:
    """A row that `insert_tree` is about to insert.

    Attributes:
        mapper: The mapper of its class.
        values: Its values, by attribute.
        parent: The row of its parent; None at the top of the data.
        label: Its index among the children of its parent, for texts of errors.
        level: How many rows of the data lie above it.
        pk: Its primary key, as soon as that is known.
    """

    mapper: AnyMapper
    values: dict[str, Any]
    parent: NewRow | None
    label: str
    level: int
    pk: PrimaryKey = None


class NodeSchemas:
    """The attributes that nodes may have, by the class that their discriminator picks."""

    def __init__(self, config: TreeConfig, mapper: AnyMapper) -> None:
        self.config = config
        self.mapper = mapper
        self._known: dict[AnyMapper, _NodeSchema] = {}

    def schema_of(self, values: Mapping[str, object]) -> _NodeSchema:
        """Return the schema of a node with these values."""
        mapper = self.mapper
        if mapper.polymorphic_on is not None:
            attr = _discriminator(mapper)
            identity = values.get(attr, mapper.polymorphic_identity)
            found = mapper.polymorphic_map.get(identity)
            if found is None or not found.isa(mapper):
                raise InvalidArgumentError(f"{attr} = {identity!r} names no kind of {mapper.class_.__name__}")
            mapper = found
        schema = self._known.get(mapper)
        if schema is None:
            schema = self._known[mapper] = _NodeSchema(self.config, mapper)
        return schema


class _NodeSchema:
    """The attributes of one class of nodes: those that data may set, those that it must set, and their defaults."""

    def __init__(self, config: TreeConfig, mapper: AnyMapper) -> None:
        self.mapper = mapper
        kept = not_dumped(mapper)
        self.allowed = {attr.key for attr in mapper.column_attrs if is_written(attr)} - {"parent_id"} - kept
        self.fixed: dict[str, object] = {}
        self.factories: dict[str, Callable[[], object]] = {}
        if mapper.polymorphic_on is not None:
            self.fixed[_discriminator(mapper)] = mapper.polymorphic_identity
        if dataclasses.is_dataclass(mapper.class_):
            self._take_dataclass_defaults(config)
        self.required = (
            {
                attr.key
                for attr in mapper.column_attrs
                if not all(_may_be_missing(column, config) for column in attr.columns if isinstance(column, Column))
            }
            - self.fixed.keys()
            - self.factories.keys()
            - kept
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

    def check(self, values: Mapping[str, object], where: Callable[[], str]) -> None:
        """Refuse unknown and missing attributes."""
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

    def check_values(self, values: Mapping[str, object], where: Callable[[], str]) -> None:
        """Refuse None where the column is NOT NULL."""
        for key in self.not_null:
            if values.get(key, _MISSING) is None:
                raise InvalidArgumentError(f"{where()}: {key!r} is None, and the column is NOT NULL")


def not_dumped(mapper: AnyMapper) -> set[str]:
    """Return the attributes that packages, or SQLAlchemy's version counter, write themselves for each row."""
    kept = {name for name, column in maintained_columns(mapper.class_).items() if not column.in_dump}
    if mapper.version_id_col is not None:
        kept.add(str(mapper.get_property_by_column(mapper.version_id_col).key))
    return kept


def is_written(attr: ColumnProperty[Any]) -> bool:
    """Return whether an INSERT may set an attribute: whether it is a column that the database does not compute."""
    return all(isinstance(column, Column) and column.computed is None for column in attr.columns)


def _discriminator(mapper: AnyMapper) -> str:
    """Return the name of the attribute with the polymorphic identity."""
    return mapper.get_property_by_column(cast("AnyColumn", mapper.polymorphic_on)).key


def _may_be_missing(column: AnyColumn, config: TreeConfig) -> bool:
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


def _is_null_by_default(column: object) -> bool:
    return bool(
        isinstance(column, Column)
        and column.nullable
        and column.default is None
        and column.server_default is None
        and not column.primary_key
    )


def read_data(config: TreeConfig, schemas: NodeSchemas, data: TreeData) -> list[NewRow]:
    """Return the nodes of `data` as rows, parents before children and siblings in order.

    Iterative, because trees may be deeper than Python recurses.

    Raises:
        InvalidArgumentError: Data of the wrong shape, an unknown attribute, or a value that is missing.
        DuplicateKeyError: Two siblings of a `KeyedTreeNode` have one key.
    """
    rows: list[NewRow] = []
    stack: list[tuple[NewRow | None, Iterator[tuple[str, Mapping[str, object]]], int, set[Hashable]]] = []
    stack.append((None, _nodes(config, data, lambda: "data"), 0, set()))
    while stack:
        parent, nodes, index, keys = stack[-1]
        item = next(nodes, None)
        if item is None:
            stack.pop()
            continue
        label, node = item
        stack[-1] = (parent, nodes, index + 1, keys)
        values = {key: value for key, value in node.items() if key != CHILDREN}
        row = NewRow(schemas.mapper, values, parent, label, len(stack) - 1)

        def where(row: NewRow = row) -> str:
            return f"{_path(row)} ({' / '.join(_names(config, row))})"

        if values.get(config.pk_attr, _MISSING) is None:
            del values[config.pk_attr]
        schema = schemas.schema_of(values)
        schema.check(values, where)
        schema.check_values(values, where)
        for key, value in schema.fixed.items():
            values.setdefault(key, value)
        for key in schema.nullable:
            values.setdefault(key, None)
        for key, factory in schema.factories.items():
            if key not in values:
                values[key] = factory()
        if config.key_attr is not None:
            node_key = values.get(config.key_attr)
            if not isinstance(node_key, Hashable):
                raise InvalidArgumentError(f"{where()}: {config.key_attr} = {node_key!r} cannot be a key")
            if node_key in keys:
                raise DuplicateKeyError(
                    f"{where()}: a sibling in the data has {config.key_attr} = {node_key!r} already"
                )
            keys.add(node_key)
        if config.position is not None:
            values["position"] = index
        row.mapper, row.pk = schema.mapper, values.get(config.pk_attr)
        rows.append(row)
        children = node.get(CHILDREN)
        if children is not None:
            below = _nodes(config, children, _children_of(row))
            stack.append((row, below, 0, set()))
    return rows


def _with_ancestors(row: NewRow) -> list[NewRow]:
    """Return a row and those above it, top first."""
    found = [row]
    while (parent := found[-1].parent) is not None:
        found.append(parent)
    return found[::-1]


def _path(row: NewRow) -> str:
    return "data" + f".{CHILDREN}".join(each.label for each in _with_ancestors(row))


def _children_of(row: NewRow) -> Callable[[], str]:
    return lambda: f"{_path(row)}.{CHILDREN}"


def _names(config: TreeConfig, row: NewRow) -> list[str]:
    return [str(each.values.get(config.key_attr or "name", "?")) for each in _with_ancestors(row)]


def _nodes(config: TreeConfig, data: object, what: Callable[[], str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the nodes of `data`, in any of the forms that the class allows, each with its index.

    `what` returns the name of `data`, for errors.
    """
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
            said = values.setdefault(key_attr, key)
            if said != key:
                raise InvalidArgumentError(f"{what()}[{key!r}] has {key_attr} = {said!r}, which differs from its key")
            yield f"[{key!r}]", values
        return
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise InvalidArgumentError(f"{what()} must be a mapping or an iterable of mappings, not {type(data).__name__}")
    for index, node in enumerate(cast("Iterable[object]", data)):
        if not isinstance(node, Mapping):
            raise InvalidArgumentError(f"{what()}[{index}] must be a mapping of attributes, not {type(node).__name__}")
        yield f"[{index}]", cast("Mapping[str, object]", node)
