"""The places where the public API of SQLAlchemy does not reach; each says why, and what happens where it changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from sqlalchemy import Table
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session
from sqlalchemy.sql import util

from ._tables import is_table

__all__ = (
    "autoflush",
    "flushed_mappers",
    "flushed_of",
    "flushed_states",
    "forced_value",
    "has_secondary",
    "is_deleted",
    "old_values",
    "pending_changes",
    "secondary_argument",
    "unprotected",
)


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


def unprotected(statement: Any) -> Any:
    """`statement` without the marks by which ``has()`` and ``any()`` keep their criteria from being adapted.

    The ORM sets them against adaptations of its own. Without the private function such criteria would be met by rows of today.
    """
    strip: Any = getattr(util, "_deep_deannotate")  # noqa: B009  # private, hence no import that a type checker sees
    return strip(statement, values=["no_replacement_traverse"])


def flushed_mappers(context: Any) -> list[Mapper[Any]]:
    """The mappers whose objects the present flush writes or deletes; as for `flushed_states`."""
    return [mapper for mapper, states in getattr(context, "mappers", {}).items() if states]


def flushed_of(context: Any, mapper: Mapper[Any]) -> list[tuple[InstanceState[Any], bool]]:
    """The objects of exactly this mapper in the present flush, and whether it deletes them."""
    states = context.states
    return [(state, bool(states[state][0])) for state in context.mappers[mapper]]


def pending_changes(state: InstanceState[Any], key: str) -> bool:
    """Whether collection `key` was changed from its other end without being loaded; `get_history` does not tell."""
    return key in state.__dict__.get("_pending_mutations", {})


def has_secondary(relation: RelationshipProperty[Any]) -> bool:
    """Whether a relationship that is not configured yet was given a ``secondary`` at all."""
    init_args: Any = getattr(relation, "_init_args", None)
    return getattr(getattr(init_args, "secondary", None), "argument", None) is not None


def secondary_argument(relation: RelationshipProperty[Any], mapper: Mapper[Any]) -> Table | None:
    """The ``secondary`` of a relationship that is not configured yet, if it is there already.

    A history table has to be in the metadata before anybody calls ``create_all()``, which may be before mappers are configured. Without
    the private arguments it is made when they are.
    """
    init_args: Any = getattr(relation, "_init_args", None)
    argument: Any = getattr(getattr(init_args, "secondary", None), "argument", None)
    if isinstance(argument, str):
        return cast("Table", mapper.local_table).metadata.tables.get(argument)
    if callable(argument) and not isinstance(argument, Table):
        try:
            argument = argument()
        except NameError:
            return None  # a lambda over a table that comes later
    return argument if is_table(argument) else None
