"""Routes: the ways from a child to its possible parents, and what keeps them in step.

A child that can belong to several classes has one hidden many-to-one relationship for each, a *route*. The collection on the
parent is the other side of it, so that SQLAlchemy itself orders the INSERTs, copies keys and cascades. What SQLAlchemy does not
know is that the routes exclude each other, and that a child which leaves one of them without taking another is an orphan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, and_, bindparam, event, inspect
from sqlalchemy.orm import InstanceState, InstrumentedAttribute, Mapper, Session, object_session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import collection_adapter

from .._declarative import listen_once
from ..exceptions import InvalidArgumentError, MappingError

__all__ = ("Route", "add_route", "held_parent", "hidden_key", "name_of", "recall_parent", "routes_of", "state_of")

_ROUTES = "_association_routes"
_COLLECTIONS = "_association_collections"
_LEFT = "sqla_patterns.generic_associations.left"


class Route:
    """One way from the class `child` to the class `parent`."""

    #: Whether routes of this strategy write the same columns of the child, so that only one of them may do so in a flush.
    shares_columns = False
    #: Whether the child may take another route, so that the library must see to what SQLAlchemy does for a single one.
    is_one_of_several = True

    def __init__(
        self, child: type[Any], key: str, parent: type[Any], collection: str | None, *, owns: bool, family: str = ""
    ) -> None:
        self.child = child
        self.key = key
        self.parent = parent
        self.collection = collection
        self.owns = owns
        #: Routes of a family exclude each other. Each generic foreign key is a family, all other routes together are one.
        self.family = family

    def __repr__(self) -> str:
        return f"<{type(self).__name__} from {self.child.__name__} to {self.parent.__name__}>"

    # -- reading -------------------------------------------------------------------------------------

    def held(self, child: Any) -> Any:
        """The parent that the child holds in memory, or None."""
        parent = state_of(child).dict.get(self.key)
        return parent if parent is not None and self.agrees(child, parent) else None

    def agrees(self, child: Any, parent: Any) -> bool:
        """Whether the parent in memory is still the one that the child's columns mean."""
        return True

    def applies(self, child: Any) -> bool:
        """Whether the route can lead anywhere, where that is cheaper to know than to load."""
        return True

    def load(self, child: Any) -> Any:
        """The parent, from memory or else from the database, by way of the hidden relationship."""
        return getattr(child, self.key)

    def recall(self, child: Any) -> Any:
        """The parent that a persistent child has before it changes hands."""
        return self.load(child) if self.applies(child) else None

    # -- writing -------------------------------------------------------------------------------------

    def check(self, parent: Any) -> None:
        """Refuse, before anything changes, a parent that SQLAlchemy would refuse in the middle of the flush.

        Raises:
            InvalidArgumentError: it is of a subclass, and its hierarchy is not polymorphic.
        """
        if class_of(parent) is not self.parent and mapper_of(self.parent).polymorphic_on is None:
            raise InvalidArgumentError(
                f"{class_of(parent).__name__} cannot be loaded as {self.parent.__name__}, so it cannot be the "
                f"parent of {self.child.__name__}: give {self.parent.__name__} a polymorphic_on, or give the collection to "
                f"{class_of(parent).__name__}"
            )

    def assigned(self, child: Any, parent: Any) -> None:
        """Bring the child's columns in step with its new parent, as far as they are known."""

    def cleared(self, child: Any) -> None:
        """Bring the child's columns in step with having left this route."""

    def release(self, child: Any) -> None:
        """Take the child off the route; the child holds its parent already, if it has one."""
        state = state_of(child)
        former = state.dict.get(self.key)
        if former is None:
            return
        unloaded = self.collection not in state_of(former).dict
        if self.shares_columns and unloaded and not state.attrs[self.key].history.added:
            # Nobody has the former parent's collection in memory, and the columns say all. SQLAlchemy need not note a removal, for
            # which it would clear the columns in the flush, perhaps after the next parent has filled them. (If the child was added
            # since the last flush, SQLAlchemy has noted that, and the removal cancels it.)
            set_committed_value(child, self.key, None)
            self.cleared(child)
            remember_leaving(child, self, former)
        else:
            setattr(child, self.key, None)

    def inserted(self, child: Any) -> None:
        """A row has just been inserted: what it does not hold, it does not have, and need not load."""
        if self.key not in state_of(child).dict:
            set_committed_value(child, self.key, None)

    # -- SQL -----------------------------------------------------------------------------------------

    def attribute(self, entity: Any) -> InstrumentedAttribute[Any]:
        """The hidden relationship, of the child class or of an alias of it."""
        return cast("InstrumentedAttribute[Any]", getattr(entity, self.key))

    def equals(self, entity: Any, parent: Any) -> ColumnElement[bool]:
        """The criterion that `parent` is the parent."""
        return cast("ColumnElement[bool]", self.attribute(entity) == parent)

    @property
    def none_criterion(self) -> object:
        """What routes with the same criterion for none have in common."""
        return self

    def is_none(self, entity: Any) -> ColumnElement[bool]:
        """The criterion that this route leads nowhere."""
        return ~self.attribute(entity).has()

    def is_set(self, entity: Any, type_: type[Any]) -> ColumnElement[bool]:
        """The criterion that this route leads to a parent of `type_`."""
        attribute = self.attribute(entity)
        if issubclass(self.parent, type_):
            return attribute.has()
        return attribute.of_type(type_).has()


