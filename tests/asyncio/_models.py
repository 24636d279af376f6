from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, ForeignKeyConstraint, Integer, String, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    WriteOnlyMapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)
from sqlalchemy.sql.elements import TextClause


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    notes: Mapped[str] = mapped_column(String(40), default="", deferred=True)
    data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan", order_by="Book.id")
    by_title: Mapped[dict[str, Book]] = relationship(
        collection_class=attribute_keyed_dict("title"), viewonly=True, order_by="Book.id"
    )


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str] = mapped_column(String(40))
    author: Mapped[Author] = relationship(back_populates="books")


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    items: WriteOnlyMapped[Item] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="Item.name.desc()"
    )
    tags: WriteOnlyMapped[Tag] = relationship(secondary=lambda: shelf_tag, passive_deletes=True)


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(40))


class Tag(Base):
    __tablename__ = "tag"
    # A key of two columns.
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


shelf_tag = Table(
    "shelf_tag",
    Base.metadata,
    Column("shelf_id", ForeignKey("shelf.id"), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("number", Integer, primary_key=True),
    ForeignKeyConstraint(["kind", "number"], ["tag.kind", "tag.number"]),
)

Maker = async_sessionmaker[AsyncSession]


async def make(engine: AsyncEngine, *, authors: int = 3, books: int = 2) -> Maker:
    """Make the tables with some rows, and return a maker of sessions."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(engine, expire_on_commit=False)
    async with maker() as session:
        session.add_all(
            Author(id=n, name=f"a{n}", data={"n": n}, books=[Book(title=f"b{n}{m}") for m in range(1, books + 1)])
            for n in range(1, authors + 1)
        )
        await session.commit()
    return maker


def sleep(database: str, seconds: float) -> TextClause:
    """Return a statement that takes some time in the database, and at most half a second on SQLite, which computes."""
    if database == "postgresql":
        return text(f"SELECT 1 FROM pg_sleep({seconds})")
    if database == "mariadb":
        return text(f"SELECT sleep({seconds})")
    rounds = int(min(seconds, 0.5) * 2_000_000)
    return text(
        f"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {rounds}) SELECT max(x) FROM c"
    )


async def others() -> set[str]:
    """Return the names of tasks that run beside this one, after those of drivers had a moment to end."""
    for _ in range(200):
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        if not rest:
            return set()
        await asyncio.sleep(0.01)
    return {repr(each) for each in rest}


def checked_out(engine: AsyncEngine) -> int:
    return int(engine.pool.checkedout())  # type: ignore[attr-defined]


@asynccontextmanager
async def disposing(engine: AsyncEngine) -> AsyncGenerator[AsyncEngine, None]:
    try:
        yield engine
    finally:
        await engine.dispose()


async def backends(connection: AsyncConnection) -> int:
    """Return how many connections the server counts for this database."""
    if connection.dialect.name == "postgresql":
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    else:
        query = "SELECT count(*) FROM information_schema.processlist WHERE db = database()"
    return int((await connection.execute(text(query))).scalar_one())
