"""Histories of 1,000 rows: sqla_patterns.versioning, plain SQLAlchemy and SQLAlchemy-Continuum.

A row has a key and five columns. A timed part makes the change to 1,000 objects and flushes it, without a commit.
"Plain" is a class of the same columns without history; "upstream's columns" is `Versioned` without options; "all
options" has periods, operations and revisions. "Continuum" is SQLAlchemy-Continuum as ``make_versioned()`` leaves it;
its listeners are on only while it runs, since they look at every flush and statement of the process. Its history is
written after the image, ours before: each is checked for what it promises.

``--skip Continuum`` leaves the slow peer out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import sqlalchemy_continuum
from _harness import Benchmark, Contestant, benchmark, verify
from sqlalchemy import Engine, Numeric, String, delete, event, func, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column

from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions, as_of

ROWS = 1000


class Base(DeclarativeBase):
    pass


class Columns:
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    city: Mapped[str] = mapped_column(String(50))
    size: Mapped[int]
    price: Mapped[Any] = mapped_column(Numeric(10, 2))
    note: Mapped[str | None] = mapped_column(String(200))


class Plain(Columns, Base):
    __tablename__ = "plain"


class Bare(Columns, Versioned, Base):
    """Exactly upstream's columns."""

    __tablename__ = "bare"


class Revision(RevisionLog, Base):
    __tablename__ = "log"


class Full(Columns, Versioned, Base):
    """Everything switched on."""

    __tablename__ = "full_row"
    __versioned__ = VersionOptions(period=True, operation=True, revision=Revision)


# Its listeners take ``__versioned__`` of every class for their own: ours are mapped before.
configure_mappers()
sqlalchemy_continuum.make_versioned(user_cls=None)


class Peer(Columns, Base):
    __tablename__ = "peer"
    # Continuum's options; ours are never a dictionary.
    __versioned__: Any = {}


configure_mappers()


def _engine_listeners() -> list[tuple[str, Callable[..., Any]]]:
    manager = sqlalchemy_continuum.versioning_manager
    return [
        ("before_execute", manager.track_association_operations),
        ("rollback", manager.clear_connection),
        ("set_connection_execution_options", manager.track_cloned_connections),
    ]


def _continuum_off() -> None:
    from sqlalchemy.orm import Mapper

    manager = sqlalchemy_continuum.versioning_manager
    manager.remove_operations_tracking(Mapper)
    manager.remove_session_tracking(Session)
    for name, listener in _engine_listeners():
        event.remove(Engine, name, listener)


@contextmanager
def continuum() -> Iterator[None]:
    """Switch the listeners of the peer on."""
    from sqlalchemy.orm import Mapper

    manager = sqlalchemy_continuum.versioning_manager
    manager.track_operations(Mapper)
    manager.track_session(Session)
    for name, listener in _engine_listeners():
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        _continuum_off()


_continuum_off()


def values(number: int, name: str = "before") -> dict[str, Any]:
    return {"name": f"{name}{number}", "city": "here", "size": number, "price": number, "note": None}


def count(session: Session, entity: Any) -> int:
    return session.scalar(select(func.count()).select_from(entity)) or 0


def history_of(cls: Any) -> Any:
    if cls is Peer:
        return sqlalchemy_continuum.version_class(Peer)
    return cls.__history_mapper__.local_table


@contextmanager
def filled(engine: Engine, cls: Any, *, rows: int = ROWS) -> Generator[Session, None, None]:
    """Yield a session with `rows` rows and an empty history; nothing of it stays."""
    with Session(engine) as session:
        if rows:
            session.execute(insert(cls), [{"id": number, **values(number)} for number in range(1, rows + 1)])
        session.flush()
        if cls is not Plain:
            session.connection().execute(delete(history_of(cls)))
        session.commit()
        try:
            yield session
        finally:
            session.rollback()
            # Past any session's hooks.
            with engine.begin() as connection:
                connection.execute(delete(cls.__table__))
                if cls is not Plain:
                    connection.execute(delete(getattr(history_of(cls), "__table__", history_of(cls))))


def check(session: Session, cls: Any, rows: int) -> None:
    if cls is not Plain:
        verify(count(session, history_of(cls)) == rows, f"{rows} rows of history for {cls.__name__}")


