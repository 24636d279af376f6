"""`GenericRelationship`: the collection of children that refer to a parent by a generic foreign key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast, overload

from sqlalchemy import ColumnElement, and_, event
from sqlalchemy.orm import foreign, remote

from .._functions import call_named
from .._sqlalchemy import ANY_OVERLAP, mapper_of
from .._typing import AnyMapper, AnyRelationship, MappedClass
from ..exceptions import MappingError
from ._collection import DEFAULT_CASCADE, AssociatedCollection, C, CollectionOptions, OrderBy, T
from ._generic_foreign_key import GenericForeignKey, getattr_static
from ._generic_route import GenericCollection, GenericRoute, add_collection
from ._inspection import is_mapped
from ._listeners import listen_to_collection
from ._routes import hidden_key, routes_of


class GenericRelationship(AssociatedCollection[C]):
    """The collection of children that refer to a parent by a `GenericForeignKey`.

    ``addresses = GenericRelationship(lambda: Address, "parent")``, in a mixin or in the class.

    The arguments:

    - ``target``: a function that returns the class of the children, or that class.
    - ``parent``: the name of the `GenericForeignKey` on it.
    - ``identity``: what the discriminator holds for this class; by default the name of its table. In a mixin, set
      ``identities`` on the `GenericForeignKey` instead.
    - ``order_by``, ``collection_class``, ``cascade``: as for `TablePerAssociation`.
    """

    @overload
    def __init__(
        self: GenericRelationship[list[T]],
        target: Callable[[], type[T]],
        parent: str,
        *,
        order_by: OrderBy[T] = ...,
        identity: object = ...,
        **options: Unpack[CollectionOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: GenericRelationship[set[T]],
        target: Callable[[], type[T]],
        parent: str,
        *,
        collection_class: type[set[Any]],
        order_by: OrderBy[T] = ...,
        identity: object = ...,
        **options: Unpack[CollectionOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        target: Callable[[], type[T]],
        parent: str,
        *,
        collection_class: type[C] | Callable[[], C],
        order_by: OrderBy[T] = ...,
        identity: object = ...,
        **options: Unpack[CollectionOptions],
    ) -> None: ...
    def __init__(
        self,
        target: Callable[[], MappedClass],
        parent: str,
        *,
        collection_class: Any = list,
        order_by: Any = None,
        identity: object = None,
        cascade: str = DEFAULT_CASCADE,
    ) -> None:
        """Configure the collection; the arguments are those of the class."""
        super().__init__(cascade=cascade, order_by=order_by, collection_class=collection_class)
        self._given = target
        self._parent_attribute = parent
        self._identity = identity

    def target(self) -> MappedClass:
        """Return the class of the children."""
        return (
            self._given
            if isinstance(self._given, type)
            else call_named(self._given, f"GenericRelationship {self.name!r}")
        )

    def declare(self, parent: MappedClass) -> AnyRelationship:
        """Make the relationship of a class that is about to be mapped."""
        return self.relationship(
            self.target,
            primaryjoin=lambda: self._condition(parent),
            back_populates=hidden_key(self._parent_attribute, parent),
            overlaps=ANY_OVERLAP,
            cascade=self.shared_cascade,
        )

    def connect_child(self, parent: AnyMapper) -> Callable[[], MappedClass]:
        """Register the collection for the foreign key, whose mapper may be configured before or after the parent's."""
        cls = parent.class_
        collection = GenericCollection(
            name=self.name,
            target=self.target,
            parent_attribute=self._parent_attribute,
            identity=self._identity,
            owns=self.owns,
        )
        add_collection(cls, collection)
        event.listen(cls, "before_mapper_configured", self._before_configured)
        listen_to_collection(cls, self.name, lambda: self._route(cls))
        return self.target

    def _before_configured(self, mapper: AnyMapper, cls: MappedClass) -> None:
        self._foreign_key(cls).ensure_routes(self.target())

    def _foreign_key(self, parent: MappedClass) -> GenericForeignKey[object]:
        target = self.target()
        found = getattr_static(target, self._parent_attribute)
        if not is_mapped(target) or not isinstance(found, GenericForeignKey):
            raise MappingError(
                f"{parent.__name__}.{self.name} is a collection of {target!r} by {self._parent_attribute!r}, and that "
                "is no mapped class with a GenericForeignKey of this name"
            )
        return cast("GenericForeignKey[object]", found)

    def _route(self, parent: MappedClass) -> GenericRoute:
        for route in routes_of(self.target(), self._parent_attribute):
            if route.parent is parent and isinstance(route, GenericRoute):
                return route
        raise MappingError(f"{self._parent_attribute!r} of {self.target().__name__} cannot refer to {parent.__name__}")

    def _condition(self, parent: MappedClass) -> ColumnElement[bool]:
        route = self._route(parent)
        columns = mapper_of(route.child).columns
        pairs = zip(mapper_of(parent).primary_key, (columns[key] for key in route.keys), strict=True)
        return and_(
            *(primary == remote(foreign(referring)) for primary, referring in pairs),
            remote(columns[route.discriminator]) == route.identity,
        )
