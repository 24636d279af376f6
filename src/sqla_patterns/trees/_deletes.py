"""The children of deleted nodes, as ``on_delete`` says: deleted too, given to another parent, made roots, or protected.

The number of statements does not depend on how many children there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, inspect, select, update
from sqlalchemy.orm import Session

from .._declarative import keep_onupdate
from .._locks import allow_deep_recursion, is_mysql, locking_read, take_write_lock
from .._maintained import before_maintenance
from .._session import SyncSession, at_object, resolve_session
from .._sql import chunks
from .._sqlalchemy import mark_deleted
from .._typing import MappedObject, PrimaryKey, SelfLinked
from ..exceptions import StateError
from ._config import MAX_IN, TreeConfig
from ._errors import DeleteRestrictedError, InvalidMoveError
from ._expire_on_rollback import expire_on_rollback
from ._flush_plan import FlushPlan, ParentLink
from ._index import descendants_cte
from ._loaded_children import ChildrenChanges, change_children
from ._loaded_state import describe, loaded_node, loaded_parent, pk_of
from ._placement_hints import PlacementHint
from ._predicates import resolve_pk
from ._structural_loads import load_children, load_nodes
from ._tree import Tree, tree_of
from ._tree_locks import claim_list, lock_child_list

#: In ``session.info``: the nodes that delete_subtree() deletes together with everything below them, by id().
_WHOLE = "sqla_patterns.trees.whole_subtrees"
#: How deep foreign keys may cascade: InnoDB gives up below 15 levels, SQLite after 1,000 triggers.
_CASCADE_DEPTH = {"mysql": 10, "mariadb": 10, "sqlite": 500}


@dataclass(frozen=True)
class CascadedRows:
    """What is deleted together with deleted nodes: everything below them, except what moves away in the same flush.

    Attributes:
        keys: Primary keys, without those of the deleted nodes themselves.
        depth: How many levels they span together with these.
        leaving: Nodes that move away and are still below these in the table, each with the primary key of its parent
            there.
        nodes: The objects, where the unit of work has to see each of them.
    """

    keys: frozenset[PrimaryKey] = frozenset()
    depth: int = 1
    leaving: Mapping[PrimaryKey, PrimaryKey] = field(default_factory=dict[PrimaryKey, PrimaryKey])
    nodes: Sequence[MappedObject] = ()


def find_cascaded_rows(plan: FlushPlan) -> CascadedRows:
    """Read what lies below the nodes that this flush deletes, if ``on_delete`` says that it is deleted too."""
    config = plan.config
    if not plan.deleted or config.options.on_delete != "cascade":
        return CascadedRows()
    rows = _subtree_rows(plan.connection, config, list(plan.deleted_pks))
    leaving = {link.pk for link in plan.links if not link.new and link.moved}
    levels = _levels(rows, plan.deleted_pks, without=leaving)
    keys = frozenset(pk for level in levels[1:] for pk in level)
    _refuse_new_children(plan, keys)
    nodes = load_nodes(plan.session, config, keys) if keys and config.needs_orm_deletes else ()
    return CascadedRows(keys, len(levels), {pk: rows[pk] for pk in leaving if pk in rows}, nodes)


def resolve_deletes(plan: FlushPlan, tree: Tree, cascaded: CascadedRows) -> None:
    """Delete what is cascaded from the nodes that this flush deletes, and take these out of their loaded parents."""
    if not plan.deleted:
        return
    replaced = plan.replaced_pks
    if not ((cascaded.keys or replaced) and _cascade(plan, tree, cascaded, replaced)):
        tree.index.delete_entries(plan.connection, plan.deleted_pks)
        _free_places(plan)
    changes = ChildrenChanges(plan.config)
    for node in plan.deleted:
        parent = loaded_parent(node)
        if parent is not None:
            changes.leave(parent, node)
            plan.states_to_expire.add(inspect(parent))
    changes.carry_out()


def _free_places(plan: FlushPlan) -> None:
    """Take rows that the unit of work will delete out of the way of newcomers, where siblings are unique by something.

    It inserts before it deletes. NULL as ``parent_id`` is unlike every other value to a unique constraint. One UPDATE.
    """
    config = plan.config
    if not (config.has_unique_siblings and (plan.links or plan.renamed)):
        return
    for batch in chunks(plan.deleted_pks, MAX_IN):
        values = {**keep_onupdate(config.table), config.parent_id: None}
        plan.connection.execute(update(config.table).where(config.pk.in_(batch)).values(values))


def _subtree_rows(
    connection: Connection, config: TreeConfig, keys: Sequence[PrimaryKey]
) -> dict[PrimaryKey, PrimaryKey]:
    """Return ``{primary key: that of the parent}`` of everything below `keys`; one SELECT."""
    allow_deep_recursion(connection)
    found: dict[PrimaryKey, PrimaryKey] = {}
    for batch in chunks(keys, MAX_IN):
        down = descendants_cte(config, batch, inclusive=False)
        statement = select(config.pk, config.parent_id).join(down, config.pk == down.c.pk)
        rows = connection.execute(locking_read(connection, statement))
        found.update((pk, parent_id) for pk, parent_id in rows)
    return found


def _levels(
    rows: dict[PrimaryKey, PrimaryKey], tops: Iterable[PrimaryKey], *, without: Collection[PrimaryKey] = ()
) -> list[list[PrimaryKey]]:
    """Return `tops` and, level by level, what is below them by `rows`; nodes of `without` keep what is below them."""
    children: dict[PrimaryKey, list[PrimaryKey]] = defaultdict(list)
    for pk, parent_id in rows.items():
        children[parent_id].append(pk)
    levels = [list(tops)]
    seen = set(levels[0])
    while levels[-1]:
        below = [child for pk in levels[-1] for child in children.get(pk, ()) if child not in seen]
        levels.append([child for child in below if child not in without])
        seen.update(below)
    return levels[:-1]


def refuse_replacing(plan: FlushPlan) -> None:
    """Refuse a new node with the primary key of a deleted one where the unit of work has to delete.

    It would delete the new row as well.
    """
    config = plan.config
    if plan.replaced_pks and (config.needs_orm_deletes or config.mapper.version_id_col is not None):
        pk = next(iter(plan.replaced_pks))
        raise StateError(
            f"<{config.name} {pk!r}> is deleted, and a new {config.name} has the same primary key; since more hangs on "
            f"the deletion of a {config.name} than its row (relationships that cascade, listeners, or a "
            "version_id_col), flush it first: session.flush()"
        )


def _cascade(plan: FlushPlan, tree: Tree, cascaded: CascadedRows, replaced: Collection[PrimaryKey]) -> bool:
    """Delete what lies below the deleted nodes; return whether the index's entries of these are deleted too."""
    config = plan.config
    if config.needs_orm_deletes:
        tree.index.delete_entries(plan.connection, plan.deleted_pks | cascaded.keys)
        for node in cascaded.nodes:
            plan.session.delete(node)
        return True
    keys: set[PrimaryKey] = set(cascaded.keys)
    # The unit of work, which orders deletions behind insertions, would delete the new row of a key.
    keys.update(replaced)
    if config.mapper.version_id_col is None and not tree.is_referred_to:
        # The unit of work would delete the rest in a statement of its own, and has nothing else to do for it. Where
        # other tables refer to nodes, it may have to write these first.
        keys |= plan.deleted_pks
    # The database would cascade to a node that leaves and is still below them in the table.
    staying = [pk for pk, parent_pk in {**cascaded.leaving, **_adopted(plan, replaced)}.items() if parent_pk in keys]
    _delete_rows(plan.session, plan.connection, tree, keys, depth=cascaded.depth, detach=staying)
    return plan.deleted_pks <= keys


