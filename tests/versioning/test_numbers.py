"""A version number is never lower than in its history: whatever has set it back, the next copy continues from there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, delete, insert, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.versioning import Versioned, VersionOptions, prune, restore, revert, seed, versions
from tests._support import count_statements
from tests.versioning._models import history, history_table

OPTIONS: list[dict[str, Any]] = [
    {},
    {"period": True, "operation": True},
    {"period": True, "granularity": "transaction"},
]


def thing(base: Any, **options: Any) -> Any:
    class Thing(Versioned, base):
        __tablename__ = "thing"
        __versioned__ = VersionOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        title: Mapped[str] = mapped_column(String(20))
        touched: Mapped[int] = mapped_column(default=0, onupdate=lambda: 9)

    return Thing


@pytest.fixture(name="Thing", params=OPTIONS, ids=lambda options: "-".join(options) or "plain")
def _thing(request: pytest.FixtureRequest, plain_bases: Any, engine: Engine) -> Any:
    Thing = thing(plain_bases(), **request.param)
    Thing.metadata.create_all(engine)
    return Thing


def stuck(session: Session, cls: Any) -> Any:
    """Insert two versions in history, and a row with version 1, as ``bulk_update_mappings`` with an old ``version``."""
    obj = cls(id=1, title="a")
    session.add(obj)
    session.commit()
    for title in "bc":
        obj.title = title
        session.commit()
    session.bulk_update_mappings(cls, [{"id": 1, "version": 1}])
    session.commit()
    return obj


def healed(session: Session, cls: Any) -> None:
    assert history(session, cls, "version", "title") == [(1, "a"), (2, "b"), (3, "c")]


def test_a_flush_counts_from_history(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    obj.title = "d"
    session.commit()
    healed(session, Thing)
    assert obj.version == 4


def test_a_flush_of_many_counts_from_history_where_it_must(Thing: Any, session: Session) -> None:
    objs = [stuck(session, Thing), Thing(id=2, title="x"), Thing(id=3, title="y")]
    session.add_all(objs)
    session.commit()
    for obj in objs:
        obj.title = "d"
    session.commit()
    assert [obj.version for obj in objs] == [4, 2, 2]


def test_a_deletion_counts_from_history(Thing: Any, session: Session) -> None:
    session.delete(stuck(session, Thing))
    session.commit()
    healed(session, Thing)


def test_a_bulk_update_counts_from_history(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    assert obj.version == 1
    session.add(Thing(id=2, title="x"))
    session.flush()
    session.commit()
    session.execute(update(Thing).values(title="d"))
    session.commit()
    assert [each.version for each in session.scalars(select(Thing).order_by(Thing.id))] == [4, 2]
    assert history(session, Thing, "title", "version")[:3] == [("a", 1), ("b", 2), ("c", 3)]


def test_a_loaded_object_knows_its_number_after_a_bulk_update(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    assert obj.version == 1
    session.execute(update(Thing).values(title="d"))
    assert obj.version == 4


def test_a_bulk_delete_counts_from_history(Thing: Any, session: Session) -> None:
    stuck(session, Thing)
    session.execute(delete(Thing))
    session.commit()
    healed(session, Thing)


def test_an_update_by_primary_key_counts_from_history(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    session.execute(update(Thing), [{"id": 1, "title": "d"}])
    session.commit()
    healed(session, Thing)
    assert obj.version == 4


def test_revert_counts_from_history(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    obj.title = "d"
    session.commit()
    session.bulk_update_mappings(Thing, [{"id": 1, "version": 2}])
    session.commit()
    revert(session, obj, to=1)
    session.commit()
    assert (obj.title, obj.version, history(session, Thing)) == ("a", 5, [1, 2, 3, 4])


def test_versions_of_a_row_behind_its_history_end_with_the_current_one(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    assert [(version.object.title, version.current) for version in versions(session, obj)] == [
        ("a", False),
        ("b", False),
        ("c", True),
    ]


def test_seed_corrects_a_row_behind_its_history(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    assert seed(session, Thing) == 1
    session.commit()
    assert obj.version == 3
    assert seed(session, Thing) == 0


def test_a_key_inserted_past_the_session_goes_on_where_it_ended(Thing: Any, session: Session) -> None:
    session.delete(stuck(session, Thing))
    session.commit()
    session.bulk_insert_mappings(Thing, [{"id": 1, "title": "new"}])
    session.commit()
    obj = session.get_one(Thing, 1)
    obj.title = "newer"
    session.commit()
    assert history(session, Thing, "version", "title")[3:] == [(4, "new")]
    assert obj.version == 5


def test_a_copy_that_a_failed_flush_left_behind_is_counted(Thing: Any, engine: Engine) -> None:
    # Under AUTOCOMMIT a rollback has no effect.
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        obj = Thing(id=1, title="a")
        session.add(obj)
        session.commit()
        table = history_table(Thing)
        columns = {"id": 1, "title": "a", "version": 1}
        session.connection().execute(insert(table), columns)
        obj.title = "b"
        session.commit()
        assert obj.version == 3


def test_the_onupdate_of_a_column_is_no_part_of_it(Thing: Any, session: Session) -> None:
    stuck(session, Thing)
    session.connection().execute(update(Thing.__table__).values(touched=5))
    session.commit()
    session.execute(delete(Thing))
    session.commit()
    assert session.scalars(select(history_table(Thing).c.touched)).all()[-1] == 5


@pytest.mark.only_on("sqlite", "postgresql")
def test_a_number_is_counted_on_although_it_is_free_after_prune(Thing: Any, session: Session) -> None:
    obj = stuck(session, Thing)
    prune(session, Thing, keep=1)
    session.commit()
    obj.title = "d"
    session.commit()
    assert history(session, Thing, "version", "title") == [(2, "b"), (3, "c")]
    assert obj.version == 4


def test_optimistic_locking_accepts_the_number_that_the_session_has_read(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    class Thing(Versioned, plain_bases()):
        __tablename__ = "thing"
        use_mapper_versioning = True
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    Thing.metadata.create_all(engine)
    obj = Thing(id=1, title="a")
    session.add(obj)
    session.commit()
    for title in "bc":
        obj.title = title
        session.commit()
    session.execute(text("UPDATE thing SET version = 1"))
    session.commit()
    obj.title = "d"
    session.commit()
    assert (obj.version, history(session, Thing, "title")) == (4, ["a", "b", "c"])
    session.execute(text("UPDATE thing SET version = 1"))
    session.commit()
    session.delete(obj)
    session.commit()
    assert history(session, Thing, "title") == ["a", "b", "c", "d"]


@pytest.mark.parametrize("write", ["flush", "update", "by key", "delete"])
def test_joined_tables_are_counted_with_their_root(
    plain_bases: Any, engine: Engine, session: Session, write: str
) -> None:
    base = plain_bases()

    class Animal(Versioned, base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        trick: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_identity": "dog"}

    base.metadata.create_all(engine)
    dog = Dog(id=1, trick="a")
    session.add(dog)
    session.commit()
    for trick in "bc":
        dog.trick = trick
        session.commit()
    session.execute(text("UPDATE animal SET version = 1"))
    session.commit()
    if write == "flush":
        dog.trick = "d"
    elif write == "update":
        session.execute(update(Dog).values(trick="d"))
    elif write == "by key":
        session.execute(update(Dog), [{"id": 1, "trick": "d"}])
    else:
        session.delete(dog)
    session.commit()
    assert history(session, Dog, "trick") == ["a", "b", "c"]
    assert session.scalars(select(history_table(Dog).c.version)).all() == [1, 2, 3]


@pytest.mark.parametrize(
    "write",
    [
        lambda session, cls: session.execute(update(cls).values(title="z")),
        lambda session, cls: session.execute(delete(cls)),
        lambda session, cls: setattr(session.get_one(cls, 1), "title", "z"),
        lambda session, cls: session.delete(session.get_one(cls, 1)),
    ],
    ids=["update", "delete", "flush", "deletion"],
)
def test_a_row_not_behind_its_history_costs_no_additional_statement(
    plain_bases: Any, engine: Engine, session: Session, write: Callable[[Session, Any], object]
) -> None:
    Thing = thing(plain_bases(), period=True, operation=True)
    Thing.metadata.create_all(engine)
    session.add(Thing(id=1, title="a"))
    session.commit()
    with count_statements(engine) as log:
        write(session, Thing)
        session.flush()
    assert len(log.starting("INSERT", "WITH")) == 1, log.text
    assert len(log.starting("UPDATE", "DELETE")) == 1, log.text
    assert len(log.starting("SELECT")) <= 1, log.text


def test_a_restored_object_counts_from_history(Thing: Any, session: Session) -> None:
    session.delete(stuck(session, Thing))
    session.commit()
    assert restore(session, Thing, 1).version == 4


def test_the_moment_goes_on_too(plain_bases: Any, engine: Engine, session: Session) -> None:
    # A version does not begin before the one below it has ended.
    Thing = thing(plain_bases(), period=True)
    Thing.metadata.create_all(engine)
    obj = stuck(session, Thing)
    obj.title = "d"
    session.commit()
    bounds = history(session, Thing, "valid_from", "valid_to")
    assert all(begun <= ended for begun, ended in bounds)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(bounds))


def test_a_copy_that_cannot_be_made_names_the_class_and_the_way_out(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # A table of the user's: its key does not contain the version.
    from sqla_patterns.exceptions import StateError

    Thing = thing(plain_bases())
    Thing.__table__.create(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE thing_history (id INTEGER PRIMARY KEY NOT NULL, title VARCHAR(20), touched INTEGER, "
                "version INTEGER, "
                "changed TIMESTAMP NULL)"
            )
        )
    obj = Thing(id=1, title="a")
    session.add(obj)
    session.commit()
    obj.title = "b"
    session.commit()
    obj.title = "c"
    with pytest.raises(
        StateError, match=r"(?s)rows of Thing cannot be copied to 'thing_history'.*seed\(session, Thing\)"
    ):
        session.commit()
    session.rollback()
    Thing.__history_mapper__.local_table.drop(engine)
