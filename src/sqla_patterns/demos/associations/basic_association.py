"""Orders and items with a price for each item in each order: an association object without a proxy.

The row between an order and an item has the price that was paid. This demo reads and writes it directly, which is right
where most code wants the price. `proxied_association` shows the same tables where most code wants the items.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.demos._support import demo_engine, demo_options


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "demo_basic_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(30))
    # The function, not its value: the default is computed for each order, not once on import.
    placed: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC).replace(tzinfo=None, microsecond=0))
    order_items: Mapped[list[OrderItem]] = relationship(
        back_populates="order", cascade="all, delete-orphan", order_by="OrderItem.item_id"
    )


class Item(Base):
    __tablename__ = "demo_basic_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    cents: Mapped[int]


class OrderItem(Base):
    __tablename__ = "demo_basic_order_item"

    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey(Item.id), primary_key=True)
    cents: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="order_items")
    item: Mapped[Item] = relationship(lazy="joined")

    def __init__(self, item: Item, cents: int | None = None) -> None:
        self.item = item
        # Not "cents or item.cents": what is given away has a price, and that is 0.
        self.cents = item.cents if cents is None else cents


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

        order = Order(customer="john smith")
        order.order_items += [OrderItem(mug), OrderItem(crowbar, 1099), OrderItem(hat, 0)]
        session.add(order)
        session.commit()

        options.say(f"{order.customer} ordered on {order.placed:%Y-%m-%d}:")
        for row in order.order_items:
            options.say(f"  {row.item.name:<8} {row.cents / 100:>6.2f}   (list price {row.item.cents / 100:.2f})")
        paid = {row.item.name: row.cents for row in order.order_items}
        assert paid == {"mug": 650, "crowbar": 1099, "hat": 0}

        on_sale = (
            select(Order.customer)
            .join(Order.order_items)
            .join(OrderItem.item)
            .where(Item.name == "crowbar", Item.cents > OrderItem.cents)
        )
        bargains = session.scalars(on_sale).all()
        options.say("bought the crowbar below its list price:", *bargains)
        assert bargains == ["john smith"]
    return 0
