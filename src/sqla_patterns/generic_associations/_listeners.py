"""Listeners that keep a child on one route at a time, and children consistent with the collections of their parents.

`_routes` says what a route is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import collection_adapter

from .._declarative import listen_once
from .._sqlalchemy import mapper_of, state_of
from .._typing import AnyMapper, MappedClass, MappedObject
from ..exceptions import InvalidArgumentError
from ._inspection import class_of
from ._loaded_parents import hold_parent, listen_to_expiry, load_former_parent, record_load
from ._removals import delete_orphans, forget_removals, hide_removal, record_removal, release_child
from ._routes import ROUTES, Route, all_routes_of, routes_of

_COLLECTIONS = "_association_collections"


def add_route(route: Route) -> None:
    """Register a route on its child class."""
    listen_to_expiry(route)
    setattr(route.child, ROUTES, (*vars(route.child).get(ROUTES, ()), route))
    listen_once(Session, "before_flush", _before_flush)
    listen_once(Session, "after_flush_postexec", _after_flush_postexec)
    listen_once(Session, "after_soft_rollback", _after_soft_rollback)

    def after_insert(mapper: AnyMapper, connection: Connection, child: MappedObject) -> None:
        route.set_absent_parent(child)

    event.listen(mapper_of(route.child), "after_insert", after_insert, propagate=True)


# -- the child -----------------------------------------------------------------------------------------


def listen_to_child(route: Route) -> None:
    """Keep the routes of a child exclusive; to be called once the hidden relationship is an attribute."""

    def on_set(child: MappedObject, parent: MappedObject, old: object, _: object) -> None:
        if parent is None:
            if isinstance(old, route.parent):
                route.clear_columns(child)
                record_removal(child, route, old)
            return
        if parent is not old:
            route.check_parent(parent)
            load_former_parent(child, route.family)
            for other in routes_of(class_of(child), route.family):
                if other is not route:
                    _leave_route(child, other)
        # Also if the child has this parent already: its columns may have been set by hand since.
        route.refer_to(child, parent)

    event.listen(getattr(route.child, route.key), "set", on_set, propagate=True)


def _leave_route(child: object, route: Route) -> None:
    """Take the child off a route because it takes another."""
    former = state_of(child).dict.get(route.key)
    release_child(child, route)
    if former is not None:
        hide_removal(former, route, child)
    if route.shares_columns and route.key in state_of(child).dict:
        # Without this, the flush would clear the columns that the new route fills, in no certain order.
        set_committed_value(child, route.key, None)


# -- the parent's collection -----------------------------------------------------------------------------


def listen_to_collection(parent: MappedClass, collection: str, route_of_collection: Callable[[], Route]) -> None:
    """Check what enters the collection, and prepare children that are given to another parent.

    To be called before the mapper is configured, so that these listeners go first: SQLAlchemy's own for the other side
    would load the child's former parents.
    """

    def check_children(children: Iterable[object]) -> None:
        expected = route_of_collection().child
        for child in children:
            if not isinstance(child, expected):
                raise InvalidArgumentError(
                    f"{parent.__name__}.{collection} takes objects of {expected.__name__}, not {child!r} of type "
                    f"{type(child).__name__}; nothing was changed"
                )

    def on_bulk_replace(owner: object, children: Iterable[object], _: object, **__: object) -> None:
        check_children(children)

    def on_append(owner: object, child: object, _: object) -> None:
        check_children([child])
        route = route_of_collection()
        route.check_parent(owner)
        load_former_parent(child, route.family)

    def on_remove(owner: object, child: object, _: object) -> None:
        key = route_of_collection().key
        if key not in state_of(child).dict:
            set_committed_value(child, key, owner)

    def on_init(owner: object, members: object, adapter: object) -> None:
        record_load(owner, collection, route_of_collection())

    def after_insert(mapper: AnyMapper, connection: Connection, owner: MappedObject) -> None:
        # A row that has just been inserted has no children but those it holds: under asyncio it need not load them.
        if collection not in state_of(owner).dict:
            set_committed_value(owner, collection, [])

    setattr(parent, _COLLECTIONS, (*vars(parent).get(_COLLECTIONS, ()), (collection, route_of_collection)))
    attribute = getattr(parent, collection)
    event.listen(attribute, "bulk_replace", on_bulk_replace, propagate=True)
    event.listen(attribute, "append", on_append, propagate=True)
    event.listen(attribute, "remove", on_remove, propagate=True)
    event.listen(attribute, "init_collection", on_init, propagate=True)
    event.listen(parent, "after_insert", after_insert, propagate=True)


def _collections_of(parent: MappedClass) -> list[tuple[str, Callable[[], Route]]]:
    """Return the names of the collections that a class and its bases have, with what returns their routes."""
    return [each for base in parent.__mro__ for each in vars(base).get(_COLLECTIONS, ())]


# -- the session -----------------------------------------------------------------------------------------


def _before_flush(session: Session, context: object, instances: object) -> None:
    """Delete the orphans, and see that no SELECT is needed to delete a child."""
    delete_orphans(session)
    for parent in session.deleted:
        for collection, route_of_collection in _collections_of(class_of(parent)):
            if (members := state_of(parent).dict.get(collection)) is not None:
                for child in collection_adapter(members):
                    hold_parent(child, route_of_collection(), parent)
    for child in session.deleted:
        for route in all_routes_of(class_of(child)):
            # SQLAlchemy would load the parent to learn in which order to delete. It knows that from the collection.
            if route.shares_columns and route.key not in state_of(child).dict:
                set_committed_value(child, route.key, None)


def _after_flush_postexec(session: Session, context: object) -> None:
    """Delete the orphans that a listener of the user's has made during the flush, after this library's listener."""
    # commit() flushes once more for them.
    delete_orphans(session, written=True)


def _after_soft_rollback(session: Session, previous_transaction: object) -> None:
    """Forget the removals that are rolled back."""
    forget_removals(session)
