"""The databases that tests run on: SQLite files, and on a server one database for each test process.

A database of its own, rather than a schema or a prefix, keeps also advisory locks, extensions and types apart.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

#: For each server that --db names: the environment variable with its URL, the URL without it, the async driver.
SERVERS: dict[str, tuple[str, str, str]] = {
    "postgresql": (
        "SQLA_PATTERNS_POSTGRESQL_URL",
        "postgresql+psycopg://postgres@127.0.0.1:5432/test",
        "postgresql+asyncpg",
    ),
    "mariadb": (
        "SQLA_PATTERNS_MARIADB_URL",
        "mysql+pymysql://root@127.0.0.1:3306/test?charset=utf8mb4&ssl_disabled=true",
        "mysql+asyncmy",
    ),
}


def server_url(name: str) -> URL:
    variable, default, _ = SERVERS[name]
    return make_url(os.environ.get(variable) or default)


class Server:
    """A database server, and the one database on it that belongs to this test process."""

    def __init__(self, name: str, worker: str) -> None:
        self.name = name
        self.database = f"sqla_patterns_{worker}_{uuid.uuid4().hex[:8]}"
        self._admin = create_engine(server_url(name), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self.url = server_url(name).set(database=self.database)
        with self._admin.connect() as connection:
            self._create(connection)
        # One connection for all resets: to connect takes longer than to drop two tables.
        self._own = create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._connection = self._own.connect()

    def reset(self) -> None:
        """Drop whatever a test left behind, connections it forgot included."""
        connection = self._connection
        self._end_other_connections(connection)
        if self.name == "postgresql":
            schemas = connection.exec_driver_sql(
                "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
            )
            dropped = ", ".join(schemas.scalars())
            connection.exec_driver_sql(f"DROP SCHEMA {dropped} CASCADE; CREATE SCHEMA public")
        else:
            connection.exec_driver_sql(f"DROP DATABASE {self.database}")
            self._create(connection)
            connection.exec_driver_sql(f"USE {self.database}")

    def drop(self) -> None:
        self._connection.close()
        with self._admin.connect() as connection:
            self._end_other_connections(connection)
            connection.exec_driver_sql(f"DROP DATABASE {self.database}")

    def _create(self, connection: Connection) -> None:
        suffix = " CHARACTER SET utf8mb4" if self.name == "mariadb" else ""
        connection.exec_driver_sql(f"CREATE DATABASE {self.database}{suffix}")
        if self.name == "postgresql":
            # What a crash of the machine would lose is lost anyway; each CREATE TABLE waits for the disk otherwise.
            connection.exec_driver_sql(f"ALTER DATABASE {self.database} SET synchronous_commit = off")

    def _end_other_connections(self, connection: Connection) -> None:
        if self.name == "postgresql":
            query = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = :name AND pid <> pg_backend_pid()"
            )
            connection.execute(text(query), {"name": self.database})
        else:
            query = "SELECT id FROM information_schema.processlist WHERE db = :name AND id <> connection_id()"
            for number in connection.scalars(text(query), {"name": self.database}).all():
                try:
                    connection.exec_driver_sql(f"KILL {number}")
                except DBAPIError:
                    pass  # It ended by itself in the meantime.


@dataclass
class Database:
    """The database of one test; the engines it makes are disposed when the test ends."""

    name: str
    #: What `create_engine` takes: a SQLite file, or this process's database on the server.
    url: URL
    async_url: URL
    _engines: list[Engine] = field(default_factory=list[Engine])

    @classmethod
    def sqlite(cls, file: Path) -> Database:
        return cls(
            "sqlite", URL.create("sqlite", database=str(file)), URL.create("sqlite+aiosqlite", database=str(file))
        )

    @classmethod
    def on(cls, server: Server) -> Database:
        return cls(server.name, server.url, _async_url(server))

    @property
    def url_string(self) -> str:
        """The URL with its password, for a command line."""
        return self.url.render_as_string(hide_password=False)

    def create_engine(self, **options: Any) -> Engine:
        """Make an engine on the database, for tests with several connections or threads."""
        return self._register(create_engine(self.url, **options))

    def create_memory_engine(self, **options: Any) -> Engine:
        """Make an engine on SQLite in memory with one connection for all; on a server the same as `create_engine`."""
        if self.name != "sqlite":
            return self.create_engine(**options)
        return self._register(create_engine("sqlite://", poolclass=StaticPool, **options))

    def create_async_engine(self, **options: Any) -> AsyncEngine:
        """Make an async engine on the database; the caller disposes it, in its event loop."""
        engine = create_async_engine(self.async_url, **options)
        _prepare(engine.sync_engine)
        return engine

    def dispose(self) -> None:
        for engine in self._engines:
            engine.dispose()

    def _register(self, engine: Engine) -> Engine:
        _prepare(engine)
        self._engines.append(engine)
        return engine


def _async_url(server: Server) -> URL:
    # psycopg and PyMySQL take options in the query that asyncpg and asyncmy do not know; charset is one all know.
    url = server.url.set(drivername=SERVERS[server.name][2])
    return url.set(query={key: value for key, value in url.query.items() if key == "charset"})


def _prepare(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _enforce_foreign_keys)


def _enforce_foreign_keys(connection: Any, record: Any) -> None:
    # SQLite ignores foreign keys unless told; a wrong order of statements would go unnoticed.
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()
