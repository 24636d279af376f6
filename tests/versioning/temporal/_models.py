"""Models and helpers of the contract suite: one interface, three forms."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import JSON, String, select
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, Session, mapped_column, undefer

from sqla_patterns.versioning import CopiedRow, TemporalOptions, TemporalRow, VersionedRow, stable_relationship
from tests.versioning._models import is_dataclass_base

FORMS: Final = ("versioned", "temporal", "copied")
MIXINS: Final[dict[str, Any]] = {"versioned": VersionedRow, "temporal": TemporalRow, "copied": CopiedRow}
HISTORY: Final = {"include_history": True}


def new_key(context: object) -> uuid.UUID:
    """Return a key. Defaults that take the context can be pickled."""
    return uuid.uuid4()


def no_init(base: Any) -> dict[str, Any]:
    return {"init": False} if is_dataclass_base(base) else {}


def items(base: Any, form: str, **options: Any) -> Any:
    """Map ``Item`` with one form of temporal rows and the key that suits it: a UUID, or an integer for copied rows."""
    if form == "copied":

        class CopiedItem(MIXINS[form], base):
            __tablename__ = "item"
            __temporal__ = TemporalOptions(**options)
            id: Mapped[int] = mapped_column(primary_key=True, **no_init(base))
            name: Mapped[str] = mapped_column(String(50))
            size: Mapped[int | None] = mapped_column(default=None)
            note: Mapped[str | None] = mapped_column(String(50), deferred=True, default=None)
            data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON), default=None)

        return CopiedItem

    class Item(MIXINS[form], base):
        __tablename__ = "item"
        __temporal__ = TemporalOptions(**options)
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, insert_default=new_key, **no_init(base))
        name: Mapped[str] = mapped_column(String(50))
        size: Mapped[int | None] = mapped_column(default=None)
        note: Mapped[str | None] = mapped_column(String(50), deferred=True, default=None)
        data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON), default=None)

    return Item


def countries(base: Any, form: str, **options: Any) -> Any:
    """Map ``Country``, whose key is set by hand and may be used again; not for copied rows."""

    class Country(MIXINS[form], base):
        __tablename__ = "country"
        __temporal__ = TemporalOptions(**options)
        code: Mapped[str] = mapped_column("country_code", String(2), primary_key=True)
        name: Mapped[str] = mapped_column("country_name", String(50))

    return Country


def stable_of(obj: Any) -> Any:
    """Return what is the same in all versions of an object."""
    return obj.object_id if isinstance(obj, CopiedRow) else obj.id


def is_current(obj: Any) -> bool:
    return obj.valid_to is None if isinstance(obj, TemporalRow) else obj.is_current


def order_of(cls: Any) -> list[Any]:
    """Return what sorts the versions of an object, oldest first."""
    if issubclass(cls, VersionedRow):
        return [cls.version_id]
    return [cls.valid_from] if issubclass(cls, TemporalRow) else [cls.id]


def past(session: Session, cls: Any) -> Sequence[Any]:
    """Return all versions of all objects, oldest first, read in a session of its own."""
    with Session(session.connection()) as other:
        statement = select(cls).order_by(*order_of(cls)).options(undefer("*"))
        return other.scalars(statement.execution_options(**HISTORY)).unique().all()


def names(session: Session, cls: Any) -> list[tuple[str, bool]]:
    """Return the name of each version, oldest first, and whether it is the current one."""
    return [(each.name, is_current(each)) for each in past(session, cls)]


def library(base: Any, form: str, **options: Any) -> SimpleNamespace:
    """Map authors and their books, both with temporal rows, joined by the stable key of the author."""
    counted: dict[str, Any] = {} if form == "copied" else {"autoincrement": False}

    class Author(MIXINS[form], base):
        __tablename__ = "author"
        __temporal__ = TemporalOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True, **counted)
        name: Mapped[str] = mapped_column(String(50))
        books: Mapped[list[Any]] = stable_relationship(
            lambda: Book, lambda: Book.author_id, back_populates="author", order_by=lambda: Book.title
        )

    class Book(MIXINS[form], base):
        __tablename__ = "book"
        __temporal__ = TemporalOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True, **counted)
        title: Mapped[str] = mapped_column(String(50))
        author_id: Mapped[int | None]
        author: Mapped[Any] = stable_relationship(lambda: Author, lambda: Book.author_id, back_populates="books")

    return SimpleNamespace(Author=Author, Book=Book, metadata=base.metadata)


def key(form: str, value: int) -> dict[str, int]:
    """Return a key that is set by hand, where the database does not count."""
    return {} if form == "copied" else {"id": value}
