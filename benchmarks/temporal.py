"""Temporal rows of 1,000 objects: the three forms of sqla_patterns.versioning, plain SQLAlchemy, and history tables.

A row has a key and five columns. A timed part makes the change to 1,000 objects and flushes it, without a commit.
"plain" is a class of the same columns without versions, "history table" is `Versioned` with periods. The keys are set
by hand, except for copied rows, of which the database makes the key.

Reads: each object has five versions, so that the table has 5,000 rows, and 1,000 objects are read. "plain, as many
rows" is a table of 5,000 rows without versions, of which a criterion chooses 1,000; "the same, with two times" has two
columns of times as well, which drivers take their time to read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from _harness import Benchmark, Contestant, benchmark, verify
from sqlalchemy import Engine, Numeric, String, delete, func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.versioning import (
    CopiedRow,
    TemporalOptions,
    TemporalRow,
    UTCDateTime,
    Versioned,
    VersionedRow,
    VersionOptions,
    as_of,
    valid_at,
)

ROWS = 1000
VERSIONS = 5


class Base(DeclarativeBase):
    pass


class Columns:
    name: Mapped[str] = mapped_column(String(50))
    city: Mapped[str] = mapped_column(String(50))
    size: Mapped[int]
    price: Mapped[Any] = mapped_column(Numeric(10, 2))
    note: Mapped[str | None] = mapped_column(String(200))


class Plain(Columns, Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class PlainWithTimes(Columns, Base):
    __tablename__ = "plain_with_times"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    begun: Mapped[datetime] = mapped_column(UTCDateTime, default=lambda: datetime.now(UTC))
    ended: Mapped[datetime | None] = mapped_column(UTCDateTime, default=lambda: datetime.now(UTC))


class History(Columns, Versioned, Base):
    __tablename__ = "with_history"
    __versioned__ = VersionOptions(period=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Numbered(Columns, VersionedRow, Base):
    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Timed(Columns, TemporalRow, Base):
    __tablename__ = "timed"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Copied(Columns, CopiedRow, Base):
    __tablename__ = "copied"
    id: Mapped[int] = mapped_column(primary_key=True)


class NumberedWithPeriod(Columns, VersionedRow, Base):
    __tablename__ = "numbered_with_period"
    __temporal__ = TemporalOptions(period=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


CLASSES = {
    "plain": Plain,
    "VersionedRow": Numbered,
    "TemporalRow": Timed,
    "CopiedRow": Copied,
    "history table": History,
}
FORMS = ("VersionedRow", "TemporalRow", "CopiedRow")


def values(cls: Any, number: int, name: str = "before") -> dict[str, Any]:
    key = {} if cls is Copied else {"id": number}
    return {**key, "name": f"{name}{number}", "city": "here", "size": number, "price": number, "note": None}


def tables(cls: Any) -> list[Any]:
    return [cls.__table__, *([cls.__history_mapper__.local_table] if cls is History else [])]


def rows_of(session: Session, cls: Any) -> int:
    """Count all rows, those of the past too."""
    connection = session.connection()
    return sum(connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables(cls))


@contextmanager
def filled(engine: Engine, cls: Any, *, rows: int = ROWS) -> Generator[Session, None, None]:
    """Yield a session with `rows` objects, each with one version; nothing of it stays."""
    with Session(engine) as session:
        if rows:
            session.execute(insert(cls), [values(cls, number) for number in range(1, rows + 1)])
        session.commit()
        try:
            yield session
        finally:
            session.rollback()
            with engine.begin() as connection:
                for table in tables(cls):
                    connection.execute(delete(table))


def inserting(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with filled(engine, cls, rows=0) as session:

            def run() -> None:
                session.add_all([cls(**values(cls, number)) for number in range(1, ROWS + 1)])
                session.flush()

            yield run
            verify(rows_of(session, cls) == ROWS, "rows")

    return start


def updating(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with filled(engine, cls) as session:
            objects = session.scalars(select(cls)).all()

            def run() -> None:
                for obj in objects:
                    obj.name = "after"
                session.flush()

            yield run
            verify(session.scalars(select(cls.name)).all() == ["after"] * ROWS, "names")
            verify(rows_of(session, cls) == ROWS * (1 if cls is Plain else 2), "rows")

    return start


def deleting(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with filled(engine, cls) as session:
            objects = session.scalars(select(cls)).all()

            def run() -> None:
                for obj in objects:
                    session.delete(obj)
                session.flush()

            yield run
            verify(session.scalar(select(func.count()).select_from(cls)) == 0, "no rows")
            verify(rows_of(session, cls) == (0 if cls is Plain else ROWS), "rows of the past")

    return start


def updating_in_bulk(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with filled(engine, cls) as session:
            statement = update(cls).values(name="after").execution_options(synchronize_session=False)
            yield lambda: session.execute(statement) and None
            verify(session.scalars(select(cls.name)).all() == ["after"] * ROWS, "names")
            verify(rows_of(session, cls) == ROWS * (1 if cls is Plain else 2), "rows")

    return start


def tick() -> datetime:
    time.sleep(0.002)
    moment = datetime.now(UTC)
    time.sleep(0.002)
    return moment


def settle(engine: Engine, cls: Any) -> None:
    """Remove what earlier races have left in a table of PostgreSQL, which each scan would look at."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in tables(cls):
                connection.execute(text(f"VACUUM ANALYZE {table.name}"))


