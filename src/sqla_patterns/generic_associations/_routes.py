"""Routes: the relationships from a child to its possible parents.

A child that can belong to several classes has one hidden many-to-one relationship for each, a *route*. The collection
on the parent is the other side of it, so that SQLAlchemy itself orders the INSERTs, copies keys and cascades.
SQLAlchemy does not know that the routes exclude each other, nor that a child which leaves one of them without taking
another is an orphan. `_listeners` sees to the first and `_removals` to the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from sqlalchemy import ColumnElement, and_, bindparam
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.attributes import set_attribute, set_committed_value

from .._sqlalchemy import mapper_of, state_of
from .._typing import MappedClass, MappedObject
from ..exceptions import InvalidArgumentError, MappingError
from ._inspection import class_of

ROUTES = "_association_routes"


class Route:
    """The relationship from objects of the class `child` to their parents of the class `parent`."""

    #: Whether routes of this strategy write the same columns of the child, so that only one of them may do so in a
    #: flush.
    shares_columns = False
    #: Whether the child's columns do not refer to its parent, so that the child learns it when its parent's collection
    #: is loaded.
    learns_from_collection = False
    #: Whether the child may take another route, so that the library must do what SQLAlchemy does for a single one.
    is_one_of_several = True

    def __init__(
        self,
        child: MappedClass,
        key: str,
        parent: MappedClass,
        collection: str | None,
        *,
        owns: bool,
        family: str = "",
    ) -> None:
        self.child = child
        #: The name of the hidden relationship.
        self.key = key
        self.parent = parent
        #: The name of the parent's collection, if it has one.
        self.collection = collection
        #: Whether a child that leaves its parent is deleted.
        self.owns = owns
        #: Routes of a family exclude each other. Each generic foreign key is a family, all other routes together are
        #: one.
        self.family = family

    def __repr__(self) -> str:
        return f"<{type(self).__name__} from {self.child.__name__} to {self.parent.__name__}>"

    # -- reading -------------------------------------------------------------------------------------

    def find_held(self, child: object) -> MappedObject | None:
        """Return the parent that the child holds in memory, or None."""
        parent = state_of(child).dict.get(self.key)
        return parent if parent is not None and self.is_current(child, parent) else None

    def is_current(self, child: object, parent: object) -> bool:
        """Return whether the parent in memory is still the one to which the child's columns refer."""
        return True

    def may_apply(self, child: object) -> bool:
        """Return whether the child may have a parent by this route, where that is cheaper to know than to load."""
        return True

    def load(self, child: object) -> MappedObject | None:
        """Return the parent, from memory or else from the database, by way of the hidden relationship."""
        return getattr(child, self.key)

    def load_former(self, child: object) -> MappedObject | None:
        """Return the parent that a persistent child has before it is given to another."""
        return self.load(child) if self.may_apply(child) else None

    # -- writing -------------------------------------------------------------------------------------

    @property
    def written_attributes(self) -> tuple[str, ...]:
        """Return the attributes of the child that this route writes."""
        return (self.key,)

    def check_parent(self, parent: object) -> None:
        """Refuse, before anything changes, a parent that SQLAlchemy would refuse in the middle of the flush.

        Raises:
            InvalidArgumentError: it is of a subclass, and its hierarchy is not polymorphic.
        """
        if class_of(parent) is not self.parent and mapper_of(self.parent).polymorphic_on is None:
            raise InvalidArgumentError(
                f"{class_of(parent).__name__} cannot be loaded as {self.parent.__name__}, so it cannot be the parent "
                f"of {self.child.__name__}: give {self.parent.__name__} a polymorphic_on, or give the collection to "
                f"{class_of(parent).__name__}"
            )

    def refer_to(self, child: object, parent: object) -> None:
        """Set the child's columns to its new parent, as far as its key is known."""

    def clear_columns(self, child: object) -> None:
        """Set the child's columns to None, since it has left this route."""

    def release(self, child: object) -> list[MappedObject | None]:
        """Take the child off the route; the child holds its parent already, if it has one.

        Returns:
            The former parents whose loss of the child no event of SQLAlchemy reports; None for a parent that is not in
            memory.
        """
        state = state_of(child)
        former = state.dict.get(self.key)
        if former is None:
            return []
        unloaded = self.collection not in state_of(former).dict
        if self.shares_columns and unloaded and not state.attrs[self.key].history.added:
            # The former parent's collection is not in memory, and the columns are all that refers to it. SQLAlchemy
            # need not note a removal, for which it would clear the columns in the flush, perhaps after the next parent
            # has filled them. (If the child was added since the last flush, SQLAlchemy has noted that, and the removal
            # cancels it.)
            set_committed_value(child, self.key, None)
            self.clear_columns(child)
            return [former]
        set_attribute(child, self.key, None)
        return []

    def set_absent_parent(self, child: object) -> None:
        """Set the parent of a newly inserted child to None where it holds none, so that nothing loads it."""
        if self.key not in state_of(child).dict:
            set_committed_value(child, self.key, None)

    # -- SQL -----------------------------------------------------------------------------------------

    def attribute(self, entity: object) -> InstrumentedAttribute[MappedObject]:
        """Return the hidden relationship, of the child class or of an alias of it."""
        return cast("InstrumentedAttribute[MappedObject]", getattr(entity, self.key))

    def equals(self, entity: object, parent: object) -> ColumnElement[bool]:
        """Return the criterion that `parent` is the parent."""
        return self.attribute(entity) == parent

    @property
    def none_criterion(self) -> object:
        """Return what routes with the same criterion for no parent have in common."""
        return self

    def is_none(self, entity: object) -> ColumnElement[bool]:
        """Return the criterion that the child has no parent by this route."""
        return ~self.attribute(entity).has()

    def is_set(self, entity: object, type_: type[object]) -> ColumnElement[bool]:
        """Return the criterion that the child has a parent of `type_` by this route."""
        attribute = self.attribute(entity)
        if issubclass(self.parent, type_):
            return attribute.has()
        return attribute.of_type(type_).has()


