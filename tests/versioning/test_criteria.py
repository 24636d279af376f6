"""Reading the past applies the criteria that a session adds to its SELECTs, to the values of that time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, String, Table, event, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, with_loader_criteria

from sqla_patterns.exceptions import StateError
from sqla_patterns.versioning import (
    NoSuchVersionError,
    Versioned,
    VersionOptions,
    as_of,
    restore,
    revert,
    version_at,
    versions,
)
from tests._support import count_statements
from tests.versioning._models import tick


def only_tenant(session: Session, cls: Any, tenant: int) -> None:
    @event.listens_for(session, "do_orm_execute")
    def add_criteria(state: Any) -> None:
        if state.is_select and not state.is_column_load:
            state.statement = state.statement.options(with_loader_criteria(cls, cls.tenant == tenant))


@pytest.fixture(name="world")
def _world(plain_bases: Any, engine: Engine, session: Session) -> Any:
    base = plain_bases()
    links = Table(
        "invoice_tag",
        base.metadata,
        Column("invoice_id", ForeignKey("invoice.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )

    class Tag(base):
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant: Mapped[int] = mapped_column()

    class Invoice(Versioned, base):
        __tablename__ = "invoice"
        __versioned__ = VersionOptions(period=True, associations=("tags",))
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant: Mapped[int] = mapped_column()
        title: Mapped[str] = mapped_column(String(20))
        tags: Mapped[list[Tag]] = relationship(Tag, secondary=links)

    base.metadata.create_all(engine)
    one, two = Tag(id=1, tenant=1), Tag(id=2, tenant=2)
    mine = Invoice(id=1, tenant=1, title="mine", tags=[one, two])
    theirs = Invoice(id=2, tenant=2, title="theirs")
    passed_on = Invoice(id=3, tenant=1, title="passed on")
    session.add_all([mine, theirs, passed_on])
    session.commit()
    moment = tick()
    for invoice in (mine, theirs, passed_on):
        invoice.title += "!"
    passed_on.tenant = 2
    session.commit()
    return SimpleNamespace(Invoice=Invoice, Tag=Tag, moment=moment, mine=mine, theirs=theirs, passed_on=passed_on)


def test_as_of_meets_the_criteria_by_the_values_of_then(world: Any, session: Session) -> None:
    only_tenant(session, world.Invoice, 1)
    then = as_of(session, select(world.Invoice).order_by(world.Invoice.id), world.moment)
    now = as_of(session, select(world.Invoice).order_by(world.Invoice.id), tick())
    assert ([each.id for each in then], [each.id for each in now]) == ([1, 3], [1])


def test_version_at_of_what_the_session_may_not_see_is_none(world: Any, session: Session) -> None:
    only_tenant(session, world.Invoice, 1)
    assert version_at(session, world.Invoice, 2, world.moment) is None


def test_versions_of_what_the_session_may_not_see_are_none(world: Any, session: Session) -> None:
    only_tenant(session, world.Invoice, 1)
    assert versions(session, world.Invoice, 2) == []


def test_versions_are_seen_by_their_own_values(world: Any, session: Session) -> None:
    only_tenant(session, world.Invoice, 1)
    assert [version.object.title for version in versions(session, world.Invoice, 3)] == ["passed on"]


def test_versions_that_may_be_seen_are_all_there(world: Any, session: Session) -> None:
    only_tenant(session, world.Invoice, 1)
    assert [version.object.title for version in versions(session, world.Invoice, 1)] == ["mine", "mine!"]


def test_restore_of_what_the_session_may_not_see_finds_no_history(world: Any, session: Session) -> None:
    session.delete(world.theirs)
    session.commit()
    only_tenant(session, world.Invoice, 1)
    with pytest.raises(NoSuchVersionError):
        restore(session, world.Invoice, 2)


def test_restore_of_what_the_session_may_see_works(world: Any, session: Session) -> None:
    session.delete(world.mine)
    session.commit()
    only_tenant(session, world.Invoice, 1)
    assert restore(session, world.Invoice, 1).title == "mine!"


def test_revert_to_a_version_that_the_session_may_not_see_finds_none(world: Any, session: Session) -> None:
    only_tenant(session, world.Invoice, 2)
    with pytest.raises(NoSuchVersionError):
        revert(session, world.passed_on, to=1)


def test_related_objects_meet_their_criteria_too(world: Any, session: Session) -> None:
    only_tenant(session, world.Tag, 1)
    past = version_at(session, world.Invoice, 1, world.moment)
    assert past is not None
    assert [tag.id for tag in past.tags] == [1]
    assert [tag.id for tag in versions(session, world.Invoice, 1)[0].object.tags] == [1]


def test_a_criterion_that_a_listener_writes_into_the_statement_applies(world: Any, session: Session) -> None:
    @event.listens_for(session, "do_orm_execute")
    def add_where(state: Any) -> None:
        state.statement = state.statement.where(world.Invoice.tenant == 2)

    assert [each.id for each in as_of(session, select(world.Invoice), world.moment)] == [2]


def test_a_listener_of_the_factory_applies(world: Any, engine: Engine) -> None:
    from sqlalchemy.orm import sessionmaker

    maker = sessionmaker(engine)
    only_tenant(maker, world.Invoice, 2)  # type: ignore[arg-type]
    with maker() as session:
        assert [each.id for each in as_of(session, select(world.Invoice), world.moment)] == [2]


def test_a_listener_that_answers_by_itself_is_refused(world: Any, session: Session) -> None:
    @event.listens_for(session, "do_orm_execute")
    def answer(state: Any) -> Any:
        return session.connection().execute(select(world.Tag.__table__))

    with pytest.raises(StateError, match="answers"):
        as_of(session, select(world.Invoice), world.moment)


def test_without_criteria_nothing_more_is_asked(plain_bases: Any, engine: Engine, session: Session) -> None:
    class Doc(Versioned, plain_bases()):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)

    Doc.metadata.create_all(engine)
    session.add(Doc(id=1))
    session.commit()
    with count_statements(engine) as log:
        versions(session, Doc, 1)
    assert len(log) == 1, log.text


def test_the_sessions_listeners_are_left_as_they_were(world: Any, session: Session) -> None:
    before = len(list(session.dispatch.do_orm_execute))
    version_at(session, world.Invoice, 1, world.moment)
    assert len(list(session.dispatch.do_orm_execute)) == before


@pytest.mark.parametrize("on_root", [True, False])
def test_criteria_on_a_joined_hierarchy(plain_bases: Any, engine: Engine, session: Session, on_root: bool) -> None:
    base = plain_bases()

    class Animal(Versioned, base):
        __tablename__ = "animal"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        name: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __tablename__ = "dog"
        dog_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        trick: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_identity": "dog"}

    base.metadata.create_all(engine)
    dog = Dog(id=1, name="a", trick="a")
    session.add(dog)
    session.commit()
    for word in "bcb":
        dog.name = dog.trick = word
        session.commit()
    criterion = Animal.name == "b" if on_root else Dog.trick == "b"

    @event.listens_for(session, "do_orm_execute")
    def add_criteria(state: Any) -> None:
        state.statement = state.statement.options(with_loader_criteria(Animal if on_root else Dog, criterion))

    # SQLAlchemy applies criteria on a root to SELECTs of the root, not of a joined class below it.
    found = versions(session, Animal if on_root else Dog, 1)
    assert [(version.number, version.object.trick) for version in found] == [(2, "b"), (4, "b")]
