"""Carry a checked and numbered plan over to the objects, so that the unit of work sees column changes only.

"Take as flushed" is what SQLAlchemy calls committing the history of an attribute: the value stays, the change is forgotten. It
is done for each relationship whose outcome ``parent_id`` now says. A relationship that leads to a new node whose key
only the database can make keeps its history, and the unit of work orders those statements as ever.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.orm.attributes import flag_modified, set_committed_value
from sqlalchemy.orm.base import NO_VALUE

from ._marks import clear_mark
from ._members import Changes, sort_children
from ._path_locks import chunks
from ._peek import loaded_parent
from ._plan import Link, Plan
from ._sa import changed, committed, forget_change, forget_former, unflushed_additions

__all__ = ("apply_links", "discard_derived")


def discard_derived(plan: Plan) -> None:
    """Take back what somebody, or `Session.merge`, wrote to attributes that an index derives."""
    for node in plan.dirty:
        state = inspect(node)
        for name in plan.config.index.attributes:
            if changed(state, name):
                before = committed(state, name, NO_VALUE)
                if before is NO_VALUE:
                    plan.session.expire(node, [name])
                else:
                    set_committed_value(node, name, before)


def apply_links(plan: Plan) -> None:
    """Write ``parent_id``, bring loaded collections into step and take what is settled as flushed."""
    config = plan.config
    changes = Changes(config)
    for link in plan.links:
        if link.new and "children" not in link.node.__dict__:
            # Nobody else can have put children below a node that is not there yet. Left unset, the first look at them would be a
            # SELECT, which under asyncio is an error.
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
        if not _settled(link):
            if not link.new:
                forget_former(link.state, "parent")
            continue
        if "parent_id" not in node.__dict__ or node.__dict__["parent_id"] != link.parent_pk:
            node.parent_id = link.parent_pk
        elif link.moved and plan.rows.get(link.pk) != link.parent_pk:
            # Somebody else has moved it; what this session shows by chance is where it goes now. To the unit of work that is a change
            # only if it does not know what was there before.
            if committed(link.state, "parent_id", NO_VALUE) == link.parent_pk:
                forget_change(link.state, "parent_id")
            flag_modified(node, "parent_id")
        if parent is not None or link.to_root or "parent" in node.__dict__:
            set_committed_value(node, "parent", parent)
        forget_change(link.state, "parent")
        plan.touched.add(link.state)
    for link in plan.links:
        clear_mark(link.node)
    for node in plan.dirty:
        clear_mark(node)
        if changed(inspect(node), "children") or "_pending_mutations" in inspect(node).__dict__:
            parents[id(node)] = node
    for parent in parents.values():
        state = inspect(parent)
        plan.touched.add(state)
        sort_children(config, parent)
        if state.key is not None and not _strangers(plan, parent):
            forget_change(state, "children")


def _settled(link: Link) -> bool:
    """Whether the link can be said with ``parent_id``. A new parent without a key has its own children wait for it."""
    return link.to_root or link.parent_pk is not None


def _load_missing_parents(plan: Plan) -> None:
    """Load parents given by key where the node shows its old parent: the new one must be there to be shown instead."""
    missing = {
        link.parent_pk: link
        for link in plan.links
        if link.parent is None and link.parent_pk is not None and link.node.__dict__.get("parent") is not None
    }
    cls, pk_attr = plan.config.cls, plan.config.pk_attr
    with plan.session.no_autoflush:
        for keys in chunks(missing):
            statement = select(cls).where(getattr(cls, pk_attr).in_(keys))
            found = {inspect(parent).identity[0]: parent for parent in plan.session.scalars(statement)}
            for link in plan.links:
                if link.parent is None and link.parent_pk in found:
                    link.parent = found[link.parent_pk]


def _old_parent(plan: Plan, link: Link) -> Any:
    """The parent, if there is an object of it, whose loaded collection a node leaves."""
    if link.new:
        return None
    old = link.node.__dict__.get("parent")
    if old is None or old is link.parent:
        # What the node knows, and if it was expired what was read under the lock.
        before = committed(link.state, "parent_id", NO_VALUE)
        before = plan.rows.get(link.pk) if before is NO_VALUE else before
        old = plan.loaded(before) if before is not None else None
    return None if old is link.parent else old


def _strangers(plan: Plan, parent: Any) -> bool:
    """Whether children were added that are in no session; the unit of work then warns that it leaves them out."""
    return any(child not in plan.session for child in unflushed_additions(inspect(parent), "children"))
