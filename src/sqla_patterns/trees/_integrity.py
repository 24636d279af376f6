"""Find what statements outside of the ORM have damaged in a tree (`verify_tree`), and repair it (`rebuild_tree`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from operator import attrgetter

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from .._locks import lock_table, locking_read
from .._session import SyncSession, require_class, resolve_session
from .._sql import update_rows
from .._sqlalchemy import objects_in_session
from .._typing import PrimaryKey
from ._config import TreeConfig
from ._errors import TreeDamagedError, TreeProblem
from ._expire_on_rollback import expire_on_rollback
from ._index import NodeRow
from ._loaded_children import sort_children
from ._loaded_state import pk_of
from ._mixins import NodeT
from ._tree import Tree, tree_of

# How many members of a cycle are spelt out.
_SHOWN = 20


def verify_tree(session: SyncSession, entity: type[NodeT]) -> Sequence[TreeProblem]:
    """Check all trees of a table and return what is wrong, ordered by kind; empty if nothing is.

    One SELECT of the structural columns, after a flush of the session; for a `ClosureTable` one more. What an index
    keeps is compared only where all parent links are sound.

    Args:
        session: The session.
        entity: The tree class.
    """
    session = resolve_session(session, "verify_tree")
    require_class(entity, "verify_tree")
    tree = tree_of(entity)
    config = tree.config
    session.flush()
    rows = _rows(session, tree, lock=False)
    broken = _link_problems(config, rows)
    derived: list[TreeProblem] = []
    if not broken:
        connection = session.connection(bind_arguments={"mapper": config.mapper})
        derived = sorted(tree.index.find_problems(connection, rows), key=lambda problem: problem.kind)
    return [*broken, *_sibling_problems(config, rows), *derived]


def rebuild_tree(session: SyncSession, entity: type[NodeT]) -> int:
    """Compute again what is derived from ``parent_id``, and return how many rows changed.

    On a `TreeNode` these are the positions: siblings keep their order and are numbered 0, 1, 2 ... without gaps. With
    an index, also what that keeps. Use it for rows that were inserted without the ORM, and to fill the columns of an
    index that was added to a tree. Loaded nodes are updated too.

    Two SELECTs at most, and one batch of UPDATEs, for an index one more of each; on PostgreSQL one SELECT more, which
    locks the rows.

    Args:
        session: The session, which is flushed first.
        entity: The tree class.

    Raises:
        TreeDamagedError: Orphans or cycles. Nothing says where such nodes belong; its ``problems`` name them.
        PathOverflowError: The tree is too deep or too wide for a `MaterializedPath` or `LtreePath`; nothing is written.
    """
    session = resolve_session(session, "rebuild_tree")
    require_class(entity, "rebuild_tree")
    tree = tree_of(entity)
    config = tree.config
    session.flush()
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    lock_table(connection, config.table, "roots")
    rows = _rows(session, tree, lock=True)
    problems = _link_problems(config, rows)
    if problems:
        raise TreeDamagedError(
            f"{len(problems)} nodes of {config.name} are orphans or in a cycle, so nothing says where they belong; "
            "set their parent_id first (.problems lists them)",
            problems,
        )
    tree.index.check_limits(rows)
    changed: set[PrimaryKey] = set()
    if config.position is not None:
        final = _positions(rows)
        wrong = {row.pk: final[row.pk] for row in rows if row.position != final[row.pk]}
        positions = {pk: (position,) for pk, position in wrong.items()}
        update_rows(connection, config.pk, [config.position], positions)
        _show_positions(session, config, final)
        rows = [row._replace(position=final[row.pk]) for row in rows]
        changed.update(wrong)
    changed |= tree.index.rebuild(session, connection, rows)
    return len(changed)


def _positions(rows: Sequence[NodeRow]) -> dict[PrimaryKey, int]:
    """Return the position of each node among its siblings, without gaps."""
    families: dict[PrimaryKey, list[NodeRow]] = defaultdict(list)
    for row in rows:
        families[row.parent].append(row)
    return {row.pk: index for family in families.values() for index, row in enumerate(family)}


def _rows(session: Session, tree: Tree, *, lock: bool) -> list[NodeRow]:
    """Return the structure of all nodes, siblings in order."""
    config = tree.config
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    nothing = config.pk  # A column in place of one that the tree does not have.
    position = config.position if config.position is not None else nothing
    key = config.key if config.key is not None else nothing
    derived = tree.index.columns()
    statement = select(config.pk, config.parent_id, position.label("_position"), key.label("_key"), *derived.values())
    statement = statement.order_by(*config.order_columns)
    if lock and connection.dialect.name == "postgresql":
        # In a statement of its own: one that waits for a lock goes on with the rows that it saw before.
        locked = select(config.pk).order_by(config.pk).with_for_update().subquery()
        connection.execute(select(func.count()).select_from(locked))
    elif lock:
        statement = locking_read(connection, statement)
    found = [tuple(row) for row in connection.execute(statement)]
    return [NodeRow(row[0], row[1], row[2], row[3], dict(zip(derived, row[4:], strict=True))) for row in found]


def _link_problems(config: TreeConfig, rows: Sequence[NodeRow]) -> list[TreeProblem]:
    """Return the orphans and cycles."""
    parents = {row.pk: row.parent for row in rows}
    problems = [
        TreeProblem("orphan", pk, f"parent_id of <{config.name} {pk!r}> is {parent!r}, and there is no such row")
        for pk, parent in parents.items()
        if parent is not None and parent not in parents
    ]
    sound: set[PrimaryKey] = set()
    for start in parents:
        path: dict[PrimaryKey, None] = {}
        at = start
        while at is not None and at in parents and at not in sound and at not in path:
            path[at] = None
            at = parents[at]
        if at in path:
            members = list(path)
            cycle = members[members.index(at) :]
            shown = [repr(pk) for pk in [*cycle, at]]
            if len(shown) > _SHOWN:
                shown[_SHOWN // 2 : -_SHOWN // 2] = [f"... ({len(cycle)} nodes) ..."]
            chain = " -> ".join(shown)
            problems += [
                TreeProblem("cycle", pk, f"the parents of <{config.name} {pk!r}> form a cycle: {chain}") for pk in cycle
            ]
        sound.update(path)
    return problems


def _sibling_problems(config: TreeConfig, rows: Sequence[NodeRow]) -> list[TreeProblem]:
    """Return the siblings that share a key or a position."""
    problems: list[TreeProblem] = []
    for kind, present, field in (
        ("duplicate_key", config.key is not None, "key"),
        ("duplicate_position", config.position is not None, "position"),
    ):
        if not present:
            continue
        value = attrgetter(field)
        counts = Counter((row.parent, value(row)) for row in rows)
        attr = config.key_attr if kind == "duplicate_key" else "position"
        problems += [
            TreeProblem(kind, row.pk, f"<{config.name} {row.pk!r}> shares {attr} = {value(row)!r} with a sibling")
            for row in rows
            if counts[row.parent, value(row)] > 1
        ]
    return problems


def _show_positions(session: Session, config: TreeConfig, final: dict[PrimaryKey, int]) -> None:
    """Set the position of each node that the session holds, and sort the loaded lists of children."""
    nodes = objects_in_session(session, config.cls)
    for node in nodes:
        index = final.get(pk_of(node))
        if index is not None and node.__dict__.get("position") != index:
            set_committed_value(node, "position", index)
            expire_on_rollback(session, [inspect(node)])
    for node in nodes:
        sort_children(config, node)
