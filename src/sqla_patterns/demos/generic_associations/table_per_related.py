"""Addresses of customers and suppliers, in a table and a class of their own for each parent class.

``Address`` is a mixin. ``related_class(Customer.addresses)`` is the class of customers' addresses, with an ordinary
foreign key.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.generic_associations import AssociationParent, TablePerRelated, related_class


class Base(DeclarativeBase):
    pass


class Address:
    """The columns that every address has; the class itself is not mapped."""

    id: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str] = mapped_column(String(50))
    city: Mapped[str] = mapped_column(String(50))
    parent = AssociationParent["Customer | Supplier"]()


class HasAddresses:
    addresses = TablePerRelated(Address, order_by=lambda address: address.street)


class Customer(HasAddresses, Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Supplier(HasAddresses, Base):
    __tablename__ = "supplier"

    id: Mapped[int] = mapped_column(primary_key=True)
    company_name: Mapped[str] = mapped_column(String(50))


CustomerAddress = related_class(Customer.addresses)
SupplierAddress = related_class(Supplier.addresses)


def address_of(cls: type[Address], street: str, city: str) -> Address:
    address = cls()
    address.street, address.city = street, city
    return address


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        anna, ace = Customer(name="Anna"), Supplier(company_name="Ace")
        anna.addresses.append(address_of(CustomerAddress, "Elm Street 1", "Springfield"))
        ace.addresses.append(address_of(SupplierAddress, "Oak Road 2", "Ogden"))
        session.add_all([anna, ace])
        session.commit()
        for cls in (CustomerAddress, SupplierAddress):
            address = session.scalars(select(cls)).one()
            options.say(
                f"{cls.__name__} is in its own table; {address.street} belongs to {type(address.parent).__name__}"
            )

        assert session.scalars(
            select(Customer).where(Customer.addresses.any(CustomerAddress.city == "Springfield"))
        ).one()
        # A customer takes no supplier's address: the classes differ, and it says so before anything is changed.
        try:
            anna.addresses.append(address_of(SupplierAddress, "Fir Lane 3", "Ogden"))
        except InvalidArgumentError as error:
            options.say("refused:", error)
        assert len(anna.addresses) == 1

        session.delete(anna)
        session.commit()
        assert session.scalars(select(CustomerAddress)).all() == []
        assert len(session.scalars(select(SupplierAddress)).all()) == 1
        options.say("after deleting Anna her address is gone, and the supplier's is not")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
