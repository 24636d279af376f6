"""Lock the rows between nodes and their roots, and read them inside the lock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    and_,
    case,
    column,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    table,
    update,
)

from .._declarative import keep_onupdate
from .._locks import (
    SNAPSHOT_LEVELS,
    allow_deep_recursion,
    is_mysql,
    lock_rows,
    lock_table,
    locking_read,
    take_write_lock,
)
from .._sql import chunks, qualified_name
from .._typing import AnyColumn, PrimaryKey
from ._config import MAX_IN, ColumnValues, TreeConfig
from ._tree import Tree

# MariaDB keeps the order of a derived table only beside a LIMIT.
_ALL = 2**31 - 1


class LockedRows(NamedTuple):
    """What rows say that are locked now.

    Attributes:
        stored_parents: ``{primary key: that of the parent}``.
        stored_values: ``{primary key: {attribute: value}}``: what an index keeps about them, and their positions.
        snapshot_reads: Whether statements of this transaction may show an older state than the locks, on PostgreSQL.
    """

    stored_parents: dict[PrimaryKey, PrimaryKey]
    stored_values: dict[PrimaryKey, ColumnValues]
    snapshot_reads: bool

    @property
    def roots(self) -> set[PrimaryKey]:
        """Return the primary keys of the roots among the rows."""
        return {pk for pk, parent in self.stored_parents.items() if parent is None}


def lock_ancestors(
    connection: Connection, tree: Tree, *, attach: Collection[PrimaryKey], paths: Collection[PrimaryKey]
) -> LockedRows:
    """Lock nodes and their roots, or all that lies above them, and return what the rows say.

    A node that moved to another tree while this transaction waited for its lock leads to rows that were not asked for.
    A tree without an index goes on and locks those too. Where an index is kept, a writer rewrites whole trees, and
    would meet a row that is locked without its root: there all locks are released, by a savepoint, and asked for again.

    Args:
        connection: The connection of the tree.
        tree: The tree.
        attach: Primary keys of nodes to lock together with their roots; where an index is kept, like `paths`.
        paths: Primary keys of nodes to lock together with everything above them.
    """
    allow_deep_recursion(connection)
    start_again = tree.index.stores_data and connection.dialect.name == "postgresql"
    while True:
        savepoint = connection.begin_nested() if start_again else None
        locked = LockedRows({}, {}, snapshot_reads=False)
        wanted: set[PrimaryKey] = set(attach)
        whole: set[PrimaryKey] = {*paths, *(attach if tree.index.stores_data else ())}
        checked = set(whole)
        while wanted or whole:
            for keys in chunks(wanted | whole, MAX_IN):
                found, isolation = _read_paths(connection, tree, keys, [key for key in keys if key in whole])
                for pk, parent, *values in found:
                    locked.stored_parents[pk] = parent
                    locked.stored_values[pk] = dict(zip(_stored_columns(tree), values, strict=True))
                locked = locked._replace(snapshot_reads=locked.snapshot_reads or isolation in SNAPSHOT_LEVELS)
            parents = {locked.stored_parents[key] for key in _on_paths(locked.stored_parents, checked)}
            unread: set[PrimaryKey] = {key for key in parents if key is not None and key not in locked.stored_parents}
            # The parent of an orphan is not there to be read, neither now nor next time.
            wanted, whole = set(), _present(connection, tree.config, unread)
            if whole and savepoint is not None:
                break
            checked |= whole
        if savepoint is None:
            return locked
        if not whole:
            savepoint.commit()
            return locked
        savepoint.rollback()


class LockedList(NamedTuple):
    """A list of children that is locked.

    Attributes:
        values: What an index keeps about the parent, nothing for the roots; None if there is no such node.
        to_claim: The primary keys of the nodes that `claim_list` claims when the list is written.
        roots: Whether it claims the list of roots.
    """

    values: ColumnValues | None
    to_claim: Sequence[PrimaryKey] = ()
    roots: bool = False


def lock_child_list(connection: Connection, tree: Tree, parent_pk: PrimaryKey) -> LockedList:
    """Lock the list of children of a node, or of the roots where `parent_pk` is None."""
    if parent_pk is None:
        snapshot_reads = lock_table(connection, tree.config.table, "roots")
        if snapshot_reads:
            claim_child_lists(connection, tree.config, [], roots=True, snapshot_reads=True)
        return LockedList({}, roots=not snapshot_reads)
    take_write_lock(connection, tree.config.table)
    locked = lock_ancestors(connection, tree, attach=[parent_pk], paths=())
    claimed = [parent_pk, *(locked.roots if tree.index.stores_data else ())]
    if locked.snapshot_reads:
        claim_child_lists(connection, tree.config, claimed)
        claimed = []
    return LockedList(locked.stored_values.get(parent_pk), claimed)


def claim_list(connection: Connection, config: TreeConfig, locked: LockedList) -> None:
    """Claim a list of children that is about to be written, for writers whose snapshot is older."""
    claim_child_lists(connection, config, locked.to_claim, roots=locked.roots)


def claim_child_lists(
    connection: Connection,
    config: TreeConfig,
    parents: Iterable[PrimaryKey],
    *,
    roots: bool = False,
    snapshot_reads: bool = False,
) -> None:
    """Have PostgreSQL refuse the later of two writers of one list of children if its snapshot is older.

    A lock alone would let it go on with a snapshot that does not show the children of the earlier one. An UPDATE that
    changes nothing is what the database can compare, so every writer makes one, also the one that needs none itself:
    the other may be at another isolation level.

    Args:
        connection: The connection of the tree.
        config: The tree.
        parents: The primary keys of the nodes whose lists of children change.
        roots: Whether the list of roots changes; the first root stands for it.
        snapshot_reads: Whether this transaction may see an older state than its locks.
    """
    keys = [key for key in parents if key is not None]
    if connection.dialect.name != "postgresql" or not (keys or roots):
        return
    pk, parent_id = config.pk, config.parent_id
    rows: ColumnElement[bool] = pk.in_(keys)
    if roots:
        other = config.table.alias()
        # PostgreSQL has no min() of UUIDs.
        first = select(other.c[pk.key]).where(other.c[parent_id.key].is_(None)).order_by(other.c[pk.key]).limit(1)
        rows = or_(rows, pk == first.scalar_subquery())
    values = {**keep_onupdate(config.table), parent_id: parent_id}
    connection.execute(update(config.table).where(rows).values(values))
    if roots and snapshot_reads:
        _refuse_unseen_roots(connection, config)


def _refuse_unseen_roots(connection: Connection, config: TreeConfig) -> None:
    """Raise a serialization failure if there are first roots that the snapshot of this transaction does not show.

    There is no root then that could be claimed. A table that shows no row, and whose file is not empty, is counted by
    ANALYZE, which goes by what is committed now, and writes the number where every snapshot reads it. A role that may
    not analyze the table is warned by the server, and goes on with the number of the last time.
    """
    name = qualified_name(connection, config.table)
    oid = func.to_regclass(name)
    has_root = exists().where(config.parent_id.is_(None))
    if not connection.scalar(select(and_(~has_root, func.pg_relation_size(oid) > 0))):
        return
    connection.exec_driver_sql(f"ANALYZE {name}")
    catalog = table("pg_class", column("oid"), column("reltuples", Float))
    if connection.scalar(select(catalog.c.reltuples > 0).where(catalog.c.oid == oid)):
        # The database raises it, so that it is what applications try again at.
        connection.exec_driver_sql(
            "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = "
            "'could not serialize access: another transaction has added the first roots since the snapshot'; "
            "END $$"
        )


def _stored_columns(tree: Tree) -> dict[str, AnyColumn]:
    """Return the columns that are read beside the parent: those of the index, and the position."""
    position = {} if tree.config.position is None else {"position": tree.config.position}
    return {**tree.index.columns(), **position}


def _present(connection: Connection, config: TreeConfig, keys: Collection[PrimaryKey]) -> set[PrimaryKey]:
    """Return those of `keys` that have a row."""
    statements = [select(config.pk).where(config.pk.in_(batch)) for batch in chunks(keys, MAX_IN)]
    return {key for each in statements for key in connection.scalars(locking_read(connection, each))}


def _read_paths(
    connection: Connection, tree: Tree, keys: Sequence[PrimaryKey], whole: Sequence[PrimaryKey]
) -> tuple[list[tuple[PrimaryKey, ...]], str | None]:
    """Lock rows and return ``(primary key, that of the parent, values of _stored_columns() ...)`` of each.

    Also return the isolation level, where the database tells it without another statement.
    """
    nodes, pk, parent_id = tree.config.table, tree.config.pk, tree.config.parent_id
    # Which rows of the way up are wanted is told inside the CTE: `whole` is 1 along the paths that are needed in full.
    one, zero = literal_column("1", Integer), literal_column("0", Integer)
    flag = case((pk.in_(whole), one), else_=zero) if whole else zero
    columns = [pk, parent_id, *_stored_columns(tree).values()]
    seed = select(pk.label("pk"), parent_id.label("above"), flag.label("whole")).where(pk.in_(keys))
    up = seed.cte(recursive=True)
    up = up.union(select(pk, parent_id, up.c.whole).join(up, pk == up.c.above))
    # Roots first: they are where the writers of a tree queue up.
    if is_mysql(connection):
        # InnoDB locks rows in the order in which it reads them, and would read the leaves first.
        wanted = or_(up.c.whole == one, up.c.above.is_(None), up.c.pk.in_(keys))
        first = select(up.c.pk).where(wanted).order_by(up.c.above.is_not(None), up.c.pk).limit(_ALL).subquery()
        rows = select(null(), *columns).select_from(first.join(nodes, pk == first.c.pk))
        statement = rows.prefix_with("STRAIGHT_JOIN")
    else:
        postgresql = connection.dialect.name == "postgresql"
        isolation = func.current_setting("transaction_isolation") if postgresql else null()
        wanted = or_(up.c.whole == one, parent_id.is_(None), pk.in_(keys))
        rows = select(isolation, *columns).select_from(nodes.join(up, pk == up.c.pk))
        statement = rows.where(wanted).order_by(parent_id.is_not(None), pk)
    found = connection.execute(lock_rows(connection, statement, nodes)).all()
    return [tuple(row)[1:] for row in found], found[0][0] if found else None


def _on_paths(stored_parents: dict[PrimaryKey, PrimaryKey], keys: Iterable[PrimaryKey]) -> set[PrimaryKey]:
    """Return `keys` and what lies above them, as far as it has been read."""
    seen: set[PrimaryKey] = set()
    for key in keys:
        while key is not None and key not in seen and key in stored_parents:
            seen.add(key)
            key = stored_parents[key]
    return seen
