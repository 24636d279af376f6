"""``update()`` and ``delete()`` under criteria that options, listeners and other packages add to the statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, bindparam, delete, event, select, update
from sqlalchemy.orm import Mapped, ORMExecuteState, Session, mapped_column, sessionmaker, with_loader_criteria
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.criteria import GlobalCriteria
from sqla_patterns.versioning import UnversionedWriteError
from tests._support import together
from tests.versioning.temporal._models import FORMS, items, key, library, names, past

forms = pytest.mark.parametrize("form", FORMS)

#: The versions that `_write` leaves when criteria hold the statement to the rows of size 1.
UPDATED = [("a", False), ("b", False), ("c", True), ("x", True), ("x", True)]
CLOSED = [("a", False), ("b", False), ("c", True)]


class Sized:
    """A mixin for which criteria are."""

    size: Mapped[int | None] = mapped_column(default=None)


def _sized(base: Any) -> Any:
    return type("SizedBase", (Sized, base), {"__abstract__": True})


def _filled(session: Session, base: Any, form: str, engine: Engine) -> Any:
    Item = items(base, form)
    Item.metadata.create_all(engine)
    session.add_all([Item(name="a", size=1), Item(name="b", size=1), Item(name="c", size=2)])
    session.commit()
    return Item


def _write(session: Session, Item: Any, *options: Any) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Execute an UPDATE and a DELETE of all rows, each after a rollback; return the versions that each leaves."""
    held = {each.name: each for each in session.scalars(select(Item))}
    assert session.execute(update(Item).values(name="x").options(*options)).rowcount == 2
    assert (held["a"].name, held["c"].name) == ("x", "c")
    updated = sorted(names(session, Item))
    session.rollback()
    assert session.execute(delete(Item).options(*options)).rowcount == 2
    assert (held["a"] in session, held["c"] in session) == (False, True)
    closed = sorted(names(session, Item))
    session.rollback()
    return updated, closed


