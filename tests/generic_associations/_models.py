"""The same models under each strategy: customers and suppliers have addresses."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from sqla_patterns.generic_associations import (
    AssociationParent,
    DiscriminatorAssociation,
    GenericForeignKey,
    GenericRelationship,
    TablePerAssociation,
    TablePerRelated,
    related_class,
)

STRATEGIES = ("table_per_association", "discriminator", "table_per_related", "generic_foreign_key")
#: Strategies whose children are of one class, whoever their parent is.
ONE_CHILD_CLASS = tuple(name for name in STRATEGIES if name != "table_per_related")


@dataclass
class Models:
    """The mapped classes of one strategy on one base."""

    strategy: str
    Base: type[DeclarativeBase]
    Customer: Any
    Supplier: Any
    #: The class of all children, or the mixin of the related classes.
    Target: Any
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def child(self, parent: Any, street: str = "a street") -> Any:
        """Return a new child, of the class that this parent, or parent class, has."""
        cls = parent if isinstance(parent, type) else type(parent)
        return related_class(cls.addresses)(street=street)

    def child_class(self, parent: Any) -> Any:
        return related_class(parent.addresses)

    @property
    def metadata(self) -> MetaData:
        return self.Base.metadata


def dataclass_options(base: type[Any], **options: Any) -> dict[str, Any]:
    return options if issubclass(base, MappedAsDataclass) else {}


def primary_key(kind: str) -> Any:
    """Return an unannotated column, which is no field of a dataclass."""
    if kind == "uuid":
        return mapped_column("key", Uuid, primary_key=True, default=uuid.uuid4)
    return mapped_column(Integer, primary_key=True)


def map_models(strategy: str, Base: Any, *, key: str = "int", schema: str | None = None, **options: Any) -> Models:
    """Map customers, suppliers and their addresses under a strategy."""
    make: dict[str, Any] = {
        "table_per_association": TablePerAssociation,
        "discriminator": DiscriminatorAssociation,
        "table_per_related": TablePerRelated,
    }
    arguments = {"schema": schema} if schema else {}

    if strategy == "table_per_related":
        bases = (MappedAsDataclass,) if issubclass(Base, MappedAsDataclass) else ()

        class Address(*bases):  # type: ignore[misc]
            __table_args__ = arguments
            id = primary_key(key)
            street: Mapped[str] = mapped_column(String(50))
            parent = AssociationParent[Any]()

        Target: Any = Address
    elif strategy == "generic_foreign_key":

        class GenericAddress(Base):
            __tablename__ = "address"
            __table_args__ = arguments
            id = primary_key(key)
            street: Mapped[str] = mapped_column(String(50))
            kind = mapped_column("kind_of_parent", String(50))
            parent_id = mapped_column(Uuid if key == "uuid" else Integer, index=True)
            parent = GenericForeignKey["Customer | Supplier"]("kind", "parent_id")

        Target = GenericAddress
    else:

        class PlainAddress(Base):
            __tablename__ = "address"
            __table_args__ = arguments
            id = primary_key(key)
            street: Mapped[str] = mapped_column(String(50))

        Target = PlainAddress

    class HasAddresses:
        if strategy == "generic_foreign_key":
            addresses = GenericRelationship(lambda: Target, "parent", order_by="street", **options)
        else:
            addresses = make[strategy](Target, order_by="street", **options)

    class Customer(HasAddresses, Base):
        __tablename__ = "customer"
        __table_args__ = arguments
        id = primary_key(key)
        name: Mapped[str] = mapped_column(String(50), default="a customer")
        type = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "customer"}

    class Supplier(HasAddresses, Base):
        __tablename__ = "supplier"
        __table_args__ = arguments
        id = primary_key(key)
        name: Mapped[str] = mapped_column(String(50), default="a supplier")

    return Models(strategy, Base, Customer, Supplier, Target)


def map_with_composite_keys(strategy: str, Base: Any) -> Models:
    """Map customers whose key has two columns, and their addresses."""
    if strategy == "table_per_related":
        bases = (MappedAsDataclass,) if issubclass(Base, MappedAsDataclass) else ()

        class Address(*bases):  # type: ignore[misc]
            id = mapped_column(Integer, primary_key=True)
            street: Mapped[str] = mapped_column(String(50))

        collection: Any = TablePerRelated(Address)
        Target: Any = Address
    elif strategy == "generic_foreign_key":

        class GenericAddress(Base):
            __tablename__ = "address"
            id = mapped_column(Integer, primary_key=True)
            street: Mapped[str] = mapped_column(String(50))
            kind = mapped_column(String(50))
            first = mapped_column(Integer)
            second = mapped_column(String(10))
            parent = GenericForeignKey["Customer"]("kind", "first", "second")

        collection = GenericRelationship(lambda: GenericAddress, "parent")
        Target = GenericAddress
    else:

        class PlainAddress(Base):
            __tablename__ = "address"
            id = mapped_column(Integer, primary_key=True)
            street: Mapped[str] = mapped_column(String(50))

        Target = PlainAddress
        collection = (
            TablePerAssociation(Target) if strategy == "table_per_association" else DiscriminatorAssociation(Target)
        )

    class Customer(Base):
        __tablename__ = "customer"
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        region: Mapped[str] = mapped_column(String(10), primary_key=True)
        addresses = collection

    return Models(strategy, Base, Customer, None, Target)


def columns_of(table: Any) -> dict[str, Column[Any]]:
    return {column.name: column for column in table.columns}
