"""The statements that read a write-only collection by key, and what has not been flushed beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import Select, func, not_
from sqlalchemy.orm import Session, WriteOnlyCollection, object_session

from ..exceptions import DuplicateKeyError, StateError
from ._shape import Shape, Unflushed, state_of

K = TypeVar("K")
V = TypeVar("V")

_PAGE: Final = 1000


class Reader(Generic[K, V]):
    """Reads the members of one object."""

    def __init__(self, owner: object, shape: Shape) -> None:
        self.owner: Final = owner
        self.shape: Final = shape

    @property
    def collection(self) -> WriteOnlyCollection[V]:
        return cast("WriteOnlyCollection[V]", getattr(self.owner, self.shape.relationship))

    def session(self) -> Session | None:
        """The session to read in; None if the owner is not in the database, which has nothing to read then."""
        state = state_of(self.owner)
        if not state.has_identity:
            return None
        if (session := object_session(self.owner)) is None:
            raise StateError(f"{self.shape.label} cannot be read: {state} is detached; add it to a session first")
        return session

    def look(self) -> tuple[Session | None, Unflushed[K, V]]:
        """Where to read, and what that read will not see."""
        session = self.session()
        # Before the statement is built, because what is flushed is no longer pending. Session.flush() refuses to run inside a
        # flush, for instance in a "before_flush" listener; an autoflush does nothing there, and asks this private attribute.
        if session is not None and session.autoflush and not getattr(session, "_flushing", False):
            session.flush()
        return session, Unflushed[K, V].of(self.owner, self.shape, session)

    def find(self, keys: Sequence[K]) -> dict[K, V]:
        """The members with these keys; one SELECT."""
        session, unflushed = self.look()
        found = {key: unflushed.added[key] for key in keys if key in unflushed.added}
        if session is None or not keys:
            return found
        wanted = self.shape.key == keys[0] if len(keys) == 1 else self.shape.key.in_(keys)
        statement = self._select(unflushed).where(wanted).add_columns(self.shape.key)
        asked = set(keys)
        for member, key in session.execute(statement).unique():
            # A collation may take "A" and "a" for one; a dictionary does not.
            if key not in asked:
                continue
            if key in found:
                raise self._duplicate(key)
            found[key] = member
        return found

    def contains(self, key: object) -> bool:
        session, unflushed = self.look()
        if key in unflushed.added:
            return True
        if session is None:
            return False
        statement = self._select(unflushed).where(self.shape.key == key).with_only_columns(self.shape.key)
        return key in session.scalars(statement).all()

    def count(self) -> int:
        session, unflushed = self.look()
        if session is None:
            return len(unflushed.added)
        statement = self._select(unflushed).with_only_columns(func.count(self.shape.identity[0]))
        return session.scalars(statement).one() + len(unflushed.added)

    def any(self) -> bool:
        session, unflushed = self.look()
        if unflushed.added or session is None:
            return bool(unflushed.added)
        statement = self._select(unflushed).with_only_columns(self.shape.identity[0]).limit(1)
        return session.execute(statement).first() is not None

    def last(self) -> V | None:
        """The member with the last key."""
        session, unflushed = self.look()
        if unflushed.added:
            return list(unflushed.added.values())[-1]
        if session is None:
            return None
        found = session.scalars(self._select(unflushed).order_by(self.shape.key.desc()).limit(1)).unique().one_or_none()
        return cast("V | None", found)

    def key_pages(self) -> Iterator[list[K]]:
        """Yield the keys in their order, a page at a time, those that are not flushed last."""
        return ([key for key, _ in page] for page in self._pages(self.shape.key))

    def item_pages(self) -> Iterator[list[tuple[K, V]]]:
        """Yield keys and members in the order of the keys, a page at a time, those that are not flushed last."""
        return self._pages(self.shape.member)

    def _select(self, unflushed: Unflushed[K, V]) -> Select[Any]:
        statement: Select[Any] = self.collection.select().order_by(None)
        if self.shape.nullable:
            statement = statement.where(self.shape.key.is_not(None))
        if unflushed.touched:
            statement = statement.where(not_(self.shape.is_one_of(unflushed.touched)))
        return statement

    def _pages(self, entity: Any) -> Iterator[list[tuple[K, Any]]]:
        """Yield what is there in pages by key, each one statement, which an index over foreign key and key serves.

        Not a server-side cursor: under MariaDB's, any other statement in the body of the loop silently cuts the iteration off,
        and under PostgreSQL's a commit ends it.
        """
        session, unflushed = self.look()
        key = self.shape.key
        columns: list[Any] = [entity, key, *self.shape.identity]
        statement = self._select(unflushed).with_only_columns(*columns).order_by(key).limit(_PAGE)
        # Each page begins with the last key of the page before: another row with that key may follow, which is an error, or
        # one whose key the collation takes for the same, which is not.
        page, rows = dict[tuple[Any, ...], K](), list[Any]()
        while session is not None:
            after = statement.where(key >= rows[-1][1]) if rows else statement
            rows = list(session.execute(after).unique())
            keys, fresh = set(page.values()), [row for row in rows if tuple(row[2:]) not in page]
            for row in fresh:
                if row[1] in keys:
                    raise self._duplicate(row[1])
                keys.add(row[1])
            yield [(row[1], row[0]) for row in fresh]
            if len(rows) < _PAGE or not fresh:
                break
            page = {tuple(row[2:]): row[1] for row in rows}
        yield list(unflushed.added.items())

    def _duplicate(self, key: object) -> DuplicateKeyError:
        return DuplicateKeyError(
            f"{self.shape.label} has several members with the key {key!r}; remove all but one, "
            f"and put a unique constraint over the foreign key and {self.shape.key.key!r}"
        )