@forms
def test_criteria_of_an_option_hold_the_statement_to_their_rows(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = _filled(session, _sized(plain_bases()), form, engine)
    for option in (
        with_loader_criteria(Item, Item.size == 1),
        with_loader_criteria(Item, lambda cls: cls.size < 2),
        with_loader_criteria(Sized, lambda cls: cls.size != 2, include_aliases=True),
    ):
        assert _write(session, Item, option) == (UPDATED, CLOSED)


@forms
def test_an_option_and_a_criterion_with_parameters(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = _filled(session, plain_bases(), form, engine)
    option = with_loader_criteria(Item, Item.size == 1)
    changing = update(Item).where(Item.name != bindparam("kept")).options(option)
    assert session.execute(changing, {"kept": "a", "name": "x"}).rowcount == 1
    assert session.execute(update(Item).where(Item.name == "nobody").values(name="y").options(option)).rowcount == 0
    assert session.execute(delete(Item).where(Item.name == bindparam("gone")).options(option), {"gone": "x"}).rowcount
    session.commit()
    assert sorted(names(session, Item)) == [("a", True), ("b", False), ("c", True), ("x", False)]


@forms
def test_a_thousand_rows_and_more(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    """One SELECT for the keys, and one INSERT, or UPDATE, for each thousand of them."""
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    session.add_all([Item(name="a", size=number % 7) for number in range(1400)])
    session.commit()
    session.expunge_all()
    option = with_loader_criteria(Item, Item.size > 0)
    with statements(engine) as log:
        assert session.execute(update(Item).values(name="b").options(option)).rowcount == 1200
    assert [each.split()[0] for each in log] == ["SELECT", "INSERT", "INSERT", "UPDATE", "UPDATE"]
    with statements(engine) as log:
        assert session.execute(delete(Item).options(option)).rowcount == 1200
    assert [each.split()[0] for each in log[:3]] == ["SELECT", "UPDATE", "UPDATE"]
    assert len(log) == 3 + (form == "temporal")
    assert session.scalars(select(Item.name).distinct()).all() == ["a"]


@forms
def test_criteria_of_an_option_read_current_rows_of_other_classes(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    Author, Book = world.Author, world.Book
    author = Author(**key(form, 1), name="Ann", books=[Book(**key(form, 1), title="a")])
    session.add(author)
    session.commit()
    author.name = "Anna"
    session.commit()
    was = with_loader_criteria(Book, Book.author.has(Author.name == "Ann"))
    if sqlalchemy.__version__.startswith("2.0."):
        # Options do not reach has() there, so that it would see closed rows.
        for statement in (update(Book).values(title="wrong"), delete(Book)):
            with pytest.raises(UnversionedWriteError, match="criteria read other rows was not executed"):
                session.execute(statement.options(was))
        assert [each.title for each in past(session, Book)] == ["a"]
        return
    for statement in (update(Book).values(title="wrong"), delete(Book)):
        assert session.execute(statement.options(was)).rowcount == 0
    now = with_loader_criteria(Book, Book.author.has(Author.name == "Anna"))
    session.execute(update(Book).values(title="right").options(now))
    assert [each.title for each in past(session, Book)] == ["a", "right"]
    session.execute(delete(Book).options(now))
    assert session.scalars(select(Book)).all() == []


# -- listeners -----------------------------------------------------------------------------------


def _narrow(Item: Any) -> Callable[[ORMExecuteState], None]:
    def narrow(state: ORMExecuteState) -> None:
        if state.bind_mapper is not None and state.bind_mapper.class_ is Item and not state.is_select:
            state.statement = state.statement.where(Item.size == 1)  # type: ignore[attr-defined]

    return narrow


@pytest.mark.parametrize("target", ["class", "factory", "session"])
@forms
def test_listeners_that_are_attached_later_change_the_statement(
    plain_bases: Any, form: str, target: str, engine: Engine
) -> None:
    """Their class is mapped, so that the library's listener is there, and is called, before theirs."""
    factory = sessionmaker(engine)
    with factory() as session:
        Item = _filled(session, plain_bases(), form, engine)
        narrow = _narrow(Item)
        listened: Any = {"class": Session, "factory": factory, "session": session}[target]
        event.listen(listened, "do_orm_execute", narrow)
        try:
            assert _write(session, Item) == (UPDATED, CLOSED)
        finally:
            event.remove(listened, "do_orm_execute", narrow)


@forms
def test_a_listener_may_execute_the_statement_by_itself(plain_bases: Any, form: str, engine: Engine) -> None:
    """Versions are made of what it executes."""
    with Session(engine) as session:
        Item = _filled(session, plain_bases(), form, engine)

        def answer(state: ORMExecuteState) -> Any:
            if state.is_update:
                return state.invoke_statement(state.statement.where(Item.size == 1))  # type: ignore[attr-defined]
            return None

        event.listen(session, "do_orm_execute", answer, retval=True)
        assert session.execute(update(Item).values(name="x")).rowcount == 2
        assert sorted(names(session, Item)) == UPDATED


@pytest.mark.parametrize("first", ["criteria", "class"])
@forms
def test_global_criteria_in_both_orders(plain_bases: Any, form: str, first: str, engine: Engine) -> None:
    factory = sessionmaker(engine)
    criteria = GlobalCriteria(Sized, lambda cls: cls.size == 1, option="all_sizes")
    if first == "criteria":
        criteria.attach(factory)
    Item = items(_sized(plain_bases()), form)
    if first == "class":
        criteria.attach(factory)
    Item.metadata.create_all(engine)
    with factory() as session:
        session.add_all([Item(name="a", size=1), Item(name="b", size=1), Item(name="c", size=2)])
        session.commit()
        with factory() as everything:
            assert everything.scalars(select(Item.name).order_by(Item.name)).all() == ["a", "b"]
        assert session.execute(update(Item).values(name="x")).rowcount == 2
        session.commit()
        assert session.execute(delete(Item)).rowcount == 2
        session.commit()
    with Session(engine) as plain:
        assert sorted(names(plain, Item)) == [("a", False), ("b", False), ("c", True), ("x", False), ("x", False)]


# -- writers beside each other -------------------------------------------------------------------


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("option", [False, True])
@pytest.mark.parametrize("write", ["update", "delete"])
@forms
def test_a_row_that_another_transaction_changes_meanwhile_is_not_passed_over(
    plain_bases: Any, form: str, write: str, option: bool, engine_factory: Callable[..., Engine], statements: Any
) -> None:
    """PostgreSQL waits for the other transaction, and does not see the version that it has made."""
    engine = engine_factory(pool_size=3)
    with Session(engine) as session:
        Item = _filled(session, plain_bases(), form, engine)
    statement: Any = update(Item).values(note="mine") if write == "update" else delete(Item)
    statement = statement.where(Item.size == 1)
    if option:
        statement = statement.options(with_loader_criteria(Item, Item.name != "nobody"))
    with Session(engine) as theirs:
        theirs.scalars(select(Item).where(Item.name == "a")).one().data = {"of": "theirs"}
        theirs.flush()

        def late() -> None:
            with Session(engine) as mine:
                mine.execute(statement)
                mine.commit()

        def end() -> None:
            _wait_for_lock(engine)
            theirs.commit()

        error, none = together(late, end)
    assert none is None
    assert isinstance(error, StaleDataError)
    with Session(engine) as session:
        assert sorted(name for name, current in names(session, Item) if current) == ["a", "b", "c"]
        session.execute(statement)
        assert sorted(name for name, current in names(session, Item) if current) == (
            ["a", "b", "c"] if write == "update" else ["c"]
        )
        assert session.scalars(select(Item.data).where(Item.name == "a")).all() == (
            [{"of": "theirs"}] if write == "update" else []
        )


def _wait_for_lock(engine: Engine) -> None:
    """Wait until a connection to the database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with engine.connect() as connection:
        for _ in range(1000):
            if connection.exec_driver_sql(waiting).scalar():
                return
            connection.rollback()
            connection.exec_driver_sql("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits")
