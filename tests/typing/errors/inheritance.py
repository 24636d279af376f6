"""What the checkers must refuse about inheritance."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, with_polymorphic

from sqla_patterns.inheritance import ConcreteTable, JoinedTable, load_polymorphic, subentity


class Base(DeclarativeBase):
    pass


class Person(JoinedTable, Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)


class Engineer(Person):
    language: Mapped[str]


class Building(ConcreteTable, Base):
    __tablename__ = "building"
    id: Mapped[int] = mapped_column(primary_key=True)


def wrong(building: Building) -> None:
    people = with_polymorphic(Person, [Engineer])
    subentity(people, Engineer).langauge  # E: "langauge"
    subentity(people, Person).language  # E: "language"
    subentity(people, "Engineer")  # E: "str"
    subentity(Person, Engineer)  # E: "type[Person]"
    load_polymorphic("Person")  # E: "str"
    building.type  # E: "type"
