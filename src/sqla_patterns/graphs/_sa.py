"""The places where the public API of SQLAlchemy does not reach; each says why, and what happens where it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session

__all__ = ("add_relationships", "autoflush", "changed", "pending_additions")


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


def add_relationships(mapper: Mapper[Any], added: Mapping[str, RelationshipProperty[Any]]) -> None:
    """Add relationships to a class that may be in use already.

    On a configured mapper ``add_property`` would configure each at once, and with it the class at the other end, which asks for the one
    that comes next. ``configured`` is documented as read-only: without it here, all are configured together when mappers next are.
    """
    mapper.configured = False
    for name, each in added.items():
        mapper.add_property(name, each)
