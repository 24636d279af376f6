"""What checkers refuse of asyncio."""

from __future__ import annotations

from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, WriteOnlyMapped, mapped_column, relationship, sessionmaker

from sqla_patterns.asyncio import add_all, count, gather_calls, gather_scalars, page


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    items: WriteOnlyMapped[Item] = relationship()
    more: Mapped[list[Item]] = relationship()


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))


async def gather(maker: async_sessionmaker[AsyncSession], sync: sessionmaker[Session], session: AsyncSession) -> None:
    await gather_scalars(maker, select(Item))  # E:
    await gather_scalars(sync, [select(Item)])  # E:
    await gather_scalars(maker, [select(Item)], limit="3")  # E:
    await gather_calls(maker, lambda: 1)  # E:
    await gather_calls(sync, lambda s: s.get(Item, 1))  # E:


def collections(session: Session, own: AsyncSession, shelf: Shelf) -> None:
    count(own, shelf.items)  # E: AsyncSession
    count(session, shelf.more)  # E: WriteOnlyCollection
    add_all(session, shelf.items, [Shelf()])  # E: Shelf
    page(session, shelf.items)  # E: size
