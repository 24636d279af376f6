"""The places where the public API of SQLAlchemy does not reach; each says why, and what happens where it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import get_history, instance_state
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE

__all__ = (
    "changed",
    "committed",
    "forget_change",
    "forget_former",
    "key_of_state",
    "mark_deleted",
    "mark_inserted",
    "state_of",
    "unflushed_additions",
)


# What inspect() answers for an object, in a tenth of the time: for loops over all nodes of a tree.
state_of: Callable[[Any], InstanceState[Any]] = instance_state


def key_of_state(state: InstanceState[Any]) -> Any:
    """The primary key of a persistent object; ``state.identity`` copies it each time."""
    return cast("Any", state.key)[1][0]


def changed(state: InstanceState[Any], key: str) -> bool:
    """Whether attribute `key` was set since the last flush, possibly to the value that it had.

    `History` reports a net change only; a conflict between two spellings of a move has to be seen even when one of them
    repeats the present parent.
    """
    return key in state.committed_state


def committed(state: InstanceState[Any], key: str, default: Any) -> Any:
    """The value of column attribute `key` as of the last flush, as far as it is known."""
    if key in state.committed_state:
        return state.committed_state[key]
    return state.dict.get(key, default)


def forget_change(state: InstanceState[Any], key: str) -> None:
    """Take the present value of relationship `key` as flushed, and keep the very collection that the user may hold.

    `set_committed_value` would do for a scalar, but puts a new collection in place of a loaded one: what the user appends to the
    old one later would be lost. ``_pending_mutations`` are changes to a collection that is not loaded.
    """
    state.committed_state.pop(key, None)
    pending = state.__dict__.get("_pending_mutations")
    if pending:
        pending.pop(key, None)


def forget_former(state: InstanceState[Any], key: str) -> None:
    """Take None for what relationship `key` held before; the change to what it holds now stays.

    The unit of work lets a node wait for its former parent too, which may itself wait for the node by now.
    """
    if key in state.committed_state:
        state.committed_state[key] = None


def unflushed_additions(state: InstanceState[Any], key: str) -> list[Any]:
    """What was added to collection `key` since the last flush, also where the collection is not loaded.

    `get_history` does not tell the latter.
    """
    added = list(get_history(state.obj(), key, PASSIVE_NO_INITIALIZE).added or ())
    pending = state.__dict__.get("_pending_mutations", {}).get(key)
    return [*added, *(getattr(pending, "added_items", None) or ())]


def mark_deleted(session: Session, nodes: Iterable[Any]) -> None:
    """Tell the session that a statement of ours deleted the rows of `nodes`.

    ``synchronize_session`` of an ORM-enabled DELETE does just this, but overlooks expired objects. A rollback makes them
    persistent again. Without the private method they are expunged, which is right until a rollback.
    """
    states = [inspect(node) for node in nodes]
    remove = getattr(session, "_remove_newly_deleted", None)
    if remove is not None:
        remove(states)
    else:
        for node in nodes:
            session.expunge(node)


def mark_inserted(session: Session, nodes: Iterable[Any]) -> None:
    """Tell the session that a statement of ours inserted the rows of `nodes`, which it has loaded since.

    A rollback, also one to a savepoint, then takes them out of the session again, as it does with objects of a flush. Without the
    private dictionary they stay, and the first look at them after a rollback says that they have no row.
    """
    transaction = session.get_nested_transaction() or session.get_transaction()
    new = getattr(transaction, "_new", None)
    if new is not None:
        for node in nodes:
            new[inspect(node)] = True
