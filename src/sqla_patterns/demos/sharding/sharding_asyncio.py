"""Four databases behind an async session."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import create_async_engine

from sqla_patterns.demos._support import DemoOptions, demo_options
from sqla_patterns.demos.sharding._weather import KEYS, Base, read, urls, write
from sqla_patterns.sharding import Shards, async_sharded_sessionmaker


async def run(options: DemoOptions, found: dict[str, str]) -> None:
    engines = {name: create_async_engine(url, echo=options.echo) for name, url in found.items()}
    for engine in engines.values():
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
    maker = async_sharded_sessionmaker(Shards.from_engines(engines), keys=KEYS)
    async with maker.begin() as session:
        await session.run_sync(write)
    async with maker() as session:
        await session.run_sync(read, options)
    for engine in engines.values():
        await engine.dispose()


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with urls(options, "aiosqlite") as found:
        asyncio.run(run(options, found))
    return 0
