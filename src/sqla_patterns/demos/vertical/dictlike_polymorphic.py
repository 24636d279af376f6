"""Animals as dictionaries of their facts, which are numbers, texts and booleans in typed columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from enum import Enum

from sqlalchemy import ColumnElement, ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, attribute_keyed_dict, mapped_column, relationship

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.vertical import (
    MissingKeyError,
    UnknownKeyError,
    UnsupportedValueError,
    VerticalAttributes,
    VerticalMapping,
    VerticalSchema,
    VerticalValue,
    value_column,
)


class Diet(Enum):
    MEAT = "meat"
    PLANTS = "plants"


class Base(DeclarativeBase):
    pass


class AnimalFact(VerticalValue, Base):
    __tablename__ = "demo_polymorphic_fact"

    animal_id: Mapped[int] = mapped_column(ForeignKey("demo_polymorphic_animal.id"), primary_key=True)
    int_value: Mapped[int | None] = value_column(int)
    str_value: Mapped[str | None] = value_column(str)
    bool_value: Mapped[bool | None] = value_column(bool)
    decimal_value: Mapped[Decimal | None] = value_column(Decimal)
    date_value: Mapped[date | None] = value_column(date)
    diet_value: Mapped[Diet | None] = value_column(Diet, type_name="diet")


Fact = int | str | bool | Decimal | date | Diet | None


class Animal(VerticalMapping[Fact], Base):
    __tablename__ = "demo_polymorphic_animal"
    __vertical__ = "facts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    facts: Mapped[dict[str, AnimalFact]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan", lazy="selectin"
    )
    attrs = VerticalAttributes[Fact]("facts")


class PassportFact(VerticalValue, Base):
    __tablename__ = "demo_polymorphic_passport_fact"

    passport_id: Mapped[int] = mapped_column(ForeignKey("demo_polymorphic_passport.id"), primary_key=True)
    int_value: Mapped[int | None] = value_column(int)
    str_value: Mapped[str | None] = value_column(str)


class Passport(Base):
    __tablename__ = "demo_polymorphic_passport"

    id: Mapped[int] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, PassportFact]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan"
    )
    attrs = VerticalAttributes[int | str | None](
        "facts", schema=VerticalSchema({"number": int, "remark": str | None}, required=("number",))
    )


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        stoat = Animal(name="stoat")
        stoat["color"] = "red"
        stoat["cuteness"] = 7
        stoat["weasel-like"] = True
        session.add(stoat)
        session.commit()

        critter = session.scalars(select(Animal).where(Animal.name == "stoat")).one()
        assert (critter["color"], critter["cuteness"], critter["weasel-like"]) == ("red", 7, True)

        # A fact may change its type. The column of the old one is cleared, which a CHECK of the table sees to as well.
        critter["cuteness"] = "very"
        session.commit()
        row = critter.facts["cuteness"]
        options.say("cuteness:", row.value, "of the type", row.type)
        assert (row.type, row.int_value, row.str_value) == ("str", None, "very")

        for name, facts in {
            "marten": {"cuteness": 5, "weasel-like": True, "poisonous": False},
            "shrew": {"cuteness": 5, "weasel-like": False, "poisonous": True},
        }.items():
            animal = Animal(name=name)
            animal.update(facts)
            session.add(animal)
        session.commit()

        def names(*conditions: ColumnElement[bool]) -> list[str]:
            return list(session.scalars(select(Animal.name).where(*conditions).order_by(Animal.name)))

        options.say("weasel-like:", names(Animal.attrs["weasel-like"] == True))  # noqa: E712
        assert names(Animal.attrs["weasel-like"] == True) == ["marten", "stoat"]  # noqa: E712
        assert names(Animal.attrs["weasel-like"] == True, Animal.attrs["cuteness"] == 5) == ["marten"]  # noqa: E712
        assert names(Animal.attrs["poisonous"] == False) == ["marten"]  # noqa: E712
        assert names(~(Animal.attrs["poisonous"] == False)) == ["shrew", "stoat"]  # noqa: E712
        assert names(Animal.attrs.any_value(5)) == ["marten", "shrew"]

        # Values are compared in the column of their type: 5 is neither "5" nor True.
        stoat["cuteness"] = "5"
        stoat["poisonous"] = None
        session.commit()
        assert names(Animal.attrs["cuteness"] == 5) == ["marten", "shrew"]
        assert names(Animal.attrs["cuteness"] == "5") == ["stoat"]
        assert names(Animal.attrs["poisonous"] == 1) == []
        assert names(Animal.attrs["poisonous"].is_(None)) == ["stoat"]
        assert names(Animal.attrs["poisonous"] != True) == ["marten", "stoat"]  # noqa: E712

        # ... and ordered, in conditions and in ORDER BY.
        stoat["cuteness"] = 9
        stoat["born"] = date(2024, 2, 29)
        stoat["weight"] = Decimal("0.258")
        stoat["diet"] = Diet.MEAT
        session.commit()
        assert names(Animal.attrs["cuteness"] > 5, Animal.attrs["born"] < date(2025, 1, 1)) == ["stoat"]
        assert names(Animal.attrs["weight"] >= Decimal("0.258"), Animal.attrs["diet"].in_([Diet.MEAT, "meat"])) == [
            "stoat"
        ]
        cuteness = Animal.attrs["cuteness"].value(int)
        ranking = session.execute(select(Animal.name, cuteness).order_by(cuteness.desc(), Animal.name)).all()
        options.say("by cuteness:", [tuple(each) for each in ranking])
        assert [tuple(each) for each in ranking] == [("stoat", 9), ("marten", 5), ("shrew", 5)]

        # A type that no column is for, and what a schema does not have, are refused; nothing is pending then.
        passport = Passport()
        session.add(passport)
        for error_type, change in (
            (UnsupportedValueError, {"number": 1.5}),
            (UnsupportedValueError, {"number": "one"}),
            (UnknownKeyError, {"numbr": 1}),
        ):
            try:
                passport.attrs.update(change)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            except error_type as error:
                options.say("refused:", error)
            assert passport.attrs == {}
        try:
            session.flush()
        except MissingKeyError as error:
            options.say("refused:", str(error).partition(" has ")[2])
        passport.attrs.update(number=1, remark=None)
        session.commit()
        assert session.scalars(select(Passport).where(Passport.attrs["remark"].is_(None))).one() is passport
    return 0
