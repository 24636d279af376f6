"""What tests/attributes/test_instrumentation.py runs in a separate process; it prints what each function raised.

To import this changes how SQLAlchemy finds the state of any object in the process.
"""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, String, Table, create_engine, event, inspect, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    mapped_column,
    registry,
    relationship,
)
from sqlalchemy.pool import StaticPool

from sqla_patterns.attributes import ActiveDefaults, AttributeChange, listen_for_changes
from sqla_patterns.exceptions import InvalidArgumentError, MappingError, PatternError


class Before:
    """A class that is listened to before the extension is imported."""


instrumented: list[str] = []
event.listen(Before, "attribute_instrument", lambda cls, key, attribute: instrumented.append(key))

from sqla_patterns.attributes.instrumentation import DictInstrumentation  # noqa: E402


class Record:
    """A class that keeps unmapped attributes in the dictionary as well, as the upstream recipe does."""

    __sa_instrumentation_manager__ = DictInstrumentation.named("_goofy_dict")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in inspect(type(self)).class_manager:
            super().__setattr__(name, value)
        else:
            self._goofy_dict[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_goofy_dict")[name]
        except KeyError:
            raise AttributeError(name) from None


mapping = registry()


@mapping.mapped
class Author(Record):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Record):
    id: int
    title: str
    author: Author | None


_books = Table(
    "book",
    mapping.metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(20)),
    Column("author_id", ForeignKey("author.id")),
)
mapping.map_imperatively(Book, _books, properties={"author": relationship(Author, back_populates="books")})


class Plain(DeclarativeBase):
    """A base in the same process that has nothing to do with it."""


class Ordinary(Plain):
    __tablename__ = "ordinary"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


engine = create_engine("sqlite://", poolclass=StaticPool)


def _ada() -> Any:
    ada: Any = Author(name="Ada")  # type: ignore[call-arg]
    for title in ("one", "two"):
        book = Book()
        book.title = title
        ada.books.append(book)
    return ada


def values_are_in_the_dictionary() -> None:
    ada = _ada()
    assert ada._goofy_dict["name"] == "Ada"
    assert set(vars(ada)) == {"_goofy_dict", "_default_state"}


def what_is_not_mapped_can_share_the_dictionary() -> None:
    ada = _ada()
    ada.remark = "unmapped"
    assert ada.remark == ada._goofy_dict["remark"] == "unmapped"


def it_is_stored_and_loaded() -> None:
    with Session(engine) as session:
        session.add(_ada())
        session.commit()
    with Session(engine) as session:
        ada = session.scalars(select(Author)).one()
        assert [book.title for book in ada.books] == ["one", "two"]
        ada.books.remove(ada.books[0])
        session.commit()
        assert session.scalars(select(Book.title)).all() == ["two"]


def it_survives_expiring() -> None:
    with Session(engine) as session:
        ada = _ada()
        session.add(ada)
        session.commit()
        session.expire(ada)
        assert "name" not in ada._goofy_dict
        assert ada.name == ada._goofy_dict["name"] == "Ada"


def it_survives_a_refresh() -> None:
    with Session(engine) as session:
        ada = _ada()
        session.add(ada)
        session.commit()
        ada.name = "Eve"
        session.refresh(ada)
        assert ada.name == "Ada"


def it_survives_a_rollback() -> None:
    with Session(engine) as session:
        ada = _ada()
        session.add(ada)
        session.commit()
        ada.name = "Eve"
        session.rollback()
        assert ada.name == "Ada"


def it_survives_merging() -> None:
    with Session(engine) as session:
        ada = _ada()
        session.add(ada)
        session.commit()
        _ = ada.name, ada.books
    ada.name = "Eve"
    with Session(engine) as session:
        merged = session.merge(ada)
        assert merged is not ada
        assert merged._goofy_dict["name"] == "Eve"
        session.commit()
        assert session.scalars(select(Author.name)).all() == ["Eve"]


def it_survives_pickling() -> None:
    ada = _ada()
    ada.remark = "unmapped"
    copy = pickle.loads(pickle.dumps(ada))
    assert (copy.name, copy.remark, [book.title for book in copy.books]) == ("Ada", "unmapped", ["one", "two"])
    assert set(vars(copy)) == {"_goofy_dict", "_default_state"}


def a_persistent_object_survives_pickling() -> None:
    with Session(engine) as session:
        ada = _ada()
        session.add(ada)
        session.commit()
        _ = ada.name
        copy = pickle.loads(pickle.dumps(ada))
    with Session(engine) as session:
        session.add(copy)
        assert inspect(copy).persistent
        assert len(copy.books) == 2


