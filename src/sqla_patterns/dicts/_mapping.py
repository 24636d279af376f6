"""The synchronous dictionary."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import Any, Final, TypeVar, cast, overload

from sqlalchemy.orm import Session, object_session

from ..exceptions import InvalidArgumentError, KeyMismatchError, StateError
from ._reader import Reader
from ._shape import Shape, history_of, state_of

__all__ = ("WriteOnlyDict",)

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")

# Below the bound parameters that each database takes in one statement.
_KEYS_AT_ONCE: Final = 10_000
_MISSING: Final = object()


class WriteOnlyDict(MutableMapping[K, V]):
    """The members of a write-only collection by key; the module says what each operation costs.

    What has not been flushed counts: added members are found, removed ones are not, whether the session autoflushes or
    not. The dictionary of an object that is not in the database yet works on its pending members alone, without SQL.
    """

    def __init__(self, owner: object, shape: Shape) -> None:
        self._reader: Final = Reader[K, V](owner, shape)

    # -- reading ---------------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        """Return the member; one SELECT by key.

        Raises:
            KeyError: there is none.
            DuplicateKeyError: there are several.
        """
        return self._reader.find([key])[key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | T) -> V | T: ...
    def get(self, key: K, /, default: object = None) -> object:
        """Return the member, or the default; one SELECT by key.

        Raises:
            DuplicateKeyError: there are several.
        """
        return self._reader.find([key]).get(key, cast("V", default))

    def __contains__(self, key: object) -> bool:
        """Whether there is such a member; one SELECT of the key."""
        return self._reader.contains(key)

    def __len__(self) -> int:
        """The number of members; one SELECT COUNT."""
        return self._reader.count()

    def __bool__(self) -> bool:
        """Whether there are members; one SELECT of one row."""
        return self._reader.any()

    def __iter__(self) -> Iterator[K]:
        """Yield the keys in the order of the keys; about one SELECT for each 1,000."""
        return (key for page in self._reader.key_pages() for key in page)

    def values(self) -> ValuesView[V]:
        """Return a view that yields members in the order of the keys; about one SELECT for each 1,000."""
        return _Values(self, self._reader)

    def items(self) -> ItemsView[K, V]:
        """Return a view that yields keys and members in the order of the keys; about one SELECT for each 1,000."""
        return _Items(self, self._reader)

    def __repr__(self) -> str:
        return f"<WriteOnlyDict {self._reader.shape.label} of {self._reader.owner!r}>"

    # -- writing ---------------------------------------------------------------------------------

    def __setitem__(self, key: K, value: V) -> None:
        """Put a member in place of one that may be there; one SELECT, and a flush if there is another to replace."""
        self.update({key: value})

    def update(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride] # no keywords: keys are of any type
        self, members: Mapping[K, V] | Iterable[tuple[K, V]] = (), /
    ) -> None:
        """Put members in place of those with their keys: one SELECT for each 10,000, and one flush if any are replaced.

        That flush deletes the replaced rows before the new ones are inserted, as a unique constraint wants it. What
        becomes of a replaced member is the relationship's cascade: with ``delete-orphan`` its row is deleted.

        Raises:
            KeyMismatchError: a key is not that of its member. As with the other errors, nothing is changed then.
            InvalidArgumentError: a value is not of the member's class.
            StateError: the owner is detached, or a member is in another session.
        """
        new = dict[K, V]()
        # Not dict(members): that would read another WriteOnlyDict key by key.
        new.update(cast("Mapping[K, V]", members).items() if isinstance(members, Mapping) else members)
        session = self._reader.session()
        for key, member in new.items():
            self._check(key, member, session)
        self._take_out(new.values(), session)
        found: dict[K, V] = {}
        keys = list(new)
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            found |= self._reader.find(keys[start : start + _KEYS_AT_ONCE])
        for key, member in found.items():
            if member is not new[key]:
                self._reader.collection.remove(member)
        self._add({key: member for key, member in new.items() if found.get(key) is not member}, session)

    def setdefault(self, key: K, default: V, /) -> V:
        """Return the member with this key, after adding the default if there is none; one SELECT.

        Raises:
            KeyMismatchError: the key is not that of the default.
            InvalidArgumentError: the default is not of the member's class.
        """
        session = self._reader.session()
        self._check(key, default, session)
        self._take_out([default], session)
        found = self._reader.find([key])
        if key not in found:
            self._add({key: default}, session)
        return found.get(key, default)

    def __delitem__(self, key: K) -> None:
        """Remove the member from the collection; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: there is none.
        """
        self.pop(key)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V | T) -> V | T: ...
    def pop(self, key: K, /, default: object = _MISSING) -> object:
        """Remove and return the member; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: there is none, and no default.
        """
        found = self._reader.find([key])
        if key not in found and default is not _MISSING:
            return default
        self._reader.collection.remove(found[key])
        return found[key]

    def popitem(self) -> tuple[K, V]:
        """Remove and return the member with the last key; one SELECT.

        Raises:
            KeyError: the dictionary is empty.
        """
        member = self._reader.last()
        if member is None:
            raise KeyError(f"{self._reader.shape.label} is empty")
        self._reader.collection.remove(member)
        return self._reader.shape.key_of(member), member

    def clear(self) -> None:
        """Remove all members, each as ``del`` would; they are loaded, 1,000 at a time."""
        for member in self.values():
            self._reader.collection.remove(member)

    def _check(self, key: object, member: object, session: Session | None) -> None:
        shape = self._reader.shape
        if not isinstance(member, shape.member):
            raise InvalidArgumentError(f"{shape.label} has members of {shape.member.__name__}, and {member!r} is none")
        if (own := shape.key_of(member)) != key:
            raise KeyMismatchError(
                f"{shape.label} cannot hold {member!r} under {key!r}: its own key, {shape.key.key!r}, is {own!r}; "
                "use that, or set it first"
            )
        theirs, ours = object_session(member), session or object_session(self._reader.owner)
        if theirs is not None and ours is not None and theirs is not ours:
            raise StateError(f"{shape.label} cannot hold {member!r}, which is in another session; merge it first")

    def _add(self, members: Mapping[K, V], session: Session | None) -> None:
        """Add members, after a flush if rows with these keys are yet to go: SQLAlchemy inserts before it deletes."""
        shape = self._reader.shape
        if session is not None:
            removed = history_of(self._reader.owner, shape).deleted
            leaving = [*removed, *(each for each in session.deleted if isinstance(each, shape.member))]
            if any(state_of(each).has_identity and shape.key_of(each) in members for each in leaving):
                session.flush()
        self._reader.collection.add_all(members.values())

    def _take_out(self, members: Iterable[V], session: Session | None) -> None:
        """Keep new members, which a back reference may have added already, out of the flush that makes place for them."""
        added = {id(member) for member in history_of(self._reader.owner, self._reader.shape).added}
        for member in members:
            if id(member) in added:
                self._reader.collection.remove(member)
            if session is not None and member in session.new:
                session.expunge(member)


class _Items(ItemsView[K, V]):
    def __init__(self, mapping: WriteOnlyDict[K, V], reader: Reader[K, V]) -> None:
        super().__init__(mapping)
        self._reader: Final = reader

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return (pair for page in self._reader.item_pages() for pair in page)


class _Values(ValuesView[V]):
    def __init__(self, mapping: WriteOnlyDict[Any, V], reader: Reader[Any, V]) -> None:
        super().__init__(mapping)
        self._reader: Final = reader

    def __iter__(self) -> Iterator[V]:
        return (member for page in self._reader.item_pages() for _, member in page)

    def __contains__(self, value: object) -> bool:
        shape = self._reader.shape
        if not isinstance(value, shape.member):
            return False
        key = shape.key_of(value)
        return self._reader.find([key]).get(key) is value
