"""What checkers must refuse about generic associations."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.generic_associations import (
    AssociationParent,
    GenericForeignKey,
    GenericRelationship,
    TablePerAssociation,
    related_class,
)


class Base(DeclarativeBase):
    pass


class Address(Base):
    __tablename__ = "address"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent = AssociationParent["Customer"]()


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    addresses = TablePerAssociation(Address)
    notes = GenericRelationship(lambda: Note, "parent")
    wrong = TablePerAssociation(Address, collumn="x")  # E: collumn
    also_wrong = TablePerAssociation("Address")  # E: "str"


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent = GenericForeignKey[Customer]("kind", "parent_id")


customer = Customer()
customer.addresses.append(3)  # E: "int"
customer.addresses = [3]  # E: "int"
customer.notes.append(Address())  # E: "Address"
Address().parent = Address()  # E: "Address"
Note().parent = 3  # E: "int"
Note.parent.is_type(Address)  # E: "type[Address]"
Note.parent.selectinload(Address)  # E: "type[Address]"
number: int = Note().parent  # E: "int"
related_class(customer.addresses)  # E: "list[Address]"
