"""Whole trees in and out as nested data: `insert_tree` and `dump_tree`."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast, overload

from sqlalchemy import Connection, Table, func, insert, inspect, select, text
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.types import Integer

from .._locks import locking_read
from ..exceptions import DuplicateKeyError, InvalidArgumentError
from ._apply import join_parent, sort_children
from ._checks import chunks, lock_place
from ._config import TreeConfig, config_of
from ._errors import InvalidMoveError
from ._loading import walk_tree
from ._node import KeyedTreeNode, NodeT, TreeNode
from ._predicates import key_of
from ._touched import touch

__all__ = ("TreeData", "dump_tree", "insert_tree")

ListT = TypeVar("ListT", bound=TreeNode)
KeyedT = TypeVar("KeyedT", bound=KeyedTreeNode)

TreeData = Mapping[str, object] | Iterable[Mapping[str, object]]
"""What `insert_tree` takes: one node, several, or, for a `KeyedTreeNode`, nodes by key."""

_CHILDREN = "children"
_MISSING = dataclasses.MISSING


def insert_tree(
    session: Session, entity: type[NodeT], data: TreeData, parent: NodeT | object | None = None
) -> Sequence[NodeT]:
    """Insert whole trees from nested data, in bulk, and return the new nodes at the top.

    Args:
        entity: the tree class, or a subclass of it.
        data: a node is a mapping of attribute names to values, and its ``"children"`` are more nodes. For a `TreeNode` they come as an
            iterable, which may be a generator, or as one mapping. For a `KeyedTreeNode` they may also come as a mapping of
            keys to nodes. Where the class is polymorphic, the discriminator picks the class of a node.
        parent: put the new nodes below this one, behind its children; an instance or a primary key. None makes roots.

    The rows go straight to the database: column defaults apply, dataclass defaults too, while ``__init__``, ``@validates``
    and events of single objects are not called. Positions number from 0 below each new node. The session is flushed first.

    Statements: one batch of INSERTs where keys are known beforehand: those in the data, Python-side defaults, PostgreSQL
    sequences (one more SELECT), SQLite integers (likewise). Otherwise one batch for each level of the tree. Two SELECTs find the place
    and its last sibling, one returns the new top nodes.

    Raises:
        InvalidArgumentError: data of the wrong shape, an unknown attribute, a value that is missing; it names the node by its path.
        DuplicateKeyError: two siblings of a `KeyedTreeNode` with one key, new or there already.
        InvalidMoveError: `parent` does not exist.

    All of them come before the first INSERT.
    """
    config = config_of(entity)
    session.flush()
    parent_pk = None if parent is None else key_of(config, parent)
    plans = _Mappers(config, cast("Mapper[Any]", inspect(entity)))
    entries = _read(config, plans, data)
    if not entries:
        return []
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    if not lock_place(connection, config, parent_pk):
        raise InvalidMoveError(f"nothing can go below <{config.name} {parent_pk!r}>, which does not exist")
    tops = [entry for entry in entries if entry.above is None]
    _refuse_present_keys(connection, config, parent_pk, tops)
    if config.position is not None:
        _number_tops(connection, config, parent_pk, tops)
    for entry in tops:
        entry.values["parent_id"] = parent_pk
    _insert(session, connection, config, entries)
    return _show(session, entity, config, parent_pk, [entry.pk for entry in tops])


@dataclass(slots=True, eq=False)
class _Entry:
    """One new row; `above` is the entry of its parent, None for those that go below `parent`."""

    mapper: Mapper[Any]
    values: dict[str, Any]
    above: _Entry | None
    level: int
    pk: Any = None


class _Mappers:
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
        self.allowed = {attr.key for attr in mapper.column_attrs} - {"parent_id", "position"}
        if config.position is None and "position" in mapper.column_attrs:
            self.allowed.add("position")  # The user's own column of that name.
        self.fixed: dict[str, Any] = {}
        self.factories: dict[str, Callable[[], Any]] = {}
        if mapper.polymorphic_on is not None:
            attr = mapper.get_property_by_column(cast("Any", mapper.polymorphic_on)).key
            self.fixed[attr] = mapper.polymorphic_identity
        if dataclasses.is_dataclass(mapper.class_):
            self._take_dataclass_defaults()
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
        self._checked: set[frozenset[str]] = set()

    def _take_dataclass_defaults(self) -> None:
        # SQLAlchemy 2.0 leaves them to __init__, which is not called here; 2.1 makes them column defaults.
        for field in dataclasses.fields(self.mapper.class_):
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
                f"known are {', '.join(sorted(self.allowed))} and {_CHILDREN!r}"
            )
        missing = self.required - keys
        if missing:
            raise InvalidArgumentError(f"{where()}: {min(missing)!r} is missing, which is NOT NULL and has no default")
        self._checked.add(keys)


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


def _read(config: TreeConfig, mappers: _Mappers, data: TreeData) -> list[_Entry]:
    """Flatten `data`, parents before children and siblings in order; iterative, for depth."""
    entries: list[_Entry] = []
    name_attr = config.key_attr or "name"
    stack: list[tuple[_Entry | None, Iterator[tuple[str, Mapping[str, object]]], int, dict[Any, None]]] = []
    stack.append((None, _nodes(config, data, "data"), 0, {}))
    while stack:
        above, nodes, index, keys = stack[-1]
        item = next(nodes, None)
        if item is None:
            stack.pop()
            continue
        label, node = item
        stack[-1] = (above, nodes, index + 1, keys)

        def where(label: str = label, node: Mapping[str, object] = node, above: _Entry | None = above) -> str:
            names = [str(node.get(name_attr, "?"))]
            while above is not None:
                names.append(str(above.values.get(name_attr, "?")))
                above = above.above
            return f"{label} ({' / '.join(reversed(names))})"

        values = {key: value for key, value in node.items() if key != _CHILDREN}
        shape = mappers.shape(values)
        shape.check(values, where)
        for key, value in shape.fixed.items():
            values.setdefault(key, value)
        for key in shape.nullable:
            values.setdefault(key, None)
        for key, factory in shape.factories.items():
            if key not in values:
                values[key] = factory()
        if config.key_attr is not None:
            own = values.get(config.key_attr)
            if own in keys:
                raise DuplicateKeyError(f"{where()}: a sibling in the data has {config.key_attr} = {own!r} already")
            keys[own] = None
        if config.position is not None:
            values["position"] = index
        entry = _Entry(shape.mapper, values, above, len(stack) - 1, values.get(config.pk_attr))
        entries.append(entry)
        children = node.get(_CHILDREN)
        if children is not None:
            stack.append((entry, _nodes(config, children, f"{_CHILDREN} of {label}"), 0, {}))
    return entries


def _nodes(config: TreeConfig, data: object, what: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Nodes with a label each, in any of the forms that the class allows."""
    if isinstance(data, Mapping):
        mapping = cast("Mapping[str, object]", data)
        key_attr = config.key_attr
        if key_attr is None or (key_attr in mapping and not isinstance(mapping[key_attr], Mapping | None)):
            yield what, mapping
            return
        for key, node in mapping.items():
            if not isinstance(node, Mapping | None):
                raise InvalidArgumentError(
                    f"{what}[{key!r}] must be a mapping of attributes, not {type(node).__name__}; "
                    f"to give one node without its key, put {{{key_attr!r}: ...}} in a list"
                )
            values: dict[str, object] = dict(cast("Mapping[str, object]", node or {}))
            own = values.setdefault(key_attr, key)
            if own != key:
                raise InvalidArgumentError(f"{what}[{key!r}] has {key_attr} = {own!r}, which differs from its key")
            yield f"{what}[{key!r}]", values
        return
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise InvalidArgumentError(f"{what} must be a mapping or an iterable of mappings, not {type(data).__name__}")
    for index, node in enumerate(cast("Iterable[object]", data)):
        if not isinstance(node, Mapping):
            raise InvalidArgumentError(f"{what}[{index}] must be a mapping of attributes, not {type(node).__name__}")
        yield f"{what}[{index}]", cast("Mapping[str, object]", node)