def equals_by_key(route: Route, entity: object, parent: object) -> ColumnElement[bool]:
    """Return ``Route.equals`` as an EXISTS, for link tables; a pending parent's key is read when the statement runs."""
    mapper = mapper_of(route.parent)

    def value_at(position: int) -> Callable[[], object]:
        return lambda: mapper.primary_key_from_instance(parent)[position]

    keys = (
        mapper.get_property_by_column(column).class_attribute
        == bindparam(None, callable_=value_at(position), type_=column.type)
        for position, column in enumerate(mapper.primary_key)
    )
    return route.attribute(entity).has(and_(*keys))


# -- the routes of a class ---------------------------------------------------------------------------


def all_routes_of(child: MappedClass) -> list[Route]:
    """Return the routes that a child class and its bases have."""
    return [route for base in child.__mro__ for route in vars(base).get(ROUTES, ())]


def routes_of(child: MappedClass, family: str) -> list[Route]:
    """Return the routes of one family that a child class and its bases have."""
    return [route for route in all_routes_of(child) if route.family == family]


def hidden_key(name: str, parent: MappedClass, attribute: str | None = None) -> str:
    """Return the name of the hidden relationship to `parent`."""
    return f"_{name}_{parent.__name__}" + (f"_{attribute}" if attribute else "")


def check_hidden_key(child: MappedClass, key: str, parent: MappedClass) -> None:
    """Refuse a second parent class of the same name.

    Raises:
        MappingError: the child has an attribute of that name.
    """
    if hasattr(child, key):
        raise MappingError(
            f"{child.__name__} has an attribute {key!r} already, so {parent.__qualname__} of {parent.__module__} "
            "cannot be its parent: two parent classes of one name are one too many; rename one of them"
        )
