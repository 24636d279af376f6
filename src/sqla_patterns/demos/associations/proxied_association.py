"""Orders as lists of items, which keep the price of each item when the list is reassigned.

The tables are those of `basic_association`. ``order.items`` is the list of items; changing it makes and removes the
rows that hold the prices, which are still there as ``order.order_items``.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.associations import proxied_list
from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.exceptions import DuplicateKeyError


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "demo_proxied_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(30))
    order_items: Mapped[list[OrderItem]] = relationship(cascade="all, delete-orphan", order_by="OrderItem.item_id")
    items = proxied_list(
        "order_items", lambda: OrderItem.item, creator=lambda item: OrderItem(item=item, cents=item.cents)
    )


class Item(Base):
    __tablename__ = "demo_proxied_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    cents: Mapped[int]


class OrderItem(Base):
    __tablename__ = "demo_proxied_order_item"

    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey(Item.id), primary_key=True)
    cents: Mapped[int]
    item: Mapped[Item] = relationship(lazy="joined")


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        shirt, mug, hat, crowbar = (
            Item(name="shirt", cents=1099),
            Item(name="mug", cents=650),
            Item(name="hat", cents=899),
            Item(name="crowbar", cents=1699),
        )
        session.add_all([shirt, mug, hat, crowbar])
        session.commit()

        def say_prices(title: str) -> dict[str, int]:
            paid = {row.item.name: row.cents for row in order.order_items}
            options.say(title, *(f"{name} {cents / 100:.2f};" for name, cents in paid.items()))
            return paid

        order = Order(customer="john smith", items=[mug, hat])
        # A price that is not the list price needs the row itself; 0 is a price like any other.
        order.order_items.append(OrderItem(item=crowbar, cents=1099))
        order.order_items[0].cents = 0
        session.add(order)
        session.commit()
        assert say_prices("ordered: ") == {"mug": 0, "hat": 899, "crowbar": 1099}
        assert order.items == [mug, hat, crowbar]

        # What reassigns the list, such as a form that was sent, does not know of prices. The rows that stay keep
        # theirs.
        order.items = [crowbar, shirt, mug]
        session.commit()
        assert say_prices("changed: ") == {"shirt": 1099, "mug": 0, "crowbar": 1099}

        try:
            order.items.append(mug)
        except DuplicateKeyError as error:
            options.say("refused:", error)
        assert not session.new, "nothing is pending"

        on_sale = select(Order).join(Order.order_items).join(OrderItem.item).where(Item.cents > OrderItem.cents)
        with_mug = select(Order).where(Order.items.contains(mug))
        with_hat = select(Order).where(Order.items.any(Item.name == "hat"))
        assert session.scalars(on_sale.distinct()).all() == session.scalars(with_mug).all() == [order]
        assert session.scalars(with_hat).all() == []
        options.say("orders with a mug:", *(each.customer for each in session.scalars(with_mug)))
    return 0
