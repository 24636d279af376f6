"""Give children their parent without SQL when the parent's collection has been loaded.

A plain many-to-one finds its parent in the session by the foreign key. Where the child has none (a link table, an
association row) the parent must be set on it when the parent's collection has been loaded. SQLAlchemy has an event for
the moment when a collection begins to be loaded, and none for the end. So the collections that have been loaded are
recorded in the session, and the children get their parent when the parent of one of them is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session, object_session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import collection_adapter

from .._declarative import listen_once
from .._sqlalchemy import state_of
from .._typing import AnyState, MappedObject
from ._inspection import class_of
from ._routes import Route, routes_of

_LOADS = "sqla_patterns.generic_associations.loads"


def find_held_parent(child: object, family: str) -> MappedObject | None:
    """Return the parent that the child holds in memory, or None."""
    for route in routes_of(class_of(child), family):
        if (parent := route.find_held(child)) is not None:
            return parent
    return None


def load_former_parent(child: object, family: str) -> None:
    """Make the child hold the parent that it has before it changes, and None for each other route.

    SQLAlchemy would load each hidden relationship by itself as soon as it changes, and remove the child from no other.
    """
    state = state_of(child)
    routes = [route for route in routes_of(class_of(child), family) if route.is_one_of_several]
    session = object_session(child)
    if session is not None:
        set_recorded_parents(session)
    if state.persistent and session is not None and find_held_parent(child, family) is None:
        with session.no_autoflush:
            for route in routes:
                if route.load_former(child) is not None:
                    break
    for route in routes:
        if route.key not in state.dict:
            set_committed_value(child, route.key, None)


def hold_parent(child: object, route: Route, parent: object) -> None:
    """Make a child hold its parent, for which SQLAlchemy would otherwise ask the database once for each child."""
    if route.is_one_of_several and find_held_parent(child, route.family) is None:
        for each in routes_of(class_of(child), route.family):
            if each.key not in state_of(child).dict:
                set_committed_value(child, each.key, parent if each is route else None)


# -- collections that have been loaded ---------------------------------------------------------------


class Loads:
    """The collections of a session that have been loaded, and whose children do not hold their parent yet."""

    def __init__(self) -> None:
        self._clock = 0
        self._collections = WeakKeyDictionary[AnyState, dict[str, tuple[Route, int]]]()
        self._expired = WeakKeyDictionary[AnyState, int]()

    def record(self, owner: object, collection: str, route: Route) -> None:
        """Record that a collection is being loaded."""
        self._clock += 1
        self._collections.setdefault(state_of(owner), {})[collection] = (route, self._clock)

    def ignore_earlier(self, child: object) -> None:
        """Ignore what was loaded so far for this child, since it has been expired or refreshed."""
        self._clock += 1
        self._expired[state_of(child)] = self._clock

    def set_parents(self) -> None:
        """Make children hold the parent whose loaded collection they are in."""
        for state, collections in list(self._collections.items()):
            owner = state.obj()
            for collection, (route, loaded) in collections.items():
                if owner is None or (members := state.dict.get(collection)) is None:
                    continue
                for child in collection_adapter(members):
                    if self._expired.get(state_of(child), 0) < loaded:
                        hold_parent(child, route, owner)


def record_load(owner: object, collection: str, route: Route) -> None:
    """Record that a collection is being loaded, or begins empty."""
    session = object_session(owner) if route.learns_from_collection else None
    if session is not None:
        loads: Loads = session.info.setdefault(_LOADS, Loads())
        loads.record(owner, collection, route)


def set_recorded_parents(session: Session) -> None:
    """Make the children of collections that have been loaded hold their parent."""
    loads: Loads | None = session.info.pop(_LOADS, None)
    if loads is not None:
        loads.set_parents()


def listen_to_expiry(route: Route) -> None:
    """Ignore what was loaded for a child before it is expired or refreshed, where it learns its parent from that."""
    if route.learns_from_collection:
        listen_once(route.child, "expire", _on_expire, propagate=True)
        listen_once(route.child, "refresh", _on_refresh, propagate=True)


def _on_expire(child: object, attributes: Iterable[str] | None) -> None:
    # None: the object is gone, and its state is expired with the session.
    session = None if child is None else object_session(child)
    if session is None or (loads := session.info.get(_LOADS)) is None:
        return
    if attributes is None or any(route.key in attributes for route in routes_of(class_of(child), "")):
        loads.ignore_earlier(child)


def _on_refresh(child: object, context: object, attributes: Iterable[str] | None) -> None:
    _on_expire(child, attributes)
