"""Objects that belong to parents of several classes: addresses of customers *and* of suppliers, notes on anything.

Four strategies have one interface. A mixin gives each parent class its collection; each child has ``parent``, whose
class is one of several:

>>> from sqlalchemy import create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
>>> from sqla_patterns.generic_associations import AssociationParent, TablePerAssociation
>>> class Base(DeclarativeBase): ...
>>> class Address(Base):
...     __tablename__ = "address"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     street: Mapped[str]
...     parent = AssociationParent["Customer | Supplier"]()
>>> class HasAddresses:
...     addresses = TablePerAssociation(Address, order_by="street")
>>> class Customer(HasAddresses, Base):
...     __tablename__ = "customer"
...     id: Mapped[int] = mapped_column(primary_key=True)
>>> class Supplier(HasAddresses, Base):
...     __tablename__ = "supplier"
...     id: Mapped[int] = mapped_column(primary_key=True)
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     session.add(Customer(addresses=[Address(street="Elm Street")]))
...     session.add(Address(street="Oak Road", parent=Supplier()))
...     session.commit()
...     of_suppliers = select(Address).where(Address.parent.is_type(Supplier)).options(Address.parent.joinedload())
...     found = session.scalars(of_suppliers)
...     [(address.street, type(address.parent).__name__) for address in found]
[('Oak Road', 'Supplier')]

Checkers infer ``Customer.addresses`` as ``InstrumentedAttribute[list[Address]]``, ``customer.addresses`` as
``list[Address]`` and ``address.parent`` as ``Customer | Supplier | None``.

- `TablePerAssociation`: a link table for each parent class. Foreign keys on both ends; no other table changes.
- `DiscriminatorAssociation`: one link table for all, with a discriminator, and a column in each parent's table.
- `TablePerRelated`: a table and a class of children for each parent class, with an ordinary foreign key.
- `GenericForeignKey` and `GenericRelationship`: a type and a key in the child, no foreign key, no other table.

**When not to use it.** With one parent class, ``relationship()`` is enough. With two or three that will stay as many,
one nullable foreign key for each and a CHECK that one is set is simpler, and the database checks it. If the parents
have much in common, make them subclasses of one base (joined inheritance) and refer to that.

**What all strategies do.** Children belong to their parent: they are deleted with it, and when they are removed from it
without being given to another (``cascade=`` changes that). A child has one parent: giving it to another removes it from
the first. Either side can be set before either has a row. Members and parents of a wrong class are refused before
anything changes.

**Concurrency.** Of two sessions that give a child to different parents one wins, as with any column: a type and a key
are always written together.

**Cost.** Inserting adds one INSERT for each table of the strategy, batched, and no UPDATE. ``parent`` is read without a
statement where it is loaded, and where the child came with its parent's collection; ``Address.parent.joinedload()``
loads mixed parents in the same statement, ``Address.parent.selectinload()`` in one for each class of parents, or for
each 500 of them. Read lazily, it costs 1 statement (`GenericForeignKey`, `TablePerRelated`), 2
(`DiscriminatorAssociation`) or at most 1 for each class (`TablePerAssociation`). Under asyncio load it eagerly. No
locks are taken, with one exception: under `DiscriminatorAssociation` a parent whose row was inserted before its class
had the collection is locked when it gets its first child, once for any number of children.

.. seealso:: :class:`AssociationParent` and :class:`ParentComparator` for ``parent`` on objects and on the class.
"""

from ._collection import related_class as related_class
from ._discriminator import DiscriminatorAssociation as DiscriminatorAssociation
from ._generic_foreign_key import GenericForeignKey as GenericForeignKey
from ._generic_relationship import GenericRelationship as GenericRelationship
from ._parent import AssociationParent as AssociationParent
from ._parent import ParentComparator as ParentComparator
from ._table_per_association import TablePerAssociation as TablePerAssociation
from ._table_per_related import TablePerRelated as TablePerRelated

__all__ = (
    "AssociationParent",
    "DiscriminatorAssociation",
    "GenericForeignKey",
    "GenericRelationship",
    "ParentComparator",
    "TablePerAssociation",
    "TablePerRelated",
    "related_class",
)