def equals_by_key(route: Route, entity: Any, parent: Any) -> ColumnElement[bool]:
    """``Route.equals`` as an EXISTS, for routes through a link table; a pending parent's key is read when it runs."""
    mapper = mapper_of(route.parent)

    def value(position: int) -> Any:
        return lambda: mapper.primary_key_from_instance(parent)[position]

    keys = (
        mapper.get_property_by_column(column).class_attribute
        == bindparam(None, callable_=value(position), type_=column.type)
        for position, column in enumerate(mapper.primary_key)
    )
    return route.attribute(entity).has(and_(*keys))


# -- the routes of a class ---------------------------------------------------------------------------


def add_route(route: Route) -> None:
    """Register a route on its child class."""
    own = vars(route.child).get(_ROUTES, ())
    setattr(route.child, _ROUTES, (*own, route))
    listen_once(Session, "before_flush", _before_flush)
    event.listen(mapper_of(route.child), "after_insert", _after_insert(route), propagate=True)


def routes_of(child: type[Any], family: str) -> list[Route]:
    """The routes of one family that a child class and its bases have."""
    return [route for route in _declared(child, _ROUTES) if route.family == family]


def _declared(cls: type[Any], attribute: str) -> list[Any]:
    """What a class and its bases keep in a private attribute, a tuple each."""
    return [each for base in cls.__mro__ for each in vars(base).get(attribute, ())]


def held_parent(child: Any, family: str) -> Any:
    """The parent that the child holds in memory, or None."""
    for route in routes_of(class_of(child), family):
        if (parent := route.held(child)) is not None:
            return parent
    return None


def recall_parent(child: Any, family: str) -> None:
    """Make the child hold the parent that it has, and know of each other route that it leads nowhere.

    SQLAlchemy would load each hidden relationship by itself as soon as it changes, and tell nobody that a child has changed hands.
    """
    state = state_of(child)
    routes = [route for route in routes_of(class_of(child), family) if route.is_one_of_several]
    session = object_session(child)
    if state.persistent and session is not None and held_parent(child, family) is None:
        with session.no_autoflush:
            for route in routes:
                if route.recall(child) is not None:
                    break
    for route in routes:
        if route.key not in state.dict:
            set_committed_value(child, route.key, None)


def hidden_key(name: str, parent: type[Any], attribute: str | None = None) -> str:
    """The name of the hidden relationship to `parent`."""
    return f"_{name}_{parent.__name__}" + (f"_{attribute}" if attribute else "")


def check_hidden_key(child: type[Any], key: str, parent: type[Any]) -> None:
    """Refuse a second parent class of the same name.

    Raises:
        MappingError: the child has an attribute of that name.
    """
    if hasattr(child, key):
        raise MappingError(
            f"{child.__name__} has an attribute {key!r} already, so {parent.__qualname__} of {parent.__module__} cannot be its "
            "parent: two parent classes of one name are one too many; rename one of them"
        )


# -- listeners ---------------------------------------------------------------------------------------


def listen_to_child(route: Route) -> None:
    """Keep the routes of a child exclusive; once the hidden relationship is an attribute."""

    def on_set(child: Any, parent: Any, old: Any, _: Any) -> None:
        if parent is None:
            if isinstance(old, route.parent):
                route.cleared(child)
                remember_leaving(child, route, old)
            return
        if parent is not old:
            route.check(parent)
            recall_parent(child, route.family)
            for other in routes_of(class_of(child), route.family):
                if other is not route:
                    _take_over(child, other)
        # Also if the child has this parent already: its columns may have been set by hand since.
        route.assigned(child, parent)

    event.listen(getattr(route.child, route.key), "set", on_set, propagate=True)


