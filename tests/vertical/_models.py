"""Mappings for the tests, on any declarative base. No postponed annotations: these classes are local to functions."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, String, UniqueConstraint, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, attribute_keyed_dict, mapped_column, relationship

from sqla_patterns.versioning import Versioned
from sqla_patterns.vertical import (
    ExactNumeric,
    PlainVerticalValue,
    VerticalAttributes,
    VerticalMapping,
    VerticalSchema,
    VerticalValue,
    value_column,
)
from tests.vertical.user_types import Colour, Money, MoneyType


@dataclass(frozen=True)
class Zoo:
    """One mapping, with values that it can hold."""

    Base: Any
    Animal: Any
    Fact: Any
    #: Four values, no two of them equal; of several types where the variant has them.
    values: tuple[Any, ...]

    def facts(self) -> dict[str, Any]:
        return dict(zip("abcd", self.values, strict=True))


def by_key(**options: Any) -> Any:
    return relationship(collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan", **options)


def zoo(bases: Any, *, plain: bool = False, schema: VerticalSchema | None = None, lazy: Any = "select") -> Zoo:
    """Map animals with facts: of three types, or, where `plain`, texts only."""
    Base = bases()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}

    if plain:

        class AnimalFact(PlainVerticalValue, Base):
            __tablename__ = "animal_fact"
            animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True, **no_init)
            value: Mapped[str | None] = value_column(str)
    else:

        class AnimalFact(VerticalValue, Base):  # type: ignore[no-redef]
            __tablename__ = "animal_fact"
            animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True, **no_init)
            int_value: Mapped[int | None] = value_column(int)
            # A column whose name is not that of its attribute.
            str_value: Mapped[str | None] = value_column(str, name="text_value")
            bool_value: Mapped[bool | None] = value_column(bool)

    class Animal(VerticalMapping[Any], Base):
        __tablename__ = "animal"
        __vertical__ = "facts"
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        name: Mapped[str | None] = mapped_column(String(30), default=None)
        facts: Mapped[dict[str, AnimalFact]] = by_key(lazy=lazy, **no_init)  # type: ignore[valid-type]
        attrs = VerticalAttributes[Any]("facts", schema=schema)

    values = ("red", "", None, "5") if plain else (7, "7", None, True)
    return Zoo(Base, Animal, AnimalFact, values)


def bare(bases: Any) -> Zoo:
    """Map animals that are dictionaries and have no `VerticalAttributes`."""
    Base = bases()

    class AnimalFact(VerticalValue, Base):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        int_value: Mapped[int | None] = value_column(int)

    class Animal(VerticalMapping[int], Base):
        __tablename__ = "animal"
        __vertical__ = "facts"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()

    return Zoo(Base, Animal, AnimalFact, ())


def surrogates(bases: Any) -> Zoo:
    """Map rows with a surrogate primary key, and a unique constraint over owner and key, whose name differs."""
    Base = bases()

    class AnimalFact(VerticalValue, Base):
        __tablename__ = "animal_fact"
        __table_args__ = (UniqueConstraint("animal_id", "fact_key"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"))
        key: Mapped[str] = mapped_column("fact_key", String(100))
        int_value: Mapped[int | None] = value_column(int)

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[int]("facts")

    return Zoo(Base, Animal, AnimalFact, ())


def two_way(bases: Any, schema: VerticalSchema | None = None, key: str = "key") -> Zoo:
    """Map animals whose facts refer to them, in a dictionary by some attribute."""
    Base = bases()

    class AnimalFact(VerticalValue, Base):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        int_value: Mapped[int | None] = value_column(int)
        str_value: Mapped[str | None] = value_column(str)
        animal: Mapped["Animal"] = relationship(back_populates="facts")

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = relationship(
            collection_class=attribute_keyed_dict(key), cascade="all, delete-orphan", back_populates="animal"
        )
        attrs = VerticalAttributes[int | str | None]("facts", schema=schema)

    return Zoo(Base, Animal, AnimalFact, ())


def inherited(bases: Any, schema: VerticalSchema | None = None) -> Any:
    """Map dogs and cats, which are animals: joined and single table inheritance."""
    Base = bases()

    class AnimalFact(VerticalValue, Base):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        int_value: Mapped[int | None] = value_column(int)

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[int]("facts", schema=schema)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Cat(Animal):
        __mapper_args__ = {"polymorphic_identity": "cat"}

    return SimpleNamespace(Base=Base, Animal=Animal, Fact=AnimalFact, Dog=Dog, Cat=Cat)


def documents(bases: Any) -> Zoo:
    """Map animals whose facts are JSONB of PostgreSQL, in the plain variant."""
    Base = bases()

    class AnimalFact(PlainVerticalValue, Base):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        value: Mapped[dict[str, Any] | None] = value_column(dict, JSONB(none_as_null=True))

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[dict[str, Any] | None]("facts")

    return Zoo(Base, Animal, AnimalFact, ())


def composite(bases: Any) -> Zoo:
    """Map animals with a key of two columns, and attributes whose names are not those of the columns."""
    Base = bases()

    class AnimalFact(VerticalValue, Base):
        __tablename__ = "animal_fact"
        __table_args__ = (ForeignKeyConstraint(["zoo_name", "animal_no"], ["animal.zoo_name", "animal.no"]),)
        zoo: Mapped[str] = mapped_column("zoo_name", String(10), primary_key=True)
        number: Mapped[int] = mapped_column("animal_no", primary_key=True)
        int_value: Mapped[int | None] = value_column(int)

    class Animal(Base):
        __tablename__ = "animal"
        zoo: Mapped[str] = mapped_column("zoo_name", String(10), primary_key=True)
        number: Mapped[int] = mapped_column("no", primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[int]("facts")

    return Zoo(Base, Animal, AnimalFact, ())


def versioned(bases: Any) -> Zoo:
    """Map animals whose facts have a history."""
    Base = bases()

    class AnimalFact(Versioned, VerticalValue, Base):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        int_value: Mapped[int | None] = value_column(int)
        str_value: Mapped[str | None] = value_column(str)

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[int | str | None]("facts")

    return Zoo(Base, Animal, AnimalFact, ())


class HasAttributes:
    """A mixin that shows the facts of the class that it is mixed into."""

    attrs = VerticalAttributes[int | str | None]("facts")


def on_base(base: Any, *, name: str = "animal", mixin: type[Any] | None = None) -> Any:
    """Map animals and facts on a base that another library has made."""

    class AnimalFact(VerticalValue, base):
        __tablename__ = f"{name}_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey(f"{name}.id"), primary_key=True)
        int_value: Mapped[int | None] = value_column(int)
        str_value: Mapped[str | None] = value_column(str)

    class Animal(mixin or _own_attributes(), base):  # type: ignore[misc]
        __tablename__ = name
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()

    return Animal, AnimalFact


def _own_attributes() -> type[Any]:
    return type("Attributes", (), {"attrs": VerticalAttributes[Any]("facts")})


def on_registry(mapper_registry: Any) -> Any:
    """Map animals and facts by the decorator of a registry."""

    @mapper_registry.mapped
    class AnimalFact(VerticalValue):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        int_value: Mapped[int | None] = value_column(int)
        str_value: Mapped[str | None] = value_column(str)

    @mapper_registry.mapped
    class Animal:
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[int | str | None]("facts")

    return Animal, AnimalFact


def one_type(bases: Any, python_type: type[Any], sql_type: Any = None) -> Zoo:
    """Map animals whose facts are of one type, in the plain variant."""
    Base = bases()

    class AnimalFact(PlainVerticalValue, Base):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        value = value_column(python_type, sql_type)

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[Any]("facts")

    return Zoo(Base, Animal, AnimalFact, ())


def mutable_documents(bases: Any) -> Zoo:
    """Map animals whose facts are documents that notice when they are changed."""
    return one_type(bases, dict, MutableDict.as_mutable(JSON(none_as_null=True)))  # type: ignore[arg-type]


def annotated(bases: Any) -> Zoo:
    """Map facts whose value column is in an ``Annotated``."""
    Base = bases()

    class AnimalFact(VerticalValue, Base):
        __tablename__ = "animal_fact"
        animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        int_value: Mapped[Annotated[int | None, value_column(int)]]

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[dict[str, AnimalFact]] = by_key()
        attrs = VerticalAttributes[int]("facts")

    return Zoo(Base, Animal, AnimalFact, ())


# -- values of all types -----------------------------------------------------------------------------


#: A few values of each type, in their order, none of which equals one of another type.
SAMPLES: dict[type[Any], tuple[Any, ...]] = {
    bool: (False, True),
    int: (-(2**63), 0, 2**63 - 1),
    float: (-1.5, 0.1, 1e300),
    str: ("", "a 🦦 in Zürich", "x" * 255),
    Decimal: (Decimal("-12.5"), Decimal("0.000001"), Decimal("999999999999.999999")),
    date: (date(1, 1, 1), date(2024, 2, 29)),
    datetime: (datetime(2024, 2, 29, 12, 0, 0, 1), datetime(2024, 2, 29, 12, 0, 0, 999_999)),  # noqa: DTZ001
    UUID: (UUID(int=1), UUID(int=2**128 - 1)),
    bytes: (b"", b"\x00\xff"),
    Colour: (Colour.RED, Colour.BLUE),
    dict: ({}, {"a": [1, None, "x"]}),
    list: ([], [1, {"a": None}]),
    Money: (Money(-1), Money(5)),
}


def things(bases: Any) -> Any:
    """Map things with values of every type, keyed by UUIDs."""
    Base = bases()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}

    class ThingFact(VerticalValue, Base):
        __tablename__ = "thing_fact"
        thing_id: Mapped[UUID] = mapped_column(ForeignKey("thing.id"), primary_key=True, **no_init)
        bool_value: Mapped[bool | None] = value_column(bool)
        int_value: Mapped[int | None] = value_column(int)
        float_value: Mapped[float | None] = value_column(float)
        str_value: Mapped[str | None] = value_column(str)
        decimal_value: Mapped[Decimal | None] = value_column(Decimal, ExactNumeric(18, 6))
        date_value: Mapped[date | None] = value_column(date)
        datetime_value: Mapped[datetime | None] = value_column(datetime)
        uuid_value: Mapped[UUID | None] = value_column(UUID)
        bytes_value: Mapped[bytes | None] = value_column(bytes)
        colour_value: Mapped[Colour | None] = value_column(Colour)
        dict_value: Mapped[dict[str, Any] | None] = value_column(dict)
        list_value: Mapped[list[Any] | None] = value_column(list)
        money_value: Mapped[Money | None] = value_column(Money, MoneyType())

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
        facts: Mapped[dict[str, ThingFact]] = by_key(**no_init)
        attrs = VerticalAttributes[Any]("facts")

    return Zoo(Base, Thing, ThingFact, tuple(samples[0] for samples in SAMPLES.values()))
