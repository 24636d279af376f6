"""A shop for two tenants, where what is deleted can come back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Executable, String, func, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.criteria import (
    SoftDelete,
    TenantNotSetError,
    TenantScoped,
    TenantViolationError,
    all_tenants,
    hard_delete,
    restore,
    soft_unique,
    tenant_key,
    tenant_scope,
)
from sqla_patterns.demos._support import demo_engine, demo_options


class Base(DeclarativeBase):
    pass


class Customer(TenantScoped, SoftDelete, Base):
    __tablename__ = "demo_shop_customer"
    __table_args__ = (soft_unique("tenant_id", "email"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(40))
    orders: Mapped[list[Order]] = relationship(back_populates="customer", cascade="all", order_by="Order.id")


class Order(TenantScoped, SoftDelete, Base):
    __tablename__ = "demo_shop_order"
    __table_args__ = (tenant_key(lambda: Order.customer_id, lambda: Customer.id),)

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    customer_id: Mapped[int]
    customer: Mapped[Customer] = relationship(back_populates="orders")


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine:
        for number, tenant in enumerate(("acme", "zeta"), 1):
            with tenant_scope(tenant), Session(engine) as session:
                ann = Customer(
                    id=number, email="ann@x.org", orders=[Order(id=number * 10 + i, total=i) for i in (1, 2)]
                )
                session.add(ann)  # tenant_id is filled in
                session.commit()

        with tenant_scope("acme"), Session(engine) as session:
            assert session.scalars(select(Order.id).order_by(Order.id)).all() == [11, 12]
            assert session.get(Order, 21) is None
            session.execute(update(Order).values(total=5))
            ann = session.get_one(Customer, 1)
            session.delete(ann)  # marks her and her orders, with one stamp
            session.commit()
            options.say(f"acme sees {session.scalar(select(func.count(Order.id)))} orders")
            session.add(Customer(id=3, email="ann@x.org"))  # unique among the living
            session.flush()
            session.rollback()
            restore(session, ann)
            session.commit()
            assert [order.total for order in ann.orders] == [5, 5]
            refused: list[Executable] = [
                text("SELECT * FROM demo_shop_order"),
                select(Order.__table__),
                update(Order).values(tenant_id="zeta"),
            ]
            for statement in refused:
                try:
                    session.execute(statement)
                except TenantViolationError as error:
                    options.say(f"refused: {error}")
            hard_delete(session, ann)
            session.commit()

        with Session(engine) as session:
            try:
                session.scalars(select(Order)).all()
            except TenantNotSetError as error:
                options.say(f"refused: {error}")
        with all_tenants(), Session(engine) as session:
            found = session.execute(select(Order.tenant_id, Order.total).order_by(Order.id)).all()
            options.say(f"administration sees {[tuple(row) for row in found]}")
            assert [tuple(row) for row in found] == [("zeta", 1), ("zeta", 2)]
    return 0
