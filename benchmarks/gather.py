"""Gather: when gather_scalars() is faster than one session that executes the statements one after the other.

Each contestant executes the same statements and merges the objects into one session; wall clock, since the gain is in
waiting. Contestants alternate, and a ratio compares their best rounds. ``gather`` is SQLAlchemy's recipe: a session for
each statement, ``freeze()``, and ``merge_frozen_result(load=False)``.

    .venv/bin/python benchmarks/gather.py --url postgresql+asyncpg://postgres@127.0.0.1:5432/test
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
from _harness import verify
from sqlalchemy import String, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, merge_frozen_result

from sqla_patterns.asyncio import gather_scalars

Maker = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "bench_gather_thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))


async def one_session(maker: Maker, statements: Sequence[Any]) -> int:
    async with maker() as session:
        return sum([len((await session.scalars(each)).all()) for each in statements])


async def gathered(maker: Maker, statements: Sequence[Any]) -> int:
    async with maker() as session:
        return sum(map(len, await gather_scalars(maker, statements, into=session, limit=10)))


async def recipe(maker: Maker, statements: Sequence[Any]) -> int:
    async def run(statement: Any) -> Any:
        async with maker() as own:
            await own.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            return (await own.execute(statement)).freeze()

    async with maker() as session:
        frozen = await asyncio.gather(*map(run, statements))
        merged = [
            (await session.run_sync(merge_frozen_result, statement, result, load=False))()
            for statement, result in zip(statements, frozen, strict=True)
        ]
        return sum(len(each.scalars().all()) for each in merged)


CONTESTANTS: dict[str, Callable[[Maker, Sequence[Any]], Awaitable[int]]] = {
    "one session": one_session,
    "gather_scalars": gathered,
    "gather": recipe,
}


async def race(maker: Maker, title: str, statements: Sequence[Any], rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    expected = await one_session(maker, statements)
    for number in range(rounds + 1):
        for name in list(CONTESTANTS)[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            found = await CONTESTANTS[name](maker, statements)
            verify(found == expected, name)
            if number:  # the first round opens connections
                seconds[name].append(time.perf_counter() - started)
    print(f"\n{title}\n  milliseconds          best  median  ratio")
    reference = min(seconds["one session"])
    for name, values in seconds.items():
        best, median = min(values), statistics.median(values)
        print(f"  {name:16} {best * 1000:9.2f} {median * 1000:7.2f} {best / reference:6.2f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="an asyncpg or asyncmy URL; SQLite in a file by default")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = create_async_engine(
            options.url or f"sqlite+aiosqlite:///{Path(folder, 'bench.db')}", pool_size=20, max_overflow=0
        )
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        maker = async_sessionmaker(engine)
        try:
            async with maker() as session:
                session.add_all(Thing(id=n, name=f"thing {n}") for n in range(1, 3001))
                await session.commit()
            print(
                f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, {engine.dialect.name} "
                f"({engine.dialect.driver}), {options.rounds} rounds"
            )
            one_row = [select(Thing).where(Thing.id == n) for n in range(1, 31)]
            await race(maker, "30 statements of 1 row", one_row, options.rounds)
            rows = [select(Thing).where(Thing.id.between(n * 500 + 1, n * 500 + 500)) for n in range(6)]
            await race(maker, "6 statements of 500 rows", rows, options.rounds)
            if engine.dialect.name == "postgresql":
                for wait in (1, 2, 5, 20):
                    slow = [
                        select(Thing).join(func.pg_sleep(wait / 1000).table_valued(), Thing.id == n)
                        for n in range(1, 11)
                    ]
                    await race(maker, f"10 statements of 1 row that take {wait} ms", slow, options.rounds)
        finally:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
            await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
