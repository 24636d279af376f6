"""Addresses of customers and suppliers, by the name of a type and a key, without a foreign key.

Django calls it a generic foreign key, Rails a polymorphic association: two columns in one table, and no constraint. It
needs no other table, and the database does not check it. Mixed parents load in one statement, or in one for each of
their types.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, String, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.generic_associations import GenericForeignKey, GenericRelationship


class Base(DeclarativeBase):
    pass


class Address(Base):
    __tablename__ = "address"

    id: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str] = mapped_column(String(50))
    discriminator: Mapped[str] = mapped_column(String(50))
    parent_id: Mapped[int]
    parent = GenericForeignKey["Customer | Supplier"]("discriminator", "parent_id")


class HasAddresses:
    addresses = GenericRelationship(lambda: Address, "parent", order_by="street")


class Customer(HasAddresses, Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Supplier(HasAddresses, Base):
    __tablename__ = "supplier"

    id: Mapped[int] = mapped_column(primary_key=True)
    company_name: Mapped[str] = mapped_column(String(50))


class Statements(list[str]):
    """The statements that an engine executes."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        event.listen(engine, "before_cursor_execute", self._record)

    def _record(self, connection: object, cursor: object, statement: str, *rest: object) -> None:
        self.append(statement)


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        anna, ace = Customer(name="Anna"), Supplier(company_name="Ace")
        # From either side, before anything has a key: the flush inserts parents first and copies their keys.
        anna.addresses.append(Address(street="Elm Street 1"))
        oak = Address(street="Oak Road 2", parent=ace)
        session.add_all([anna, oak])
        session.commit()
        assert (oak.discriminator, oak.parent_id) == ("supplier", ace.id)
        assert anna.id == ace.id
        options.say(
            "two parents share the id", anna.id, "and have", len(anna.addresses), "and", len(ace.addresses), "address"
        )

        session.add_all(Customer(name=f"c{n}", addresses=[Address(street=f"c{n}")]) for n in range(50))
        session.add_all(Supplier(company_name=f"s{n}", addresses=[Address(street=f"s{n}")]) for n in range(50))
        session.commit()
        for name, option in (
            ("joinedload", Address.parent.joinedload()),
            ("selectinload", Address.parent.selectinload()),
        ):
            session.expunge_all()
            statements = Statements(engine)
            addresses = session.scalars(select(Address).options(option)).unique().all()
            assert len({address.parent for address in addresses}) == 102
            assert len(statements) <= 3
            options.say(f"{name}: {len(addresses)} addresses with their parents in {len(statements)} statement(s)")

        # Criteria are on the class; a child may get another parent, and a parent is deleted with its addresses.
        anna = session.scalars(select(Customer).where(Customer.name == "Anna")).one()
        elm = session.scalars(select(Address).where(Address.parent == anna)).one()
        elm.parent = session.scalars(select(Supplier).where(Supplier.company_name == "Ace")).one()
        session.delete(anna)
        session.commit()
        streets = [address.street for address in elm.parent.addresses]
        assert streets == ["Elm Street 1", "Oak Road 2"]
        options.say("Elm Street 1 moved to Ace before Anna left:", streets)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
