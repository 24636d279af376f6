"""The parent's side of a generic foreign key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast, overload

from sqlalchemy import ColumnElement, and_, event
from sqlalchemy.orm import Mapper, RelationshipProperty, foreign, remote

from ..exceptions import MappingError
from ._collection import DEFAULT_CASCADE, AssociatedCollection, C, CollectionOptions, OrderBy, T
from ._generic_foreign_key import COLLECTIONS, GenericForeignKey, getattr_static
from ._generic_route import GenericRoute
from ._private import ANY_OVERLAP
from ._routes import hidden_key, is_mapped, listen_to_collection, mapper_of, routes_of

__all__ = ("GenericRelationship",)


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
        identity: str | None = ...,
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
        identity: str | None = ...,
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
        identity: str | None = ...,
        **options: Unpack[CollectionOptions],
    ) -> None: ...
    def __init__(
        self,
        target: Callable[[], type[Any]],
        parent: str,
        *,
        collection_class: Any = list,
        order_by: Any = None,
        identity: str | None = None,
        cascade: str = DEFAULT_CASCADE,
    ) -> None:
        """Say what is in the collection."""
        super().__init__(cascade=cascade, order_by=order_by, collection_class=collection_class)
        self._given = target
        self.parent_attribute = parent
        self.identity = identity

    def target(self) -> type[Any]:
        """The class of the children."""
        return self._given if isinstance(self._given, type) else self._given()

    def declare(self, parent: type[Any]) -> RelationshipProperty[Any]:
        """Make the relationship of a class that is about to be mapped."""
        return self.relationship(
            self.target,
            primaryjoin=lambda: self._condition(parent),
            back_populates=hidden_key(self.parent_attribute, parent),
            overlaps=ANY_OVERLAP,
            cascade=self.shared_cascade,
        )

    def mapped(self, parent: Mapper[Any]) -> Callable[[], type[Any]]:
        """Make the class known to the foreign key, which may look for it first or not."""
        cls = parent.class_
        setattr(cls, COLLECTIONS, (*vars(cls).get(COLLECTIONS, ()), self))
        event.listen(cls, "before_mapper_configured", self._before_configured)
        listen_to_collection(cls, self.name, lambda: self._route(cls))
        return self.target

    def _before_configured(self, mapper: Mapper[Any], cls: type[Any]) -> None:
        self._foreign_key(cls).ensure_routes(self.target())

    def _foreign_key(self, parent: type[Any]) -> GenericForeignKey[Any]:
        target = self.target()
        found = getattr_static(target, self.parent_attribute)
        if not is_mapped(target) or not _is_generic(found):
            raise MappingError(
                f"{parent.__name__}.{self.name} is a collection of {target!r} by {self.parent_attribute!r}, and that is no "
                "mapped class with a GenericForeignKey of this name"
            )
        return cast("GenericForeignKey[Any]", found)

    def _route(self, parent: type[Any]) -> GenericRoute:
        for route in routes_of(self.target(), self.parent_attribute):
            if route.parent is parent:
                return cast("GenericRoute", route)
        raise MappingError(f"{self.parent_attribute!r} of {self.target().__name__} cannot refer to {parent.__name__}")

    def _condition(self, parent: type[Any]) -> ColumnElement[bool]:
        route = self._route(parent)
        columns = mapper_of(route.child).columns
        pairs = zip(mapper_of(parent).primary_key, (columns[key] for key in route.keys), strict=True)
        return and_(
            *(ours == remote(foreign(theirs)) for ours, theirs in pairs),
            remote(columns[route.discriminator]) == route.identity,
        )


def _is_generic(value: Any) -> bool:
    return isinstance(value, GenericForeignKey)
