"""The flush: every new, moved and deleted node of a tree, whichever way the user said it.

Once per flush and tree class, before the unit of work looks at anything:

1. `FlushPlan` resolves each new or changed node to one `ParentLink`: the node and the parent that it shall have.
2. The rows that decide are locked, roots first, and read again inside the lock. Cycles, parents that do not exist and
   duplicate keys raise here, before the first write.
3. Children of deleted nodes that are not deleted too are given another parent, and are then handled like other moves.
4. `number` finds the position of each node, and the index of the tree (`TreeIndex.plan_change`) finds what it will
   store for the node. Up to here nothing is written.
5. What lies below deleted nodes is deleted, one UPDATE makes space for all nodes that a parent gets, and the index is
   updated.
6. The nodes get ``parent_id`` and ``position``, and the history of their relationships is taken as flushed (see
   `_apply`). The unit of
   work then sees plain column changes, batches the INSERTs of a level, and does not fail on a parent and a child that
   change places. Only what is below a new node whose primary key the database makes is left to it.

Loaded collections and positions are updated on the way, without SQL; where siblings sort by attributes of the user's,
the database sorts them once the flush has written (`SiblingOrder`). A rollback, also of a savepoint, expires them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from sqlalchemy.orm import Session, SessionTransaction

from .._locks import lift_recursion_limit
from .._maintained import before_maintenance
from .._sqlalchemy import is_edited, is_last, listen_last, listens
from .._typing import MappedClass, MappedObject
from ._apply import apply_links, discard_derived, settle_unmoved
from ._checks import check_keys, claim_lists, lock_and_check, lock_lists
from ._deletes import CascadedRows, find_cascaded_rows, keep_children, refuse_replacing, resolve_deletes
from ._expire_on_rollback import expire_on_rollback, forget_states_to_expire, states_to_expire
from ._flush_plan import FlushPlan, ParentLink
from ._index import IndexChange
from ._numbering import number, open_gaps, shifted
from ._orphans import delete_orphans
from ._placement_hints import clear_hint
from ._sibling_order import SiblingOrder
from ._tree import Tree, find_tree, tree_of
from ._unplanned_changes import (
    Batch,
    PlannedNode,
    begin_plan,
    forget_plan,
    planned_flush,
    refuse_overwritten,
    refuse_unplanned,
    remember_plan,
)

_UNFINISHED = "sqla_patterns.trees.unfinished"
_LINK_ATTRIBUTES = ("position", "parent_id", "parent", "children")

_Batches: TypeAlias = dict[Tree, Batch]


def _batches(session: Session, *, deleted_only: bool = False) -> _Batches:
    """Return the new, changed and deleted nodes of each tree in `session`."""
    trees: dict[MappedClass, Tree | None] = {}
    batches: _Batches = {}
    buckets: tuple[Iterable[MappedObject], ...] = (
        ((), (), session.deleted) if deleted_only else (session.new, session.dirty, session.deleted)
    )
    for index, bucket in enumerate(buckets):
        for obj in bucket:
            cls: MappedClass = obj.__class__
            try:
                tree = trees[cls]
            except KeyError:
                tree = trees[cls] = find_tree(cls)
            if tree is not None:
                batches.setdefault(tree, Batch([], [], []))[index].append(obj)
    return batches


def _before_flush(session: Session, flush_context: object, instances: object) -> None:
    if not listens(session, _before_flush_last):
        _plan_flush(session)


def _before_flush_last(session: Session, flush_context: object, instances: object) -> None:
    """Plan the flush of a session whose class has listeners behind `_before_flush`: what they change is planned too."""
    _plan_flush(session)


def _plan_flush(session: Session) -> None:
    session.info.pop(_UNFINISHED, None)
    begin_plan(session)
    delete_orphans(session)
    seen: set[int] = set()
    batches = _batches(session)
    while batches:
        for tree, batch in batches.items():
            seen.update(id(node) for node in batch.deleted)
            seen.update(_plan_tree(session, tree, batch))
        # The deletion of a node may cascade, by relationships of the user's, to nodes of this tree and of others.
        later = _batches(session, deleted_only=True)
        batches = {}
        for tree, batch in later.items():
            if more := [node for node in batch.deleted if id(node) not in seen]:
                batches[tree] = Batch([], [], more)


def _plan_tree(session: Session, tree: Tree, batch: Batch) -> set[int]:
    """Plan the flush of one tree, write what precedes the unit of work, and return the ``id()`` of deleted nodes."""
    plan = FlushPlan(session, tree.config, batch.new, batch.dirty, batch.deleted)
    refuse_replacing(plan)
    lock_lists(plan, tree)
    keep_children(plan)
    lock_and_check(plan, tree)
    check_keys(plan)
    for node in plan.dirty:
        discard_derived(session, tree.index, node)
    number(plan)
    change = tree.index.plan_change(plan)
    cascaded = find_cascaded_rows(plan)
    if (plan.links or plan.deleted) and (nodes := _changed_nodes(plan, cascaded)):
        before_maintenance(session, tree.config.cls, nodes)
    if (
        plan.deleted
        or any(map(is_edited, plan.renamed))
        or any(link.new or _changes(plan, link) for link in plan.links)
    ):
        claim_lists(plan)
    resolve_deletes(plan, tree, cascaded)
    open_gaps(plan)
    if change is not None:
        change.write()
        session.info.setdefault(_UNFINISHED, []).append(change)
    settle_unmoved(plan)
    apply_links(plan)
    if plan.parents_to_order:
        session.info.setdefault(_UNFINISHED, []).append(SiblingOrder(session, tree.config, plan.parents_to_order))
    expire_on_rollback(session, plan.states_to_expire)
    gone = [*plan.deleted, *cascaded.nodes]
    remember_plan(session, [_planned(plan, tree, link) for link in plan.links], gone)
    return {id(node) for node in gone}


def _changed_nodes(plan: FlushPlan, cascaded: CascadedRows) -> list[MappedObject]:
    """Return the persistent nodes whose rows this flush changes for sure, as far as they are loaded.

    These are the moved, edited and deleted ones.
    """
    found = {id(link.node): link.node for link in plan.links if not link.new and _changes(plan, link)}
    found.update((id(node), node) for node in plan.dirty if is_edited(node))
    below = cascaded.nodes or [node for pk in cascaded.keys if (node := plan.loaded_node(pk)) is not None]
    found.update((id(node), node) for node in (*plan.deleted, *below))
    return list(found.values())


def _changes(plan: FlushPlan, link: ParentLink) -> bool:
    """Return whether the row of a linked node gets another parent or position."""
    if link.parent_pk is None and link.parent is not None:
        return True
    if link.pk not in plan.stored_parents or plan.stored_parents[link.pk] != link.parent_pk:
        return True
    if plan.config.position is None:
        return False
    stored: int = plan.stored_values[link.pk]["position"]
    # A row that is shifted is written back where its node keeps its position.
    return stored != link.node.__dict__.get("position") or shifted(stored, plan.gaps.get(link.parent_pk, ())) != stored


def _planned(plan: FlushPlan, tree: Tree, link: ParentLink) -> PlannedNode:
    names = [
        *(tree.index.attributes if link.new else ()),
        *(["position"] if plan.config.position is not None else []),
    ]
    values = {name: link.node.__dict__.get(name) for name in names}
    return PlannedNode(link.node, link.new, link.parent, link.parent_pk, values)


def _after_transaction_create(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        listen_last(session, of_class=_before_flush, of_session=_before_flush_last)
        return
    planned = planned_flush(session)
    if planned is not None and not transaction.nested:
        # The flush begins to write; all before_flush listeners have been called.
        if not is_last(session, _before_flush, _before_flush_last):
            refuse_unplanned(session, _batches(session))
        planned.executing = True


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is not None and not transaction.nested:
        forget_plan(session)  # A flush is over, or something else that writes as one does.


def _after_flush(session: Session, flush_context: object) -> None:
    refuse_overwritten(session)
    forget_plan(session)
    changes: list[IndexChange | SiblingOrder] = session.info.pop(_UNFINISHED, [])
    for change in changes:
        change.finish()


def _after_commit(session: Session) -> None:
    forget_states_to_expire(session)


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    session.info.pop(_UNFINISHED, None)
    forget_plan(session)
    for obj in session.identity_map.values():
        clear_hint(obj)
    for state in states_to_expire(session):
        obj = state.obj()
        if obj is not None and state.persistent and obj in session:
            derived = tree_of(obj).index.attributes
            names = [name for name in (*_LINK_ATTRIBUTES, *derived) if name in state.mapper.attrs]
            session.expire(obj, names)
    if not previous.nested:
        forget_states_to_expire(session)


SESSION_LISTENERS: dict[str, Callable[..., None]] = {
    # A predicate may stand in any statement of the user's, and MariaDB cuts off what goes too deep without an error.
    "after_begin": lift_recursion_limit,
    "after_transaction_create": _after_transaction_create,
    "after_transaction_end": _after_transaction_end,
    "before_flush": _before_flush,
    "after_flush": _after_flush,
    "after_commit": _after_commit,
    "after_soft_rollback": _after_soft_rollback,
}
