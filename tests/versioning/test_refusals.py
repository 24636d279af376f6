"""Statements whose history cannot be written are refused before they write; the session can be used afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, bindparam, delete, insert, select, update
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import (
    NoSuchVersionError,
    NotVersionedError,
    PastObjectError,
    UnversionedWriteError,
    versioning_disabled,
)
from tests._support import count_statements
from tests.versioning._models import docs, history


@pytest.fixture(name="Doc")
def _doc(plain_bases: Any, engine: Engine, session: Session) -> Any:
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    session.execute(insert(Doc), [{"id": number, "title": "a"} for number in range(1, 4)])
    session.commit()
    return Doc


def refused(session: Session, engine: Engine, statement: Any, parameters: Any = None) -> None:
    with count_statements(engine) as log, pytest.raises(UnversionedWriteError, match=r"[Dd]oc"):
        session.execute(statement, parameters)
    assert log.starting("INSERT", "UPDATE", "DELETE", "REPLACE") == []


def upsert(engine: Engine, Doc: Any) -> Any:
    from sqlalchemy.dialects import mysql, postgresql, sqlite

    if engine.dialect.name == "mysql":
        return mysql.insert(Doc).values(id=1, title="b").on_duplicate_key_update(title="b")
    dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[engine.dialect.name]
    return dialect.insert(Doc).values(id=1, title="b").on_conflict_do_update(index_elements=["id"], set_={"title": "b"})


def test_an_upsert(Doc: Any, session: Session, engine: Engine) -> None:
    refused(session, engine, upsert(engine, Doc))
    session.rollback()
    with versioning_disabled(session):
        session.execute(upsert(engine, Doc))
    session.commit()
    assert session.get_one(Doc, 1).title == "b"
    assert history(session, Doc) == []


@pytest.mark.only_on("sqlite", "postgresql")
def test_an_insert_that_does_nothing_on_conflict_is_let_through(Doc: Any, session: Session, engine: Engine) -> None:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[engine.dialect.name]
    session.execute(dialect.insert(Doc).values(id=1, title="b").on_conflict_do_nothing())
    session.execute(dialect.insert(Doc).values(id=9, title="b").on_conflict_do_nothing())
    assert history(session, Doc) == []
    assert session.scalars(select(Doc.title).order_by(Doc.id)).all() == ["a", "a", "a", "b"]


@pytest.mark.only_on("sqlite")
def test_insert_or_replace(Doc: Any, session: Session, engine: Engine) -> None:
    refused(session, engine, insert(Doc).prefix_with("OR REPLACE").values(id=1, title="b"))


@pytest.mark.only_on("mariadb")
def test_an_update_and_a_delete_with_a_limit(Doc: Any, session: Session, engine: Engine) -> None:
    refused(session, engine, update(Doc).values(title="b").with_dialect_options(mysql_limit=1))
    refused(session, engine, delete(Doc).with_dialect_options(mysql_limit=1))


def test_a_core_executemany_on_the_table(Doc: Any, session: Session, engine: Engine) -> None:
    table = Doc.__table__
    statement = update(table).where(table.c.id == bindparam("key")).values(title=bindparam("name"))
    refused(session, engine, statement, [{"key": 1, "name": "b"}, {"key": 2, "name": "c"}])


def test_the_session_goes_on_after_a_refusal(Doc: Any, session: Session, engine: Engine) -> None:
    refused(session, engine, upsert(engine, Doc))
    session.rollback()
    session.get_one(Doc, 1).title = "b"
    session.commit()
    assert history(session, Doc, "title") == ["a"]


def test_the_errors_are_pattern_errors_and_those_of_sqlalchemy_that_they_refine() -> None:
    from sqla_patterns import versioning

    assert issubclass(NotVersionedError, (PatternError, ArgumentError))
    for error in (NoSuchVersionError, PastObjectError, UnversionedWriteError):
        assert issubclass(error, PatternError)
        assert issubclass(error, InvalidRequestError)
    assert issubclass(versioning.StaleVersionError, PatternError)
    assert issubclass(versioning.StaleVersionError, StaleDataError)
