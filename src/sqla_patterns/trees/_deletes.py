"""What becomes of the children of deleted nodes, in a number of statements that does not depend on how many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, delete, inspect, select, update
from sqlalchemy.orm import Session

from .._declarative import keep_onupdate
from .._locks import allow_deep_recursion, is_mysql, locking_read, take_write_lock
from .._typing import SelfLinked
from ._config import TreeConfig, config_of
from ._errors import DeleteRestrictedError, InvalidMoveError
from ._index import descendants_cte
from ._marks import Mark
from ._members import Changes, change_children
from ._path_locks import chunks, lock_place
from ._peek import describe, identity_of, loaded_parent
from ._plan import Link, Plan
from ._predicates import key_of
from ._sa import mark_deleted
from ._touched import touch

__all__ = ("delete_rows", "delete_subtree", "keep_children", "resolve_deletes", "subtree_rows")

# InnoDB gives up on foreign keys that cascade deeper than 15 levels, SQLite past 1,000 triggers.
_CASCADE_DEPTH = {"mysql": 10, "mariadb": 10, "sqlite": 500}


def resolve_deletes(plan: Plan) -> None:
    """Delete what lies below the nodes that this flush deletes, if ``on_delete`` says so, and take them out of their parents."""
    if not plan.deleted:
        return
    if plan.config.options.on_delete != "cascade" or not _cascade(plan):
        plan.config.index.forget(plan.connection, plan.deleted_pks)
    changes = Changes(plan.config)
    for node in plan.deleted:
        parent = loaded_parent(node)
        if parent is not None:
            changes.leave(parent, node)
            plan.touched.add(inspect(parent))
    changes.carry_out()


def subtree_rows(connection: Connection, config: TreeConfig, keys: Sequence[Any]) -> dict[Any, Any]:
    """``{key: key of the parent}`` of everything below `keys`; one SELECT."""
    allow_deep_recursion(connection)
    found: dict[Any, Any] = {}
    for batch in chunks(keys):
        down = descendants_cte(config, batch, inclusive=False)
        statement = select(config.pk, config.parent_id).join(down, config.pk == down.c.pk)
        rows = connection.execute(locking_read(connection, statement))
        found.update((pk, parent_id) for pk, parent_id in rows)
    return found


def _levels(rows: dict[Any, Any], tops: Iterable[Any], *, without: Collection[Any] = ()) -> list[list[Any]]:
    """`tops` and, level by level, what hangs below them by `rows`; nodes of `without` keep what is below them."""
    children: dict[Any, list[Any]] = defaultdict(list)
    for pk, parent_id in rows.items():
        children[parent_id].append(pk)
    levels = [list(tops)]
    seen = set(levels[0])
    while levels[-1]:
        below = [child for pk in levels[-1] for child in children.get(pk, ()) if child not in seen]
        levels.append([child for child in below if child not in without])
        seen.update(below)
    return levels[:-1]


def _cascade(plan: Plan) -> bool:
    """Delete what lies below the deleted nodes; True if the index has heard of those too by then."""
    config = plan.config
    rows = subtree_rows(plan.connection, config, list(plan.deleted_pks))
    leaving = {link.pk for link in plan.links if not link.new and link.moved}
    levels = _levels(rows, plan.deleted_pks, without=leaving)
    victims = {pk for level in levels[1:] for pk in level}
    _refuse_newcomers(plan, victims)
    if not victims:
        return False
    if config.orm_deletes:
        config.index.forget(plan.connection, plan.deleted_pks | victims)
        for node in _load(plan.session, config, victims):
            plan.session.delete(node)
        return True
    if config.mapper.version_id_col is None:
        # The unit of work would delete the rest in a statement of its own, and has nothing else to do for it.
        victims |= plan.deleted_pks
    # A node that leaves is still below the victims in the table, where the database would cascade to it.
    saved = [pk for pk in leaving if rows.get(pk) in victims]
    delete_rows(plan.session, plan.connection, config, victims, depth=len(levels), detach=saved)
    return plan.deleted_pks <= victims


def _refuse_newcomers(plan: Plan, victims: set[Any]) -> None:
    for link in plan.links:
        if link.parent_pk is not None and link.parent_pk in victims and link.pk not in victims:
            raise InvalidMoveError(
                f"{describe(link.node)} cannot go below <{plan.config.name} {link.parent_pk!r}>, which is deleted in the same "
                "flush together with its parent: move it elsewhere, or delete it too"
            )


def delete_rows(
    session: Session,
    connection: Connection,
    config: TreeConfig,
    keys: Collection[Any],
    *,
    depth: int,
    detach: Sequence[Any] = (),
) -> None:
    """Delete the rows of `keys`, which form whole subtrees, and tell the session of those that it holds.

    One DELETE for each table of the class hierarchy and each 10,000 keys. Where the database would cascade too deep, or
    refuse, one UPDATE takes the links apart first.

    Args:
        depth: how many levels `keys` span.
        detach: rows to keep that are still linked below `keys`.
    """
    table, pk, parent_id = config.table, config.pk, config.parent_id
    unlink: list[Any] = list(detach)
    too_deep = depth > _CASCADE_DEPTH.get(connection.dialect.name, depth)
    # InnoDB checks foreign keys row by row, even between rows of one DELETE.
    if too_deep or (depth > 1 and is_mysql(connection) and not config.database_unlinks):
        unlink += keys
    for batch in chunks(unlink):
        values = {**keep_onupdate(table), parent_id: None}
        connection.execute(update(table).where(pk.in_(batch)).values(values))
    config.index.forget(connection, keys)
    for each in config.dependent_tables:
        column = next(iter(each.primary_key))
        for batch in chunks(keys):
            connection.execute(delete(each).where(column.in_(batch)))
    gone = [node for key in keys if (node := _loaded(session, config, key)) is not None]
    mark_deleted(session, gone)


def _loaded(session: Session, config: TreeConfig, pk: Any) -> Any:
    return session.identity_map.get(config.mapper.identity_key_from_primary_key((pk,)))


def keep_children(plan: Plan) -> None:
    """Where a deleted node leaves its children behind, refuse it or link them elsewhere; before anything is locked.

    One SELECT of the children; that they move is then an ordinary part of the plan.
    """
    policy = plan.config.options.on_delete
    if not plan.deleted or policy == "cascade":
        return
    settled = {link.pk for link in plan.links if link.moved}
    left = list(_left_behind(plan, settled))
    if left and policy == "restrict":
        _, child = left[0]
        raise DeleteRestrictedError(
            f"<{plan.config.name} {child.parent_id!r}> cannot be deleted while it has children, such as {describe(child)}: "
            "delete or move them first, or use delete_subtree()"
        )
    # A child that only changes its place among its siblings has a link already, to the parent that goes.
    children = {id(child) for _, child in left}
    plan.links = [link for link in plan.links if id(link.node) not in children]
    for top, child in left:
        to_root = policy == "root"
        parent_pk = None if to_root else top.parent_id
        plan.links.append(
            Link(
                child,
                inspect(child),
                identity_of(child),
                None if parent_pk is None else plan.loaded(parent_pk),
                parent_pk,
                new=False,
                moved=True,
                # Listed: several that go after one node keep the order of the links.
                mark=Mark(side="last") if to_root else Mark(side="after", anchor=top, listed=True),
                at=None,
            )
        )


def _left_behind(plan: Plan, settled: Collection[Any]) -> Iterator[tuple[Any, Any]]:
    """Each child that a deleted node leaves behind, with the uppermost deleted node above it, in the order of the tree."""
    below: dict[Any, list[Any]] = defaultdict(list)
    for child, parent_id in _load_children(plan):
        below[parent_id].append(child)
    deleted = {identity_of(node): node for node in plan.deleted}
    for top in plan.deleted:
        if top.parent_id in deleted:
            continue
        stack = list(reversed(below[identity_of(top)]))
        while stack:
            child = stack.pop()
            if identity_of(child) in deleted:
                stack.extend(reversed(below[identity_of(child)]))
            elif identity_of(child) not in settled:
                yield top, child


def _load_children(plan: Plan) -> list[tuple[Any, Any]]:
    """The children of deleted nodes, each with the key of its parent in the table: an object may show an older one."""
    cls = plan.config.cls
    found: list[tuple[Any, Any]] = []
    with plan.session.no_autoflush:
        for keys in chunks(plan.deleted_pks):
            statement = select(cls, plan.config.parent_id).where(cls.parent_id.in_(keys))
            rows = plan.session.execute(locking_read(plan.connection, statement.order_by(*plan.config.order_by)))
            found += [(child, parent_id) for child, parent_id in rows]
    return found


def delete_subtree(session: Session, node: SelfLinked) -> int:
    """Delete a node and all that lies below it, whatever ``on_delete`` says, and return how many rows went.

    Args:
        node: an instance. The session is flushed first.

    One SELECT of the keys and one DELETE, for each 10,000 nodes and each table of a joined hierarchy; neither depends on what is
    loaded. Loaded nodes become deleted objects. Where relationships of the user's cascade, or somebody listens for
    deletions of single nodes, the nodes are loaded in one SELECT and go through the unit of work.

    Raises:
        StateError: `node` has no identity.
    """
    config = config_of(node)
    session.flush()
    key = key_of(config, node)
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    if connection.dialect.name == "sqlite":
        take_write_lock(connection, config.table)
    else:
        lock_place(connection, config, key)
    rows = subtree_rows(connection, config, [key])
    levels = _levels(rows, [key])
    keys = [pk for level in levels for pk in level]
    parent = loaded_parent(node)
    if config.orm_deletes:
        found = _load(session, config, keys)
        for each in found:
            session.delete(each)
        # What the policy of the class would do with children is beside the point: all of them go.
        session.flush()
        return len(found)
    delete_rows(session, connection, config, keys, depth=len(levels))
    if parent is not None:
        change_children(config, parent, gone=[node])
        touch(session, [inspect(parent)])
    return len(keys)


def _load(session: Session, config: TreeConfig, keys: Iterable[Any]) -> list[Any]:
    cls = config.cls
    found: list[Any] = []
    with session.no_autoflush:
        for batch in chunks(keys):
            found += session.scalars(select(cls).where(getattr(cls, config.pk_attr).in_(batch)))
    return found
