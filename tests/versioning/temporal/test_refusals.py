"""What is wrong is refused before anything is written, with the object, the fault and the way out."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, String, event, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.exceptions import InvalidArgumentError, MappingError, StateError
from sqla_patterns.versioning import ClosedVersionError, CopiedRow, TemporalRow, Versioned, VersionedRow
from tests.versioning.temporal._models import FORMS, HISTORY, MIXINS, countries, items, names, past

forms = pytest.mark.parametrize("form", FORMS)
by_key = pytest.mark.parametrize("form", ["versioned", "temporal"])


def with_closed(session: Session, base: Any, form: str, engine: Engine, **options: Any) -> tuple[Any, Any]:
    """Map ``Item``, write two versions of one, and return the class and the closed one."""
    Item = items(base, form, **options)
    Item.metadata.create_all(engine)
    item = Item(name="a", data={})
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    session.expunge_all()
    return Item, session.scalars(select(Item).where(Item.name == "a").execution_options(**HISTORY)).one()


@pytest.mark.parametrize("is_expired", [False, True])
@forms
def test_a_closed_version_cannot_be_changed(
    plain_bases: Any, form: str, is_expired: bool, session: Session, engine: Engine, statements: Any
) -> None:
    Item, old = with_closed(session, plain_bases(), form, engine)
    if is_expired:
        session.commit()
    old.name = "x"
    session.add(Item(name="other"))
    with statements(engine) as log, pytest.raises(ClosedVersionError, match="closed version and cannot be changed"):
        session.flush()
    assert log.starting("INSERT", "UPDATE", "DELETE") == []
    session.rollback()
    assert names(session, Item) == [("a", False), ("b", True)]


@forms
def test_a_closed_version_cannot_be_deleted(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item, old = with_closed(session, plain_bases(), form, engine)
    session.delete(old)
    with pytest.raises(ClosedVersionError, match="closed version and cannot be deleted"):
        session.flush()
    session.rollback()
    assert old in session
    assert len(past(session, Item)) == 2


def test_the_error_is_one_about_stale_data_too() -> None:
    assert issubclass(ClosedVersionError, StateError)
    assert issubclass(ClosedVersionError, StaleDataError)


@forms
def test_what_the_library_keeps_cannot_be_set(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    Item = items(plain_bases(), form, period=True)
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.valid_to = datetime.now(UTC)
    with statements(engine) as log, pytest.raises(StateError, match=r"'valid_to' of .*Item .* was set to"):
        session.flush()
    assert log.starting("INSERT", "UPDATE") == []


@forms
def test_the_key_of_an_object_cannot_change(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.id = 99 if form == "copied" else uuid.uuid4()
    with pytest.raises(StateError, match="the key tells to which object the versions belong"):
        session.flush()


@forms
def test_setting_what_is_there_is_nothing(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form, period=True)
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.valid_from, item.valid_to, item.id = item.valid_from, None, item.id
    session.commit()
    assert len(past(session, Item)) == 1


@forms
def test_a_naive_moment_is_refused(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    Item = items(plain_bases(), form, period=True)
    Item.metadata.create_all(engine)
    session.add(Item(name="a", valid_from=datetime(2026, 1, 1)))  # noqa: DTZ001
    with statements(engine) as log, pytest.raises(InvalidArgumentError, match="has no time zone"):
        session.flush()
    assert len(log) == 0


@forms
def test_a_moment_that_is_given_is_kept(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form, period=True)
    Item.metadata.create_all(engine)
    begun = datetime(2001, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    item = Item(name="a", valid_from=begun)
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    assert [each.valid_from == begun for each in past(session, Item)] == [True, False]


@pytest.mark.only_on("sqlite")
@by_key
def test_sqlite_does_not_count_integer_keys(plain_bases: Any, form: str, engine: Engine) -> None:
    base = plain_bases()

    class Item(MIXINS[form], base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MappingError, match=r"table 'item' cannot be created on SQLite"):
        base.metadata.create_all(engine)


@pytest.mark.only_on("postgresql", "mariadb")
@by_key
def test_servers_count_integer_keys(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class Item(MIXINS[form], base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    base.metadata.create_all(engine)
    first, second = Item(name="a"), Item(name="b")
    session.add_all([first, second])
    session.commit()
    first.name = "a2"
    session.commit()
    assert {first.id, second.id} == {1, 2}
    assert sorted(session.execute(select(Item.id, Item.name)).all()) == [(first.id, "a2"), (second.id, "b")]


@by_key
def test_a_new_object_needs_a_key(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    Country = countries(plain_bases(), form)
    Country.metadata.create_all(engine)
    session.add(Country(name="nowhere"))
    with statements(engine) as log, pytest.raises(StateError, match="a new Country has no 'code'"):
        session.flush()
    assert len(log) == 0


@forms
def test_a_deletion_during_the_flush_is_refused(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()

    @event.listens_for(session, "before_flush")
    def delete_late(session: Session, context: object, instances: object) -> None:
        session.delete(item)

    item.name = "b"
    with pytest.raises(StateError, match="while the flush was going on"):
        session.flush()
    session.rollback()
    assert names(session, Item) == [("a", True)]


# -- classes -------------------------------------------------------------------------------------


def test_two_forms_are_refused(plain_bases: Any) -> None:
    base = plain_bases()
    with pytest.raises(MappingError, match="choose one form of temporal rows"):

        class Item(VersionedRow, TemporalRow, base):
            __tablename__ = "item"
            id: Mapped[int] = mapped_column(primary_key=True)

    assert "item" not in base.metadata.tables


@pytest.mark.parametrize("history_first", [False, True])
@forms
def test_a_class_with_a_history_table_is_refused(plain_bases: Any, form: str, history_first: bool) -> None:
    base = plain_bases()
    mixins = (Versioned, MIXINS[form]) if history_first else (MIXINS[form], Versioned)
    body = {"__tablename__": "item", "__module__": __name__, "id": mapped_column(Integer, primary_key=True)}
    with pytest.raises(MappingError, match="of which the history table would not know"):
        type("Item", (*mixins, base), body)
    assert "item" not in base.metadata.tables


@by_key
def test_a_class_without_a_key_of_its_own_is_refused(plain_bases: Any, form: str) -> None:
    base = plain_bases()
    with pytest.raises(MappingError, match="without a primary key of its own"):

        class Item(MIXINS[form], base):
            __tablename__ = "item"
            name: Mapped[str]


def test_a_copied_row_with_a_composite_key_is_refused(plain_bases: Any) -> None:
    base = plain_bases()
    with pytest.raises(MappingError, match="needs a primary key of one column"):

        class Item(CopiedRow, base):
            __tablename__ = "item"
            one: Mapped[int] = mapped_column(primary_key=True)
            two: Mapped[int] = mapped_column(primary_key=True)


def test_a_copied_row_whose_key_nobody_makes_is_refused(plain_bases: Any) -> None:
    base = plain_bases()
    with pytest.raises(MappingError, match="cannot be made for a new version"):

        class Item(CopiedRow, base):
            __tablename__ = "item"
            code: Mapped[str] = mapped_column(primary_key=True)


@forms
def test_a_subclass_with_a_table_of_its_own_is_refused(plain_bases: Any, form: str) -> None:
    base = plain_bases()
    Item = items(base, form)
    with pytest.raises(MappingError, match="has a table of its own and inherits from"):

        class Special(Item):
            __tablename__ = "special"
            id: Mapped[Any] = mapped_column(ForeignKey("item.id"), primary_key=True)

    assert "special" not in base.metadata.tables


def test_the_mixin_belongs_to_the_topmost_class(plain_bases: Any) -> None:
    base = plain_bases()

    class Plain(base):
        __tablename__ = "plain"
        __mapper_args__ = {"polymorphic_on": "kind"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    with pytest.raises(MappingError, match=r"put .* on the topmost class of the hierarchy"):

        class Item(CopiedRow, Plain):
            __mapper_args__ = {"polymorphic_identity": "item"}


@forms
def test_an_attribute_of_the_users_with_a_name_of_the_librarys_is_refused(plain_bases: Any, form: str) -> None:
    base = plain_bases()
    name = {"versioned": "version_id", "temporal": "valid_to", "copied": "is_current"}[form]
    with pytest.raises(MappingError, match=f"Item.{name}"):
        type(
            "Item",
            (MIXINS[form], base),
            {
                "__tablename__": "item",
                "__module__": __name__,
                "id": mapped_column(String(5), primary_key=True, default="x"),
                name: mapped_column(String(5)),
            },
        )


def test_an_object_of_a_detached_session_keeps_its_identity(plain_bases: Any, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), "versioned")
    Item.metadata.create_all(engine)
    item = Item(name="a")
    session.add(item)
    session.commit()
    session.refresh(item)
    session.expunge(item)
    item.name = "b"
    session.add(item)
    session.commit()
    assert inspect(item).identity == (item.id, 2)
