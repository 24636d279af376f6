"""`GenericRoute`, the route (see `_routes`) of a generic foreign key, and how it finds the collection of the parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import object_session
from sqlalchemy.orm.attributes import flag_modified, set_attribute, set_committed_value

from .._sqlalchemy import mapper_of, object_in_session, state_of
from .._typing import MappedClass, MappedObject
from ._removals import unflushed_members, withdraw_removals
from ._routes import Route

_COLLECTIONS = "_generic_collections"


@dataclass(frozen=True)
class GenericCollection:
    """A record of a `GenericRelationship`, kept on the parent class for the `GenericForeignKey` to which it refers."""

    name: str
    #: Returns the class of the children, which may be mapped after the parents.
    target: Callable[[], MappedClass]
    #: The name of the `GenericForeignKey` on the children.
    parent_attribute: str
    #: What the discriminator holds for the parent's class; None leaves that to the foreign key.
    identity: object
    #: Whether a child that leaves its parent is deleted.
    owns: bool


def add_collection(parent: MappedClass, collection: GenericCollection) -> None:
    """Register a collection on the class that has it."""
    setattr(parent, _COLLECTIONS, (*vars(parent).get(_COLLECTIONS, ()), collection))


def find_collection(parent: MappedClass, child: MappedClass, parent_attribute: str) -> GenericCollection | None:
    """Return the collection of `child` objects that a class itself has by a generic foreign key."""
    collections: tuple[GenericCollection, ...] = vars(parent).get(_COLLECTIONS, ())
    for collection in collections:
        if collection.parent_attribute == parent_attribute and issubclass(collection.target(), child):
            return collection
    return None


class GenericRoute(Route):
    """A route by the value of a discriminator column and a key."""

    shares_columns = True

    def __init__(
        self,
        child: MappedClass,
        key: str,
        parent: MappedClass,
        collection: str | None,
        *,
        owns: bool,
        family: str,
        discriminator: str,
        keys: tuple[str, ...],
        identity: object,
    ) -> None:
        super().__init__(child, key, parent, collection, owns=owns, family=family)
        self.discriminator = discriminator
        self.keys = keys
        self.identity = identity

    @property
    def written_attributes(self) -> tuple[str, ...]:
        """Return the attributes of the child that this route writes: discriminator and key, always together."""
        return (self.discriminator, *self.keys)

    def _key_of(self, child: object) -> tuple[object, ...]:
        return tuple(getattr(child, key) for key in self.keys)

    def is_current(self, child: object, parent: object) -> bool:
        """Return whether the columns still refer to the parent in memory; they may have been set by hand."""
        if getattr(child, self.discriminator) != self.identity:
            return False
        key = self._key_of(child)
        identity = state_of(parent).identity
        # An assignment that is not flushed yet wins, as it will in the flush.
        return identity is None or key == identity or None in key or bool(state_of(child).attrs[self.key].history.added)

    def may_apply(self, child: object) -> bool:
        """Return whether the child's columns refer to this class."""
        return getattr(child, self.discriminator) == self.identity and None not in self._key_of(child)

    def load_former(self, child: object) -> MappedObject | None:
        """Return the parent if it is in the session; if it is not, it has no collection in memory to keep in step."""
        session = object_session(child)
        if session is None or not self.may_apply(child):
            return None
        parent = object_in_session(session, mapper_of(self.parent), self._key_of(child))
        if parent is None or not isinstance(parent, self.parent):
            return None
        set_committed_value(child, self.key, parent)
        return parent

    def load(self, child: object) -> MappedObject | None:
        """Return the parent, from the session or else from the database."""
        if (parent := self.load_former(child)) is not None:
            return parent
        held = state_of(child).dict.get(self.key)
        if held is not None and not self.is_current(child, held):
            # It was loaded before the columns were set by hand.
            self._forget_unchanged(child)
        return getattr(child, self.key)

    def _forget_unchanged(self, child: object) -> None:
        """Forget the parent that the child holds, unless that is an assignment to be flushed."""
        state = state_of(child)
        if not state.attrs[self.key].history.has_changes():
            state.dict.pop(self.key, None)

    def forget_parent(self, child: object, value: object) -> None:
        """Forget what was found or removed by the former columns, one of which is being set to `value`."""
        if value is not None:
            for removal in withdraw_removals(child, self.family):
                # Else the flush would clear the columns.
                set_committed_value(child, removal.route.key, None)
        if state_of(child).dict.get(self.key, self) is None:
            self._forget_unchanged(child)

    def refer_to(self, child: object, parent: object) -> None:
        """Set the discriminator, and the key if the parent has one.

        If it has none, the flush copies the key once the parent has its row.
        """
        # Here, before the columns are set: the hidden relationship is being set, and its history must stay.
        withdraw_removals(child, self.family)
        key = state_of(parent).identity or (None,) * len(self.keys)
        for name, value in zip(self.written_attributes, (self.identity, *key), strict=True):
            set_attribute(child, name, value)

    def clear_columns(self, child: object) -> None:
        """Set the discriminator and the key to None, if they refer to this class."""
        if getattr(child, self.discriminator) == self.identity:
            for name in self.written_attributes:
                set_attribute(child, name, None)

    def release(self, child: object) -> list[MappedObject | None]:
        """Take the child off the route, also where its parent is not in memory: the columns are enough."""
        unreported = super().release(child)
        if self.may_apply(child):
            self.clear_columns(child)
            set_committed_value(child, self.key, None)
            unreported.append(None)
        return unreported

    def has_newly_got(self, child: object, key: tuple[object, ...]) -> bool:
        """Return whether the collection of the parent with this key has got the child since the last flush."""
        session = object_session(child)
        if session is None or self.collection is None or None in key:
            return False
        parent = object_in_session(session, mapper_of(self.parent), key)
        return parent is not None and any(
            member is child for member in unflushed_members(parent, self.collection).added or ()
        )

    def set_absent_parent(self, child: object) -> None:
        """Leave a child alone whose columns were set by hand, since it has a parent that is not in memory."""
        if getattr(child, self.discriminator) is None:
            super().set_absent_parent(child)

    @property
    def none_criterion(self) -> object:
        """Return what routes with the same criterion for no parent have in common."""
        return self.discriminator

    def is_none(self, entity: object) -> ColumnElement[bool]:
        """Return the criterion that the columns refer to nothing."""
        return or_(*(getattr(entity, name).is_(None) for name in self.written_attributes))

    def is_set(self, entity: object, type_: type[object]) -> ColumnElement[bool]:
        """Return the criterion that the columns refer to `type_`."""
        if issubclass(self.parent, type_):
            return cast("ColumnElement[bool]", getattr(entity, self.discriminator) == self.identity)
        return super().is_set(entity, type_)


