"""What checkers infer of the four strategies, without an annotation by the user."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    KeyFuncDict,
    Mapped,
    MappedAsDataclass,
    aliased,
    joinedload,
    mapped_column,
    selectinload,
)

from sqla_patterns.generic_associations import (
    AssociationParent,
    DiscriminatorAssociation,
    GenericForeignKey,
    GenericRelationship,
    TablePerAssociation,
    TablePerRelated,
    related_class,
)


class Base(DeclarativeBase):
    pass


class Address(Base):
    __tablename__ = "address"
    id: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str]
    parent = AssociationParent["Customer | Supplier"]()


class Phone(Base):
    __tablename__ = "phone"
    id: Mapped[int] = mapped_column(primary_key=True)


class Tag:
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]
    parent = AssociationParent["Customer | Supplier"]()


class HasAddresses:
    addresses = TablePerAssociation(Address, order_by=lambda address: address.street.desc(), cascade="all")
    phones = DiscriminatorAssociation(Phone, order_by="id", ondelete=None)
    tags = TablePerRelated(Tag, table_name="{table}_tag")
    notes = GenericRelationship(lambda: Note, "parent", order_by=lambda note: note.id)


class Customer(HasAddresses, Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    phone_set = DiscriminatorAssociation(Phone, collection_class=set, identity="set")
    note_set = GenericRelationship(lambda: Note, "author", collection_class=set)
    tag_dict = TablePerRelated(Tag, collection_class=KeyFuncDict[str, Tag])


class Supplier(HasAddresses, Base):
    __tablename__ = "supplier"
    id: Mapped[int] = mapped_column(primary_key=True)


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    parent_id: Mapped[int]
    parent = GenericForeignKey[Customer | Supplier]("kind", "parent_id")
    author = GenericForeignKey["Customer"]("author_kind", "author_id", identities={Customer: "customer"})


customer = Customer()
note = Note()

# -- collections ---------------------------------------------------------------------------------

assert_type(Customer.addresses, InstrumentedAttribute[list[Address]])
assert_type(customer.addresses, list[Address])
assert_type(Customer.phones, InstrumentedAttribute[list[Phone]])
assert_type(customer.phones, list[Phone])
assert_type(Customer.tags, InstrumentedAttribute[list[Tag]])
assert_type(customer.tags, list[Tag])
assert_type(Customer.notes, InstrumentedAttribute[list[Note]])
assert_type(customer.notes, list[Note])
assert_type(customer.phone_set, set[Phone])
assert_type(customer.note_set, set[Note])
assert_type(customer.tag_dict, KeyFuncDict[str, Tag])
customer.addresses = [Address()]
customer.notes.append(note)

assert_type(Customer.addresses.any(), ColumnElement[bool])
select(Customer).where(Customer.addresses.any(Address.street == "x")).options(selectinload(Customer.addresses))

# -- related classes -----------------------------------------------------------------------------

assert_type(related_class(Customer.tags), type[Tag])
assert_type(related_class(Customer.addresses), type[Address])
assert_type(related_class(Customer.phone_set), type[Phone])
customer.tags.append(related_class(Customer.tags)())

# -- parents -------------------------------------------------------------------------------------

assert_type(Address().parent, Customer | Supplier | None)
assert_type(Tag().parent, Customer | Supplier | None)
assert_type(note.parent, Customer | Supplier | None)
assert_type(note.author, Customer | None)
note.parent = customer
note.parent = None

# -- criteria ------------------------------------------------------------------------------------

assert_type(Note.parent == customer, ColumnElement[bool])
assert_type(Note.parent != None, ColumnElement[bool])  # noqa: E711
assert_type(Address.parent == customer, ColumnElement[bool])
assert_type(Note.parent.in_([customer, Supplier()]), ColumnElement[bool])
assert_type(Note.parent.is_type(Customer, Supplier), ColumnElement[bool])
assert_type(Note.parent.of_type(Customer), InstrumentedAttribute[Customer | None])
assert_type(Note.parent.of_type(Customer).has(Customer.id == 1), ColumnElement[bool])
assert_type(aliased(Note).parent.is_type(Customer), ColumnElement[bool])

# -- loader options ------------------------------------------------------------------------------

select(Note).where(Note.parent == customer).options(Note.parent.selectinload(), Note.author.joinedload())
select(Note).options(Note.parent.selectinload(Customer))
select(Customer).options(selectinload(Customer.notes).options(Note.parent.joinedload()))
select(Note).options(joinedload(Note.parent.of_type(Customer)).selectinload(Customer.addresses))


# -- dataclasses ---------------------------------------------------------------------------------


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Remark(DataBase):
    __tablename__ = "remark"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    text: Mapped[str]
    kind: Mapped[str] = mapped_column(init=False)
    parent_id: Mapped[int] = mapped_column(init=False)
    parent = GenericForeignKey["Project | Task"]("kind", "parent_id")


class HasRemarks:
    remarks = GenericRelationship(lambda: Remark, "parent")


class Project(HasRemarks, DataBase):
    __tablename__ = "project"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]


class Task(HasRemarks, DataBase):
    __tablename__ = "task"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)


remark = Remark("a text")
remark.parent = Project("a name")
assert_type(remark.parent, Project)
assert_type(Remark(text="x").parent, Project | Task | None)
assert_type(Project("x").remarks, list[Remark])
