"""What one dictionary is about on one class, and the changes to it that are not in the database yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, cast

from sqlalchemy import ColumnElement, inspect, tuple_
from sqlalchemy.orm import InstanceState, QueryableAttribute, Session
from sqlalchemy.orm.attributes import History

from ..exceptions import DuplicateKeyError

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Shape:
    """What one dictionary is about on one class."""

    label: str
    relationship: str
    member: type[Any]
    #: The attributes of the members that are the key, and the primary key.
    key: QueryableAttribute[Any]
    identity: tuple[QueryableAttribute[Any], ...]
    #: Whether the key may be NULL in the table; such rows are not in the dictionary.
    nullable: bool

    def key_of(self, member: object) -> Any:
        return getattr(member, self.key.key)

    def is_one_of(self, identities: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
        if len(self.identity) == 1:
            return self.identity[0].in_([identity[0] for identity in identities])
        return tuple_(*self.identity).in_(identities)


def state_of(instance: Any) -> InstanceState[Any]:
    return cast("InstanceState[Any]", inspect(instance))


def history_of(owner: object, shape: Shape) -> History:
    return state_of(owner).attrs[shape.relationship].history


@dataclass(frozen=True)
class Unflushed(Generic[K, V]):
    """Changes to one collection that are not in the database yet."""

    added: dict[K, V]
    #: The identities of persistent members that were added or removed, which a SELECT must leave out.
    touched: list[tuple[Any, ...]]

    @classmethod
    def of(cls, owner: object, shape: Shape, session: Session | None) -> Self:
        history = history_of(owner, shape)
        added: dict[K, V] = {}
        for member in history.added:
            if added.setdefault(shape.key_of(member), member) is not member:
                raise DuplicateKeyError(
                    f"{shape.label} was given two members with the key {shape.key_of(member)!r}; remove one of them"
                )
        deleted = [] if session is None else [each for each in session.deleted if isinstance(each, shape.member)]
        states = [state_of(member) for member in (*history.added, *history.deleted, *deleted)]
        return cls(added, [state.identity for state in states if state.identity is not None])
