"""ORM-enabled ``update()``, ``delete()`` and ``insert()``: versions by a fixed number of statements."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, String, bindparam, delete, func, insert, inspect, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.exceptions import StateError
from sqla_patterns.versioning import CopiedRow, UnversionedWriteError
from tests.versioning._models import use_real_savepoints
from tests.versioning.temporal._models import FORMS, MIXINS, countries, is_current, items, key, library, names, past

forms = pytest.mark.parametrize("form", FORMS)
period = pytest.mark.parametrize("period", [False, True])


def filled(session: Session, base: Any, form: str, engine: Engine, **options: Any) -> Any:
    """Map ``Item``, and write two with size 1 and one with size 2, and one that was deleted."""
    Item = items(base, form, **options)
    Item.metadata.create_all(engine)
    gone = Item(name="gone", size=1, data={})
    session.add_all([Item(name="a", size=1, data={}), Item(name="b", size=1, data={}), Item(name="c", size=2), gone])
    session.commit()
    session.delete(gone)
    session.commit()
    return Item


@period
@forms
def test_update_makes_versions_in_three_statements(
    plain_bases: Any, form: str, period: bool, session: Session, engine: Engine, statements: Any
) -> None:
    Item = filled(session, plain_bases(), form, engine, period=period)
    session.expunge_all()
    statement = update(Item).where(Item.size == 1).values({Item.name: func.upper(Item.name), "note": None})
    with statements(engine) as log:
        result = session.execute(statement.values(size=Item.size + 10))
    assert ([each.split()[0] for each in log], result.rowcount) == (["INSERT", "UPDATE", "UPDATE"], 2)
    session.commit()
    found = sorted((each.name, each.size, is_current(each)) for each in past(session, Item))
    assert found == [
        ("A", 11, True),
        ("B", 11, True),
        ("a", 1, False),
        ("b", 1, False),
        ("c", 2, True),
        ("gone", 1, False),
    ]


@forms
def test_objects_in_the_session_become_the_new_versions(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = filled(session, plain_bases(), form, engine)
    a, b, c = session.scalars(select(Item).order_by(Item.name)).all()
    former = [inspect(each).identity for each in (a, b, c)]
    session.execute(update(Item).where(Item.size == 1).values(name=Item.name + "!"))
    assert [each.name for each in (a, b, c)] == ["a!", "b!", "c"]
    assert [inspect(each).identity == key for each, key in zip((a, b, c), former, strict=True)] == [False, False, True]
    assert set(session.scalars(select(Item))) == {a, b, c}
    a.name = "again"
    session.commit()
    assert sorted(name for name, current in names(session, Item) if current) == ["again", "b!", "c"]


@forms
def test_a_rollback_gives_objects_their_former_version_back(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = filled(session, plain_bases(), form, engine)
    found = session.scalars(select(Item).order_by(Item.name)).all()
    former = [inspect(each).identity for each in found]
    session.execute(update(Item).values(name="x"))
    session.rollback()
    assert [inspect(each).identity for each in found] == former
    assert [each.name for each in found] == ["a", "b", "c"]


@forms
def test_the_rollback_of_a_savepoint_does_too(plain_bases: Any, form: str, engine: Engine) -> None:
    use_real_savepoints(engine)
    with Session(engine) as session:
        Item = filled(session, plain_bases(), form, engine)
        found = session.scalars(select(Item).order_by(Item.name)).all()
        former = [inspect(each).identity for each in found]
        with session.begin_nested() as savepoint:
            session.execute(update(Item).values(name="x"))
            assert found[0].name == "x"
            savepoint.rollback()
        assert [inspect(each).identity for each in found] == former
        assert [each.name for each in found] == ["a", "b", "c"]
        session.execute(update(Item).where(Item.name == "a").values(name="y"))
        session.commit()
        assert [each.name for each in found] == ["y", "b", "c"]


@period
@forms
def test_delete_closes(plain_bases: Any, form: str, period: bool, session: Session, engine: Engine) -> None:
    Item = filled(session, plain_bases(), form, engine, period=period)
    a, b, c = session.scalars(select(Item).order_by(Item.name)).all()
    result = session.execute(delete(Item).where(Item.size == 1))
    assert (result.rowcount, [each in session for each in (a, b, c)]) == (2, [False, False, True])
    session.commit()
    assert sorted(names(session, Item)) == [("a", False), ("b", False), ("c", True), ("gone", False)]


@forms
def test_a_rollback_brings_back_what_delete_has_closed(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = filled(session, plain_bases(), form, engine)
    found = session.scalars(select(Item).order_by(Item.name)).all()
    session.execute(delete(Item))
    session.rollback()
    assert [(each in session, each.name) for each in found] == [(True, "a"), (True, "b"), (True, "c")]


@forms
def test_delete_removes_current_rows_where_the_class_says_so(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = items(plain_bases(), form, on_delete="delete")
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    session.execute(delete(Item))
    session.commit()
    assert names(session, Item) == [("a", False)]


@forms
def test_a_thousand_rows_and_more_take_as_many_statements_as_one(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    session.add_all(Item(name="a") for _ in range(1200))
    session.commit()
    session.expunge_all()
    with statements(engine) as log:
        session.execute(update(Item).values(name="b"))
        session.execute(delete(Item))
    # Three and one; one more that compares times; and on PostgreSQL keys are read, and given in two batches.
    assert len(log) == 4 + (form == "temporal") + 2 * (engine.dialect.name == "postgresql")


@forms
def test_parameters_of_an_update_are_its_values_or_its_bound_parameters(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = filled(session, plain_bases(), form, engine)
    session.execute(update(Item).where(Item.name == bindparam("wanted")), {"wanted": "a", "size": 7})
    session.commit()
    assert sorted(session.execute(select(Item.name, Item.size)).all()) == [("a", 7), ("b", 1), ("c", 2)]


@forms
def test_criteria_over_other_classes_meet_current_rows(
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
    session.execute(update(Book).where(Book.author.has(Author.name == "Ann")).values(title="wrong"))
    session.execute(update(Book).where(Book.author.has(Author.name == "Anna")).values(title="right"))
    session.commit()
    assert [(each.title, is_current(each)) for each in past(session, Book)] == [("a", False), ("right", True)]
    same_name = select(Author.name).where(Author.name == "Ann")
    session.execute(update(Book).where(Book.title.in_(same_name)).values(title="wrong"))
    session.execute(update(Book).values(title=select(func.min(Author.name)).scalar_subquery()))
    assert session.scalars(select(Book.title)).all() == ["Anna"]


@forms
def test_insert_makes_current_rows(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form, period=True)
    Item.metadata.create_all(engine)
    session.execute(insert(Item), [{"name": name} for name in "ab"])
    session.commit()
    first, second = session.scalars(select(Item).order_by(Item.name)).all()
    first.name = "c"
    session.commit()
    assert sorted(names(session, Item)) == [("a", False), ("b", True), ("c", True)]
    assert (first.valid_from > second.valid_from, is_current(first)) == (True, True)


@pytest.mark.parametrize("form", ["versioned", "temporal"])
def test_names_of_columns_may_differ_from_those_of_attributes(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Country = countries(plain_bases(), form)
    Country.metadata.create_all(engine)
    country = Country(code="bf", name="Upper Volta")
    session.add(country)
    session.commit()
    session.execute(update(Country).where(Country.code == "bf").values(name="Burkina Faso"))
    session.execute(update(Country).values({Country.name: Country.name + "!"}))
    assert country.name == "Burkina Faso!"


@forms
def test_onupdate_sets_its_value(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class Box(MIXINS[form], base):
        __tablename__ = "box"
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        name: Mapped[str] = mapped_column(String(10))
        editor: Mapped[str] = mapped_column(String(10), default="ann", onupdate=lambda: "bob")

    base.metadata.create_all(engine)
    session.add(Box(**key(form, 1), name="a"))
    session.commit()
    session.execute(update(Box).values(name="b"))
    session.commit()
    assert [(each.name, each.editor) for each in past(session, Box)] == [("a", "ann"), ("b", "bob")]


# -- what is refused -----------------------------------------------------------------------------


@forms
def test_a_list_of_primary_keys_is_refused(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = filled(session, plain_bases(), form, engine)
    item = session.scalars(select(Item).where(Item.name == "a")).one()
    with pytest.raises(UnversionedWriteError, match="with a list of primary keys was not executed"):
        session.execute(update(Item), [{"id": item.id, "name": "x"}])
    session.rollback()
    assert ("x", True) not in names(session, Item)


@forms
def test_returning_is_refused(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = filled(session, plain_bases(), form, engine)
    with pytest.raises(UnversionedWriteError, match="with RETURNING was not executed"):
        session.execute(update(Item).values(name="x").returning(Item.id))


@forms
def test_setting_what_the_library_keeps_is_refused(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = filled(session, plain_bases(), form, engine, period=True)
    with pytest.raises(StateError, match="sets valid_to, which the library keeps"):
        session.execute(update(Item).values(valid_to=None))


@pytest.mark.only_on("sqlite")
@forms
def test_an_upsert_is_refused(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = filled(session, plain_bases(), form, engine)
    statement = sqlite.insert(Item).values(name="x")
    upsert = statement.on_conflict_do_update(index_elements=["id"], set_={"name": "y"})
    with pytest.raises(UnversionedWriteError, match=r"an INSERT of .* that may change rows was not executed"):
        session.execute(upsert)


def test_copied_rows_whose_keys_are_not_counted_are_refused(plain_bases: Any, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class Thing(CopiedRow, base):
        __tablename__ = "thing"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        name: Mapped[str] = mapped_column(String(10))

    base.metadata.create_all(engine)
    thing = Thing(name="a")
    session.add(thing)
    session.commit()
    thing.name = "b"
    session.commit()
    assert sorted((each.name, each.object_id == thing.object_id) for each in past(session, Thing)) == [
        ("a", True),
        ("b", True),
    ]
    with pytest.raises(UnversionedWriteError, match="keys that are not counted by the database"):
        session.execute(update(Thing).values(name="c"))
