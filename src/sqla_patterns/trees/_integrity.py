"""Find damage that came past the ORM, and mend what can be derived."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, inspect, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from .._declarative import keep_onupdate
from .._locks import lock_table, locking_read
from ._config import TreeConfig, config_of
from ._errors import TreeDamagedError, TreeProblem
from ._index import Row
from ._members import sort_children
from ._node import NodeT
from ._peek import identity_of
from ._touched import touch

__all__ = ("rebuild_tree", "verify_tree")

# How many members of a circle are spelt out.
_SHOWN = 20


def verify_tree(session: Session, entity: type[NodeT]) -> Sequence[TreeProblem]:
    """Check all trees of a table and return what is wrong, ordered by kind; empty if nothing is.

    One SELECT of the structural columns, after a flush of the session; for a `ClosureTable` one more. What an index keeps is compared
    only where all links are sound.
    """
    config = config_of(entity)
    session.flush()
    rows = _rows(session, config, lock=False)
    broken = _link_problems(config, rows)
    derived: list[TreeProblem] = []
    if not broken:
        connection = session.connection(bind_arguments={"mapper": config.mapper})
        derived = sorted(config.index.problems(connection, rows), key=lambda problem: problem.kind)
    return [*broken, *_sibling_problems(config, rows), *derived]


def rebuild_tree(session: Session, entity: type[NodeT]) -> int:
    """Derive anew what ``parent_id`` does not say, and return how many rows changed.

    On a `TreeNode` these are the positions: siblings keep their order and are numbered 0, 1, 2 ... without gaps. Beside that, what
    an index keeps. Use it for rows that came past the ORM, and to fill the columns of an index that was added to a tree. Loaded nodes are
    brought into step.

    Two SELECTs at most, and one batch of UPDATEs, for an index one more of each.

    Raises:
        TreeDamagedError: orphans or cycles. Nothing says where such nodes belong; its ``problems`` name them.
        PathOverflowError: a `MaterializedPath` or `LtreePath` has no room for the tree; nothing is written then.
    """
    config = config_of(entity)
    session.flush()
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    lock_table(connection, config.table, "roots")
    rows = _rows(session, config, lock=True)
    problems = _link_problems(config, rows)
    if problems:
        raise TreeDamagedError(
            f"{len(problems)} nodes of {config.name} are orphans or in a cycle, so nothing says where they belong; "
            "set their parent_id first (.problems lists them)",
            problems,
        )
    config.index.check(rows)
    changed: set[Any] = set()
    if config.position is not None:
        rows = _number(session, connection, config, rows, changed)
    changed |= config.index.rebuild(session, connection, rows)
    return len(changed)


def _number(
    session: Session, connection: Connection, config: TreeConfig, rows: list[Row], changed: set[Any]
) -> list[Row]:
    families: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        families[row.parent].append(row)
    final = {row.pk: index for family in families.values() for index, row in enumerate(family)}
    numbers = {row.pk: final[row.pk] for row in rows if row.position != final[row.pk]}
    if numbers and config.position is not None:
        statement = (
            update(config.table)
            .where(config.pk == bindparam("_pk"))
            .values({**keep_onupdate(config.table), config.position: bindparam("_position")})
        )
        connection.execute(statement, [{"_pk": pk, "_position": index} for pk, index in numbers.items()])
    _show(session, config, final)
    changed.update(numbers)
    return [row._replace(position=final[row.pk]) for row in rows]


def _rows(session: Session, config: TreeConfig, *, lock: bool) -> list[Row]:
    """All nodes, siblings in order."""
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    nothing = config.pk  # A column in place of one that the tree has not.
    position = config.position if config.position is not None else nothing
    key = config.key if config.key is not None else nothing
    kept = config.index.columns()
    statement = select(config.pk, config.parent_id, position.label("_position"), key.label("_key"), *kept.values())
    statement = statement.order_by(*(config.mapper.columns[name] for name in config.order_attrs))
    if lock:
        statement = (
            statement.with_for_update()
            if connection.dialect.name == "postgresql"
            else locking_read(connection, statement)
        )
    found: Sequence[Any] = connection.execute(statement).all()
    return [Row(row[0], row[1], row[2], row[3], dict(zip(kept, row[4:], strict=True))) for row in found]


def _link_problems(config: TreeConfig, rows: Sequence[Row]) -> list[TreeProblem]:
    parents = {row.pk: row.parent for row in rows}
    problems = [
        TreeProblem("orphan", pk, f"parent_id of <{config.name} {pk!r}> is {parent!r}, and there is no such row")
        for pk, parent in parents.items()
        if parent is not None and parent not in parents
    ]
    sound: set[Any] = set()
    for start in parents:
        path: dict[Any, None] = {}
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
                TreeProblem("cycle", pk, f"the parents of <{config.name} {pk!r}> run in a circle: {chain}")
                for pk in cycle
            ]
        sound.update(path)
    return problems


def _sibling_problems(config: TreeConfig, rows: Sequence[Row]) -> list[TreeProblem]:
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


def _show(session: Session, config: TreeConfig, final: dict[Any, int]) -> None:
    """Set the position of each node that the session holds, also of those that show an old or none, and sort their lists."""
    nodes: list[Any] = [node for node in session.identity_map.values() if isinstance(node, config.cls)]
    for node in nodes:
        index = final.get(identity_of(node))
        if index is not None and node.__dict__.get("position") != index:
            set_committed_value(node, "position", index)
            touch(session, [inspect(node)])
    for node in nodes:
        sort_children(config, node)
