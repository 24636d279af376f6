"""Keys of every shape, schemas, names of tables, collection classes, and what cannot be mapped."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, event, inspect, select, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import MappedAsDataclass, Session, attribute_keyed_dict, configure_mappers, mapped_column, registry

from sqla_patterns.exceptions import InvalidArgumentError, MappingError
from sqla_patterns.generic_associations import (
    AssociationParent,
    DiscriminatorAssociation,
    GenericForeignKey,
    GenericRelationship,
    TablePerAssociation,
    TablePerRelated,
    related_class,
)
from tests._support import assert_empty_diff

from ._models import ONE_CHILD_CLASS, STRATEGIES, columns_of, map_models, map_with_composite_keys


def round_trip(session: Session, models: Any, parent: Any) -> None:
    parent.addresses.append(models.child(parent, "Elm"))
    session.add(parent)
    session.commit()
    session.expunge_all()
    loaded = session.scalars(select(type(parent))).one()
    child = loaded.addresses[0]
    assert child.parent is loaded
    session.expunge_all()
    cls = models.child_class(type(parent))
    for option in (cls.parent.selectinload(), cls.parent.joinedload()):
        session.expunge_all()
        assert type(session.scalars(select(cls).options(option)).unique().one().parent) is type(parent)
    assert session.scalars(select(cls).where(cls.parent == loaded)).one().street == "Elm"
    session.delete(session.scalars(select(type(parent))).one())
    session.commit()
    assert session.scalars(select(cls)).all() == []


def test_keys_may_be_uuids_in_columns_of_another_name(
    strategy: str, bases: Any, engine: Engine, session: Session
) -> None:
    models = map_models(strategy, bases(), key="uuid")
    models.metadata.create_all(engine)
    round_trip(session, models, models.Customer())
    round_trip(session, models, models.Supplier())
    assert_empty_diff(engine, models.metadata)


def test_keys_may_be_composite(strategy: str, bases: Any, engine: Engine, session: Session) -> None:
    models = map_with_composite_keys(strategy, bases())
    models.metadata.create_all(engine)
    round_trip(session, models, models.Customer(number=1, region="north"))
    assert_empty_diff(engine, models.metadata)


def test_keys_may_be_strings(strategy: str, plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()
    namespace = {"id": mapped_column(Integer, primary_key=True)}
    if strategy == "table_per_related":
        Note: Any = type("Note", (), namespace)
        notes: Any = TablePerRelated(Note)
    elif strategy == "generic_foreign_key":
        columns = {"kind": mapped_column(String(10)), "code": mapped_column(String(2))}
        parent = GenericForeignKey["Country"]("kind", "code")
        Note = type("Note", (Base,), {"__tablename__": "note", "parent": parent, **columns, **namespace})
        notes = GenericRelationship(lambda: Note, "parent")
    else:
        Note = type("Note", (Base,), {"__tablename__": "note", **namespace})
        notes = (TablePerAssociation if strategy == "table_per_association" else DiscriminatorAssociation)(Note)
    key = mapped_column(String(2), primary_key=True)
    Country: Any = type("Country", (Base,), {"__tablename__": "country", "code": key, "notes": notes})
    Base.metadata.create_all(engine)
    country = Country(code="se")
    country.notes.append(related_class(Country.notes)())
    session.add(country)
    session.commit()
    session.expunge_all()
    note = session.scalars(select(related_class(Country.notes))).one()
    assert note.parent.code == "se"


def test_tables_go_to_the_schema_of_their_classes(
    strategy: str, plain_bases: Any, engine: Engine, session: Session
) -> None:
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def attach(connection: Any, record: Any) -> None:
            connection.execute("ATTACH ':memory:' AS other")

        engine.dispose()
    schema = engine.url.database if engine.dialect.name in ("mysql", "mariadb") else "other"
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA other"))
    models = map_models(strategy, plain_bases(), schema=schema)
    assert {table.schema for table in models.metadata.tables.values()} == {schema}
    models.metadata.create_all(engine)
    round_trip(session, models, models.Customer())


def test_names_follow_the_naming_convention(strategy: str, plain_bases: Any) -> None:
    convention = {"fk": "fk_%(table_name)s_%(column_0_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"}
    models = map_models(strategy, plain_bases(metadata=MetaData(naming_convention=convention)))
    constraints = [fk for table in models.metadata.tables.values() for fk in table.foreign_key_constraints]
    assert all(str(fk.name).startswith("fk_") for fk in constraints)
    assert bool(constraints) is (strategy != "generic_foreign_key")
    assert all(
        str(index.name).startswith("ix_") for table in models.metadata.tables.values() for index in table.indexes
    )


def test_the_names_of_tables_can_be_chosen(plain_bases: Any) -> None:
    tables = {
        strategy: set(map_models(strategy, plain_bases(), table_name=name).metadata.tables)
        for strategy, name in (
            ("table_per_association", "{cls}_{attribute}_link"),
            ("table_per_related", "{table}_places"),
            ("discriminator", "{table}_owner"),
        )
    }
    assert tables == {
        "table_per_association": {
            "address", "customer", "supplier", "Customer_addresses_link", "Supplier_addresses_link"
        },
        "table_per_related": {"customer", "supplier", "customer_places", "supplier_places"},
        "discriminator": {"address", "customer", "supplier", "address_owner"},
    }  # fmt: skip


def test_ondelete_is_the_rule_of_the_foreign_keys(plain_bases: Any) -> None:
    for strategy, table in (
        ("table_per_association", "customer_addresses"), ("table_per_related", "customer_addresses"),
        ("discriminator", "address"),
    ):  # fmt: skip
        for rule in ("CASCADE", "RESTRICT", None):
            options = {} if rule == "CASCADE" else {"ondelete": rule}
            models = map_models(strategy, plain_bases(), **options)
            assert {fk.ondelete for fk in models.metadata.tables[table].foreign_keys} == {rule}


def test_a_link_row_belongs_to_one_child_and_names_both_ends(plain_bases: Any) -> None:
    link = map_models("table_per_association", plain_bases()).metadata.tables["customer_addresses"]
    assert [column.name for column in link.primary_key] == ["address_id"]
    assert not columns_of(link)["customer_id"].nullable
    assert {fk.target_fullname for fk in link.foreign_keys} == {"customer.id", "address.id"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_deleted_row_takes_its_children_along_in_the_database(
    strategy: str, plain_bases: Any, engine: Engine, session: Session
) -> None:
    models = map_models(strategy, plain_bases())
    models.metadata.create_all(engine)
    customer = models.Customer()
    customer.addresses.append(models.child(customer))
    session.add(customer)
    session.commit()
    session.execute(text("DELETE FROM customer"))
    if strategy in ("table_per_association", "table_per_related"):
        assert session.scalar(text("SELECT count(*) FROM customer_addresses")) == 0


# -- subclasses ----------------------------------------------------------------------------------


def test_a_subclass_of_a_parent_shares_its_collection_and_tables(
    strategy: str, plain_bases: Any, engine: Engine, session: Session
) -> None:
    models = map_models(strategy, plain_bases())
    tables = set(models.metadata.tables)

    class Vip(models.Customer):
        __tablename__ = "vip"
        id = mapped_column(None, ForeignKey("customer.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "vip"}

    assert set(models.metadata.tables) == {*tables, "vip"}
    models.metadata.create_all(engine)
    vip = Vip()
    vip.addresses.append(models.child(models.Customer, "Elm"))
    child = models.child(models.Customer, "Oak")
    child.parent = vip
    session.add(vip)
    session.commit()
    session.expunge_all()
    vip = session.scalars(select(Vip)).one()
    assert [address.street for address in vip.addresses] == ["Elm", "Oak"]
    assert vip.addresses[0].parent is vip
    cls = models.child_class(Vip)
    assert cls is models.child_class(models.Customer)
    assert len(session.scalars(select(cls).where(cls.parent.is_type(Vip))).all()) == 2
    session.delete(vip)
    session.commit()
    assert session.scalars(select(cls)).all() == []


def test_an_object_of_a_subclass_that_sqlalchemy_cannot_load_as_a_parent_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()

    class Address(Base):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)

    class Customer(Base):
        __tablename__ = "customer"
        id = mapped_column(Integer, primary_key=True)
        addresses = TablePerAssociation(Address)

    class Vip(Customer):
        pass

    address, vip = Address(), Vip()
    for change in (lambda: setattr(address, "parent", vip), lambda: vip.addresses.append(address)):
        with pytest.raises(InvalidArgumentError, match=r"Vip cannot be loaded as Customer.*polymorphic_on"):
            change()
    assert address.parent is None


def test_the_class_itself_can_have_the_collection_as_well_as_a_mixin(plain_bases: Any) -> None:
    Base = plain_bases()

    class Address(Base):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)

    class Customer(Base):
        __tablename__ = "customer"
        id = mapped_column(Integer, primary_key=True)
        billing = TablePerAssociation(Address)
        shipping = TablePerAssociation(Address)

    customer, address = Customer(), Address()
    customer.billing.append(address)
    assert address.parent is customer
    customer.shipping.append(address)
    assert customer.billing == []
    with pytest.raises(InvalidArgumentError, match=r"append to Customer.billing or Customer.shipping instead"):
        address.parent = customer
    assert "customer_billing" in str(Address.parent == customer)
    assert "customer_shipping" in str(Address.parent == customer)


@pytest.mark.parametrize("strategy", ONE_CHILD_CLASS)
def test_a_set_and_a_dictionary_can_be_the_collection(
    strategy: str, plain_bases: Any, engine: Engine, session: Session
) -> None:
    for collection_class in (set, attribute_keyed_dict("street")):
        models = map_models(strategy, plain_bases(), collection_class=collection_class)
        models.metadata.create_all(engine)
        customer, supplier = models.Customer(), models.Supplier()
        child = models.child(customer, "Elm")
        if collection_class is set:
            customer.addresses.add(child)
        else:
            customer.addresses["Elm"] = child
        session.add_all([customer, supplier])
        session.commit()
        assert list(getattr(customer.addresses, "values", lambda: customer.addresses)()) == [child]  # noqa: B023
        child.parent = supplier
        session.commit()
        assert (len(customer.addresses), len(supplier.addresses)) == (0, 1)
        models.metadata.drop_all(session.connection())
        session.commit()


def test_the_attribute_for_the_parent_can_have_another_name(plain_bases: Any) -> None:
    Base = plain_bases()

    class Address(Base):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)
        owner = AssociationParent["Customer"]()

    class Customer(Base):
        __tablename__ = "customer"
        id = mapped_column(Integer, primary_key=True)
        addresses = TablePerAssociation(Address)

    customer = Customer(addresses=[Address()])
    assert customer.addresses[0].owner is customer
    assert not hasattr(Address, "parent")


# -- what cannot be mapped -----------------------------------------------------------------------


def test_a_target_that_is_not_mapped_is_refused(bases: Any) -> None:
    for strategy in (TablePerAssociation, DiscriminatorAssociation):
        with pytest.raises(MappingError, match=r"needs a mapped class, and <class 'int'> is none") as caught:

            class Customer(bases()):
                __tablename__ = "customer"
                id = mapped_column(Integer, primary_key=True)
                addresses = strategy(int)

        assert isinstance(caught.value, ArgumentError)


def test_a_mapped_target_is_refused_where_a_mixin_is_needed(plain_bases: Any) -> None:
    Base = plain_bases()

    class Address(Base):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)

    with pytest.raises(MappingError, match="makes a class from a mixin"):

        class Customer(Base):
            __tablename__ = "customer"
            id = mapped_column(Integer, primary_key=True)
            addresses = TablePerRelated(Address)


def test_a_plain_mixin_on_a_dataclass_base_is_refused(bases: Any) -> None:
    class Address:
        id = mapped_column(Integer, primary_key=True)

    Base = bases()

    def map_it() -> None:
        class Customer(Base):
            __tablename__ = "customer"
            id = mapped_column(Integer, primary_key=True)
            addresses = TablePerRelated(Address)

    if issubclass(Base, MappedAsDataclass):
        with pytest.raises(MappingError, match=r"class Address\(MappedAsDataclass\)"):
            map_it()
    else:
        map_it()


def test_classes_without_a_base_are_mapped_as_well_but_for_related_ones() -> None:
    mapping = registry()

    @mapping.mapped
    class Address:
        __tablename__ = "address"
        id = Column(Integer, primary_key=True)

    @mapping.mapped
    class Note:
        __tablename__ = "note"
        id = Column(Integer, primary_key=True)
        kind = Column(String(10))
        parent_id = Column(Integer)
        parent = GenericForeignKey["Customer"]("kind", "parent_id")

    with pytest.raises(MappingError, match="needs a declarative base"):

        @mapping.mapped
        class Person:
            __tablename__ = "person"
            id = Column(Integer, primary_key=True)
            addresses = TablePerRelated(object)

    @mapping.mapped
    class Customer:
        __tablename__ = "customer"
        id = Column(Integer, primary_key=True)
        addresses = TablePerAssociation(Address)
        notes = GenericRelationship(lambda: Note, "parent")

    customer: Any = Customer()
    customer.addresses.append(Address())
    customer.notes.append(Note())
    assert customer.addresses[0].parent is customer.notes[0].parent is customer
    mapping.dispose()


def test_a_table_that_exists_is_refused(plain_bases: Any) -> None:
    for strategy in ("table_per_association", "table_per_related"):
        with pytest.raises(MappingError, match="there is one already; choose another with table_name="):
            map_models(strategy, plain_bases(), table_name="customer")
        with pytest.raises(MappingError, match=r"names 'nonsense'; it can name \{table\}"):
            map_models(strategy, plain_bases(), table_name="{nonsense}")


@pytest.mark.filterwarnings("ignore:This declarative base already contains a class")
@pytest.mark.parametrize("strategy", [TablePerAssociation, DiscriminatorAssociation])
def test_two_parents_of_one_name_are_refused(plain_bases: Any, strategy: Any) -> None:
    Base = plain_bases()

    class Address(Base):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)

    def map_customer(table: str) -> None:
        class Customer(Base):
            __tablename__ = table
            id = mapped_column(Integer, primary_key=True)
            addresses = strategy(Address)

    map_customer("customer")
    with pytest.raises(MappingError, match="two parent classes of one name"):
        map_customer("other_customer")


def test_two_parents_of_one_identity_are_refused(plain_bases: Any) -> None:
    with pytest.raises(MappingError, match=r"Supplier\.addresses and Customer.addresses would both store 'x'"):
        map_models("discriminator", plain_bases(), identity="x")


def test_columns_of_the_discriminator_strategy_must_not_exist(plain_bases: Any) -> None:
    Base = plain_bases()

    class Address(Base):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)
        association_id = mapped_column(Integer)

    with pytest.raises(MappingError, match="one of them is there already"):

        class Customer(Base):
            __tablename__ = "customer"
            id = mapped_column(Integer, primary_key=True)
            addresses = DiscriminatorAssociation(Address)


def test_an_unknown_order_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()

    class Address(Base):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)

    class Customer(Base):
        __tablename__ = "customer"
        id = mapped_column(Integer, primary_key=True)
        addresses = TablePerAssociation(Address, order_by="strete")

    with pytest.raises(MappingError, match="ordered by 'strete', and Address has no such attribute"):
        configure_mappers()


def test_a_child_nobody_refers_to_has_no_criteria(plain_bases: Any) -> None:
    class Address(plain_bases()):
        __tablename__ = "address"
        id = mapped_column(Integer, primary_key=True)
        parent = AssociationParent["None"]()

    assert Address().parent is None
    with pytest.raises(InvalidArgumentError, match="No class is a parent of Address yet"):
        _ = Address.parent == None  # noqa: E711
    assert inspect(Address) is not None
