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

from ._checks import chunks
from ._collections import rekey
from ._config import TreeConfig
from ._marks import clear_mark
from ._peek import loaded_list, loaded_map, loaded_parent
from ._plan import Link, Plan
from ._sa import changed, committed, forget_change, unflushed_additions

__all__ = ("apply_links", "drop_child", "join_parent", "sort_children")


def apply_links(plan: Plan) -> None:
    """Write ``parent_id``, bring loaded collections into step and take what is settled as flushed."""
    config = plan.config
    parents: dict[int, Any] = {}
    for link in plan.links:
        if link.new and "children" not in link.node.__dict__:
            # Nobody else can have put children below a node that is not there yet. Left unset, the first look at them would be a
            # SELECT, which under asyncio is an error.
            set_committed_value(link.node, "children", [])
    _load_missing_parents(plan)
    for link in plan.links:
        node, parent = link.node, link.parent
        if parent is not None:
            parents[id(parent)] = parent
        if not link.new:
            _leave_old_parent(plan, link, parents)
        if parent is not None:
            join_parent(config, node, parent)
        if not _settled(link):
            continue
        if "parent_id" not in node.__dict__ or node.__dict__["parent_id"] != link.parent_pk:
            node.parent_id = link.parent_pk
        elif link.moved and not changed(link.state, "parent_id") and plan.rows.get(link.pk) != link.parent_pk:
            # Somebody else has moved it; what this session shows by chance is where it goes now.
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
    for node in plan.renamed:
        parent = loaded_parent(node)
        if parent is not None:
            join_parent(config, node, parent)
            plan.touched.add(inspect(parent))


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


def _leave_old_parent(plan: Plan, link: Link, parents: dict[int, Any]) -> None:
    """Take a node out of the loaded collection of the parent that it leaves."""
    old = link.node.__dict__.get("parent")
    if old is None or old is link.parent:
        # What the node knows, and if it was expired what was read under the lock.
        before = committed(link.state, "parent_id", NO_VALUE)
        before = plan.rows.get(link.pk) if before is NO_VALUE else before
        old = plan.loaded(before) if before is not None else None
    if old is not None and old is not link.parent:
        drop_child(old, link.node)
        parents[id(old)] = old


def drop_child(parent: Any, node: Any) -> None:
    """Take `node` out of the loaded children of `parent` without an event."""
    by_key, in_order = loaded_map(parent), loaded_list(parent)
    for key, child in list((by_key or {}).items()):
        if child is node:
            dict[Any, Any].pop(by_key or {}, key)
    for index, child in enumerate(in_order or ()):
        if child is node:
            list[Any].__delitem__(in_order or [], index)
            return


def join_parent(config: TreeConfig, node: Any, parent: Any) -> None:
    """Put `node` into the loaded children of `parent`, or under its present key there, without an event."""
    by_key, in_order = loaded_map(parent), loaded_list(parent)
    if by_key is not None:
        key = getattr(node, config.key_attr or "")
        if by_key.get(key) is not node:
            rekey(by_key, key, node)
    elif in_order is not None and not any(child is node for child in in_order):
        list[Any].append(in_order, node)


def sort_children(config: TreeConfig, parent: Any) -> None:
    """Put a loaded list of children into the order in which the database returns them."""
    children = loaded_list(parent)
    if children is None or len(children) < 2:
        return
    names = [name for name in config.order_attrs if name != config.pk_attr or config.orders_itself]
    if config.orders_itself:
        # What they sort by may be expired on a newcomer; a flush may load it.
        values: list[list[Any]] = [[getattr(child, name) for name in names] for child in children]
    else:
        values = [[child.__dict__.get(name) for name in names] for child in children]
    if any(value is None for row in values for value in row[: len(names) - config.orders_itself]):
        return
    order = sorted(range(len(children)), key=lambda i: [(value is not None, value) for value in values[i]])
    if order != list(range(len(children))):
        list[Any].__setitem__(children, slice(None), [children[i] for i in order])


def _strangers(plan: Plan, parent: Any) -> bool:
    """Whether children were added that are in no session; the unit of work then warns that it leaves them out."""
    return any(child not in plan.session for child in unflushed_additions(inspect(parent), "children"))
