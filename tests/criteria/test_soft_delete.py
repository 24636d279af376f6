"""Soft deletion: what marks, what cascades, what comes back, and what is refused."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, ForeignKey, String, delete, event, func, insert, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, attribute_keyed_dict, mapped_column, relationship, sessionmaker

from sqla_patterns.criteria import SoftDelete, hard_delete, restore, soft_unique
from sqla_patterns.criteria._moments import next_stamp
from sqla_patterns.exceptions import InvalidArgumentError, MappingError, StateError
from tests._support import assert_migrates, count_statements
from tests.conftest import BaseFactory


class Library:
    """Shelves with books, in each kind of collection, and their notes, which are removed like any row."""

    def __init__(self, base: Any, kind: str = "list", *, backref: bool = True) -> None:
        back: dict[str, Any] = {"back_populates": "books"} if backref else {}
        forth: dict[str, Any] = {"back_populates": "shelf"} if backref else {}
        cascade = "all, delete-orphan"

        class Shelf(SoftDelete, base):
            __tablename__ = "soft_shelf"
            __table_args__ = (soft_unique("label"),)
            id: Mapped[int] = mapped_column(primary_key=True)
            label: Mapped[str] = mapped_column(String(20))
            if kind == "list":
                books: Mapped[list["Book"]] = relationship(cascade=cascade, order_by="Book.id", **forth)
            elif kind == "set":
                books: Mapped[set["Book"]] = relationship(cascade=cascade, **forth)
            else:
                books: Mapped[dict[int, "Book"]] = relationship(
                    cascade=cascade, collection_class=attribute_keyed_dict("id"), **forth
                )
            cover: Mapped["Cover | None"] = relationship(cascade=cascade, uselist=False)
            notes: Mapped[list["Note"]] = relationship(cascade=cascade)

        class Book(SoftDelete, base):
            __tablename__ = "soft_book"
            id: Mapped[int] = mapped_column(primary_key=True)
            shelf_id: Mapped[int] = mapped_column(ForeignKey("soft_shelf.id"))
            if backref:
                shelf: Mapped[Shelf] = relationship(**back)
            pages: Mapped[list["Page"]] = relationship(cascade=cascade)

        class Page(SoftDelete, base):
            __tablename__ = "soft_page"
            id: Mapped[int] = mapped_column(primary_key=True)
            book_id: Mapped[int] = mapped_column(ForeignKey("soft_book.id"))

        class Cover(SoftDelete, base):
            __tablename__ = "soft_cover"
            id: Mapped[int] = mapped_column(primary_key=True)
            shelf_id: Mapped[int] = mapped_column(ForeignKey("soft_shelf.id"))

        class Note(base):
            __tablename__ = "soft_note"
            id: Mapped[int] = mapped_column(primary_key=True)
            shelf_id: Mapped[int] = mapped_column(ForeignKey("soft_shelf.id"))

        self.kind = kind
        self.base, self.shelf, self.book, self.page = base, Shelf, Book, Page
        self.cover, self.note = Cover, Note

    def collect(self, members: Any) -> Any:
        members = list(members)
        if self.kind == "dict":
            return {each.id: each for each in members}
        return set(members) if self.kind == "set" else members

    @staticmethod
    def members(collection: Any) -> list[Any]:
        return sorted(getattr(collection, "values", collection.__iter__)(), key=lambda each: each.id)

    def remove(self, shelf: Any, book: Any) -> None:
        shelf.books.pop(book.id) if self.kind == "dict" else shelf.books.remove(book)

    def add(self, shelf: Any, book: Any) -> None:
        if self.kind == "dict":
            shelf.books[book.id] = book
        else:
            getattr(shelf.books, "add" if self.kind == "set" else "append")(book)

    def fill(self, engine: Engine) -> None:
        self.base.metadata.create_all(engine)
        with engine.begin() as connection:
            for key in (1, 2):
                connection.execute(insert(self.shelf.__table__), {"id": key, "label": str(key)})
            for key in (1, 2):
                rows = [{"id": key * 10 + i, "shelf_id": key} for i in range(3)]
                connection.execute(insert(self.book.__table__), rows)
                connection.execute(
                    insert(self.page.__table__), [{"id": row["id"], "book_id": row["id"]} for row in rows]
                )
                connection.execute(insert(self.cover.__table__), {"id": key, "shelf_id": key})
                connection.execute(insert(self.note.__table__), {"id": key, "shelf_id": key})


def _stamps(session: Session, cls: Any) -> dict[int, datetime | None]:
    table = cls.__table__
    return dict(map(tuple, session.connection().execute(select(table.c.id, table.c.deleted_at))))  # type: ignore[arg-type]


def _keys(session: Session, cls: Any) -> list[int]:
    return sorted(session.scalars(select(cls.id)))


@pytest.fixture
def library(plain_bases: BaseFactory, engine: Engine) -> Library:
    library = Library(plain_bases())
    library.fill(engine)
    return library


# -- deleting ------------------------------------------------------------------------------------


def test_deleting_marks_with_one_stamp_and_cascades_to_soft_deletable_children(
    library: Library, session: Session
) -> None:
    with count_statements() as log:
        session.delete(session.get_one(library.shelf, 1))
        session.flush()
    stamps = {
        *(stamp for key, stamp in _stamps(session, library.shelf).items() if key == 1),
        *(stamp for key, stamp in _stamps(session, library.book).items() if key < 20),
        *(stamp for key, stamp in _stamps(session, library.page).items() if key < 20),
        *(stamp for key, stamp in _stamps(session, library.cover).items() if key == 1),
    }
    assert log.starting("DELETE") == []
    assert len(stamps) == 1
    assert None not in stamps


def test_deleting_leaves_children_alone_that_have_no_mark(library: Library, session: Session) -> None:
    session.delete(session.get_one(library.shelf, 1))
    session.commit()
    assert _keys(session, library.note) == [1, 2]


def test_what_was_deleted_before_keeps_its_stamp(library: Library, session: Session) -> None:
    session.delete(session.get_one(library.book, 10))
    session.commit()
    before = _stamps(session, library.book)[10]
    session.delete(session.get_one(library.shelf, 1))
    session.commit()
    stamps = _stamps(session, library.book)
    assert stamps[10] == before != stamps[11]


def test_stamps_strictly_increase() -> None:
    stamps = [next_stamp() for _ in range(2000)]
    assert all(one < two for one, two in pairwise(stamps))


def test_a_deleted_object_has_its_stamp_in_memory_as_in_the_database(library: Library, session: Session) -> None:
    book = session.get_one(library.book, 10)
    session.delete(book)
    session.flush()
    in_memory = book.deleted_at
    session.commit()
    assert in_memory is not None
    assert in_memory == book.deleted_at
    assert book.deleted_at.tzinfo is UTC


def test_a_statement_that_deletes_marks(library: Library, session: Session) -> None:
    held = session.get_one(library.book, 10)
    with count_statements() as log:
        result: Any = session.execute(delete(library.book).where(library.book.shelf_id == 1))
    assert result.rowcount == 3
    assert log.starting("DELETE") == []
    assert held.deleted_at is not None
    assert _keys(session, library.book) == [20, 21, 22]


def test_a_legacy_query_that_deletes_marks(library: Library, session: Session) -> None:
    assert session.query(library.book).filter(library.book.id == 10).delete() == 1
    assert _stamps(session, library.book)[10] is not None


def test_a_statement_that_deletes_leaves_earlier_stamps_alone(library: Library, session: Session) -> None:
    session.execute(delete(library.book).where(library.book.id == 10))
    before = _stamps(session, library.book)[10]
    session.execute(delete(library.book))
    assert _stamps(session, library.book)[10] == before


@pytest.mark.only_on("sqlite", "postgresql")
def test_a_statement_that_deletes_returns_what_it_has_marked(library: Library, session: Session) -> None:
    found = session.scalars(delete(library.book).where(library.book.shelf_id == 1).returning(library.book.id))
    assert sorted(found) == [10, 11, 12]


def test_a_statement_removes_if_it_says_so(library: Library, session: Session) -> None:
    session.execute(delete(library.page).where(library.page.id == 10).execution_options(hard_delete=True))
    assert 10 not in _stamps(session, library.page)


def test_a_session_that_deletes_an_object_by_hand_late_is_refused(library: Library, engine: Engine) -> None:
    maker = sessionmaker(engine)

    @event.listens_for(maker, "before_flush")
    def late(session: Session, *_: object) -> None:
        session.delete(session.get_one(library.page, 20))

    with maker() as session:
        session.add(library.note(id=9, shelf_id=1))
        with pytest.raises(StateError, match="hard_delete"):
            session.flush()


def test_removing_the_parent_of_marked_rows_is_refused(plain_bases: BaseFactory, engine: Engine) -> None:
    base: Any = plain_bases()

    class Room(base):
        __tablename__ = "soft_room"
        id: Mapped[int] = mapped_column(primary_key=True)
        chairs: Mapped[list["Chair"]] = relationship(cascade="all")

    class Chair(SoftDelete, base):
        __tablename__ = "soft_chair"
        id: Mapped[int] = mapped_column(primary_key=True)
        room_id: Mapped[int] = mapped_column(ForeignKey("soft_room.id"))

    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Room(id=1, chairs=[Chair(id=1)]))
        session.commit()
        session.delete(session.get_one(Room, 1))
        with pytest.raises(StateError, match="Chair"):
            session.flush()
        session.rollback()
        hard_delete(session, session.get_one(Room, 1))
        session.commit()
        assert _keys(session, Chair) == []


# -- orphans -------------------------------------------------------------------------------------


@pytest.fixture(params=[(kind, backref) for kind in ("list", "set", "dict") for backref in (True, False)], ids=str)
def shelves(request: pytest.FixtureRequest, plain_bases: BaseFactory, engine: Engine) -> Library:
    kind, backref = request.param
    library = Library(plain_bases(), kind, backref=backref)
    library.fill(engine)
    return library


def _foreign_keys(session: Session, cls: Any) -> dict[int, int]:
    table = cls.__table__
    return dict(map(tuple, session.connection().execute(select(table.c.id, table.c.shelf_id))))  # type: ignore[arg-type]


def test_an_orphan_is_marked_and_keeps_its_foreign_key(shelves: Library, session: Session) -> None:
    shelf = session.get_one(shelves.shelf, 1)
    shelves.remove(shelf, session.get_one(shelves.book, 10))
    with count_statements() as log:
        session.commit()
    stamps, foreign = _stamps(session, shelves.book), _foreign_keys(session, shelves.book)
    assert (stamps[10] is not None, stamps[11], foreign[10]) == (True, None, 1)
    assert log.starting("DELETE") == []


def test_the_collection_in_memory_is_without_the_orphan(shelves: Library, session: Session) -> None:
    shelf = session.get_one(shelves.shelf, 1)
    shelves.remove(shelf, session.get_one(shelves.book, 10))
    session.flush()
    assert [each.id for each in shelves.members(shelf.books)] == [11, 12]


def test_a_child_that_moves_is_no_orphan(shelves: Library, session: Session) -> None:
    one, two = session.get_one(shelves.shelf, 1), session.get_one(shelves.shelf, 2)
    book = session.get_one(shelves.book, 10)
    _ = one.books, two.books
    shelves.remove(one, book)
    shelves.add(two, book)
    session.commit()
    assert (_stamps(session, shelves.book)[10], _foreign_keys(session, shelves.book)[10]) == (None, 2)


def test_a_collection_that_is_assigned_anew_has_orphans(shelves: Library, session: Session) -> None:
    shelf = session.get_one(shelves.shelf, 1)
    kept = [each for each in shelves.members(shelf.books) if each.id != 10]
    shelf.books = shelves.collect([*kept, shelves.book(id=99)])
    session.commit()
    stamps = _stamps(session, shelves.book)
    assert (stamps[10] is not None, stamps[99], _foreign_keys(session, shelves.book)[99]) == (True, None, 1)


def test_an_orphan_by_its_reference_is_marked(library: Library, session: Session) -> None:
    book = session.get_one(library.book, 10)
    _ = book.shelf
    book.shelf = None
    session.commit()
    assert (_stamps(session, library.book)[10] is not None, _foreign_keys(session, library.book)[10]) == (True, 1)


def test_a_scalar_orphan_is_marked(library: Library, session: Session) -> None:
    shelf = session.get_one(library.shelf, 1)
    shelf.cover = library.cover(id=9)
    session.commit()
    assert (_stamps(session, library.cover)[1] is not None, shelf.cover.id) == (True, 9)
    assert _foreign_keys(session, library.cover) == {1: 1, 2: 2, 9: 1}


def test_a_rollback_takes_a_deletion_back(library: Library, session: Session) -> None:
    book = session.get_one(library.book, 10)
    session.delete(book)
    session.flush()
    session.rollback()
    assert book.deleted_at is None
    assert inspect(book).persistent


# -- coming back, and going for good -------------------------------------------------------------


def test_restore_brings_back_what_was_deleted_with_it(library: Library, session: Session) -> None:
    session.delete(session.get_one(library.book, 10))
    session.commit()
    shelf = session.get_one(library.shelf, 1)
    session.delete(shelf)
    session.commit()
    restore(session, shelf)
    session.commit()
    assert (_keys(session, library.book), _keys(session, library.page)) == ([11, 12, 20, 21, 22], [11, 12, 20, 21, 22])
    assert [each.id for each in shelf.books] == [11, 12]


def test_restore_of_a_living_object_is_refused(library: Library, session: Session) -> None:
    with pytest.raises(StateError, match="not deleted"):
        restore(session, session.get_one(library.shelf, 1))


def test_restore_of_another_class_is_refused(library: Library, session: Session) -> None:
    with pytest.raises(InvalidArgumentError, match="SoftDelete"):
        restore(session, session.get_one(library.note, 1))


def test_restore_of_an_object_without_a_row_is_refused(library: Library, session: Session) -> None:
    with pytest.raises(StateError, match="no row"):
        restore(session, library.shelf(id=9, label=""))


def test_hard_delete_takes_hidden_children_along(library: Library, session: Session) -> None:
    shelf = session.get_one(library.shelf, 1)
    _ = shelf.books
    session.delete(session.get_one(library.book, 10))
    session.commit()
    hard_delete(session, shelf)
    session.commit()
    assert sorted(_stamps(session, library.book)) == [20, 21, 22]
    assert sorted(_stamps(session, library.page)) == [20, 21, 22]
    assert sorted(_stamps(session, library.shelf)) == [2]


def test_hard_delete_marks_what_else_was_deleted(library: Library, session: Session) -> None:
    session.delete(session.get_one(library.book, 20))
    hard_delete(session, session.get_one(library.page, 10))
    assert _stamps(session, library.book)[20] is not None


def test_hard_delete_of_a_deleted_object(library: Library, session: Session) -> None:
    page = session.get_one(library.page, 10)
    session.delete(page)
    session.commit()
    hard_delete(session, page)
    assert 10 not in _stamps(session, library.page)


def test_after_hard_delete_the_session_marks_again(library: Library, session: Session) -> None:
    hard_delete(session, session.get_one(library.page, 10))
    session.delete(session.get_one(library.page, 11))
    session.flush()
    assert _stamps(session, library.page)[11] is not None


@pytest.mark.parametrize("function", [restore, hard_delete])
def test_async_sessions_are_told_what_to_write(function: Callable[..., None], library: Library) -> None:
    with pytest.raises(InvalidArgumentError, match=r"await session.run_sync"):
        function(AsyncSession(), library.shelf(id=1, label=""))


async def test_everything_works_under_asyncio(plain_bases: BaseFactory, async_engine: AsyncEngine) -> None:
    library = Library(plain_bases())
    async with async_engine.begin() as connection:
        await connection.run_sync(library.base.metadata.create_all)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        session.add(library.shelf(id=1, label="x", books=[library.book(id=1), library.book(id=2)]))
        await session.commit()
        shelf = await session.get_one(library.shelf, 1)
        await session.delete(shelf)
        await session.commit()
        assert (await session.scalars(select(library.shelf))).all() == []
        assert shelf.deleted_at is not None
        await session.run_sync(restore, shelf)
        assert [each.id for each in shelf.books] == [1, 2]
        await session.run_sync(hard_delete, shelf)
        await session.commit()
        assert await session.scalar(select(func.count()).select_from(library.book)) == 0


# -- seeing --------------------------------------------------------------------------------------


def test_the_option_shows_what_is_deleted_and_what_it_loads(library: Library, session: Session) -> None:
    session.delete(session.get_one(library.shelf, 1))
    session.commit()
    session.expunge_all()
    shelf = session.scalars(
        select(library.shelf).execution_options(include_deleted=True).where(library.shelf.id == 1)
    ).one()
    assert [each.id for each in shelf.books] == [10, 11, 12]


def test_get_shows_what_is_deleted_by_the_option(library: Library, session: Session) -> None:
    session.delete(session.get_one(library.book, 10))
    session.commit()
    session.expunge_all()
    assert session.get(library.book, 10) is None
    assert session.get(library.book, 10, execution_options={"include_deleted": True}) is not None


def test_a_held_object_that_is_deleted_can_be_refreshed(library: Library, session: Session) -> None:
    book = session.get_one(library.book, 10)
    session.delete(book)
    session.commit()
    session.refresh(book)
    assert book.deleted_at is not None


def test_collections_skip_deleted_rows(library: Library, session: Session) -> None:
    session.delete(session.get_one(library.book, 10))
    session.commit()
    session.expunge_all()
    assert [each.id for each in session.get_one(library.shelf, 1).books] == [11, 12]


# -- uniqueness ----------------------------------------------------------------------------------


def test_a_value_is_unique_among_the_living(library: Library, session: Session) -> None:
    session.add(library.shelf(id=9, label="1"))
    with pytest.raises(IntegrityError):
        session.flush()


def test_the_value_of_a_deleted_row_may_be_taken(library: Library, session: Session) -> None:
    for key in (8, 9):
        session.delete(session.scalars(select(library.shelf).where(library.shelf.label == "1")).one())
        session.flush()
        session.add(library.shelf(id=key, label="1"))
        session.flush()
    assert _keys(session, library.shelf) == [2, 9]


def test_restoring_a_value_that_is_taken_is_an_error_of_the_database(library: Library, session: Session) -> None:
    shelf = session.get_one(library.shelf, 1)
    session.delete(shelf)
    session.flush()
    session.add(library.shelf(id=9, label="1"))
    session.flush()
    with pytest.raises(IntegrityError):
        restore(session, shelf)


def test_the_generated_column_is_no_attribute(library: Library) -> None:
    assert "sqla_living" in library.shelf.__table__.c
    assert not hasattr(library.shelf, "sqla_living")


def test_a_migration_creates_it(plain_bases: BaseFactory, engine: Engine) -> None:
    """Not only an index of that name: a deleted row keeps its value, and nobody else is in the way."""
    base: Any = plain_bases()

    class Page(SoftDelete, base):
        __tablename__ = "soft_migrated"
        __table_args__ = (soft_unique("slug", "place"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        slug: Mapped[str] = mapped_column(String(20))
        place: Mapped[int]

    source = assert_migrates(engine, base.metadata, "import sqla_patterns.criteria")
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    with engine.begin() as connection:
        namespace["upgrade"](Operations(MigrationContext.configure(connection)))
    with Session(engine) as session:
        for key in (1, 2, 3):
            session.add(Page(id=key, slug="a", place=1))
            session.commit()
            if key < 3:
                session.delete(session.get_one(Page, key))
                session.commit()
        session.add(Page(id=4, slug="a", place=1))
        with pytest.raises(IntegrityError):
            session.flush()


def test_soft_unique_of_a_column_that_is_not_there_is_refused(plain_bases: BaseFactory) -> None:
    with pytest.raises(MappingError, match="'slag'"):

        class Page(SoftDelete, plain_bases()):  # type: ignore[misc]
            __tablename__ = "soft_page"
            __table_args__ = (soft_unique("slag"),)
            id: Mapped[int] = mapped_column(primary_key=True)


def test_soft_unique_without_soft_delete_is_refused(plain_bases: BaseFactory, engine: Engine) -> None:
    base: Any = plain_bases()

    class Page(base):
        __tablename__ = "plain_page"
        __table_args__ = (soft_unique("slug"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        slug: Mapped[str] = mapped_column(String(20))

    with pytest.raises(MappingError, match=r"soft_unique\('slug'\) of the table 'plain_page'.*SoftDelete"):
        base.metadata.create_all(engine)
    assert not inspect(engine).has_table("plain_page")
    assert pickle.loads(pickle.dumps(base.metadata)).tables.keys() == {"plain_page"}


def test_soft_unique_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="names of columns"):
        soft_unique()


# -- mapping -------------------------------------------------------------------------------------


def test_a_subclass_alone_cannot_be_soft_deletable(plain_bases: BaseFactory) -> None:
    class Animal(plain_bases()):  # type: ignore[misc]
        __tablename__ = "soft_animal"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MappingError, match="topmost"):

        class Cat(SoftDelete, Animal):
            pass


@pytest.fixture
def animals(plain_bases: BaseFactory, engine: Engine) -> tuple[Any, Any]:
    class Animal(SoftDelete, plain_bases()):  # type: ignore[misc]
        __tablename__ = "soft_animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(9))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cat(Animal):
        __tablename__ = "soft_cat"
        id: Mapped[int] = mapped_column(ForeignKey("soft_animal.id"), primary_key=True)
        color: Mapped[str] = mapped_column(String(9))
        __mapper_args__ = {"polymorphic_identity": "cat"}

    Animal.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Animal(id=1), Cat(id=2, color="red"), Cat(id=3, color="grey")])
        session.commit()
    return Animal, Cat


def test_joined_subclasses_are_marked(animals: tuple[Any, Any], session: Session) -> None:
    animal, cat = animals
    session.delete(session.get_one(cat, 2))
    session.commit()
    assert (_keys(session, animal), _keys(session, cat)) == ([1, 3], [3])


def test_a_statement_that_deletes_joined_subclasses_marks(animals: tuple[Any, Any], session: Session) -> None:
    animal, cat = animals
    session.execute(delete(cat).where(cat.color == "red"))
    session.commit()
    assert _keys(session, animal) == [1, 3]


def test_plain_and_dataclass_bases_work(bases: BaseFactory, engine: Engine) -> None:
    class Card(SoftDelete, bases()):  # type: ignore[misc]
        __tablename__ = "soft_card"
        id: Mapped[int] = mapped_column(primary_key=True)

    Card.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Card(id=1))
        session.commit()
        session.delete(session.get_one(Card, 1))
        session.commit()
        assert _keys(session, Card) == []
