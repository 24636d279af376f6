"""What a user of vertical reads: the types of values on instances, and conditions on the class."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, assert_type

from sqlalchemy import ColumnElement, ForeignKey, Integer, select
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    MappedAsDataclass,
    MappedColumn,
    Session,
    aliased,
    attribute_keyed_dict,
    mapped_column,
    relationship,
    scoped_session,
)

from sqla_patterns.vertical import (
    KeyCriteria,
    PlainVerticalValue,
    VerticalAttributes,
    VerticalCriteria,
    VerticalDict,
    VerticalMapping,
    VerticalSchema,
    VerticalValue,
    VerticalValueOptions,
    load_vertical,
    value_column,
)


class Base(DeclarativeBase):
    pass


class Colour(Enum):
    RED = "red"


class AnimalFact(VerticalValue, Base):
    __tablename__ = "animal_fact"
    __vertical_value__ = VerticalValueOptions(any_value_index=False)
    animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    int_value: Mapped[int | None] = value_column(int)
    str_value: Mapped[str | None] = value_column(str)
    bool_value: Mapped[bool | None] = value_column(bool, index=False)
    colour_value: Mapped[Colour | None] = value_column(Colour, type_name="colour")
    json_value: Mapped[dict[str, Any] | None] = value_column(dict)


class Animal(VerticalMapping[int | str | bool | None], Base):
    __tablename__ = "animal"
    __vertical__ = "facts"
    id: Mapped[int] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, AnimalFact]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan"
    )
    attrs = VerticalAttributes[int | str | bool | None]("facts")
    checked = VerticalAttributes[int | str](
        "facts", schema=VerticalSchema({"cuteness": int, "note": str | None}, required=("color",))
    )
    in_pydantic: ClassVar[VerticalAttributes[int]] = VerticalAttributes("facts")


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Note(PlainVerticalValue, DataBase):
    __tablename__ = "note"
    page_id: Mapped[int] = mapped_column(ForeignKey("page.id"), primary_key=True, init=False)
    value: Mapped[Decimal | None] = value_column(Decimal)


class Page(DataBase):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    notes: Mapped[dict[str, Note]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan", init=False
    )
    numbers = VerticalAttributes[Decimal]("notes")


def columns(fact: AnimalFact) -> None:
    assert_type(value_column(int), MappedColumn[int | None])
    assert_type(value_column(str, Integer), MappedColumn[str | None])
    assert_type(fact.key, str)
    assert_type(fact.type, str | None)
    assert_type(fact.int_value, int | None)
    assert_type(AnimalFact.key, InstrumentedAttribute[str])
    assert_type(Note(Decimal(1)).value, Decimal | None)


def instances(animal: Animal, page: Page) -> None:
    assert_type(animal.attrs, VerticalDict[int | str | bool | None])
    assert_type(animal.attrs["x"], int | str | bool | None)
    assert_type(animal.attrs.get("x"), int | str | bool | None)
    assert_type(animal.attrs.copy(), dict[str, int | str | bool | None])
    assert_type(animal["x"], int | str | bool | None)
    assert_type(animal.get("x", 5.0), int | str | bool | float | None)
    assert_type(page.numbers["x"], Decimal)
    animal.attrs["x"] = 7
    animal.attrs["x"] = None
    animal["x"] = "seven"
    animal.attrs = {"x": 7, "y": None}
    animal.attrs = {"x": 7, "y": "seven"}
    animal.attrs = [("x", 7), ("y", "seven")]
    animal.attrs.update({"x": 7, "y": "seven", "z": True})
    animal.attrs.update([("x", 7), ("y", "seven")])
    animal.attrs.replace({"x": 7, "y": "seven"})
    animal.update({"x": 7, "y": "seven"})
    animal.attrs.update({"x": 7})
    animal.attrs.update(x=7, y="seven")
    animal.attrs |= {"x": 7}
    animal.attrs |= {"x": 7, "y": "seven", "z": True}
    animal.update({"x": 7})
    page.numbers.replace({"x": Decimal(1)})
    del animal.attrs["x"]
    del animal["x"]
    animal.in_pydantic.update(x=1)


def criteria(session: Session) -> None:
    assert_type(Animal.attrs, VerticalCriteria[int | str | bool | None])
    assert_type(Animal.attrs["x"], KeyCriteria[int | str | bool | None])
    assert_type(Animal.attrs["x"] == 7, ColumnElement[bool])
    assert_type(Animal.attrs["x"] != 7, ColumnElement[bool])
    assert_type(Animal.attrs["x"] < 7, ColumnElement[bool])
    assert_type(Animal.attrs["x"] <= 7, ColumnElement[bool])
    assert_type(Animal.attrs["x"] > "seven", ColumnElement[bool])
    assert_type(Animal.attrs["x"] >= 7, ColumnElement[bool])
    assert_type(~(Animal.attrs["x"] == 7), ColumnElement[bool])
    assert_type(Animal.attrs["x"].in_([7, "seven"]), ColumnElement[bool])
    assert_type(Animal.attrs["x"].like("s%"), ColumnElement[bool])
    assert_type(Animal.attrs["x"].is_(None), ColumnElement[bool])
    assert_type(Animal.attrs["x"].is_not(None), ColumnElement[bool])
    assert_type(Animal.attrs["x"].exists(), ColumnElement[bool])
    assert_type(Animal.attrs["x"].value(int), ColumnElement[int | None])
    assert_type(Animal.attrs.any_value(7), ColumnElement[bool])
    assert_type(aliased(Animal).attrs["x"] == 7, ColumnElement[bool])
    query = select(Animal).where(Animal.attrs["x"] == True, Animal.attrs["y"] > 4)  # noqa: E712
    query = query.order_by(Animal.attrs["x"].value(int).desc())
    for animal in session.scalars(query):
        assert_type(animal, Animal)


def loading(session: Session, scoped: scoped_session[Session]) -> None:
    assert_type(load_vertical(session, Animal.attrs, [1, 2]), dict[Any, dict[str, int | str | bool | None]])
    assert_type(load_vertical(scoped, Page.numbers, (1,)), dict[Any, dict[str, Decimal]])
