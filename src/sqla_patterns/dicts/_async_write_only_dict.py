"""`AsyncWriteOnlyDict`, the dictionary for objects of an ``AsyncSession``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final, Generic, TypeVar, cast, overload

from ._config import DictConfig
from ._reader import Reader
from ._write_only_dict import WriteOnlyDict

K = TypeVar("K")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V")


class AsyncWriteOnlyDict(Generic[K, V]):
    """The members of a write-only collection by key; each operation is that of `WriteOnlyDict`, and is awaited."""

    def __init__(self, owner: object, config: DictConfig) -> None:
        self._sync_dict: Final = WriteOnlyDict[K, V](owner, config)
        self._reader: Final = Reader[K, V](owner, config)

    @overload
    async def get(self, key: K, /) -> V | None: ...
    @overload
    async def get(self, key: K, /, default: V | T) -> V | T: ...
    async def get(self, key: K, /, default: object = None) -> object:
        """Return the member with this key, or `default`; one SELECT.

        Raises:
            DuplicateKeyError: There are several such members.
        """
        return await self._run(lambda sync_dict: sync_dict.get(key, cast("V", default)))

    async def contains(self, key: K) -> bool:
        """Return whether there is a member with this key; one SELECT of the key."""
        return await self._run(lambda sync_dict: key in sync_dict)

    async def count(self) -> int:
        """Return the number of members; one SELECT COUNT."""
        return await self._run(len)

    async def set(self, key: K, member: V) -> None:
        """Add a member, and replace the one that has the key; one SELECT, and a flush if there is one to replace.

        Raises:
            KeyMismatchError: `key` is not the key of the member.
            InvalidArgumentError: The member is not of the right class.
        """
        await self.update({key: member})

    async def update(self, members: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        """Add members, and replace those with their keys; one SELECT for each 10,000, one flush if any are replaced.

        Raises:
            KeyMismatchError: A key is not that of its member. As with the other errors, nothing is changed then.
            InvalidArgumentError: A value is not of the member's class.
            StateError: The owner is detached, or a member is in another session.
        """
        await self._run(lambda sync_dict: sync_dict.update(members))

    async def setdefault(self, key: K, default: V) -> V:
        """Return the member with this key, after adding the default if there is none; one SELECT.

        Raises:
            KeyMismatchError: `key` is not the key of the default.
        """
        return await self._run(lambda sync_dict: sync_dict.setdefault(key, default))

    async def pop(self, key: K) -> V:
        """Remove the member with this key and return it; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: There is no such member.
        """
        return await self._run(lambda sync_dict: sync_dict.pop(key))

    async def delete(self, key: K) -> None:
        """Remove the member with this key; one SELECT, and the DELETE at the next flush.

        Raises:
            KeyError: There is no such member.
        """
        await self.pop(key)

    async def clear(self) -> None:
        """Remove all members; they are loaded in pages of 1,000."""
        await self._run(lambda sync_dict: sync_dict.clear())

    async def keys(self) -> AsyncIterator[K]:
        """Yield the keys in their order, loaded in pages of 1,000."""
        pages = self._reader.key_pages()
        while (page := await self._run(lambda _: next(pages, None))) is not None:
            for key in page:
                yield key

    async def values(self) -> AsyncIterator[V]:
        """Yield the members in the order of the keys, loaded in pages of 1,000."""
        async for pair in self.items():
            yield pair[1]

    async def items(self) -> AsyncIterator[tuple[K, V]]:
        """Yield keys and members in the order of the keys, loaded in pages of 1,000."""
        pages = self._reader.item_pages()
        while (page := await self._run(lambda _: next(pages, None))) is not None:
            for pair in page:
                yield pair

    def __repr__(self) -> str:
        return f"<Async{repr(self._sync_dict).removeprefix('<')}"

    async def _run(self, operation: Callable[[WriteOnlyDict[K, V]], R]) -> R:
        # Imported here, because SQLAlchemy 2.1 does not install greenlet.
        from sqlalchemy.ext.asyncio import async_object_session

        session = async_object_session(self._reader.owner)
        if session is None:
            # The owner is in no session: it is new, so that all is in memory, or detached, which is refused.
            return operation(self._sync_dict)
        return await session.run_sync(lambda _: operation(self._sync_dict))
