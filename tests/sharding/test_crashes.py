"""A server that is stopped at each step of a commit, and a client that is killed there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sqla_patterns.sharding import (
    LookupRouter,
    PartialCommitError,
    ShardKey,
    Shards,
    create_all,
    drop_all,
    sharded_sessionmaker,
)
from tests._support import Database
from tests.sharding._models import Base, Location, Report
from tests.sharding._server import OwnServer

pytestmark = pytest.mark.only_on("postgresql")

RULES = [ShardKey(Location.continent, LookupRouter({"Asia": "here", "Europe": "there"}))]


@pytest.fixture(scope="module")
def own_server() -> Generator[OwnServer, None, None]:
    server = OwnServer()
    yield server
    server.remove()


@pytest.fixture
def both(database: Database, own_server: OwnServer) -> Generator[Shards, None, None]:
    """Make one shard on the server of the tests, and one on a server that may be stopped."""
    there = create_engine(own_server.url, pool_size=1, max_overflow=0)
    shards = Shards.from_engines({"here": database.create_engine(pool_size=1, max_overflow=0), "there": there})
    drop_all(shards, Base.metadata)
    create_all(shards, Base.metadata)
    yield shards
    there.dispose()


def rows_after(shards: Shards) -> set[str]:
    """Return the shards that have the row, after the next user of the pool has committed."""
    found: set[str] = set()
    for name, engine in shards.engines.items():
        for attempt in range(2):  # a pool finds out that its connections are gone when it uses one
            try:
                with engine.begin() as connection:
                    connection.execute(text("SELECT 1"))
            except DBAPIError:
                assert attempt == 0
        with Session(engine) as session:
            if session.scalar(select(func.count()).select_from(Location)):
                found.add(name)
    return found


def _rows() -> list[Location]:
    return [Location(id=1, continent="Asia", city="x"), Location(id=2, continent="Europe", city="x")]


def test_a_server_that_stops_before_the_flush_leaves_nothing(both: Shards, own_server: OwnServer) -> None:
    with sharded_sessionmaker(both, keys=RULES)() as session:
        session.add_all(_rows())
        own_server.stop()
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        own_server.start()
        assert rows_after(both) == set()


def test_a_server_that_stops_after_the_flush_is_told_of(both: Shards, own_server: OwnServer) -> None:
    with sharded_sessionmaker(both, keys=RULES)() as session:
        session.add_all(_rows())
        session.flush()
        own_server.stop()
        with pytest.raises((DBAPIError, PartialCommitError)) as error:
            session.commit()
        own_server.start()
    told = error.value
    committed = set(told.committed) if isinstance(told, PartialCommitError) else set()
    assert rows_after(both) == committed
    assert committed <= {"here"}


def _stop_at(number: int, server: OwnServer, *, executed: bool) -> Callable[[Connection], None]:
    """Return a listener to COMMIT that stops the server at that number, before or after it has committed."""
    seen: list[str] = []

    def commit(connection: Connection) -> None:
        shard = connection.get_execution_options()["sqla_patterns_shard"]
        seen.append(shard)
        if len(seen) == number:
            if executed and shard == "there":
                connection.connection.cursor().execute("COMMIT")
            server.stop()

    return commit


@pytest.mark.every_combination
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("run", range(3))  # the order of the commits is SQLAlchemy's
def test_a_server_that_stops_within_the_commit_is_told_of(
    both: Shards, own_server: OwnServer, number: int, executed: bool, run: int
) -> None:
    commit = _stop_at(number, own_server, executed=executed)
    event.listen(Engine, "commit", commit)
    told: BaseException | None = None
    try:
        with sharded_sessionmaker(both, keys=RULES).begin() as session:
            session.add_all(_rows())
    except (PartialCommitError, DBAPIError) as error:
        told = error
    finally:
        event.remove(Engine, "commit", commit)
    own_server.start()
    there = rows_after(both)
    if told is None:
        assert there == {"here", "there"}
    elif isinstance(told, PartialCommitError):
        assert set(told.committed) <= there
        assert there - set(told.committed) <= set(told.in_doubt)
        assert set(told.failed) | set(told.committed) == {"here", "there"}
    else:
        # Nothing had been committed before; the note says of which shard nobody knows.
        assert there <= {shard for shard in both.names if f"shard {shard} and raised" in told.__notes__[0]}


CLIENT = """
import os, sys
from sqlalchemy import Engine, create_engine, event
from sqla_patterns.sharding import FollowsParent, LookupRouter, ShardKey, Shards, sharded_sessionmaker
from tests.sharding._models import Location, Report
engines = {name: create_engine(url) for name, url in zip(("here", "there"), sys.argv[2:])}
keys = [ShardKey(Location.continent, LookupRouter({"Asia": "here", "Europe": "there"})), FollowsParent(Report.location)]
step, seen = int(sys.argv[1]), []
def count(*_):
    seen.append(1)
    if len(seen) == step:
        os._exit(9)
event.listen(Engine, "before_cursor_execute", count)
event.listen(Engine, "commit", count)
with sharded_sessionmaker(Shards.from_engines(engines), keys=keys).begin() as session:
    for number, continent in enumerate(("Asia", "Europe"), 1):
        reports = [Report(id=10 * number + i) for i in (1, 2)]
        session.add(Location(id=number, continent=continent, city="", reports=reports))
"""


@pytest.mark.every_combination
@pytest.mark.parametrize("step", range(1, 8))
def test_a_client_that_is_killed_leaves_each_shard_whole(
    both: Shards, own_server: OwnServer, database: Database, step: int
) -> None:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    urls = [database.url_string, own_server.url]
    ended = subprocess.run(
        check=False,
        args=[sys.executable, "-c", CLIENT, str(step), *urls],
        env={**os.environ, "PYTHONPATH": path},
        timeout=60,
    )
    counts: list[tuple[Any, Any]] = []
    for engine in both.engines.values():
        with Session(engine) as session:
            counts.append(
                (
                    session.scalar(select(func.count()).select_from(Location)),
                    session.scalar(select(func.count()).select_from(Report)),
                )
            )
    assert set(counts) <= {(0, 0), (1, 2)}
    # Four INSERTs, then two COMMITs, of which the second is not sent; nothing is killed at step 7.
    assert ended.returncode == (0 if step == 7 else 9)
    assert sum(rows for rows, _ in counts) == max(0, step - 5)


def test_two_phases_commit_all_or_nothing(own_server: OwnServer) -> None:
    engines: dict[str, Engine] = {}
    admin = create_engine(own_server.url, isolation_level="AUTOCOMMIT")
    for name in ("here", "there"):
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS two_{name}")
            connection.exec_driver_sql(f"CREATE DATABASE two_{name}")
        engines[name] = create_engine(own_server.url.removesuffix("postgres") + f"two_{name}")
    shards = Shards.from_engines(engines)
    create_all(shards, Base.metadata)
    maker = sharded_sessionmaker(shards, keys=RULES, twophase=True)
    with maker.begin() as session:
        session.add_all(_rows())
    with maker() as session:
        assert session.scalar(select(func.count()).select_from(Location)) == 2
    for engine in (*engines.values(), admin):
        engine.dispose()
