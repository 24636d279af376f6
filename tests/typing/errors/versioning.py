"""What both checkers must refuse about versions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.versioning import (
    Versioned,
    VersionOptions,
    as_of,
    prune,
    restore,
    revert,
    revision,
    version_at,
    versions,
)


class Base(DeclarativeBase):
    pass


class Doc(Versioned, Base):
    __tablename__ = "doc"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Plain(Base):
    __tablename__ = "plain"

    id: Mapped[int] = mapped_column(primary_key=True)


def use(session: Session, doc: Doc, moment: datetime) -> None:
    text: str = doc.version  # E: "int"
    doc.version = "two"  # E: "str"
    doc.nonsense = 1  # E: nonsense
    number: int = versions(session, doc)[0].object.title  # E: "str"
    versions(session, doc)[0].number = 3  # E: number
    version_at(session, Doc, 1, "yesterday")  # E: "datetime"
    other: Plain | None = version_at(session, Doc, 1, moment)  # E: "Doc
    as_of(session, select(Doc))  # E:
    revert(session, doc, to="3")  # E: "int"
    restore(session, doc, 1)  # E:
    prune(session, Doc, 10)  # E:
    revision(session, "ann")  # E:
    VersionOptions(granularity="century")  # E: century
    VersionOptions(True)  # E:
    VersionOptions(exclude="cache")  # E: "tuple[str, ...]"
    VersionOptions().period = True  # E: period
