"""Async sessions over shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from sqla_patterns.sharding import (
    PartialCommitError,
    ShardNotNamedError,
    Shards,
    async_sharded_sessionmaker,
    create_all,
    explain,
    move,
    pinned_to,
)
from tests._support import Database
from tests.sharding._models import NAMES, Base, Location, Report, Unit, location_rows, report_rows, rules
from tests.sharding.test_commits import failing_commits


async def test_an_async_session_routes_merges_and_commits(database: Database, tmp_path: Path) -> None:
    if database.name == "sqlite":
        engines = {name: create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/{name}.db") for name in NAMES}
        shards = Shards.from_engines(engines)
    else:
        engine = database.create_async_engine()
        engines = {"all": engine}
        async with engine.begin() as connection:
            for name in NAMES:
                await connection.execute(text(f"CREATE SCHEMA {name}"))
        shards = Shards.from_schemas(engine, NAMES)
    for each in engines.values():
        async with each.connect() as connection:
            await connection.run_sync(lambda _: create_all(shards, Base.metadata))
    maker = async_sharded_sessionmaker(shards, keys=rules(), reference=[Unit], expire_on_commit=False)
    rows = location_rows()
    async with maker() as session:
        await session.execute(insert(Unit), [{"id": 1, "name": "celsius"}, {"id": 2, "name": "kelvin"}])
        await session.execute(insert(Location), rows)
        await session.execute(insert(Report), report_rows(rows))
        await session.commit()
    async with maker() as session:
        assert await session.scalar(select(func.count()).select_from(Location)) == 40
        found = await session.scalars(select(Location.id).order_by(Location.id.desc()).limit(3))
        assert found.all() == [40, 39, 38]
        plan = await session.run_sync(explain, select(Location).where(Location.continent == "Asia"))
        assert plan.shards == {"asia"}
        statement = select(Location).where(Location.continent == "Asia", ~Location.reports.any())
        location = (await session.scalars(statement)).first()
        assert location is not None
        assert await session.get(Location, location.id) is location
        await session.run_sync(lambda sync: move(sync, location, continent="Europe"))
        await session.commit()
        with pytest.raises(ShardNotNamedError):
            await session.execute(text("SELECT 1"))
        with pinned_to("europe"):
            assert await session.scalar(select(func.count()).where(Location.id == location.id)) == 1
    async with maker() as session:
        for number, continent in enumerate(("Asia", "Europe", "North America")):
            session.add(Location(id=100 + number, continent=continent, city="x"))
        with failing_commits(2), pytest.raises(PartialCommitError) as error:
            await session.commit()
        assert len(error.value.committed) == 1
        assert await session.scalar(select(func.count()).where(Location.id >= 100)) == 1
    for each in engines.values():
        await each.dispose()
