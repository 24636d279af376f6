"""Removals: children that have left their parent since the last flush, and what the flush does with them.

A removal is recorded in the session when the child leaves. Two objects have an unflushed change then: the child, in its
columns or its hidden relationship, and the former parent, in its collection if that is loaded or has changes.
Expiring one of them takes back the change there, and not the change in the other. What SQLAlchemy writes follows from
these two; the next flush must come to the same result, so that no row is left without a parent that owns it.

=======================================  ===================  ========================  ================  ==============
what has happened to the child           changed in child     changed in collection     the row           an owned child
=======================================  ===================  ========================  ================  ==============
``parent = None``, collection unloaded   yes                  no (link table: yes)      columns cleared   deleted
``parent = None``, collection loaded     yes                  yes                       columns cleared   deleted
``collection.remove(child)``             yes                  yes                       columns cleared   deleted
then the child expired or refreshed      no                   yes                       columns cleared   deleted
then the parent expired                  yes                  no                        columns cleared   deleted
then both expired                        no                   no                        as it was         stays
then given to a parent                   by the new parent    by the new parent         the new parent's  stays
then columns set by hand                 withdrawn            withdrawn                 as set by hand    stays
then rolled back                         withdrawn            withdrawn                 as it was         stays
=======================================  ===================  ========================  ================  ==============

"Columns cleared" means the link row deleted where there is a link table, and "withdrawn" means that the removal is
forgotten. A child that is not flushed yet is expunged
instead of deleted. A child that its parent does not own keeps its row, with the columns cleared. `TablePerRelated` has
one relationship with the user's cascade, for which SQLAlchemy does all this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import PassiveFlag, Session, object_session
from sqlalchemy.orm.attributes import History, get_history

from .._sqlalchemy import state_of
from .._typing import MappedObject
from ._loaded_parents import find_held_parent
from ._routes import Route

_REMOVALS = "sqla_patterns.generic_associations.removals"

# What the unit of work reads of a collection: nothing is loaded, and changes to one that is not loaded count.
_UNFLUSHED = PassiveFlag.PASSIVE_NO_INITIALIZE | PassiveFlag.INCLUDE_PENDING_MUTATIONS


@dataclass(frozen=True)
class Removal:
    """A child that has left a parent since the last flush."""

    #: Held strongly, so that its id() stays its own until the flush.
    child: MappedObject
    route: Route
    #: The former parent; None if it was not in memory.
    former: MappedObject | None

    def is_in_child(self) -> bool:
        """Return whether the child still has the change: it has not been expired or refreshed since."""
        state = state_of(self.child)
        return not state.persistent or any(name in state.committed_state for name in self.route.written_attributes)

    def is_in_collection(self) -> bool:
        """Return whether the former parent's collection still has the change."""
        if self.former is None or self.route.collection is None:
            return False
        removed = unflushed_members(self.former, self.route.collection).deleted
        return any(member is self.child for member in removed or ())


def unflushed_members(parent: object, collection: str) -> History:
    """Return what has changed in a collection since the last flush, also where it is not loaded."""
    return get_history(parent, collection, passive=_UNFLUSHED)


def release_child(child: object, route: Route) -> None:
    """Take the child off a route, and record the removals that no event reports."""
    for former in route.release(child):
        record_removal(child, route, former)


def record_removal(child: object, route: Route, former: object) -> None:
    """Have the next flush check whether the child has become an orphan."""
    session = object_session(child) or (object_session(former) if former is not None else None)
    if session is not None and route.is_one_of_several:
        removals: dict[int, list[Removal]] = session.info.setdefault(_REMOVALS, {})
        removals.setdefault(id(child), []).append(Removal(child, route, former))


def withdraw_removals(child: object, family: str) -> list[Removal]:
    """Forget that the child has left a parent, since its columns are being set; return what is forgotten."""
    session = object_session(child)
    removals: dict[int, list[Removal]] | None = None if session is None else session.info.get(_REMOVALS)
    if not removals or not (of_child := removals.pop(id(child), [])):
        return []
    if kept := [each for each in of_child if each.route.family != family]:
        removals[id(child)] = kept
    withdrawn = [each for each in of_child if each.route.family == family]
    for removal in withdrawn:
        hide_removal(removal.former, removal.route, child)
    return withdrawn


def hide_removal(former: object, route: Route, child: object) -> None:
    """Hide from the flush that the former parent has lost the child, which it would clear or delete though it stays."""
    if route.shares_columns and route.collection is not None and former is not None:
        committed: Any = state_of(former).committed_state.get(route.collection)
        # SQLAlchemy keeps the former members in a list, whatever the collection is; or a symbol if they are not known.
        if hasattr(committed, "append"):
            committed[:] = [member for member in committed if member is not child]


def delete_orphans(session: Session, *, written: bool = False) -> None:
    """Delete the owned children that have left their parent and got no other.

    Args:
        session: The session that is flushed.
        written: Whether the flush has been written, so that states and collections no longer have the changes.
    """
    removals: dict[int, list[Removal]] = session.info.pop(_REMOVALS, {})
    for removal in [each for of_child in removals.values() for each in of_child]:
        child, route = removal.child, removal.route
        held = find_held_parent(child, route.family)
        if held is not None and not (held is removal.former and removal.is_in_collection()):
            hide_removal(removal.former, route, child)
        elif route.owns and child in session and (written or removal.is_in_child() or removal.is_in_collection()):
            if child in session.new:
                session.expunge(child)
            else:
                session.delete(child)


def forget_removals(session: Session) -> None:
    """Forget all removals of a session, since what is rolled back did not happen."""
    # All of them: a savepoint begins with a flush, so that none is older.
    session.info.pop(_REMOVALS, None)
