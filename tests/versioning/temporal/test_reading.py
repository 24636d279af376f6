"""What statements see: current rows; all versions with ``include_history``; those of a moment with `valid_at`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, and_, func, inspect, select
from sqlalchemy.orm import (
    Session,
    aliased,
    joinedload,
    lazyload,
    selectinload,
    subqueryload,
)

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.versioning import valid_at
from tests.versioning._models import tick
from tests.versioning.temporal._models import FORMS, HISTORY, items, key, library, order_of, stable_of

forms = pytest.mark.parametrize("form", FORMS)
LOADERS = [lazyload, joinedload, selectinload, subqueryload]


def story(session: Session, world: Any, form: str) -> list[datetime]:
    """Write an author and two books, change a book, remove one from the author, and delete the other.

    Returns:
        A moment after each step, the first of them before all.
    """
    moments = [tick()]

    def commit() -> None:
        session.commit()
        moments.append(tick())

    author = world.Author(**key(form, 1), name="Ann")
    first, second = world.Book(**key(form, 1), title="a"), world.Book(**key(form, 2), title="b")
    author.books = [first, second]
    session.add(author)
    commit()
    first.title = "a2"
    commit()
    author.books.remove(second)
    commit()
    author.name = "Anna"
    commit()
    session.delete(first)
    commit()
    return moments


#: What the story looks like at each of its moments.
TOLD = [
    None,
    ("Ann", ["a", "b"]),
    ("Ann", ["a2", "b"]),
    ("Ann", ["a2"]),
    ("Anna", ["a2"]),
    ("Anna", []),
]


def told(author: Any) -> Any:
    return (author.name, [book.title for book in author.books])


@forms
def test_a_select_sees_current_rows(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    story(session, world, form)
    Author, Book = world.Author, world.Book
    alias = aliased(Book)
    assert session.scalars(select(Author.name)).all() == ["Anna"]
    assert session.scalars(select(alias.title)).all() == ["b"]
    assert session.scalar(select(func.count()).select_from(Book)) == 1
    assert session.scalars(select(func.count()).select_from(select(Book).subquery())).all() == [1]
    assert session.scalars(select(Book.title).union_all(select(Book.title))).all() == ["b", "b"]
    joined = select(Author.name, Book.title).join(Book, and_(Book.author_id.is_(None)))
    assert session.execute(joined).all() == [("Anna", "b")]
    assert session.query(Book).count() == 1


@forms
def test_any_and_has_see_current_rows(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    author = world.Author(**key(form, 1), name="Ann", books=[world.Book(**key(form, 1), title="a")])
    session.add(author)
    session.commit()
    author.books[0].title, author.name = "a2", "Anna"
    session.commit()
    Author, Book = world.Author, world.Book
    by_title = select(Author.name).where(Author.books.any(Book.title == "a"))
    assert session.scalars(by_title).all() == []
    assert session.scalars(select(Author.name).where(Author.books.any(Book.title == "a2"))).all() == ["Anna"]
    assert session.scalars(select(Book.title).where(Book.author.has(Author.name == "Ann"))).all() == []
    nested = Author.books.any(Book.author.has(Author.name == "Ann"))
    assert session.scalars(select(Author.name).where(nested)).all() == []
    assert session.scalars(by_title.execution_options(**HISTORY)).all() == ["Ann", "Anna"]


@forms
def test_include_history_sees_all_versions(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    statement = select(Item).order_by(*order_of(Item)).execution_options(**HISTORY)
    old, new = session.scalars(statement).all()
    assert (old.name, new is item, stable_of(old)) == ("a", True, stable_of(new))


@forms
def test_get_finds_a_closed_version_only_with_include_history(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    former = inspect(item).identity
    item.name = "b"
    session.commit()
    current = inspect(item).identity
    session.expunge_all()
    assert session.get(Item, former) is None
    assert session.get(Item, current).name == "b"
    assert session.get(Item, former, execution_options=HISTORY).name == "a"


@forms
def test_refresh_reads_the_row_in_hand(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    item = Item(name="a", note="n")
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    old = session.scalars(select(Item).where(Item.name == "a").execution_options(**HISTORY)).one()
    session.refresh(old)
    session.refresh(item)
    session.expire_all()
    assert (old.name, old.note, item.name, item.note) == ("a", "n", "b", "n")


@pytest.mark.parametrize("loader", LOADERS)
@forms
def test_loads_of_relationships_see_current_rows(
    plain_bases: Any, form: str, session: Session, engine: Engine, loader: Callable[..., Any]
) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    story(session, world, form)
    session.expunge_all()
    session.add(world.Book(**key(form, 9), title="c", author=session.scalars(select(world.Author)).one()))
    session.commit()
    session.expunge_all()
    author = session.scalars(select(world.Author).options(loader(world.Author.books))).unique().one()
    assert told(author) == ("Anna", ["c"])
    session.expunge_all()
    book = session.scalars(select(world.Book).where(world.Book.title == "c").options(loader(world.Book.author))).one()
    assert book.author.name == "Anna"


@pytest.mark.parametrize("loader", LOADERS)
@forms
def test_valid_at_reads_another_moment_with_its_relationships(
    plain_bases: Any, form: str, session: Session, engine: Engine, loader: Callable[..., Any]
) -> None:
    world = library(plain_bases(), form, period=True)
    world.metadata.create_all(engine)
    moments = story(session, world, form)
    statement = select(world.Author).options(loader(world.Author.books))
    for moment, expected in zip(moments, TOLD, strict=True):
        session.expunge_all()
        author = session.scalars(statement.options(valid_at(moment))).unique().one_or_none()
        assert (None if author is None else told(author)) == expected


@forms
def test_valid_at_reads_columns_joins_and_counts(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    world = library(plain_bases(), form, period=True)
    world.metadata.create_all(engine)
    moments = story(session, world, form)
    Author, Book = world.Author, world.Book
    joined = select(Author.name, Book.title).join(Author.books).order_by(Book.title)
    assert session.execute(joined.options(valid_at(moments[2]))).all() == [("Ann", "a2"), ("Ann", "b")]
    counted = select(func.count()).select_from(Book)
    assert [session.scalar(counted.options(valid_at(moment))) for moment in moments] == [0, 2, 2, 2, 2, 1]
    written = select(Author.name).where(Author.books.any(Book.title == "a"))
    assert session.scalars(written.options(valid_at(moments[1]))).all() == ["Ann"]
    assert session.scalars(written.options(valid_at(moments[2]))).all() == []


@forms
def test_a_closed_version_refers_to_what_was_there_when_it_began(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = library(plain_bases(), form, period=True)
    world.metadata.create_all(engine)
    story(session, world, form)
    session.expunge_all()
    statement = select(world.Author).where(world.Author.name == "Ann").execution_options(**HISTORY)
    assert told(session.scalars(statement).one()) == ("Ann", ["a", "b"])


@forms
def test_a_moment_may_be_in_any_time_zone(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    world = library(plain_bases(), form, period=True)
    world.metadata.create_all(engine)
    moment = story(session, world, form)[1]
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert session.scalars(select(world.Author.name).options(valid_at(elsewhere))).all() == ["Ann"]


@forms
def test_a_period_begins_at_valid_from_and_ends_before_valid_to(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = items(plain_bases(), form, period=True)
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    begun = item.valid_from
    item.name = "b"
    session.commit()
    changed = item.valid_from
    tiny = timedelta(microseconds=1)
    found = [
        session.scalars(select(Item.name).options(valid_at(moment))).all()
        for moment in (begun - tiny, begun, changed - tiny, changed)
    ]
    assert found == [[], ["a"], ["a"], ["b"]]


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="has no time zone"):
        valid_at(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("form", ["versioned", "copied"])
def test_valid_at_is_refused_where_rows_have_no_times(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    now = datetime.now(UTC)
    with pytest.raises(InvalidArgumentError, match=r"reads Author, whose rows do not say when they were valid"):
        session.scalars(select(world.Author).options(valid_at(now)))


@pytest.mark.parametrize("form", ["versioned", "copied"])
def test_valid_at_is_refused_inside_of_any_where_rows_have_no_times(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    statement = select(world.Author.name).where(world.Author.books.any()).options(valid_at(datetime.now(UTC)))
    with pytest.raises(InvalidArgumentError, match="do not say when they were valid"):
        session.scalars(statement)


@forms
def test_reading_costs_one_statement(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    world = library(plain_bases(), form, period=True)
    world.metadata.create_all(engine)
    moments = story(session, world, form)
    session.expunge_all()
    with statements(engine) as log:
        session.scalars(select(world.Author)).all()
        session.scalars(select(world.Author).options(valid_at(moments[2]))).all()
    assert len(log) == 2
