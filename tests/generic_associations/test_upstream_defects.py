"""Each defect of the recipe in SQLAlchemy's examples has a test that fails on the recipe's behaviour."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, Integer, String, func, select
from sqlalchemy.orm import Session, mapped_column

from sqla_patterns.generic_associations import GenericForeignKey, TablePerAssociation, related_class

from ._models import STRATEGIES, Models, map_models, map_with_composite_keys


@pytest.fixture
def made(engine: Engine, plain_bases: Any) -> Any:
    def make(strategy: str, **options: Any) -> Models:
        models = map_models(strategy, plain_bases(), **options)
        models.metadata.create_all(engine)
        return models

    return make


def test_generic_fk_the_collection_exists_before_mappers_are_configured(plain_bases: Any) -> None:
    # Upstream sets it in a "mapper_configured" listener: AttributeError until then.
    assert map_models("generic_foreign_key", plain_bases()).Customer.addresses.any() is not None


def test_generic_fk_the_parent_can_be_set(made: Any, session: Session) -> None:
    # Upstream's is a property without a setter.
    models = made("generic_foreign_key")
    child = models.Target(street="x")
    child.parent = models.Supplier()
    session.add(child)
    session.commit()
    assert isinstance(child.parent, models.Supplier)


def test_generic_fk_a_child_without_a_parent_reads_none(made: Any) -> None:
    # Upstream: AttributeError: 'parent_None'.
    assert made("generic_foreign_key").Target(street="x").parent is None


def test_generic_fk_deleting_a_parent_does_not_null_its_childrens_columns(made: Any, session: Session) -> None:
    # Upstream: UPDATE address SET parent_id=NULL, an IntegrityError where the column is NOT NULL.
    models = made("generic_foreign_key")
    customer = models.Customer(addresses=[models.Target(street="x")])
    session.add(customer)
    session.commit()
    session.delete(customer)
    session.commit()
    assert session.scalar(select(func.count()).select_from(models.Target)) == 0


def test_generic_fk_the_relationship_to_one_class_is_empty_for_children_of_another(made: Any, session: Session) -> None:
    # Upstream's address.parent_supplier returns the supplier with the same id, whose address it is not.
    models = made("generic_foreign_key")
    customer, supplier = models.Customer(addresses=[models.Target(street="x")]), models.Supplier()
    session.add_all([customer, supplier])
    session.commit()
    assert customer.id == supplier.id
    criterion = models.Target.parent.of_type(models.Supplier).has()
    assert session.scalars(select(models.Target).where(criterion)).all() == []
    session.expunge_all()
    child = session.scalars(select(models.Target)).one()
    assert getattr(child, models.Target.parent.of_type(models.Supplier).key) is None


def test_generic_fk_renaming_a_class_breaks_no_rows(plain_bases: Any, engine: Engine, session: Session) -> None:
    # Upstream stores the lower-case name of the class.
    def map_with(name: str) -> tuple[Any, Any]:
        Base = plain_bases()
        Owner = type(name, (Base,), {"__tablename__": "owner", "id": mapped_column(Integer, primary_key=True)})

        class Note(Base):
            __tablename__ = "note"
            id = mapped_column(Integer, primary_key=True)
            kind = mapped_column(String(50))
            parent_id = mapped_column(Integer)
            parent = GenericForeignKey[Owner]("kind", "parent_id")

        return Owner, Note

    Owner, Note = map_with("Customer")
    Note.metadata.create_all(engine)
    session.add(Note(parent=Owner()))
    session.commit()
    session.expunge_all()
    Renamed, NewNote = map_with("Client")
    assert isinstance(session.scalars(select(NewNote)).one().parent, Renamed)


def test_generic_fk_the_key_of_a_parent_need_not_be_named_id(made: Any, session: Session) -> None:
    # Upstream reads parent.id.
    models = made("generic_foreign_key", key="uuid")
    session.add(models.Customer(addresses=[models.Target(street="x")]))
    session.commit()
    assert isinstance(session.scalars(select(models.Target)).one().parent, models.Customer)


def test_discriminator_a_fresh_parent_has_a_collection(made: Any) -> None:
    # Upstream: Customer().addresses is None, and has no append.
    models = made("discriminator")
    customer = models.Customer()
    customer.addresses.append(models.Target(street="x"))
    assert len(customer.addresses) == 1


def test_discriminator_deleting_a_parent_deletes_association_and_children(made: Any, session: Session) -> None:
    # Upstream leaves the rows of both tables.
    models = made("discriminator")
    customer = models.Customer(addresses=[models.Target(street="x")])
    session.add(customer)
    session.commit()
    session.delete(customer)
    session.commit()
    for table in models.metadata.tables.values():
        assert session.scalar(select(func.count()).select_from(table)) == 0


def test_discriminator_two_parents_cannot_share_an_association(made: Any) -> None:
    # Upstream's column takes the same association for any number of parents.
    models = made("discriminator")
    assert models.Customer.__table__.c.addresses_association_id.unique


def test_table_per_association_a_child_knows_its_parent(made: Any, session: Session) -> None:
    # Upstream has no way from the child to the parent.
    models = made("table_per_association")
    customer = models.Customer(addresses=[models.Target(street="x")])
    session.add(customer)
    session.commit()
    session.expunge_all()
    assert isinstance(session.scalars(select(models.Target)).one().parent, models.Customer)


def test_table_per_association_deleting_a_parent_deletes_its_children(made: Any, session: Session) -> None:
    # Upstream leaves the addresses.
    models = made("table_per_association")
    customer = models.Customer(addresses=[models.Target(street="x")])
    session.add(customer)
    session.commit()
    session.delete(customer)
    session.commit()
    assert session.scalar(select(func.count()).select_from(models.Target)) == 0


def test_table_per_association_refers_to_the_table_and_key_of_the_target(plain_bases: Any) -> None:
    # Upstream has ForeignKey("address.id") in the mixin.
    Base = plain_bases()

    class Place(Base):
        __tablename__ = "somewhere"
        number = mapped_column("no", Integer, primary_key=True)

    class Customer(Base):
        __tablename__ = "customer"
        key = mapped_column(Integer, primary_key=True)
        places = TablePerAssociation(Place)

    link = Base.metadata.tables["customer_places"]
    assert {fk.target_fullname for fk in link.foreign_keys} == {"somewhere.no", "customer.key"}
    assert related_class(Customer.places) is Place


def test_table_per_related_deleting_a_parent_deletes_its_children(made: Any, session: Session) -> None:
    # Upstream leaves rows whose parent_id is NULL.
    models = made("table_per_related")
    customer = models.Customer()
    customer.addresses.append(models.child(customer))
    session.add(customer)
    session.commit()
    session.delete(customer)
    session.commit()
    related = related_class(models.Customer.addresses)
    assert session.scalar(select(func.count()).select_from(related)) == 0
    assert not related.__table__.c.customer_id.nullable


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_a_composite_key_is_referred_to_as_a_whole(strategy: str, plain_bases: Any) -> None:
    # Upstream maps half of the key without complaint; PostgreSQL refuses the DDL.
    models = map_with_composite_keys(strategy, plain_bases())
    for table in models.metadata.tables.values():
        for constraint in table.foreign_key_constraints:
            referred = constraint.referred_table
            assert {element.column for element in constraint.elements} == set(referred.primary_key)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_have_the_parent_on_the_child(strategy: str, plain_bases: Any) -> None:
    models = map_models(strategy, plain_bases())
    customer = models.Customer()
    child = models.child(customer)
    customer.addresses.append(child)
    assert child.parent is customer
