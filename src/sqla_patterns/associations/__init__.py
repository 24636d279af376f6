"""Association objects, shown as lists, sets and dictionaries of the objects or values to which they refer.

An *association object* is the row between two others that has data of its own: the price of an item in an order. A
proxy shows ``order.items`` instead of ``[row.item for row in order.order_items]``, and makes the row when an item is
added. The items, or whatever a proxy shows, are its *members*::

    class Order(Base):
        order_items: Mapped[list[OrderItem]] = relationship(cascade="all, delete-orphan")
        items = proxied_list("order_items", lambda: OrderItem.item)

These are SQLAlchemy's association proxies with two differences. Type checkers infer their types without an annotation.
And the rows keep their data when ``order.items`` is reassigned, because the old members are compared with the new ones,
where SQLAlchemy's own proxy of a list replaces every row and loses its price.

**When not to use it.** Rows without data of their own need no association object: a ``relationship(secondary=...)`` is
simpler. Where most code reads the data of the row, work with ``order.order_items`` itself. A proxy loads the whole
collection; if that is too large to load, see `sqla_patterns.dicts`.

>>> from sqlalchemy import ForeignKey, create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
>>> from sqla_patterns.associations import proxied_list
>>> class Base(DeclarativeBase):
...     pass
>>> class Item(Base):
...     __tablename__ = "item"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     name: Mapped[str]
>>> class OrderItem(Base):
...     __tablename__ = "order_item"
...     order_id: Mapped[int] = mapped_column(ForeignKey("order.id"), primary_key=True)
...     item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
...     price: Mapped[int] = mapped_column(default=10)
...     item: Mapped[Item] = relationship(lazy="joined")
>>> class Order(Base):
...     __tablename__ = "order"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     order_items: Mapped[list[OrderItem]] = relationship(cascade="all, delete-orphan")
...     items = proxied_list("order_items", lambda: OrderItem.item)
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     mug, hat = Item(name="mug"), Item(name="hat")
...     order = Order(items=[mug, hat])
...     order.order_items[0].price = 3
...     session.add(order)
...     session.commit()
...     order.items = [hat, mug]  # the mug keeps its price
...     session.commit()
...     print(sorted((row.item.name, row.price) for row in order.order_items))
...     print(len(session.scalars(select(Order).where(Order.items.contains(mug))).all()))
[('hat', 10), ('mug', 3)]
1

**What is kept when a collection is reassigned** (``on_reassign="diff"``, the default):

- A list or a set: the row of each member that stays, whatever the order. If a member was there several times and is
  assigned fewer times, but not none, nothing says whose row goes: `InvalidArgumentError`.
- A dictionary: the row of each key that stays; if its member is another, the row gets that member and keeps the rest.
- ``order.items[0] = other`` is another member and so another row; ``item.notes["use"] = "other"`` is the same key and
  the same row.

``on_reassign="replace"`` makes new rows for all members.

**Members.** Objects are compared by identity and values of columns by equality. ``Order.items.contains(x)`` in SQL
means what ``x in order.items`` means in Python, also through a proxy of a proxy, and never a LIKE.

**Bad input** is refused before anything changes: a member of the wrong class, a member twice where a key of the
association table allows it once. A ``creator`` is the function that makes the row of a new member. If it fails, or
makes a row with another key than the one it was given, no row is left behind, also not in collections of back
references.

**Cost.** A first access loads the relationship: one SELECT. Iteration reads the member of each row, so load them with
the rows (``lazy="joined"``, or ``selectinload(Order.order_items).joinedload(OrderItem.item)``). Comparing members, as
in ``mug in order.items``, loads no members. A flush writes what differs. Assigning n members to a list of m rows is O(n
+ m); ``append()`` is O(n) where a unique key of the table requires a check that the member is new, else O(1);
``extend()`` checks once for all.

**Concurrency.** No locks are taken: if two sessions add the same member, a unique key of the table refuses the second.

**asyncio.** Load the collection first. Reading a member emits SQL only where reading the attribute of the row would,
and no operation of a proxy leaves attributes expired.

.. seealso:: :mod:`sqlalchemy.ext.associationproxy`
"""

from ._default import GenDefaultCollection, gen_default_collection
from ._proxy import DataclassOptions, proxied_dict, proxied_list, proxied_set

__all__ = (
    "DataclassOptions",
    "GenDefaultCollection",
    "gen_default_collection",
    "proxied_dict",
    "proxied_list",
    "proxied_set",
)
