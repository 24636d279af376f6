"""What a user of temporal rows reads: both checkers must infer these types."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import assert_type

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    Session,
    UserDefinedOption,
    mapped_column,
    scoped_session,
)
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.exceptions import PatternError, StateError
from sqla_patterns.versioning import (
    ClosedVersionError,
    CopiedRow,
    TemporalOptions,
    TemporalRow,
    VersionedRow,
    pinned_relationship,
    stable_relationship,
    valid_at,
)


class Base(DeclarativeBase):
    pass


class Price(TemporalRow, Base):
    __tablename__ = "price"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    amount: Mapped[int]


class Contract(VersionedRow, Base):
    __tablename__ = "contract"
    __temporal__ = TemporalOptions(on_delete="delete", period=True)
    number: Mapped[str] = mapped_column(primary_key=True)


class Page(CopiedRow, Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    price_id: Mapped[uuid.UUID]
    price: Mapped[Price] = stable_relationship(lambda: Price, lambda: Order.price_id)
    page_id: Mapped[int]
    page: Mapped[Page] = pinned_relationship(lambda: Page, lambda: Order.page_id, follow=True)


def attributes(price: Price, contract: Contract, page: Page, order: Order) -> None:
    assert_type(price.valid_from, datetime)
    assert_type(price.valid_to, datetime | None)
    assert_type(Price.valid_to, InstrumentedAttribute[datetime | None])
    assert_type(contract.version_id, int)
    assert_type(contract.is_current, bool)
    assert_type(contract.valid_from, datetime)
    assert_type(page.is_current, bool)
    assert_type(page.object_id, int | None)
    assert_type(Page.object_id, InstrumentedAttribute[int | None])
    assert_type(order.price, Price)
    assert_type(order.page, Page)
    assert_type(order.price.amount, int)


def reading(session: Session, scoped: scoped_session[Session], moment: datetime) -> None:
    assert_type(valid_at(moment), UserDefinedOption)
    assert_type(session.scalars(select(Price).options(valid_at(moment))).all(), Sequence[Price])
    assert_type(scoped.scalars(select(Price).options(valid_at(moment))).one(), Price)
    history = select(Contract.version_id).execution_options(include_history=True)
    assert_type(session.scalars(history).all(), Sequence[int])


async def reading_async(session: AsyncSession, moment: datetime) -> None:
    found = await session.scalars(select(Price).options(valid_at(moment)))
    assert_type(found.all(), Sequence[Price])


def caught(error: ClosedVersionError) -> tuple[StateError, StaleDataError, PatternError]:
    return error, error, error
