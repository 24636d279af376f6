"""Helpers over write-only collections, in sessions of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session

from sqla_patterns.asyncio import add_all, count, delete_where, exists, page, stream_batches
from sqla_patterns.exceptions import InvalidArgumentError
from tests._support import StatementLog

from ._models import Base, Item, Shelf, Tag

Statements = Callable[..., AbstractContextManager[StatementLog]]


@pytest.fixture
def shelf(engine: Engine, session: Session) -> Shelf:
    """Make a shelf with items a to g and six tags, and another one with as many."""
    Base.metadata.create_all(engine)
    for number in (1, 2):
        each = Shelf(id=number, name=f"s{number}")
        session.add(each)
        each.items.add_all(Item(name=name) for name in "abcdefg")
        each.tags.add_all(Tag(kind=f"{kind}{number}", number=n) for kind in "xy" for n in (1, 2, 3))
        session.flush()
    session.commit()
    return session.get_one(Shelf, 1)


def test_count_is_one_select_count(session: Session, shelf: Shelf, statements: Statements) -> None:
    assert shelf.id == 1
    with statements() as log:
        assert count(session, shelf.items) == 7
    assert len(log) == 1
    assert "count(*)" in log.text
    assert "ORDER BY" not in log.text


def test_count_takes_criteria(session: Session, shelf: Shelf) -> None:
    assert count(session, shelf.items, Item.name > "b", Item.name < "f") == 3


def test_a_many_to_many_collection_is_counted(session: Session, shelf: Shelf) -> None:
    assert count(session, shelf.tags) == 6
    assert count(session, shelf.tags, Tag.number == 1) == 2


def test_exists_is_one_select_of_one_row(session: Session, shelf: Shelf, statements: Statements) -> None:
    assert shelf.id == 1
    with statements() as log:
        assert exists(session, shelf.items, Item.name == "c")
        assert not exists(session, shelf.items, Item.name == "z")
    assert len(log) == 2
    assert "LIMIT" in log.text


def test_members_that_are_not_flushed_are_counted_after_the_flush(session: Session, shelf: Shelf) -> None:
    shelf.items.add(Item(name="h"))
    assert count(session, shelf.items) == 8


# -- pages -------------------------------------------------------------------------------------------------------------


def test_pages_follow_the_order_of_the_relationship(session: Session, shelf: Shelf, statements: Statements) -> None:
    assert shelf.id == 1
    with statements() as log:
        pages = [[item.name for item in page(session, shelf.items, size=3, number=n)] for n in (1, 2, 3, 4)]
    assert pages == [["g", "f", "e"], ["d", "c", "b"], ["a"], []]
    assert len(log) == 4


def test_pages_follow_an_order_of_ones_own_that_names_come_after(session: Session, shelf: Shelf) -> None:
    assert [item.name for item in page(session, shelf.items, size=2, order_by=Item.name)] == ["a", "b"]
    found = page(session, shelf.items, size=2, order_by=[func.abs(Item.shelf_id), Item.name.desc()])
    assert [item.name for item in found] == ["g", "f"]


def test_members_that_compare_equal_are_on_one_page_each(session: Session, shelf: Shelf) -> None:
    pages = [page(session, shelf.tags, size=2, number=n, order_by=Tag.kind.desc()) for n in (1, 2, 3)]
    assert [(tag.kind, tag.number) for each in pages for tag in each] == [
        ("y1", 1), ("y1", 2), ("y1", 3), ("x1", 1), ("x1", 2), ("x1", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(("argument", "value"), [("size", 0), ("number", 0), ("size", "3"), ("number", 1.0)])
def test_a_page_that_is_no_number_is_refused(argument: str, value: Any, session: Session, shelf: Shelf) -> None:
    with pytest.raises(InvalidArgumentError, match=f"needs a {argument} of at least 1"):
        page(session, shelf.items, **{"size": 3, argument: value})


# -- adding and deleting -----------------------------------------------------------------------------------------------


def test_members_are_added_in_one_flush(session: Session, shelf: Shelf, statements: Statements) -> None:
    assert shelf.id == 1
    with statements() as log:
        add_all(session, shelf.items, [Item(name="h"), Item(name="i")])
    assert log.starting("SELECT") == []
    assert count(session, shelf.items) == 9


def test_a_mistake_shows_where_members_are_added(session: Session, shelf: Shelf) -> None:
    with pytest.raises(IntegrityError):
        add_all(session, shelf.items, [Item(id=1, name="taken")])
    session.rollback()
    assert count(session, shelf.items) == 7


def test_members_are_deleted_in_one_delete(session: Session, shelf: Shelf, statements: Statements) -> None:
    assert shelf.id == 1
    with statements() as log:
        assert delete_where(session, shelf.items, Item.name > "c") == 4
    assert len(log.starting("DELETE")) == 1
    assert count(session, shelf.items) == 3
    assert session.scalar(select(func.count(Item.id))) == 10


def test_members_in_the_session_are_deleted_with_their_rows(session: Session, shelf: Shelf) -> None:
    items = session.scalars(shelf.items.select()).all()
    assert delete_where(session, shelf.items) == 7
    assert [item in session for item in items] == [False] * 7


# -- batches -----------------------------------------------------------------------------------------------------------


def test_batches_follow_the_primary_key(session: Session, shelf: Shelf, statements: Statements) -> None:
    assert shelf.id == 1
    with statements() as log:
        batches = [[item.name for item in batch] for batch in stream_batches(session, shelf.items, 3)]
    assert batches == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert len(log) == 3


def test_a_full_last_batch_is_followed_by_one_select_more(
    session: Session, shelf: Shelf, statements: Statements
) -> None:
    assert shelf.id == 1
    with statements() as log:
        assert [len(batch) for batch in stream_batches(session, shelf.items, 7)] == [7]
    assert len(log) == 2


def test_batches_follow_a_key_of_two_columns(session: Session, shelf: Shelf) -> None:
    found = [[(tag.kind, tag.number) for tag in batch] for batch in stream_batches(session, shelf.tags, 4)]
    assert found == [[("x1", 1), ("x1", 2), ("x1", 3), ("y1", 1)], [("y1", 2), ("y1", 3)]]


def test_the_loop_may_commit_and_delete(session: Session, shelf: Shelf) -> None:
    for batch in stream_batches(session, shelf.items, 2):
        for item in batch:
            session.delete(item)
        session.commit()
    assert count(session, shelf.items) == 0


def test_the_loop_may_be_left_at_any_time(session: Session, shelf: Shelf) -> None:
    for _ in stream_batches(session, shelf.items, 2):
        break
    assert count(session, shelf.items) == 7


def test_a_size_that_is_no_number_is_refused_at_the_call(session: Session, shelf: Shelf) -> None:
    with pytest.raises(InvalidArgumentError, match="needs a size of at least 1"):
        stream_batches(session, shelf.items, 0)


@pytest.mark.parametrize("function", [count, exists, delete_where, lambda s, c: page(s, c, size=1), stream_batches])
def test_what_is_no_write_only_collection_is_refused(function: Any, session: Session, shelf: Shelf) -> None:
    with pytest.raises(InvalidArgumentError, match="annotated as WriteOnlyMapped"):
        function(session, [1, 2])


# -- asyncio -----------------------------------------------------------------------------------------------------------


async def _shelf(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(engine)
    async with maker() as session:
        shelf = Shelf(id=1, name="s")
        session.add(shelf)
        await session.run_sync(add_all, shelf.items, [Item(name=name) for name in "abcde"])
        await session.commit()
    return maker


async def test_under_asyncio_the_helpers_run_by_run_sync(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _shelf(pooled)
    async with maker() as session:
        shelf = await session.get_one(Shelf, 1)
        assert await session.run_sync(count, shelf.items, Item.name > "b") == 3
        assert await session.run_sync(exists, shelf.items)
        assert [i.name for i in await session.run_sync(page, shelf.items, size=2)] == ["e", "d"]
        assert await session.run_sync(delete_where, shelf.items, Item.name == "a") == 1


async def test_under_asyncio_batches_are_awaited(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _shelf(pooled)
    async with maker() as session:
        shelf = await session.get_one(Shelf, 1)
        found: list[list[str]] = []
        async for batch in stream_batches(session, shelf.items, 2):
            found.append([item.name for item in batch])
            await session.commit()
        assert found == [["a", "b"], ["c", "d"], ["e"]]


async def test_under_asyncio_a_loop_that_is_left_holds_no_cursor(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _shelf(pooled)
    async with maker() as session:
        shelf = await session.get_one(Shelf, 1)
        async for _ in stream_batches(session, shelf.items, 2):
            break
        assert await session.run_sync(count, shelf.items) == 5


async def test_a_scoped_async_session_iterates_too(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    scoped = async_scoped_session(await _shelf(pooled), asyncio.current_task)
    shelf = await scoped.get_one(Shelf, 1)
    assert [len(batch) async for batch in stream_batches(scoped, shelf.items, 3)] == [3, 2]
    await scoped.remove()


def test_the_kind_of_session_decides_on_the_kind_of_iterator(session: Session, shelf: Shelf) -> None:
    assert isinstance(stream_batches(session, shelf.items), Iterator)
    assert isinstance(stream_batches(AsyncSession(), shelf.items), AsyncIterator)
