"""Sharding: what rules add to a statement that one shard answers, and what merging and dividing take.

The reference is SQLAlchemy's bare ``ShardedSession`` with choosers that answer at once. Each contestant builds its
statements each time, as an application does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

from _harness import Contestant, benchmark, verify
from sqlalchemy import Engine, Select, String, create_engine, func, insert, select
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_patterns.sharding import LookupRouter, ShardKey, Shards, SnowflakeId, create_all, sharded_sessionmaker, uuid7

CALLS = 300
ROWS = 1000
NAMES = ["asia", "europe", "africa", "america"]


class Base(DeclarativeBase):
    pass


class Place(Base):
    __tablename__ = "bench_place"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))
    people: Mapped[int]


def _row(number: int) -> dict[str, Any]:
    return {"id": number, "continent": NAMES[number % 4], "people": number * 7919 % 1009}


def _one(session: Session) -> int:
    statement = select(Place).where(Place.continent == "asia", Place.id == 4)
    return len(session.execute(statement).all())


def _rows_of(statement: Select[Any], session: Session) -> int:
    return len(session.execute(statement).all())


def _many(
    calls: Callable[[Session], int], maker: Callable[[], Session], number: int = CALLS
) -> Callable[[Engine], Contestant[int]]:
    def start(engine: Engine) -> Contestant[int]:
        with maker() as session:
            calls(session)
            found = yield lambda: sum(calls(session) for _ in range(number))
        verify(found >= number, "rows for each statement")

    return start


def _inserted(maker: Callable[[], Session]) -> Callable[[Engine], Contestant[int]]:
    rows = [_row(ROWS + 1 + number) for number in range(2000)]

    def start(engine: Engine) -> Generator[Callable[[], int], int, None]:
        with maker() as session:

            def run() -> int:
                session.execute(insert(Place), rows)
                return len(rows)

            found = yield run
            verify(found == len(rows), "all rows")
            session.rollback()

    return start


def _made(make: Callable[[], object]) -> Callable[[Engine], Contestant[int]]:
    def start(engine: Engine) -> Contestant[int]:
        found = yield lambda: len({make() for _ in range(10_000)})
        verify(found == 10_000, "different ids")

    return start


def main() -> None:
    with benchmark(__doc__, rounds=25) as bench, tempfile.TemporaryDirectory() as folder:
        if bench.engine.dialect.name == "sqlite":
            engines = {name: create_engine(f"sqlite:///{Path(folder) / name}.db") for name in NAMES}
            shards = Shards.from_engines(engines)
        else:
            with bench.engine.begin() as connection:
                for name in NAMES:
                    connection.exec_driver_sql(f"CREATE SCHEMA {name}")
            shards = Shards.from_schemas(bench.engine, NAMES)
            engines = dict(shards.engines)
        create_all(shards, Base.metadata)
        Base.metadata.create_all(bench.engine)
        maker = sharded_sessionmaker(
            shards, keys=[ShardKey(Place.continent, LookupRouter({name: name for name in NAMES}))]
        )
        bare = sessionmaker(
            class_=ShardedSession,
            shards=engines,
            shard_chooser=lambda mapper, instance, clause=None: "asia",
            identity_chooser=lambda mapper, key, **_: ["asia"],
            execute_chooser=lambda state: ["asia"],
        )
        plain = sessionmaker(bench.engine)
        with maker.begin() as session, plain.begin() as whole:
            for each in (session, whole):
                each.execute(insert(Place), [_row(number) for number in range(1, ROWS + 1)])
        race = bench.race(
            f"{CALLS} selects of one row from one shard, warm",
            {"ShardedSession": _many(_one, bare), "rules": _many(_one, maker), "plain Session": _many(_one, plain)},
        )
        race.at_most("rules", ratio=1.15)
        page = select(Place.id).order_by(Place.people, Place.id).limit(20).offset(20)
        count = select(func.count(), func.avg(Place.people))
        bench.race(
            f"{CALLS} pages of 20 rows, and {CALLS} counts with an average",
            {
                "page, one database": _many(lambda session: len(session.execute(page).all()), plain),
                "page, four shards": _many(lambda session: len(session.execute(page).all()), maker),
                "count, one database": _many(lambda session: len(session.execute(count).all()), plain),
                "count, four shards": _many(lambda session: len(session.execute(count).all()), maker),
            },
        )
        if bench.engine.dialect.name == "postgresql":  # the clock of SQLite's races does not count what a server waits
            at_once = sharded_sessionmaker(
                shards,
                keys=[ShardKey(Place.continent, LookupRouter({name: name for name in NAMES}))],
                concurrency=len(NAMES),
            )
            for milliseconds in (0, 1, 5, 20):
                wait = func.pg_sleep(milliseconds / 1000)
                slow = select(func.count(Place.id)).where(select(wait).scalar_subquery().is_not(None))
                bench.race(
                    f"20 counts over four shards, each of which takes {milliseconds} ms more",
                    {
                        "one after another": _many(partial(_rows_of, slow), maker, 20),
                        "at once": _many(partial(_rows_of, slow), at_once, 20),
                    },
                )
        bench.race(
            "2,000 rows by insert()",
            {"one database": _inserted(plain), "four shards": _inserted(maker)},
        )
        bench.race("10,000 ids", {"uuid7": _made(uuid7), "SnowflakeId": _made(SnowflakeId(node=1))})
        for engine in engines.values():
            engine.dispose()


if __name__ == "__main__":
    main()
