"""Lock the rows between nodes and their roots, and read them inside the lock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, case, func, literal_column, null, or_, select, update

from .._declarative import keep_onupdate
from .._locks import allow_deep_recursion, is_mysql, lock_rows, lock_table, locking_read, take_write_lock
from .._sql import chunks
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
                locked = locked._replace(snapshot_reads=isolation == "repeatable read")
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


def lock_child_list(connection: Connection, tree: Tree, parent_pk: PrimaryKey) -> ColumnValues | None:
    """Lock the list of children of a node, or of the roots where `parent_pk` is None.

    Return what an index keeps about the node, nothing for the roots; None if there is no such node.
    """
    if parent_pk is None:
        if lock_table(connection, tree.config.table, "roots"):
            claim_child_lists(connection, tree.config, [], roots=True)
        return {}
    take_write_lock(connection, tree.config.table)
    locked = lock_ancestors(connection, tree, attach=[parent_pk], paths=())
    if locked.snapshot_reads:
        claimed = [parent_pk, *(locked.roots if tree.index.stores_data else ())]
        claim_child_lists(connection, tree.config, claimed, roots=False)
    return locked.stored_values.get(parent_pk)


def claim_child_lists(
    connection: Connection, config: TreeConfig, parents: Iterable[PrimaryKey], *, roots: bool
) -> None:
    """Have the database refuse the later of two writers of one list of children, under REPEATABLE READ on PostgreSQL.

    A lock alone would let it go on with a snapshot that does not show the children of the earlier one. An UPDATE that
    changes nothing is what the database can compare.
    """
    pk, parent_id = config.pk, config.parent_id
    rows: ColumnElement[bool] = pk.in_([key for key in parents if key is not None])
    if roots:
        other = config.table.alias()
        first = select(func.min(other.c[pk.key])).where(other.c[parent_id.key].is_(None)).scalar_subquery()
        rows = or_(rows, pk == first)
    values = {**keep_onupdate(config.table), parent_id: parent_id}
    connection.execute(update(config.table).where(rows).values(values))


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
    table, pk, parent_id = tree.config.table, tree.config.pk, tree.config.parent_id
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
        rows = select(null(), *columns).select_from(first.join(table, pk == first.c.pk))
        statement = rows.prefix_with("STRAIGHT_JOIN")
    else:
        postgresql = connection.dialect.name == "postgresql"
        isolation = func.current_setting("transaction_isolation") if postgresql else null()
        wanted = or_(up.c.whole == one, parent_id.is_(None), pk.in_(keys))
        rows = select(isolation, *columns).select_from(table.join(up, pk == up.c.pk))
        statement = rows.where(wanted).order_by(parent_id.is_not(None), pk)
    found = connection.execute(lock_rows(connection, statement, table)).all()
    return [tuple(row)[1:] for row in found], found[0][0] if found else None


def _on_paths(stored_parents: dict[PrimaryKey, PrimaryKey], keys: Iterable[PrimaryKey]) -> set[PrimaryKey]:
    """Return `keys` and what lies above them, as far as it has been read."""
    seen: set[PrimaryKey] = set()
    for key in keys:
        while key is not None and key not in seen and key in stored_parents:
            seen.add(key)
            key = stored_parents[key]
    return seen
