"""A dictionary over a collection that is never loaded whole.

``parent.children_by_key["x"]`` finds one child among 100,000 in one SELECT. The collection is a ``WriteOnlyMapped``
relationship, which has no reading methods of its own; the dictionary gives it those of a mapping::

    class Parent(Base):
        children: WriteOnlyMapped[Child] = relationship(cascade="all, delete-orphan", passive_deletes=True)
        children_by_key = write_only_dict("children", lambda: Child, lambda: Child.key)

**When not to use it.** A collection that fits into memory is better loaded once, as a
``dict`` with ``collection_class=attribute_keyed_dict("key")``: every operation here is a statement, and a loop that looks up a
hundred keys one by one is a hundred of them. For a hundred known keys ask once, with
``select(Child).where(Child.parent == parent, Child.key.in_(keys))``.

>>> from sqlalchemy import ForeignKey, UniqueConstraint, create_engine
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, WriteOnlyMapped, mapped_column, relationship
>>> from sqla_patterns.dicts import write_only_dict
>>> class Base(DeclarativeBase):
...     pass
>>> class Parent(Base):
...     __tablename__ = "parent"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     children: WriteOnlyMapped["Child"] = relationship(cascade="all, delete-orphan", passive_deletes=True)
...     children_by_key = write_only_dict("children", lambda: Child, lambda: Child.key)
>>> class Child(Base):
...     __tablename__ = "child"
...     __table_args__ = (UniqueConstraint("parent_id", "key"),)
...     id: Mapped[int] = mapped_column(primary_key=True)
...     parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", ondelete="CASCADE"))
...     key: Mapped[str]
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     parent = Parent()
...     session.add(parent)
...     parent.children_by_key.update({key: Child(key=key) for key in ("one", "two", "three")})
...     session.commit()
...     print(len(parent.children_by_key), "two" in parent.children_by_key, parent.children_by_key.get("six"))
...     parent.children_by_key["two"] = Child(key="two")  # replaces the row
...     del parent.children_by_key["one"]
...     session.commit()
...     print([key for key in parent.children_by_key])
3 True None
['three', 'two']

**Keys.** The key is a column of the member, and the unique constraint over foreign key and key is the index that every lookup
uses. Keys compare as in Python, whatever the collation of the column. A key that disagrees with its member raises
`KeyMismatchError` (a ``ValueError``), and several rows with one key, in a table without the constraint, `DuplicateKeyError`;
``len()`` and ``in`` do not look for those. Rows whose key is NULL are not in the dictionary.

**Cost.** ``[]``, ``get``, ``in``, ``len``, ``bool``, ``del``, ``pop``, ``popitem``, ``setdefault`` and setting a new key are one SELECT each;
INSERT and DELETE follow at the next flush. To replace a member takes a flush at once, because a unique constraint wants the DELETE before
the INSERT and a flush of SQLAlchemy does it the other way round. ``update()`` is one SELECT for each 10,000 keys and at most one flush.
Iteration goes by key, in pages of 1,000, each one SELECT; the body of the loop may execute statements and commit. ``list(d)`` asks for
the length first, a loop does not. ``clear()`` loads the members as it removes them; for many, execute ``parent.children.delete()``.
A parent that is expired is loaded first, one SELECT more.

**What is not flushed** counts: in a session that autoflushes it is flushed first, in one that does not it is taken into account. The
dictionary of a parent that is not in the database yet works on its pending members, without SQL. What becomes of members that
are removed or replaced is the relationship's cascade, so map it with ``delete-orphan``.

**Concurrency.** There are no locks. Two sessions that add the same key meet at the unique constraint.

**asyncio.** `async_write_only_dict` makes the same dictionary with ``await d.get(key)``, ``set``, ``delete``, ``contains``, ``count``,
``update`` and ``async for key, value in d.items()``.

.. seealso:: ``sqlalchemy.orm.WriteOnlyCollection``, "Write Only Relationships" in SQLAlchemy's documentation
"""

from ._asyncio import AsyncWriteOnlyDict
from ._attribute import DictAttribute, async_write_only_dict, write_only_dict
from ._mapping import WriteOnlyDict

__all__ = ("AsyncWriteOnlyDict", "DictAttribute", "WriteOnlyDict", "async_write_only_dict", "write_only_dict")
