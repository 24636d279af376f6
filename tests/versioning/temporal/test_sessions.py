"""Every kind of session: asyncio, scoped sessions, sessions that do not expire, classes of other kinds of bases."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, String, delete, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    LoaderCriteriaOption,
    Mapped,
    Session,
    declarative_base,
    mapped_column,
    registry,
    scoped_session,
    sessionmaker,
)

from sqla_patterns.versioning import TemporalOptions, valid_at
from sqla_patterns.versioning.temporal._rows import TemporalBase
from tests.versioning._models import tick
from tests.versioning.temporal._models import FORMS, HISTORY, MIXINS, is_current, items, key, library, names, order_of

forms = pytest.mark.parametrize("form", FORMS)


@forms
async def test_a_story_under_asyncio(
    plain_bases: Any, form: str, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    world = library(plain_bases(), form, period=True)
    Author = world.Author
    async with async_engine.begin() as connection:
        await connection.run_sync(world.metadata.create_all)
    session = async_session
    author = Author(**key(form, 1), name="a", books=[])
    session.add(author)
    await session.flush()
    assert (is_current(author), author.valid_to, author.valid_from is not None) == (True, None, True)
    await session.commit()
    first = tick()
    author.name = "b"
    await session.flush()
    # Nothing is left expired: reading it would raise MissingGreenlet.
    assert (is_current(author), author.valid_from > first, author.name, author.id is not None) == (
        True,
        True,
        "b",
        True,
    )
    await session.commit()
    assert (await session.scalars(select(Author.name).options(valid_at(first)))).all() == ["a"]
    result = await session.execute(update(Author).values(name="c"))
    assert (result.rowcount, inspect(author).identity[-1] is not None) == (1, True)  # type: ignore[attr-defined]
    await session.refresh(author)
    assert author.name == "c"
    await session.execute(delete(Author))
    await session.commit()
    statement = select(Author).order_by(*order_of(Author)).execution_options(**HISTORY)
    assert [each.name for each in await session.scalars(statement)] == ["a", "b", "c"]


@forms
def test_a_scoped_session(plain_bases: Any, form: str, engine: Engine) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    session = scoped_session(sessionmaker(engine))
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    session.execute(update(Item).values(name="c"))
    session.commit()
    assert (item.name, names(session(), Item)) == ("c", [("a", False), ("b", False), ("c", True)])
    session.remove()


@forms
def test_two_sessions_take_turns(plain_bases: Any, form: str, engine: Engine) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Item(name="0"))
        session.commit()
    for number in range(1, 5):
        with Session(engine, expire_on_commit=False) as session:
            session.scalars(select(Item)).one().name = str(number)
            session.commit()
    with Session(engine) as session:
        assert names(session, Item) == [("0", False), ("1", False), ("2", False), ("3", False), ("4", True)]


@forms
def test_a_base_of_declarative_base(form: str, engine: Engine) -> None:
    Base: Any = declarative_base()

    class Item(MIXINS[form], Base):
        __tablename__ = "item"
        id = Column(Integer, primary_key=True, autoincrement=form == "copied")
        name = Column(String(20))

    Base.metadata.create_all(engine)
    _tell(engine, Item, form)
    Base.registry.dispose()


@forms
def test_a_class_of_registry_mapped(form: str, engine: Engine) -> None:
    mapped = registry()

    @mapped.mapped
    class Item(MIXINS[form]):
        __tablename__ = "item"
        __temporal__ = TemporalOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        name: Mapped[str] = mapped_column(String(20))

    mapped.metadata.create_all(engine)
    _tell(engine, Item, form)
    mapped.dispose()


def _tell(engine: Engine, cls: Any, form: str) -> None:
    with Session(engine) as session:
        item = cls(**key(form, 1), name="a")
        session.add(item)
        session.commit()
        item.name = "b"
        session.commit()
        session.delete(item)
        session.commit()
        assert names(session, cls) == [("a", False), ("b", False)]


def _about_temporal_rows(options: Any) -> int:
    # Criteria of other packages may be there too, if classes with them are mapped.
    return sum(isinstance(each, LoaderCriteriaOption) and each.root_entity is TemporalBase for each in options)


@forms
def test_objects_that_were_loaded_beside_temporal_rows_can_be_pickled(
    plain_bases: Any, form: str, engine: Engine
) -> None:
    world = library(plain_bases(), form, period=True)
    world.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(world.Author(**key(form, 1), name="a", books=[]))
        session.commit()
    with Session(engine) as session:
        author = session.scalars(select(world.Author)).one()
        load_options = author._sa_instance_state.load_options
        assert _about_temporal_rows(load_options) == 1
        assert _about_temporal_rows(pickle.loads(pickle.dumps(load_options))) == 1


@pytest.mark.parametrize("form", FORMS)
def test_objects_that_were_loaded_as_of_a_moment_can_be_pickled(plain_bases: Any, form: str, engine: Engine) -> None:
    """And load what they refer to as of that moment when they are back in a session."""
    world = library(plain_bases(), form, period=True)
    world.metadata.create_all(engine)
    with Session(engine) as session:
        book = world.Book(**key(form, 1), title="a")
        session.add(world.Author(**key(form, 1), name="Ann", books=[book]))
        session.commit()
        then = book.valid_from
        book.title = "b"
        session.commit()
    with Session(engine) as session:
        author = session.scalars(select(world.Author).options(valid_at(then))).one()
        # The part of the object that matters here; its class stands in no module.
        load_options = pickle.loads(pickle.dumps(inspect(author).load_options))
        assert _about_temporal_rows(load_options) == 1
    with Session(engine) as session:
        inspect(author).load_options = load_options
        session.add(author)
        assert [each.title for each in author.books] == ["a"]


def test_statements_on_classes_of_other_bases_are_left_alone(plain_bases: Any, engine: Engine) -> None:
    library(plain_bases(), "temporal")
    base = plain_bases()

    class Plain(base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Plain())
        session.commit()
        assert _about_temporal_rows(session.scalars(select(Plain)).one()._sa_instance_state.load_options) == 0
