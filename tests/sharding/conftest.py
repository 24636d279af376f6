from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, sessionmaker

from sqla_patterns.sharding import Shards, create_all, sharded_sessionmaker
from tests._support import Database
from tests.sharding._models import (
    NAMES,
    UNITS,
    Base,
    Location,
    Report,
    Traffic,
    Unit,
    location_rows,
    report_rows,
    rules,
    traffic,
)
from tests.sharding._server import INITDB

MakeShards = Callable[..., Shards]


def _plain(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def make_shards(database: Database, tmp_path: Path) -> Generator[MakeShards, None, None]:
    """Make shards of the test's database: SQLite files, or schemas of a database on a server."""
    engines: list[Engine] = []

    def make(names: list[str] = NAMES) -> Shards:
        if database.name == "sqlite":
            made = {name: create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in names}
            for engine in made.values():
                event.listen(engine, "connect", _plain)
            engines.extend(made.values())
            return Shards.from_engines(made)
        engine = database.create_engine()
        with engine.begin() as connection:
            for name in names:
                connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        return Shards.from_schemas(engine, names)

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def shards(make_shards: MakeShards) -> Shards:
    """Make three shards with the tables of weather stations."""
    made = make_shards()
    create_all(made, Base.metadata)
    return made


@pytest.fixture
def maker(shards: Shards) -> sessionmaker[ShardedSession]:
    return sharded_sessionmaker(shards, keys=rules(), reference=[Unit])


@pytest.fixture
def filled(maker: sessionmaker[ShardedSession]) -> sessionmaker[ShardedSession]:
    """Fill the shards."""
    locations = location_rows()
    with maker.begin() as session:
        session.execute(insert(Unit), UNITS)
        session.execute(insert(Location), locations)
        session.execute(insert(Report), report_rows(locations))
    return maker


@pytest.fixture
def whole(database: Database) -> Generator[Session, None, None]:
    """Open a session on one database that has all rows."""
    engine = create_engine("sqlite://") if database.name == "sqlite" else database.create_engine()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        locations = location_rows()
        session.execute(insert(Unit), UNITS)
        session.execute(insert(Location), locations)
        session.execute(insert(Report), report_rows(locations))
        session.commit()
        yield session
    engine.dispose()


@pytest.fixture
def log() -> Generator[Traffic, None, None]:
    """Log what is executed on shards."""
    with traffic() as found:
        yield found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs PostgreSQL's programs where they are not installed, and MariaDB.

    Its strings are compared by collations that no router knows, so that the models here are refused there.
    """
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and "database" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.only_on("sqlite", "postgresql"))
    if INITDB is None:
        dropped = [item for item in items if "own_server" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
