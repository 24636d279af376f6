"""The association row of a parent: when it is made, what it costs, and two transactions that make it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import Session

from ._models import Story, tell


@pytest.fixture
def story(plain_bases: Any, file_engine: Engine) -> Story:
    made = tell("discriminator", plain_bases())
    made.metadata.create_all(file_engine)
    return made


@pytest.fixture
def old_customer(story: Story, file_engine: Engine) -> int:
    """The key of a customer that was there before the strategy, and has no association."""
    with file_engine.begin() as connection:
        connection.execute(insert(story.Customer.__table__), {"name": "old", "type": "customer"})
        key: int = connection.scalar(select(story.Customer.__table__.c.id))
        return key


def associations(session: Session, story: Story) -> int:
    return session.scalar(select(func.count()).select_from(story.metadata.tables["address_association"])) or 0


def test_a_parent_gets_its_row_when_it_is_inserted(story: Story, file_engine: Engine) -> None:
    with Session(file_engine) as session:
        customer = story.Customer()
        session.add_all([customer, story.Supplier()])
        session.commit()
        assert associations(session, story) == 2
        table = story.metadata.tables["address_association"]
        assert set(session.scalars(select(table.c.discriminator))) == {"customer", "supplier"}
        session.delete(customer)
        session.commit()
        assert associations(session, story) == 1


def test_an_older_parent_gets_its_row_with_its_first_child(
    story: Story, old_customer: int, file_engine: Engine, statements: Callable[..., Any]
) -> None:
    with Session(file_engine) as session:
        customer = session.get(story.Customer, old_customer)
        assert customer.addresses == []
        customer.addresses.append(story.Target(street="Elm"))
        child = story.Target(street="Oak")
        child.parent = customer
        session.add(child)
        session.commit()
        assert associations(session, story) == 1
        assert [address.street for address in customer.addresses] == ["Elm", "Oak"]
        with statements() as log:
            customer.addresses.append(story.Target(street="Fir"))
            session.flush()
        assert len(log.starting("INSERT")) == 1
        assert log.starting("UPDATE") == []


def test_an_older_parent_that_is_rolled_back_has_none(story: Story, old_customer: int, file_engine: Engine) -> None:
    with Session(file_engine) as session:
        customer = session.get(story.Customer, old_customer)
        customer.addresses.append(story.Target(street="Elm"))
        session.flush()
        session.rollback()
        assert associations(session, story) == 0
        assert customer.addresses == []
        customer.addresses.append(story.Target(street="Oak"))
        session.commit()
        assert [address.street for address in customer.addresses] == ["Oak"]


@pytest.mark.only_on("postgresql", "mariadb")
def test_two_transactions_that_give_an_older_parent_its_first_child_make_one_row(
    story: Story, old_customer: int, file_engine: Engine
) -> None:
    barrier, errors = threading.Barrier(4), list[BaseException]()

    def add(street: str) -> None:
        try:
            with Session(file_engine) as session:
                customer = session.get(story.Customer, old_customer)
                customer.addresses.append(story.Target(street=street))
                barrier.wait(20)
                session.commit()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=add, args=(f"street {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    with Session(file_engine) as session:
        assert associations(session, story) == 1
        assert len(session.get(story.Customer, old_customer).addresses) == 4
