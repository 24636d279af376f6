"""One database, four sets of tables, whose names begin with the shard."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import QueuePool

from sqla_patterns.demos._support import demo_options
from sqla_patterns.demos.sharding._weather import CONTINENTS, KEYS, SHARDS, Base, read, urls, write
from sqla_patterns.sharding import Shards, create_all, drop_all, sharded_sessionmaker


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with urls(options) as found:
        # A file of SQLite has one writer, so that each shard is written in a transaction of its own.
        engine = create_engine(found["asia"], echo=options.echo, poolclass=QueuePool)
        shards = Shards.from_table_prefix(engine, SHARDS)
        create_all(shards, Base.metadata)
        options.say("tables:", ", ".join(sorted(inspect(engine).get_table_names())))
        maker = sharded_sessionmaker(shards, keys=KEYS)
        for continent in CONTINENTS:
            with maker.begin() as session:
                write(session, [continent])
        with maker() as session:
            read(session, options)
        drop_all(shards, Base.metadata)
        assert inspect(engine).get_table_names() == []
        engine.dispose()
    return 0
