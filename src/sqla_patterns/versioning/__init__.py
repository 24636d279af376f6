"""Keep versions of objects: each change and each deletion copies the row as it was to a history table.

Mix `Versioned` into a mapped class. The class gets an attribute ``version``, a number that counts from 1, and a second
table ``<table>_history``. Nothing else has to be set up, and it works with every session, sync or async.
`VersionOptions` stores more: when each version began and ended, what ended it, and who made it and why.

>>> from sqlalchemy import String, create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
>>> from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions, as_of, diff, revert, revision, versions
>>> class Base(DeclarativeBase): ...
>>> class Revision(RevisionLog, Base): ...
>>> class Invoice(Versioned, Base):
...     __tablename__ = "invoice"
...     __versioned__ = VersionOptions(period=True, operation=True, revision=Revision)
...     id: Mapped[int] = mapped_column(primary_key=True)
...     title: Mapped[str] = mapped_column(String(50))
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session:
...     invoice = Invoice(title="draft")
...     session.add(invoice)
...     session.commit()
...     begun = invoice.valid_from
...     with revision(session, actor="ann", reason="typing error"):
...         invoice.title = "final"
...     session.commit()
...     old, new = versions(session, invoice)
...     print(old.number, old.object.title, old.operation, new.number, new.object.title, new.revision.actor)
...     print(diff(old, new))
...     print([each.title for each in as_of(session, select(Invoice).where(Invoice.title == "draft"), begun)])
...     print(revert(session, invoice, to=1).version)
1 draft update 2 final ann
{'title': ('draft', 'final')}
['draft']
3

`VersionedMap` is another pattern of the package: an object that is a dictionary, and becomes a new row with each
change. Its guide is :doc:`/patterns/versioned_maps`.

**When to use it.** If you will want to know what a row contained, when, and who changed it; for undo; for data that
must be kept by law, and for data that must be deleted by law (`erase`).

**When not to.** If only the last change matters, ``updated_at`` and ``updated_by`` columns are enough. Rows that never
change, such as those of a ledger, need no history. If most writers bypass SQLAlchemy, use triggers of the database. To
detect that two users edit the same object, a plain ``version_id_col`` is enough; a versioned class with
``use_mapper_versioning = True`` has that as well.

**What makes a version.**

- A flush that changes the value of a column, whatever sets it: the user, a relationship, the unit of work (orphans,
  foreign keys of children), or a change in place (JSON). A value that is set and set back makes no version.
- ``update()`` and ``delete()`` in ``session.execute()``, with any criteria, and bulk updates by primary key.
- ``ON DELETE CASCADE`` and ``SET NULL``, for rows that refer to a row that the session deletes.

The history row has the *old* values. They are copied inside of the database, so that nothing is loaded for it. If the
primary key of a deleted object is used again, its version numbers continue.

**What the ORM does not see.** ``connection.execute()``, ``bulk_save_objects()`` and ``bulk_update_mappings()`` bypass
all events, as do other programs. A child whose foreign key is changed by ``ON UPDATE CASCADE``, or by a one-to-many
relationship with ``post_update``, gets no new version. Upserts, and UPDATE or DELETE with LIMIT, are refused with
`UnversionedWriteError`. If a primary key changes, the version continues under the new key, and the older versions stay
under the old one.

**Cost in statements**, for a thousand objects and each table:

- INSERT: none; one SELECT if the user sets the primary keys, since they may have been used before.
- UPDATE: one INSERT from SELECT; and before it one SELECT for objects whose old values were not loaded.
- DELETE: one INSERT from SELECT.
- Bulk ``update()`` and ``delete()``: one INSERT from SELECT; after the statement one SELECT if it has expired
  ``version`` or other attributes of the library in loaded objects.
- `versions`, `version_at`, `as_of`: one SELECT, however many objects; one more for revisions, and one or two for each
  association.
- A revision: one INSERT for each transaction or block. In a session without versioned objects, each flush looks once at
  what has changed.

**Locks and concurrency.** On PostgreSQL and MariaDB, the copy locks the rows that are about to be written, and the next
version number is computed from the locked rows: two transactions that write the same object wait for each other, and no
version is lost or made twice. A bulk statement writes only rows that were copied. SQLite has one writer at a time. An
object that another transaction has deleted raises `StaleVersionError`.

**The other way** to keep versions is in the table itself: `TemporalRow`, `VersionedRow` and `CopiedRow`, whose manual
is in `sqla_patterns.versioning.temporal`.

.. seealso:: :doc:`/patterns/versioning`, the guide, with a table for users of the upstream recipe.
   :doc:`/patterns/temporal_rows` compares history tables with temporal rows.
"""

from ._errors import NoSuchVersionError, NotVersionedError, PastObjectError, StaleVersionError, UnversionedWriteError
from ._maintenance import erase, prune, seed
from ._mapping import history_mapper
from ._mixin import Versioned
from ._options import VersionOptions
from ._reading import as_of, diff, version_at, versions, versions_of_association
from ._restore import restore, revert
from ._revision_log import RevisionLog
from ._session import SessionScope, revision, versioned_session, versioning_disabled
from ._types import UTCDateTime
from ._version import AssociationVersion, Version
from ._versioned_map import VersionedMap
from ._versioned_map_options import VersionedMapOptions
from ._versioned_map_reading import MapValue, delete_stream, get_current, get_version, history_of, load_current
from ._versioned_map_types import JSONValue
from ._versioned_map_values import MapValueError
from .temporal import (
    ClosedVersionError,
    CopiedRow,
    TemporalOptions,
    TemporalRow,
    VersionedRow,
    pinned_relationship,
    stable_relationship,
    valid_at,
)

__all__ = (
    "AssociationVersion",
    "ClosedVersionError",
    "CopiedRow",
    "JSONValue",
    "MapValue",
    "MapValueError",
    "NoSuchVersionError",
    "NotVersionedError",
    "PastObjectError",
    "RevisionLog",
    "SessionScope",
    "StaleVersionError",
    "TemporalOptions",
    "TemporalRow",
    "UTCDateTime",
    "UnversionedWriteError",
    "Version",
    "VersionOptions",
    "Versioned",
    "VersionedMap",
    "VersionedMapOptions",
    "VersionedRow",
    "as_of",
    "delete_stream",
    "diff",
    "erase",
    "get_current",
    "get_version",
    "history_mapper",
    "history_of",
    "load_current",
    "pinned_relationship",
    "prune",
    "restore",
    "revert",
    "revision",
    "seed",
    "stable_relationship",
    "valid_at",
    "version_at",
    "versioned_session",
    "versioning_disabled",
    "versions",
    "versions_of_association",
)
