"""Read a write-only collection by key, with one statement for each operation; unflushed changes count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import func, not_
from sqlalchemy.orm import Session, WriteOnlyCollection, object_session
from sqlalchemy.orm.attributes import instance_state

from .._sqlalchemy import autoflush
from .._typing import AnySelect
from ..exceptions import DuplicateKeyError, StateError
from ._config import DictConfig, UnflushedChanges
from ._keys import ABSENT

K = TypeVar("K")
V = TypeVar("V")

_PAGE_SIZE: Final = 1000


class Reader(Generic[K, V]):
    """Reads the members of one object from the database and from its unflushed changes."""

    def __init__(self, owner: object, config: DictConfig) -> None:
        self.owner: Final = owner
        self.config: Final = config

    @property
    def collection(self) -> WriteOnlyCollection[V]:
        """Return the write-only collection of the owner."""
        return self.config.collection_of(self.owner)

    def session(self) -> Session | None:
        """Return the session to read in; None if the owner has no row yet, so that there is nothing to read.

        Raises:
            StateError: The owner is detached.
        """
        state = instance_state(self.owner)
        if not state.has_identity:
            return None
        if (session := object_session(self.owner)) is None:
            raise StateError(f"{self.config.label} cannot be read: {state} is detached; add it to a session first")
        return session

    def prepare(self) -> tuple[Session | None, UnflushedChanges[K, V]]:
        """Flush if the session autoflushes; return the session to read in, and the changes that it does not see."""
        session = self.session()
        # Before the statement is built, because what is flushed is no longer pending.
        if session is not None:
            autoflush(session)
        return session, UnflushedChanges[K, V].of(self.owner, self.config, session)

    def find(self, keys: Sequence[K]) -> dict[K, V]:
        """Return the members with these keys, by key; one SELECT.

        Raises:
            DuplicateKeyError: Several members have one of the keys.
        """
        # Hashed first, as in a dictionary: an unhashable key is a TypeError.
        asked = set(keys)
        session, unflushed = self.prepare()
        found = {key: unflushed.added[key] for key in keys if key in unflushed.added}
        values = [value for value in map(self.config.to_column_value, keys) if value is not ABSENT]
        if session is None or not values:
            return found
        wanted = self.config.key == values[0] if len(values) == 1 else self.config.key.in_(values)
        statement = self._select(unflushed).where(wanted).add_columns(self.config.key)
        for member, key in session.execute(statement).unique():
            # A collation may take "A" and "a" for equal; a dictionary does not.
            if key not in asked:
                continue
            if key in found:
                raise self._duplicate(key)
            found[key] = member
        return found

    def contains(self, key: object) -> bool:
        """Return whether there is a member with this key; one SELECT of the key."""
        session, unflushed = self.prepare()
        if key in unflushed.added:
            return True
        value = self.config.to_column_value(key)
        if session is None or value is ABSENT:
            return False
        statement = self._select(unflushed).where(self.config.key == value).with_only_columns(self.config.key)
        return key in session.scalars(statement).all()

    def count(self) -> int:
        """Return the number of members; one SELECT COUNT."""
        session, unflushed = self.prepare()
        if session is None:
            return len(unflushed.added)
        statement = self._select(unflushed).with_only_columns(func.count(self.config.primary_key[0]))
        return session.scalars(statement).one() + len(unflushed.added)

    def has_members(self) -> bool:
        """Return whether there are members; one SELECT of one row."""
        session, unflushed = self.prepare()
        if unflushed.added or session is None:
            return bool(unflushed.added)
        statement = self._select(unflushed).with_only_columns(self.config.primary_key[0]).limit(1)
        return session.execute(statement).first() is not None

    def find_last(self) -> V | None:
        """Return the member with the last key; None if there are no members. One SELECT."""
        session, unflushed = self.prepare()
        if unflushed.added:
            return list(unflushed.added.values())[-1]
        if session is None:
            return None
        last = self._select(unflushed).order_by(self.config.key.desc()).limit(1)
        found: V | None = session.scalars(last).unique().one_or_none()
        return found

    def key_pages(self) -> Iterator[list[K]]:
        """Yield the keys in their order in pages of 1,000, unflushed ones last; one SELECT for each page."""
        return ([key for key, _ in page] for page in self._pages(self.config.key))

    def item_pages(self) -> Iterator[list[tuple[K, V]]]:
        """Yield keys and members in the order of the keys in pages of 1,000, unflushed ones last; one SELECT each."""
        return self._pages(self.config.member)

    def _select(self, unflushed: UnflushedChanges[K, V]) -> AnySelect:
        statement: AnySelect = self.collection.select().order_by(None)
        if self.config.nullable:
            statement = statement.where(self.config.key.is_not(None))
        if unflushed.changed:
            statement = statement.where(not_(self.config.has_primary_key_in(unflushed.changed)))
        return statement

    def _pages(self, entity: object) -> Iterator[list[tuple[K, Any]]]:
        """Yield pairs of key and `entity` in pages by key; an index over foreign key and key serves each SELECT.

        Not a server-side cursor: with MariaDB's, any other statement in the body of the loop cuts the iteration off
        without an error, and with PostgreSQL's a commit ends it.

        Args:
            entity: What to select beside the key: the class of the members, or an attribute of it.
        """
        session, unflushed = self.prepare()
        key = self.config.key
        columns: list[Any] = [entity, key, *self.config.primary_key]
        statement = self._select(unflushed).with_only_columns(*columns).order_by(key).limit(_PAGE_SIZE)
        # Each page begins with the last key of the page before: another row with that key may follow, which is an
        # error, or one whose key the collation takes for equal, which is not.
        page, rows = dict[tuple[object, ...], K](), list[Any]()
        while session is not None:
            after = statement.where(key >= rows[-1][1]) if rows else statement
            rows = list(session.execute(after).unique())
            keys, new_rows = set(page.values()), [row for row in rows if tuple(row[2:]) not in page]
            for row in new_rows:
                if row[1] in keys:
                    raise self._duplicate(row[1])
                keys.add(row[1])
            yield [(row[1], row[0]) for row in new_rows]
            if len(rows) < _PAGE_SIZE or not new_rows:
                break
            page = {tuple(row[2:]): row[1] for row in rows}
        yield list(unflushed.added.items())

    def _duplicate(self, key: object) -> DuplicateKeyError:
        return DuplicateKeyError(
            f"{self.config.label} has several members with the key {key!r}; remove all but one, "
            f"and put a unique constraint over the foreign key and {self.config.key.key!r}"
        )
