"""A day in an application on FastAPI with async sessions, driven by a real HTTP client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dogpile.cache import make_region
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase

from sqla_patterns.caching import FromCache, ORMCache
from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from sqla_patterns.trees import InvalidMoveError, delete_subtree, insert_tree, load_tree, render_tree
from sqla_patterns.versioning import NoSuchVersionError, restore, revert, revision, versions

from ._migrations import Migrations
from ._shop import IMPORTS, Shop, map_shop

STATUSES: dict[type[PatternError], int] = {InvalidMoveError: 422, NoSuchVersionError: 404}


def build(shop: Shop, sessions: async_sessionmaker[AsyncSession], cache: ORMCache) -> FastAPI:
    """Build the application as the cookbook shows it: a session for each request, and the user in its revision."""
    app = FastAPI()
    Category = shop.Category

    async def session_of(x_user: str | None = Header(default=None)) -> AsyncIterator[AsyncSession]:
        async with sessions() as session, revision(session, actor=x_user):
            yield session

    SessionDep = Depends(session_of)

    @app.exception_handler(PatternError)
    async def refused(request: Request, error: PatternError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, next((s for t, s in STATUSES.items() if isinstance(error, t)), 400))

    @app.post("/categories")
    async def create(data: dict[str, Any], session: AsyncSession = SessionDep) -> list[int]:
        roots = await session.run_sync(insert_tree, Category, data)
        keys = [root.id for root in roots]
        await session.commit()
        return keys

    @app.get("/categories")
    async def show(session: AsyncSession = SessionDep) -> list[str]:
        roots = await session.run_sync(load_tree, Category)
        return [line for root in roots for line in render_tree(root, label=lambda node: node.name).splitlines()]

    @app.post("/categories/{pk}/move/{to}")
    async def move(pk: int, to: int, session: AsyncSession = SessionDep) -> None:
        (await session.get_one(Category, pk)).move_to(await session.get_one(Category, to))
        await session.commit()

    @app.post("/categories/{pk}")
    async def edit(pk: int, form: dict[str, Any], session: AsyncSession = SessionDep) -> int:
        category = await session.get_one(Category, pk)
        for name, value in form.items():
            setattr(category, name, value)
        await session.commit()
        return int(category.version)

    @app.get("/categories/{pk}/history")
    async def history(pk: int, session: AsyncSession = SessionDep) -> list[tuple[int, str, str | None]]:
        found = await session.run_sync(versions, Category, pk)
        return [(each.number, each.object.name, each.revision.actor if each.revision else None) for each in found]

    @app.post("/categories/{pk}/revert/{to}")
    async def go_back(pk: int, to: int, session: AsyncSession = SessionDep) -> None:
        await session.run_sync(revert, await session.get_one(Category, pk), to)
        await session.commit()

    @app.get("/menu")
    async def menu(session: AsyncSession = SessionDep) -> list[str]:
        return list(await session.scalars(select(Category.name).order_by(Category.name).options(FromCache("default"))))

    @app.get("/categories/{pk}/cached")
    async def cached(pk: int, session: AsyncSession = SessionDep) -> str:
        found = await session.run_sync(cache.get, Category, pk)
        return str(found.name)

    @app.delete("/categories/{pk}")
    async def delete(pk: int, session: AsyncSession = SessionDep) -> int:
        gone = await session.run_sync(delete_subtree, await session.get_one(Category, pk))
        await session.commit()
        return gone

    @app.post("/categories/{pk}/restore")
    async def undelete(pk: int, session: AsyncSession = SessionDep) -> None:
        await session.run_sync(restore, Category, pk)
        await session.commit()

    @app.get("/forgotten")
    async def forgotten(session: AsyncSession = SessionDep) -> None:
        load_tree(session, Category)  # type: ignore[arg-type]

    return app


@pytest.fixture
def shop() -> Generator[Shop, None, None]:
    class Base(DeclarativeBase):
        pass

    yield map_shop(Base)
    Base.registry.dispose()


@pytest.fixture
def client(
    shop: Shop, async_engine: AsyncEngine, runner: asyncio.Runner, tmp_path: Path
) -> Generator[httpx.AsyncClient, None, None]:
    async def migrate() -> None:
        async with async_engine.connect() as connection:

            def run(sync: Any) -> None:
                migrations = Migrations(tmp_path, shop.Category.metadata, _Connected(sync), IMPORTS)  # type: ignore[arg-type]
                migrations.revision("shop")
                migrations.upgrade()
                migrations.check()

            await connection.run_sync(run)
            await connection.commit()

    runner.run(migrate())
    sessions = async_sessionmaker(async_engine, expire_on_commit=False)
    cache = ORMCache({"default": make_region().configure("dogpile.cache.memory", expiration_time=60)})
    cache.listen_on_session(sessions)
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(build(shop, sessions, cache)), base_url="http://shop", timeout=30
    )
    yield client
    runner.run(client.aclose())
    cache.detach()


class _Connected:
    """What env.py connects to: a connection that is open already."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def connect(self) -> _Connected:
        return self

    def __enter__(self) -> Any:
        return self.connection

    def __exit__(self, *error: object) -> None:
        """Leave the connection open."""


