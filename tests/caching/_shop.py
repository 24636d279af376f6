"""Tables for every way in which a write can change one: inheritance, secondary tables, cascades of the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


membership = Table(
    "shop_membership",
    Base.metadata,
    Column("person_id", ForeignKey("shop_person.id", ondelete="CASCADE"), primary_key=True),
    Column("club_id", ForeignKey("shop_club.id", ondelete="CASCADE"), primary_key=True),
)


class Club(Base):
    __tablename__ = "shop_club"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Person(Base):
    __tablename__ = "shop_person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    kind: Mapped[str] = mapped_column(String(20), default="person")
    clubs: Mapped[list[Club]] = relationship(secondary=membership)
    addresses: Mapped[list[Address]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Employee(Person):
    __tablename__ = "shop_employee"
    id: Mapped[int] = mapped_column(ForeignKey("shop_person.id", ondelete="CASCADE"), primary_key=True)
    salary: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "employee"}


class Address(Base):
    __tablename__ = "shop_address"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("shop_person.id", ondelete="CASCADE"))
    street: Mapped[str] = mapped_column(String(50))


class Parcel(Base):
    """A row that the database keeps, without its address, when the address is deleted."""

    __tablename__ = "shop_parcel"
    id: Mapped[int] = mapped_column(primary_key=True)
    address_id: Mapped[int | None] = mapped_column(ForeignKey("shop_address.id", ondelete="SET NULL"))


class Stamped(Base):
    """A row whose foreign key the database updates with the key of its parcel."""

    __tablename__ = "shop_stamped"
    parcel_id: Mapped[int] = mapped_column(ForeignKey("shop_parcel.id", onupdate="CASCADE"), primary_key=True)
    price: Mapped[int]


class Unrelated(Base):
    __tablename__ = "shop_unrelated"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(Integer)


#: Every table by its short name.
TABLES: dict[str, Any] = {name.removeprefix("shop_"): table for name, table in Base.metadata.tables.items()}


def fill(session: Any) -> None:
    """Insert one or two rows into each table."""
    anna = Person(id=1, name="Anna", clubs=[Club(id=1, name="chess")], addresses=[Address(id=1, street="Elm")])
    session.add_all([anna, Employee(id=2, name="Ben", salary=10), Club(id=2, name="golf"), Unrelated(id=1, value=0)])
    session.flush()
    session.add(Parcel(id=1, address_id=1))
    session.flush()
    session.add(Stamped(parcel_id=1, price=5))
    session.commit()