def _siblings(config: TreeConfig, parent_pk: Any) -> Any:
    return config.parent_id.is_(None) if parent_pk is None else config.parent_id == parent_pk


def _refuse_present_keys(connection: Connection, config: TreeConfig, parent_pk: Any, tops: list[_Entry]) -> None:
    if config.key is None or config.key_attr is None:
        return
    for keys in chunks(entry.values[config.key_attr] for entry in tops):
        statement = select(config.key).where(_siblings(config, parent_pk), config.key.in_(keys)).limit(1)
        present = connection.scalar(locking_read(connection, statement))
        if present is not None:
            place = "among the roots" if parent_pk is None else f"below <{config.name} {parent_pk!r}>"
            raise DuplicateKeyError(f"there is a node with {config.key_attr} = {present!r} {place} already")


def _number_tops(connection: Connection, config: TreeConfig, parent_pk: Any, tops: list[_Entry]) -> None:
    statement = select(func.max(config.position)).where(_siblings(config, parent_pk))
    last = cast("int | None", connection.scalar(locking_read(connection, statement)))
    for offset, entry in enumerate(tops, start=0 if last is None else last + 1):
        entry.values["position"] = offset


def _insert(session: Session, connection: Connection, config: TreeConfig, entries: list[_Entry]) -> None:
    """INSERT in one batch for each class if keys can be had beforehand, else level by level."""
    unknown = [entry for entry in entries if entry.pk is None]
    keys = _allocate(session, connection, config, entries, len(unknown)) if unknown else []
    if keys is not None:
        for entry, key in zip(unknown, keys, strict=True):
            entry.pk = entry.values[config.pk_attr] = key
    # Entries stand in depth-first order, so one batch has parents before their children; several need a level each.
    one_batch = keys is not None and len({_batch_of(entry) for entry in entries}) == 1
    levels: dict[int, dict[object, list[_Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        levels[0 if one_batch else entry.level][_batch_of(entry)].append(entry)
    for _, batches in sorted(levels.items()):
        for batch in batches.values():
            for entry in batch:
                if entry.above is not None:
                    entry.values["parent_id"] = entry.above.pk
            _insert_batch(session, config, batch)


def _batch_of(entry: _Entry) -> object:
    """What rows must share to go into one INSERT: the class, and which values are given."""
    return entry.mapper, frozenset(entry.values.keys() | {"parent_id"}), entry.pk is None


def _insert_batch(session: Session, config: TreeConfig, batch: list[_Entry]) -> None:
    cls, rows = batch[0].mapper.class_, [entry.values for entry in batch]
    if batch[0].pk is not None:
        session.execute(insert(cls), rows)
        return
    pk = getattr(cls, config.pk_attr)
    if session.get_bind(mapper=config.mapper).dialect.insert_executemany_returning:
        keys = session.scalars(insert(cls).returning(pk, sort_by_parameter_order=True), rows).all()
    else:
        # MySQL has no RETURNING, and only single rows tell their key.
        keys = [cast("Any", session.execute(insert(cls), row)).inserted_primary_key[0] for row in rows]
    for entry, key in zip(batch, keys, strict=True):
        entry.pk = key


def _allocate(
    session: Session, connection: Connection, config: TreeConfig, entries: list[_Entry], count: int
) -> list[Any] | None:
    """Keys for `count` new rows ahead of their INSERT, or None where only the INSERT can make them."""
    pk, table = config.pk, config.table
    default = cast("Any", pk.default)
    if default is not None and default.is_callable:
        return [default.arg(None) for _ in range(count)]
    if default is not None:
        return None
    if not isinstance(pk.type, Integer) or pk.server_default is not None or table.autoincrement_column is not pk:
        return None
    dialect = connection.dialect.name
    if dialect == "sqlite":
        # The write lock is held, and SQLite has one writer: nobody else takes these numbers.
        highest = [connection.scalar(select(func.max(pk))) or 0]
        if table.dialect_options["sqlite"]["autoincrement"]:
            used = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
            highest.append(used.scalar() or 0)
        first: int = max(highest + [entry.pk for entry in entries if entry.pk is not None]) + 1
        return list(range(first, first + count))
    if dialect == "postgresql" and not (pk.identity is not None and pk.identity.always):
        return _from_sequence(connection, table, pk.name, count)
    return None


def _from_sequence(connection: Connection, table: Table, column: str, count: int) -> list[Any] | None:
    quoted = connection.dialect.identifier_preparer.format_table(table)
    name = connection.scalar(select(func.pg_get_serial_sequence(quoted, column)))
    if name is None:
        return None
    numbers = func.generate_series(1, count).table_valued("n")
    return list(connection.scalars(select(func.nextval(name)).select_from(numbers)))


def _show(session: Session, entity: Any, config: TreeConfig, parent_pk: Any, keys: list[Any]) -> list[Any]:
    """Load the new top nodes and put them into the loaded children of their parent."""
    found: dict[Any, Any] = {}
    for batch in chunks(keys):
        statement = select(entity).where(getattr(entity, config.pk_attr).in_(batch))
        found.update((inspect(node).identity[0], node) for node in session.scalars(statement))
    tops = [found[key] for key in keys]
    parent = None
    if parent_pk is not None:
        parent = session.identity_map.get(config.mapper.identity_key_from_primary_key((parent_pk,)))
    if parent is not None and "children" in parent.__dict__:
        for node in tops:
            join_parent(config, node, parent)
        sort_children(config, parent)
        touch(session, [inspect(parent)])
    return tops


@overload
def dump_tree(session: Session, entity: type[ListT], root: object = None) -> list[dict[str, object]]: ...
@overload
def dump_tree(session: Session, entity: type[KeyedT], root: object = None) -> dict[str, dict[str, object]]: ...
def dump_tree(session: Session, entity: type[Any], root: object = None) -> Any:
    """Nested dictionaries of whole trees, fit for `insert_tree` and, as far as the values are, for JSON.

    Args:
        entity: the tree class.
        root: dump what lies below this node, itself included; None dumps all trees.

    A `TreeNode` gives a list of nodes, a `KeyedTreeNode` a dictionary by key. A node has its column attributes but the primary key,
    ``parent_id`` and ``position``, which `insert_tree` makes anew, and ``"children"`` where it has some. One SELECT.
    """
    config = config_of(entity)
    top: list[tuple[Any, dict[str, object]]] = []
    path: list[dict[str, object]] = []
    for node, depth in walk_tree(session, entity, root):
        mapper = inspect(node).mapper
        values: dict[str, object] = {attr: getattr(node, attr) for attr in _dumped(config, mapper)}
        del path[depth:]
        path.append(values)
        if depth == 0:
            top.append((_key(config, node), values))
        elif config.keyed:
            cast("dict[Any, object]", path[depth - 1].setdefault(_CHILDREN, {}))[_key(config, node)] = values
        else:
            cast("list[object]", path[depth - 1].setdefault(_CHILDREN, [])).append(values)
    return dict(top) if config.keyed else [values for _, values in top]


def _key(config: TreeConfig, node: Any) -> Any:
    return None if config.key_attr is None else getattr(node, config.key_attr)


def _dumped(config: TreeConfig, mapper: Mapper[Any]) -> list[str]:
    left_out = {config.pk_attr, "parent_id", config.key_attr}
    if config.position is not None:
        left_out.add("position")
    return [
        attr.key
        for attr in mapper.column_attrs
        if attr.key not in left_out
        and not any(getattr(column, "computed", None) is not None for column in attr.columns)
    ]
