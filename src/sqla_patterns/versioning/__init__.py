"""Versions of objects: each change and each deletion copies the row as it was to a history table.

Mix `Versioned` into a mapped class. It gets ``version``, a number that counts from 1, and a table ``<table>_history`` beside its own; nothing
else has to be set up, and it works with every session, sync or async. `VersionOptions` adds what one may want to know besides: when each version
began and ended, what ended it, and who made it, why.

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

**When to use it.** Rows of which one asks later what they said, when, and who changed them; undo; data that the law wants kept, and data that it
wants forgotten (`erase`).

**When not to.** Where only the last change matters, an ``updated_at`` and an ``updated_by`` are enough. What is never changed, a ledger, needs no
history. If every writer goes past SQLAlchemy, let triggers of the database do it. To detect that two users edit one object, a plain
``version_id_col`` serves; ``use_mapper_versioning = True`` is both in one.

**What makes a version.** A flush in which a column has changed, net: by the user, by a relationship, by the unit of work itself (orphans,
foreign keys of children), or in place (JSON). Bulk ``update()`` and ``delete()`` through a session, whatever their criteria, and bulk updates by
primary key. Rows that the database deletes or clears by ``ON DELETE CASCADE`` and ``SET NULL`` below a row that the session deletes. The history row
holds the *old* values, copied in the database, so that nothing is loaded for it. The key of a deleted object may be used again; versions continue.

**What the ORM does not show.** ``connection.execute()``, ``bulk_save_objects()`` and ``bulk_update_mappings()`` go past every hook, as do other programs.
A child whose foreign key changes by ``ON UPDATE CASCADE``, or by a one-to-many relationship with ``post_update``, has no new version. Upserts, and
UPDATE or DELETE with LIMIT, are refused with `UnversionedWriteError`. Under a changed primary key the version goes on, and the older ones stay under the
old key.

**Cost in statements**, for a thousand objects and each table:

- An INSERT: none; one SELECT where the user gives the keys, since they may have been used before.
- An UPDATE: one INSERT from SELECT; one SELECT before, for objects whose old values were not loaded. A DELETE: one INSERT from SELECT.
- Bulk ``update()`` and ``delete()``: one INSERT from SELECT; one SELECT after, where columns of the room are left expired in objects.
- `versions`, `version_at`, `as_of`: one SELECT, however many objects; one more for revisions, and for each association.
- A revision: one INSERT a transaction or block. A session that meets no versioned class pays a dictionary entry for each flush.

**Locks and concurrency.** On PostgreSQL and MariaDB the copy locks the rows that are about to be written, and the next version is counted from what is
locked: two writers of one object wait for each other, and no version is lost or made twice. A bulk statement writes only rows that were copied.
SQLite has one writer at a time. An object that another transaction has deleted raises `StaleVersionError`.

.. seealso:: :doc:`/patterns/versioning`, the guide, with a table for users of the upstream recipe.
"""

from ._errors import NoSuchVersionError, NotVersionedError, PastObjectError, StaleVersionError, UnversionedWriteError
from ._mapping import history_mapper
from ._model import Versioned
from ._options import VersionOptions
from ._reading import as_of, diff, version_at, versions, versions_of_association
from ._revision_log import RevisionLog
from ._session import SessionScope, revision, versioned_session, versioning_disabled
from ._types import UTCDateTime
from ._upkeep import prune, seed
from ._version import AssociationVersion, Version
from ._writing import erase, restore, revert

__all__ = (
    "AssociationVersion",
    "NoSuchVersionError",
    "NotVersionedError",
    "PastObjectError",
    "RevisionLog",
    "SessionScope",
    "StaleVersionError",
    "UTCDateTime",
    "UnversionedWriteError",
    "Version",
    "VersionOptions",
    "Versioned",
    "as_of",
    "diff",
    "erase",
    "history_mapper",
    "prune",
    "restore",
    "revert",
    "revision",
    "seed",
    "version_at",
    "versioned_session",
    "versioning_disabled",
    "versions",
    "versions_of_association",
)
