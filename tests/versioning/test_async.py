"""Under asyncio: no attribute that the library maintains is left expired, and none loads implicitly."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import String, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from sqla_patterns.versioning import (
    Versioned,
    VersionOptions,
    as_of,
    diff,
    erase,
    prune,
    restore,
    revert,
    revision,
    version_at,
    versioning_disabled,
    versions,
)
from tests.versioning._models import docs, history, library, tick


async def create(engine: AsyncEngine, metadata: Any) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


async def test_a_story_under_asyncio(plain_bases: Any, async_engine: AsyncEngine, async_session: AsyncSession) -> None:
    world = library(plain_bases())
    Book = world.Book
    await create(async_engine, world.metadata)
    session = async_session

    book = Book(id=1, title="a")
    session.add(book)
    await session.flush()
    assert (book.version, book.valid_from is not None, book.revision_id is not None) == (1, True, True)
    await session.commit()
    first = tick()
    with revision(session.sync_session, actor="ann"):
        book.title = "b"
        await session.flush()
        assert (book.version, book.valid_from > first, book.revision_id) == (2, True, 2)
        await session.commit()
    assert (book.version, book.title) == (2, "b")

    found = await session.run_sync(versions, book)
    assert [version.object.title for version in found] == ["a", "b"]
    assert found[1].revision.actor == "ann"
    assert diff(found[0], found[1]) == {"title": ("a", "b")}
    past = await session.run_sync(version_at, Book, 1, first)
    assert (past.title, past.price, past.author_id) == ("a", None, None)
    found = await session.run_sync(as_of, select(Book).where(Book.title == "a"), first)
    assert [each.title for each in found] == ["a"]

    await session.run_sync(revert, book, to=1)
    await session.commit()
    assert (book.title, book.version) == ("a", 3)
    await session.delete(book)
    await session.commit()
    again = await session.run_sync(restore, Book, 1)
    await session.commit()
    assert (again.title, again.version) == ("a", 4)
    assert await session.run_sync(prune, Book, keep=1) == 2
    await session.run_sync(erase, Book, 1)
    await session.commit()
    assert await session.run_sync(history, Book) == []


async def test_an_expired_attribute_can_be_set(
    plain_bases: Any, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    # Upstream's ``active_history`` loads the old value when an attribute is set: MissingGreenlet.
    Doc = docs(plain_bases())
    await create(async_engine, Doc.metadata)
    doc = Doc(title="a")
    async_session.add(doc)
    await async_session.commit()
    async_session.expire(doc)
    doc.title = "b"
    await async_session.commit()
    await async_session.refresh(doc)
    assert (doc.title, doc.version) == ("b", 2)
    async_session.expire(doc)
    doc.title = "b"
    await async_session.commit()
    await async_session.refresh(doc)
    assert doc.version == 2


async def test_bulk_statements_and_the_disabled_block(
    plain_bases: Any, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    Doc = docs(plain_bases(), period=True)
    await create(async_engine, Doc.metadata)
    session = async_session
    doc = Doc(title="a")
    session.add(doc)
    await session.commit()
    await session.execute(update(Doc).values(title="b"))
    assert (doc.title, doc.version) == ("b", 2)
    with versioning_disabled(session.sync_session):
        doc.title = "c"
        await session.commit()
    assert await session.run_sync(history, Doc, "title") == ["a"]


@pytest.mark.parametrize("how", ["optimistic", "plain"])
async def test_no_attribute_of_the_library_is_expired_after_a_flush(
    plain_bases: Any, async_engine: AsyncEngine, async_session: AsyncSession, how: str
) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True)
        use_mapper_versioning = how == "optimistic"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    await create(async_engine, Base.metadata)
    documents = [Doc(id=number, title="a") for number in range(1, 6)]
    async_session.add_all(documents)
    for title in "abc":
        for doc in documents:
            doc.title = title
        await async_session.flush()
        assert {doc.version for doc in documents} == {"abc".index(title) + 1}
        assert all(doc.valid_from for doc in documents)
    await async_session.commit()
