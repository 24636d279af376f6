"""A reference by type and key, without a foreign key."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, ForwardRef, Union, cast, get_args, get_origin

from sqlalchemy import Column, ColumnElement, and_, event
from sqlalchemy.orm import Mapper, RelationshipProperty, foreign, relationship, remote

from ..exceptions import MappingError, StateError
from ._collection import table_of
from ._generic_route import GenericRoute
from ._parent import AssociationParent, P
from ._private import ANY_OVERLAP, mapped_classes, narrow_selectinload
from ._routes import (
    Route,
    add_route,
    check_hidden_key,
    class_of,
    hidden_key,
    is_mapped,
    listen_to_child,
    mapper_of,
    name_of,
    routes_of,
)

if TYPE_CHECKING:
    from ._generic_relationship import GenericRelationship

__all__ = ("GenericForeignKey",)

COLLECTIONS = "_generic_collections"


class GenericForeignKey(AssociationParent[P]):
    """A parent that the child refers to by the name of its type and its key, two columns without a foreign key.

    ``parent = GenericForeignKey[Customer | Supplier]("discriminator", "parent_id")``; quote the type where the parents come later. A
    class in it that is not mapped, such as a mixin, stands for the mapped classes that derive from it. Parents may be joined or
    single-table subclasses of the classes in it.

    The arguments:

    - ``discriminator``: the attribute of the child, a string column, that holds the identity of the parent's class.
    - ``keys``: the attributes of the child that hold the parent's primary key, one for each of its columns.
    - ``identities``: what is stored for a class, by the class or its name. Otherwise it is the ``identity`` of its
      `GenericRelationship`, or else the name of its table; renaming a class breaks no rows.
    """

    def __init__(
        self, discriminator: str, *keys: str, identities: Mapping[type[Any], str] | Mapping[str, str] | None = None
    ) -> None:
        """Say which columns refer to the parent."""
        self.discriminator = discriminator
        self.keys = keys
        self.identities: dict[str, str] = {
            each if isinstance(each, str) else each.__name__: identity for each, identity in (identities or {}).items()
        }

    def __set_name__(self, owner: type[Any], name: str) -> None:
        """Learn the name of the attribute, and wait for the mappers."""
        super().__set_name__(owner, name)
        # On the owner and not when the attribute is read: parents may be asked for their children first.
        event.listen(owner, "before_mapper_configured", self._before_configured, propagate=True)
        event.listen(owner, "mapper_configured", self._configured, propagate=True)

    @property
    def family(self) -> str:
        """The family of routes that the attribute follows."""
        return self.name

    def routes_to(self, child: type[Any], parent: Any) -> list[Route]:
        """The routes from a child class to the class of an object; at least one."""
        if not any(isinstance(parent, route.parent) for route in self.routes(child)):
            self.ensure_routes(child)
        return super().routes_to(child, parent)

    def _read(self, child: Any) -> Any:
        parent = super()._read(child)
        identity = getattr(child, self.discriminator)
        if parent is None and identity is not None and identity not in self._identities(class_of(child)):
            self.ensure_routes(class_of(child))
            known = self._identities(class_of(child))
            if identity not in known:
                raise StateError(
                    f"{name_of(child)} has {self.discriminator} = {identity!r}, which is no identity of a class that "
                    f"{type(child).__name__}.{self.name} can refer to ({', '.join(sorted(known)) or 'there is none'}); "
                    "correct the row, or name the class in identities="
                )
            return super()._read(child)
        return parent

    def _identities(self, child: type[Any]) -> set[str]:
        return {cast("GenericRoute", route).identity for route in self.routes(child)}

    # -- routes --------------------------------------------------------------------------------------

    def _before_configured(self, mapper: Mapper[Any], cls: type[Any]) -> None:
        self.ensure_routes(cls)

    def _configured(self, mapper: Mapper[Any], cls: type[Any]) -> None:
        for route in routes_of(cls, self.name):
            if route.child is cls:
                self._narrow(cast("GenericRoute", route))

    def ensure_routes(self, child: type[Any]) -> None:
        """Add the routes that are missing.

        Raises:
            MappingError: a class cannot be referred to, or two have one identity. No route is added then.
        """
        child = self._top(child)
        present = {route.parent for route in routes_of(child, self.name)}
        targets = self._targets(child)
        identities: dict[str, type[Any]] = {}
        for target in targets:
            identity = self._identity(child, target)
            if (other := identities.setdefault(identity, target)) is not target:
                raise MappingError(
                    f"{child.__name__}.{self.name} would store {identity!r} for {other.__name__} and for "
                    f"{target.__name__}; give one of them another with identities={{...}}"
                )
            self._check(child, target)
        for identity, target in identities.items():
            if target not in present:
                self._add(child, target, identity)

    def _add(self, child: type[Any], target: type[Any], identity: str) -> None:
        key = hidden_key(self.name, target)
        check_hidden_key(child, key, target)
        mapper = mapper_of(child)
        collection = self._collection(child, target)
        pairs = zip(mapper_of(target).primary_key, self._columns(child), strict=True)
        condition = and_(
            *(remote(theirs) == foreign(ours) for theirs, ours in pairs),
            mapper.columns[self.discriminator] == identity,
        )
        other = collection.name if collection is not None else None
        hidden = relationship(target, primaryjoin=condition, uselist=False, back_populates=other, overlaps=ANY_OVERLAP)
        mapper.add_property(key, hidden)
        route = GenericRoute(
            child,
            key,
            target,
            other,
            owns=collection is not None and collection.owns,
            family=self.name,
            discriminator=self.discriminator,
            keys=self.keys,
            identity=identity,
        )
        add_route(route)
        listen_to_child(route)
        self._listen_to_columns(route)
        if mapper.configured:
            self._narrow(route)

    def _listen_to_columns(self, route: GenericRoute) -> None:
        def on_set(child: Any, value: Any, old: Any, initiator: Any) -> None:
            route.forget_absence(child)

        for name in (self.discriminator, *self.keys):
            event.listen(getattr(route.child, name), "set", on_set, propagate=True)

    def _narrow(self, route: GenericRoute) -> None:
        prop = mapper_of(route.child).get_property(route.key, _configure_mappers=False)
        narrow_selectinload(cast("RelationshipProperty[Any]", prop), self.discriminator, route.identity)

    def _top(self, child: type[Any]) -> type[Any]:
        """The class nearest the root that is mapped and has this attribute."""
        having = (base for base in child.__mro__ if is_mapped(base) and getattr_static(base, self.name) is self)
        *_, top = having
        return top

    def _columns(self, child: type[Any]) -> list[Column[Any]]:
        return [mapper_of(child).columns[key] for key in self.keys]

    def _check(self, child: type[Any], target: type[Any]) -> None:
        place = f"{child.__name__}.{self.name}"
        missing = [name for name in (self.discriminator, *self.keys) if name not in mapper_of(child).columns]
        if missing or not self.keys:
            raise MappingError(
                f"{place} is to use {', '.join(map(repr, missing)) or 'no column for the key'}, and {child.__name__} has "
                'no such column; write GenericForeignKey("discriminator", "parent_id") with the names of two attributes'
            )
        keys = mapper_of(target).primary_key
        if len(keys) != len(self.keys):
            raise MappingError(
                f"{place} keeps {len(self.keys)} value(s) for the key, and the primary key of {target.__name__} has "
                f"{len(keys)} column(s); name one attribute for each: GenericForeignKey(discriminator, key, key...)"
            )
        for ours, theirs in zip(self._columns(child), keys, strict=True):
            if _python_type(ours) is not _python_type(theirs):
                raise MappingError(
                    f"{place} keeps keys as {ours.type!r} in {ours.name!r}, and {target.__name__} has {theirs.type!r}; "
                    "databases compare only what is of one type"
                )

    def _identity(self, child: type[Any], target: type[Any]) -> str:
        collection = self._collection(child, target)
        own = collection.identity if collection is not None else None
        return self.identities.get(target.__name__) or own or table_of(mapper_of(target)).name

    def _collection(self, child: type[Any], target: type[Any]) -> GenericRelationship[Any] | None:
        found: tuple[GenericRelationship[Any], ...] = vars(target).get(COLLECTIONS, ())
        for collection in found:
            if collection.parent_attribute == self.name and issubclass(collection.target(), child):
                return collection
        return None

    # -- targets -------------------------------------------------------------------------------------

    def _targets(self, child: type[Any]) -> list[type[Any]]:
        classes = mapped_classes(mapper_of(child).registry)
        names = {cls.__name__: cls for cls in classes}
        declared = list(dict.fromkeys(self._declared(child, names)))
        if unknown := self.identities.keys() - names.keys():
            raise MappingError(
                f"identities of {child.__name__}.{self.name} names {sorted(unknown)}, which are not mapped"
            )
        named = [] if declared else [names[name] for name in self.identities]
        targets = [target for each in [*declared, *named] for target in self._expand(child, each, classes)]
        asking = [cls for cls in classes if self._collection(child, cls) is not None]
        if not declared:
            return list(dict.fromkeys([*targets, *asking]))
        for cls in asking:
            if cls not in targets:
                raise MappingError(
                    f"{cls.__name__} has a collection of {child.__name__} by {child.__name__}.{self.name}, which is "
                    f"declared for {', '.join(each.__name__ for each in declared)}; name {cls.__name__} there too, or "
                    "put the collection on the class that is named"
                )
        return list(dict.fromkeys(targets))

    def _expand(self, child: type[Any], declared: type[Any], classes: list[type[Any]]) -> list[type[Any]]:
        if is_mapped(declared):
            return [declared]
        below = [cls for cls in classes if issubclass(cls, declared)]
        if not below:
            raise MappingError(
                f"{child.__name__}.{self.name} names {declared!r}, which is not mapped, and no mapped class derives from it"
            )
        return [cls for cls in below if not any(cls is not other and issubclass(cls, other) for other in below)]

    def _declared(self, child: type[Any], names: dict[str, type[Any]]) -> Iterator[type[Any]]:
        """The classes in ``GenericForeignKey[...]``."""
        # typing keeps the subscripted alias on objects that it has made; without it, identities= and collections remain.
        for argument in get_args(getattr(self, "__orig_class__", None)):
            yield from self._flatten(child, argument, names)

    def _flatten(self, child: type[Any], argument: Any, names: dict[str, type[Any]]) -> Iterator[type[Any]]:
        if isinstance(argument, ForwardRef):
            argument = argument.__forward_arg__
        if isinstance(argument, str):
            # The module knows aliases and imports, the registry what is imported for type checkers only, or is local.
            scope = ChainMap(vars(sys.modules[child.__module__]), names)
            try:
                argument = eval(argument, {}, scope)
            except (NameError, SyntaxError, TypeError) as error:
                raise MappingError(
                    f"{child.__name__}.{self.name} is declared for {argument!r}, which cannot be resolved ({error}); "
                    "import the modules of the parents before the mappers are configured"
                ) from error
        if get_origin(argument) in (Union, UnionType):
            for each in get_args(argument):
                yield from self._flatten(child, each, names)
        elif isinstance(argument, (str, ForwardRef)):
            yield from self._flatten(child, argument, names)
        elif isinstance(argument, type) and argument is not type(None) and argument is not object:
            yield argument


def getattr_static(cls: type[Any], name: str) -> Any:
    """The attribute as it stands in the class, without asking a descriptor for its value."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _python_type(column: ColumnElement[Any]) -> Any:
    try:
        return column.type.python_type
    except NotImplementedError:
        return None
