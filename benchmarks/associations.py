"""Reassign a list of association members: this package, SQLAlchemy's own proxy, and no proxy at all.

Each round assigns the members that are there already, in reverse, and flushes. SQLAlchemy's proxy makes all rows again.
Without a proxy the association objects are assigned to the relationship. Prints the median, the statements, and the
ratio to that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import ForeignKey, create_engine, event
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.associations import proxied_list


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "bench_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_items: Mapped[list[OrderItem]] = relationship(cascade="all, delete-orphan")
    items = proxied_list("order_items", lambda: OrderItem.item)
    stock: Any = association_proxy("order_items", "item", creator=lambda item: OrderItem(item=item))


class Item(Base):
    __tablename__ = "bench_item"
    id: Mapped[int] = mapped_column(primary_key=True)


class OrderItem(Base):
    __tablename__ = "bench_order_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("bench_order.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("bench_item.id"))
    price: Mapped[int] = mapped_column(default=1)
    item: Mapped[Item] = relationship()


def _no_proxy(order: Order) -> None:
    order.order_items = order.order_items[::-1]


def _ours(order: Order) -> None:
    order.items = order.items[::-1]


def _stock(order: Order) -> None:
    order.stock = list(order.stock)[::-1]


WAYS: dict[str, Callable[[Order], None]] = {"no proxy": _no_proxy, "proxied_list": _ours, "association_proxy": _stock}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="sqlite://")
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    engine = create_engine(options.url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    event.listen(engine, "before_cursor_execute", count)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    counts: dict[str, int] = {}
    try:
        with Session(engine) as session:
            order = Order(items=[Item() for _ in range(options.members)])
            session.add(order)
            session.flush()
            for _ in range(options.rounds):
                for name, assign in WAYS.items():
                    statements, start = 0, time.perf_counter()
                    assign(order)
                    session.flush()
                    times[name].append(time.perf_counter() - start)
                    counts[name] = statements
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()
    base = statistics.median(times["no proxy"])
    print(f"{options.members} members, {engine.dialect.name}, {options.rounds} rounds")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"  {name:<18} {median * 1000:8.1f} ms  {counts[name]:>5} statements  x{median / base:.1f}")


if __name__ == "__main__":
    main()
