"""What both checkers must refuse about temporal rows."""

from __future__ import annotations

from datetime import date

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.versioning import CopiedRow, TemporalOptions, TemporalRow, stable_relationship, valid_at


class Base(DeclarativeBase):
    pass


class Price(TemporalRow, Base):
    __tablename__ = "price"
    id: Mapped[int] = mapped_column(primary_key=True)


class Page(CopiedRow, Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)


def wrong(price: Price, page: Page) -> None:
    valid_at(date(2026, 1, 1))  # E: "date"
    price.valid_to = "tomorrow"  # E: "str"
    price.version_id  # E: version_id
    page.is_current = "yes"  # E: "str"
    TemporalOptions(on_delete="keep")  # E: on_delete
    stable_relationship(Price)  # E: key
