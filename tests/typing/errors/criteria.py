"""What the checkers must refuse about criteria."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.criteria import (
    GlobalCriteria,
    HasPrivate,
    SoftDelete,
    restore,
    soft_unique,
    temporal_range,
    tenant_key,
)


class Base(DeclarativeBase):
    pass


class Post(HasPrivate, Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)


class Page(SoftDelete, Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)


def wrong(session: Session, post: Post, now: datetime) -> None:
    GlobalCriteria(HasPrivate, lambda cls: cls.publik.is_(True), option="x")  # E: "publik"
    GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True))  # E: "option"
    restore(session, post)  # E: "Post"
    temporal_range(now, now, bounds="[[")  # E: "bounds"
    temporal_range(now)  # E: "upper"
    soft_unique(Page.id)  # E: "str"
    tenant_key("customer_id", lambda: Page.id)  # E: "str"
