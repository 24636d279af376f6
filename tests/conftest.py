"""Options, fixtures and markers of the suite.

``--db sqlite|postgresql|mariadb`` (repeatable, default sqlite) chooses databases. A test that asks for a database
fixture runs once on each; a test marked ``only_on(...)`` runs where one of those is chosen; any other test runs when
sqlite is chosen, so that a run on the servers alone does not repeat it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import types
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass, Session
from sqlalchemy.pool import NullPool

from tests._support import SERVERS, Database, StatementLog, count_statements, server_url
from tests._support._databases import Server

REDIS_VARIABLE = "SQLA_PATTERNS_REDIS_URL"

# -- options -------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--db",
        action="append",
        choices=["sqlite", *SERVERS],
        help="database to run on, repeatable; default: sqlite. One that cannot be reached is a failure.",
    )


def chosen_databases(config: pytest.Config) -> list[str]:
    return list(dict.fromkeys(config.getoption("--db") or ["sqlite"]))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fail at once, and once, if a database that was asked for does not answer."""
    if hasattr(session.config, "workerinput"):
        return
    for name in chosen_databases(session.config):
        if name in SERVERS:
            engine = create_engine(server_url(name), poolclass=NullPool)
            try:
                engine.connect().close()
            except SQLAlchemyError as error:
                pytest.exit(
                    f"--db {name} was asked for, but {engine.url!r} cannot be reached (set {SERVERS[name][0]}): {error}",
                    returncode=1,
                )


# -- which tests run where -----------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        metafunc.parametrize("database", chosen_databases(metafunc.config), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = set(chosen_databases(config))
    soaking = "soak" in config.getoption("markexpr")
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (kept if _runs(item, chosen, soaking=soaking) else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _runs(item: pytest.Item, chosen: set[str], *, soaking: bool) -> bool:
    if item.get_closest_marker("soak") and not soaking:
        return False
    fixtures: tuple[str, ...] = tuple(getattr(item, "fixturenames", ()))
    if "redis_url" in fixtures and REDIS_VARIABLE not in os.environ:
        return False
    callspec = getattr(item, "callspec", None)
    database: str | None = callspec.params.get("database") if callspec is not None else None
    marks = list(item.iter_markers("only_on"))
    if marks:
        here = {database} if database is not None else chosen
        return all(here.intersection(mark.args) for mark in marks)
    return database is not None or "redis_url" in fixtures or "sqlite" in chosen


# -- coroutines as tests -------------------------------------------------------------------------


@pytest.fixture
def runner() -> Generator[asyncio.Runner, None, None]:
    """One event loop for the test and its async fixtures; a test that is no coroutine calls ``runner.run(...)``."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests, in the loop of `runner` if the test or a fixture of it asked for that."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    signature = inspect.signature(pyfuncitem.obj)
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in signature.parameters}
    loop = pyfuncitem.funcargs.get("runner")
    if isinstance(loop, asyncio.Runner):
        loop.run(pyfuncitem.obj(**arguments))
    else:
        asyncio.run(pyfuncitem.obj(**arguments))
    return True


# -- databases -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _servers() -> Generator[Callable[[str], Server], None, None]:
    made: dict[str, Server] = {}

    def server(name: str) -> Server:
        if name not in made:
            made[name] = Server(name, os.environ.get("PYTEST_XDIST_WORKER", "main"))
        return made[name]

    yield server
    for each in made.values():
        each.drop()


@pytest.fixture
def database(
    request: pytest.FixtureRequest, tmp_path: Path, _servers: Callable[[str], Server]
) -> Generator[Database, None, None]:
    """The test's database, empty: a SQLite file, or a database of this process on the server."""
    if request.param == "sqlite":
        database = Database.sqlite(tmp_path / "test.db")
        yield database
        database.dispose()
    else:
        server = _servers(request.param)
        database = Database.on(server)
        yield database
        database.dispose()
        server.reset()


@pytest.fixture
def engine(database: Database) -> Engine:
    """An engine on the test's database; on SQLite in memory, with one connection for all."""
    return database.create_memory_engine()


@pytest.fixture
def engine_factory(database: Database) -> Callable[..., Engine]:
    """Make engines on the test's database, a file on SQLite, for tests with threads or several connections."""
    return database.create_engine


@pytest.fixture
def file_engine(database: Database) -> Engine:
    """An engine with a pool of real connections; on SQLite to a file, the one that `async_engine` uses."""
    return database.create_engine()


@pytest.fixture
def session(engine: Engine) -> Generator[Session, None, None]:
    """A plain session on `engine`; create the tables first, with ``Base.metadata.create_all(engine)``."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def async_engine(database: Database, runner: asyncio.Runner) -> Generator[AsyncEngine, None, None]:
    """An async engine on the test's database (aiosqlite on a file, asyncpg, asyncmy)."""
    engine = database.create_async_engine()
    yield engine
    runner.run(engine.dispose())


@pytest.fixture
def async_session(async_engine: AsyncEngine, runner: asyncio.Runner) -> Generator[AsyncSession, None, None]:
    """An async session on `async_engine` that does not expire on commit."""
    session = AsyncSession(async_engine, expire_on_commit=False)
    yield session
    runner.run(session.close())


@pytest.fixture
def redis_url() -> str:
    """The URL of a Redis that answers; such a test is deselected where SQLA_PATTERNS_REDIS_URL is not set."""
    import redis

    url = os.environ[REDIS_VARIABLE]
    try:
        with redis.Redis.from_url(url) as client:
            client.ping()
    except redis.RedisError as error:
        pytest.fail(f"{REDIS_VARIABLE}={url} does not answer: {error}", pytrace=False)
    return url


# -- counting ------------------------------------------------------------------------------------


@pytest.fixture
def statements() -> Callable[..., AbstractContextManager[StatementLog]]:
    """Log the statements of a block of code.

    ``with statements() as log: ...``, then ``len(log)``, ``log.text``, ``log.starting("INSERT")``. Without an argument every engine counts; ``statements(engine)`` or ``statements(async_engine)`` narrows it.
    """
    return count_statements


# -- declarative bases ---------------------------------------------------------------------------


class BaseFactory:
    """Make declarative bases, each with a registry and a MetaData of its own."""

    def __init__(self, kind: Literal["plain", "dataclass"]) -> None:
        self.kind = kind
        self._made: list[type[DeclarativeBase]] = []

    def __call__(
        self, *, metadata: MetaData | None = None, type_annotation_map: dict[Any, Any] | None = None
    ) -> type[DeclarativeBase]:
        namespace: dict[str, Any] = {
            "__module__": __name__,
            "metadata": MetaData() if metadata is None else metadata,
            "type_annotation_map": type_annotation_map or {},
        }
        parents = (MappedAsDataclass, DeclarativeBase) if self.kind == "dataclass" else (DeclarativeBase,)
        base: type[DeclarativeBase] = types.new_class("Base", parents, exec_body=lambda body: body.update(namespace))
        self._made.append(base)
        return base

    def dispose(self) -> None:
        for base in self._made:
            base.registry.dispose(cascade=True)


@pytest.fixture(params=["plain", "dataclass"])
def bases(request: pytest.FixtureRequest) -> Generator[BaseFactory, None, None]:
    """A factory of declarative bases, once plain and once of dataclasses; what is mapped on them goes with the test."""
    factory = BaseFactory(request.param)
    yield factory
    factory.dispose()


@pytest.fixture
def plain_bases() -> Generator[BaseFactory, None, None]:
    """A factory of plain declarative bases, for a test to which the kind of base does not matter."""
    factory = BaseFactory("plain")
    yield factory
    factory.dispose()
