"""Whole trees in and out as nested data: `insert_tree` and `dump_tree`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar, cast, overload

from sqlalchemy import Connection, func, insert, inspect, select
from sqlalchemy.orm import Mapper, Session, selectin_polymorphic, undefer

from .._locks import locking_read
from ..exceptions import DuplicateKeyError
from ._allocate import allocate_keys
from ._config import TreeConfig, config_of
from ._data import CHILDREN, Entry, Mappers, TreeData, is_written, read_data
from ._errors import InvalidMoveError
from ._index import Placement
from ._loading import load_rows
from ._members import change_children, sort_children
from ._node import KeyedTreeNode, NodeT, TreeNode
from ._path_locks import chunks, lock_place
from ._predicates import key_of
from ._sa import mark_inserted
from ._touched import touch

__all__ = ("TreeData", "dump_tree", "insert_tree")

ListT = TypeVar("ListT", bound=TreeNode)
KeyedT = TypeVar("KeyedT", bound=KeyedTreeNode)


def insert_tree(session: Session, entity: type[NodeT], data: TreeData, parent: object = None) -> Sequence[NodeT]:
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
    plans = Mappers(config, cast("Mapper[Any]", inspect(entity)))
    entries = read_data(config, plans, data)
    if not entries:
        return []
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    kept = lock_place(connection, config, parent_pk)
    if kept is None:
        raise InvalidMoveError(f"nothing can go below <{config.name} {parent_pk!r}>, which does not exist")
    tops = [entry for entry in entries if entry.above is None]
    _refuse_present_keys(connection, config, parent_pk, tops)
    if config.position is not None:
        _number_tops(connection, config, parent_pk, tops)
    for entry in tops:
        entry.values["parent_id"] = parent_pk
    placement = config.index.place(session, connection, parent_pk, kept, entries)
    _insert(session, connection, config, entries, placement)
    placement.finish()
    return _show(session, entity, config, parent_pk, [entry.pk for entry in tops])


def _siblings(config: TreeConfig, parent_pk: Any) -> Any:
    return config.parent_id.is_(None) if parent_pk is None else config.parent_id == parent_pk


def _refuse_present_keys(connection: Connection, config: TreeConfig, parent_pk: Any, tops: list[Entry]) -> None:
    if config.key is None or config.key_attr is None:
        return
    for keys in chunks(entry.values[config.key_attr] for entry in tops):
        statement = select(config.key).where(_siblings(config, parent_pk), config.key.in_(keys)).limit(1)
        present = connection.scalar(locking_read(connection, statement))
        if present is not None:
            place = "among the roots" if parent_pk is None else f"below <{config.name} {parent_pk!r}>"
            raise DuplicateKeyError(f"there is a node with {config.key_attr} = {present!r} {place} already")


def _number_tops(connection: Connection, config: TreeConfig, parent_pk: Any, tops: list[Entry]) -> None:
    statement = select(func.max(config.position)).where(_siblings(config, parent_pk))
    last = cast("int | None", connection.scalar(locking_read(connection, statement)))
    for offset, entry in enumerate(tops, start=0 if last is None else last + 1):
        entry.values["position"] = offset


def _insert(
    session: Session, connection: Connection, config: TreeConfig, entries: list[Entry], placement: Placement
) -> None:
    """INSERT in one batch for each class if keys can be had beforehand, else level by level."""
    unknown = [entry for entry in entries if entry.pk is None]
    keys = allocate_keys(connection, config, entries, unknown) if unknown else []
    if keys is not None:
        for entry, key in zip(unknown, keys, strict=True):
            entry.pk = entry.values[config.pk_attr] = key
    # Entries stand in depth-first order, so one batch has parents before their children; several need a level each.
    one_batch = keys is not None and len({_batch_of(entry) for entry in entries}) == 1
    levels: dict[int, dict[object, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        levels[0 if one_batch else entry.level][_batch_of(entry)].append(entry)
    for _, batches in sorted(levels.items()):
        for batch in batches.values():
            for entry in batch:
                if entry.above is not None:
                    entry.values["parent_id"] = entry.above.pk
                placement.complete(entry)
            _insert_batch(session, config, batch)


def _batch_of(entry: Entry) -> object:
    """What rows must share to go into one INSERT: the class, and which values are given."""
    return entry.mapper, frozenset(entry.values.keys() | {"parent_id"}), entry.pk is None


def _insert_batch(session: Session, config: TreeConfig, batch: list[Entry]) -> None:
    cls, rows = batch[0].mapper.class_, [entry.values for entry in batch]
    # NULL said as NULL: left out, as the ORM would have it, it makes a batch of its own of every row that differs from the one before.
    statement = insert(cls).execution_options(render_nulls=True)
    if batch[0].pk is not None:
        session.execute(statement, rows)
        return
    pk = getattr(cls, config.pk_attr)
    if session.get_bind(mapper=config.mapper).dialect.insert_executemany_returning:
        keys = session.scalars(statement.returning(pk, sort_by_parameter_order=True), rows).all()
    else:
        # MySQL has no RETURNING, and only single rows tell their key.
        keys = [cast("Any", session.execute(statement, row)).inserted_primary_key[0] for row in rows]
    for entry, key in zip(batch, keys, strict=True):
        entry.pk = key


def _show(session: Session, entity: Any, config: TreeConfig, parent_pk: Any, keys: list[Any]) -> list[Any]:
    """Load the new top nodes and put them into the loaded children of their parent."""
    found: dict[Any, Any] = {}
    for batch in chunks(keys):
        statement = select(entity).where(getattr(entity, config.pk_attr).in_(batch))
        found.update((inspect(node).identity[0], node) for node in session.scalars(statement))
    tops = [found[key] for key in keys]
    mark_inserted(session, tops)
    parent = None
    if parent_pk is not None:
        parent = session.identity_map.get(config.mapper.identity_key_from_primary_key((parent_pk,)))
    if parent is not None and "children" in parent.__dict__:
        change_children(config, parent, joined=tops)
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
    ``parent_id`` and ``position``, which `insert_tree` makes anew, and ``"children"`` where it has some. One SELECT, and one
    more for each subclass.
    """
    config = config_of(entity)
    top: list[tuple[Any, dict[str, object]]] = []
    path: list[dict[str, object]] = []
    for node, depth in load_rows(session, entity, root, options=_all_columns(config)):
        mapper = inspect(node).mapper
        values: dict[str, object] = {attr: getattr(node, attr) for attr in _dumped(config, mapper)}
        del path[depth:]
        path.append(values)
        if depth == 0:
            top.append((_key(config, node), values))
        elif config.keyed:
            cast("dict[Any, object]", path[depth - 1].setdefault(CHILDREN, {}))[_key(config, node)] = values
        else:
            cast("list[object]", path[depth - 1].setdefault(CHILDREN, [])).append(values)
    return dict(top) if config.keyed else [values for _, values in top]


def _all_columns(config: TreeConfig) -> list[Any]:
    """Loader options that leave no column to be loaded node by node."""
    subclasses = [mapper.class_ for mapper in config.mapper.self_and_descendants if mapper is not config.mapper]
    return [undefer("*"), *([selectin_polymorphic(config.cls, subclasses)] if subclasses else [])]


def _key(config: TreeConfig, node: Any) -> Any:
    return None if config.key_attr is None else getattr(node, config.key_attr)


def _dumped(config: TreeConfig, mapper: Mapper[Any]) -> list[str]:
    left_out = {config.pk_attr, "parent_id", config.key_attr, *config.index.attributes}
    if config.position is not None:
        left_out.add("position")
    return [attr.key for attr in mapper.column_attrs if attr.key not in left_out and is_written(attr)]
