"""Addresses of customers and suppliers, through one association table with a discriminator.

Every parent has a row in ``address_association``; the parent's table and the addresses refer to it. The discriminator
column holds the class of the parent. Both references are foreign keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.generic_associations import AssociationParent, DiscriminatorAssociation


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
    addresses = DiscriminatorAssociation(Address, order_by="street")


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
        anna = Customer(name="Anna")
        # A parent has its collection from the start, before it has a row.
        anna.addresses.append(Address(street="Elm Street 1", city="Springfield"))
        session.add_all([anna, Supplier(company_name="Ace", addresses=[Address(street="Oak Road 2", city="Ogden")])])
        session.commit()

        table = Base.metadata.tables["address_association"]
        kinds = session.scalars(select(table.c.discriminator).order_by(table.c.discriminator)).all()
        assert kinds == ["customer", "supplier"]
        options.say("the association table has a row for each parent:", ", ".join(kinds))

        for address in session.scalars(select(Address).order_by(Address.id).options(Address.parent.joinedload())):
            options.say(f"  {address} belongs to a {type(address.parent).__name__}")

        of_suppliers = session.scalars(select(Address).where(Address.parent.is_type(Supplier))).all()
        assert [address.city for address in of_suppliers] == ["Ogden"]
        options.say("of suppliers:", of_suppliers)

        # Deleting a parent deletes its association row and its addresses, and no others.
        session.delete(anna)
        session.commit()
        left = [session.scalar(select(func.count()).select_from(each)) for each in (table, Address)]
        assert left == [1, 1]
        options.say("after deleting Anna: one association and one address, the supplier's")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
