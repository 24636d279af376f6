"""`GenericForeignKey`: a reference from the child to a parent by type and key, without a foreign key constraint."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, ForwardRef, Union, cast, get_args, get_origin

from sqlalchemy import Connection, and_, event
from sqlalchemy.orm import foreign, relationship, remote

from .._sqlalchemy import ANY_OVERLAP, mapped_classes, mapper_of, narrow_selectinload
from .._typing import AnyColumn, AnyExpression, AnyMapper, AnyRelationship, MappedClass, MappedObject
from ..exceptions import MappingError, StateError
from ._collection import table_of
from ._generic_route import GenericRoute, find_collection, write_together
from ._identities import identity_in
from ._inspection import class_of, describe, is_mapped
from ._listeners import add_route, listen_to_child
from ._parent import AssociationParent, P
from ._routes import Route, check_hidden_key, hidden_key, routes_of


class GenericForeignKey(AssociationParent[P]):
    """A parent to which the child refers by the name of its type and its key, two columns without a foreign key.

    ``parent = GenericForeignKey[Customer | Supplier]("discriminator", "parent_id")``; quote the type where the parents
    come later. A class in it that is not mapped, such as a mixin, stands for the mapped classes that derive from it.
    ``GenericForeignKey[Any]`` is open to all classes that have a `GenericRelationship` to it. Parents may be joined or
    single-table subclasses of the classes in it.

    The arguments:

    - ``discriminator``: the attribute of the child that holds the identity of the parent's class, a column of strings
      or of any other type.
    - ``keys``: the attributes of the child that hold the parent's primary key, one for each of its columns.
    - ``identities``: what is stored for a class, by the class or its name. Otherwise it is the ``identity`` of its
      `GenericRelationship`, or else the name of its table; renaming a class breaks no rows. It must be a value of the
      column. Of a column of an Enum class it is a member, or the name or value of one.
    """

    def __init__(
        self,
        discriminator: str,
        *keys: str,
        identities: Mapping[MappedClass, object] | Mapping[str, object] | None = None,
    ) -> None:
        """Configure the columns that refer to the parent; the arguments are those of the class."""
        self.discriminator = discriminator
        self.keys = keys
        self.identities: dict[str, object] = {
            each if isinstance(each, str) else each.__name__: identity for each, identity in (identities or {}).items()
        }

    def __set_name__(self, owner: type[object], name: str) -> None:
        """Store the name of the attribute, and listen for the mappers."""
        super().__set_name__(owner, name)
        # On the owner and not when the attribute is read: parents may be asked for their children first.
        event.listen(owner, "before_mapper_configured", self._before_configured, propagate=True)
        event.listen(owner, "mapper_configured", self._configured, propagate=True)

    @property
    def family(self) -> str:
        """Return the family of routes that the attribute follows."""
        return self.name

    def explain_no_routes(self, child: MappedClass) -> str:
        """Return why a child class has no route, and the way out, for an error message."""
        return (
            f"{child.__name__}.{self.name} does not say which classes it refers to; write "
            f"GenericForeignKey[Person | Company](...) with these classes, or give them a "
            f"GenericRelationship(lambda: {child.__name__}, {self.name!r})"
        )

    def routes_to(self, child: MappedClass, parent: object) -> list[Route]:
        """Return the routes from a child class to the class of an object; at least one."""
        if not any(isinstance(parent, route.parent) for route in self.routes(child)):
            self.ensure_routes(child)
        return super().routes_to(child, parent)

    def _load_parent(self, child: object) -> MappedObject | None:
        parent = super()._load_parent(child)
        identity = getattr(child, self.discriminator)
        if parent is None and identity is not None and identity not in self._identities(class_of(child)):
            self.ensure_routes(class_of(child))
            known = self._identities(class_of(child))
            if identity not in known:
                raise StateError(
                    f"{describe(child)} has {self.discriminator} = {identity!r}, which is no identity of a class that "
                    f"{type(child).__name__}.{self.name} can refer to "
                    f"({', '.join(sorted(map(str, known))) or 'there is none'}); "
                    "correct the row, or name the class in identities="
                )
            return super()._load_parent(child)
        return parent

    def _identities(self, child: MappedClass) -> set[object]:
        return {route.identity for route in self.routes(child) if isinstance(route, GenericRoute)}

    def _generic_routes(self, child: MappedClass) -> list[GenericRoute]:
        return [route for route in routes_of(child, self.name) if isinstance(route, GenericRoute)]

    # -- routes --------------------------------------------------------------------------------------

    def _before_configured(self, mapper: AnyMapper, cls: MappedClass) -> None:
        self.ensure_routes(cls)

    def _configured(self, mapper: AnyMapper, cls: MappedClass) -> None:
        for route in self._generic_routes(cls):
            if route.child is cls:
                self._narrow(route)

    def ensure_routes(self, child: MappedClass) -> None:
        """Add the routes that are missing.

        Raises:
            MappingError: a class cannot be referred to, or two have one identity. No route is added then.
        """
        child = self._top(child)
        present = {route.parent for route in routes_of(child, self.name)}
        targets = self._targets(child)
        identities: dict[object, MappedClass] = {}
        for target in targets:
            self._check(child, target)
            identity = self._identity(child, target)
            if (other := identities.setdefault(identity, target)) is not target:
                raise MappingError(
                    f"{child.__name__}.{self.name} would store {identity!r} for {other.__name__} and for "
                    f"{target.__name__}; give one of them another with identities={{...}}"
                )
        for identity, target in identities.items():
            if target not in present:
                self._add_route(child, target, identity)

    def _add_route(self, child: MappedClass, target: MappedClass, identity: object) -> None:
        key = hidden_key(self.name, target)
        check_hidden_key(child, key, target)
        mapper = mapper_of(child)
        collection = find_collection(target, child, self.name)
        pairs = zip(mapper_of(target).primary_key, self._columns(child), strict=True)
        condition = and_(
            *(remote(primary) == foreign(referring) for primary, referring in pairs),
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
        if not routes_of(child, self.name):
            event.listen(mapper, "before_update", self._before_update, propagate=True)
        add_route(route)
        listen_to_child(route)
        self._listen_to_columns(route)
        if mapper.configured:
            self._narrow(route)

    def _listen_to_columns(self, route: GenericRoute) -> None:
        def on_set(child: object, value: object, old: object, initiator: object) -> None:
            route.forget_parent(child, value)

        for name in (self.discriminator, *self.keys):
            event.listen(getattr(route.child, name), "set", on_set, propagate=True)

    def _before_update(self, mapper: AnyMapper, connection: Connection, child: object) -> None:
        write_together(child, self._generic_routes(class_of(child)))

    def _narrow(self, route: GenericRoute) -> None:
        prop = mapper_of(route.child).get_property(route.key, _configure_mappers=False)
        narrow_selectinload(cast("AnyRelationship", prop), self.discriminator, route.identity)

    def _top(self, child: MappedClass) -> type[Any]:
        """Return the class nearest the root that is mapped and has this attribute."""
        having = (base for base in child.__mro__ if is_mapped(base) and getattr_static(base, self.name) is self)
        *_, top = having
        return top

    def _columns(self, child: MappedClass) -> list[AnyColumn]:
        return [mapper_of(child).columns[key] for key in self.keys]

    def _check(self, child: MappedClass, target: MappedClass) -> None:
        place = f"{child.__name__}.{self.name}"
        missing = [name for name in (self.discriminator, *self.keys) if name not in mapper_of(child).columns]
        if missing or not self.keys:
            raise MappingError(
                f"{place} is to use {', '.join(map(repr, missing)) or 'no column for the key'}, and {child.__name__} "
                'has no such column; write GenericForeignKey("discriminator", "parent_id") with the names of two '
                "attributes"
            )
        keys = mapper_of(target).primary_key
        if len(keys) != len(self.keys):
            raise MappingError(
                f"{place} keeps {len(self.keys)} value(s) for the key, and the primary key of {target.__name__} has "
                f"{len(keys)} column(s); name one attribute for each: GenericForeignKey(discriminator, key, key...)"
            )
        for referring, primary in zip(self._columns(child), keys, strict=True):
            if _python_type(referring) is not _python_type(primary):
                raise MappingError(
                    f"{place} keeps keys as {referring.type!r} in {referring.name!r}, and {target.__name__} has "
                    f"{primary.type!r}; databases compare only what is of one type"
                )

    def _identity(self, child: MappedClass, target: MappedClass) -> object:
        collection = find_collection(target, child, self.name)
        given = self.identities.get(target.__name__)
        if given is None and collection is not None:
            given = collection.identity
        if given is None:
            given = table_of(mapper_of(target)).name
        column = mapper_of(child).columns[self.discriminator]
        identity = identity_in(column.type, given)
        if identity is None:
            raise MappingError(
                f"{child.__name__}.{self.name} would store {given!r} for {target.__name__}, which is no value of "
                f"{column.type!r} in {self.discriminator!r}; give one with identities={{{target.__name__!r}: ...}}"
            )
        return identity

    # -- targets -------------------------------------------------------------------------------------

    def _targets(self, child: MappedClass) -> list[MappedClass]:
        classes = mapped_classes(mapper_of(child).registry)
        names = {cls.__name__: cls for cls in classes}
        declared = list(dict.fromkeys(self._declared(child, names)))
        if unknown := self.identities.keys() - names.keys():
            raise MappingError(
                f"identities of {child.__name__}.{self.name} names {sorted(unknown)}, which are not mapped"
            )
        named = [] if declared else [names[name] for name in self.identities]
        targets = [target for each in [*declared, *named] for target in self._expand(child, each, classes)]
        asking = [cls for cls in classes if find_collection(cls, child, self.name) is not None]
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

    def _expand(self, child: MappedClass, declared: MappedClass, classes: list[MappedClass]) -> list[MappedClass]:
        if is_mapped(declared):
            return [declared]
        below = [cls for cls in classes if issubclass(cls, declared)]
        if not below:
            raise MappingError(
                f"{child.__name__}.{self.name} names {declared!r}, which is not mapped, and no mapped class derives "
                "from it"
            )
        return [cls for cls in below if not any(cls is not other and issubclass(cls, other) for other in below)]

    def _declared(self, child: MappedClass, names: dict[str, MappedClass]) -> Iterator[MappedClass]:
        """Yield the classes in ``GenericForeignKey[...]``."""
        # typing keeps the subscripted alias on objects that it has made; without it, identities= and collections count.
        for argument in get_args(getattr(self, "__orig_class__", None)):
            yield from self._flatten(child, argument, names)

    def _flatten(self, child: MappedClass, argument: object, names: dict[str, MappedClass]) -> Iterator[MappedClass]:
        if isinstance(argument, ForwardRef):
            argument = argument.__forward_arg__
        if isinstance(argument, str):
            # The module has aliases and imports; the registry has what is imported for type checkers only, or is local.
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
        # Any and object: whatever has a collection of the child.
        elif isinstance(argument, type) and argument not in (type(None), object, Any):
            yield argument


def getattr_static(cls: MappedClass, name: str) -> object:
    """Return the attribute as it stands in the class, without asking a descriptor for its value."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _python_type(column: AnyExpression) -> type[object] | None:
    try:
        return column.type.python_type
    except NotImplementedError:
        return None
