"""What a flush does, in all three forms: an UPDATE becomes an INSERT, and the object in hand is the new version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    Engine,
    ForeignKey,
    Identity,
    Integer,
    Sequence,
    String,
    func,
    insert,
    inspect,
    null,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, undefer

from sqla_patterns.versioning import CopiedRow, StaleVersionError, _clock
from tests.versioning._models import use_real_savepoints
from tests.versioning.temporal._models import (
    FORMS,
    MIXINS,
    countries,
    is_current,
    items,
    names,
    past,
    stable_of,
)

forms = pytest.mark.parametrize("form", FORMS)
by_key = pytest.mark.parametrize("form", ["versioned", "temporal"])


def create(engine: Engine, cls: Any) -> Any:
    cls.metadata.create_all(engine)
    return cls


def _key(form: str, key: int = 1) -> dict[str, int]:
    """Return a key that is set by hand, where the database does not count."""
    return {} if form == "copied" else {"id": key}


@forms
def test_a_change_makes_a_row_and_closes_the_former_one(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    assert names(session, Item) == [("a", False), ("b", True)]


@forms
def test_the_object_in_hand_is_the_new_version(bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a")
    session.add(item)
    session.commit()
    first, key = stable_of(item), inspect(item).identity
    item.name = "b"
    session.flush()
    assert (stable_of(item), inspect(item).identity != key, is_current(item)) == (first, True, True)
    assert session.scalars(select(Item)).all() == [item]


@forms
def test_an_insert_makes_the_first_version(bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = create(engine, items(bases(), form, period=True))
    item = Item(name="a")
    session.add(item)
    session.flush()
    assert "valid_from" in vars(item), "nothing is left expired"
    assert (is_current(item), item.valid_to, getattr(item, "version_id", 1)) == (True, None, 1)
    assert stable_of(item) == item.id
    session.expire_all()
    assert stable_of(item) == item.id


@forms
def test_a_thousand_changes_are_two_statements(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    Item = create(engine, items(plain_bases(), form))
    found = [Item(name=f"n{number:04}", data={}) for number in range(1000)]
    session.add_all(found)
    session.commit()
    for item in session.scalars(select(Item).options(undefer("*"))):
        item.name = "b" + item.name
    with statements(engine) as log:
        session.flush()
    # The database makes the keys of copied rows: they are read afterwards, and on PostgreSQL drawn beforehand.
    expected = ["UPDATE", "INSERT"]
    if form == "copied":
        expected.insert(1 if engine.dialect.name == "postgresql" else 2, "SELECT")
    assert [each.split()[0] for each in log] == expected
    current = select(func.count()).select_from(Item)
    assert session.scalar(current.where(Item.name.startswith("b"))) == session.scalar(current) == 1000
    assert len(past(session, Item)) == 2000
    assert sorted(item.name for item in found) == sorted(f"bn{number:04}" for number in range(1000))


@forms
def test_what_is_not_loaded_is_read_with_one_statement_and_carried_over(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    Item = create(engine, items(plain_bases(), form))
    session.add_all(Item(name="a", size=number, note=f"note {number}") for number in range(5))
    session.commit()
    found = session.scalars(select(Item)).all()
    session.expire_all()
    for item in found:
        item.name = "b"
    with statements(engine) as log:
        session.flush()
    words = [each.split()[0] for each in log]
    assert (words[:2], words.count("INSERT"), len(words)) == (["SELECT", "UPDATE"], 1, 4 if form == "copied" else 3)
    assert sorted((each.name, each.size, each.note) for each in past(session, Item) if is_current(each)) == [
        ("b", number, f"note {number}") for number in range(5)
    ]


@forms
def test_a_value_that_is_set_and_set_back_makes_no_version(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.name = "b"  # not loaded, so that the former value is not known
    item.name = "a"
    session.commit()
    assert names(session, Item) == [("a", True)]


@forms
def test_a_second_flush_changes_the_version_that_the_transaction_has_made(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a")
    session.add(item)
    session.flush()
    item.name = "b"
    session.commit()
    assert names(session, Item) == [("b", True)], "the transaction has made one version"
    item.name = "c"
    session.flush()
    item.name = "d"
    session.commit()
    assert names(session, Item) == [("b", False), ("d", True)]


@forms
def test_a_change_in_place_of_json_leaves_the_former_value_in_the_former_row(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a", data={"k": 1})
    session.add(item)
    session.commit()
    item.data["k"] = 2
    session.commit()
    assert [each.data for each in past(session, Item)] == [{"k": 1}, {"k": 2}]


@forms
def test_a_json_column_keeps_its_null_and_its_json_null(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = create(engine, items(bases(), form))
    rows = [{"name": "a", "data": null()}, {"name": "b", "data": JSON.NULL}]
    session.execute(insert(Item), rows)
    session.commit()
    for item in session.scalars(select(Item)):
        item.size = 1
    session.commit()
    found = session.execute(select(Item.name, Item.data.is_(None)).order_by(Item.name)).all()
    assert [(name, bool(is_null)) for name, is_null in found] == [("a", True), ("b", False)]


@forms
def test_an_sql_expression_is_computed_from_the_former_value(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a", size=1)
    session.add(item)
    session.commit()
    item.size = Item.size + 5
    session.commit()
    assert [each.size for each in past(session, Item)] == [1, 6]
    assert item.size == 6


@forms
def test_a_deleted_object_is_closed(bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = create(engine, items(bases(), form, period=True))
    item = Item(name="a")
    session.add(item)
    session.commit()
    session.delete(item)
    session.flush()
    assert (item in session, inspect(item).deleted) == (False, True)
    session.commit()
    assert names(session, Item) == [("a", False)]
    (closed,) = past(session, Item)
    assert closed.valid_to > closed.valid_from
    assert session.scalars(select(Item)).all() == []


@forms
def test_a_rollback_brings_a_deleted_object_back(bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a")
    session.add(item)
    session.commit()
    session.delete(item)
    session.flush()
    session.rollback()
    assert (item in session, item.name) == (True, "a")
    item.name = "b"
    session.commit()
    assert names(session, Item) == [("a", False), ("b", True)]


@forms
def test_on_delete_may_remove_the_current_row(bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = create(engine, items(bases(), form, on_delete="delete"))
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    session.delete(item)
    session.commit()
    assert names(session, Item) == [("a", False)]


@forms
def test_an_object_is_alive_after_a_rollback(bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = create(engine, items(bases(), form))
    item = Item(name="a")
    session.add(item)
    session.commit()
    key = inspect(item).identity
    item.name = "lost"
    session.flush()
    session.rollback()
    assert (item in session, item.name, inspect(item).identity) == (True, "a", key)
    item.name = "b"
    session.commit()
    assert names(session, Item) == [("a", False), ("b", True)]


@forms
def test_an_object_is_alive_after_the_rollback_of_a_savepoint(bases: Any, form: str, engine: Engine) -> None:
    use_real_savepoints(engine)
    Item = create(engine, items(bases(), form))
    with Session(engine) as session:
        item = Item(name="a")
        session.add(item)
        session.commit()
        key = inspect(item).identity
        with session.begin_nested() as savepoint:
            item.name = "lost"
            session.flush()
            savepoint.rollback()
        assert (item.name, inspect(item).identity) == ("a", key)
        item.name = "b"
        with session.begin_nested():
            item.size = 1
            session.flush()
        session.commit()
        assert [(each.name, each.size) for each in past(session, Item)] == [("a", None), ("b", 1)]


@forms
def test_an_outer_rollback_undoes_what_an_inner_savepoint_has_made(bases: Any, form: str, engine: Engine) -> None:
    use_real_savepoints(engine)
    Item = create(engine, items(bases(), form))
    with Session(engine) as session:
        item = Item(name="a")
        session.add(item)
        session.commit()
        outer = session.begin_nested()
        with session.begin_nested():
            item.name = "lost"
        outer.rollback()
        assert item.name == "a"
        item.name = "b"
        session.commit()
        assert names(session, Item) == [("a", False), ("b", True)]


@by_key
def test_a_key_that_is_used_again_continues(bases: Any, form: str, session: Session, engine: Engine) -> None:
    Country = create(engine, countries(bases(), form, period=True))
    for name in ("Upper Volta", "Burkina Faso"):
        country = Country(code="bf", name=name)
        session.add(country)
        session.commit()
        session.delete(country)
        session.commit()
    first, second = past(session, Country)
    assert [each.name for each in (first, second)] == ["Upper Volta", "Burkina Faso"]
    assert (second.valid_from >= first.valid_to, getattr(second, "version_id", 2)) == (True, 2)


@by_key
def test_a_deletion_and_an_insert_with_its_key_may_be_one_flush(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Country = create(engine, countries(bases(), form))
    country = Country(code="bf", name="Upper Volta")
    session.add(country)
    session.commit()
    session.delete(country)
    session.add(Country(code="bf", name="Burkina Faso"))
    session.commit()
    assert [(each.name, is_current(each)) for each in past(session, Country)] == [
        ("Upper Volta", False),
        ("Burkina Faso", True),
    ]


@forms
def test_each_version_begins_later_than_the_one_before(
    bases: Any, form: str, session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
    monkeypatch.setattr(_clock, "now", lambda: frozen)
    Item = create(engine, items(bases(), form, period=True))
    item = Item(name="0")
    session.add(item)
    session.commit()
    for number in range(1, 4):
        item.name = str(number)
        session.commit()
    session.delete(item)
    session.commit()
    tick = timedelta(microseconds=1)
    found = sorted((each.name, each.valid_from, each.valid_to) for each in past(session, Item))
    assert found == [(str(n), frozen + n * tick, frozen + (n + 1) * tick) for n in range(4)]


@forms
def test_all_versions_of_a_transaction_begin_at_one_time(
    bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = create(engine, items(bases(), form, period=True))
    session.add_all(Item(name=name) for name in "abc")
    session.flush()
    session.add(Item(name="d"))
    session.commit()
    assert len({each.valid_from for each in past(session, Item)}) == 1


@forms
def test_subclasses_of_single_table_inheritance_share_the_rows(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    base = plain_bases()

    class Animal(MIXINS[form], base):
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        kind: Mapped[str] = mapped_column(String(10))
        name: Mapped[str] = mapped_column(String(20))

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}
        tricks: Mapped[int | None]

    class Cat(Animal):
        __mapper_args__ = {"polymorphic_identity": "cat"}
        lives: Mapped[int | None] = mapped_column(default=9)

    create(engine, Animal)
    dog, cat = Dog(**_key(form), name="Rex", tricks=1), Cat(**_key(form, 2), name="Tom")
    session.add_all([dog, cat])
    session.commit()
    dog.tricks, cat.name = 2, "Tim"
    session.commit()
    assert {(type(each), each.name) for each in session.scalars(select(Animal))} == {(Dog, "Rex"), (Cat, "Tim")}
    assert (dog.tricks, cat.lives, len(past(session, Animal))) == (2, 9, 4)
    assert session.scalars(select(Animal.__table__.c.lives).where(Animal.__table__.c.kind == "dog")).all() == [9] * 2, (
        "SQLAlchemy inserts the default of a sibling"
    )


@forms
def test_onupdate_and_computed_columns_are_those_of_an_update(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    base = plain_bases()
    count = iter(range(100))

    class Box(MIXINS[form], base):
        __tablename__ = "box"
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        width: Mapped[int]
        area: Mapped[int] = mapped_column(Computed("width * width", persisted=True))
        edits: Mapped[int] = mapped_column(default=lambda: -1, onupdate=lambda: next(count))

    create(engine, Box)
    box = Box(**_key(form), width=2)
    session.add(box)
    session.commit()
    for width in (3, 4):
        assert box.area == (width - 1) ** 2
        box.width = width
        session.commit()
    found = sorted((each.width, each.area, each.edits) for each in past(session, Box))
    assert found == [(2, 4, -1), (3, 9, 0), (4, 16, 1)]


@forms
def test_a_foreign_key_that_the_flush_sets_makes_a_version(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    base = plain_bases()

    class Shelf(base):
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)
        books: Mapped[list[Any]] = relationship(lambda: Book)

    class Book(MIXINS[form], base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))

    create(engine, Shelf)
    book, shelf = Book(**_key(form)), Shelf(id=7)
    session.add_all([book, shelf])
    session.commit()
    shelf.books.append(book)  # without a back reference: the flush finds out
    session.commit()
    shelf.books.remove(book)
    session.commit()
    assert [each.shelf_id for each in past(session, Book)] == [None, 7, None]


@forms
def test_an_orphan_is_closed(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class Order(base):
        __tablename__ = "purchase"
        id: Mapped[int] = mapped_column(primary_key=True)
        lines: Mapped[list[Any]] = relationship(lambda: Line, cascade="all, delete-orphan")

    class Line(MIXINS[form], base):
        __tablename__ = "line"
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        name: Mapped[str] = mapped_column(String(20))
        order_id: Mapped[int] = mapped_column(ForeignKey("purchase.id"))

    create(engine, Order)
    order = Order(id=1, lines=[Line(**_key(form), name="hat"), Line(**_key(form, 2), name="mug")])
    session.add(order)
    session.commit()
    gone = order.lines.pop()
    session.commit()
    assert sorted((each.name, is_current(each), each.order_id) for each in past(session, Line)) == [
        ("hat", True, 1),
        ("mug", False, 1),
    ]
    assert (gone in session, [line.name for line in order.lines]) == (False, ["hat"])


@by_key
def test_a_composite_key_works(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class Rate(MIXINS[form], base):
        __tablename__ = "rate"
        source: Mapped[str] = mapped_column(String(3), primary_key=True)
        target: Mapped[str] = mapped_column(String(3), primary_key=True)
        value: Mapped[int]

    create(engine, Rate)
    session.add_all([Rate(source="EUR", target="USD", value=1), Rate(source="EUR", target="GBP", value=2)])
    session.commit()
    for rate in session.scalars(select(Rate)):
        rate.value += 10
    session.commit()
    assert sorted(each.value for each in past(session, Rate)) == [1, 2, 11, 12]
    assert sorted(session.scalars(select(Rate.value))) == [11, 12]


@forms
def test_a_column_that_is_not_mapped_is_carried_over(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    base = plain_bases()

    class Lamp(MIXINS[form], base):
        __tablename__ = "lamp"
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        name: Mapped[str] = mapped_column(String(20))

    Lamp.__table__.append_column(Column("hidden", Integer))
    create(engine, Lamp)
    lamp = Lamp(**_key(form), name="a")
    session.add(lamp)
    session.commit()
    session.execute(text("update lamp set hidden = 5"))
    session.commit()
    lamp.name = "b"
    session.commit()
    assert session.execute(text("select name, hidden from lamp order by name")).all() == [("a", 5), ("b", 5)]


@forms
def test_another_session_that_has_the_former_version_is_refused(
    plain_bases: Any, form: str, engine_factory: Any
) -> None:
    engine = engine_factory()
    Item = create(engine, items(plain_bases(), form))
    with Session(engine, expire_on_commit=False) as one, Session(engine, expire_on_commit=False) as other:
        one.add(Item(name="a"))
        one.commit()
        mine = one.scalars(select(Item)).one()
        theirs = other.scalars(select(Item)).one()
        other.commit()
        mine.name = "mine"
        one.commit()
        theirs.name = "theirs"
        with pytest.raises(StaleVersionError, match="not the current version any more"):
            other.flush()
        other.rollback()
        assert names(one, Item) == [("a", False), ("mine", True)]


def test_a_version_number_that_is_taken_is_refused(plain_bases: Any, session: Session, engine: Engine) -> None:
    Item = create(engine, items(plain_bases(), "versioned"))
    item = Item(name="a")
    session.add(item)
    session.commit()
    old = Item(id=item.id, version_id=1, name="late")
    item.name = "b"
    session.commit()
    session.merge(old)
    with pytest.raises(StaleVersionError, match="there is a version 2"):
        session.flush()


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("key", ["serial", "identity", "always", "sequence"])
def test_keys_of_copied_rows_however_the_database_makes_them(
    key: str, plain_bases: Any, session: Session, engine: Engine
) -> None:
    base = plain_bases()
    options: dict[str, Any] = {
        "serial": {},
        "identity": {"kwargs": [Identity(start=100)]},
        "always": {"kwargs": [Identity(always=True)]},
        "sequence": {"kwargs": [Sequence("own_numbers", start=500)]},
    }[key]

    class Thing(CopiedRow, base):
        __tablename__ = 'a "thing"'
        id: Mapped[int] = mapped_column(*options.get("kwargs", ()), primary_key=True)
        name: Mapped[str] = mapped_column(String(10))

    base.metadata.create_all(engine)
    things = [Thing(name=name) for name in "ab"]
    session.add_all(things)
    session.commit()
    for thing in things:
        thing.name += "!"
    session.commit()
    assert [(each.name, is_current(each)) for each in past(session, Thing)] == [
        ("a", False),
        ("b", False),
        ("a!", True),
        ("b!", True),
    ]
    assert len({each.id for each in past(session, Thing)}) == 4
    assert session.scalar(insert(Thing).values(name="c").returning(Thing.id)) not in {each.id for each in things}
