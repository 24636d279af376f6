"""The keyed collection that makes a member when a missing key is subscripted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.orm import KeyFuncDict, QueryableAttribute, attribute_keyed_dict
from sqlalchemy.orm.collections import collection, collection_adapter

from ..exceptions import InvalidArgumentError, KeyMismatchError, StateError

__all__ = ("GenDefaultCollection", "gen_default_collection")

K = TypeVar("K")
V = TypeVar("V")


class GenDefaultCollection(KeyFuncDict[K, V]):
    """A keyed collection that makes a member when a missing key is *subscripted*, as `collections.defaultdict` does.

    ``get()``, ``in``, ``pop()``, ``setdefault()`` and iteration never make one. `gen_default_collection` gives the
    ``collection_class`` of a relationship.
    """

    def __init__(self, factory: DefaultFactory[K, V]) -> None:
        super().__init__(factory.keyfunc)
        self._factory: Final = factory

    def __missing__(self, key: K) -> V:
        member = self._factory.make(key)
        adapter = collection_adapter(self)
        if adapter is not None:
            expected = _relationship(adapter).mapper.class_
            if not isinstance(member, expected):
                raise InvalidArgumentError(
                    f"The factory of {self._label} returned {member!r}; it must return a {expected.__name__}"
                )
        self[key] = member
        return member

    @property
    def _label(self) -> str:
        adapter = collection_adapter(self)
        return "a GenDefaultCollection" if adapter is None else str(_relationship(adapter))

    # SQLAlchemy would wrap these methods with its events, which add the member to the session before the check.

    @collection.internally_instrumented
    def __setitem__(self, key: K, value: V, _sa_initiator: Any = None) -> None:
        own = self.keyfunc(value)
        if own != key:
            raise KeyMismatchError(
                f"{self._label} cannot hold {value!r} under {key!r}: its own key is {own!r}; "
                "use that, or set the key attribute before adding the object"
            )
        super().__setitem__(key, value, _sa_initiator)  # type: ignore[call-arg]

    @collection.remover
    @collection.internally_instrumented
    def remove(self, value: V, _sa_initiator: Any = None) -> None:
        """Remove a member by its key; one whose key has changed since it was added is refused, not made anew."""
        key = self.keyfunc(value)
        if key not in self:
            raise StateError(
                f"{self._label} has no key {key!r} and cannot remove {value!r}; was its key changed after it was added?"
            )
        super().remove(value, _sa_initiator)

    def __ior__(self, other: Any) -> GenDefaultCollection[K, V]:  # type: ignore[override, misc]
        self.update(other)
        return self

    # -- pickling --------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        """Refer to the mapping for the factory, which may be a lambda; members and adapter follow as state."""
        adapter = collection_adapter(self)
        if adapter is None:
            return _restore, (None, None, self._factory), (dict(self), None)
        return _restore, (adapter.owner_state.class_, adapter.attr.key, None), (dict(self), adapter)

    def __setstate__(self, state: tuple[dict[K, V], object]) -> None:
        # Past the instrumentation: these members were added long ago. The adapter has put itself in place.
        dict.update(self, state[0])


class DefaultFactory(Generic[K, V]):
    """The ``collection_class`` that `gen_default_collection` returns."""

    def __init__(self, key: Callable[[], QueryableAttribute[K]], factory: Callable[[K], V]) -> None:
        self._key: Final = key
        self.make: Final = factory
        self._keyfunc: Callable[[Any], Any] | None = None

    @property
    def keyfunc(self) -> Callable[[Any], Any]:
        if self._keyfunc is None:
            attribute = self._key()
            if not isinstance(attribute, QueryableAttribute):
                raise InvalidArgumentError(
                    f"gen_default_collection() was given {attribute!r} as the key; return an attribute of the member's "
                    "class, such as lambda: Note.keyword"
                )
            # SQLAlchemy's own function, with its rules for a key that is not set.
            self._keyfunc = attribute_keyed_dict(attribute.key)().keyfunc
        return self._keyfunc

    def __call__(self) -> GenDefaultCollection[K, V]:
        return GenDefaultCollection(self)


def gen_default_collection(
    key: Callable[[], QueryableAttribute[K]], factory: Callable[[K], V]
) -> Callable[[], GenDefaultCollection[K, V]]:
    """Return a ``collection_class`` of `GenDefaultCollection`.

    Args:
        key: returns the attribute of the members that is their key, as in ``lambda: Note.keyword``.
        factory: makes the member of a missing key, with that key.

    Raises:
        KeyMismatchError: on use, if the factory makes a member with another key, or a member is put under another key
            than its own. Nothing is pending then.
        InvalidArgumentError: on use, if the factory returns anything but a member.
    """
    return DefaultFactory(key, factory)


def _relationship(adapter: Any) -> Any:
    return inspect(adapter.owner_state.class_).relationships[adapter.attr.key]


def _restore(
    owner: type[Any] | None, name: str | None, factory: DefaultFactory[Any, Any] | None
) -> GenDefaultCollection[Any, Any]:
    if factory is None:
        factory = inspect(owner).relationships[name].collection_class
    return cast("GenDefaultCollection[Any, Any]", factory())