@contextmanager
def with_versions(engine: Engine, cls: Any) -> Generator[tuple[Session, datetime], None, None]:
    """Yield a session with five versions of each object, and a moment at which the third was valid."""
    with filled(engine, cls) as session:
        moment = tick()
        for number in range(1, VERSIONS):
            session.execute(update(cls).values(name=f"v{number}").execution_options(synchronize_session=False))
            session.commit()
            if number == VERSIONS // 2:
                moment = tick()
        settle(engine, cls)
        session.connection()
        yield session, moment


def reading_plain(rows: int, cls: Any = Plain) -> Callable[[Engine], Contestant[int]]:
    def start(engine: Engine) -> Contestant[int]:
        with filled(engine, cls, rows=rows) as session:
            session.execute(update(cls).where(cls.id > ROWS).values(city="elsewhere"))
            session.commit()
            settle(engine, cls)
            session.connection()
            statement = select(cls).where(cls.city == "here")
            found = yield lambda: len([obj.name for obj in session.scalars(statement)])
            verify(found == ROWS, "objects")

    return start


def reading_current(cls: Any) -> Callable[[Engine], Contestant[int]]:
    def start(engine: Engine) -> Contestant[int]:
        with with_versions(engine, cls) as (session, _):
            statement = select(cls).where(cls.city == "here")
            found = yield lambda: len([obj.name for obj in session.scalars(statement)])
            verify(found == ROWS, "objects")

    return start


def reading_the_past(cls: Any) -> Callable[[Engine], Contestant[int]]:
    def start(engine: Engine) -> Contestant[int]:
        with with_versions(engine, cls) as (session, moment):
            statement = select(cls).where(cls.city == "here")

            def read() -> int:
                if cls is History:
                    return len([obj.name for obj in as_of(session, statement, moment)])
                return len([obj.name for obj in session.scalars(statement.options(valid_at(moment)))])

            found = yield read
            verify(found == ROWS, "objects of the past")
            wanted = session.scalars(select(Timed.name).options(valid_at(moment))).all() if cls is Timed else ["v2"]
            verify(set(wanted) == {"v2"}, "their names")

    return start


def compare(bench: Benchmark, title: str, job: Callable[[Any], Any], **limits: Any) -> None:
    race = bench.race(title, {name: job(cls) for name, cls in CLASSES.items()})
    for form in FORMS:
        if limits:
            race.at_most(form, **limits)


def main(argv: Sequence[str] | None = None) -> None:
    with benchmark(__doc__, argv) as bench:
        Base.metadata.create_all(bench.engine)
        compare(bench, "insert", inserting)
        compare(bench, "update", updating, ratio=2.5, statements=3)
        compare(bench, "delete", deleting)
        compare(bench, "update(), one statement", updating_in_bulk, statements=3)
        bench.race(
            "read 1,000 current objects of 5,000 rows",
            {
                "plain, as many rows": reading_plain(ROWS * VERSIONS),
                "plain, 1,000 rows": reading_plain(ROWS),
                **{name: reading_current(CLASSES[name]) for name in (*FORMS, "history table")},
            },
        )
        race = bench.race(
            "read 1,000 objects of 5,000 rows as of a moment",
            {
                "plain, as many rows": reading_plain(ROWS * VERSIONS),
                "the same, with two times": reading_plain(ROWS * VERSIONS, PlainWithTimes),
                "TemporalRow": reading_the_past(Timed),
                "VersionedRow with period": reading_the_past(NumberedWithPeriod),
                "history table, as_of": reading_the_past(History),
            },
        )
        for name in ("TemporalRow", "VersionedRow with period"):
            race.at_most(name, ratio=1.3, of="the same, with two times", statements=1)


if __name__ == "__main__":
    main(sys.argv[1:])
