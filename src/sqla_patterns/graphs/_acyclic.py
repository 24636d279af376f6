"""Keep a graph free of cycles, also when several transactions add edges at the same time.

A flush checks its new edges together with those in the database: no new edge may lie on a cycle. For this to be still
true at the commit, each writer takes locks before it reads edges, so that no other transaction adds edges in between:

- **PostgreSQL, READ COMMITTED**: an advisory lock on the edge table admits one writer at a time, and each statement
  after it sees what the others have committed.
- **PostgreSQL, REPEATABLE READ and SERIALIZABLE**: the snapshot may be older than the lock. Therefore each writer, at
  every isolation level, updates the rows of the nodes at the ends of its edges without changing them; and a writer with
  a snapshot locks each node that its search visits before it reads the edges of that node. If another writer has added
  an edge to the node since the snapshot, the database refuses the lock with a serialization failure.
- **MariaDB and MySQL**: row locks only. They have no advisory lock that ends with the transaction, and no row that
  could stand for the whole table, as another row may become the first one. The nodes at the ends of new edges are
  locked ``FOR UPDATE``; then each node that the search visits is locked in share mode *before* its edges are read, and
  a locking read sees what was committed last. If two writers add two parts of one cycle, they want to lock the same
  node: one waits, sees the edge of the other and raises, or the database ends a deadlock.
- **SQLite**: the write lock of the file, which admits one writer at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from sqlalchemy import Connection, Executable, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from .._declarative import keep_onupdate
from .._locks import allow_deep_recursion, is_mysql, lock_table, take_write_lock
from .._sql import chunks
from .._typing import MappedObject, PrimaryKey
from ..exceptions import StateError
from ._algorithms import path_with_fewest_edges, strongly_connected_components
from ._config import EdgeConfig, Edges
from ._ends import MAX_KEYS, EdgeKey, NewEdge, Pair, Token, read_pairs
from ._predicates import between, reach

# With more ends than this, the whole edge table is read rather than the edges on paths between the ends.
_MAX_ENDS = 10_000


@dataclass(frozen=True)
class Cycle:
    """A cycle that a flush would close.

    Attributes:
        message: The text of the error.
        nodes: The nodes along the cycle, the first again at the end. A node that criteria of the session hide is left
            out.
    """

    message: str
    nodes: Sequence[MappedObject]


def find_new_cycle(
    session: Session,
    config: EdgeConfig,
    new_edges: Sequence[NewEdge],
    removed: Set[Pair],
    moved: Mapping[EdgeKey, Pair],
) -> Cycle | None:
    """Return a cycle on which one of `new_edges` would lie once the `removed` pairs are deleted; None if there is none.

    It takes the locks first. No SQL where all ends are new nodes. Otherwise three statements: table lock, locks of the
    ends, and search; a fourth where the search finds a path from one new edge to another. With row locks, the search
    executes a statement for each of its steps. One more statement where edges with a surrogate key get other ends.

    Args:
        session: The session that flushes.
        config: The edge class.
        new_edges: The edges that are about to be written.
        removed: The pairs that the flush removes from the database.
        moved: The pairs that edges with a surrogate key were read with and that the flush changes, by that key. The
            UPDATE names the edge by its key, so it would combine one end of this transaction with one that another
            transaction has written meanwhile.

    Raises:
        StateError: One of the ends does not exist, or another transaction has changed the ends of a moved edge.
    """
    new = {config.pk_of(obj) for obj in session.new if isinstance(obj, config.node)}
    tails = {edge.lower.key for edge in new_edges} - new - {None}
    heads = {edge.higher.key for edge in new_edges} - new - {None}
    stored: Iterable[Pair] = ()
    if tails or heads:
        connection = session.connection(bind_arguments={"mapper": config.mapper})
        allow_deep_recursion(connection)
        search_needs_locks = _lock_ends(connection, config, tails | heads)
        _check_moved(connection, config, moved)
        if tails and heads:
            if search_needs_locks:
                stored = _lock_and_search(connection, config, heads)
            else:
                stored = _search(connection, config, heads=heads, tails=tails)
    after: dict[Token, list[Token]] = defaultdict(list)
    for lower, higher in stored:
        if (lower, higher) not in removed:
            after["key", lower].append(("key", higher))
    for edge in new_edges:
        after[edge.lower.token].append(edge.higher.token)
    components = strongly_connected_components(after)
    component = {token: number for number, group in enumerate(components) for token in group}
    for edge in new_edges:
        # In a strongly connected component, each edge lies on a cycle.
        if component[edge.lower.token] == component[edge.higher.token]:
            way_back = path_with_fewest_edges(after, [edge.higher.token], edge.lower.token)
            return _describe_cycle(session, config, new_edges, [edge.lower.token, *way_back])
    return None


def _lock_ends(connection: Connection, config: EdgeConfig, keys: set[PrimaryKey]) -> bool:
    """Lock the nodes with these keys, and return whether the search has to lock each node that it visits.

    Raises:
        StateError: One of the nodes does not exist.
    """
    pk, name = config.node_pk, connection.dialect.name
    found: set[PrimaryKey] = set()
    search_needs_locks = name in {"mysql", "mariadb"}
    if name == "postgresql":
        lock_table(connection, config.table, "acyclic")
    elif not search_needs_locks:
        take_write_lock(connection, config.table)
    for some in chunks(_in_lock_order(keys), MAX_KEYS):
        if name == "postgresql":
            values = {**keep_onupdate(config.node_table), pk: pk}
            unchanged = update(config.node_table).where(pk.in_(some)).values(values)
            isolation = func.current_setting("transaction_isolation")
            rows = connection.execute(unchanged.returning(pk, isolation)).all()
            found.update(key for key, _ in rows)
            has_snapshot = any(level not in {"read committed", "read uncommitted"} for _, level in rows)
            search_needs_locks = search_needs_locks or has_snapshot
        else:
            ends = select(pk).where(pk.in_(some)).order_by(pk)
            found.update(connection.scalars(ends.with_for_update() if search_needs_locks else ends))
    if missing := keys - found:
        key = next(iter(missing))
        raise StateError(
            f"{config.name} cannot join {config.node_name} {key!r}, which does not exist (any more): add the node to "
            "the session, or drop the edge"
        )
    return search_needs_locks


def _check_moved(connection: Connection, config: EdgeConfig, moved: Mapping[EdgeKey, Pair]) -> None:
    if not moved:
        return
    now = read_pairs(connection, config, list(moved), lock=is_mysql(connection))
    for key, pair in moved.items():
        if now.get(key, pair) != pair:
            raise StateError(
                f"{config.name} {key!r} has been pointed elsewhere by another transaction since it was read: roll "
                "back, and try again"
            )


def _in_lock_order(keys: Iterable[PrimaryKey]) -> list[PrimaryKey]:
    """Return `keys` in an order that is the same in all transactions: by text, which keys of every type have."""
    return sorted(keys, key=str)


def _search(
    connection: Connection, config: EdgeConfig, *, heads: set[PrimaryKey], tails: set[PrimaryKey]
) -> Sequence[Pair]:
    """Return the stored edges on paths from `heads` to `tails`, in two statements at most."""
    edges = Edges(config, config.cls)
    if len(tails) + len(heads) > _MAX_ENDS:
        return _pairs(connection, edges.select())
    down = reach(edges, list(heads), up=True, inclusive=False)
    reached = connection.scalars(select(down.c.key).where(down.c.key.in_(tails))).all()
    if not reached:
        return ()
    return _pairs(connection, edges.select().where(between(edges, starts=list(heads), ends=list(reached))))


def _lock_and_search(connection: Connection, config: EdgeConfig, heads: set[PrimaryKey]) -> Sequence[Pair]:
    """Return all stored edges above `heads`, and lock each node before its edges are read.

    One statement for each step of the longest path.
    """
    pk, table = config.node_pk, config.node_table
    # The outer join makes the database visit the node before its edges.
    statement = select(pk, config.higher).select_from(table.outerjoin(config.table, config.lower == pk)).order_by(pk)
    if connection.dialect.name == "postgresql":
        statement = statement.with_for_update(read=True, of=table)
    else:
        statement = statement.with_for_update(read=True)
    found: list[Pair] = []
    seen: set[PrimaryKey] = set()
    frontier = heads
    while frontier:
        seen |= frontier
        step: list[Pair] = []
        for some in chunks(_in_lock_order(frontier), MAX_KEYS):
            step += _pairs(connection, statement.where(pk.in_(some)))
        found += [(lower, higher) for lower, higher in step if higher is not None]
        frontier = {higher for _, higher in step if higher is not None} - seen
    return found


def _pairs(connection: Connection, statement: Executable) -> list[Pair]:
    return [(lower, higher) for lower, higher in connection.execute(statement)]


def _describe_cycle(
    session: Session, config: EdgeConfig, new_edges: Sequence[NewEdge], tokens: Sequence[Token]
) -> Cycle:
    """Return the cycle through the nodes of `tokens`, with the nodes loaded."""
    nodes = {end.token: end.node for edge in new_edges for end in (edge.lower, edge.higher) if end.node is not None}
    # Expired ones are loaded again as well: to read them later would flush first, and raise this error once more.
    absent = [token for token in tokens if token not in nodes or instance_state(nodes[token]).expired_attributes]
    for keys in chunks({key for kind, key in absent if kind == "key"}, MAX_KEYS):
        for node in session.scalars(select(config.node).where(config.pk_attribute.in_(keys))).unique():
            nodes["key", config.pk_of(node)] = node
    path = " -> ".join(f"new {config.node_name}" if kind == "new" else repr(key) for kind, key in tokens)
    if len(tokens) == 2:
        fault = f"a {config.name} from {config.node_name} {path} leads back to where it starts"
    else:
        fault = f"a {config.name} would close the cycle {path} of {config.node_name} nodes"
    return Cycle(
        f"{fault}, and {config.name} is acyclic: drop that edge, or remove another one of the cycle first or in the "
        "same flush",
        [nodes[token] for token in tokens if token in nodes],
    )
