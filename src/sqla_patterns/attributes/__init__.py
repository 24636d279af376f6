"""Column defaults that can be read before the flush, and typed events for every change of an attribute.

Two small things that act on attributes of mapped classes, each on a class that you name and on its subclasses:

- `ActiveDefaults`, a mixin, and `enable_active_defaults`, for a base that exists: ``Widget().radius`` is 30 where the
  column has ``default=30``, and what was read is what is inserted.
- `listen_for_changes` calls a function with an `AttributeChange` for each ``set``, ``append``, ``remove``, ``delete``
  and ``bulk_replace``.

The module `sqla_patterns.attributes.instrumentation` keeps the values of attributes outside of ``__dict__``. It is
imported separately, because that changes the whole process.

**When not to use them.** On a dataclass mapping (`MappedAsDataclass`), ``default=`` and ``default_factory=`` are there
from the constructor on, and a type checker knows them; that is the better choice for new code. To normalise or refuse a
value of one attribute, ``sqlalchemy.orm.validates`` is shorter. To keep the former versions of rows, use
`sqla_patterns.versioning`: change events tell what Python code did to objects, and an UPDATE statement fires none.

>>> from sqlalchemy import JSON, create_engine
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
>>> from sqla_patterns.attributes import ActiveDefaults, AttributeChange, listen_for_changes
>>> class Base(ActiveDefaults, DeclarativeBase):
...     pass
>>> class Widget(Base):
...     __tablename__ = "widget"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     radius: Mapped[int] = mapped_column(default=30)
...     options: Mapped[dict[str, int]] = mapped_column(JSON, default={})
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> widget = Widget()
>>> widget.radius
30
>>> widget.options["depth"] = 5  # a copy, not the dictionary in the mapping
>>> def report(change: AttributeChange[Base]) -> None:
...     print(f"{change.verb} {change.key}: {change.old} -> {change.value}")
>>> with Session(engine) as session, listen_for_changes(Base, report):
...     session.add(widget)
...     session.commit()
...     print(widget.radius, widget.options)
...     widget.radius += 1
30 {'depth': 5}
set radius: 30 -> 31

**Which defaults can be read.** Scalars, Enum members and callables, also callables that take the execution context:
``context.get_current_parameters()`` has what the INSERT would have. A callable runs once for each object. If it asks
for something that is known at INSERT only (a value that is not set yet, the connection), the attribute reads as None
and the default is made at INSERT. The same applies to SQL expressions, sequences, ``server_default``, the counter of
``version_id_col`` and a callable that returns None. Mutable defaults are copied for each object and tracked by
``sqlalchemy.ext.mutable``. An attribute that was set to None, and an object that has a row, behave as in plain
SQLAlchemy: expired and deferred attributes are loaded. Reading a default calls no listener and no validator.

**Which changes are reported.** Changes to columns and relationships by assignment, ``del`` or a method of the
collection. Not reported are loads, refreshes, ``merge(load=False)`` and UPDATE statements. The function is called
before the change, and prevents it by raising an error. If a relationship has ``back_populates``, a change is reported
for both ends; ``propagated`` is true for the end that SQLAlchemy itself changes.

**Cost.** No SQL and nothing at construction, for both. The first read of a default takes about 3 times as long as
reading the None of plain SQLAlchemy, and 8 to 10 times with the context (``benchmarks/attributes.py``); the next
ones are plain reads. Only ``active_history=True`` loads: one SELECT for an old value that is expired or deferred, never
under asyncio.

.. seealso:: ``AttributeEvents`` in SQLAlchemy's documentation
"""

from ._attachment import AttributeAttachment
from ._changes import listen_for_changes
from ._defaults import ActiveDefaults, enable_active_defaults
from ._events import AttributeChange

__all__ = ("ActiveDefaults", "AttributeAttachment", "AttributeChange", "enable_active_defaults", "listen_for_changes")