def it_works_with_slots() -> None:
    class Slotted:
        __slots__ = ("__weakref__", "_default_state", "_values")
        __sa_instrumentation_manager__ = DictInstrumentation.named("_values")

    table = Table("slotted", mapping.metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
    mapping.map_imperatively(Slotted, table)
    table.create(engine)
    slotted: Any = Slotted()
    slotted.name = "x"
    assert not hasattr(slotted, "__dict__")
    with Session(engine) as session:
        session.add(slotted)
        session.commit()
        assert slotted.name == slotted._values["name"] == "x"


def two_hierarchies_may_have_two_dictionaries() -> None:
    @mapping.mapped
    class Other:
        __sa_instrumentation_manager__ = DictInstrumentation
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    other: Any = Other()
    other.id = 5
    assert (other._sqla_values, _ada()._goofy_dict["name"]) == ({"id": 5}, "Ada")


def a_subclass_keeps_its_values_in_the_same_dictionary() -> None:
    @mapping.mapped
    class Editor(Author):
        __tablename__ = "editor"
        id: Mapped[int] = mapped_column(ForeignKey("author.id"), primary_key=True)
        desk: Mapped[str] = mapped_column(String(20))

    configure_mappers()
    editor: Any = Editor(name="x", desk="y")  # type: ignore[call-arg]
    assert editor._goofy_dict["desk"] == "y"


def other_classes_of_the_process_work_as_before() -> None:
    _ada()
    with Session(engine) as session:
        session.add(Ordinary(name="x"))
        session.commit()
        assert vars(session.scalars(select(Ordinary)).one())["name"] == "x"


def listeners_from_before_the_import_are_kept() -> None:
    @mapping.mapped
    class Later(Before):
        __tablename__ = "later"
        id: Mapped[int] = mapped_column(primary_key=True)

    configure_mappers()
    assert Later.__tablename__ == "later"
    assert instrumented == ["id"]


def active_defaults_and_change_events_work_on_it() -> None:
    @mapping.mapped
    class Widget(ActiveDefaults):
        __sa_instrumentation_manager__ = DictInstrumentation.named("_widget")
        __tablename__ = "widget"
        id: Mapped[int] = mapped_column(primary_key=True)
        radius: Mapped[int] = mapped_column(default=30)

    told: list[AttributeChange[Any]] = []
    widget: Any = Widget()
    with listen_for_changes(Widget, told.append):
        assert widget.radius == widget._widget["radius"] == 30
        widget.radius = 31
    assert [(change.value, change.old) for change in told] == [(31, 30)]


def a_declarative_base_is_refused() -> None:
    class Base(DeclarativeBase):
        pass

    with pytest.raises(
        MappingError, match=r"Wrong cannot have .* derives from DeclarativeBase .* registry\.mapped"
    ) as raised:

        class Wrong(Base):
            __sa_instrumentation_manager__ = DictInstrumentation
            __tablename__ = "wrong"
            id: Mapped[int] = mapped_column(primary_key=True)

    assert isinstance(raised.value, PatternError)
    assert isinstance(raised.value, ArgumentError)


def a_base_class_in_common_with_another_instrumentation_is_refused() -> None:
    class Common:
        pass

    @mapping.mapped
    class One(Common):
        __tablename__ = "one"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MappingError, match="shares a base class with One, whose instrumentation is SQLAlchemy's own"):

        @mapping.mapped
        class Two(Common):
            __sa_instrumentation_manager__ = DictInstrumentation
            __tablename__ = "two"
            id: Mapped[int] = mapped_column(primary_key=True)

    assert One().id is None


def a_name_that_is_taken_is_refused() -> None:
    names: list[Any] = ["__dict__", "__slots__", "__mapper__", "class", "_default_state", "two words", "", 5, None]
    for name in names:
        with pytest.raises(InvalidArgumentError, match="cannot keep values there"):
            DictInstrumentation.named(name)


def slots_that_are_missing_are_named() -> None:
    table = Table("lacking", mapping.metadata, Column("id", Integer, primary_key=True))
    for slots, lacking in (
        (("__weakref__", "_values"), "'_default_state'"),
        (("_values", "_default_state"), "'__weakref__'"),
    ):
        space = {"__slots__": slots, "__sa_instrumentation_manager__": DictInstrumentation.named("_values")}
        with pytest.raises(MappingError, match=f"Lacking cannot have .* its __slots__ lack .* add {lacking}$"):
            mapping.map_imperatively(type("Lacking", (), space), table)


def an_attribute_with_the_name_of_the_dictionary_is_refused() -> None:
    class Named:
        __sa_instrumentation_manager__ = DictInstrumentation.named("name")

    table = Table("named", mapping.metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
    with pytest.raises(MappingError, match="Named cannot map 'name' and keep the values of attributes there too"):
        mapping.map_imperatively(Named, table)


def _outcome(check: Callable[[], None]) -> str:
    """Run one function on empty tables; return what it raised."""
    for metadata in (mapping.metadata, Plain.metadata):
        metadata.drop_all(engine)
        metadata.create_all(engine)
    try:
        check()
    except Exception:  # noqa: BLE001  # the test prints it
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    checks = {name: value for name, value in vars().items() if not name.startswith("_") and hasattr(value, "__code__")}
    print(json.dumps({name: _outcome(check) for name, check in checks.items() if check.__module__ == __name__}))
