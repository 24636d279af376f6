"""What a user of versions reads: both checkers must infer these types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, assert_type

from sqlalchemy import Integer, String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    MappedAsDataclass,
    Mapper,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from sqla_patterns.versioning import (
    AssociationVersion,
    NoSuchVersionError,
    NotVersionedError,
    PastObjectError,
    RevisionLog,
    Version,
    Versioned,
    VersionOptions,
    as_of,
    diff,
    erase,
    history_mapper,
    prune,
    restore,
    revert,
    revision,
    seed,
    version_at,
    versioned_session,
    versioning_disabled,
    versions,
    versions_of_association,
)


class Base(DeclarativeBase):
    pass


class Revision(RevisionLog, Base):
    ip: Mapped[str | None] = mapped_column(String(40))


class Doc(Versioned, Base):
    __tablename__ = "doc"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Invoice(Versioned, Base):
    __tablename__ = "invoice"
    __versioned__ = VersionOptions(
        period=True,
        operation=True,
        revision=Revision,
        granularity="transaction",
        exclude=("cache",),
        ignore=("seen_at",),
        associations=("tags",),
    )
    use_mapper_versioning = True

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int | None]


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Task(Versioned, DataBase):
    __tablename__ = "task"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    name: Mapped[str]


def columns(doc: Doc, invoice: Invoice) -> None:
    assert_type(doc.version, int)
    assert_type(Doc.version, InstrumentedAttribute[int])
    assert_type(Doc.__history_mapper__, Mapper[Any])
    assert_type(invoice.valid_from, datetime)
    assert_type(invoice.revision_id, int | None)
    task = Task("name")
    assert_type(task.version, int)
    select(Doc).where(Doc.version > 2)


def past(session: Session, doc: Doc, moment: datetime) -> None:
    assert_type(versions(session, doc), Sequence[Version[Doc]])
    assert_type(versions(session, Doc, 1), Sequence[Version[Doc]])
    for version in versions(session, doc):
        assert_type(version.number, int)
        assert_type(version.object, Doc)
        assert_type(version.object.title, str)
        assert_type(version.changed, datetime | None)
        assert_type(version.operation, Literal["update", "delete"] | None)
        assert_type(version.revision, RevisionLog | None)
        assert_type(version.ended_by, RevisionLog | None)
        assert_type(version.current, bool)
        if version.revision is not None:
            assert_type(version.revision.actor, str | None)
            assert_type(version.revision.at, datetime)
            assert_type(version.revision.meta, dict[str, Any] | None)
    assert_type(version_at(session, Invoice, 1, moment), Invoice | None)
    assert_type(version_at(session, Invoice, ("a", 2), moment), Invoice | None)
    assert_type(as_of(session, select(Invoice).where(Invoice.total > 1), moment), Sequence[Invoice])
    old, new = versions(session, doc)
    assert_type(diff(old, new), dict[str, tuple[object, object]])
    diff(old.object, new)
    diff(old, doc)
    diff(doc, doc)
    rows = versions_of_association(session, doc, "tags")
    assert_type(rows, Sequence[AssociationVersion])
    assert_type(rows[0].valid_to, datetime | None)


def changes(session: Session, doc: Doc, moment: datetime) -> None:
    assert_type(revert(session, doc, to=3), Doc)
    assert_type(restore(session, Doc, 1), Doc)
    assert_type(prune(session, Doc, keep=10, before=moment), int)
    assert_type(prune(session, Doc, keep=10), int)
    assert_type(seed(session, Doc), int)
    assert_type(erase(session, Doc, 1), int)
    with revision(session, actor="ann", request_id="r1", reason="typo", meta={"ticket": 7}, ip="::1"):
        pass
    with versioning_disabled(session):
        pass
    assert_type(history_mapper(Doc.__mapper__), Mapper[Any])


def wrapped(
    factory: sessionmaker[Session], async_factory: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    versioned_session(factory)
    versioned_session(async_factory).detach()
    versioned_session(session)


def scoped(session: scoped_session[Session], doc: Doc, moment: datetime) -> None:
    assert_type(versions(session, doc), Sequence[Version[Doc]])
    assert_type(version_at(session, Invoice, 1, moment), Invoice | None)
    assert_type(as_of(session, select(Invoice), moment), Sequence[Invoice])
    assert_type(revert(session, doc, to=3), Doc)
    assert_type(erase(session, Doc, 1, cascade=True), int)
    with revision(session, actor="ann"), versioning_disabled(session):
        pass


async def under_asyncio(session: AsyncSession, moment: datetime) -> None:
    async with revision(session, actor="ann"):
        pass
    async with versioning_disabled(session):
        pass
    assert_type(await session.run_sync(version_at, Invoice, 1, moment), Invoice | None)
    assert_type(await session.run_sync(prune, Invoice, keep=1), int)


def errors(error: NoSuchVersionError | NotVersionedError | PastObjectError) -> None:
    assert_type(str(error), str)