def listen_to_collection(parent: type[Any], collection: str, route: Callable[[], Route]) -> None:
    """Check what enters the collection and prepare what changes hands.

    To be called before the mapper is configured, so that these listeners go first: SQLAlchemy's own for the other side would load
    the child's former parents.
    """

    def check(children: Iterable[Any]) -> None:
        expected = route().child
        for child in children:
            if not isinstance(child, expected):
                raise InvalidArgumentError(
                    f"{parent.__name__}.{collection} takes objects of {expected.__name__}, not {child!r} of type "
                    f"{type(child).__name__}; nothing was changed"
                )

    def on_bulk_replace(owner: Any, children: Iterable[Any], _: Any, **__: Any) -> None:
        check(children)

    def on_append(owner: Any, child: Any, _: Any) -> None:
        check([child])
        route().check(owner)
        recall_parent(child, route().family)

    def on_remove(owner: Any, child: Any, _: Any) -> None:
        key = route().key
        if key not in state_of(child).dict:
            set_committed_value(child, key, owner)

    setattr(parent, _COLLECTIONS, (*vars(parent).get(_COLLECTIONS, ()), (collection, route)))
    attribute = getattr(parent, collection)
    event.listen(attribute, "bulk_replace", on_bulk_replace, propagate=True)
    event.listen(attribute, "append", on_append, propagate=True)
    event.listen(attribute, "remove", on_remove, propagate=True)

    def after_insert(mapper: Mapper[Any], connection: Connection, owner: Any) -> None:
        # A row that has just been inserted has no children but those it holds: under asyncio it need not load them.
        if collection not in state_of(owner).dict:
            set_committed_value(owner, collection, [])

    event.listen(parent, "after_insert", after_insert, propagate=True)


def _after_insert(route: Route) -> Any:
    def after_insert(mapper: Mapper[Any], connection: Connection, child: Any) -> None:
        route.inserted(child)

    return after_insert


def _take_over(child: Any, route: Route) -> None:
    """Take the child off a route because it takes another."""
    former = state_of(child).dict.get(route.key)
    route.release(child)
    if former is not None:
        _forget(former, route, child)
    if route.shares_columns and route.key in state_of(child).dict:
        # Without this, the flush would clear the columns that the new route fills, in no certain order.
        set_committed_value(child, route.key, None)


def _forget(former: Any, route: Route, child: Any) -> None:
    """Let the flush not see that the former parent has lost the child; for it would clear, or delete, what is not its own."""
    if route.shares_columns and route.collection is not None and former is not None:
        committed: Any = state_of(former).committed_state.get(route.collection)
        # SQLAlchemy keeps the former members in a list, whatever the collection is; or a symbol if they are not known.
        if hasattr(committed, "append"):
            committed[:] = [member for member in committed if member is not child]


def remember_leaving(child: Any, route: Route, former: Any) -> None:
    """Have the next flush look whether the child has become an orphan."""
    session = object_session(child) or (object_session(former) if former is not None else None)
    if session is not None and route.is_one_of_several:
        session.info.setdefault(_LEFT, []).append((child, route, former))


def _before_flush(session: Session, context: Any, instances: Any) -> None:
    """Delete the orphans, children that left a parent which owned them and found no other; and load nothing to delete a child."""
    for child, route, former in cast("list[tuple[Any, Route, Any]]", session.info.pop(_LEFT, ())):
        if held_parent(child, route.family) is not None:
            _forget(former, route, child)
        # After a rollback, or after its columns were set by hand, the child no longer knows that it has no parent.
        elif route.owns and child in session and route.key in state_of(child).dict:
            if child in session.new:
                session.expunge(child)
            else:
                session.delete(child)
    for parent in session.deleted:
        for collection, route in _declared(class_of(parent), _COLLECTIONS):
            if (members := state_of(parent).dict.get(collection)) is not None:
                for child in collection_adapter(members):
                    _hold(child, route(), parent)
    for child in session.deleted:
        for route in _declared(class_of(child), _ROUTES):
            # SQLAlchemy would load the parent to learn in which order to delete. It knows that from the collection.
            if route.shares_columns and route.key not in state_of(child).dict:
                set_committed_value(child, route.key, None)


def _hold(child: Any, route: Route, parent: Any) -> None:
    """Tell a child of its parent, for which SQLAlchemy would otherwise ask the database once for each child."""
    if route.is_one_of_several and held_parent(child, route.family) is None:
        for each in routes_of(class_of(child), route.family):
            if each.key not in state_of(child).dict:
                set_committed_value(child, each.key, parent if each is route else None)


# -- mappers and states, typed alike on SQLAlchemy 2.0 and 2.1 ---------------------------------------


def mapper_of(cls: type[Any]) -> Mapper[Any]:
    """The mapper of a mapped class; it need not be configured."""
    return cast("Mapper[Any]", inspect(cls))


def state_of(obj: Any) -> InstanceState[Any]:
    """The state of a mapped object."""
    return cast("InstanceState[Any]", inspect(obj))


def name_of(obj: Any) -> str:
    """The object's type and identity, for an error message."""
    identity = state_of(obj).identity
    return f"{type(obj).__name__} {identity[0] if identity and len(identity) == 1 else identity or '(not flushed)'}"


def class_of(obj: Any) -> type[Any]:
    """The class of an object."""
    cls: type[Any] = obj.__class__
    return cls


def is_mapped(cls: Any) -> bool:
    """Whether it is a mapped class."""
    return isinstance(cls, type) and isinstance(inspect(cls, raiseerr=False), Mapper)
