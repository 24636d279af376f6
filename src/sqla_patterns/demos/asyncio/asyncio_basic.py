"""Tables without classes, read by connections that are awaited: SQLAlchemy's asyncio/basic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, inspect, select
from sqlalchemy.ext.asyncio import async_sessionmaker

from sqla_patterns.asyncio import gather_scalars
from sqla_patterns.demos._support import DemoOptions, demo_async_engine, demo_options

metadata = MetaData()
t1 = Table("demo_basic_t1", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))


async def demo(options: DemoOptions) -> None:
    async with demo_async_engine(options, metadata) as engine:
        async with engine.begin() as connection:
            # What takes a synchronous connection is called by run_sync().
            assert await connection.run_sync(lambda sync: inspect(sync).has_table("demo_basic_t1"))
            await connection.execute(insert(t1), [{"name": "some name 1"}, {"name": "some name 2"}])

        async with engine.connect() as connection:
            rows = (await connection.execute(select(t1).order_by(t1.c.id))).fetchall()
            assert [row.name for row in rows] == ["some name 1", "some name 2"]
            streamed = [row.name async for row in await connection.stream(select(t1).order_by(t1.c.id))]
            assert streamed == ["some name 1", "some name 2"]

        # What the package adds: it needs a maker of sessions, and no class.
        names, largest = await gather_scalars(
            async_sessionmaker(engine), (select(t1.c.name).order_by(t1.c.id), select(func.max(t1.c.id)))
        )
        options.say(f"read at once: {names} and {largest}")
        assert (names, largest) == (["some name 1", "some name 2"], [2])


def main(argv: Sequence[str] | None = None) -> int:
    asyncio.run(demo(demo_options(__doc__, argv)))
    return 0
