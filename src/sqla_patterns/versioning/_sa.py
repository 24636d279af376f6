"""The places where the public API of SQLAlchemy does not reach; each says why, and what happens where it changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from sqlalchemy.orm import InstanceState, Mapper, Session

__all__ = ("autoflush", "flushed_states", "forced_value", "is_deleted", "old_values")


def flushed_states(context: Any, mapper: Mapper[Any], *, deletes: bool) -> Iterator[InstanceState[Any]]:
    """The objects of the hierarchy of `mapper` that the present flush writes, or deletes.

    Mapper events see one object at a time, and the unit of work, which ``before_flush`` hands out, is documented as internal. Without
    this method each object would be captured by itself: right, and slow.
    """
    listed = getattr(context, "states_for_mapper_hierarchy", None)
    return iter(()) if listed is None else cast("Iterator[InstanceState[Any]]", listed(mapper, deletes, False))


def is_deleted(context: Any, state: InstanceState[Any]) -> bool:
    """Whether the present flush deletes an object; ``session.deleted`` does not know those that a cascade inside the flush deletes."""
    found = getattr(context, "states", {}).get(state)
    return bool(found and found[0])


def old_values(state: InstanceState[Any]) -> dict[str, Any]:
    """What was set since the last flush, with the values before; those that were not loaded are symbols.

    ``committed_state`` is public by name and stands in no documentation. `History` tells the same at ten times the cost.
    """
    return state.committed_state


def forced_value(state: InstanceState[Any], key: str, value: Any) -> None:
    """Take `value` for what attribute `key` was at the last flush, as if it had been loaded before it was set."""
    state.committed_state[key] = value


def autoflush(session: Session) -> None:
    """Flush as a query of entities would: SQLAlchemy 2.0 does not before a statement that names tables only.

    ``_flushing`` tells a listener inside a flush, where no other may begin.
    """
    if session.autoflush and not getattr(session, "_flushing", False):
        session.flush()
