"""What the checkers must refuse about associations."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqla_patterns.associations import GenDefaultCollection, gen_default_collection, proxied_dict, proxied_list


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)


class OrderItem(Base):
    __tablename__ = "order_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[Item] = relationship()
    key: Mapped[str]


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_items: Mapped[list[OrderItem]] = relationship()
    items = proxied_list("order_items", lambda: OrderItem.item)
    by_key = proxied_dict("order_items", lambda: OrderItem.key, lambda: OrderItem.item)
    not_lazy = proxied_list("order_items", OrderItem.item)  # E: "InstrumentedAttribute[Item]"
    no_attribute = proxied_list("order_items", lambda: 5)  # E: "int"
    wrong_mode = proxied_list("order_items", lambda: OrderItem.item, on_reassign="maybe")  # E: "on_reassign"
    wrong_creator = proxied_list(
        "order_items",
        lambda: OrderItem.item,
        creator=lambda item: item.no_such,  # E: "no_such"
    )


def wrong(order: Order, defaults: GenDefaultCollection[str, Item]) -> None:
    order.items = [3]  # E: "int"
    order.items.append("mug")  # E: "str"
    order.items = {"a": Item()}  # E: "dict[str, Item]"
    order.by_key[3] = Item()  # E: "int"
    order.by_key["a"] = "text"  # E: "str"
    defaults[5]  # E: "int"
    gen_default_collection(lambda: OrderItem.key, lambda key: key.no_such)  # E: "no_such"
