"""The common options of the demos, and an engine whose tables are dropped at the end.

A demo has the form::

    def main(argv: Sequence[str] | None = None) -> int:
        options = demo_options(__doc__, argv)
        with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
            ...
            options.say("the tree:", ...)
        return 0

One about asyncio has ``asyncio.run(...)`` in `main`, and ``async with demo_async_engine(...)`` in what that runs.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine, MetaData, create_engine, inspect, make_url

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

#: The asynchronous driver of a database.
_ASYNC_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
}


class DemoOptions(argparse.Namespace):
    """The options that every demo takes; subclass it to declare further options of a demo, with their types."""

    url: str
    echo: bool
    quiet: bool

    def say(self, *parts: object) -> None:
        """Print, unless ``--quiet`` was given."""
        if not self.quiet:
            print(*parts)


def demo_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the common options, for a demo that adds further ones.

    The demo then calls ``parser.parse_args(argv, namespace=MyOptions())``, where ``MyOptions`` subclasses
    `DemoOptions`.

    Args:
        doc: The docstring of the demo, whose first line describes it in ``--help``.
    """
    parser = argparse.ArgumentParser(
        description=(doc or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--url", default="sqlite://", help="database to run on; it is left as found")
    parser.add_argument("--echo", action="store_true", help="log every SQL statement")
    parser.add_argument("--quiet", action="store_true", help="print nothing unless something fails")
    return parser


def demo_options(doc: str | None, argv: Sequence[str] | None = None) -> DemoOptions:
    """Parse the common options and return them.

    Args:
        doc: The docstring of the demo, whose first line describes it in ``--help``.
        argv: The arguments of the command line; those of the process unless given.
    """
    return demo_parser(doc).parse_args(argv, namespace=DemoOptions())


@contextmanager
def demo_engine(options: DemoOptions, *metadata: MetaData) -> Generator[Engine, None, None]:
    """Yield an engine on ``options.url`` with the tables of `metadata`, and drop the tables at the end.

    Raises:
        SystemExit: The database has a table of that name already. The demo would write to it and then drop it.
    """
    engine = create_engine(options.url, echo=options.echo)
    try:
        with engine.connect() as connection:
            _refuse_tables(connection, metadata)
        try:
            for each in metadata:
                each.create_all(engine)
            yield engine
        finally:
            for each in reversed(metadata):
                each.drop_all(engine)
    finally:
        engine.dispose()


@asynccontextmanager
async def demo_async_engine(options: DemoOptions, *metadata: MetaData) -> AsyncGenerator[AsyncEngine, None]:
    """Yield an asynchronous engine on ``options.url`` with the tables of `metadata`, and drop the tables at the end.

    The URL may name a synchronous driver. SQLite in memory has one connection only; a file takes its place.

    Raises:
        SystemExit: The database has a table of that name already.
    """
    from sqlalchemy.ext.asyncio import create_async_engine

    url = make_url(options.url)
    with TemporaryDirectory() as folder:
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            url = url.set(database=str(Path(folder, "demo.db")))
        # The asynchronous drivers do not know what psycopg and PyMySQL take in the query.
        query = {key: value for key, value in url.query.items() if key == "charset"}
        driver = _ASYNC_DRIVERS[url.get_backend_name()]
        engine = create_async_engine(url.set(drivername=driver, query=query), echo=options.echo)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_refuse_tables, metadata)
                for each in metadata:
                    await connection.run_sync(each.create_all)
            try:
                yield engine
            finally:
                async with engine.begin() as connection:
                    for each in reversed(metadata):
                        await connection.run_sync(each.drop_all)
        finally:
            await engine.dispose()


def _refuse_tables(connection: Connection, metadata: Sequence[MetaData]) -> None:
    inspector = inspect(connection)
    for each in metadata:
        for table in each.tables.values():
            if inspector.has_table(table.name, schema=table.schema):
                raise SystemExit(
                    f"{connection.engine.url!r} has a table {table.fullname!r} already, which this demo would "
                    "overwrite: choose another database with --url"
                )