def inserting(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with continuum() if cls is Peer else nullcontext(), filled(engine, cls, rows=0) as session:

            def run() -> None:
                session.add_all([cls(**values(number)) for number in range(ROWS)])
                session.flush()

            yield run
            verify(count(session, cls) == ROWS, "rows")
            check(session, cls, ROWS if cls is Peer else 0)

    return start


def updating(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with continuum() if cls is Peer else nullcontext(), filled(engine, cls) as session:
            objects = session.scalars(select(cls)).all()

            def run() -> None:
                for obj in objects:
                    obj.name = "after"
                session.flush()

            yield run
            verify(set(session.scalars(select(cls.name))) == {"after"}, "names")
            check(session, cls, ROWS)

    return start


def deleting(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with continuum() if cls is Peer else nullcontext(), filled(engine, cls) as session:
            objects = session.scalars(select(cls)).all()

            def run() -> None:
                for obj in objects:
                    session.delete(obj)
                session.flush()

            yield run
            verify(count(session, cls) == 0, "no rows")
            check(session, cls, ROWS)

    return start


def updating_in_bulk(cls: Any) -> Callable[[Engine], Contestant[None]]:
    def start(engine: Engine) -> Contestant[None]:
        with filled(engine, cls) as session:
            statement = update(cls).values(name="after").execution_options(synchronize_session=False)
            yield lambda: session.execute(statement) and None
            verify(set(session.scalars(select(cls.name))) == {"after"}, "names")
            check(session, cls, ROWS)

    return start


def reading(engine: Engine) -> Contestant[int]:
    """Read the current rows of a class without history."""
    with filled(engine, Plain) as session:
        session.connection()
        yield lambda: len([obj.name for obj in session.scalars(select(Plain))])


def reading_the_past(engine: Engine) -> Contestant[int]:
    """Read all rows as they were before half of them changed and a tenth went."""
    with filled(engine, Full) as session:
        time.sleep(0.002)
        moment = datetime.now(UTC)
        time.sleep(0.002)
        session.execute(update(Full).where(Full.id % 2 == 0).values(name="after"))
        session.execute(delete(Full).where(Full.id % 10 == 0))
        session.commit()
        session.connection()
        found = yield lambda: len([obj.name for obj in as_of(session, select(Full), moment)])
        verify(found == ROWS, "objects of the past")


def reading_the_past_of_the_peer(engine: Engine) -> Contestant[int]:
    """Read the versions that were valid, by a query of one's own; for objects, as theirs are documented."""
    with continuum(), filled(engine, Peer, rows=0) as session:
        session.add_all([Peer(**values(number)) for number in range(ROWS)])
        session.commit()
        for peer in session.scalars(select(Peer)).all():
            peer.name = "after"
        session.commit()
        peers = session.scalars(select(Peer)).all()
        session.connection()
        found = yield lambda: len([peer.versions[0].name for peer in peers])
        verify(found == ROWS, "objects of the past")


def compare(bench: Benchmark, title: str, job: Callable[[Any], Any], *, limit: float, statements: int | None) -> None:
    contestants = {
        "plain": job(Plain),
        "upstream's columns": job(Bare),
        "all options": job(Full),
        "Continuum": job(Peer),
    }
    race = bench.race(title, contestants)
    race.at_most("upstream's columns", ratio=limit, statements=statements)


def main(argv: Sequence[str] | None = None) -> None:
    with benchmark(__doc__, argv, peers=["SQLAlchemy-Continuum"]) as bench:
        Base.metadata.create_all(bench.engine)
        sqlite = bench.engine.dialect.name == "sqlite"
        # On SQLite the ORM inserts rows with integer keys one by one, history or not.
        compare(bench, "insert", inserting, limit=1.5, statements=ROWS if sqlite else 2)
        compare(bench, "update", updating, limit=1.8, statements=3)
        compare(bench, "delete", deleting, limit=1.8, statements=3)
        race = bench.race(
            "update(), one statement",
            {
                "plain": updating_in_bulk(Plain),
                "upstream's columns": updating_in_bulk(Bare),
                "all options": updating_in_bulk(Full),
            },
        )
        race.at_most("upstream's columns", statements=3)
        race = bench.race(
            "read the past of all",
            {
                "plain, the present": reading,
                "as_of": reading_the_past,
                "Continuum, object by object": reading_the_past_of_the_peer,
            },
        )
        race.at_most("as_of", ratio=2, statements=1)


if __name__ == "__main__":
    main(sys.argv[1:])
