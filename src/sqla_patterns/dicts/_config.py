"""What is known about one dictionary attribute of a class, and the changes to a dictionary that are not flushed yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from sqlalchemy import ColumnElement, tuple_
from sqlalchemy.orm import Session, WriteOnlyCollection
from sqlalchemy.orm.attributes import History, instance_state

from .._typing import AnyAttribute, MappedClass
from ..exceptions import DuplicateKeyError

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class DictConfig:
    """One dictionary attribute of one mapped class, with all names resolved; all objects of the class share it.

    Attributes:
        label: The name of the attribute in texts of errors, such as ``Parent.by_key``.
        owner: The class that has the relationship.
        relationship: The name of the write-only relationship.
        member: The class of the members.
        key: The attribute of the members that is the key.
        primary_key: The attributes of the members that are their primary key.
        nullable: Whether the key may be NULL in the table. Such rows are not in the dictionary.
        to_column_value: Returns the value of the key's column that is equal to a given key, or `ABSENT`.
    """

    label: str
    owner: MappedClass
    relationship: str
    member: MappedClass
    key: AnyAttribute
    primary_key: tuple[AnyAttribute, ...]
    nullable: bool
    to_column_value: Callable[[object], object]

    def collection_of(self, owner: object) -> WriteOnlyCollection[Any]:
        """Return the write-only collection of one object."""
        collection: WriteOnlyCollection[Any] = getattr(owner, self.relationship)
        return collection

    def history_of(self, owner: object) -> History:
        """Return the unflushed changes to the collection of one object."""
        return instance_state(owner).attrs[self.relationship].history

    def key_of(self, member: object) -> Any:
        """Return the key that a member has now."""
        return getattr(member, self.key.key)

    def stored_key_of(self, member: object) -> Any:
        """Return the key that a persistent member has in the database; None if that is not known."""
        history = instance_state(member).attrs[self.key.key].history
        if history.deleted:
            return history.deleted[0]
        return None if history.added else self.key_of(member)

    def has_primary_key_in(self, primary_keys: Sequence[tuple[object, ...]]) -> ColumnElement[bool]:
        """Match the members with one of `primary_keys`."""
        if len(self.primary_key) == 1:
            return self.primary_key[0].in_([primary_key[0] for primary_key in primary_keys])
        return tuple_(*self.primary_key).in_(primary_keys)


@dataclass(frozen=True)
class UnflushedChanges(Generic[K, V]):
    """Changes to one collection that are not in the database yet.

    Attributes:
        added: The members that were added, by key.
        changed: The primary keys of persistent members that were added or removed, which a SELECT must leave out.
    """

    added: dict[K, V]
    changed: list[tuple[object, ...]]

    @classmethod
    def of(cls, owner: object, config: DictConfig, session: Session | None) -> Self:
        """Return the changes to the collection of one object.

        Raises:
            DuplicateKeyError: Two of the added members have the same key.
        """
        history = config.history_of(owner)
        added: dict[K, V] = {}
        for member in history.added:
            # As in the database, a member whose key is NULL is not in the dictionary.
            if config.key_of(member) is None:
                continue
            if added.setdefault(config.key_of(member), member) is not member:
                raise DuplicateKeyError(
                    f"{config.label} was given two members with the key {config.key_of(member)!r}; remove one of them"
                )
        deleted = [] if session is None else [each for each in session.deleted if isinstance(each, config.member)]
        states = [instance_state(member) for member in (*history.added, *history.deleted, *deleted)]
        return cls(added, [tuple(state.identity) for state in states if state.identity is not None])
