"""Revisions: who made and who ended a version; the log has a row only if something versioned changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, String, delete, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions, revision, versions
from tests._support import count_statements
from tests.versioning._models import count, history, library


@pytest.fixture
def world(bases: Any, engine: Engine) -> SimpleNamespace:
    base = bases()

    class Revision(RevisionLog, base):
        __tablename__ = "revision"
        ip: Mapped[str | None] = mapped_column(String(40), default=None)

    class Book(Versioned, base):
        __tablename__ = "book"
        __versioned__ = VersionOptions(operation=True, revision=Revision)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(50))

    class Other(base):
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(engine)
    return SimpleNamespace(Revision=Revision, Book=Book, Other=Other)


def test_a_revision_names_who_made_each_version_and_who_ended_it(world: Any, session: Session) -> None:
    book = world.Book(id=1, title="a")
    with revision(session, actor="ann", request_id="r1", reason="new"):
        session.add(book)
        session.commit()
    with revision(session, actor="bob", reason="typo", meta={"ticket": 7}):
        book.title = "b"
        session.commit()
    with revision(session, actor="eve"):
        session.delete(book)
        session.commit()
    one, two = versions(session, book)
    assert (one.revision.actor, one.revision.request_id, one.revision.reason) == ("ann", "r1", "new")
    assert (two.revision.actor, two.revision.reason, two.revision.meta) == ("bob", "typo", {"ticket": 7})
    actors = {row.id: row.actor for row in session.scalars(select(world.Revision))}
    rows = history(session, world.Book, "version", "revision_id", "ended_by_id", "operation")
    assert [(number, actors[made], actors[ended], how) for number, made, ended, how in rows] == [
        (1, "ann", "bob", "update"),
        (2, "bob", "eve", "delete"),
    ]


def test_the_log_tells_the_time_of_the_transaction(world: Any, session: Session) -> None:
    before = datetime.now(UTC)
    session.add(world.Book(id=1, title="a"))
    session.commit()
    session.get_one(world.Book, 1).title = "b"
    session.commit()
    first, second = session.scalars(select(world.Revision).order_by(world.Revision.id)).all()
    assert before <= first.at <= second.at <= datetime.now(UTC)
    assert history(session, world.Book, "changed") == [second.at]
    assert (first.actor, first.request_id, first.reason) == (None, None, None)


def test_the_current_row_names_who_made_it(world: Any, session: Session) -> None:
    with revision(session, actor="ann"):
        book = world.Book(id=1, title="a")
        session.add(book)
        session.commit()
    assert session.get_one(world.Revision, book.revision_id).actor == "ann"
    (only,) = versions(session, book)
    assert only.revision.actor == "ann"


def test_one_row_of_the_log_for_everything_in_one_transaction(world: Any, session: Session, engine: Engine) -> None:
    with revision(session, actor="ann"):
        session.add_all([world.Book(id=number, title="a") for number in range(1, 11)])
        session.flush()
        session.get_one(world.Book, 1).title = "b"
        session.flush()
        session.execute(update(world.Book).values(title="c"))
        session.execute(delete(world.Book).where(world.Book.id > 5))
        session.commit()
    assert count(session, world.Revision) == 1
    assert set(history(session, world.Book, "ended_by_id")) == set(session.scalars(select(world.Revision.id)))


def test_nothing_versioned_changed_no_row(world: Any, session: Session, engine: Engine) -> None:
    with revision(session, actor="ann"):
        session.add(world.Other(id=1))
        session.commit()
        session.execute(select(world.Book)).all()
        session.execute(update(world.Other).values(id=2))
        session.commit()
    assert count(session, world.Revision) == 0
    book = world.Book(id=1, title="a")
    session.add(book)
    session.commit()
    with revision(session, actor="ann"), count_statements(engine) as log:
        book.title = "a"
        session.commit()
    # The old value was expired: SQLAlchemy cannot know that its UPDATE changes nothing.
    assert log.starting("INSERT") == []
    assert count(session, world.Revision) == 1


def test_a_bulk_statement_that_matches_nothing_leaves_no_row(world: Any, session: Session) -> None:
    with revision(session, actor="ann"):
        session.execute(update(world.Book).where(world.Book.id == 99).values(title="b"))
        session.execute(delete(world.Book).where(world.Book.id == 99))
        session.commit()
    assert count(session, world.Revision) == 0


def test_a_bulk_insert_names_its_maker(world: Any, session: Session) -> None:
    with revision(session, actor="ann"):
        session.execute(insert(world.Book), [{"id": number, "title": "a"} for number in range(1, 4)])
        session.commit()
    made = set(session.scalars(select(world.Book.revision_id)))
    assert made == set(session.scalars(select(world.Revision.id)))


def test_a_rollback_takes_the_row_with_it_and_the_next_transaction_makes_its_own(world: Any, session: Session) -> None:
    with revision(session, actor="ann"):
        session.add(world.Book(id=1, title="a"))
        session.flush()
        session.rollback()
        assert count(session, world.Revision) == 0
        session.add(world.Book(id=2, title="a"))
        session.commit()
        session.add(world.Book(id=3, title="a"))
        session.commit()
    assert [row.actor for row in session.scalars(select(world.Revision))] == ["ann", "ann"]


def test_a_savepoint_that_is_rolled_back_takes_its_row_with_it(world: Any, session: Session, engine: Engine) -> None:
    from tests.versioning._models import use_real_savepoints

    engine.dispose()
    use_real_savepoints(engine)
    if engine.dialect.name == "sqlite":
        world.Book.metadata.create_all(engine)
    with revision(session, actor="ann"):
        savepoint = session.begin_nested()
        session.add(world.Book(id=1, title="a"))
        session.flush()
        savepoint.rollback()
        session.add(world.Book(id=2, title="a"))
        session.commit()
    assert count(session, world.Revision) == 1
    assert session.get_one(world.Book, 2).revision_id == session.scalar(select(world.Revision.id))


def test_blocks_one_after_the_other_and_in_each_other(world: Any, session: Session) -> None:
    book = world.Book(id=1, title="a")
    with revision(session, actor="ann", reason="outer"):
        session.add(book)
        session.flush()
        with revision(session, actor="bob"):
            book.title = "b"
            session.flush()
        book.title = "c"
        session.flush()
    book.title = "d"
    session.commit()
    actors = [version.revision.actor for version in versions(session, book)]
    assert actors == ["ann", "bob", "ann", None]


def test_what_is_changed_in_the_block_is_the_actors_also_if_it_is_flushed_later(world: Any, session: Session) -> None:
    book = world.Book(id=1, title="a")
    session.add(book)
    session.commit()
    with revision(session, actor="ann"):
        book.title = "b"
    session.commit()
    assert versions(session, book)[-1].revision.actor == "ann"


def test_what_was_changed_before_the_block_is_not_the_actors(world: Any, session: Session) -> None:
    book = world.Book(id=1, title="a")
    session.add(book)
    session.commit()
    book.title = "b"
    with revision(session, actor="ann"):
        session.commit()
    assert versions(session, book)[-1].revision.actor is None


def test_an_error_in_the_block_is_the_callers(world: Any, session: Session) -> None:
    book = world.Book(id=1, title="a")
    session.add(book)
    session.commit()
    with pytest.raises(ZeroDivisionError), revision(session, actor="ann"):
        book.title = "b"
        raise ZeroDivisionError
    session.rollback()
    book.title = "c"
    session.commit()
    assert [version.object.title for version in versions(session, book)] == ["a", "c"]
    assert versions(session, book)[-1].revision.actor is None


def test_columns_of_the_users(world: Any, session: Session) -> None:
    with revision(session, actor="ann", ip="::1"):
        session.add(world.Book(id=1, title="a"))
        session.commit()
    assert session.scalars(select(world.Revision.ip)).all() == ["::1"]


def test_a_column_that_is_not_there_is_refused(world: Any, session: Session) -> None:
    with pytest.raises((PatternError, TypeError), match="nonsense"), revision(session, actor="ann", nonsense=1):
        session.add(world.Book(id=1, title="a"))
        session.commit()


def test_two_sessions_have_revisions_of_their_own(
    plain_bases: Any, engine_factory: Callable[..., Engine], engine: Engine
) -> None:
    world = library(plain_bases())
    engine = engine_factory()
    world.metadata.create_all(engine)
    with Session(engine) as one, Session(engine) as two, revision(one, actor="ann"), revision(two, actor="bob"):
        one.add(world.Author(id=1, name="a"))
        one.commit()
        two.add(world.Author(id=2, name="b"))
        two.commit()
        found = {author.id: author.revision_id for author in one.scalars(select(world.Author))}
        assert [one.get_one(world.Revision, found[key]).actor for key in (1, 2)] == ["ann", "bob"]


def test_a_revision_costs_one_insert_a_transaction(world: Any, session: Session, engine: Engine) -> None:
    session.add_all([world.Book(id=number, title="a") for number in range(1, 51)])
    session.commit()
    books = session.scalars(select(world.Book)).all()
    for book in books:
        book.title = "b"
    with revision(session, actor="ann"), count_statements(engine) as log:
        session.flush()
    assert len(log) <= 4, log.text


def test_a_log_that_is_no_log_is_refused_when_mapped(plain_bases: Any) -> None:
    Base = plain_bases()

    class NoLog(Base):
        __tablename__ = "no_log"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(PatternError, match="RevisionLog"):

        class Book(Versioned, Base):
            __tablename__ = "book"
            __versioned__ = VersionOptions(revision=NoLog)
            id: Mapped[int] = mapped_column(primary_key=True)


def test_the_key_of_a_deleted_revision_does_not_take_history_with_it(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # The user may delete old rows of the log; the history stays.
    world = library(plain_bases())
    world.metadata.create_all(engine)
    author = world.Author(id=1, name="a")
    session.add(author)
    session.commit()
    author.name = "b"
    session.commit()
    first, second = session.scalars(select(world.Revision).order_by(world.Revision.id)).all()
    assert second is not None
    session.delete(first)
    session.commit()
    assert history(session, world.Author, "name") == ["a"]
