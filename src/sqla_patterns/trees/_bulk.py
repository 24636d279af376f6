"""Insert whole trees from nested data, and dump them as such: `insert_tree` and `dump_tree`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar, cast, overload

from sqlalchemy import ColumnElement, Connection, func, insert, inspect, select
from sqlalchemy.orm import Session, selectin_polymorphic, undefer
from sqlalchemy.sql.base import ExecutableOption

from .._locks import locking_read
from .._session import SyncSession, at_object, require_class, resolve_session
from .._sql import chunks
from .._sqlalchemy import mark_inserted
from .._typing import AnyMapper, MappedClass, MappedObject, PrimaryKey
from ..exceptions import DuplicateKeyError
from ._config import MAX_IN, TreeConfig
from ._errors import InvalidMoveError
from ._expire_on_rollback import expire_on_rollback
from ._index import IndexInsert
from ._key_allocation import allocate_primary_keys
from ._loaded_children import change_children, sort_children
from ._loaded_state import loaded_node, pk_of
from ._loading import load_rows
from ._mixins import KeyedTreeNode, NodeT, TreeNode
from ._nested_data import CHILDREN, NewRow, NodeSchemas, TreeData, is_written, not_dumped, read_data
from ._predicates import resolve_pk
from ._sibling_order import SiblingOrder
from ._structural_loads import load_nodes
from ._tree import tree_of
from ._tree_locks import claim_list, lock_child_list

ListT = TypeVar("ListT", bound=TreeNode)
KeyedT = TypeVar("KeyedT", bound=KeyedTreeNode)


@at_object
def insert_tree(session: SyncSession, entity: type[NodeT], data: TreeData, parent: object = None) -> Sequence[NodeT]:
    """Insert whole trees from nested data, in bulk, and return the new nodes at the top.

    The session is flushed first. The rows are inserted without the unit of work: column defaults apply, dataclass
    defaults too, while ``__init__``, ``@validates`` and events of single objects are not called. Positions count from 0
    below each new node.

    Statements: one batch of INSERTs where primary keys are known beforehand: those in the data, Python-side defaults,
    PostgreSQL sequences (one more SELECT), SQLite integers (likewise). Otherwise one batch for each level of the tree.
    Two SELECTs find the place and its last sibling, one returns the new top nodes.

    Args:
        session: The session.
        entity: The tree class, or a subclass of it.
        data: A node is a mapping of attribute names to values, and its ``"children"`` are more nodes. For a `TreeNode`
            they come as an iterable, which may be a generator, or as one mapping. For a `KeyedTreeNode` they may also
            come as a mapping of keys to nodes. Where the class is polymorphic, the discriminator picks the class of a
            node.
        parent: Where to put the new nodes: below this one, behind its children; an instance or a primary key. None
            makes roots.

    Raises:
        InvalidArgumentError: Data of the wrong shape, an unknown attribute, or a value that is missing; the text names
            the node by its path. It is raised before the first INSERT, as the others are.
        DuplicateKeyError: Two siblings of a `KeyedTreeNode` with one key, new or there already.
        InvalidMoveError: `parent` does not exist.
    """
    session = resolve_session(session, "insert_tree")
    require_class(entity, "insert_tree", "parent")
    tree = tree_of(entity)
    config = tree.config
    session.flush()
    parent_pk = None if parent is None else resolve_pk(config, parent)
    schemas = NodeSchemas(config, cast("AnyMapper", inspect(entity)))
    rows = read_data(config, schemas, data)
    if not rows:
        return []
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    locked = lock_child_list(connection, tree, parent_pk)
    parent_values = locked.values
    if parent_values is None:
        raise InvalidMoveError(f"nothing can go below <{config.name} {parent_pk!r}>, which does not exist")
    tops = [row for row in rows if row.parent is None]
    _refuse_present_keys(connection, config, parent_pk, tops)
    if config.position is not None:
        _number_tops(connection, config, parent_pk, tops)
    for row in tops:
        row.values["parent_id"] = parent_pk
    index_insert = tree.index.plan_insert(session, connection, parent_pk, parent_values, rows)
    claim_list(connection, config, locked)
    _insert(session, connection, config, rows, index_insert)
    index_insert.finish()
    return _show(session, entity, config, parent_pk, [row.pk for row in tops])


def _siblings(config: TreeConfig, parent_pk: PrimaryKey) -> ColumnElement[bool]:
    return config.parent_id.is_(None) if parent_pk is None else config.parent_id == parent_pk


def _refuse_present_keys(connection: Connection, config: TreeConfig, parent_pk: PrimaryKey, tops: list[NewRow]) -> None:
    if config.key is None or config.key_attr is None:
        return
    for keys in chunks((row.values[config.key_attr] for row in tops), MAX_IN):
        statement = select(config.key).where(_siblings(config, parent_pk), config.key.in_(keys)).limit(1)
        present = connection.scalar(locking_read(connection, statement))
        if present is not None:
            place = "among the roots" if parent_pk is None else f"below <{config.name} {parent_pk!r}>"
            raise DuplicateKeyError(f"there is a node with {config.key_attr} = {present!r} {place} already")


def _number_tops(connection: Connection, config: TreeConfig, parent_pk: PrimaryKey, tops: list[NewRow]) -> None:
    statement = select(func.max(config.position)).where(_siblings(config, parent_pk))
    last = cast("int | None", connection.scalar(locking_read(connection, statement)))
    for offset, row in enumerate(tops, start=0 if last is None else last + 1):
        row.values["position"] = offset


def _insert(
    session: Session, connection: Connection, config: TreeConfig, rows: list[NewRow], index_insert: IndexInsert
) -> None:
    """Insert rows in one batch for each class if their keys can be known beforehand, else level by level."""
    unknown = [row for row in rows if row.pk is None]
    keys = allocate_primary_keys(connection, config, rows, unknown) if unknown else []
    if keys is not None:
        for row, key in zip(unknown, keys, strict=True):
            row.pk = row.values[config.pk_attr] = key
    # Rows are in depth-first order, so one batch has parents before their children; several need a level each.
    one_batch = keys is not None and len({_batch_of(row) for row in rows}) == 1
    levels: dict[int, dict[object, list[NewRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        levels[0 if one_batch else row.level][_batch_of(row)].append(row)
    for _, batches in sorted(levels.items()):
        for batch in batches.values():
            for row in batch:
                if row.parent is not None:
                    row.values["parent_id"] = row.parent.pk
                index_insert.complete(row)
            _insert_batch(session, config, batch)


def _batch_of(row: NewRow) -> object:
    """Return what rows must have in common to be inserted by one statement: the class, and which values are given."""
    return row.mapper, frozenset(row.values.keys() | {"parent_id"}), row.pk is None


def _insert_batch(session: Session, config: TreeConfig, batch: list[NewRow]) -> None:
    cls, rows = batch[0].mapper.class_, [row.values for row in batch]
    # NULL is written out: left out, as the ORM would do, it begins another batch at each row that differs from the one
    # before.
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
    for row, key in zip(batch, keys, strict=True):
        row.pk = key


def _show(
    session: Session, entity: type[NodeT], config: TreeConfig, parent_pk: PrimaryKey, keys: list[PrimaryKey]
) -> list[NodeT]:
    """Load the new top nodes and put them into the loaded children of their parent."""
    found: dict[PrimaryKey, NodeT] = {}
    for batch in chunks(keys, MAX_IN):
        statement = select(entity).where(getattr(entity, config.pk_attr).in_(batch))
        found.update((pk_of(node), node) for node in session.scalars(statement).unique())
    # What the session's criteria hide has been inserted all the same.
    found.update((pk_of(node), node) for node in load_nodes(session, config, [key for key in keys if key not in found]))
    tops = [found[key] for key in keys]
    mark_inserted(session, tops)
    parent = None if parent_pk is None else loaded_node(session, config, parent_pk)
    if parent is not None and "children" in parent.__dict__:
        change_children(config, parent, joined=tops)
        sort_children(config, parent)
        if config.sorts_by_attributes:
            SiblingOrder(session, config, [parent]).finish()
        expire_on_rollback(session, [inspect(parent)])
    return tops


@overload
def dump_tree(session: SyncSession, entity: type[ListT], root: object = None) -> list[dict[str, object]]: ...
@overload
def dump_tree(session: SyncSession, entity: type[KeyedT], root: object = None) -> dict[str, dict[str, object]]: ...
@at_object
def dump_tree(session: SyncSession, entity: MappedClass, root: object = None) -> object:
    """Return whole trees as nested dictionaries, fit for `insert_tree` and, as far as the values are, for JSON.

    A `TreeNode` gives a list of nodes, a `KeyedTreeNode` a dictionary by key. A node has its column attributes and
    ``"children"`` where it has some, without what `insert_tree` writes itself: the primary key, ``parent_id``,
    ``position``, the columns of an index and of other packages (the version of a ``Versioned`` class), and a
    ``version_id_col``. One SELECT, and one more for each subclass.

    Args:
        session: The session.
        entity: The tree class.
        root: The node to dump, with all that lies below it; None dumps all trees.
    """
    session = resolve_session(session, "dump_tree")
    require_class(entity, "dump_tree", "root")
    config = tree_of(entity).config
    top: list[tuple[object, dict[str, object]]] = []
    path: list[dict[str, object]] = []
    for node, depth in load_rows(session, entity, root, options=_all_columns(config)):
        mapper = inspect(node).mapper
        values: dict[str, object] = {attr: getattr(node, attr) for attr in _dumped(config, mapper)}
        del path[depth:]
        path.append(values)
        if depth == 0:
            top.append((_key(config, node), values))
        elif config.keyed:
            cast("dict[object, object]", path[depth - 1].setdefault(CHILDREN, {}))[_key(config, node)] = values
        else:
            cast("list[object]", path[depth - 1].setdefault(CHILDREN, [])).append(values)
    return dict(top) if config.keyed else [values for _, values in top]


def _all_columns(config: TreeConfig) -> list[ExecutableOption]:
    """Return loader options that leave no column to be loaded node by node."""
    subclasses = [mapper.class_ for mapper in config.mapper.self_and_descendants if mapper is not config.mapper]
    return [undefer("*"), *([selectin_polymorphic(config.cls, subclasses)] if subclasses else [])]


def _key(config: TreeConfig, node: MappedObject) -> object:
    return None if config.key_attr is None else getattr(node, config.key_attr)


def _dumped(config: TreeConfig, mapper: AnyMapper) -> list[str]:
    left_out = {config.pk_attr, "parent_id", config.key_attr, *not_dumped(mapper)}
    return [attr.key for attr in mapper.column_attrs if attr.key not in left_out and is_written(attr)]