BOOKS = {"name": "shop", "children": [{"name": "books", "children": [{"name": "crime"}]}, {"name": "music"}]}
ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


async def _lines(client: httpx.AsyncClient) -> list[str]:
    lines: list[str] = (await client.get("/categories")).json()
    return lines


async def _keys(client: httpx.AsyncClient, engine: AsyncEngine, shop: Shop) -> dict[str, int]:
    async with AsyncSession(engine) as session:
        return {name: pk for pk, name in await session.execute(select(shop.Category.id, shop.Category.name))}


async def test_a_day_in_the_shop(
    client: httpx.AsyncClient, async_engine: AsyncEngine, shop: Shop, runner: asyncio.Runner
) -> None:
    """One user creates, another moves and edits; the menu is cached, never stale; the past is read and restored."""
    assert (await client.post("/categories", json=BOOKS, headers=ANN)).status_code == 200
    keys = await _keys(client, async_engine, shop)
    crime, music, books = keys["crime"], keys["music"], keys["books"]
    assert await _lines(client) == ["shop", "├── books", "│   └── crime", "└── music"]
    assert (await client.get("/menu")).json() == ["books", "crime", "music", "shop"]

    assert (await client.post(f"/categories/{crime}/move/{music}", headers=BOB)).status_code == 200
    assert await _lines(client) == ["shop", "├── books", "└── music", "    └── crime"]

    form = {"name": "thrillers", "parent_id": music}
    assert (await client.post(f"/categories/{crime}", json=form, headers=BOB)).json() == 3
    assert (await client.get("/menu")).json() == ["books", "music", "shop", "thrillers"]
    assert (await client.get(f"/categories/{crime}/cached")).json() == "thrillers"
    history = (await client.get(f"/categories/{crime}/history")).json()
    assert history == [[1, "crime", "ann"], [2, "crime", "bob"], [3, "thrillers", "bob"]]

    assert (await client.post(f"/categories/{crime}/revert/1", headers=ANN)).status_code == 200
    assert (await client.get("/menu")).json() == ["books", "crime", "music", "shop"]
    assert await _lines(client) == ["shop", "├── books", "│   └── crime", "└── music"]

    assert (await client.delete(f"/categories/{books}", headers=BOB)).json() == 2
    assert (await client.get("/menu")).json() == ["music", "shop"]
    assert (await client.post(f"/categories/{books}/restore")).status_code == 200
    assert (await client.get("/menu")).json() == ["books", "music", "shop"]


async def test_errors_of_the_library_are_http_statuses(
    client: httpx.AsyncClient, async_engine: AsyncEngine, shop: Shop, runner: asyncio.Runner
) -> None:
    await client.post("/categories", json=BOOKS)
    keys = await _keys(client, async_engine, shop)
    assert (await client.post(f"/categories/{keys['books']}/move/{keys['crime']}")).status_code == 422
    assert (await client.post(f"/categories/{keys['books']}/revert/9")).status_code == 404
    assert (await client.get("/menu")).json() == ["books", "crime", "music", "shop"]


async def test_a_forgotten_run_sync_is_an_error_that_shows_the_line_to_write(
    client: httpx.AsyncClient, runner: asyncio.Runner
) -> None:
    answer = await client.get("/forgotten")
    assert "await session.run_sync(load_tree, ...)" in answer.json()["detail"]
    assert issubclass(InvalidArgumentError, PatternError)


async def test_requests_at_the_same_time_each_have_their_actor(
    client: httpx.AsyncClient, async_engine: AsyncEngine, shop: Shop, runner: asyncio.Runner
) -> None:
    """Revisions belong to sessions, so that requests that run at the same time do not sign for each other."""
    for n in range(4):
        await client.post("/categories", json={"name": f"c{n}"}, headers={"X-User": "setup"})
    keys = await _keys(client, async_engine, shop)
    edits = [
        client.post(f"/categories/{keys[f'c{n}']}", json={"name": f"d{n}"}, headers={"X-User": f"user {n}"})
        for n in range(4)
    ]
    # SQLite has one writer at a time, and the others would have to wait for longer than its driver does.
    if async_engine.dialect.name == "sqlite":
        for edit in edits:
            await edit
    else:
        await asyncio.gather(*edits)
    for n in range(4):
        history = (await client.get(f"/categories/{keys[f'c{n}']}/history")).json()
        assert history[-1] == [2, f"d{n}", f"user {n}"]
