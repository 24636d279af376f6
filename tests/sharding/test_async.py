"""Async sessions over shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from sqla_patterns.asyncio import gather_calls, gather_scalars
from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.sharding import (
    PartialCommitError,
    ShardNotNamedError,
    Shards,
    async_sharded_sessionmaker,
    explain,
    move,
    pinned_to,
)
from tests._support import Database
from tests.sharding._async import filled
from tests.sharding._models import CONTINENTS, NAMES, Location, Report, Unit, rules
from tests.sharding.test_commits import failing_commits


async def test_an_async_session_routes_merges_and_commits(database: Database, tmp_path: Path) -> None:
    async with filled(database, tmp_path) as maker:
        await _route_merge_and_commit(maker)


async def _route_merge_and_commit(maker: async_sessionmaker[AsyncSession]) -> None:
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


# -- gathering ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool_size", [1, 5])
@pytest.mark.parametrize("isolation_level", ["AUTOCOMMIT", None])
async def test_gathered_statements_read_each_its_shards(
    database: Database, tmp_path: Path, isolation_level: str | None, pool_size: int
) -> None:
    """Also where pools are small: no session waits for a connection that one waits with that waits for its own."""
    # Schemas share a pool, which needs a connection for each; `into` has three as well.
    room = pool_size if database.name == "sqlite" else 3 * pool_size
    async with filled(database, tmp_path, pool_size=room, max_overflow=0, pool_timeout=10) as maker:
        by_continent = [select(Location).where(Location.continent == each).order_by(Location.id) for each in CONTINENTS]
        statements = [select(Location.id).order_by(Location.id), *by_continent, select(func.count(Report.id))] * 2
        found = await gather_scalars(maker, statements, isolation_level=isolation_level)
        assert found[0] == list(range(1, 41))
        assert found[5] == [60]
        for continent, rows in zip(CONTINENTS, found[1:5], strict=True):
            assert {each.continent for each in rows} == {continent}
        async with maker() as session:
            held = await session.get_one(Location, found[1][0].id)
            held.city = "mine"
            await session.commit()
            held.city = "pending"
            mine = await gather_scalars(maker, by_continent, into=session, isolation_level=isolation_level)
            assert held in mine[0]
            assert all(each in session for rows in mine for each in rows)
            assert held.city == "pending"
        level = await gather_calls(maker, lambda session: session.scalar(select(func.count(Location.id))))
        assert level == (40,)


@pytest.mark.only_on("postgresql")
async def test_the_isolation_level_of_gathered_statements_is_that_of_each_shard(
    database: Database, tmp_path: Path
) -> None:
    level = select(func.current_setting("transaction_isolation")).where(Location.id > 0).select_from(Location)
    async with filled(database, tmp_path) as maker:
        statement = level.execution_options(shard_merge="concat")
        (found,) = await gather_scalars(maker, [statement], isolation_level="SERIALIZABLE")
        assert (len(found), set(found)) == (40, {"serializable"})
        async with maker() as session:
            assert set(await session.scalars(statement)) == {"read committed"}


@pytest.mark.only_on("sqlite")
async def test_gathering_into_a_session_of_shards_in_memory_is_refused(database: Database) -> None:
    shards = Shards.from_engines({name: create_async_engine("sqlite+aiosqlite://") for name in NAMES})
    maker = async_sharded_sessionmaker(shards, keys=rules(), reference=[Unit])
    async with maker() as session:
        with pytest.raises(InvalidArgumentError, match="a shard is a SQLite database in memory"):
            await gather_scalars(maker, [select(Location.id)], into=session)
