"""Addresses of customers and suppliers, through a link table for each parent class.

``customer_addresses`` and ``supplier_addresses`` each have foreign keys to the parent and to the address. All addresses
are in one table, and each knows its parent.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.generic_associations import AssociationParent, TablePerAssociation


class Base(DeclarativeBase):
    pass


class Address(Base):
    __tablename__ = "address"

    id: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str] = mapped_column(String(50))
    city: Mapped[str] = mapped_column(String(50))
    parent = AssociationParent["Customer | Supplier"]()

    def __repr__(self) -> str:
        return f"{self.street}, {self.city}"


class HasAddresses:
    addresses = TablePerAssociation(Address, order_by="street")


class Customer(HasAddresses, Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Supplier(HasAddresses, Base):
    __tablename__ = "supplier"

    id: Mapped[int] = mapped_column(primary_key=True)
    company_name: Mapped[str] = mapped_column(String(50))


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        elm, oak = Address(street="Elm Street 1", city="Springfield"), Address(street="Oak Road 2", city="Ogden")
        anna, ace = Customer(name="Anna", addresses=[elm]), Supplier(company_name="Ace", addresses=[oak])
        session.add_all([anna, ace])
        session.commit()
        options.say("tables:", ", ".join(sorted(Base.metadata.tables)))
        assert {"customer_addresses", "supplier_addresses"} <= Base.metadata.tables.keys()

        # From child to parent, for which the recipe has no attribute.
        assert (elm.parent, oak.parent) == (anna, ace)
        found = session.scalars(select(Address).where(Address.parent == anna)).all()
        options.say("of Anna:", found)

        # An address moves from a customer to a supplier: one link row is deleted, another inserted.
        elm.parent = ace
        session.commit()
        assert (anna.addresses, ace.addresses) == ([], [elm, oak])
        options.say("after the move, of Ace:", ace.addresses)

        # An address that is removed and given to no other parent is deleted.
        ace.addresses.remove(oak)
        session.commit()
        assert session.scalars(select(Address)).all() == [elm]
        options.say("after the removal, of all:", session.scalars(select(Address)).all())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
