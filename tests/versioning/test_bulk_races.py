"""Bulk statements whose criteria match a row no longer when another transaction has let go of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine, String, delete, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column, with_loader_criteria

from sqla_patterns.versioning import Versioned, VersionOptions, versions
from tests._support import count_statements

pytestmark = pytest.mark.only_on("postgresql", "mariadb")


def models(base: Any, **options: Any) -> tuple[Any, Any]:
    class Country(Versioned, base):
        __tablename__ = "country"
        __versioned__ = VersionOptions(**options)
        key: Mapped[str] = mapped_column(String(10), primary_key=True)
        size: Mapped[int] = mapped_column(default=0)

    class Flag(base):
        __tablename__ = "flag"
        id: Mapped[int] = mapped_column(primary_key=True)
        hidden: Mapped[bool] = mapped_column(default=False)

    return Country, Flag


@contextmanager
def holding(engine: Engine, statement: Any) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Execute a statement, and commit it when the function that is given to the block waits for its lock."""
    session = Session(engine)
    session.execute(statement)

    def meanwhile(job: Callable[[], None]) -> None:
        errors: list[BaseException] = []

        def run() -> None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001  # raised below
                errors.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        wait_until_blocked(engine)
        session.commit()
        thread.join(30)
        assert not thread.is_alive()
        if errors:
            raise errors[0]

    try:
        yield meanwhile
    finally:
        session.close()


def wait_until_blocked(engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    else:
        waiting = text(
            "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist"
            " ON id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND db = database()"
        )
    with engine.connect() as connection:
        for _ in range(100):
            if connection.scalar(waiting):
                return
            connection.rollback()
            time.sleep(0.15)  # innodb_trx shows what it showed before if it is read more often
    raise AssertionError("nobody waits")


def criteria(Country: Any, where: str) -> Any:
    if where == "the row":
        return Country.size < 5
    if where == "a subquery":
        return Country.key.in_(select(Country.key).where(Country.size < 5))
    return Country.size < select(func.count(Country.key) + 1).correlate(None).scalar_subquery()


@pytest.mark.parametrize("granularity", ["flush", "transaction"])
@pytest.mark.parametrize("where", ["the row", "a subquery", "an aggregate"])
@pytest.mark.parametrize("option", [None, "another class", "this class"])
@pytest.mark.parametrize("kind", ["update", "delete"])
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_row_that_matches_no_longer_has_no_copy_of_its_current_version(
    plain_bases: Any,
    engine_factory: Callable[..., Engine],
    granularity: str,
    where: str,
    option: str | None,
    kind: str,
    isolation: str,
) -> None:
    engine = engine_factory()
    refused = engine.dialect.name == "postgresql" and isolation == "REPEATABLE READ"
    Country, Flag = models(plain_bases(), period=True, granularity=granularity)
    Country.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Country(key="a", size=1), Country(key="b", size=1)])
        session.commit()
    statement = update(Country).values(size=Country.size + 1) if kind == "update" else delete(Country)
    statement = statement.where(criteria(Country, where))
    if option is not None:
        target = Flag.hidden.is_(False) if option == "another class" else Country.size < 5
        statement = statement.options(with_loader_criteria(Flag if option == "another class" else Country, target))

    def change() -> None:
        with Session(engine.execution_options(isolation_level=isolation)) as session:
            session.execute(statement)
            session.commit()

    with holding(engine, update(Country).where(Country.key == "a").values(size=9)) as meanwhile:
        if refused:
            with pytest.raises(OperationalError, match="could not serialize access"):
                meanwhile(change)
        else:
            meanwhile(change)

    History = Country.__history_mapper__.class_
    with Session(engine) as session:
        for key in "ab":
            present = session.get(Country, key)
            copies = session.scalars(select(History.version).where(History.key == key).order_by(History.version)).all()
            assert list(copies) == list(range(1, len(copies) + 1)), key
            if present is not None:
                assert present.version == len(copies) + 1, key
        held = session.get_one(Country, "a")
        assert held.size in ({9} if refused else {9, 10})
        assert held.version == (2 if held.size == 9 else 3)
        held.size = 20
        session.commit()
        assert [each.number for each in versions(session, Country, "a")] == list(range(1, held.version + 1))


def test_a_statement_of_columns_of_the_row_needs_two_statements_under_options_of_other_classes(
    plain_bases: Any, engine: Engine
) -> None:
    Country, Flag = models(plain_bases(), period=True)
    Country.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Country(key="a", size=1), Country(key="b", size=1)])
        session.commit()
        session.connection()
        statement = update(Country).where(Country.size < 5).values(size=7)
        with count_statements(engine) as log:
            session.execute(
                statement.options(with_loader_criteria(Flag, Flag.hidden.is_(False))),
                execution_options={"synchronize_session": False},
            )
        assert len(log) == 2
        assert not [each for each in log if " IN (SELECT" in each]
