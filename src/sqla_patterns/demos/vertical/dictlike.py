"""Animals as dictionaries of their facts, which are texts in separate rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, ForeignKey, String, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    attribute_keyed_dict,
    mapped_column,
    relationship,
    selectinload,
)

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.vertical import (
    PlainVerticalValue,
    UnsupportedValueError,
    VerticalAttributes,
    VerticalMapping,
    load_vertical,
    value_column,
)


class Base(DeclarativeBase):
    pass


class AnimalFact(PlainVerticalValue, Base):
    __tablename__ = "demo_dictlike_fact"

    animal_id: Mapped[int] = mapped_column(ForeignKey("demo_dictlike_animal.id"), primary_key=True)
    value: Mapped[str | None] = value_column(str)


class Animal(VerticalMapping[str | None], Base):
    __tablename__ = "demo_dictlike_animal"
    __vertical__ = "facts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    facts: Mapped[dict[str, AnimalFact]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan"
    )
    attrs = VerticalAttributes[str | None]("facts")


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        # Setting a key makes a row.
        stoat = Animal(name="stoat")
        stoat["color"] = "reddish"
        stoat["cuteness"] = "somewhat"
        assert stoat.facts["color"].value == "reddish"
        session.add(stoat)
        session.commit()

        critter = session.scalars(select(Animal).where(Animal.name == "stoat")).one()
        options.say("the stoat:", dict(critter))
        assert (critter["color"], critter["cuteness"]) == ("reddish", "somewhat")

        # Setting it again changes that row.
        row = critter.facts["cuteness"]
        critter["cuteness"] = "very"
        session.commit()
        assert critter.facts["cuteness"] is row

        for name, facts in {
            "marten": {"color": "brown", "cuteness": "somewhat"},
            "shrew": {"cuteness": "somewhat", "poisonous-part": "saliva"},
            "loris": {"cuteness": "fairly", "poisonous-part": "elbows"},
        }.items():
            animal = Animal(name=name)
            animal.update(facts)
            session.add(animal)
        session.commit()

        def names(*conditions: ColumnElement[bool]) -> list[str]:
            return list(session.scalars(select(Animal.name).where(*conditions).order_by(Animal.name)))

        reddish = names(Animal.attrs["color"] == "reddish")
        options.say("reddish:", reddish)
        assert reddish == ["stoat"]
        assert names(Animal.attrs["color"] == "brown") == ["marten"]

        # The condition, negated, takes in those of which nothing is known; != does not.
        assert names(~(Animal.attrs["poisonous-part"] == "elbows")) == ["marten", "shrew", "stoat"]
        assert names(Animal.attrs["poisonous-part"] != "elbows") == ["shrew"]
        options.say("with something that is somewhat:", names(Animal.attrs.any_value("somewhat")))
        assert names(Animal.attrs.any_value("somewhat")) == ["marten", "shrew"]

        # None is a value; a key can be deleted and set again at once; an animal without facts is still an animal.
        stoat["color"] = None
        del stoat["cuteness"]
        stoat["cuteness"] = "extremely"
        session.commit()
        assert names(Animal.attrs["color"].is_(None)) == ["stoat"]
        stoat.clear()
        session.commit()
        assert stoat
        assert names(~Animal.attrs["cuteness"].exists()) == ["stoat"]

        try:
            stoat["cuteness"] = 7  # type: ignore[assignment] # pyright: ignore[reportArgumentType]
        except UnsupportedValueError as error:
            options.say("refused:", error)
        assert not session.new, "nothing is pending"

        # All facts of all animals: two statements as objects, one as dictionaries.
        session.expunge_all()
        animals = session.scalars(select(Animal).options(selectinload(Animal.facts))).all()
        assert load_vertical(session, Animal.attrs, [each.id for each in animals]) == {
            each.id: dict(each) for each in animals
        }
    return 0
