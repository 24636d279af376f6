"""Keep a graph free of cycles, also when several transactions add edges at the same time.

The check of a flush: of all new links together with what the database holds, none may lie on a cycle. So that this is still true at
commit, each writer first makes sure that what it will read is the last word:

- **PostgreSQL, READ COMMITTED**: an advisory lock on the edge table lets one writer through at a time, and each statement after it sees
  what the others have committed.
- **PostgreSQL, REPEATABLE READ and SERIALIZABLE**: the snapshot may be older than the lock. Therefore each writer, on every level,
  updates the rows of the nodes that it links, to no effect; and a writer with a snapshot locks each node that it comes by before it reads
  the edges there. Had another writer linked something to it since the snapshot, the database refuses the lock with a serialization
  failure.
- **MariaDB and MySQL**: row locks alone, since there is no lock that outlives a statement and ends with the transaction, and a row that
  stands for the table may stop being the first one. Linked nodes are locked ``FOR UPDATE``; then each node that the search comes by is
  locked in share mode *before* the edges at it are read, which in a locking read are those committed last. Two writers that close one
  cycle from both sides meet at a node: one waits, sees the other's edge and raises, or the database ends a deadlock.
- **SQLite** has one writer for the file, which this flush becomes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Connection, func, inspect, select, update
from sqlalchemy.orm import Session

from .._declarative import keep_onupdate
from .._locks import allow_deep_recursion, lock_table, take_write_lock
from ..exceptions import StateError
from ._algorithms import components, shortest_walk
from ._config import EdgeConfig, Edges
from ._errors import CycleError
from ._neighbors import chunks
from ._predicates import between, reach

__all__ = ("Link", "check_acyclic")

# Past so many ends the whole edge table is read instead of what lies between them.
_MANY = 10_000

_Pair = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class _End:
    """One end of a link: a key, a node, or both."""

    key: Any
    node: Any

    @property
    def token(self) -> Any:
        return ("key", self.key) if self.key is not None else ("new", id(self.node))


@dataclass(frozen=True, eq=False)
class Link:
    """An edge that the flush is going to write."""

    lower: _End
    higher: _End

    @classmethod
    def of(cls, config: EdgeConfig, edge: Any) -> Self | None:
        """The link that `edge` will be; None for one that is not complete, which the flush will refuse by itself."""
        values = inspect(edge).dict
        ends: list[_End] = []
        for side in ("lower", "higher"):
            node, key = values.get(f"{side}_node"), values.get(f"{side}_id")
            if node is not None:
                key = config.key_of(node)
            elif key is None:
                return None
            ends.append(_End(key, node))
        return cls(*ends)


def check_acyclic(session: Session, config: EdgeConfig, links: Sequence[Link], removed: set[_Pair]) -> None:
    """Raise `CycleError` if one of `links` would lie on a cycle, once the `removed` pairs are gone.

    Locks what has to be locked first. No SQL where all ends are new nodes. Else three statements: lock, claim of the ends, and search; a
    fourth where the search finds a way from one new link to another. With row locks, the search takes one for each step.
    """
    new = {config.key_of(obj) for obj in session.new if isinstance(obj, config.node)}
    tails = {link.lower.key for link in links} - new - {None}
    heads = {link.higher.key for link in links} - new - {None}
    stored: Iterable[_Pair] = ()
    if tails or heads:
        connection = session.connection(bind_arguments={"mapper": config.mapper})
        allow_deep_recursion(connection)
        walk = _claim(connection, config, tails | heads)
        if tails and heads:
            search = _walk if walk else _search
            stored = search(connection, config, tails, heads)
    after: dict[Any, list[Any]] = defaultdict(list)
    for lower, higher in stored:
        if (lower, higher) not in removed:
            after["key", lower].append(("key", higher))
    for link in links:
        after[link.lower.token].append(link.higher.token)
    component = {token: number for number, group in enumerate(components(after)) for token in group}
    for link in links:
        # In a strongly connected component, each edge lies on a cycle.
        if component[link.lower.token] == component[link.higher.token]:
            way = shortest_walk(after, [link.higher.token], link.lower.token)
            raise _cycle_error(session, config, link, links, [link.lower.token, *way])


def _claim(connection: Connection, config: EdgeConfig, keys: set[Any]) -> bool:
    """Lock the nodes of `keys`, and tell whether the search has to lock each node that it comes by.

    Raises:
        StateError: one of the nodes does not exist.
    """
    pk, name = config.node_pk, connection.dialect.name
    found: set[Any] = set()
    walk = name in {"mysql", "mariadb"}
    if name == "postgresql":
        lock_table(connection, config.table, "acyclic")
    elif not walk:
        take_write_lock(connection, config.table)
    for some in chunks(_sorted(keys)):
        if name == "postgresql":
            values = {**keep_onupdate(config.node_table), pk: pk}
            claim = update(config.node_table).where(pk.in_(some)).values(values)
            isolation = func.current_setting("transaction_isolation")
            rows = connection.execute(claim.returning(pk, isolation)).all()
            found.update(key for key, _ in rows)
            walk = walk or any(level not in {"read committed", "read uncommitted"} for _, level in rows)
        else:
            ends = select(pk).where(pk.in_(some)).order_by(pk)
            found.update(connection.scalars(ends.with_for_update() if walk else ends))
    if missing := keys - found:
        key = next(iter(missing))
        raise StateError(
            f"{config.name} cannot join {config.node_name} {key!r}, which does not exist (any more): add the node to the session, or "
            "drop the edge"
        )
    return walk


def _sorted(keys: Iterable[Any]) -> list[Any]:
    """`keys` in one order for all transactions, so that they lock in one order; by text, which every key has."""
    return sorted(keys, key=str)


def _search(connection: Connection, config: EdgeConfig, tails: set[Any], heads: set[Any]) -> Sequence[_Pair]:
    """The stored edges on ways from `heads` to `tails`, in two statements at most."""
    edges = Edges(config, config.cls)
    if len(tails) + len(heads) > _MANY:
        return _pairs(connection, edges.select())
    down = reach(edges, list(heads), up=True, inclusive=False)
    reached = connection.scalars(select(down.c.key).where(down.c.key.in_(tails))).all()
    if not reached:
        return ()
    return _pairs(connection, edges.select().where(between(edges, list(heads), list(reached))))


def _walk(connection: Connection, config: EdgeConfig, tails: set[Any], heads: set[Any]) -> Sequence[_Pair]:
    """All stored edges beyond `heads`, each node locked before its edges are read; one statement a step."""
    pk, table = config.node_pk, config.node_table
    # The outer join has the database come by the node first.
    statement = select(pk, config.higher).select_from(table.outerjoin(config.table, config.lower == pk)).order_by(pk)
    if connection.dialect.name == "postgresql":
        statement = statement.with_for_update(read=True, of=table)
    else:
        statement = statement.with_for_update(read=True)
    found: list[_Pair] = []
    seen: set[Any] = set()
    frontier = heads
    while frontier:
        seen |= frontier
        step: list[_Pair] = []
        for some in chunks(_sorted(frontier)):
            step += _pairs(connection, statement.where(pk.in_(some)))
        found += [(lower, higher) for lower, higher in step if higher is not None]
        frontier = {higher for _, higher in step if higher is not None} - seen
    return found


def _pairs(connection: Connection, statement: Any) -> list[_Pair]:
    result: Any = connection.execute(statement)
    return [(lower, higher) for lower, higher in result]


def _cycle_error(
    session: Session, config: EdgeConfig, closing: Link, links: Sequence[Link], tokens: Sequence[Any]
) -> CycleError:
    nodes = {end.token: end.node for link in links for end in (link.lower, link.higher) if end.node is not None}
    # Expired ones are loaded again as well: to read them later would flush first, and raise this error once more.
    absent = [token for token in tokens if token not in nodes or inspect(nodes[token]).expired_attributes]
    for keys in chunks({key for kind, key in absent if kind == "key"}):
        for node in session.scalars(select(config.node).where(config.node_key.in_(keys))).unique():
            nodes["key", config.key_of(node)] = node
    way = " -> ".join(f"new {config.node_name}" if kind == "new" else repr(key) for kind, key in tokens)
    if len(tokens) == 2:
        fault = f"a {config.name} from {config.node_name} {way} leads back to where it starts"
    else:
        fault = f"a {config.name} would close the cycle {way} of {config.node_name} nodes"
    return CycleError(
        f"{fault}, and {config.name} is acyclic: drop that edge, or remove another one of the cycle first or in the same flush",
        [nodes[token] for token in tokens if token in nodes],
    )
