"""The association row of a parent: when it is made, what it costs, and two transactions that make it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, String, func, insert, select
from sqlalchemy.orm import Session, mapped_column

from sqla_patterns.generic_associations import DiscriminatorAssociation

from ._models import Models, map_models


@pytest.fixture
def models(plain_bases: Any, file_engine: Engine) -> Models:
    made = map_models("discriminator", plain_bases())
    made.metadata.create_all(file_engine)
    return made


@pytest.fixture
def old_customer(models: Models, file_engine: Engine) -> int:
    """Add a customer that is older than the strategy and has no association; return its key."""
    with file_engine.begin() as connection:
        connection.execute(insert(models.Customer.__table__), {"name": "old", "type": "customer"})
        key: int = connection.scalar(select(models.Customer.__table__.c.id))
        return key


def associations(session: Session, models: Models) -> int:
    return session.scalar(select(func.count()).select_from(models.metadata.tables["address_association"])) or 0


def test_a_parent_gets_its_row_when_it_is_inserted(models: Models, file_engine: Engine) -> None:
    with Session(file_engine) as session:
        customer = models.Customer()
        session.add_all([customer, models.Supplier()])
        session.commit()
        assert associations(session, models) == 2
        table = models.metadata.tables["address_association"]
        assert set(session.scalars(select(table.c.discriminator))) == {"customer", "supplier"}
        session.delete(customer)
        session.commit()
        assert associations(session, models) == 1


def test_an_older_parent_gets_its_row_with_its_first_child(
    models: Models, old_customer: int, file_engine: Engine, statements: Callable[..., Any]
) -> None:
    with Session(file_engine) as session:
        customer = session.get(models.Customer, old_customer)
        assert customer.addresses == []
        customer.addresses.append(models.Target(street="Elm"))
        child = models.Target(street="Oak")
        child.parent = customer
        session.add(child)
        session.commit()
        assert associations(session, models) == 1
        assert [address.street for address in customer.addresses] == ["Elm", "Oak"]
        with statements() as log:
            customer.addresses.append(models.Target(street="Fir"))
            session.flush()
        assert len(log.starting("INSERT")) == 1
        assert log.starting("UPDATE") == []


def test_an_older_parent_that_is_rolled_back_has_none(models: Models, old_customer: int, file_engine: Engine) -> None:
    with Session(file_engine) as session:
        customer = session.get(models.Customer, old_customer)
        customer.addresses.append(models.Target(street="Elm"))
        session.flush()
        session.rollback()
        assert associations(session, models) == 0
        assert customer.addresses == []
        customer.addresses.append(models.Target(street="Oak"))
        session.commit()
        assert [address.street for address in customer.addresses] == ["Oak"]


@pytest.mark.only_on("postgresql", "mariadb")
def test_two_transactions_that_give_an_older_parent_its_first_child_make_one_row(
    models: Models, old_customer: int, file_engine: Engine
) -> None:
    barrier, errors = threading.Barrier(4), list[BaseException]()

    def add(street: str) -> None:
        try:
            with Session(file_engine) as session:
                customer = session.get(models.Customer, old_customer)
                customer.addresses.append(models.Target(street=street))
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
        assert associations(session, models) == 1
        assert len(session.get(models.Customer, old_customer).addresses) == 4


def test_a_parent_that_checks_versions_can_be_given_a_child(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Doc(Base):
        __tablename__ = "doc"
        id = mapped_column(Integer, primary_key=True)

    class Versioned(Base):
        __tablename__ = "versioned"
        id = mapped_column(Integer, primary_key=True)
        version = mapped_column(Integer, nullable=False)
        docs = DiscriminatorAssociation(Doc)
        __mapper_args__ = {"version_id_col": version}

    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Versioned.__table__), {"version": 1})
    fresh, older = Versioned(), session.scalars(select(Versioned)).one()
    session.add(fresh)
    session.commit()
    for parent in (fresh, older):
        session.add(Doc(parent=parent))
        session.commit()
        assert len(parent.docs) == 1


def test_an_expired_parent_is_read_once_and_not_locked(
    models: Models, file_engine: Engine, statements: Callable[..., Any]
) -> None:
    with Session(file_engine) as session:
        customer = models.Customer()
        session.add(customer)
        session.commit()
        session.add_all([models.Target(street=str(number), parent=customer) for number in range(20)])
        with statements() as log:
            session.flush()
        assert len(log.starting("SELECT")) == 1
        assert log.starting("UPDATE") == []
        assert "FOR " not in log.text


def test_an_older_parent_is_locked_once_for_all_its_children(
    models: Models, old_customer: int, file_engine: Engine, statements: Callable[..., Any]
) -> None:
    with Session(file_engine) as session:
        customer = session.get(models.Customer, old_customer)
        session.commit()
        session.add_all([models.Target(street=str(number), parent=customer) for number in range(20)])
        with statements() as log:
            session.flush()
        assert len(log.starting("SELECT")) == 2
        assert associations(session, models) == 1


def test_an_association_that_another_session_made_meanwhile_is_used(
    models: Models, old_customer: int, file_engine: Engine
) -> None:
    with Session(file_engine, expire_on_commit=False) as one, Session(file_engine) as two:
        customer = one.get(models.Customer, old_customer)
        assert customer.addresses == []
        one.commit()
        two.add(models.Target(street="Oak", parent=two.get(models.Customer, old_customer)))
        two.commit()
        customer.addresses.append(models.Target(street="Elm"))
        one.commit()
        assert associations(two, models) == 1
        one.refresh(customer)
        assert [address.street for address in customer.addresses] == ["Elm", "Oak"]


def test_a_subclass_of_the_child_uses_the_association_of_its_base(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()

    class Doc(Base):
        __tablename__ = "doc"
        id = mapped_column(Integer, primary_key=True)
        type = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "doc"}

    class Customer(Base):
        __tablename__ = "customer"
        id = mapped_column(Integer, primary_key=True)
        docs = DiscriminatorAssociation(Doc)

    class Photo(Doc):
        __tablename__ = "photo"
        id = mapped_column(ForeignKey("doc.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "photo"}

    class Album(Base):
        __tablename__ = "album"
        id = mapped_column(Integer, primary_key=True)
        photos = DiscriminatorAssociation(Photo)

    Base.metadata.create_all(engine)
    album, customer = Album(), Customer()
    session.add_all([album, customer])
    album.photos.append(Photo())
    customer.docs.extend([Doc(), Photo()])
    session.commit()
    session.expunge_all()
    photos = session.scalars(select(Photo).order_by(Photo.id)).all()
    assert [type(photo.parent) for photo in photos] == [Album, Customer]
    photos[0].parent = session.scalars(select(Customer)).one()
    session.commit()
    assert len(session.scalars(select(Customer)).one().docs) == 3
    assert session.scalars(select(Album)).one().photos == []
