"""`AssociationParent`: the attribute of the child with its parent, of whatever class, the same for all strategies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Self, TypeVar, cast, overload

from sqlalchemy import ColumnElement, and_, false, not_, or_
from sqlalchemy.orm import InstrumentedAttribute, Load, class_mapper, joinedload, object_session, selectinload
from sqlalchemy.orm.attributes import set_attribute

from .._typing import MappedClass, MappedObject
from ..exceptions import InvalidArgumentError
from ._inspection import class_of
from ._loaded_parents import find_held_parent, load_former_parent, set_recorded_parents
from ._removals import release_child
from ._routes import Route, routes_of

P = TypeVar("P")
Q = TypeVar("Q")


class AssociationParent(Generic[P]):
    """The parent of a child, whichever strategy leads to it.

    The first strategy that meets a child class adds this attribute as ``parent``. Declare it to give it a type, or
    another name::

        class Address(Base):
            ...
            parent = AssociationParent["Customer | Supplier"]()

    On an object its value is a parent or None, and can be set. On the class it makes criteria and loader options:
    `ParentComparator`. The type is for checkers only, so it may be quoted; each parent class says itself that it is
    one.
    """

    name = ""

    @property
    def family(self) -> str:
        """Return the family of routes that the attribute follows."""
        return ""

    def __set_name__(self, owner: type[object], name: str) -> None:
        """Store the name of the attribute."""
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type[object]) -> ParentComparator[P]: ...
    @overload
    def __get__(self, instance: object, owner: type[object]) -> P | None: ...
    def __get__(self, instance: object, owner: type[object]) -> MappedObject:
        """Return the parent, or on the class what makes criteria."""
        return ParentComparator(self, owner) if instance is None else self._load_parent(instance)

    def __set__(self, instance: object, value: P | None) -> None:
        """Give the child to a parent, or to none.

        Raises:
            InvalidArgumentError: no strategy makes objects of that class a parent. Nothing is changed then.
        """
        route = None if value is None else self._route_to(class_of(instance), value)
        load_former_parent(instance, self.family)
        if route is not None:
            route.check_parent(value)
            set_attribute(instance, route.key, value)
            return
        for each in routes_of(class_of(instance), self.family):
            release_child(instance, each)

    def __delete__(self, instance: object) -> None:
        """Take the child from its parent, as setting it to None does."""
        self.__set__(instance, None)

    def routes(self, child: MappedClass) -> list[Route]:
        """Return the routes from a child class; its mappers are configured, so that all are known."""
        # The same for a mixin of related classes, which is not mapped and has none.
        if getattr(child, "__mapper__", None) is not None:
            class_mapper(child)
        return routes_of(child, self.family)

    def _load_parent(self, child: object) -> MappedObject | None:
        if (parent := find_held_parent(child, self.family)) is not None:
            return parent
        if (session := object_session(child)) is not None:
            set_recorded_parents(session)
            if (parent := find_held_parent(child, self.family)) is not None:
                return parent
        for route in self.routes(class_of(child)):
            if route.may_apply(child) and (parent := route.load(child)) is not None:
                return parent
        return None

    def _route_to(self, child: MappedClass, parent: object) -> Route:
        routes = self.routes_to(child, parent)
        if len(routes) > 1:
            collections = " or ".join(f"{route.parent.__name__}.{route.collection}" for route in routes)
            raise InvalidArgumentError(
                f"Cannot set {child.__name__}.{self.name}: {type(parent).__name__} has several collections of "
                f"{child.__name__}; append to {collections} instead"
            )
        return routes[0]

    def explain_no_routes(self, child: MappedClass) -> str:
        """Return why a child class has no route, and the way out, for an error message."""
        return f"no class is a parent of {child.__name__} yet; import the classes that have a collection of it"

    def routes_to(self, child: MappedClass, parent: object) -> list[Route]:
        """Return the routes from a child class to the class of an object; at least one.

        Raises:
            InvalidArgumentError: there is none.
        """
        routes = self.routes(child)
        found = [route for route in routes if isinstance(parent, route.parent)]
        if not routes:
            raise InvalidArgumentError(
                f"{parent!r} cannot be {child.__name__}.{self.name}: {self.explain_no_routes(child)}"
            )
        if not found:
            raise InvalidArgumentError(
                f"{parent!r} cannot be {child.__name__}.{self.name}: its class {type(parent).__name__} is no parent of "
                f"{child.__name__}; what can be is: {names_of(routes)}"
            )
        return found


class ParentComparator(Generic[P]):
    """Criteria and loader options on the parent of a child: the value of ``Address.parent`` on the class.

    It works on aliases of the child class as well: ``aliased(Address).parent``.
    """

    def __init__(self, descriptor: AssociationParent[P], entity: Any, child: MappedClass | None = None) -> None:
        self._descriptor = descriptor
        self._entity = entity
        self._child: MappedClass = entity if child is None else child

    def adapt_to_entity(self, alias: Any) -> Self:
        """Return the same on an alias of the child class; SQLAlchemy calls it."""
        return type(self)(self._descriptor, alias.entity, self._child)

    def __eq__(self, other: P | None) -> ColumnElement[bool]:  # type: ignore[override]
        """Build the criterion that this is the parent; None asks for children that have none."""
        if other is None:
            return and_(
                *(
                    route.is_none(self._entity)
                    for route in {each.none_criterion: each for each in self._routes()}.values()
                )
            )
        return or_(*(route.equals(self._entity, other) for route in self._descriptor.routes_to(self._child, other)))

    def __ne__(self, other: P | None) -> ColumnElement[bool]:  # type: ignore[override]
        """Build the criterion that the parent is another or none; None asks for children that have one."""
        if other is None:
            return not_(self == None)  # noqa: E711
        return or_(not_(self == other), self == None)  # noqa: E711

    __hash__ = object.__hash__

    def in_(self, parents: Iterable[P]) -> ColumnElement[bool]:
        """Build the criterion that the parent is one of these."""
        return or_(false(), *(self == parent for parent in parents))

    def is_type(self, *types: type[P]) -> ColumnElement[bool]:
        """Build the criterion that the parent is of one of these classes or of a subclass.

        Raises:
            InvalidArgumentError: a class is no parent of the child.
        """
        return or_(false(), *(route.is_set(self._entity, type_) for type_ in types for route in self._routes(type_)))

    def of_type(self, type_: type[Q]) -> InstrumentedAttribute[Q | None]:
        """Return the relationship to parents of one class, for ``has()``, ``join()`` and further loader options.

        On the object this relationship is None where the parent is of another class.

        Raises:
            InvalidArgumentError: the class is no parent of the child, or stands for several.
        """
        routes = self._routes(type_)
        if len(routes) > 1:
            raise InvalidArgumentError(
                f"{self!r} has several relationships to {type_.__name__}: "
                f"{', '.join(route.key for route in routes)}; take one of those, or is_type()"
            )
        attribute = routes[0].attribute(self._entity)
        if not issubclass(routes[0].parent, type_):
            return cast("InstrumentedAttribute[Q | None]", attribute.of_type(type_))
        return attribute

    def selectinload(self, *types: type[P]) -> Load:
        """Build the option that loads the parents, all or those of some classes, with at least a statement a class."""
        return self._load(selectinload, types)

    def joinedload(self, *types: type[P]) -> Load:
        """Build the option that loads the parents, all or those of some classes, in the children's statement."""
        return self._load(joinedload, types)

    def __repr__(self) -> str:
        return f"{self._child.__name__}.{self._descriptor.name}"

    def _load(self, option: Any, types: tuple[type[object], ...]) -> Load:
        routes = [route for type_ in types for route in self._routes(type_)] if types else self._routes()
        unique = dict.fromkeys(routes)
        return Load(self._entity).options(*(option(route.attribute(self._entity)) for route in unique))

    def _routes(self, type_: type[object] | None = None) -> list[Route]:
        """Return the routes to parents of a class, of its subclasses, or of the nearest class above it."""
        routes = self._descriptor.routes(self._child)
        if type_ is None:
            if not routes:
                raise InvalidArgumentError(
                    f"No class is a parent of {self._child.__name__} yet, so {self!r} says nothing; import the classes "
                    "that are, and with TablePerRelated ask related_class(...) instead of the mixin"
                )
            return routes
        found = [each for each in routes if issubclass(each.parent, type_) or issubclass(type_, each.parent)]
        if not found:
            raise InvalidArgumentError(
                f"{type_!r} is no parent that {self!r} can have; what can be is: {names_of(routes)}"
            )
        return found


def names_of(routes: Iterable[Route]) -> str:
    """Return the names of the classes that can be parents, for an error message."""
    return ", ".join(sorted({route.parent.__name__ for route in routes})) or "no class yet"
