"""A child that leaves its parent: the table in ``_removals``, under each strategy."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Engine, Integer, String, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, sessionmaker
from sqlalchemy.pool import StaticPool

from sqla_patterns.generic_associations import GenericForeignKey, GenericRelationship

from ._models import STRATEGIES, Models, map_models

# What is in memory before the child leaves: the child's parent, the parent's collection.
MEMORY = {
    "nothing": lambda customer, child: None,
    "the parent": lambda customer, child: child.parent,
    "the collection": lambda customer, child: list(customer.addresses),
    "both": lambda customer, child: (list(customer.addresses), child.parent),
}
LEAVE: dict[str, Callable[[Any, Any], object]] = {
    "parent = None": lambda customer, child: setattr(child, "parent", None),
    "remove": lambda customer, child: customer.addresses.remove(child),
    "replace": lambda customer, child: setattr(customer, "addresses", []),
}


AFTERWARDS: dict[str, Callable[[Session, Any, Any], object]] = {
    "nothing": lambda session, customer, child: None,
    "expire the child": lambda session, customer, child: session.expire(child),
    "refresh the child": lambda session, customer, child: session.refresh(child),
    "expire the child and read its parent": lambda session, customer, child: (session.expire(child), child.parent),
    "populate the existing child": lambda session, customer, child: session.scalars(
        select(type(child)).execution_options(populate_existing=True)
    ).all(),
    "expire the parent": lambda session, customer, child: session.expire(customer),
    "expire the collection": lambda session, customer, child: session.expire(customer, ["addresses"]),
    "expire both": lambda session, customer, child: (session.expire(child), session.expire(customer)),
    "roll back": lambda session, customer, child: session.rollback(),
}


def expected_outcome(leave: str, memory: str, afterwards: str, strategy: str) -> str:
    """Return what the table says of a case: the child is deleted, or stays with its parent."""
    if afterwards in ("expire both", "roll back"):
        return "stays"
    if not afterwards.startswith(("expire the child", "refresh the child", "populate")):
        return "deleted"
    recorded_in_collection = leave != "parent = None" or memory in ("the collection", "both")
    # A link table and an ordinary foreign key: SQLAlchemy notes the removal at the collection that is not loaded.
    noted = strategy in ("table_per_association", "table_per_related")
    return "deleted" if recorded_in_collection or noted else "stays"


CASES = [(leave, memory, afterwards) for leave in LEAVE for memory in MEMORY for afterwards in AFTERWARDS]


@pytest.fixture(scope="module", params=STRATEGIES)
def mapped_once(request: pytest.FixtureRequest) -> Generator[tuple[Models, Engine], None, None]:
    """Map the models of a strategy once for all cases: nothing here depends on the database."""

    class Base(DeclarativeBase):
        pass

    models, engine = map_models(request.param, Base), create_engine("sqlite://", poolclass=StaticPool)
    models.metadata.create_all(engine)
    yield models, engine
    engine.dispose()
    Base.registry.dispose()


# The table has an outcome for each combination.
@pytest.mark.every_combination
@pytest.mark.parametrize(("leave", "memory", "afterwards"), CASES)
def test_a_child_that_leaves_is_deleted_or_still_has_its_parent(
    mapped_once: tuple[Models, Engine], leave: str, memory: str, afterwards: str
) -> None:
    made, engine = mapped_once
    with Session(engine) as session:
        found, left = leave_once(session, made, leave, memory, afterwards)
    assert found == expected_outcome(leave, memory, afterwards, made.strategy)
    assert left == (0 if found == "deleted" else 1)


def leave_once(session: Session, made: Models, leave: str, memory: str, afterwards: str) -> tuple[str, int]:
    """Return whose child it is in the end, and how many members the collection has."""
    for table in reversed(made.metadata.sorted_tables):
        session.execute(table.delete())
    customer = made.Customer()
    customer.addresses.append(made.child(customer, "Elm"))
    session.add(customer)
    session.commit()
    cls, customer_id = made.child_class(made.Customer), customer.id
    session.expunge_all()
    child, customer = session.scalars(select(cls)).one(), session.get(made.Customer, customer_id)
    MEMORY[memory](customer, child)
    with session.no_autoflush:
        LEAVE[leave](customer, child)
        AFTERWARDS[afterwards](session, customer, child)
    session.commit()
    rows = session.scalars(select(cls)).all()
    found = "deleted" if not rows else "stays" if rows[0].parent is customer else "nobody's"
    return found, len(customer.addresses)


@pytest.fixture(params=["table_per_association", "discriminator", "generic_foreign_key"])
def shared_models(request: pytest.FixtureRequest, plain_bases: Any, engine: Engine) -> Models:
    models = map_models(request.param, plain_bases())
    models.metadata.create_all(engine)
    return models


@pytest.mark.parametrize("between", ["nothing", "expire the child"])
def test_a_child_that_is_given_to_another_after_its_removal_stays(
    shared_models: Models, session: Session, between: str
) -> None:
    customer, supplier = shared_models.Customer(), shared_models.Supplier()
    customer.addresses.append(shared_models.Target(street="Elm"))
    session.add_all([customer, supplier])
    session.commit()
    (child,) = customer.addresses
    with session.no_autoflush:
        customer.addresses.remove(child)
        AFTERWARDS[between](session, customer, child)
        child.parent = supplier
    session.commit()
    assert (customer.addresses, supplier.addresses, child.parent) == ([], [child], supplier)


def test_a_child_that_is_put_back_after_its_removal_stays(shared_models: Models, session: Session) -> None:
    customer = shared_models.Customer()
    customer.addresses.append(shared_models.Target(street="Elm"))
    session.add(customer)
    session.commit()
    (child,) = customer.addresses
    with session.no_autoflush:
        customer.addresses.remove(child)
        session.refresh(child)
        customer.addresses.append(child)
    session.commit()
    assert (customer.addresses, child.parent) == ([child], customer)


def test_a_removal_in_a_savepoint_that_is_rolled_back_is_forgotten(shared_models: Models, session: Session) -> None:
    customer = shared_models.Customer()
    customer.addresses.append(shared_models.Target(street="Elm"))
    session.add(customer)
    session.commit()
    (child,) = customer.addresses
    with session.no_autoflush:
        with session.begin_nested() as savepoint:
            child.parent = None
            savepoint.rollback()
        assert child.parent is customer
    session.commit()
    assert customer.addresses == [child]


def test_columns_set_by_hand_after_a_removal_say_whose_the_child_is(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    models = map_models("generic_foreign_key", plain_bases())
    models.metadata.create_all(engine)
    customer, supplier = models.Customer(addresses=[models.Target(street="Elm")]), models.Supplier()
    session.add_all([customer, supplier])
    session.commit()
    (child,) = customer.addresses
    with session.no_autoflush:
        customer.addresses.remove(child)
        child.kind, child.parent_id = "supplier", supplier.id
    session.commit()
    assert (child.kind, child.parent_id, child.parent) == ("supplier", supplier.id, supplier)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("leave", LEAVE)
def test_a_child_whose_columns_cannot_be_null_is_deleted(
    plain_bases: Any, engine: Engine, session: Session, leave: str, memory: str
) -> None:
    Base = plain_bases()

    class Note(Base):
        __tablename__ = "note"
        id = mapped_column(Integer, primary_key=True)
        kind = mapped_column(String(50), nullable=False)
        parent_id = mapped_column(Integer, nullable=False)
        parent = GenericForeignKey["Person"]("kind", "parent_id")

    class Person(Base):
        __tablename__ = "person"
        id = mapped_column(Integer, primary_key=True)
        addresses = GenericRelationship(lambda: Note, "parent")

    Base.metadata.create_all(engine)
    session.add(Person(addresses=[Note()]))
    session.commit()
    note, person = session.scalars(select(Note)).one(), session.scalars(select(Person)).one()
    MEMORY[memory](person, note)
    with session.no_autoflush:
        LEAVE[leave](person, note)
    session.commit()
    assert session.scalars(select(Note)).all() == []


@pytest.mark.parametrize("afterwards", ["nothing", "expire the child", "refresh the child", "expire the parent"])
@pytest.mark.parametrize("memory", ["the collection", "both"])
def test_a_removed_child_that_is_not_owned_refers_to_nothing(
    plain_bases: Any, engine: Engine, session: Session, memory: str, afterwards: str
) -> None:
    models = map_models("generic_foreign_key", plain_bases(), cascade="save-update, merge")
    models.metadata.create_all(engine)
    customer = models.Customer(addresses=[models.Target(street="Elm")])
    session.add(customer)
    session.commit()
    child = customer.addresses[0]
    MEMORY[memory](customer, child)
    with session.no_autoflush:
        customer.addresses.remove(child)
        AFTERWARDS[afterwards](session, customer, child)
    session.commit()
    assert (child.kind, child.parent_id) == (None, None)


@pytest.mark.parametrize("leave", LEAVE)
def test_a_child_that_a_listener_takes_away_during_the_flush_is_deleted(
    shared_models: Models, engine: Engine, leave: str
) -> None:
    make = sessionmaker(engine)
    with make() as session:
        customer = shared_models.Customer()
        customer.addresses.append(shared_models.Target(street="Elm"))
        session.add(customer)
        session.commit()
        child = customer.addresses[0]

        def take_away(*_: Any) -> None:
            if child.parent is not None:
                LEAVE[leave](customer, child)

        event.listen(session, "before_flush", take_away)
        customer.name = "renamed"
        session.commit()
        assert session.scalars(select(shared_models.Target)).all() == []
        assert customer.addresses == []
