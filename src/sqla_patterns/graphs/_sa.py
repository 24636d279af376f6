"""The places where the public API of SQLAlchemy does not reach; each says why, and what happens where it changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import InstanceState, Session

__all__ = ("autoflush", "changed", "pending_additions")


def changed(state: InstanceState[Any], key: str) -> bool:
    """Whether attribute `key` was set or changed since the last flush.

    `History` would do for this question too, but loads the old value of some attributes, or reports a net change only.
    """
    return key in state.committed_state


def pending_additions(state: InstanceState[Any], key: str) -> list[Any]:
    """What was added to collection `key`, which is not loaded, since the last flush.

    `get_history` does not tell. Without the private attribute an edge that is pending is found once it is flushed.
    """
    pending = state.__dict__.get("_pending_mutations", {}).get(key)
    return list(getattr(pending, "added_items", None) or ())


def autoflush(session: Session) -> None:
    """Flush as a query of entities would: SQLAlchemy 2.0 does not before a statement that names tables only.

    ``_flushing`` tells a listener inside a flush, where no other may begin.
    """
    if session.autoflush and not getattr(session, "_flushing", False):
        session.flush()
