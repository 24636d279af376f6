"""What a user of asyncio reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, assert_type

from sqlalchemy import ForeignKey, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, WriteOnlyMapped, mapped_column, relationship

from sqla_patterns.asyncio import (
    add_all,
    count,
    delete_where,
    exists,
    gather_calls,
    gather_scalars,
    page,
    stream_batches,
)


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    items: WriteOnlyMapped[Item] = relationship()


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
    name: Mapped[str]


async def scalars(
    maker: async_sessionmaker[AsyncSession], session: AsyncSession, scoped: async_scoped_session[AsyncSession]
) -> None:
    assert_type(await gather_scalars(maker, [select(Item), select(Item).where(Item.id > 1)]), list[Sequence[Item]])
    assert_type(await gather_scalars(maker, [select(Item.name)], into=session, limit=3), list[Sequence[str]])
    assert_type(await gather_scalars(maker, [select(func.count(Item.id))], into=scoped, timeout=1), list[Sequence[int]])
    both = await gather_scalars(maker, (select(Item).where(Item.id == n) for n in range(3)), return_exceptions=True)
    assert_type(both, list[Sequence[Item] | Exception])


async def different_scalars(maker: async_sessionmaker[AsyncSession]) -> None:
    two = await gather_scalars(maker, (select(Item), select(Shelf.id)))
    assert_type(two, tuple[Sequence[Item], Sequence[int]])
    three = await gather_scalars(maker, (select(Item), select(Shelf), select(func.count(Item.id))), limit=2)
    assert_type(three, tuple[Sequence[Item], Sequence[Shelf], Sequence[int]])
    assert_type(await gather_scalars(maker, tuple([select(Item)] * 9)), tuple[Sequence[Item], ...])
    assert_type(await gather_scalars(maker, [text("select 1")]), list[Sequence[Any]])
    errors = await gather_scalars(maker, (select(Item), select(Item)), return_exceptions=True)
    assert_type(errors, tuple[Sequence[Item] | Exception, ...])


async def names(session: AsyncSession) -> list[str]:
    return list(await session.scalars(select(Item.name)))


async def number(session: AsyncSession) -> int:
    return 1


async def calls(maker: async_sessionmaker[AsyncSession]) -> None:
    assert_type(await gather_calls(maker, names), tuple[list[str]])
    assert_type(await gather_calls(maker, names, number), tuple[list[str], int])
    assert_type(await gather_calls(maker, names, number, names, limit=2), tuple[list[str], int, list[str]])
    assert_type(await gather_calls(maker, *[number, number]), tuple[int, ...])
    assert_type(await gather_calls(maker, number, number, return_exceptions=True), tuple[int | Exception, ...])
    assert_type(await gather_calls(maker, lambda s: s.get(Item, 1)), tuple[Item | None])


def collections(session: Session, shelf: Shelf) -> None:
    assert_type(count(session, shelf.items, Item.id > 1), int)
    assert_type(exists(session, shelf.items), bool)
    assert_type(page(session, shelf.items, size=10, order_by=Item.name), Sequence[Item])
    assert_type(page(session, shelf.items, size=10, order_by=[Item.name, Item.id.desc()]), Sequence[Item])
    assert_type(delete_where(session, shelf.items, Item.name == "x"), int)
    assert_type(stream_batches(session, shelf.items), Iterator[Sequence[Item]])
    add_all(session, shelf.items, [Item(name="x")])


async def async_collections(session: AsyncSession, scoped: async_scoped_session[Any], shelf: Shelf) -> None:
    assert_type(await session.run_sync(count, shelf.items), int)
    assert_type(await session.run_sync(page, shelf.items, size=10), Sequence[Item])
    await session.run_sync(add_all, shelf.items, [Item(name="x")])
    assert_type(stream_batches(session, shelf.items, 100), AsyncIterator[Sequence[Item]])
    assert_type(stream_batches(scoped, shelf.items, 100), AsyncIterator[Sequence[Item]])
    async for batch in stream_batches(session, shelf.items):
        assert_type(batch[0].name, str)
