"""Four databases, one session: rules route, merge and refuse."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import create_engine, inspect, select, text

from sqla_patterns.demos._support import demo_options
from sqla_patterns.demos.sharding._weather import KEYS, Base, Location, read, urls, write
from sqla_patterns.sharding import (
    ShardKeyChangedError,
    ShardNotNamedError,
    Shards,
    create_all,
    move,
    pinned_to,
    sharded_sessionmaker,
)


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with urls(options) as found:
        engines = {name: create_engine(url, echo=options.echo) for name, url in found.items()}
        shards = Shards.from_engines(engines)
        create_all(shards, Base.metadata)
        maker = sharded_sessionmaker(shards, keys=KEYS)
        with maker.begin() as session:
            write(session)
        with maker() as session:
            read(session, options)
            try:
                session.execute(text("SELECT 1"))
            except ShardNotNamedError as error:
                options.say(f"refused: {error}")
            with pinned_to("europe"):
                assert session.scalar(text("SELECT count(*) FROM demo_weather_location")) == 2
            tokyo = session.scalars(select(Location).where(Location.city == "Tokyo")).one()
            tokyo.continent = "Europe"
            try:
                session.flush()
            except ShardKeyChangedError as error:
                options.say(f"refused: {error}")
                session.rollback()
            move(session, tokyo, continent="Europe", with_children=True)
            session.commit()
            assert inspect(tokyo).identity_token == "europe"
            assert [report.temperature for report in tokyo.reports] == [80.0]
        for engine in engines.values():
            engine.dispose()
    return 0
