"""`erase` depends on the table only: it deletes what criteria hide, and raises unless all is gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, event, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, with_loader_criteria

from sqla_patterns.exceptions import StateError
from sqla_patterns.versioning import NoSuchVersionError, Versioned, VersionOptions, erase
from tests.versioning._models import count, history, history_table


def hide(session: Session, cls: Any) -> None:
    """Hide deleted rows: the usual soft delete, as users write it."""

    @event.listens_for(session, "do_orm_execute")
    def add_criteria(state: Any) -> None:
        state.statement = state.statement.options(
            with_loader_criteria(cls, cls.hidden == False, include_aliases=True)  # noqa: E712
        )


@pytest.fixture(name="Person")
def _person(plain_bases: Any, engine: Engine) -> Any:
    base = plain_bases()

    class Person(Versioned, base):
        __tablename__ = "person"
        __versioned__ = VersionOptions(exclude=("password",))
        id: Mapped[int] = mapped_column(primary_key=True)
        mail: Mapped[str] = mapped_column(String(50))
        password: Mapped[str] = mapped_column(String(50), default="x")
        hidden: Mapped[bool] = mapped_column(default=False)

    base.metadata.create_all(engine)
    return Person


def test_a_row_that_criteria_hide_is_erased(Person: Any, session: Session) -> None:
    person = Person(id=1, mail="a@example.org")
    session.add(person)
    session.commit()
    person.hidden = True
    session.commit()
    session.expunge_all()
    hide(session, Person)
    assert erase(session, Person, 1) == 1
    session.commit()
    assert (count(session, Person.__table__), count(session, history_table(Person))) == (0, 0)


def test_a_hidden_row_that_the_session_knows_is_erased(Person: Any, session: Session) -> None:
    person = Person(id=1, mail="a@example.org", hidden=True)
    session.add(person)
    session.commit()
    hide(session, Person)
    erase(session, Person, 1)
    session.commit()
    assert count(session, Person.__table__) == 0


def test_the_orms_cascades_of_a_hidden_row_go_with_it(plain_bases: Any, engine: Engine, session: Session) -> None:
    base = plain_bases()

    class Letter(base):
        __tablename__ = "letter"
        id: Mapped[int] = mapped_column(primary_key=True)
        person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))

    class Person(Versioned, base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        hidden: Mapped[bool] = mapped_column(default=False)
        letters: Mapped[list[Letter]] = relationship(Letter, cascade="all, delete-orphan")

    base.metadata.create_all(engine)
    session.add(Person(id=1, hidden=True, letters=[Letter(id=1)]))
    session.commit()
    session.expunge_all()
    hide(session, Person)
    erase(session, Person, 1)
    session.commit()
    assert (count(session, Person.__table__), count(session, Letter.__table__)) == (0, 0)


def test_a_row_that_a_listener_keeps_is_no_success(Person: Any, session: Session) -> None:
    person = Person(id=1, mail="a@example.org")
    session.add(person)
    session.commit()

    @event.listens_for(session, "before_flush")
    def soften(flushing: Session, *_: object) -> None:
        for obj in list(flushing.deleted):
            flushing.add(obj)
            obj.hidden = True

    with pytest.raises(StateError, match="still in table 'person'"):
        erase(session, Person, 1)


@pytest.fixture(name="staff", params=["single", "joined"])
def _staff(request: pytest.FixtureRequest, plain_bases: Any, engine: Engine) -> Any:
    base = plain_bases()

    class Worker(Versioned, base):
        __tablename__ = "worker"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        name: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "worker"}

    def key(name: str) -> dict[str, Any]:
        if request.param == "single":
            return {}
        return {"__tablename__": name, f"{name}_id": mapped_column(ForeignKey("worker.id"), primary_key=True)}

    # A `mapped_column` of a joined class with another name than its attribute.
    Engineer = type("Engineer", (Worker,), {**key("eng"), "__mapper_args__": {"polymorphic_identity": "eng"}})
    Manager = type("Manager", (Worker,), {**key("mgr"), "__mapper_args__": {"polymorphic_identity": "mgr"}})
    base.metadata.create_all(engine)
    return Worker, Engineer, Manager


def test_an_object_of_a_sibling_class_is_refused_before_anything_is_written(staff: Any, session: Session) -> None:
    Worker, Engineer, Manager = staff
    engineer = Engineer(id=1, name="a")
    session.add(engineer)
    session.commit()
    engineer.name = "b"
    session.commit()
    session.expunge_all()
    with pytest.raises(NoSuchVersionError, match="that key is one of Engineer"):
        erase(session, Manager, 1)
    assert (count(session, Worker.__table__), history(session, Worker, "name")) == (1, ["a"])


def test_a_deleted_object_of_a_sibling_class_is_refused(staff: Any, session: Session) -> None:
    Worker, Engineer, Manager = staff
    engineer = Engineer(id=1, name="a")
    session.add(engineer)
    session.commit()
    session.delete(engineer)
    session.commit()
    with pytest.raises(NoSuchVersionError, match="that key is one of Engineer"):
        erase(session, Manager, 1)
    assert history(session, Worker, "name") == ["a"]


def test_an_object_is_erased_by_the_class_above(staff: Any, session: Session) -> None:
    Worker, Engineer, _ = staff
    session.add(Engineer(id=1, name="a"))
    session.commit()
    session.expunge_all()
    erase(session, Worker, 1)
    session.commit()
    tables = list(Worker.metadata.tables.values())
    assert [count(session, table) for table in tables] == [0] * len(tables)


def test_a_hidden_object_of_a_subclass_is_erased(staff: Any, session: Session) -> None:
    Worker, Engineer, _ = staff
    session.add(Engineer(id=1, name="hidden"))
    session.commit()
    session.expunge_all()

    @event.listens_for(session, "do_orm_execute")
    def add_criteria(state: Any) -> None:
        state.statement = state.statement.options(with_loader_criteria(Worker, Worker.name != "hidden"))

    erase(session, Engineer, 1)
    session.commit()
    with session.connection() as connection:
        assert connection.execute(select(Worker.__table__)).all() == []


# -- what is deleted with it -----------------------------------------------------------------------


@pytest.fixture(name="family", params=["orm", "database"])
def _family(request: pytest.FixtureRequest, plain_bases: Any, engine: Engine, session: Session) -> Any:
    """Insert a parent with two children that are deleted with it, one of which was changed once."""
    base = plain_bases()
    in_database = request.param == "database"

    class Child(Versioned, base):
        __tablename__ = "child"
        __versioned__ = VersionOptions(operation=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(10))
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", ondelete="CASCADE" if in_database else None))

    class Parent(Versioned, base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(10))
        children: Mapped[list[Child]] = relationship(
            Child, cascade="save-update" if in_database else "all, delete-orphan", passive_deletes=in_database or False
        )

    base.metadata.create_all(engine)
    parent = Parent(id=1, name="p", children=[Child(id=1, name="x"), Child(id=2, name="z")])
    session.add_all([parent, Parent(id=2, name="other", children=[Child(id=3, name="o")])])
    session.commit()
    parent.children[0].name = "y"
    parent.name = "q"
    session.commit()
    session.expunge_all()
    return SimpleNamespace(Parent=Parent, Child=Child)


def test_children_that_go_with_an_erased_object_keep_their_last_state(family: Any, session: Session) -> None:
    assert erase(session, family.Parent, 1) == 1
    session.commit()
    assert history(session, family.Parent) == []
    assert history(session, family.Child, "id", "name", "operation") == [
        (1, "x", "update"),
        (1, "y", "delete"),
        (2, "z", "delete"),
    ]


def test_the_history_of_what_goes_with_it_is_erased_where_asked_for(family: Any, session: Session) -> None:
    assert erase(session, family.Parent, 1, cascade=True) == 4
    session.commit()
    assert (history(session, family.Parent), history(session, family.Child)) == ([], [])
    assert session.scalars(select(family.Child.id)).all() == [3]


def test_a_refused_erasure_leaves_later_deletions_versioned(family: Any, session: Session) -> None:
    parent = session.get_one(family.Parent, 2)

    @event.listens_for(session, "before_flush")
    def refuse(*_: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        erase(session, family.Parent, 2)
    event.remove(session, "before_flush", refuse)
    session.rollback()
    session.delete(parent)
    session.commit()
    assert history(session, family.Parent, "name") == ["p", "other"]
