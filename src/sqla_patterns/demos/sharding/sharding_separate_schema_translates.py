"""One database, a schema for each shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.schema import CreateSchema, DropSchema

from sqla_patterns.demos._support import demo_options
from sqla_patterns.demos.sharding._weather import KEYS, SHARDS, Base, read, urls, write
from sqla_patterns.sharding import Shards, create_all, sharded_sessionmaker


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with urls(options) as files:
        is_postgresql = options.url.startswith("postgresql")
        engine = create_engine(options.url if is_postgresql else files["asia"], echo=options.echo)
        schemas = {name: f"demo_weather_{name}" for name in SHARDS}
        if is_postgresql:
            with engine.begin() as connection:
                for schema in schemas.values():
                    connection.execute(CreateSchema(schema))
        else:

            @event.listens_for(engine, "connect")
            def attach(connection: Any, record: object) -> None:
                """Have a file of SQLite be a schema."""
                for name, schema in schemas.items():
                    file = files[name].removeprefix("sqlite:///") + "x"
                    connection.execute(f"ATTACH DATABASE '{file}' AS {schema}")

        try:
            shards = Shards.from_schemas(engine, schemas)
            create_all(shards, Base.metadata)
            maker = sharded_sessionmaker(shards, keys=KEYS)
            with maker.begin() as session:
                write(session)
            with maker() as session:
                read(session, options)
        finally:
            if is_postgresql:
                with engine.begin() as connection:
                    for schema in schemas.values():
                        connection.execute(DropSchema(schema, cascade=True))
            engine.dispose()
    return 0
