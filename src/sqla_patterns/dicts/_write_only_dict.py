"""`WriteOnlyDict`, the dictionary for objects of a synchronous session."""

from __future__ import annotations

from collections.abc import Container, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import Any, Final, TypeVar, cast, overload

from sqlalchemy.orm import Session, object_session
from sqlalchemy.orm.attributes import instance_state

from .._sql import chunks
from ..exceptions import InvalidArgumentError, KeyMismatchError, StateError
from ._config import DictConfig
from ._keys import ABSENT
from ._reader import Reader
from ._undo import undo_unflushed

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")

# Below the number of bound parameters that each database accepts in one statement.
_MAX_KEYS: Final = 10_000
_MISSING: Final = object()


class WriteOnlyDict(MutableMapping[K, V]):
    """The members of a write-only collection by key; `sqla_patterns.dicts` says what each operation costs.

    Unflushed changes count: added members are found, removed ones are not, whether the session autoflushes or not. The
    dictionary of an object that is not in the database yet works on its pending members alone, without SQL.
    """

    def __init__(self, owner: object, config: DictConfig) -> None:
        self._reader: Final = Reader[K, V](owner, config)

    # -- reading ---------------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        """Return the member with this key; one SELECT.

        Raises:
            KeyError: There is no such member.
            DuplicateKeyError: There are several.
        """
        return self._reader.find([key])[key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | T) -> V | T: ...
    def get(self, key: K, /, default: object = None) -> object:
        """Return the member with this key, or `default`; one SELECT.

        Raises:
            DuplicateKeyError: There are several such members.
        """
        return self._reader.find([key]).get(key, cast("V", default))

    def __contains__(self, key: object) -> bool:
        """Return whether there is a member with this key; one SELECT of the key."""
        return self._reader.contains(key)

    def __len__(self) -> int:
        """Return the number of members; one SELECT COUNT."""
        return self._reader.count()

    def __bool__(self) -> bool:
        """Return whether there are members; one SELECT of one row."""
        return self._reader.has_members()

    def __iter__(self) -> Iterator[K]:
        """Yield the keys in their order; about one SELECT for each 1,000."""
        return (key for page in self._reader.key_pages() for key in page)

    def values(self) -> ValuesView[V]:
        """Return a view that yields members in the order of the keys; about one SELECT for each 1,000."""
        return _Values(self, self._reader)

    def items(self) -> ItemsView[K, V]:
        """Return a view that yields keys and members in the order of the keys; about one SELECT for each 1,000."""
        return _Items(self, self._reader)

    def __repr__(self) -> str:
        return f"<WriteOnlyDict {self._reader.config.label} of {self._reader.owner!r}>"

    # -- writing ---------------------------------------------------------------------------------

    def __setitem__(self, key: K, value: V) -> None:
        """Add a member, and replace the one that has the key; one SELECT, and a flush if there is one to replace.

        Raises:
            KeyMismatchError: `key` is not the key of the member. As with all errors of `update`, nothing is changed.
        """
        self.update({key: value})

    # Without keyword arguments: keys are of any type.
    def update(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, members: Mapping[K, V] | Iterable[tuple[K, V]] = (), /
    ) -> None:
        """Add members, and replace those with their keys; one SELECT for each 10,000, one flush if any are replaced.

        That flush deletes the replaced rows before the new ones are inserted, as a unique constraint requires. The
        relationship's cascade decides what happens to a replaced member: with ``delete-orphan`` its row is deleted.

        Raises:
            KeyMismatchError: A key is not that of its member. As with the other errors, nothing is changed then.
            InvalidArgumentError: A value is not of the member's class.
            StateError: The owner is detached, or a member is in another session.
        """
        new = dict[K, V]()
        # Not dict(members): that would read another WriteOnlyDict key by key.
        new.update(cast("Mapping[K, V]", members).items() if isinstance(members, Mapping) else members)
        session = self._reader.session()
        for key, member in new.items():
            self._check(key, member, session)
        self._put(new, session)

    def setdefault(self, key: K, default: V, /) -> V:
        """Return the member with this key, after adding the default if there is none; one SELECT.

        Raises:
            KeyMismatchError: `key` is not the key of the default.
            InvalidArgumentError: The default is not of the member's class.
        """
        session = self._reader.session()
        self._check(key, default, session)
        return self._put({key: default}, session, replace=False).get(key, default)

    def __delitem__(self, key: K) -> None:
        """Remove the member with this key; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: There is no such member.
        """
        self.pop(key)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V | T) -> V | T: ...
    def pop(self, key: K, /, default: object = _MISSING) -> object:
        """Remove the member with this key and return it; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: There is no such member, and no default is given.
        """
        found = self._reader.find([key])
        if key not in found and default is not _MISSING:
            return default
        self._reader.collection.remove(found[key])
        return found[key]

    def popitem(self) -> tuple[K, V]:
        """Remove the member with the last key and return both; one SELECT.

        Raises:
            KeyError: The dictionary is empty.
        """
        member = self._reader.find_last()
        if member is None:
            raise KeyError(f"{self._reader.config.label} is empty")
        self._reader.collection.remove(member)
        return self._reader.config.key_of(member), member

    def clear(self) -> None:
        """Remove all members, each as ``del`` does; they are loaded, 1,000 at a time."""
        for member in self.values():
            self._reader.collection.remove(member)

    def _check(self, key: object, member: object, session: Session | None) -> None:
        """Raise unless `member` can be in this dictionary under `key`."""
        config = self._reader.config
        if not isinstance(member, config.member):
            raise InvalidArgumentError(
                f"{config.label} has members of {config.member.__name__}, and {member!r} is none"
            )
        state = instance_state(member)
        if state.deleted or state.was_deleted:
            raise StateError(
                f"{config.label} cannot hold {member!r}: its row was deleted when the session was flushed; put a "
                "removed member back before that, or pass it to sqlalchemy.orm.make_transient() to insert it again"
            )
        if (member_key := config.key_of(member)) != key:
            raise KeyMismatchError(
                f"{config.label} cannot hold {member!r} under {key!r}: its own key, {config.key.key!r}, is "
                f"{member_key!r}; use that, or set it first"
            )
        if config.to_column_value(key) is ABSENT:
            raise InvalidArgumentError(
                f"{config.label} cannot hold {member!r} under {key!r}, which {config.key.key!r} cannot store as a key; "
                "give the member a key that is a value of its column"
            )
        member_session, owner_session = object_session(member), session or object_session(self._reader.owner)
        if member_session is not None and owner_session is not None and member_session is not owner_session:
            raise StateError(f"{config.label} cannot hold {member!r}, which is in another session; merge it first")

    def _put(self, new: Mapping[K, V], session: Session | None, *, replace: bool = True) -> dict[K, V]:
        """Add members, and return those that had their keys before.

        Args:
            new: The members to add, by key.
            session: The session of the owner.
            replace: Remove the members that have these keys now. Otherwise they stay, and the new ones are left out.
        """
        collection, new_ids = self._reader.collection, {id(member) for member in new.values()}
        self._leave_out(new.values(), session)
        with undo_unflushed(self._reader, new.values(), session) as undone:
            found: dict[K, V] = {}
            for keys in chunks(dict.fromkeys([*new, *undone.stored_keys]), _MAX_KEYS):
                found |= self._reader.find(keys)
            former = {key: member for key, member in found.items() if key in new}
            if replace:
                for member in former.values():
                    if id(member) not in new_ids:
                        collection.remove(member)
            self._flush_deletions(new, new_ids, session)
        present = {id(member) for member in found.values()} - undone.removed_ids
        collection.add_all(
            member
            for key, member in new.items()
            if id(member) not in present and (replace or former.get(key, member) is member)
        )
        return former

    def _flush_deletions(self, new: Mapping[K, V], new_ids: Container[int], session: Session | None) -> None:
        """Flush if rows with the keys of `new` are to be deleted: SQLAlchemy inserts and updates before it deletes."""
        config = self._reader.config
        if session is None:
            return
        removed = config.history_of(self._reader.owner).deleted
        leaving = [*removed, *(each for each in session.deleted if isinstance(each, config.member))]
        rows = [each for each in leaving if instance_state(each).has_identity and id(each) not in new_ids]
        keys = [config.stored_key_of(each) for each in rows]
        # A key that is not known any more may be one of the new ones.
        if any(key is None or key in new for key in keys):
            session.flush()

    def _leave_out(self, members: Iterable[V], session: Session | None) -> None:
        """Leave new members, which a back reference may have added, out of the flush that deletes the replaced rows."""
        added = {id(member) for member in self._reader.config.history_of(self._reader.owner).added}
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
        config = self._reader.config
        if not isinstance(value, config.member):
            return False
        key = config.key_of(value)
        return self._reader.find([key]).get(key) is value
