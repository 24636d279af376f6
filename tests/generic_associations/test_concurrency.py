"""Several sessions write the parent of one child: the row is as one of them wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, Integer, String, func, select
from sqlalchemy.orm import Session, mapped_column

from sqla_patterns.generic_associations import GenericForeignKey, GenericRelationship
from tests._support import together

from ._models import ONE_CHILD_CLASS, Models, map_models

#: Ways to give a child to a parent.
GIVE: dict[str, Callable[[Any, Any], object]] = {
    "assign": lambda child, parent: setattr(child, "parent", parent),
    "append": lambda child, parent: parent.addresses.append(child),
    "replace": lambda child, parent: setattr(parent, "addresses", [child]),
}


@pytest.fixture(params=ONE_CHILD_CLASS)
def models(request: pytest.FixtureRequest, plain_bases: Any, file_engine: Engine) -> Models:
    made = map_models(request.param, plain_bases())
    made.metadata.create_all(file_engine)
    return made


def make(engine: Engine, models: Models) -> None:
    """Add child 1 of customer 1, customer 2, and suppliers 1 and 2."""
    with Session(engine) as session:
        customer = models.Customer()
        customer.addresses.append(models.Target(street="Elm"))
        session.add(customer)
        session.flush()
        session.add_all([models.Customer(), models.Supplier(), models.Supplier()])
        session.commit()


def parents(session: Session, models: Models) -> tuple[str, int] | None:
    child = session.scalars(select(models.Target)).one()
    return (type(child.parent).__name__, child.parent.id) if child.parent is not None else None


@pytest.mark.parametrize("how", GIVE)
def test_the_last_of_two_writers_has_the_child(models: Models, file_engine: Engine, how: str) -> None:
    make(file_engine, models)
    with Session(file_engine, expire_on_commit=False) as one, Session(file_engine) as two:
        child, customer = one.get(models.Target, 1), one.get(models.Customer, 2)
        assert child.parent is not customer
        one.commit()
        GIVE[how](two.get(models.Target, 1), two.get(models.Supplier, 1))
        two.commit()
        if models.strategy == "table_per_association":
            # A link row that another session has moved cannot be deleted once more.
            one.refresh(child)
        GIVE[how](child, customer)
        one.commit()
    with Session(file_engine) as session:
        assert parents(session, models) == ("Customer", 2)


@pytest.mark.parametrize("pending", [False, True], ids=["persistent", "pending"])
@pytest.mark.parametrize("how", GIVE)
def test_discriminator_and_key_are_written_together(
    plain_bases: Any, file_engine: Engine, how: str, pending: bool
) -> None:
    models = map_models("generic_foreign_key", plain_bases())
    models.metadata.create_all(file_engine)
    make(file_engine, models)
    with Session(file_engine, expire_on_commit=False) as one, Session(file_engine) as two:
        child = one.get(models.Target, 1)
        assert child.parent.id == 1
        customer = models.Customer() if pending else one.get(models.Customer, 2)
        one.add(customer)
        two.get(models.Target, 1).parent = two.get(models.Supplier, 1)
        two.commit()
        GIVE[how](child, customer)
        one.commit()
    with Session(file_engine) as session:
        assert session.get(models.Target, 1).kind == "customer"


def test_a_key_that_this_session_has_already_is_written_as_well(plain_bases: Any, file_engine: Engine) -> None:
    models = map_models("generic_foreign_key", plain_bases())
    models.metadata.create_all(file_engine)
    make(file_engine, models)
    with Session(file_engine, expire_on_commit=False) as one, Session(file_engine) as two:
        child, supplier = one.get(models.Target, 1), one.get(models.Supplier, 1)
        one.commit()
        two.get(models.Target, 1).parent = two.get(models.Customer, 2)
        two.commit()
        child.parent = supplier
        one.commit()
    with Session(file_engine) as session:
        assert parents(session, models) == ("Supplier", 1)


def test_a_child_that_is_expired_after_a_collection_got_it_has_the_whole_reference(
    plain_bases: Any, file_engine: Engine
) -> None:
    models = map_models("generic_foreign_key", plain_bases())
    models.metadata.create_all(file_engine)
    make(file_engine, models)
    with Session(file_engine) as session:
        child, supplier = session.get(models.Target, 1), session.get(models.Supplier, 2)
        assert supplier.addresses == []
        with session.no_autoflush:
            supplier.addresses.append(child)
            session.expire(child)
        session.commit()
        assert parents(session, models) == ("Supplier", 2)


@pytest.fixture
def pairs(plain_bases: Any) -> Any:
    """Map notes on persons and on companies, whose keys have two columns."""
    Base = plain_bases()

    class Note(Base):
        __tablename__ = "note"
        id = mapped_column(Integer, primary_key=True)
        kind = mapped_column(String(50))
        first = mapped_column(Integer)
        second = mapped_column(Integer)
        parent = GenericForeignKey["Person | Company"]("kind", "first", "second")

    class Person(Base):
        __tablename__ = "person"
        a = mapped_column(Integer, primary_key=True, autoincrement=False)
        b = mapped_column(Integer, primary_key=True, autoincrement=False)
        addresses = GenericRelationship(lambda: Note, "parent")

    class Company(Base):
        __tablename__ = "company"
        a = mapped_column(Integer, primary_key=True, autoincrement=False)
        b = mapped_column(Integer, primary_key=True, autoincrement=False)
        addresses = GenericRelationship(lambda: Note, "parent")

    return Base, Note, Person, Company


@pytest.mark.parametrize("how", GIVE)
def test_composite_keys_do_not_cross(pairs: Any, file_engine: Engine, how: str) -> None:
    Base, Note, Person, _ = pairs
    Base.metadata.create_all(file_engine)
    with Session(file_engine) as session:
        session.add_all([Person(a=1, b=1, addresses=[Note()]), Person(a=2, b=1), Person(a=1, b=2)])
        session.commit()
    with Session(file_engine, expire_on_commit=False) as one, Session(file_engine) as two:
        note, person = one.get(Note, 1), one.get(Person, (1, 2))
        assert person.addresses == []
        one.commit()
        two.get(Note, 1).parent = two.get(Person, (2, 1))
        two.commit()
        GIVE[how](note, person)
        one.commit()
        assert two.get(Note, 1).parent is two.get(Person, (1, 2))


def test_writing_something_else_writes_no_reference(
    plain_bases: Any, file_engine: Engine, statements: Callable[..., Any]
) -> None:
    models = map_models("generic_foreign_key", plain_bases())
    models.metadata.create_all(file_engine)
    make(file_engine, models)
    with Session(file_engine) as session:
        child = session.get(models.Target, 1)
        child.street = "Oak"
        with statements() as log:
            session.flush()
        assert len(log) == 1
        assert "kind" not in log.text


def test_a_parent_that_stays_is_not_written(
    plain_bases: Any, file_engine: Engine, statements: Callable[..., Any]
) -> None:
    models = map_models("generic_foreign_key", plain_bases())
    models.metadata.create_all(file_engine)
    make(file_engine, models)
    with Session(file_engine) as session:
        child = session.get(models.Target, 1)
        child.parent = child.parent
        with statements() as log:
            session.flush()
        assert len(log) == 0


@pytest.mark.only_on("postgresql", "mariadb")
def test_threads_that_give_one_child_to_different_parents_leave_what_one_of_them_wrote(
    plain_bases: Any, file_engine: Engine
) -> None:
    models = map_models("generic_foreign_key", plain_bases())
    models.metadata.create_all(file_engine)
    make(file_engine, models)

    def give(cls: Any, key: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(20):
                with Session(file_engine, expire_on_commit=False) as session:
                    child, parent = session.get(models.Target, 1), session.get(cls, key)
                    # As in a form: what was read is old when it is written.
                    session.commit()
                    child.parent = parent
                    session.commit()
                    with Session(file_engine) as check:
                        found = parents(check, models)
                    assert found in (("Customer", 2), ("Supplier", 1))

        return run

    assert together(give(models.Customer, 2), give(models.Supplier, 1)) == [None, None]


# -- deleting a parent that does not own its children ----------------------------------------------------


@pytest.mark.parametrize("loaded", ["nothing", "the children", "the collection"])
def test_deleting_a_parent_that_owns_no_children_clears_discriminator_and_key(
    plain_bases: Any, engine: Engine, session: Session, loaded: str
) -> None:
    models = map_models("generic_foreign_key", plain_bases(), cascade="save-update, merge")
    models.metadata.create_all(engine)
    customer = models.Customer(addresses=[models.Target(street="Elm"), models.Target(street="Oak")])
    session.add(customer)
    session.commit()
    if loaded == "the children":
        assert len([child.parent for child in session.scalars(select(models.Target))]) == 2
    elif loaded == "the collection":
        assert len(customer.addresses) == 2
    session.delete(customer)
    session.commit()
    rows = session.execute(select(models.Target.kind, models.Target.parent_id)).all()
    assert [tuple(row) for row in rows] == [(None, None), (None, None)]
    assert session.scalar(select(func.count()).where(models.Target.parent.is_type(models.Customer))) == 0


def test_deleting_a_parent_of_composite_key_clears_discriminator_and_key(
    pairs: Any, engine: Engine, session: Session
) -> None:
    Base, *_ = pairs

    class Firm(Base):
        __tablename__ = "firm"
        a = mapped_column(Integer, primary_key=True, autoincrement=False)
        b = mapped_column(Integer, primary_key=True, autoincrement=False)
        notes = GenericRelationship(lambda: Memo, "parent", cascade="save-update, merge")

    class Memo(Base):
        __tablename__ = "memo"
        id = mapped_column(Integer, primary_key=True)
        kind = mapped_column(String(50))
        first = mapped_column(Integer)
        second = mapped_column(Integer)
        parent = GenericForeignKey[Firm]("kind", "first", "second")

    Base.metadata.create_all(engine)
    session.add(Firm(a=1, b=1, notes=[Memo()]))
    session.commit()
    session.delete(session.scalars(select(Firm)).one())
    session.commit()
    assert tuple(session.execute(select(Memo.kind, Memo.first, Memo.second)).one()) == (None, None, None)
