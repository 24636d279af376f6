"""`GenDefaultCollection`: a keyed collection that makes the member of a missing key, as `defaultdict` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.orm import KeyFuncDict, QueryableAttribute, attribute_keyed_dict
from sqlalchemy.orm.collections import collection, collection_adapter

from .._functions import call_named
from .._typing import AnyMapper, AnyRelationship, MappedClass
from ..exceptions import InvalidArgumentError, KeyMismatchError, StateError

K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., None])

if TYPE_CHECKING:

    def _instrumented(fn: F) -> F: ...
    # Not as F: KeyFuncDict.remove() takes a member too, and is annotated as if it took a key.
    def _remover(fn: Callable[..., None]) -> Any: ...
else:
    # SQLAlchemy would wrap an override with its events, which add the member to the session before the override's
    # check.
    _instrumented = collection.internally_instrumented

    def _remover(fn):
        return collection.remover(collection.internally_instrumented(fn))


class GenDefaultCollection(KeyFuncDict[K, V]):
    """A keyed collection that makes a member when a missing key is *subscripted*, as `collections.defaultdict` does.

    ``get()``, ``in``, ``pop()``, ``setdefault()`` and iteration never make one. `gen_default_collection` gives the
    ``collection_class`` of a relationship.
    """

    def __init__(self, factory: _DefaultFactory[K, V] | Iterable[tuple[K, V]]) -> None:
        """Make an empty collection; from pairs make a plain dictionary of this class.

        ``dataclasses.asdict()`` calls the class of a dictionary with pairs, whose values need not be members.
        """
        self._factory: Final = factory if isinstance(factory, _DefaultFactory) else None
        if isinstance(factory, _DefaultFactory):
            super().__init__(factory.keyfunc)
        else:
            super().__init__(_no_keyfunc)
            dict[K, V].update(self, factory)

    def __missing__(self, key: K) -> V:
        if self._factory is None:
            raise KeyError(key)
        member = self._factory.make(key)
        relationship = self._relationship()
        if relationship is not None and not isinstance(member, relationship.mapper.class_):
            raise InvalidArgumentError(
                f"The factory of {relationship} returned {member!r}; it must return a "
                f"{relationship.mapper.class_.__name__}"
            )
        self[key] = member
        return member

    @_instrumented
    def __setitem__(self, key: K, value: V, _sa_initiator: Any = None) -> None:
        key_of_value = self.keyfunc(value)
        if key_of_value != key:
            raise KeyMismatchError(
                f"{self._relationship() or 'The collection'} cannot hold {value!r} under {key!r}: its own key is "
                f"{key_of_value!r}; use that, or set it before adding the object"
            )
        cast("Any", super()).__setitem__(key, value, _sa_initiator)

    @_remover
    def remove(self, value: V, _sa_initiator: Any = None) -> None:
        """Remove a member by its key.

        Raises:
            StateError: The key of the member has changed since it was added. Subscripting the new key would make
                another member.
        """
        key = self.keyfunc(value)
        if key not in self:
            raise StateError(
                f"{self._relationship() or 'The collection'} has no key {key!r} and cannot remove {value!r}; "
                "was its key changed after it was added?"
            )
        cast("Any", super()).remove(value, _sa_initiator)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]  # a dict's | makes a new dictionary
        # dict.__ior__() bypasses SQLAlchemy's events.
        self.update(other)
        return self

    def _relationship(self) -> AnyRelationship | None:
        adapter: Any = collection_adapter(self)
        if adapter is None:
            return None
        owner: AnyMapper = inspect(adapter.owner_state.class_)
        return owner.relationships[adapter.attr.key]

    # -- pickling --------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        """Return a reference to the mapping for the factory, which may be a lambda, and the members as state."""
        adapter: Any = collection_adapter(self)
        if self._factory is None:
            return type(self), ((),), (dict(self), None)
        if adapter is None:
            return _restore, (None, "", self._factory), (dict(self), None)
        return _restore, (adapter.owner_state.class_, adapter.attr.key, None), (dict(self), adapter)

    def __setstate__(self, state: tuple[dict[K, V], object]) -> None:
        # dict.update() bypasses the instrumentation, which saw these members when they were added. The adapter has put
        # itself in place.
        dict[K, V].update(self, state[0])


def _no_keyfunc(member: object) -> NoReturn:
    raise StateError(f"A dictionary made of pairs has no function that returns the key of {member!r}; set it by key")


class _DefaultFactory(Generic[K, V]):
    """The ``collection_class`` that `gen_default_collection` returns."""

    def __init__(self, key: Callable[[], QueryableAttribute[K]], factory: Callable[[K], V]) -> None:
        self._key: Final = key
        self.make: Final = factory
        self._keyfunc: Callable[[Any], object] | None = None

    @property
    def keyfunc(self) -> Callable[[Any], object]:
        if self._keyfunc is None:
            attribute: Any = call_named(self._key, "gen_default_collection()")
            if not isinstance(attribute, QueryableAttribute):
                raise InvalidArgumentError(
                    f"gen_default_collection() was given {attribute!r} as the key; return an attribute of the member's "
                    "class, such as lambda: Note.keyword"
                )
            # SQLAlchemy's own function, with its rules for a key that is not set.
            make: Any = attribute_keyed_dict(attribute.key)
            self._keyfunc = cast("Callable[[Any], object]", make().keyfunc)
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
    return _DefaultFactory(key, factory)


def _restore(
    owner: MappedClass, name: str, factory: _DefaultFactory[object, object] | None
) -> GenDefaultCollection[object, object]:
    """Return an empty collection for pickle to fill, of a factory or else of a relationship of `owner`."""
    if factory is not None:
        return factory()
    mapper: AnyMapper = inspect(owner)
    return cast("GenDefaultCollection[object, object]", cast("Any", mapper.relationships[name]).collection_class())