def write_together(child: object, routes: Sequence[GenericRoute]) -> None:
    """Have an UPDATE of a child write the discriminator and all columns of the key if it writes one of them.

    SQLAlchemy writes what differs from what this session has read. Another session may have written the row since; then
    the row would have the type of one parent and the key of another. SQLAlchemy also writes the key alone: it clears
    the key when a parent is deleted, and copies it when a parent is inserted or has got the child by its collection.

    Args:
        child: An object that is about to be updated; SQLAlchemy has copied the keys of its parents.
        routes: The routes of one generic foreign key, at least one.
    """
    state, (first, *_) = state_of(child), routes
    changed = {name for name in first.written_attributes if state.attrs[name].history.has_changes()}
    if not changed:
        return
    mapper = state.mapper
    if first.discriminator not in changed:
        key = tuple(state.dict.get(name) for name in first.keys)
        if any(name in changed and value is None for name, value in zip(first.keys, key, strict=True)):
            for name in first.written_attributes:
                if all(column.nullable for column in mapper.column_attrs[name].columns):
                    set_attribute(child, name, None)
        elif (arrived := next((route for route in routes if route.has_newly_got(child, key)), None)) is not None:
            # The child was expired after a collection got it, and only the key has been copied from there.
            set_attribute(child, first.discriminator, arrived.identity)
    for name in first.written_attributes:
        # What is part of the primary key is compared in the WHERE clause already.
        if name in state.dict and not any(column.primary_key for column in mapper.column_attrs[name].columns):
            flag_modified(child, name)
