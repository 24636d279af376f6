"""Models and helpers that the tests of the package share: history rows, times, and classes that several files use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Engine, ForeignKey, String, Text, event, func, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def tick() -> datetime:
    """Return a time that is later than everything before it and earlier than everything after it."""
    time.sleep(0.003)
    moment = datetime.now(UTC)
    time.sleep(0.003)
    return moment


def history_class(cls: Any) -> Any:
    return cls.__history_mapper__.class_


def history_table(cls: Any) -> Any:
    return cls.__history_mapper__.local_table


def history(session: Session, cls: Any, *names: str) -> list[Any]:
    """Return the history of *cls*, by key and version: tuples of *names*, or the bare versions if there are none."""
    entity = history_class(cls)
    columns = [getattr(entity, name) for name in names or ("version",)]
    statement = select(*columns).order_by(*inspect(entity).primary_key)
    with session.no_autoflush:
        rows = session.execute(statement).all()
    return [tuple(row) for row in rows] if len(columns) > 1 else [row[0] for row in rows]


def count(session: Session, table: Any) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


@contextmanager
def only_statements(engine: Engine, *heads: str) -> Iterator[list[str]]:
    """Collect the statements that begin with one of *heads*."""
    found: list[str] = []

    def record(connection: Connection, cursor: Any, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(heads):
            found.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", record)


def use_real_savepoints(engine: Engine) -> None:
    """Have SQLAlchemy emit BEGIN on SQLite, as its manual shows.

    Otherwise a savepoint that begins a transaction also ends it.
    """
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def no_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


def docs(base: Any, **options: Any) -> Any:
    """Map ``Doc`` with these `VersionOptions`, or with exactly the columns of SQLAlchemy's recipe if there are none."""

    class Doc(Versioned, base):
        if options:
            __versioned__ = VersionOptions(**options)
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True, **_no_init(base))
        title: Mapped[str] = mapped_column(String(50))
        body: Mapped[str | None] = mapped_column(Text, default=None)

    return Doc


def library(base: Any, **options: Any) -> SimpleNamespace:
    """Map authors, books, and a log of revisions, with all options."""

    class Revision(RevisionLog, base):
        __tablename__ = "revision"

    options = {"period": True, "operation": True, "revision": Revision, **options}

    class Author(Versioned, base):
        __tablename__ = "author"
        __versioned__ = VersionOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    class Book(Versioned, base):
        __tablename__ = "book"
        __versioned__ = VersionOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(50))
        price: Mapped[int | None] = mapped_column(default=None)
        author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"), default=None)
        author: Mapped[Author | None] = relationship(Author, backref="books")

    return SimpleNamespace(Revision=Revision, Author=Author, Book=Book, metadata=base.metadata)


def _no_init(base: Any) -> dict[str, Any]:
    return {"init": False} if is_dataclass_base(base) else {}


def is_dataclass_base(base: Any) -> bool:
    return "MappedAsDataclass" in {each.__name__ for each in base.__mro__}


def natural_docs(base: Any, **options: Any) -> Any:
    """Map ``Country``, whose key is set by the user and may be used again."""

    class Country(Versioned, base):
        __tablename__ = "country"
        if options:
            __versioned__ = VersionOptions(**options)
        code: Mapped[str] = mapped_column(String(2), primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    return Country
