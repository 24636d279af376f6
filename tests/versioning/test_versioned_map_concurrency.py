"""Two writers of a stream: one makes the version, the other is told, and nothing is half done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.exceptions import StateError
from sqla_patterns.versioning import StaleVersionError, delete_stream, get_current
from tests._support import Outcome, together
from tests.versioning._versioned_maps import configs, count_rows, past, saved

SERVERS = ("postgresql", "mariadb")
pytestmark = pytest.mark.only_on(*SERVERS)


@pytest.fixture
def world(plain_bases: Any, engine_factory: Callable[..., Engine]) -> tuple[Any, Engine]:
    engine = engine_factory(pool_size=10)
    cls = configs(plain_bases())
    with Session(engine) as session:
        saved(session, cls, {"a": 0, "b": 0}, tenant="t1")
    return cls, engine


def raised(outcomes: list[Outcome]) -> list[BaseException]:
    return [each for each in outcomes if each is not None]


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_of_writers_that_begin_at_one_version_one_wins(world: Any, level: str) -> None:
    cls, engine = world
    sessions = [Session(engine.execution_options(isolation_level=level)) for _ in range(5)]
    maps = [get_current(session, cls, tenant="t1") for session in sessions]

    def write(number: int) -> Callable[[], None]:
        def job() -> None:
            maps[number][f"k{number}"] = number
            sessions[number].commit()

        return job

    outcomes = together(*map(write, range(5)))
    losers = raised(outcomes)
    assert [isinstance(each, StaleDataError) for each in losers] == [True] * 4, losers
    for number, session in enumerate(sessions):
        if outcomes[number] is not None:
            session.rollback()
            assert (maps[number].version, dict(maps[number])) == (1, {"a": 0, "b": 0})
            # The object in hand is of the past now, and what is current can be changed.
            current = get_current(session, cls, tenant="t1")
            current[f"k{number}"] = number
            session.commit()
        session.close()
    with Session(engine) as session:
        versions = past(session, cls, tenant="t1")
        assert [number for number, _ in versions] == [1, 2, 3, 4, 5, 6]
        assert versions[-1][1] == {"a": 0, "b": 0, **{f"k{number}": number for number in range(5)}}
        assert count_rows(session, cls)[0] == 6


def test_writers_that_try_again_lose_nothing(world: Any) -> None:
    cls, engine = world

    def count(who: int) -> Callable[[], None]:
        def job() -> None:
            done = 0
            with Session(engine) as session:
                while done < 5:
                    config = get_current(session, cls, tenant="t1")
                    config["a"] = config["a"] + 1
                    config[f"by{who}"] = done
                    try:
                        session.commit()
                        done += 1
                    except StaleVersionError:
                        session.rollback()

        return job

    assert raised(together(*map(count, range(4)))) == []
    with Session(engine) as session:
        versions = past(session, cls, tenant="t1")
        assert [number for number, _ in versions] == list(range(1, 22))
        assert [values["a"] for _, values in versions] == list(range(21))


def test_of_two_that_begin_a_stream_one_wins(world: Any) -> None:
    cls, engine = world

    def begin(number: int) -> Callable[[], None]:
        def job() -> None:
            with Session(engine) as session:
                session.add(cls({"first": number}, tenant="new"))
                session.commit()

        return job

    losers = raised(together(*map(begin, range(4))))
    assert [type(each) for each in losers] == [StaleVersionError] * 3
    with Session(engine) as session:
        assert len(past(session, cls, tenant="new")) == 1


def test_a_stream_that_is_deleted_while_it_is_written_is_gone(world: Any) -> None:
    cls, engine = world

    def write() -> None:
        with Session(engine) as session:
            for number in range(15):
                config = get_current(session, cls, tenant="t1")
                if config is None:
                    return
                config[f"k{number}"] = number
                try:
                    session.commit()
                except (StaleVersionError, DBAPIError):
                    session.rollback()

    def remove() -> None:
        with Session(engine) as session:
            for _ in range(20):
                try:
                    delete_stream(session, cls, tenant="t1")
                    session.commit()
                    return
                except DBAPIError:  # a deadlock, which the database tells one of the two
                    session.rollback()

    assert raised(together(write, remove, write)) == []
    with Session(engine) as session:
        # Nothing was written again, since a writer stops where it finds no stream.
        assert past(session, cls, tenant="t1") == []
        assert count_rows(session, cls) == (0, 0, 0)


@pytest.mark.parametrize("shares", [True, False])
def test_a_writer_whose_snapshot_has_a_deleted_stream_is_told(world: Any, shares: bool) -> None:
    cls, engine = world
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as one, Session(engine) as two:
        ours = get_current(one, cls, tenant="t1")
        delete_stream(two, cls, tenant="t1")
        two.commit()
        if not shares:
            ours.clear()
        ours["c"] = 1
        # PostgreSQL refuses to lock a row that is in the snapshot and not there any more.
        told = OperationalError if engine.dialect.name == "postgresql" else StaleVersionError
        with pytest.raises(told):
            one.commit()
    with Session(engine) as session:
        assert count_rows(session, cls) == (0, 0, 0)


def test_delete_of_loaded_versions_sees_a_version_that_its_snapshot_has_not(world: Any) -> None:
    cls, engine = world
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as one, Session(engine) as two:
        ours = get_current(one, cls, tenant="t1")
        get_current(two, cls, tenant="t1")["c"] = 1
        two.commit()
        one.delete(ours)
        # PostgreSQL's snapshot has no later version; its foreign keys have: the next shares a value of this one.
        told = OperationalError if engine.dialect.name == "postgresql" else StateError
        with pytest.raises(told):
            one.commit()
    with Session(engine) as session:
        assert [number for number, _ in past(session, cls, tenant="t1")] == [1, 2]


def test_streams_do_not_wait_for_each_other(world: Any) -> None:
    cls, engine = world
    with Session(engine) as one, Session(engine) as two:
        saved(one, cls, {"a": 0}, tenant="t2")
        ours, theirs = get_current(one, cls, tenant="t1"), get_current(two, cls, tenant="t2")
        ours["a"] = 1
        one.flush()
        theirs["a"] = 1
        two.commit()
        one.commit()
        assert (ours.version, theirs.version) == (2, 2)
