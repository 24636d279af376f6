"""Keep the versions of an object as rows of its own table: an UPDATE becomes an INSERT.

Mix `TemporalRow`, `VersionedRow` or `CopiedRow` into a mapped class. A flush that changes an object closes its row and
inserts another one; the object in hand is the new version. Statements see current rows, unless they ask for more.

>>> import uuid
>>> from sqlalchemy import create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
>>> from sqla_patterns.versioning import TemporalRow, valid_at
>>> class Base(DeclarativeBase): ...
>>> class Price(TemporalRow, Base):
...     __tablename__ = "price"
...     id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
...     amount: Mapped[int]
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     price = Price(amount=10)
...     session.add(price)
...     session.commit()
...     begun = price.valid_from
...     price.amount = 12
...     session.commit()
...     print(session.scalars(select(Price.amount)).all())
...     print(session.scalars(select(Price.amount).options(valid_at(begun))).all())
...     history = select(Price.amount).order_by(Price.valid_from).execution_options(include_history=True)
...     print(session.scalars(history).all())
[12]
[10]
[10, 12]

**When to use it.** If the past is part of the business, and queries join it: prices, contracts, positions.

**When not to.** For an audit trail, for undo, and for tables that other programs read, `Versioned` keeps a history
table beside the table, whose rows and keys stay as they are. Subclasses with tables of their own are refused, and so is
a class that is `Versioned` as well.

**Cost in statements**, for a thousand objects: an UPDATE is one UPDATE and one INSERT, for a `CopiedRow` also one
SELECT; one SELECT before for what was not loaded. A DELETE is one UPDATE. ``update()`` is three statements, however
many rows it matches, ``delete()`` one, and where rows have times one SELECT. Reading takes no more statements.

**Locks and concurrency.** No lock but those of the rows that are written. Of two transactions that change the same
version, the second one meets `StaleVersionError`, a ``StaleDataError``. A unique index allows one current row for each
object, whoever writes.

.. seealso:: :doc:`/patterns/temporal_rows`, the guide, with a table for users of the upstream recipes.
"""

from ._errors import ClosedVersionError
from ._mixins import CopiedRow, TemporalRow, VersionedRow
from ._options import TemporalOptions
from ._reading import valid_at
from ._relationships import pinned_relationship, stable_relationship

__all__ = (
    "ClosedVersionError",
    "CopiedRow",
    "TemporalOptions",
    "TemporalRow",
    "VersionedRow",
    "pinned_relationship",
    "stable_relationship",
    "valid_at",
)
