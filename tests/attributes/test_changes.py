"""Changes of attributes: what is told of each, on which classes, and when it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, ForeignKey, String, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    WriteOnlyMapped,
    attribute_keyed_dict,
    backref,
    composite,
    configure_mappers,
    mapped_column,
    registry,
    relationship,
    synonym,
    validates,
)

from sqla_patterns.attributes import AttributeChange, enable_active_defaults, listen_for_changes
from sqla_patterns.exceptions import InvalidArgumentError, MappingError

from . import _models as models


def _library(bases: Any) -> Any:
    Base = bases()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}

    class Author(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        name: Mapped[str | None] = mapped_column("author_name", String(20), **no_init)
        age: Mapped[int | None] = mapped_column(**no_init)
        note: Mapped[str | None] = mapped_column(String(20), deferred=True, **no_init)
        books: Mapped[list[Book]] = relationship(back_populates="author", **no_init)

    class Book(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        title: Mapped[str | None] = mapped_column(String(20), **no_init)
        kind: Mapped[str] = mapped_column(String(20), **no_init)
        author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"), **no_init)
        author: Mapped[Author | None] = relationship(back_populates="books", **no_init)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "book"}

    class Novel(Book):
        __tablename__ = "novel"
        id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True, **no_init)
        plot: Mapped[str | None] = mapped_column(String(20), **no_init)
        __mapper_args__ = {"polymorphic_identity": "novel"}

    return SimpleNamespace(Base=Base, Author=Author, Book=Book, Novel=Novel)


Told = list[AttributeChange[Any]]


def _brief(change: AttributeChange[Any]) -> tuple[str, str, Any, Any, bool]:
    return change.verb, change.key, change.value, change.old, change.old_known


# -- verbs ---------------------------------------------------------------------------------------


def test_setting_a_column_is_told_with_the_old_value(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Author, told.append):
        author = m.Author()
        author.age = 1
        author.age = 2
    assert [_brief(change) for change in told] == [("set", "age", 1, None, True), ("set", "age", 2, 1, True)]
    assert told[0].target is author


@pytest.mark.parametrize("old", [0, None, False])
def test_a_falsy_old_value_is_told(bases: Any, old: Any) -> None:
    m = _library(bases)
    told: Told = []
    author = m.Author()
    author.age = old
    with listen_for_changes(m.Author, told.append):
        author.age = 5
    assert _brief(told[0]) == ("set", "age", 5, old, True)


def test_deleting_a_column_is_told_as_a_delete(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    author = m.Author()
    author.age = 3
    with listen_for_changes(m.Author, told.append):
        del author.age
    assert [_brief(change) for change in told] == [("delete", "age", None, 3, True)]


def test_a_value_after_a_delete_replaces_nothing(bases: Any, engine: Engine, session: Session) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    assert author.age == 40
    del author.age
    told: Told = []
    with listen_for_changes(m.Author, told.append):
        author.age = 3
    assert [_brief(change) for change in told] == [("set", "age", 3, None, True)]


def test_deleting_a_reference_is_told_as_a_delete(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    author, book = m.Author(), m.Book()
    book.author = author
    with listen_for_changes(m.Book, told.append, keys=["author"]):
        del book.author
    assert [_brief(change) for change in told] == [("delete", "author", None, author, True)]


def test_setting_a_reference_is_told_at_both_ends(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Base, told.append):
        author, book = m.Author(), m.Book()
        told.clear()
        book.author = author
    assert sorted((change.key, change.verb, change.propagated) for change in told) == [
        ("author", "set", False),
        ("books", "append", True),
    ]


def test_appending_is_told_at_both_ends(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Base, told.append):
        author, book = m.Author(), m.Book()
        told.clear()
        author.books.append(book)
    assert sorted((change.key, change.verb, change.propagated) for change in told) == [
        ("author", "set", True),
        ("books", "append", False),
    ]


def test_a_member_that_is_removed_is_told_as_a_remove(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    author, book = m.Author(), m.Book()
    author.books.append(book)
    with listen_for_changes(m.Author, told.append):
        author.books.remove(book)
    assert [_brief(change) for change in told] == [("remove", "books", book, None, False)]


def test_assigning_a_collection_is_told_whole_and_then_in_its_differences(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    author, one, two, three = m.Author(), m.Book(), m.Book(), m.Book()
    author.books = [one, two]
    with listen_for_changes(m.Author, told.append):
        author.books = [two, three]
    assert [_brief(change) for change in told] == [
        ("bulk_replace", "books", [two, three], [one, two], True),
        ("append", "books", three, None, False),
        ("remove", "books", one, None, False),
    ]


def test_the_first_collection_of_a_new_object_replaces_an_empty_one(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    author, book = m.Author(), m.Book()
    with listen_for_changes(m.Author, told.append):
        author.books = [book]
    assert _brief(told[0]) == ("bulk_replace", "books", [book], [], True)


def test_keyed_and_write_only_collections_are_heard(plain_bases: Any) -> None:
    Base = plain_bases()

    class Parent(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        by_name: Mapped[dict[str, Child]] = relationship(collection_class=attribute_keyed_dict("name"))
        many: WriteOnlyMapped[Child] = relationship(overlaps="by_name")

    class Child(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))

    Parent.by_name.property.argument = lambda: Child
    Parent.many.property.argument = lambda: Child
    told: Told = []
    with listen_for_changes(Parent, told.append):
        parent, child = Parent(), Child(name="x")
        parent.by_name["x"] = child
        parent.by_name = {"x": child}
        parent.many.add(child)
    assert [(change.verb, change.key) for change in told] == [
        ("append", "by_name"),
        ("bulk_replace", "by_name"),
        ("append", "many"),
    ]


def test_the_value_is_the_one_that_validators_and_mutable_types_return(plain_bases: Any) -> None:
    class Checked(plain_bases()):  # type: ignore[misc]
        __tablename__ = "checked"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        data: Mapped[dict[str, int]] = mapped_column(MutableDict.as_mutable(sa.JSON()))

        @validates("name")
        def _upper(self, key: str, value: str) -> str:
            return value.upper()

    told: Told = []
    with listen_for_changes(Checked, told.append):
        Checked(name="x", data={})
    assert told[0].value == "X"
    assert isinstance(told[1].value, MutableDict)


def test_an_exception_of_the_listener_prevents_the_change(bases: Any) -> None:
    m = _library(bases)
    author = m.Author()

    def refuse(change: AttributeChange[Any]) -> None:
        raise ValueError(change.key)

    with listen_for_changes(m.Author, refuse), pytest.raises(ValueError, match="age"):
        author.age = 1
    assert author.age is None


def test_a_change_is_frozen_and_compares_by_identity(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Author, told.append):
        m.Author().age = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        told[0].key = "x"  # type: ignore[misc]
    assert told[0] != dataclasses.replace(told[0])


def test_a_default_that_is_read_is_no_change(bases: Any) -> None:
    m = models.widgets(bases)
    told: Told = []
    with listen_for_changes(m.Base, told.append), enable_active_defaults(m.Base):
        assert m.Widget().radius == 30
    assert told == []


# -- what was not loaded -------------------------------------------------------------------------


def _stored(m: Any, engine: Engine, session: Session) -> Any:
    m.Base.metadata.create_all(engine)
    author, book = m.Author(), m.Book()
    author.name, author.age, author.note = "Ada", 40, "n"
    author.books.append(book)
    session.add(author)
    session.commit()
    session.expire_all()
    return author


def _change(author: Any, key: str) -> Any:
    value = {"age": 41, "note": "m", "books": []}[key]
    setattr(author, key, value)
    return value


@pytest.mark.parametrize("key", ["age", "note"])
def test_an_old_value_that_is_not_loaded_is_unknown(
    bases: Any, engine: Engine, session: Session, statements: Callable[..., Any], key: str
) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    told: Told = []
    with listen_for_changes(m.Author, told.append), statements() as log:
        value = _change(author, key)
    assert [_brief(change) for change in told] == [("set", key, value, None, False)]
    assert len(log) == 0


@pytest.mark.parametrize(("key", "old"), [("age", 40), ("note", "n")])
def test_active_history_loads_an_old_value_in_one_select(
    bases: Any, engine: Engine, session: Session, statements: Callable[..., Any], key: str, old: Any
) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    _ = author.name
    session.expire(author, [key])
    told: Told = []
    with listen_for_changes(m.Author, told.append, active_history=True), statements() as log:
        value = _change(author, key)
    assert [_brief(change) for change in told] == [("set", key, value, old, True)]
    assert len(log) == 1
    session.commit()
    assert getattr(author, key) == value


def test_active_history_loads_a_reference_without_a_flush(
    bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    book = author.books[0]
    session.expire(book)
    other = m.Author()
    session.add(other)
    told: Told = []
    with listen_for_changes(m.Book, told.append, keys=["author"], active_history=True), statements() as log:
        book.author = other
    assert _brief(told[0]) == ("set", "author", other, author, True)
    assert log.starting("INSERT", "UPDATE") == []


def test_active_history_loads_the_members_of_a_collection(bases: Any, engine: Engine, session: Session) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    told: Told = []
    with listen_for_changes(m.Author, told.append, active_history=True):
        author.books = []
    assert told[0].old == [session.scalars(select(m.Book)).one()]


def test_the_members_of_a_collection_that_is_not_loaded_are_unknown(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    told: Told = []
    with listen_for_changes(m.Author, told.append):
        author.books = []
    assert _brief(told[0]) == ("bulk_replace", "books", [], None, False)


def test_active_history_loads_a_reference_that_refuses_to_be_read(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    class Shelf(plain_bases()):  # type: ignore[misc]
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)
        above_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
        above: Mapped[Any] = relationship(lambda: Shelf, remote_side=[id], lazy="raise")

    Shelf.metadata.create_all(engine)
    above = Shelf()
    shelf = Shelf(above=above)
    session.add(shelf)
    session.commit()
    told: Told = []
    with listen_for_changes(Shelf, told.append, keys=["above"], active_history=True):
        shelf.above = None
    assert [(change.old, change.old_known) for change in told] == [(above, True)]


def test_active_history_of_a_detached_object_is_unknown(bases: Any, engine: Engine, session: Session) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    session.expunge(author)
    told: Told = []
    with listen_for_changes(m.Author, told.append, active_history=True):
        author.age = 1
    assert _brief(told[0]) == ("set", "age", 1, None, False)


def test_active_history_is_in_force_on_subclasses_that_are_mapped_later(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    m = _library(plain_bases)
    told: Told = []
    with listen_for_changes(m.Book, told.append, active_history=True):

        class Poem(m.Book):  # type: ignore[misc,name-defined]
            __mapper_args__ = {"polymorphic_identity": "poem"}

        m.Base.metadata.create_all(engine)
        poem = Poem(title="one")
        session.add(poem)
        session.commit()
        told.clear()
        poem.title = "two"
    assert [_brief(change) for change in told] == [("set", "title", "two", "one", True)]


@pytest.mark.parametrize("key", ["age", "note"])
async def test_under_asyncio_an_old_value_is_never_loaded(bases: Any, async_session: AsyncSession, key: str) -> None:
    m = _library(bases)
    await (await async_session.connection()).run_sync(m.Base.metadata.create_all)
    author = m.Author()
    author.age, author.note = 40, "n"
    async_session.add(author)
    await async_session.commit()
    async_session.expire(author)
    told: Told = []
    with listen_for_changes(m.Author, told.append, active_history=True):
        value = _change(author, key)
    assert [_brief(change) for change in told] == [("set", key, value, None, False)]
    await async_session.commit()
    assert await async_session.scalar(select(getattr(m.Author, key))) == value


async def test_under_asyncio_a_loaded_old_value_is_known(bases: Any, async_session: AsyncSession) -> None:
    m = _library(bases)
    await (await async_session.connection()).run_sync(m.Base.metadata.create_all)
    author = m.Author()
    author.age = 40
    async_session.add(author)
    await async_session.commit()
    told: Told = []
    with listen_for_changes(m.Author, told.append, active_history=True):
        author.age = 41
    assert [_brief(change) for change in told] == [("set", "age", 41, 40, True)]


# -- which classes and attributes ----------------------------------------------------------------


def test_an_inherited_attribute_is_told_once(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Base, told.append):
        novel = m.Novel()
        told.clear()
        novel.title, novel.plot = "x", "y"
    assert [(change.key, change.target) for change in told] == [("title", novel), ("plot", novel)]


def test_a_subclass_is_heard_and_its_base_is_not(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Novel, told.append):
        m.Book().title = "x"
        m.Novel().title = "y"
    assert [change.value for change in told if change.key == "title"] == ["y"]


def test_classes_that_are_mapped_later_are_heard(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}
    told: Told = []
    with listen_for_changes(m.Base, told.append):

        class Later(m.Base):  # type: ignore[misc,name-defined]
            __tablename__ = "later"
            id: Mapped[int] = mapped_column(primary_key=True, **no_init)

        Later().id = 3
    assert [change.key for change in told] == ["id"]


def test_a_mixin_is_a_target(plain_bases: Any) -> None:
    class Audited:
        pass

    told: Told = []
    with listen_for_changes(Audited, told.append):

        class Thing(Audited, plain_bases()):  # type: ignore[misc]
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)

        Thing(id=3)
    assert [change.value for change in told] == [3]


@pytest.mark.parametrize("name", ["Plain", "Imperative"])
def test_classes_of_a_registry_are_heard(name: str) -> None:
    cls = getattr(models.mapped(), name)
    told: Told = []
    with listen_for_changes(cls, told.append):
        cls().id = 3
    assert [change.key for change in told] == ["id"]


def test_a_class_that_is_mapped_imperatively_later_is_heard_until_the_handle_is_detached() -> None:
    class Thing:
        pass

    told: Told = []
    handle = listen_for_changes(Thing, told.append)
    mapping = registry()
    mapping.map_imperatively(Thing, sa.Table("thing", mapping.metadata, sa.Column("id", sa.Integer, primary_key=True)))
    Thing().id = 1  # type: ignore[attr-defined]
    handle.detach()
    Thing().id = 2  # type: ignore[attr-defined]
    assert [change.value for change in told] == [1]


def test_back_references_of_other_classes_are_heard(plain_bases: Any) -> None:
    Base = plain_bases()

    class One(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "one"
        id: Mapped[int] = mapped_column(primary_key=True)

    configure_mappers()
    told: Told = []
    with listen_for_changes(One, told.append, keys=["id"]), listen_for_changes(One, told.append):

        class Many(Base):  # type: ignore[misc,valid-type]
            __tablename__ = "many"
            id: Mapped[int] = mapped_column(primary_key=True)
            one_id: Mapped[int] = mapped_column(ForeignKey("one.id"))
            one = relationship(One, backref=backref("manies"))

        one = One()
        one.manies.append(Many())  # type: ignore[attr-defined]
    assert [change.key for change in told] == ["manies"]


def test_a_key_may_be_a_back_reference_that_is_not_configured_yet(plain_bases: Any) -> None:
    Base = plain_bases()

    class One(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "one"
        id: Mapped[int] = mapped_column(primary_key=True)

    configure_mappers()

    class Many(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "many"
        id: Mapped[int] = mapped_column(primary_key=True)
        one_id: Mapped[int] = mapped_column(ForeignKey("one.id"))
        one = relationship(One, backref=backref("manies"))

    told: Told = []
    with listen_for_changes(One, told.append, keys=["manies"]):
        Many(one=One())
    assert [change.propagated for change in told] == [True]


def test_a_column_that_is_added_after_configuration_is_heard(plain_bases: Any) -> None:
    class Thing(plain_bases()):  # type: ignore[misc]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    configure_mappers()
    told: Told = []
    with listen_for_changes(Thing, told.append):
        Thing.late = mapped_column(sa.Integer)
        Thing().late = 8
    assert [change.key for change in told] == ["late"]


def test_keys_limit_what_is_heard(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Author, told.append, keys={"age"}):
        author = m.Author()
        author.name, author.age = "x", 1
    assert [change.key for change in told] == ["age"]


def test_a_key_of_a_subclass_is_a_key(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Book, told.append, keys=["plot"]):
        m.Novel().plot = "x"
    assert [change.key for change in told] == ["plot"]


def test_a_composite_is_heard_as_its_columns(plain_bases: Any) -> None:
    @dataclasses.dataclass
    class Point:
        x: int
        y: int

    class Dot(plain_bases()):  # type: ignore[misc]
        __tablename__ = "dot"
        id: Mapped[int] = mapped_column(primary_key=True)
        x: Mapped[int] = mapped_column()
        y: Mapped[int] = mapped_column()
        point: Mapped[Any] = composite(Point, "x", "y")

    told: Told = []
    with listen_for_changes(Dot, told.append):
        Dot().point = Point(1, 2)
    assert [(change.key, change.value) for change in told] == [("x", 1), ("y", 2)]


# -- the handle ----------------------------------------------------------------------------------


def test_detaching_ends_it(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    handle = listen_for_changes(m.Base, told.append)
    configure_mappers()
    handle.detach()
    author = m.Author()
    author.age = 1
    author.books = [m.Book()]
    assert told == []


def test_detaching_leaves_no_listener_on_the_attributes(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    before = [len(list(m.Author.books.dispatch.append)), len(list(m.Author.age.dispatch.set))]
    listen_for_changes(m.Base, print).detach()
    assert [len(list(m.Author.books.dispatch.append)), len(list(m.Author.age.dispatch.set))] == before


def test_detaching_before_configuration_ends_it(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    listen_for_changes(m.Base, told.append).detach()
    m.Author().age = 1
    assert told == []


def test_active_history_ends_with_it(
    bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = _library(bases)
    author = _stored(m, engine, session)
    listen_for_changes(m.Author, print, active_history=True).detach()
    with statements() as log:
        author.age = 1
    assert len(log) == 0


def test_listening_twice_is_listening_once(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    with listen_for_changes(m.Author, told.append), listen_for_changes(m.Author, told.append):
        m.Author().age = 1
    assert len(told) == 1


def test_two_functions_are_two_listeners(bases: Any) -> None:
    m = _library(bases)
    one: Told = []
    two: Told = []
    with listen_for_changes(m.Author, one.append):
        with listen_for_changes(m.Author, two.append):
            m.Author().age = 1
        m.Author().age = 2
    assert ([change.value for change in one], [change.value for change in two]) == ([1, 2], [1])


def test_a_handle_can_be_entered_again(bases: Any) -> None:
    m = _library(bases)
    told: Told = []
    handle = listen_for_changes(m.Author, told.append)
    handle.detach()
    m.Author().age = 1
    with handle:
        m.Author().age = 2
    assert [change.value for change in told] == [2]


def test_a_function_may_detach_its_own_handle(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    told: Told = []

    def first_only(change: AttributeChange[Any]) -> None:
        told.append(change)
        handle.detach()

    handle = listen_for_changes(m.Author, first_only, keys=["age", "name"])
    author = m.Author()
    author.age, author.name, author.age = 1, "x", 2
    assert [change.value for change in told] == [1]


def test_a_handle_that_its_function_has_detached_can_be_attached_again(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    told: Told = []

    def first_only(change: AttributeChange[Any]) -> None:
        told.append(change)
        handle.detach()

    handle = listen_for_changes(m.Author, first_only, keys=["age"])
    author = m.Author()
    author.age = 1
    with handle:
        author.age = 2
    author.age = 3
    assert [change.value for change in told] == [1, 2]


def test_a_function_may_attach_another_which_hears_of_the_next_change(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    told: Told = []

    def attach(change: AttributeChange[Any]) -> None:
        listen_for_changes(m.Author, told.append)

    with listen_for_changes(m.Author, attach, keys=["age"]):
        author = m.Author()
        author.age = 1
        author.age, author.name = 2, "x"
    assert [change.value for change in told] == [2, "x"]


def test_a_function_may_detach_another_which_hears_of_nothing_more(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    told: Told = []
    told_after: Told = []
    before = listen_for_changes(m.Author, told.append)
    with listen_for_changes(m.Author, lambda change: [before.detach(), after.detach()], keys=["age"]):
        after = listen_for_changes(m.Author, told_after.append)
        author = m.Author()
        author.age = 1
        author.age, author.name = 2, "x"
    assert ([change.value for change in told], told_after) == ([1], [])
    assert (before.attached, after.attached) == (False, False)


def test_a_function_may_attach_and_detach_while_a_collection_changes(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    told: Told = []

    def once(change: AttributeChange[Any]) -> None:
        with listen_for_changes(m.Base, told.append):
            change.target.age = len(told) + 1

    author = m.Author()
    with listen_for_changes(m.Author, once, keys=["books"]):
        author.books = [m.Book(), m.Book()]
        author.books.pop()
    assert [(change.key, change.value) for change in told] == [("age", number + 1) for number in range(len(told))]
    assert len(told) == 4


def test_what_was_detached_while_it_was_called_leaves_one_listener_that_is_used_again(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    for _ in range(3):
        handle = listen_for_changes(m.Author, lambda change: handle.detach(), keys=["age"])  # noqa: B023
        m.Author().age = 1
    assert len(list(m.Author.age.dispatch.set)) == 1


# -- bad input -----------------------------------------------------------------------------------


async def _awaited(change: AttributeChange[Any]) -> None:
    raise NotImplementedError


class _Mixin:
    pass


class _Awaited:
    async def __call__(self, change: AttributeChange[Any]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None, print), {}, "needs a class and was given None"),
        ((DeclarativeBase, print), {}, "pass your own declarative base"),
        ((object, print), {}, "pass your own declarative base"),
        ((_Mixin, "print"), {}, "needs a function of one argument and was given 'print'"),
        ((_Mixin, _awaited), {}, "would have to be awaited"),
        ((_Mixin, print), {"keys": "name"}, "keys='name'; pass a sequence of names"),
        ((_Mixin, print), {"keys": []}, "pass a sequence of names, or leave it out"),
        ((_Mixin, print), {"keys": iter(())}, "pass a sequence of names, or leave it out"),
        ((_Mixin, print), {"keys": 5}, "keys=5; pass a sequence of names"),
        ((_Mixin, print), {"keys": [["name"]]}, "keys=[['name']]; pass a sequence of names"),
        ((_Mixin, print), {"keys": [1]}, "keys=[1]; pass a sequence of names"),
        ((_Mixin, _Awaited()), {}, "would have to be awaited"),
        ((int, print), {}, "pass your own declarative base"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        listen_for_changes(*arguments, **options)
    assert message in str(raised.value)


def test_an_unknown_key_is_refused_and_nothing_is_attached(bases: Any) -> None:
    m = _library(bases)
    configure_mappers()
    told: Told = []
    with pytest.raises(InvalidArgumentError, match=r"Author was given keys that are neither .*: 'agee'"):
        listen_for_changes(m.Author, told.append, keys=["age", "agee"])
    m.Author().age = 1
    assert told == []


def test_an_unknown_key_of_a_class_that_is_not_configured_is_refused_when_it_is(plain_bases: Any) -> None:
    m = _library(plain_bases)
    with listen_for_changes(m.Author, print, keys=["agee"]), pytest.raises(MappingError, match="'agee'"):
        configure_mappers()


def test_an_unknown_key_is_refused_also_when_other_classes_were_configured_first(plain_bases: Any) -> None:
    m, other = _library(plain_bases), _library(plain_bases)
    with listen_for_changes(m.Author, print, keys=["agee"]):
        other.Base.registry.configure()
        with pytest.raises(MappingError, match="'agee'"):
            configure_mappers()


def test_known_keys_of_a_class_that_is_not_configured_are_no_trouble(plain_bases: Any) -> None:
    m = _library(plain_bases)
    told: Told = []
    with listen_for_changes(m.Author, told.append, keys=["age"]):
        m.Author().age = 1
    assert [change.key for change in told] == ["age"]


@pytest.mark.parametrize("key", ["point", "other"])
def test_a_key_that_is_a_composite_or_a_synonym_is_refused(plain_bases: Any, key: str) -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    class Dot(plain_bases()):  # type: ignore[misc]
        __tablename__ = "dot"
        id: Mapped[int] = mapped_column(primary_key=True)
        x: Mapped[int] = mapped_column()
        other = synonym("x")
        point: Mapped[Any] = composite(Point, "x")

    configure_mappers()
    with pytest.raises(InvalidArgumentError, match="for a composite or a synonym those that it stands for"):
        listen_for_changes(Dot, print, keys=[key])


def test_nothing_is_kept_on_the_class_after_detaching(bases: Any) -> None:
    m = _library(bases)
    before = set(vars(m.Author))
    listen_for_changes(m.Author, print).detach()
    assert set(vars(m.Author)) == before
    assert inspect(m.Author).class_ is m.Author
