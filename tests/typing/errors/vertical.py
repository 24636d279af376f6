"""What the checkers must refuse about vertical."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, attribute_keyed_dict, mapped_column, relationship

from sqla_patterns.vertical import (
    VerticalAttributes,
    VerticalMapping,
    VerticalSchema,
    VerticalValue,
    load_vertical,
    value_column,
)


class Base(DeclarativeBase):
    pass


class AnimalFact(VerticalValue, Base):
    __tablename__ = "animal_fact"
    animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    int_value: Mapped[int | None] = value_column(int)
    never_none: Mapped[int] = value_column(int)  # E: "MappedColumn[int | None]"
    other: Mapped[str | None] = value_column(int)  # E: "str | None"
    no_type: Mapped[int | None] = value_column(5)  # E: "int"


class Animal(VerticalMapping[int | None], Base):
    __tablename__ = "animal"
    __vertical__ = "facts"
    id: Mapped[int] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, AnimalFact]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan"
    )
    attrs = VerticalAttributes[int | None]("facts")
    no_schema = VerticalAttributes[int | None]("facts", schema={"x": int})  # E: "VerticalSchema | None"
    wrong = VerticalAttributes[int | None]("facts", schema=VerticalSchema({"x": 5}))  # E: "int"


def wrong(animal: Animal, session: Session, async_session: AsyncSession) -> None:
    animal.attrs["x"] = "seven"  # E: "str"
    animal.attrs[5] = 7  # E: "int"
    animal.attrs = {"x": object()}  # E: "object"
    animal.attrs.update({"x": 7.5})  # E: "float"
    animal["x"] = object()  # E: "object"
    number: int = animal.attrs["x"]  # E: "int | None"
    _ = Animal.attrs["x"] < object()  # E: "object"
    _ = Animal.attrs["x"] >= "seven"  # E: "str"
    Animal.attrs["x"].in_(["seven"])  # E: "str"
    Animal.attrs["x"].is_(5)  # E: "None"
    Animal.attrs["x"].like(5)  # E: "str"
    Animal.attrs["x"].value(5)  # E: "type[
    Animal.attrs.any_value("seven")  # E: "str"
    Animal.attrs[5]  # E: "int"
    load_vertical(async_session, Animal.attrs, [1])  # E: "AsyncSession"
    load_vertical(session, animal.attrs, [1])  # E: "VerticalDict[int | None]"
