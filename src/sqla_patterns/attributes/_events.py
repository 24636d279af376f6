"""`AttributeChange`, which describes one change, and the listeners that make it from the events of SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.orm import AttributeEventToken, LoaderCallableStatus, PassiveFlag, RelationshipProperty
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.collections import collection_adapter

from .._sqlalchemy import is_propagated
from .._typing import AnyAttribute, AnyMapper, AnyState, MappedClass
from ._watch import stop_listening

T = TypeVar("T")
ChangeVerb: TypeAlias = Literal["set", "append", "remove", "delete", "bulk_replace"]

#: The attribute of a mapped class with its `AttributeListener` objects, by the names of their attributes.
_LISTENERS: Final = "__sqla_change_listeners__"
#: Load the value that is in the database, without a flush, and without complaint where a relationship refuses to be
#: loaded.
_LOAD_OLD: Final = (
    PassiveFlag.PASSIVE_ONLY_PERSISTENT
    | PassiveFlag.NO_AUTOFLUSH
    | PassiveFlag.LOAD_AGAINST_COMMITTED
    | PassiveFlag.NO_RAISE
)


@dataclass(frozen=True, eq=False)
class AttributeChange(Generic[T]):
    """One change to one attribute of an object, reported before it is made.

    Attributes:
        target: The object.
        verb: What happens: ``set`` to a column or a reference; ``delete`` by ``del target.key``; ``append`` and
            ``remove`` of a member of a collection; ``bulk_replace`` where a whole collection is assigned, which is
            followed by an ``append`` for each new member and a ``remove`` for each that is gone. (A dynamic or
            write-only collection tells of the members only.)
        key: The name of the attribute.
        value: The new value; the member that is appended or removed; the list of the new members; None for ``delete``.
        old: The value before, for ``set`` and ``delete``; the list of the members before, for ``bulk_replace``. None
            for ``append`` and ``remove``, and where it is not known.
        old_known: Whether `old` says what was there before. False for ``append`` and ``remove``, which do not look at
            the rest of the collection, and for a value that was not loaded.
        propagated: Whether the change follows from one at the other end of a relationship.
    """

    target: T
    verb: ChangeVerb
    key: str
    value: Any
    old: Any
    old_known: bool
    propagated: bool


@dataclass(frozen=True, eq=False)
class Subscription:
    """A function that is called with changes, and how.

    Attributes:
        fn: The function.
        active_history: Whether old values are loaded for it.
    """

    fn: Callable[[AttributeChange[Any]], object]
    active_history: bool


@dataclass(frozen=True)
class OldValue:
    """A value before a change, if it is known."""

    value: object
    known: bool


_UNKNOWN: Final = OldValue(None, known=False)


class AttributeListener:
    """The listener to one attribute of one class, for all functions that are subscribed to it.

    SQLAlchemy cannot add a listener to an attribute, or remove one, while it calls the listeners of that attribute.
    So there is one for all functions, and a function may attach and detach others while it is called.
    """

    def __init__(self, cls: MappedClass, attribute: AnyAttribute, *, is_collection: bool) -> None:
        self.attribute: Final = attribute
        self._cls: Final = cls
        self._key: Final = attribute.key
        self._events: Final[dict[str, Callable[..., None]]] = (
            {"append": self._append, "remove": self._remove, "bulk_replace": self._bulk_replace}
            if is_collection
            else {"set": self._set, "remove": self._delete}
        )
        self._subscriptions: tuple[Subscription, ...] = ()
        self._calls = 0

    def add(self, subscription: Subscription) -> bool:
        """Subscribe a function to the attribute, and return whether it was not yet."""
        if subscription in self._subscriptions:
            return False
        self._subscriptions = (*self._subscriptions, subscription)
        for identifier, listener in self._events.items():
            if not event.contains(self.attribute, identifier, listener):
                # SQLAlchemy's own active_history loads under asyncio too, which fails there, and cannot be taken back.
                event.listen(self.attribute, identifier, listener, raw=True)
        return True

    def remove(self, subscription: Subscription) -> None:
        """Take a function off the attribute."""
        self._subscriptions = tuple(each for each in self._subscriptions if each is not subscription)
        # While SQLAlchemy calls it, the listener stays. It does nothing until it is used again.
        if not self._subscriptions and not self._calls:
            for identifier, listener in self._events.items():
                stop_listening(self.attribute, identifier, listener)
            _forget(self._cls, self)

    def _set(self, state: AnyState, value: object, old: object, initiator: AttributeEventToken) -> None:
        self._tell(state, "set", value, lambda active: self._old(state, old, active_history=active), initiator)

    def _delete(self, state: AnyState, old: object, initiator: AttributeEventToken) -> None:
        self._tell(state, "delete", None, lambda active: self._old(state, old, active_history=active), initiator)

    def _append(self, state: AnyState, value: object, initiator: AttributeEventToken) -> None:
        self._tell(state, "append", value, lambda active: _UNKNOWN, initiator)

    def _remove(self, state: AnyState, value: object, initiator: AttributeEventToken) -> None:
        # Where a collection is assigned, the other end of each member that is gone removes it once more, from the new
        # collection.
        if not (is_propagated(self.attribute, initiator) and self._is_gone(state, value)):
            self._tell(state, "remove", value, lambda active: _UNKNOWN, initiator)

    def _bulk_replace(self, state: AnyState, values: Sequence[object], initiator: AttributeEventToken) -> None:
        self._tell(
            state,
            "bulk_replace",
            list(values),
            lambda active: self._old_members(state, active_history=active),
            initiator,
        )

    def _is_gone(self, state: AnyState, member: object) -> bool:
        collection = state.dict.get(self._key)
        return collection is not None and all(each is not member for each in collection_adapter(collection))

    def _tell(
        self,
        state: AnyState,
        verb: ChangeVerb,
        value: object,
        old_value: Callable[[bool], OldValue],
        initiator: AttributeEventToken,
    ) -> None:
        """Call the functions with a change.

        Args:
            state: The state of the object.
            verb: What happens.
            value: The new value.
            old_value: Returns the value before, with active history or without.
            initiator: Where the change began.
        """
        propagated = is_propagated(self.attribute, initiator)
        self._calls += 1
        try:
            for each in self._subscriptions:
                # A function before this one may have detached it.
                if each in self._subscriptions:
                    old = old_value(each.active_history)
                    each.fn(AttributeChange(state.obj(), verb, self._key, value, old.value, old.known, propagated))
        finally:
            self._calls -= 1

    def _old(self, state: AnyState, old: object, *, active_history: bool) -> OldValue:
        """Return the old value of a column or a reference; `old` is what SQLAlchemy knows without a SELECT."""
        if not isinstance(old, LoaderCallableStatus):
            return OldValue(old, known=True)
        # A new object has nothing before its first value, nor has one whose value was deleted a line above.
        if state.key is None or state.attrs[self._key].history.deleted:
            return OldValue(None, known=True)
        if active_history and _can_load(state):
            loaded = get_history(state.obj(), self._key, _LOAD_OLD).unchanged
            return OldValue(loaded[0], known=True) if loaded else _UNKNOWN
        return _UNKNOWN

    def _old_members(self, state: AnyState, *, active_history: bool) -> OldValue:
        known = self._key in state.dict or state.key is None
        if not known and not (active_history and _can_load(state)):
            return _UNKNOWN
        history = get_history(state.obj(), self._key, PassiveFlag.PASSIVE_NO_INITIALIZE if known else _LOAD_OLD)
        return OldValue([*history.unchanged, *history.added], known=True)


def listener_for(mapper: AnyMapper, attribute: AnyAttribute) -> AttributeListener:
    """Return the listener to an attribute of a class; there is one for all functions."""
    known = _listeners_of(mapper.class_)
    found = known.get(attribute.key)
    # A class may have been mapped again since.
    if found is None or found.attribute is not attribute:
        prop = mapper.get_property(attribute.key)
        is_collection = isinstance(prop, RelationshipProperty) and bool(prop.uselist)
        found = AttributeListener(mapper.class_, attribute, is_collection=is_collection)
        # Metaclasses of declarative bases and of pydantic have their own __setattr__, for mapped attributes.
        type.__setattr__(mapper.class_, _LISTENERS, {**known, attribute.key: found})
    return found


def _listeners_of(cls: MappedClass) -> dict[str, AttributeListener]:
    return cast("dict[str, AttributeListener]", vars(cls).get(_LISTENERS, {}))


def _forget(cls: MappedClass, listener: AttributeListener) -> None:
    rest = {key: each for key, each in _listeners_of(cls).items() if each is not listener}
    if rest:
        type.__setattr__(cls, _LISTENERS, rest)
    elif _LISTENERS in vars(cls):
        type.__delattr__(cls, _LISTENERS)


def _can_load(state: AnyState) -> bool:
    return state.session is not None and state.async_session is None
