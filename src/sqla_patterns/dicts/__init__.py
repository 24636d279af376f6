"""A dictionary over a collection that is never loaded as a whole.

``parent.children_by_key["x"]`` finds one child among 100,000 in one SELECT. The collection is a ``WriteOnlyMapped``
relationship, which has no methods for reading; the dictionary has those of a ``MutableMapping``::

    class Parent(Base):
        children: WriteOnlyMapped[Child] = relationship(cascade="all, delete-orphan", passive_deletes=True)
        children_by_key = write_only_dict("children", lambda: Child, lambda: Child.key)

**When not to use it.** A collection that fits into memory is better loaded once, as a
``dict`` with ``collection_class=attribute_keyed_dict("key")``: every operation here is a statement, and a loop that
looks up a hundred keys one by one executes a hundred of them. For a hundred known keys execute one statement,
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

**Keys.** The key is a column of the member, and the unique constraint over foreign key and key is the index that every
lookup uses. Keys compare as in Python, whatever the collation of the column. A key that is not the key of its member
raises `KeyMismatchError` (a ``ValueError``), and several rows with one key, in a table without the constraint,
`DuplicateKeyError`; ``len()`` and ``in`` do not look for those. Rows whose key is NULL are not in the dictionary, and a
member is refused under None. A key that equals no value of the column's type, such as a string where keys are integers,
is not in the dictionary, and no SQL is emitted for it. A member that is popped can be put back before the flush, also
under a new key or in another object's dictionary, and keeps its row.

**Cost.** ``[]``, ``get``, ``in``, ``len``, ``bool``, ``del``, ``pop``, ``popitem``, ``setdefault`` and setting a new
key are one SELECT each; INSERT and DELETE follow at the next flush. Replacing a member flushes at once, because a
unique constraint requires the DELETE before the INSERT, and SQLAlchemy's unit of work inserts before it deletes.
``update()`` is one SELECT for each 10,000 keys and at most one flush. Iteration goes by key, in pages of 1,000, each
one SELECT; the body of the loop may execute statements and commit. ``list(d)`` also executes the SELECT of ``len(d)``,
a loop does not. ``clear()`` loads the members as it removes them; for many, execute ``parent.children.delete()``. A
parent that is expired is loaded first, with one SELECT more.

**Unflushed changes** count: a session that autoflushes is flushed first; in one that does not, the changes are taken
into account. The dictionary of a parent that is not in the database yet works on its pending members, without SQL. The
relationship's cascade decides what happens to members that are removed or replaced, so map it with ``delete-orphan``.

**Concurrency.** There are no locks. If two sessions add the same key, the unique constraint refuses the second.

**asyncio.** `async_write_only_dict` makes the same dictionary with ``await d.get(key)``, ``set``, ``delete``,
``contains``, ``count``, ``update`` and ``async for key, value in d.items()``.

.. seealso:: ``sqlalchemy.orm.WriteOnlyCollection``, "Write Only Relationships" in SQLAlchemy's documentation
"""

from ._async_write_only_dict import AsyncWriteOnlyDict
from ._attribute import DictAttribute, async_write_only_dict, write_only_dict
from ._write_only_dict import WriteOnlyDict

__all__ = ("AsyncWriteOnlyDict", "DictAttribute", "WriteOnlyDict", "async_write_only_dict", "write_only_dict")