def _adopted(plan: FlushPlan, replaced: Collection[PrimaryKey]) -> dict[PrimaryKey, PrimaryKey]:
    """Return the children that a replaced node leaves behind, still below it in the table."""
    moved = (link.pk for link in plan.links if replaced and link.moved)
    return {pk: plan.stored_parents[pk] for pk in moved if pk in plan.stored_parents}


def _refuse_new_children(plan: FlushPlan, cascaded: Collection[PrimaryKey]) -> None:
    """Refuse nodes that shall go below one that is deleted together with its parent."""
    for link in plan.links:
        if link.parent_pk is not None and link.parent_pk in cascaded and link.pk not in cascaded:
            raise InvalidMoveError(
                f"{describe(link.node)} cannot go below <{plan.config.name} {link.parent_pk!r}>, which is deleted in "
                "the same flush together with its parent: move it elsewhere, or delete it too"
            )


def _delete_rows(
    session: Session,
    connection: Connection,
    tree: Tree,
    keys: Collection[PrimaryKey],
    *,
    depth: int,
    detach: Sequence[PrimaryKey] = (),
) -> None:
    """Delete the rows of `keys`, which form whole subtrees, and tell the session of those that it holds.

    One DELETE for each table of the class hierarchy and each 10,000 keys. Where the database would cascade too deep, or
    refuse, one UPDATE sets ``parent_id`` to NULL first.

    Args:
        session: The session.
        connection: Its connection for the tree.
        tree: The tree.
        keys: The primary keys.
        depth: How many levels `keys` span.
        detach: The primary keys of rows to keep that are still below `keys`.
    """
    config = tree.config
    table, pk, parent_id = config.table, config.pk, config.parent_id
    unlink: list[PrimaryKey] = list(detach)
    too_deep = depth > _CASCADE_DEPTH.get(connection.dialect.name, depth)
    # InnoDB checks foreign keys row by row, even between rows of one DELETE.
    if too_deep or (depth > 1 and is_mysql(connection) and not config.database_handles_children):
        unlink += keys
    for batch in chunks(unlink, MAX_IN):
        values = {**keep_onupdate(table), parent_id: None}
        connection.execute(update(table).where(pk.in_(batch)).values(values))
    tree.index.delete_entries(connection, keys)
    for each in config.dependent_tables:
        column = next(iter(each.primary_key))
        for batch in chunks(keys, MAX_IN):
            connection.execute(delete(each).where(column.in_(batch)))
    gone = [node for key in keys if (node := loaded_node(session, config, key)) is not None]
    mark_deleted(session, gone)


