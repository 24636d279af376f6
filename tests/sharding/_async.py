"""An async factory over shards that have rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from sqla_patterns.sharding import Shards, async_sharded_sessionmaker, create_all
from tests._support import Database
from tests.sharding._models import NAMES, Base, Location, Report, Unit, location_rows, report_rows, rules


@asynccontextmanager
async def filled(
    database: Database,
    tmp_path: Path,
    *,
    concurrency: int = 1,
    arrange: Callable[[Shards], None] = lambda shards: None,
    **pool: Any,
) -> AsyncGenerator[async_sessionmaker[AsyncSession], None]:
    """Yield a factory over three shards with rows on each.

    Args:
        database: SQLite stands for a file for each shard, another one for a schema.
        tmp_path: Where the files are.
        concurrency: As for the factory.
        arrange: Is called with the shards, by sync and by async engines, before they are used.
        pool: Options of the pools.
    """
    if database.name == "sqlite":
        paths = {name: f"{tmp_path}/{name}.db" for name in NAMES}
        engines = {name: create_async_engine(f"sqlite+aiosqlite:///{path}", **pool) for name, path in paths.items()}
        shards = Shards.from_engines(engines)
        sync = Shards.from_engines({name: create_engine(f"sqlite:///{path}") for name, path in paths.items()})
    else:
        plain = database.create_engine()
        with plain.begin() as connection:
            for name in NAMES:
                connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        engines = {"all": database.create_async_engine(**pool)}
        shards, sync = Shards.from_schemas(engines["all"], NAMES), Shards.from_schemas(plain, NAMES)
    for each in (sync, shards):
        arrange(each)
    create_all(sync, Base.metadata)
    for engine in sync.engines.values():
        engine.dispose()
    maker = async_sharded_sessionmaker(
        shards, keys=rules(), reference=[Unit], concurrency=concurrency, expire_on_commit=False
    )
    rows = location_rows()
    async with maker() as session:
        await session.execute(insert(Unit), [{"id": 1, "name": "celsius"}, {"id": 2, "name": "kelvin"}])
        await session.execute(insert(Location), rows)
        await session.execute(insert(Report), report_rows(rows))
        await session.commit()
    yield maker
    for each in engines.values():
        await each.dispose()
