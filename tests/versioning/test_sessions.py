"""Every kind of session: scoped sessions work like plain ones, async ones in blocks; other uses get a clear error."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_patterns.exceptions import InvalidArgumentError, StateError
from sqla_patterns.versioning import (
    as_of,
    erase,
    prune,
    restore,
    revert,
    revision,
    seed,
    version_at,
    versioning_disabled,
    versions,
    versions_of_association,
)
from tests.versioning._models import LONG_AGO, library, tick


@pytest.fixture(name="world")
def _world(plain_bases: Any, engine: Engine) -> Any:
    world = library(plain_bases())
    world.metadata.create_all(engine)
    return world


@pytest.fixture
def scoped(engine: Engine) -> Generator[scoped_session[Session], None, None]:
    """Return a scoped session, as Flask-SQLAlchemy's ``db.session``."""
    made = scoped_session(sessionmaker(engine))
    yield made
    made.remove()


def stored(session: Any, world: Any) -> Any:
    author = world.Author(id=1, name="a")
    session.add(author)
    session.commit()
    author.name = "b"
    session.commit()
    return author


def test_versions_in_a_scoped_session(world: Any, scoped: Any) -> None:
    author = stored(scoped, world)
    assert [version.object.name for version in versions(scoped, author)] == ["a", "b"]


def test_the_past_in_a_scoped_session(world: Any, scoped: Any) -> None:
    stored(scoped, world)
    assert version_at(scoped, world.Author, 1, tick()).name == "b"
    assert as_of(scoped, select(world.Author), LONG_AGO) == []


def test_revert_in_a_scoped_session(world: Any, scoped: Any) -> None:
    author = stored(scoped, world)
    assert revert(scoped, author, to=1).name == "a"


def test_restore_in_a_scoped_session(world: Any, scoped: Any) -> None:
    scoped.delete(stored(scoped, world))
    scoped.commit()
    assert restore(scoped, world.Author, 1).version == 3


def test_erase_in_a_scoped_session(world: Any, scoped: Any) -> None:
    stored(scoped, world)
    assert erase(scoped, world.Author, 1) == 1


def test_prune_and_seed_in_a_scoped_session(world: Any, scoped: Any) -> None:
    stored(scoped, world)
    assert (prune(scoped, world.Author, keep=0), seed(scoped, world.Author)) == (1, 0)


def test_a_revision_of_a_scoped_session(world: Any, scoped: Any) -> None:
    author = stored(scoped, world)
    with revision(scoped, actor="ann"):
        author.name = "c"
        scoped.commit()
    assert versions(scoped, author)[-1].revision.actor == "ann"


def test_a_scoped_session_without_versioning(world: Any, scoped: Any) -> None:
    author = stored(scoped, world)
    with versioning_disabled(scoped):
        author.name = "c"
    scoped.commit()
    assert [version.object.name for version in versions(scoped, author)] == ["a", "c"]


def test_a_block_of_a_scoped_session_takes_no_async_with(world: Any, scoped: Any) -> None:
    async def enter() -> None:
        async with revision(scoped, actor="ann"):
            scoped.add(world.Author(id=2, name="x"))

    import asyncio

    with pytest.raises(StateError, match="write 'with'"):
        asyncio.run(enter())


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("versions", lambda session, world: versions(session, world.Author, 1)),
        ("version_at", lambda session, world: version_at(session, world.Author, 1, LONG_AGO)),
        ("as_of", lambda session, world: as_of(session, select(world.Author), LONG_AGO)),
        ("versions_of_association", lambda session, world: versions_of_association(session, world.Author(), "x")),
        ("revert", lambda session, world: revert(session, world.Author(), to=1)),
        ("restore", lambda session, world: restore(session, world.Author, 1)),
        ("erase", lambda session, world: erase(session, world.Author, 1)),
        ("prune", lambda session, world: prune(session, world.Author, keep=1)),
        ("seed", lambda session, world: seed(session, world.Author)),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "scoped"])
def test_an_async_session_is_refused_with_the_line_to_write(
    plain_bases: Any, name: str, call: Callable[[Any, Any], object], kind: str
) -> None:
    world = library(plain_bases())
    session: Any = AsyncSession()
    if kind == "scoped":
        session = async_scoped_session(async_sessionmaker(), scopefunc=lambda: 1)
    with pytest.raises(InvalidArgumentError, match=rf"run_sync\({name}, "):
        call(session, world)


def test_no_session_at_all_is_refused(plain_bases: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"revision\(\) needs a session"):
        revision(sessionmaker(), actor="ann")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["plain", "scoped"])
async def test_a_revision_of_an_async_session(plain_bases: Any, async_engine: AsyncEngine, kind: str) -> None:
    world = library(plain_bases())
    async with async_engine.begin() as connection:
        await connection.run_sync(world.metadata.create_all)
    maker = async_sessionmaker(async_engine, expire_on_commit=False)
    session: Any = maker() if kind == "plain" else async_scoped_session(maker, scopefunc=lambda: 1)
    async with revision(session, actor="ann"):
        session.add(world.Author(id=1, name="a"))
    await session.commit()
    async with versioning_disabled(session):
        (await session.get(world.Author, 1)).name = "b"
    await session.commit()
    plain = session if kind == "plain" else session()
    found = await plain.run_sync(versions, world.Author, 1)
    assert [(each.object.name, each.revision.actor) for each in found] == [("b", "ann")]
    await session.close()
