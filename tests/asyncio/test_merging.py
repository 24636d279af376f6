"""What happens to objects that are gathered into a session, and to those that it holds already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import ForeignKey, String, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    attributes,
    defer,
    joinedload,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
    undefer,
)

from sqla_patterns.asyncio import gather_scalars
from tests._support import count_statements

from ._models import Author, Book, Maker

ONE = select(Author).where(Author.id == 1)


async def test_an_object_of_the_session_stays_the_same_object(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        ((found,),) = await gather_scalars(maker, [ONE], into=session)
        assert found is own


async def test_pending_changes_stay_and_are_flushed(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        own.name = "mine"
        await gather_scalars(maker, [ONE], into=session)
        assert own.name == "mine"
        await session.commit()
    async with maker() as session:
        assert (await session.get_one(Author, 1)).name == "mine"


async def test_values_that_the_session_has_loaded_stay(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        await session.commit()
        async with maker.begin() as other:
            await other.execute(update(Author).values(name="theirs"))
        await gather_scalars(maker, [ONE], into=session)
        assert own.name == "a1"


async def test_populate_existing_takes_the_values_of_the_database(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        own.name = "mine"
        ((found,),) = await gather_scalars(maker, [ONE.execution_options(populate_existing=True)], into=session)
        assert found is own
        assert own.name == "a1"
        assert not session.is_modified(own)


async def test_what_an_object_of_the_session_lacks_is_filled_in(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        assert {"notes", "books"} & set(own.__dict__) == set()
        full = ONE.options(undefer(Author.notes), selectinload(Author.books))
        await gather_scalars(maker, [full], into=session)
        assert own.notes == ""
        assert [book.title for book in own.books] == ["b11", "b12"]
        assert all(book in session for book in own.books)
        assert not session.dirty


async def test_an_expired_object_is_filled_in_without_sql(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        session.expire(own)
        with count_statements(pooled) as log:
            await gather_scalars(maker, [ONE], into=session)
            assert own.name == "a1"
            assert own.data == {"n": 1}
        assert len(log) == 1


async def test_an_attribute_that_was_deleted_stays_deleted(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        del own.name
        await gather_scalars(maker, [ONE], into=session)
        assert "name" not in own.__dict__


async def test_an_object_that_is_to_be_deleted_is_deleted(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1, options=[selectinload(Author.books)])
        await session.delete(own)
        ((found,),) = await gather_scalars(maker, [ONE], into=session)
        assert found is own
        await session.commit()
    async with maker() as session:
        assert await session.get(Author, 1) is None


async def test_a_deletion_that_is_flushed_survives_the_merge_and_a_rollback_takes_it_back(
    runner: asyncio.Runner, maker: Maker, pooled: AsyncEngine
) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1, options=[selectinload(Author.books)])
        await session.delete(own)
        await session.flush()
        ((found,),) = await gather_scalars(maker, [ONE], into=session)
        await session.rollback()
        again = await session.get_one(Author, 1)
        assert again in {own, found}
        assert again.name == "a1"


async def test_members_added_to_a_collection_that_is_not_loaded_stay_added(
    runner: asyncio.Runner, maker: Maker
) -> None:
    async with maker() as session:
        own = await session.get_one(Author, 1)
        with session.no_autoflush:
            new = Book(title="new", author=own)
            session.add(new)
        assert "books" not in own.__dict__
        await gather_scalars(maker, [ONE.options(selectinload(Author.books))], into=session)
        assert [book.title for book in own.books] == ["b11", "b12", "new"]
        assert new in session.new


async def test_two_statements_that_load_one_row_share_its_object(runner: asyncio.Runner, maker: Maker) -> None:
    authors = select(Author).order_by(Author.id).options(selectinload(Author.books))
    books = select(Book).order_by(Book.id).options(joinedload(Book.author))
    async with maker() as session:
        found: Any = await gather_scalars(maker, [authors, books], into=session)
        assert [book.author for book in found[1]] == [author for author in found[0] for _ in range(2)]
        assert [book for author in found[0] for book in author.books] == found[1]
        assert len(session.identity_map) == 9


async def test_keyed_collections_are_merged_by_key(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        book = await session.get_one(Book, 1)
        ((author,),) = await gather_scalars(maker, [ONE.options(selectinload(Author.by_title))], into=session)
        assert list(author.by_title) == ["b11", "b12"]
        assert author.by_title["b11"] is book


async def test_changes_inside_of_a_mutable_value_are_tracked(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        held = await session.get_one(Author, 1, options=[defer(Author.data)])
        found = await gather_scalars(maker, [select(Author).order_by(Author.id)], into=session)
        for author in found[0]:
            author.data["more"] = True
        assert set(session.dirty) == set(found[0])
        assert held in found[0]
        await session.commit()
    async with maker() as session:
        assert (await session.scalars(select(Author.data).order_by(Author.id))).all() == [
            {"n": n, "more": True} for n in (1, 2, 3)
        ]


async def test_loader_options_stay_with_the_objects(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        ((author,),) = await gather_scalars(maker, [ONE.options(raiseload(Author.books))], into=session)
        with pytest.raises(Exception, match="raise"):
            await session.run_sync(lambda _: author.books)


async def test_objects_that_are_false_and_cannot_be_hashed_are_merged(
    runner: asyncio.Runner, pooled: AsyncEngine
) -> None:
    class Own(MappedAsDataclass, DeclarativeBase):
        pass

    class Thing(Own, eq=True):
        __tablename__ = "thing"
        __hash__ = None  # type: ignore[assignment]
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("thing.id"), default=None)
        parent: Mapped[Thing | None] = relationship(remote_side="Thing.id", default=None)
        name: Mapped[str] = mapped_column(String(10), default="x")

        def __bool__(self) -> bool:
            return False

    async with pooled.begin() as connection:
        await connection.run_sync(Own.metadata.create_all)
    maker = async_sessionmaker(pooled)
    async with maker() as session:
        session.add(Thing(id=2, parent=Thing(id=1)))
        await session.commit()
    async with maker() as session:
        own = await session.get_one(Thing, 1)
        session.expire(own)
        statement = select(Thing).order_by(Thing.id).options(joinedload(Thing.parent))
        ((first, second),) = await gather_scalars(maker, [statement], into=session)
        assert first is own
        assert second.parent is own
        assert own.name == "x"
    Own.registry.dispose()


async def test_what_an_object_of_a_subclass_lacks_is_filled_in(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    class Own(DeclarativeBase):
        pass

    class Animal(Own):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        tricks: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    async with pooled.begin() as connection:
        await connection.run_sync(Own.metadata.create_all)
    maker = async_sessionmaker(pooled)
    async with maker() as session:
        session.add(Dog(id=1, tricks=3))
        await session.commit()
    async with maker() as session:
        own = (await session.scalars(select(Animal))).one()
        assert "tricks" not in own.__dict__
        ((dog,),) = await gather_scalars(maker, [select(Dog)], into=session)
        assert dog is own
        assert dog.tricks == 3
    Own.registry.dispose()


async def test_values_beside_objects_stay_as_they_are(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        found: Any = await gather_scalars(maker, [select(Author.name).order_by(Author.id), ONE], into=session)
        assert found[0] == ["a1", "a2", "a3"]
        assert found[1] == [await session.get_one(Author, 1)]


async def test_merged_objects_can_be_changed_refreshed_and_deleted(runner: asyncio.Runner, maker: Maker) -> None:
    statement = select(Author).order_by(Author.id).options(selectinload(Author.books))
    async with maker() as session:
        (authors,) = await gather_scalars(maker, [statement], into=session)
        authors[0].name = "changed"
        authors[1].books.append(Book(title="more"))
        await session.delete(authors[2])
        await session.commit()
        await session.refresh(authors[0])
        assert authors[0].name == "changed"
    async with maker() as session:
        found = (await session.scalars(statement)).all()
        assert [(author.name, len(author.books)) for author in found] == [("changed", 2), ("a2", 3)]


async def test_merging_tells_the_session_that_the_objects_are_persistent(runner: asyncio.Runner, maker: Maker) -> None:
    async with maker() as session:
        ((author,),) = await gather_scalars(maker, [ONE], into=session)
        assert inspect(author).persistent
        assert not inspect(author).modified
        assert attributes.get_history(author, "name").unchanged == ["a1"]
