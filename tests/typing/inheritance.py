"""What a user of inheritance reads."""

from __future__ import annotations

import enum
from typing import Any, assert_type

from sqlalchemy import ColumnElement, String, select
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Load,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    selectinload,
    with_polymorphic,
)

from sqla_patterns.inheritance import (
    ConcreteTable,
    JoinedTable,
    PolymorphicIdentity,
    SingleTable,
    load_polymorphic,
    shared_column,
    subentity,
)


class Base(DeclarativeBase):
    pass


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    pass


class Kind(enum.Enum):
    VEHICLE = 1
    CAR = 2


class Person(JoinedTable, Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Engineer(Person):
    engineer_name: Mapped[str | None]


class Manager(Person, identity="boss"):
    budget: Mapped[int]


class Vehicle(SingleTable, Base, identity=Kind.VEHICLE):
    __tablename__ = "vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[Kind]


class Car(Vehicle, identity=Kind.CAR):
    color: Mapped[str | None] = shared_column(String(20))


class Building(ConcreteTable, Base):
    __tablename__ = "building"
    id: Mapped[int] = mapped_column(primary_key=True)


class School(Building):
    pupils: Mapped[int]


class Animal(PolymorphicIdentity, DataclassBase, kw_only=True, identity="beast"):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]


class Cat(Animal, kw_only=True):
    lives: Mapped[int | None] = mapped_column(default=9)


def classes(person: Person, car: Car, school: School) -> None:
    assert_type(person.type, Any)
    assert_type(car.type, Kind)
    assert_type(Car.type, InstrumentedAttribute[Kind])
    assert_type(car.color, str | None)
    assert_type(Car.color, InstrumentedAttribute[str | None])
    assert_type(school.pupils, int)
    assert_type(Cat(name="Tom", lives=8).name, str)


def entities() -> None:
    people = with_polymorphic(Person, [Engineer, Manager])
    assert_type(subentity(people, Engineer), type[Engineer])
    assert_type(subentity(people, Engineer).engineer_name, InstrumentedAttribute[str | None])
    assert_type(subentity(people, Manager).budget > 4, ColumnElement[bool])
    assert_type(subentity(people, Person).name, InstrumentedAttribute[str])
    select(people).where(subentity(people, Engineer).engineer_name == "x").order_by(subentity(people, Manager).budget)


def loading(session: Session) -> None:
    assert_type(load_polymorphic(Person), Load)
    statement = select(Person).options(load_polymorphic(Person))
    assert_type(session.scalars(statement).one(), Person)
    select(Person).options(selectinload(Person.name).options(load_polymorphic(Person)))
