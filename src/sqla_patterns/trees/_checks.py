"""Lock what a flush is about to change, read it again inside the lock, and refuse what may not be. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Integer, and_, case, func, literal_column, null, or_, select, update

from .._declarative import keep_onupdate
from .._locks import allow_deep_recursion, is_mysql, lock_rows, lock_table, locking_read, take_write_lock
from ..exceptions import DuplicateKeyError
from ._config import TreeConfig
from ._errors import InvalidMoveError
from ._peek import describe, identity_of
from ._plan import Link, Plan, Token

__all__ = ("check_keys", "chunks", "lock_and_check", "lock_lists", "lock_place")

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


def lock_lists(plan: Plan) -> None:
    """Lock the list of roots if this flush puts any node there, and the trees from which it deletes.

    Everybody locks the list of roots first and rows later, and nobody reads what lies below a deleted node without its lock.
    """
    config, connection = plan.config, plan.connection
    shared = config.position is not None or config.keyed or config.index.numbers_roots
    renamed = any(node.parent_id is None for node in plan.renamed)
    kept = bool(plan.deleted) and config.options.on_delete in ("root", "adopt")
    if shared and (renamed or kept or any(link.to_root for link in plan.links)):
        plan.snapshot_reads = lock_table(connection, config.table, "roots")
    if not plan.deleted:
        return
    if connection.dialect.name == "sqlite":
        take_write_lock(connection, config.table)
    else:
        _lock_paths(plan, plan.deleted_pks, set())


def lock_and_check(plan: Plan) -> None:
    """Lock each tree that changes, in one statement for the whole flush, and check that no move makes a cycle.

    A new leaf needs the root of its tree, so that writers of one tree queue up in one place and cannot deadlock, and its parent,
    whose list of children grows. A move needs the whole path above its target: under REPEATABLE READ a path that
    somebody else has changed is then an error of the database instead of a stale answer. Where siblings order themselves and have
    no keys, a new leaf needs no lock at all.
    """
    config = plan.config
    shared_lists = config.position is not None or config.keyed
    keeps = config.index.keeps_anything
    attach: set[Any] = set()
    paths: set[Any] = set()
    roots = False
    new = {id(link.node): link for link in plan.links if link.new}
    for link in plan.links:
        if link.moved:
            attach.add(link.pk)
            if (target := _attach_point(link, new)) is not None:
                paths.add(target)
        elif link.parent_exists and (shared_lists or keeps or link.parent is None):
            attach.add(link.parent_pk)
        if keeps and not link.new:
            attach.add(link.pk)
        roots = roots or ((shared_lists or config.index.numbers_roots) and link.to_root)
    for node in plan.renamed:
        if node.parent_id is None:
            roots = True
        else:
            attach.add(node.parent_id)
    if keeps:
        # What an index keeps about a node follows from all of its path. Its root alone would be the root of another tree by the time
        # that the lock is there, if somebody else moved a part of the path meanwhile.
        paths |= attach
    if attach or paths:
        take_write_lock(plan.connection, config.table)
        _lock_paths(plan, attach - paths, paths)
        _check_parents(plan)
    _check_cycles(plan)
    if (shared_lists or keeps) and plan.snapshot_reads:
        parents = {link.parent_pk for link in plan.links if link.parent_exists}
        claim_lists(plan.connection, config, [*parents, *(node.parent_id for node in plan.renamed)], roots=roots)


def _attach_point(link: Link, new: dict[int, Link]) -> Any:
    """Key of the first node with a row above a link: a move to below a new node is one to below that node's parent."""
    seen: set[int] = set()
    at: Link | None = link
    while at is not None and id(at) not in seen:
        if at.parent_exists:
            return at.parent_pk
        seen.add(id(at))
        at = new.get(id(at.parent))
    return None


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


def _lock_paths(plan: Plan, attach: set[Any], paths: set[Any]) -> None:
    """Fill `plan.rows` with ``{key: key of the parent}``: all of each path, and of `attach` the nodes and their roots."""
    connection = plan.connection
    allow_deep_recursion(connection)
    while attach or paths:
        for keys in chunks([*attach, *paths]):
            whole = [key for key in keys if key in paths]
            rows, isolation = _read_paths(connection, plan.config, keys, whole)
            for pk, above, *kept in rows:
                plan.rows[pk] = above
                plan.kept[pk] = dict(zip(plan.config.index.attributes, kept, strict=True))
            plan.snapshot_reads = isolation == "repeatable read"
        # A node that moved while this transaction waited for its lock leads to a path that was not asked for yet.
        above = {plan.rows[key] for key in _on_paths(plan, paths)}
        attach, paths = set(), {key for key in above if key is not None and key not in plan.rows}


def lock_place(connection: Connection, config: TreeConfig, parent: Any) -> bool:
    """Lock the list of children of a node, or of the roots where `parent` is None; False if there is no such node."""
    if parent is None:
        found, snapshot_reads = True, lock_table(connection, config.table, "roots")
    else:
        allow_deep_recursion(connection)
        take_write_lock(connection, config.table)
        found, snapshot_reads = _lock_path(connection, config, parent)
    if snapshot_reads:
        claim_lists(connection, config, [parent], roots=parent is None)
    return found


