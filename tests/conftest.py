"""Options, fixtures and markers of the suite.

``--db sqlite|postgresql|mariadb`` (repeatable, default sqlite) chooses databases. A test that asks for a database
fixture runs once on each; a test marked ``only_on(...)`` runs where one of those is chosen; any other test runs when
sqlite is chosen, so that a run on the servers alone does not repeat it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import types
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass
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
from tests._support._pairs import Case, Value, covering_subset, required

REDIS_VARIABLE = "SQLA_PATTERNS_REDIS_URL"
DATABASES = ["sqlite", *SERVERS]

# -- options -------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--db",
        action="append",
        choices=DATABASES,
        help="database to run on, repeatable; default: sqlite. One that cannot be reached is a failure.",
    )
    parser.addoption("--brief", action="store_true", help="one case of each test, for make quick")


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
                    f"--db {name} was asked for, but {engine.url!r} cannot be reached "
                    f"(set {SERVERS[name][0]}): {error}",
                    returncode=1,
                )


# -- which tests run where -----------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        metafunc.parametrize("database", chosen_databases(metafunc.config), indirect=True)


# Called after those of the packages, which leave out what adds nothing on servers, and before pytest looks at -m.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = chosen_databases(config)
    marks = config.getoption("markexpr")
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (kept if _runs(item, set(chosen), soaking="soak" in marks) else dropped).append(item)
    if "full" in marks:
        for item in kept:
            item.add_marker("full")
    # A test that is named on the command line runs as named.
    elif not any("[" in argument for argument in config.args):
        subset = set(_covering(kept, brief=config.getoption("brief")))
        dropped += [item for item in kept if item not in subset]
        kept = [item for item in kept if item in subset]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _covering(items: list[pytest.Item], *, brief: bool) -> Iterator[pytest.Item]:
    """Yield the items, of a test with parameters only a subset that leaves out nothing that matters.

    All pairs of values of the parameters that a test names itself count. What fixtures put it into, such as a shape of
    trees, counts singly, and so do several databases: a test runs on each of them, and each of its cases on one. Kinds
    of declarative base alternate. What is chosen of cases that are as good depends on test, database and interpreter,
    so that `.ci/run` meets more combinations than each of its runs. *brief* leaves one case of each test.
    """
    groups: dict[str, list[Case[pytest.Item]]] = {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is None or (item.get_closest_marker("every_combination") and not brief):
            yield item
        else:
            case = Case(item, frozenset()) if brief else _case(item, callspec.params)
            groups.setdefault(item.nodeid.partition("[")[0], []).append(case)
    seen: dict[str, int] = {}
    for function, cases in groups.items():
        file = function.partition("::")[0]
        seen[file] = seen.get(file, 0) + 1
        databases = {DATABASES.index(database) for case in cases if (database := _database(case.item))}
        yield from covering_subset(cases, seen[file] + sys.version_info.minor + sum(databases))


def _case(item: pytest.Item, params: dict[str, object]) -> Case[pytest.Item]:
    own_names: set[str] = set()
    for mark in item.iter_markers("parametrize"):
        names: str | Iterable[str] = mark.args[0]
        own_names.update(names.replace(",", " ").split() if isinstance(names, str) else names)
    own: list[Value] = []
    surroundings: list[Value] = []
    wished: list[Value] = []
    for name, value in params.items():
        if name == "bases":
            wished.append((name, value))
        # A value of several parts, such as a shape of trees, is a parameter for each part.
        elif is_dataclass(value) and not isinstance(value, type):
            for part in fields(value):
                each = (f"{name}.{part.name}", _told_apart(getattr(value, part.name)))
                (wished if part.name == "base" else surroundings).append(each)
        else:
            (own if name in own_names else surroundings).append((name, _told_apart(value)))
    return Case(item, required(own, surroundings), frozenset(wished))


def _database(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("database") if callspec is not None else None


def _told_apart(value: object) -> Hashable:
    """Return what tells values of a parameter apart: what is plain by value, anything else by identity."""
    plain = value is None or isinstance(value, (str, bool, int, float))
    return (type(value), value) if plain else id(value)


def _runs(item: pytest.Item, chosen: set[str], *, soaking: bool) -> bool:
    if item.get_closest_marker("soak") and not soaking:
        return False
    fixtures: tuple[str, ...] = tuple(getattr(item, "fixturenames", ()))
    if "redis_url" in fixtures and REDIS_VARIABLE not in os.environ:
        return False
    database = _database(item)
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
    """Provide the test's database, empty: a SQLite file, or a database of this process on the server."""
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
    """Make an engine on the test's database; on SQLite in memory, with one connection for all."""
    return database.create_memory_engine()


@pytest.fixture
def engine_factory(database: Database) -> Callable[..., Engine]:
    """Make engines on the test's database, a file on SQLite, for tests with threads or several connections."""
    return database.create_engine


@pytest.fixture
def file_engine(database: Database) -> Engine:
    """Make an engine with a pool of real connections; on SQLite to a file, the one that `async_engine` uses."""
    return database.create_engine()


@pytest.fixture
def session(engine: Engine) -> Generator[Session, None, None]:
    """Open a plain session on `engine`; create the tables first, with ``Base.metadata.create_all(engine)``."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def async_engine(database: Database, runner: asyncio.Runner) -> Generator[AsyncEngine, None, None]:
    """Make an async engine on the test's database (aiosqlite on a file, asyncpg, asyncmy)."""
    engine = database.create_async_engine()
    yield engine
    runner.run(engine.dispose())


@pytest.fixture
def async_session(async_engine: AsyncEngine, runner: asyncio.Runner) -> Generator[AsyncSession, None, None]:
    """Open an async session on `async_engine` that does not expire on commit."""
    session = AsyncSession(async_engine, expire_on_commit=False)
    yield session
    runner.run(session.close())


@pytest.fixture
def redis_url() -> str:
    """Return the URL of a Redis that answers; such a test is deselected where SQLA_PATTERNS_REDIS_URL is not set."""
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

    ``with statements() as log: ...``, then ``len(log)``, ``log.text``, ``log.starting("INSERT")``. Without an argument
    every engine counts; ``statements(engine)`` or ``statements(async_engine)`` narrows it.
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
    """Make declarative bases, once plain and once of dataclasses; what is mapped on them goes with the test."""
    factory = BaseFactory(request.param)
    yield factory
    factory.dispose()


@pytest.fixture
def plain_bases() -> Generator[BaseFactory, None, None]:
    """Make plain declarative bases, for a test to which the kind of base does not matter."""
    factory = BaseFactory("plain")
    yield factory
    factory.dispose()
