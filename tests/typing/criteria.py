"""What a user of criteria reads."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, Session, mapped_column, sessionmaker

from sqla_patterns._attach import Attachment
from sqla_patterns.criteria import (
    GlobalCriteria,
    HasPrivate,
    HasTemporal,
    RowLevelSecurity,
    SoftDelete,
    TenantScoped,
    all_tenants,
    current_tenant,
    hard_delete,
    restore,
    row_level_security,
    soft_unique,
    temporal_range,
    tenant_key,
    tenant_scope,
)


class Base(DeclarativeBase):
    pass


class Post(HasPrivate, HasTemporal, Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(TenantScoped, SoftDelete, Base):
    __tablename__ = "order"
    __table_args__ = (soft_unique("name"), tenant_key(lambda: Order.parent_id, lambda: Order.id))
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None]
    name: Mapped[str]


def columns(post: Post, order: Order) -> None:
    assert_type(post.public, bool)
    assert_type(Post.public, InstrumentedAttribute[bool])
    assert_type(post.timestamp, datetime)
    assert_type(order.tenant_id, str)
    assert_type(Order.tenant_id, InstrumentedAttribute[str])
    assert_type(order.deleted_at, datetime | None)
    assert_type(Order.deleted_at, InstrumentedAttribute[datetime | None])


def attached(maker: sessionmaker[Session]) -> None:
    criteria = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
    assert_type(criteria, GlobalCriteria[HasPrivate])
    handle = criteria.attach(maker)
    assert_type(handle, Attachment)
    criteria.attach(async_sessionmaker())
    with criteria.attach(Session()) as entered:
        assert_type(entered, Attachment)


def ranges(session: Session, lower: datetime, upper: datetime) -> None:
    statement = select(Post).options(temporal_range(lower, upper, bounds="[)"))
    assert_type(session.scalars(statement).all()[0], Post)
    temporal_range(1, 2, on=Post, attribute="id")


def soft(session: Session, order: Order) -> None:
    restore(session, order)
    hard_delete(session, order)


def tenants(connection: Connection) -> None:
    with tenant_scope("acme"), all_tenants():
        assert_type(current_tenant(), object)
    policies = row_level_security(Order)
    assert_type(policies, RowLevelSecurity)
    policies.create(connection)
    for statement in policies.statements:
        assert_type(statement, str)
