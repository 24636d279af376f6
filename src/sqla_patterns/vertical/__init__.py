"""Typed values by key, each in a row of its own: a dictionary on the instance, and conditions on the class.

Each row of a *vertical table* holds one value of one object under a key, so that a new key needs no new column. The
rows have one value column for each type, and a dictionary shows the values::

    class Animal(Base):
        facts: Mapped[dict[str, AnimalFact]] = relationship(...)
        attrs = VerticalAttributes[int | str | bool | None]("facts")

    animal.attrs["cuteness"] = 7
    select(Animal).where(Animal.attrs["weasel-like"] == True, Animal.attrs["cuteness"] > 4)

**When to use it.** Users or tenants invent keys, most objects have few of many possible keys, and the values are
searched by, ordered by, constrained, or kept with a history, each by itself.

**When not to, and the simpler choice.** Keys that are known when the code is written are columns. Values that are read
and written together, and seldom searched for, are one JSON column: one row in place of twenty, no join, nested
documents, and on PostgreSQL a GIN index over JSONB for equality. Rows are better where values are searched by range or
order with indexes on any database, where two transactions change two keys of one object, and where types matter: JSON
knows no dates, decimals or UUIDs.

>>> from sqlalchemy import ForeignKey, create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, attribute_keyed_dict, mapped_column, relationship
>>> from sqla_patterns.vertical import VerticalAttributes, VerticalValue, load_vertical, value_column
>>> class Base(DeclarativeBase):
...     pass
>>> class AnimalFact(VerticalValue, Base):  # the mixin gives `key` and `type`
...     __tablename__ = "animal_fact"
...     animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
...     int_value: Mapped[int | None] = value_column(int)
...     str_value: Mapped[str | None] = value_column(str)
...     bool_value: Mapped[bool | None] = value_column(bool)
>>> class Animal(Base):
...     __tablename__ = "animal"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     name: Mapped[str]
...     facts: Mapped[dict[str, AnimalFact]] = relationship(
...         collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan", lazy="selectin"
...     )
...     attrs = VerticalAttributes[int | str | bool | None]("facts")
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     stoat, shrew = Animal(name="stoat"), Animal(name="shrew")
...     stoat.attrs = {"cuteness": 7, "weasel-like": True, "color": None}
...     shrew.attrs["cuteness"] = "very"  # another type, in another column
...     session.add_all([stoat, shrew])
...     session.commit()
...     attrs = Animal.attrs
...     print(session.scalars(select(Animal.name).where(attrs["weasel-like"] == True, attrs["cuteness"] > 4)).all())
...     print(session.scalars(select(Animal.name).where(attrs["cuteness"] == "very")).all())
...     print(session.scalars(select(Animal.name).where(attrs["color"].is_(None))).all())
...     print(load_vertical(session, Animal.attrs, [shrew.id]))
['stoat']
['shrew']
['stoat']
{2: {'cuteness': 'very'}}

**Variants.** `VerticalValue` has a ``type`` column and any number of value columns. `PlainVerticalValue` has one value
column and no type. `VerticalMapping` makes the object itself the dictionary: ``animal["cuteness"]``. A `VerticalSchema`
says which keys there are, of which types, and which of them each object must have.

**Bad input** is refused before anything is changed: a key that is not in the schema (`UnknownKeyError`, a
``KeyError``), a value of a type that no column is for (`UnsupportedValueError`, a ``TypeError``), a value that would be
different when it is read again (`UnstorableValueError`, a ``ValueError``), a key twice among pairs
(`DuplicateKeyError`). A required key that is missing is a `MissingKeyError` before the flush writes anything.

**Cost.** The first access loads the rows of the object with one SELECT. With ``lazy="selectin"``, the rows of a
thousand objects are loaded with the objects, in two SELECTs more. `load_vertical` reads the values of any number of
objects in one, without making objects. A flush writes all new values in one INSERT, all changed ones in one UPDATE,
whatever their types, and all deleted ones in one DELETE. A condition is an EXISTS, served by an index over key and
value, and `VerticalCriteria.any_value` by a second one over the value alone. Each index makes writing slower: pass
``index=False`` for types that are not searched, and `VerticalValueOptions` where nobody asks for values under any key.

**Concurrency.** There are no locks. If two transactions set the same new key, the primary key refuses the second.

**asyncio.** Load the values with the object, by ``lazy="selectin"`` or an option. Reading and writing then need no
``await``, and a flush leaves nothing expired.

.. seealso:: :mod:`sqla_patterns.dicts` for dictionaries of objects that are too large to load
"""

from ._attribute import VerticalAttributes
from ._criteria import KeyCriteria, VerticalCriteria
from ._errors import MissingKeyError, UnknownKeyError, UnstorableValueError, UnsupportedValueError
from ._loading import load_vertical
from ._mapping import VerticalDict
from ._mixin import VerticalMapping
from ._options import VerticalValueOptions
from ._schema import VerticalSchema
from ._types import ExactNumeric, value_column
from ._value import PlainVerticalValue, VerticalValue

__all__ = (
    "ExactNumeric",
    "KeyCriteria",
    "MissingKeyError",
    "PlainVerticalValue",
    "UnknownKeyError",
    "UnstorableValueError",
    "UnsupportedValueError",
    "VerticalAttributes",
    "VerticalCriteria",
    "VerticalDict",
    "VerticalMapping",
    "VerticalSchema",
    "VerticalValue",
    "VerticalValueOptions",
    "load_vertical",
    "value_column",
)
