"""After a commit that failed on a shard, what the error says is so, and nothing is left behind in a pool."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import sessionmaker

from sqla_patterns.sharding import (
    PartialCommitError,
    Shards,
    TransactionFailedError,
    TwoPhaseUnavailableError,
    create_all,
    pinned_to,
    sharded_sessionmaker,
)
from tests._support import Database
from tests.sharding._models import NAMES, Base, Location, rules

Maker = sessionmaker[ShardedSession]
Spell = Callable[[Maker], None]


def _rows() -> list[Location]:
    return [
        Location(id=1, continent="Asia", city="x"),
        Location(id=2, continent="Europe", city="x"),
        Location(id=3, continent="North America", city="x"),
    ]


def _by_commit(maker: Maker) -> None:
    with maker() as session:
        session.add_all(_rows())
        session.commit()


def _by_begin(maker: Maker) -> None:
    with maker.begin() as session:
        session.add_all(_rows())


def _by_session_begin(maker: Maker) -> None:
    with maker() as session, session.begin():
        session.add_all(_rows())
        session.flush()


SPELLINGS = [_by_commit, _by_begin, _by_session_begin]


class AwayError(Exception):
    pass


@contextmanager
def failing_commits(at: int) -> Generator[list[str], None, None]:
    """Have the commit number `at` raise, and those after it; yield the shards in the order of their commits."""
    tried: list[str] = []

    def commit(connection: Connection) -> None:
        tried.append(str(connection.get_execution_options()["sqla_patterns_shard"]))
        if len(tried) >= at:
            raise AwayError

    event.listen(Engine, "commit", commit)
    try:
        yield tried
    finally:
        event.remove(Engine, "commit", commit)


@pytest.fixture
def small_pools(database: Database, tmp_path: Any) -> Generator[Shards, None, None]:
    """Make shards with one connection each, which the next user is given."""
    engines: dict[str, Engine] = {}
    for name in NAMES:
        if database.name == "sqlite":
            engines[name] = create_engine(f"sqlite:///{tmp_path}/{name}.db", pool_size=1, max_overflow=0)
        else:
            engine = database.create_engine(pool_size=1, max_overflow=0)
            with engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE SCHEMA {name}")
            engines[name] = engine.execution_options(schema_translate_map={None: name})
    shards = Shards.from_engines(engines)
    create_all(shards, Base.metadata)
    yield shards
    for engine in engines.values():
        engine.dispose()


def _rows_of(shards: Shards) -> list[str]:
    """Return the shards that have rows, after the next user of each connection has committed."""
    found: list[str] = []
    for name, engine in shards.engines.items():
        with engine.begin() as connection:
            connection.execute(insert(Location.__table__).values(id=99, continent="", city=""))
        with engine.connect() as connection:
            if connection.scalar(select(func.count()).select_from(Location).where(Location.id < 99)):
                found.append(name)
    return found


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("at", [2, 3])
def test_a_partial_commit_says_what_is_where(small_pools: Shards, spell: Spell, at: int) -> None:
    maker = sharded_sessionmaker(small_pools, keys=rules())
    with failing_commits(at) as tried, pytest.raises(PartialCommitError) as error:
        spell(maker)
    told = error.value
    assert told.committed == tuple(sorted(tried[: at - 1]))
    assert told.in_doubt == (tried[at - 1],)
    assert told.failed == tuple(sorted(set(NAMES) - set(told.committed)))
    assert isinstance(told.__cause__, AwayError)
    assert sorted(_rows_of(small_pools)) == sorted(told.committed)


@pytest.mark.parametrize("spell", SPELLINGS)
def test_a_first_commit_that_fails_leaves_nothing_and_raises_as_it_is(small_pools: Shards, spell: Spell) -> None:
    maker = sharded_sessionmaker(small_pools, keys=rules())
    with failing_commits(1) as tried, pytest.raises(AwayError) as error:
        spell(maker)
    assert tried[0] in error.value.__notes__[0]
    assert len(tried) == 1
    assert _rows_of(small_pools) == []


def test_the_session_works_after_a_partial_commit(small_pools: Shards) -> None:
    maker = sharded_sessionmaker(small_pools, keys=rules())
    with maker() as session:
        session.add_all(_rows())
        with failing_commits(2), pytest.raises(PartialCommitError) as error:
            session.commit()
        assert session.scalar(select(func.count()).select_from(Location)) == 1
        (shard,) = error.value.committed
        with pinned_to(shard):
            assert session.scalar(select(func.count()).select_from(Location)) == 1


@pytest.mark.parametrize("spell", [_by_commit, _by_begin])
def test_after_an_error_on_one_shard_only_a_rollback_is_left(small_pools: Shards, spell: Spell) -> None:
    maker = sharded_sessionmaker(small_pools, keys=rules())
    with maker() as session:
        session.add_all(_rows())
        session.flush()
        with pytest.raises(IntegrityError):
            session.execute(insert(Location).values(id=1, continent="Asia", city="x"))
        with pytest.raises(TransactionFailedError, match="asia"):
            session.commit()
        session.rollback()
    assert _rows_of(small_pools) == []


def test_an_error_on_a_connection_of_the_session_counts_too(small_pools: Shards) -> None:
    with sharded_sessionmaker(small_pools, keys=rules())() as session:
        session.add_all(_rows())
        session.flush()
        with pinned_to("europe"), pytest.raises(IntegrityError):
            session.connection().execute(insert(Location.__table__).values(id=2, continent="", city=""))
        with pytest.raises(TransactionFailedError, match="europe"):
            session.commit()
        session.rollback()
        session.add_all(_rows())
        session.commit()
    assert sorted(_rows_of(small_pools)) == sorted(NAMES)


@pytest.mark.only_on("sqlite")
def test_a_commit_that_is_busy_is_not_committed_by_the_next_user(tmp_path: Any) -> None:
    """A reader of SQLite's keeps COMMIT from happening; the connection must not go on with the open transaction."""
    import sqlite3

    engines = {
        name: create_engine(f"sqlite:///{tmp_path}/{name}.db", pool_size=1, max_overflow=0, connect_args={"timeout": 0})
        for name in NAMES
    }
    shards = Shards.from_engines(engines)
    create_all(shards, Base.metadata)
    reader = sqlite3.connect(tmp_path / "europe.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM shard_location").fetchall()
    with pytest.raises(Exception, match=r"locked|europe") as error:
        _by_commit(sharded_sessionmaker(shards, keys=rules()))
    reader.execute("ROLLBACK")
    reader.close()
    committed = getattr(error.value, "committed", ())
    assert "europe" not in committed
    assert sorted(_rows_of(shards)) == sorted(committed)
    for engine in engines.values():
        engine.dispose()


@pytest.mark.only_on("sqlite")
def test_two_phases_are_refused_where_the_database_has_none(small_pools: Shards) -> None:
    with pytest.raises(TwoPhaseUnavailableError, match="sqlite"):
        sharded_sessionmaker(small_pools, keys=rules(), twophase=True)


@pytest.mark.only_on("postgresql")
def test_two_phases_are_refused_before_the_first_write_where_the_server_prepares_nothing(small_pools: Shards) -> None:
    with small_pools.engines["asia"].connect() as connection:
        assert connection.exec_driver_sql("SHOW max_prepared_transactions").scalar_one() == "0"
    maker = sharded_sessionmaker(small_pools, keys=rules(), twophase=True)
    with maker() as session:
        session.add_all(_rows())
        with pytest.raises(TwoPhaseUnavailableError, match="max_prepared_transactions"):
            session.commit()
        session.rollback()
    assert _rows_of(small_pools) == []
