"""The dictionary for an object of an ``AsyncSession``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final, Generic, TypeVar, cast, overload

from ._mapping import WriteOnlyDict
from ._reader import Reader
from ._shape import Shape

__all__ = ("AsyncWriteOnlyDict",)

K = TypeVar("K")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V")


class AsyncWriteOnlyDict(Generic[K, V]):
    """The dictionary for an object of an ``AsyncSession``; each operation does, awaited, what `WriteOnlyDict` does."""

    def __init__(self, owner: object, shape: Shape) -> None:
        self._mapping: Final = WriteOnlyDict[K, V](owner, shape)
        self._reader: Final = Reader[K, V](owner, shape)

    @overload
    async def get(self, key: K, /) -> V | None: ...
    @overload
    async def get(self, key: K, /, default: V | T) -> V | T: ...
    async def get(self, key: K, /, default: object = None) -> object:
        """Return the member, or the default; one SELECT by key.

        Raises:
            DuplicateKeyError: there are several.
        """
        return await self._run(lambda members: members.get(key, cast("V", default)))

    async def contains(self, key: K) -> bool:
        """Whether there is such a member; one SELECT of the key."""
        return await self._run(lambda members: key in members)

    async def count(self) -> int:
        """Return the number of members; one SELECT COUNT."""
        return await self._run(len)

    async def set(self, key: K, member: V) -> None:
        """Put a member in place of one that may be there; one SELECT, and a flush if there is another to replace.

        Raises:
            KeyMismatchError: the key is not that of the member.
            InvalidArgumentError: the member is not of the right class.
        """
        await self.update({key: member})

    async def update(self, members: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        """Put members in place of those with their keys: one SELECT for each 10,000, and one flush if any are replaced.

        Raises:
            KeyMismatchError: a key is not that of its member. As with the other errors, nothing is changed then.
            InvalidArgumentError: a value is not of the member's class.
            StateError: the owner is detached, or a member is in another session.
        """
        await self._run(lambda mine: mine.update(members))

    async def setdefault(self, key: K, default: V) -> V:
        """Return the member with this key, after adding the default if there is none; one SELECT.

        Raises:
            KeyMismatchError: the key is not that of the default.
        """
        return await self._run(lambda members: members.setdefault(key, default))

    async def pop(self, key: K) -> V:
        """Remove and return a member; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: there is none.
        """
        return await self._run(lambda members: members.pop(key))

    async def delete(self, key: K) -> None:
        """Remove a member; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: there is none.
        """
        await self.pop(key)

    async def clear(self) -> None:
        """Remove all members; they are loaded in pages of 1,000."""
        await self._run(lambda members: members.clear())

    async def keys(self) -> AsyncIterator[K]:
        """Yield the keys in the order of the keys, in pages of 1,000."""
        pages = self._reader.key_pages()
        while (page := await self._run(lambda _: next(pages, None))) is not None:
            for key in page:
                yield key

    async def values(self) -> AsyncIterator[V]:
        """Yield the members in the order of the keys, in pages of 1,000."""
        async for pair in self.items():
            yield pair[1]

    async def items(self) -> AsyncIterator[tuple[K, V]]:
        """Yield keys and members in the order of the keys, in pages of 1,000."""
        pages = self._reader.item_pages()
        while (page := await self._run(lambda _: next(pages, None))) is not None:
            for pair in page:
                yield pair

    def __repr__(self) -> str:
        return f"<Async{repr(self._mapping).removeprefix('<')}"

    async def _run(self, operation: Callable[[WriteOnlyDict[K, V]], R]) -> R:
        # Lazily, because SQLAlchemy 2.1 does not install greenlet.
        from sqlalchemy.ext.asyncio import async_object_session

        session = async_object_session(self._reader.owner)
        if session is None:
            # Not in a session, where everything is in memory, or detached, which is refused.
            return operation(self._mapping)
        return await session.run_sync(lambda _: operation(self._mapping))