def keep_children(plan: FlushPlan) -> None:
    """Link the children that deleted nodes leave behind to another parent, or refuse; before anything is locked.

    One SELECT of the children; that they move is then an ordinary part of the plan.

    Raises:
        DeleteRestrictedError: ``on_delete`` is ``"restrict"``, and a deleted node has children.
    """
    policy = plan.config.options.on_delete
    whole: set[int] = plan.session.info.get(_WHOLE, set())
    if policy == "cascade" or all(id(node) in whole for node in plan.deleted):
        return
    settled = {link.pk for link in plan.links if link.moved}
    left = list(_left_behind(plan, settled))
    if left and policy == "restrict":
        _, child = left[0]
        raise DeleteRestrictedError(
            f"<{plan.config.name} {child.parent_id!r}> cannot be deleted while it has children, such as "
            f"{describe(child)}: delete or move them first, or use delete_subtree()"
        )
    # A child that only changes its place among its siblings has a link already, to the parent that goes.
    children = {id(child) for _, child in left}
    plan.links = [link for link in plan.links if id(link.node) not in children]
    for top, child in left:
        to_root = policy == "root"
        parent_pk = None if to_root else top.parent_id
        plan.links.append(
            ParentLink(
                child,
                inspect(child),
                pk_of(child),
                None if parent_pk is None else plan.loaded_node(parent_pk),
                parent_pk,
                new=False,
                moved=True,
                hint=PlacementHint(side="last")
                if to_root
                # As in a loaded list: several that go after one node keep the order of the links.
                else PlacementHint(side="after", anchor=top, in_loaded_list=True),
                position=None,
            )
        )


def _left_behind(plan: FlushPlan, settled: Collection[PrimaryKey]) -> Iterator[tuple[MappedObject, MappedObject]]:
    """Yield each child that a deleted node leaves behind, in the order of the tree.

    Each comes behind the uppermost deleted node above it. Children in `settled` move anyway.
    """
    below: dict[PrimaryKey, list[MappedObject]] = defaultdict(list)
    for child, parent_id in load_children(plan.session, plan.config, plan.deleted_pks):
        below[parent_id].append(child)
    deleted = {pk_of(node): node for node in plan.deleted}
    for top in plan.deleted:
        if top.parent_id in deleted:
            continue
        stack = list(reversed(below[pk_of(top)]))
        while stack:
            child = stack.pop()
            if pk_of(child) in deleted:
                stack.extend(reversed(below[pk_of(child)]))
            elif pk_of(child) not in settled:
                yield top, child


@at_object
def delete_subtree(session: SyncSession, node: SelfLinked) -> int:
    """Delete a node and all that lies below it, whatever ``on_delete`` says, and return how many rows were deleted.

    Args:
        session: The session that holds the node; it is flushed first.
        node: An instance.

    One SELECT of the keys and one DELETE, for each 10,000 nodes and each table of a joined hierarchy; neither depends
    on what is loaded. Loaded nodes become deleted objects. Where relationships of the user's cascade, or listeners wait
    for deletions of single nodes, the nodes are loaded in one SELECT and are deleted by the unit of work.

    Raises:
        StateError: `node` has no identity.
    """
    session = resolve_session(session, "delete_subtree")
    tree = tree_of(node)
    config = tree.config
    session.flush()
    key = resolve_pk(config, node)
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    if connection.dialect.name == "sqlite":
        take_write_lock(connection, config.table)
    else:
        claim_list(connection, config, lock_child_list(connection, tree, key))
    rows = _subtree_rows(connection, config, [key])
    levels = _levels(rows, [key])
    keys = [pk for level in levels for pk in level]
    if config.needs_orm_deletes:
        return _delete_by_flush(session, config, keys)
    parent = loaded_parent(node)
    loaded = [each for pk in keys if (each := loaded_node(session, config, pk)) is not None]
    if loaded:
        before_maintenance(session, config.cls, loaded)
    _delete_rows(session, connection, tree, keys, depth=len(levels))
    if parent is not None:
        change_children(config, parent, gone=[node])
        expire_on_rollback(session, [inspect(parent)])
    return len(keys)


def _delete_by_flush(session: Session, config: TreeConfig, keys: Sequence[PrimaryKey]) -> int:
    """Delete whole subtrees by the unit of work, whatever ``on_delete`` of the class says."""
    found = load_nodes(session, config, keys)
    session.info[_WHOLE] = {id(each) for each in found}
    try:
        # Each deletion loads what it cascades to, and must not flush the deletions before it.
        with session.no_autoflush:
            for each in found:
                session.delete(each)
        session.flush()
    finally:
        session.info.pop(_WHOLE, None)
    return len(found)
