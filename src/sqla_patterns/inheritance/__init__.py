"""Class hierarchies in tables: an identity for each class, three strategies, and typed queries over mixed objects.

A hierarchy of mapped classes takes some boilerplate in each class, and a mistake in it is found late or never. Here the
topmost class names a strategy, and the others are plain subclasses:

- `SingleTable`: one table for all; columns of subclasses allow NULL, and `shared_column` declares one that several
  subclasses have.
- `JoinedTable`: a table for each class, with the columns that this class adds; the table of a subclass, and its key
  that refers to the parent's, are made for you.
- `ConcreteTable`: a table for each class with all of its columns; the columns, foreign keys and many-to-one
  relationships of the parent are repeated for you.
- `PolymorphicIdentity`: only the discriminator and the identities; you declare the tables.

Queries: `load_polymorphic` loads mixed objects whole, and `subentity` gives the parts of a ``with_polymorphic()`` their
types.

**When not to use it.** If no code handles objects of several classes together, map them without a hierarchy; a mixin
gives them common columns. And Declarative alone is enough, and better known, for a hierarchy that will not have more
than two classes: write ``polymorphic_on`` and ``polymorphic_identity`` into ``__mapper_args__``. `load_polymorphic` and
`subentity` work with that as well.

>>> from sqlalchemy import String, create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, with_polymorphic
>>> from sqla_patterns.inheritance import JoinedTable, load_polymorphic, subentity
>>> class Base(DeclarativeBase):
...     pass
>>> class Person(JoinedTable, Base):
...     __tablename__ = "person"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     name: Mapped[str] = mapped_column(String(30))
>>> class Engineer(Person):  # table "engineer" with a key that refers to person.id
...     language: Mapped[str] = mapped_column(String(30))
>>> class Manager(Person, identity="boss"):
...     budget: Mapped[int]
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     session.add_all([Engineer(name="Ada", language="C"), Manager(name="Bob", budget=5), Person(name="Cid")])
...     session.commit()
...     for person in session.scalars(select(Person).options(load_polymorphic(Person))):  # 3 statements
...         print(person.type, person.name)
...     people = with_polymorphic(Person, [Engineer, Manager])
...     rich = select(people.name).where(subentity(people, Manager).budget > 4)  # of Manager.budget's type
...     print(session.scalars(rich).all())
engineer Ada
boss Bob
person Cid
['Bob']

**Identities.** The name of the class in snake case, or the class argument ``identity``. Renaming a class changes what
new rows hold, so give a class that has rows its ``identity`` before you rename it. An identity that another class of
the hierarchy has, or that the column cannot hold, is a `MappingError` when the class is defined; SQLAlchemy warns of
the first and truncates or fails at the second.

**Cost.** Defining classes costs what Declarative costs. ``select(Person)`` reads the table of ``Person`` and loads
attributes of subclasses object by object, when they are read; `load_polymorphic` loads them with one SELECT for each
subclass of which there are objects (and for each 500 of them), ``with_polymorphic()`` with outer joins in the one
statement. A `ConcreteTable` is read as a UNION of all tables, in one statement.

**asyncio.** Use `load_polymorphic` or ``with_polymorphic()``: an attribute of a subclass that is not loaded cannot be
loaded by reading it.

.. seealso:: "Mapping Class Inheritance Hierarchies" in SQLAlchemy's documentation
"""

from ._concrete_table import ConcreteTable
from ._joined_table import JoinedTable
from ._loading import load_polymorphic, subentity
from ._polymorphic import PolymorphicIdentity
from ._single_table import SingleTable, shared_column

__all__ = (
    "ConcreteTable",
    "JoinedTable",
    "PolymorphicIdentity",
    "SingleTable",
    "load_polymorphic",
    "shared_column",
    "subentity",
)