def _lock_path(connection: Connection, config: TreeConfig, node: Any) -> tuple[bool, bool]:
    """Lock one node and its root, or all of its path where there is an index.

    Tells whether there is such a node, and whether reads may be older than the lock.
    """
    above: dict[Any, Any] = {}
    asked: set[Any] = set()
    wanted, snapshot_reads = {node}, False
    while wanted:
        asked |= wanted
        rows, isolation = _read_paths(connection, config, [*wanted], [*wanted] if config.index.keeps_anything else ())
        above.update((row[0], row[1]) for row in rows)
        snapshot_reads = snapshot_reads or isolation == "repeatable read"
        # As in `_lock_paths`: what moved while this transaction waited leads elsewhere.
        wanted = {key for key in above.values() if key is not None and key not in above and key not in asked}
        if not config.index.keeps_anything:
            break
    return node in above, snapshot_reads


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


def _on_paths(plan: Plan, paths: Iterable[Any]) -> set[Any]:
    seen: set[Any] = set()
    for key in paths:
        while key is not None and key not in seen and key in plan.rows:
            seen.add(key)
            key = plan.rows[key]
    return seen


def _check_parents(plan: Plan) -> None:
    for link in plan.links:
        if link.moved and link.pk not in plan.rows:
            raise InvalidMoveError(f"{describe(link.node)} cannot move, since it does not exist (any more): refresh it")
        shared_lists = plan.config.position is not None or plan.config.keyed or plan.config.index.keeps_anything
        wanted = link.moved or shared_lists or link.parent is None
        if wanted and link.parent_exists and link.parent_pk not in plan.rows:
            raise InvalidMoveError(
                f"{describe(link.node)} cannot go below <{plan.config.name} {link.parent_pk!r}>, which does not exist (any more)"
            )


def _check_cycles(plan: Plan) -> None:
    """Walk up from each linked node, by this flush's links where there are some and by the database's elsewhere."""
    above: dict[Token, Token] = {}
    for link in plan.links:
        above[link.token] = link.parent_token
    done: set[Token] = set()
    for link in plan.links:
        path: set[Token] = set()
        at = link.token
        while at is not None and at not in done:
            if at in path:
                raise InvalidMoveError(
                    f"{describe(link.node)} cannot go below {_target(link)}, which lies below it: "
                    "move that out of the way first, or in the same flush"
                )
            path.add(at)
            if at in above:
                at = above[at]
            else:
                up = plan.rows.get(at[1]) if at[0] == "pk" else None
                at = None if up is None else ("pk", up)
        done |= path


def _target(link: Link) -> str:
    if link.parent is link.node:
        return "itself"
    return describe(link.parent) if link.parent is not None else repr(link.parent_pk)


def check_keys(plan: Plan) -> None:
    """Refuse a key that two children of one parent would share.

    One SELECT, and none where no node of a `KeyedTreeNode` is new, moved or renamed.
    """
    config = plan.config
    key_attr, key = config.key_attr, config.key
    if key_attr is None or key is None:
        return
    wanted: dict[tuple[Token, Any], Any] = {}
    existing: list[tuple[Any, Any]] = []
    entries: list[tuple[Any, Token]] = [(link.node, link.parent_token) for link in plan.links]
    entries += [(node, None if node.parent_id is None else ("pk", node.parent_id)) for node in plan.renamed]
    for node, parent in entries:
        value = getattr(node, key_attr)
        if value is None:
            continue
        other = wanted.setdefault((parent, value), node)
        if other is not node:
            raise _duplicate(plan, node, value, describe(other))
        if parent is None or (parent[0] == "pk" and parent[1] not in plan.new_by_pk):
            existing.append((None if parent is None else parent[1], value))
    settled = plan.deleted_pks | {link.pk for link in plan.links} | {identity_of(node) for node in plan.renamed}
    for batch in chunks(existing, 5_000):
        parents = {parent for parent, _ in batch}
        above = [config.parent_id.in_([parent for parent in parents if parent is not None])]
        if None in parents:
            above.append(config.parent_id.is_(None))
        statement = select(config.pk, config.parent_id, key).where(
            and_(key.in_({value for _, value in batch}), or_(*above))
        )
        for pk, parent_id, value in plan.connection.execute(locking_read(plan.connection, statement)):
            node = wanted.get((None if parent_id is None else ("pk", parent_id), value))
            if node is not None and pk not in settled:
                raise _duplicate(plan, node, value, f"<{config.name} {pk!r}>")


def _duplicate(plan: Plan, node: Any, value: Any, other: str) -> DuplicateKeyError:
    return DuplicateKeyError(
        f"{describe(node)} cannot have {plan.config.key_attr} = {value!r}: its sibling {other} has it; "
        "rename one of them, or delete the other first"
    )
