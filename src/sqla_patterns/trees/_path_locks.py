"""Lock the rows on the way from nodes to their roots, and read them inside the lock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Integer, case, func, literal_column, null, or_, select, update

from .._declarative import keep_onupdate
from .._locks import allow_deep_recursion, is_mysql, lock_rows, lock_table, locking_read, take_write_lock
from ._config import TreeConfig

__all__ = ("Locked", "chunks", "claim_lists", "lock_paths", "lock_place")

T = TypeVar("T")

# Below the number of parameters that SQLite (32,766) and asyncpg (32,767) take in one statement.
_CHUNK = 10_000
# MariaDB keeps the order of a derived table only beside a LIMIT.
_ALL = 2**31 - 1


def chunks(items: Iterable[T], size: int = _CHUNK) -> Iterator[list[T]]:
    """`items` in lists that fit into one IN."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class Locked(NamedTuple):
    """What rows say that are locked now.

    Attributes:
        rows: ``{key: key of the parent}``.
        kept: ``{key: {attribute: value}}``, what an index keeps about them.
        snapshot_reads: whether statements of this transaction may show an older state than the locks, on PostgreSQL.
    """

    rows: dict[Any, Any]
    kept: dict[Any, dict[str, Any]]
    snapshot_reads: bool


def lock_paths(connection: Connection, config: TreeConfig, attach: Collection[Any], paths: Collection[Any]) -> Locked:
    """Lock all of each path, and of `attach` the nodes and their roots.

    A node that moved to another tree while this transaction waited for its lock leads to rows that were not asked for. A bare tree goes on
    and locks those too. Where an index is kept, a writer rewrites whole trees, and would meet a row that is locked without its
    root: there everything is let go, by a savepoint, and asked for again.
    """
    allow_deep_recursion(connection)
    keeps = config.index.keeps_anything
    start_again = keeps and connection.dialect.name == "postgresql"
    while True:
        savepoint = connection.begin_nested() if start_again else None
        locked = Locked({}, {}, snapshot_reads=False)
        wanted: set[Any] = set(attach)
        whole: set[Any] = {*paths, *(attach if keeps else ())}
        checked = set(whole)
        while wanted or whole:
            for keys in chunks(wanted | whole):
                found, isolation = _read_paths(connection, config, keys, [key for key in keys if key in whole])
                for pk, above, *kept in found:
                    locked.rows[pk] = above
                    locked.kept[pk] = dict(zip(config.index.attributes, kept, strict=True))
                locked = locked._replace(snapshot_reads=isolation == "repeatable read")
            above = {locked.rows[key] for key in _on_paths(locked.rows, checked)}
            unread: set[Any] = {key for key in above if key is not None and key not in locked.rows}
            # The parent of an orphan is not there to be read, neither now nor next time.
            wanted, whole = set(), _present(connection, config, unread)
            if whole and savepoint is not None:
                break
            checked |= whole
        if savepoint is None:
            return locked
        if not whole:
            savepoint.commit()
            return locked
        savepoint.rollback()


def _present(connection: Connection, config: TreeConfig, keys: Collection[Any]) -> set[Any]:
    statements = [select(config.pk).where(config.pk.in_(batch)) for batch in chunks(keys)]
    return {key for each in statements for key in connection.scalars(locking_read(connection, each))}


def lock_place(connection: Connection, config: TreeConfig, parent: Any) -> dict[str, Any] | None:
    """Lock the list of children of a node, or of the roots where `parent` is None.

    Return what an index keeps about the node, nothing for the roots; None if there is no such node.
    """
    kept: dict[str, Any] | None = {}
    claimed: list[Any] = []
    if parent is None:
        snapshot_reads = lock_table(connection, config.table, "roots")
    else:
        take_write_lock(connection, config.table)
        locked = lock_paths(connection, config, [parent], ())
        kept, snapshot_reads = locked.kept.get(parent), locked.snapshot_reads
        claimed = [parent]
        if config.index.keeps_anything:
            claimed += [pk for pk, above in locked.rows.items() if above is None]
    if snapshot_reads:
        claim_lists(connection, config, claimed, roots=parent is None)
    return kept


def claim_lists(connection: Connection, config: TreeConfig, parents: Iterable[Any], *, roots: bool) -> None:
    """Under REPEATABLE READ on PostgreSQL, have the later of two writers of one list of children fail to serialise.

    A lock alone would let it go on with a snapshot that does not show the earlier one's children. An UPDATE that changes nothing
    is what the database can compare.
    """
    pk, parent_id = config.pk, config.parent_id
    rows: ColumnElement[bool] = pk.in_([key for key in parents if key is not None])
    if roots:
        other = config.table.alias()
        first = select(func.min(other.c[pk.key])).where(other.c[parent_id.key].is_(None)).scalar_subquery()
        rows = or_(rows, pk == first)
    values = {**keep_onupdate(config.table), parent_id: parent_id}
    connection.execute(update(config.table).where(rows).values(values))


def _read_paths(
    connection: Connection, config: TreeConfig, keys: Sequence[Any], whole: Sequence[Any]
) -> tuple[list[Sequence[Any]], str | None]:
    """Lock and return ``(key, key of the parent, what the index keeps ...)``.

    Tells the isolation level too, where the database tells it for nothing.
    """
    table, pk, parent_id = config.table, config.pk, config.parent_id
    # Which rows of the way up are wanted is told inside the CTE: `whole` is 1 along the paths that are needed in full.
    one, zero = literal_column("1", Integer), literal_column("0", Integer)
    flag = case((pk.in_(whole), one), else_=zero) if whole else zero
    kept = config.index.columns().values()
    seed = select(pk.label("pk"), parent_id.label("above"), flag.label("whole")).where(pk.in_(keys))
    up = seed.cte(recursive=True)
    up = up.union(select(pk, parent_id, up.c.whole).join(up, pk == up.c.above))
    # Roots first: they are where the writers of a tree queue up.
    if is_mysql(connection):
        # InnoDB locks rows as it comes by them, and would come by them leaf first.
        wanted = or_(up.c.whole == one, up.c.above.is_(None), up.c.pk.in_(keys))
        first = select(up.c.pk).where(wanted).order_by(up.c.above.is_not(None), up.c.pk).limit(_ALL).subquery()
        rows = select(null(), pk, parent_id, *kept).select_from(first.join(table, pk == first.c.pk))
        statement = rows.prefix_with("STRAIGHT_JOIN")
    else:
        postgresql = connection.dialect.name == "postgresql"
        isolation = func.current_setting("transaction_isolation") if postgresql else null()
        wanted = or_(up.c.whole == one, parent_id.is_(None), pk.in_(keys))
        rows = select(isolation, pk, parent_id, *kept).select_from(table.join(up, pk == up.c.pk))
        statement = rows.where(wanted).order_by(parent_id.is_not(None), pk)
    found = connection.execute(lock_rows(connection, statement, table)).all()
    return [row[1:] for row in found], found[0][0] if found else None


def _on_paths(rows: dict[Any, Any], paths: Iterable[Any]) -> set[Any]:
    seen: set[Any] = set()
    for key in paths:
        while key is not None and key not in seen and key in rows:
            seen.add(key)
            key = rows[key]
    return seen
