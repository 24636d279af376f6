"""Set what the plan of a flush says on the objects, so that the unit of work sees column changes only.

"Take as flushed" is what SQLAlchemy calls committing the history of an attribute: the value stays, the change is
forgotten. It is done for each change of a relationship that is in ``parent_id`` now. A relationship that leads to a new
node whose primary key only the database can make keeps its history, and the unit of work orders those statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified, set_attribute, set_committed_value
from sqlalchemy.orm.base import NO_VALUE

from .._sqlalchemy import (
    changed,
    committed,
    forget_change,
    forget_former_value,
    unflushed_additions,
    unflushed_removals,
)
from .._typing import MappedObject
from ._flush_plan import FlushPlan, ParentLink
from ._index import TreeIndex
from ._loaded_children import ChildrenChanges, change_children, sort_children
from ._loaded_state import loaded_parent, pk_of
from ._placement_hints import clear_hint
from ._structural_loads import load_nodes


def discard_derived(session: Session, index: TreeIndex, node: MappedObject) -> None:
    """Take back what the user, or `Session.merge`, wrote to attributes that an index derives."""
    state = inspect(node)
    for name in index.attributes:
        if changed(state, name):
            before = committed(state, name, NO_VALUE)
            if before is NO_VALUE:
                session.expire(node, [name])
            else:
                set_committed_value(node, name, before)


def settle_unmoved(plan: FlushPlan) -> None:
    """Take back what was assigned to nodes that have this parent already: to the unit of work nothing has changed."""
    for node, parent_pk in plan.unmoved:
        state = inspect(node)
        if changed(state, "parent_id") or "parent_id" not in state.dict:
            set_committed_value(node, "parent_id", parent_pk)
        plan.states_to_expire.add(state)
        if not changed(state, "parent"):
            continue
        shown = node.__dict__.get("parent")
        if shown is None and parent_pk is not None:
            # It was taken out of the collection, and its key given back.
            parent = plan.loaded_node(parent_pk)
            if parent is None:
                plan.session.expire(node, ["parent"])
                continue
            set_committed_value(node, "parent", parent)
            change_children(plan.config, parent, joined=[node])
        forget_change(state, "parent")


def apply_links(plan: FlushPlan) -> None:
    """Write ``parent_id``, update loaded collections, and take the relationships that follow from it as flushed."""
    config = plan.config
    changes = ChildrenChanges(config)
    for link in plan.links:
        if link.new and "children" not in link.node.__dict__:
            # No other transaction can have put children below a node that has no row yet. Left unset, the first access
            # would be a SELECT, which under asyncio is an error.
            set_committed_value(link.node, "children", [])
    _load_missing_parents(plan)
    for link in plan.links:
        if (old := _old_parent(plan, link)) is not None:
            changes.leave(old, link.node)
        if link.parent is not None:
            changes.join(link.parent, link.node)
    for node in plan.renamed:
        if (parent := loaded_parent(node)) is not None:
            changes.join(parent, node)
    changes.carry_out()
    parents = changes.parents
    for link in plan.links:
        node, parent = link.node, link.parent
        if not _follows_from_key(link):
            if not link.new:
                forget_former_value(link.state, "parent")
            continue
        if "parent_id" not in node.__dict__ or node.__dict__["parent_id"] != link.parent_pk:
            set_attribute(node, "parent_id", link.parent_pk)
        elif link.moved and plan.stored_parents.get(link.pk) != link.parent_pk:
            # Another transaction has moved it; what this session shows happens to be where it goes now. To the unit of
            # work that is a change only if it does not know what was there before.
            if committed(link.state, "parent_id", NO_VALUE) == link.parent_pk:
                forget_change(link.state, "parent_id")
            flag_modified(node, "parent_id")
        if parent is not None or link.to_root or "parent" in node.__dict__:
            set_committed_value(node, "parent", parent)
        forget_change(link.state, "parent")
        plan.states_to_expire.add(link.state)
    for link in plan.links:
        clear_hint(link.node)
    for node in plan.dirty:
        clear_hint(node)
        if changed(inspect(node), "children") or "_pending_mutations" in inspect(node).__dict__:
            parents[id(node)] = node
    for parent in _parents_of_reordered(plan):
        parents[id(parent)] = parent
    for parent in parents.values():
        state = inspect(parent)
        plan.states_to_expire.add(state)
        if state.persistent and _was_taken_back(plan, parent):
            plan.session.expire(parent, ["children"])
            continue
        sort_children(config, parent)
        if config.sorts_by_attributes:
            plan.parents_to_order.append(parent)
        if state.key is not None and not _has_children_outside_session(plan, parent):
            forget_change(state, "children")


def _parents_of_reordered(plan: FlushPlan) -> Iterator[MappedObject]:
    """Yield the loaded parents of nodes that stay where they are, and change an attribute that siblings sort by."""
    if plan.config.sorts_by_attributes:
        for node in plan.dirty:
            state = inspect(node)
            if any(changed(state, name) for name in plan.config.order_attrs):
                parent = loaded_parent(node)
                if parent is not None:
                    yield parent


def _follows_from_key(link: ParentLink) -> bool:
    """Return whether ``parent_id`` can say the link: the children of a new parent without a primary key wait for it."""
    return link.to_root or link.parent_pk is not None


def _load_missing_parents(plan: FlushPlan) -> None:
    """Load parents given by primary key where the node shows its old parent, so that it can show the new one."""
    missing = {
        link.parent_pk: link
        for link in plan.links
        if link.parent is None and link.parent_pk is not None and link.node.__dict__.get("parent") is not None
    }
    found = {pk_of(parent): parent for parent in load_nodes(plan.session, plan.config, missing)}
    for link in plan.links:
        if link.parent is None and link.parent_pk in found:
            link.parent = found[link.parent_pk]


def _old_parent(plan: FlushPlan, link: ParentLink) -> MappedObject:
    """Return the parent whose loaded collection a node leaves, None if there is no object of it."""
    if link.new:
        return None
    old = link.node.__dict__.get("parent")
    if old is None or old is link.parent:
        # What the node knows, and if it was expired what was read under the lock.
        before = committed(link.state, "parent_id", NO_VALUE)
        before = plan.stored_parents.get(link.pk) if before is NO_VALUE else before
        old = plan.loaded_node(before) if before is not None else None
    return None if old is link.parent else old


def _was_taken_back(plan: FlushPlan, parent: MappedObject) -> bool:
    """Return whether a change of a loaded list was taken back by a refresh of the child.

    The list then shows a child that was put there and refreshed since, or lacks one that was taken out and refreshed.
    """
    state, pk = inspect(parent), pk_of(parent)
    if "children" not in parent.__dict__ or not changed(state, "children"):
        return False
    came = _persistent(unflushed_additions(state, "children"))
    left = _persistent(unflushed_removals(state, "children"))
    # The parent of a node that really moved is known by now.
    if any("parent_id" not in child.__dict__ or child.__dict__["parent_id"] != pk for child in came):
        return True
    there = [child for child in left if child.__dict__.get("parent_id", pk) == pk]
    deleted = {id(obj) for obj in plan.session.deleted} if there else set[int]()
    return any(id(child) not in deleted for child in there)


def _persistent(nodes: Iterable[MappedObject]) -> list[MappedObject]:
    return [node for node in nodes if inspect(node).persistent]


def _has_children_outside_session(plan: FlushPlan, parent: MappedObject) -> bool:
    """Return whether children were added that are in no session: the unit of work then warns that it omits them."""
    return any(child not in plan.session for child in unflushed_additions(inspect(parent), "children"))
