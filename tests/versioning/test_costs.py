"""Cost in statements: a few for a whole flush, and none for sessions without versioned objects."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, String, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.versioning import Versioned, as_of, version_at, versions
from tests._support import count_statements
from tests.versioning._models import docs, history_table, library, tick

SIZES = [1, 10, 1500]


@pytest.fixture(name="Doc")
def _doc(plain_bases: Any, engine: Engine) -> Any:
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    return Doc


def filled(session: Session, Doc: Any, size: int) -> list[Any]:
    session.execute(insert(Doc), [{"id": number, "title": "a"} for number in range(1, size + 1)])
    session.commit()
    return list(session.scalars(select(Doc).order_by(Doc.id)))


def inserted(log: Any) -> list[str]:
    return [statement for statement in log if "history" in statement]


@pytest.mark.parametrize("size", SIZES)
def test_updates(Doc: Any, session: Session, engine: Engine, size: int) -> None:
    # One INSERT ... SELECT for each 500 rows or more, and the usual UPDATE.
    for doc in filled(session, Doc, size):
        doc.title = "b"
    with count_statements(engine) as log:
        session.flush()
    assert len(log) <= 2 + size // 500, log.text
    assert len(inserted(log)) == len(log.starting("INSERT"))


@pytest.mark.parametrize("size", SIZES)
def test_deletes(Doc: Any, session: Session, engine: Engine, size: int) -> None:
    for doc in filled(session, Doc, size):
        session.delete(doc)
    with count_statements(engine) as log:
        session.flush()
    assert len(log) <= 2 + size // 500, log.text


@pytest.mark.parametrize("size", SIZES)
def test_inserts_cost_what_they_cost_without_history(
    Doc: Any, plain_bases: Any, session: Session, engine: Engine, size: int
) -> None:
    Base = plain_bases()

    class Plain(Base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    counts = []
    for cls in (Plain, Doc):
        session.add_all([cls(title="a") for _ in range(size)])
        with count_statements(engine) as log:
            session.flush()
        counts.append(len(log))
    assert counts[0] == counts[1]


def test_all_options_cost_one_statement_more(plain_bases: Any, session: Session, engine: Engine) -> None:
    # The row of the revision.
    world = library(plain_bases())
    world.metadata.create_all(engine)
    session.add_all([world.Author(id=number, name="a") for number in range(1, 101)])
    with count_statements(engine) as log:
        session.flush()
    # Keys that the user sets are looked up in the history.
    assert len(log.starting("SELECT")) <= 1, log.text
    session.commit()
    for author in session.scalars(select(world.Author)).all():
        author.name = "b"
    with count_statements(engine) as log:
        session.commit()
    assert len(log) <= 3, log.text
    for author in session.scalars(select(world.Author)).all():
        session.delete(author)
    with count_statements(engine) as log:
        session.commit()
    # No SELECT of books: the unit of work asks for them only if there may be some.
    assert len(log.starting("INSERT", "DELETE", "UPDATE")) <= 3, log.text


def test_nothing_is_read_back_after_a_flush(plain_bases: Any, session: Session, engine: Engine) -> None:
    world = library(plain_bases())
    world.metadata.create_all(engine)
    author = world.Author(id=1, name="a")
    session.add(author)
    session.flush()
    with count_statements(engine) as log:
        assert (author.version, author.revision_id is None, author.valid_from is None) == (1, False, False)
    assert not log
    author.name = "b"
    session.flush()
    with count_statements(engine) as log:
        assert (author.version, author.revision_id is None, author.valid_from is None) == (2, False, False)
    assert not log, log.text


def test_an_idle_flush_and_a_clean_one_emit_nothing(Doc: Any, session: Session, engine: Engine) -> None:
    docs = filled(session, Doc, 3)
    docs[0].title = "b"
    session.flush()
    with count_statements(engine) as log:
        session.flush()
        docs[1].title = docs[1].title
        session.flush()
    assert not log


def test_reading_costs_one_statement(plain_bases: Any, session: Session, engine: Engine) -> None:
    from tests.versioning._models import docs

    Doc = docs(plain_bases(), period=True)
    Doc.metadata.create_all(engine)
    documents = filled(session, Doc, 100)
    moment = tick()
    for doc in documents:
        doc.title = "b"
    session.commit()
    doc = session.get_one(Doc, 1)
    for read in (
        lambda: as_of(session, select(Doc), moment),
        lambda: version_at(session, Doc, 1, moment),
    ):
        with count_statements(engine) as log:
            read()
        assert len(log) == 1, log.text
    with count_statements(engine) as log:
        assert len(versions(session, doc)) == 2
    assert len(log) <= 2, log.text


def test_sessions_without_versioned_classes(plain_bases: Any, session: Session, engine: Engine) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Other(Base):
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    assert history_table(Doc) is not None
    with count_statements(engine) as log:
        other = Other(name="a")
        session.add(other)
        session.flush()
        other.name = "b"
        session.flush()
        session.execute(select(Other)).all()
        session.delete(other)
        session.flush()
    assert [text.split()[0] for text in log] == ["INSERT", "UPDATE", "SELECT", "DELETE"]
    assert not [key for key in session.info if "sqla_patterns" in str(key) or "version" in str(key)]
