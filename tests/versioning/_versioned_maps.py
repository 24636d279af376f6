"""Versioned maps for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sqla_patterns.versioning import VersionedMap, VersionedMapOptions

#: What a value can be in most tests.
Value = int | str | bool | float | None | list[Any] | dict[str, Any]


def configs(base: Any) -> Any:
    """Map the class of the design, whose streams are told apart by a tenant."""

    class Config(VersionedMap[Value], base):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column(String(50))

    return Config


def noted_configs(base: Any) -> Any:
    """Map a class whose versions have a time, which the database gives, and an author."""

    class Author(base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True, default=None)

    class Config(VersionedMap[Value], base):
        __tablename__ = "config"
        __versioned_map__ = VersionedMapOptions(stream=("tenant",))
        tenant: Mapped[str] = mapped_column(String(50))
        id: Mapped[int] = mapped_column(primary_key=True, default=None)
        note: Mapped[str | None] = mapped_column(String(50), default=None)
        remark: Mapped[str | None] = mapped_column(String(50), deferred=True, default=None)
        created_at: Mapped[datetime] = mapped_column(server_default=func.now(), default=None)
        author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"), default=None)

    Config.author = relationship(Author)
    Config.Author = Author
    return Config


def make(cls: Any, values: Mapping[str, Any] | Iterable[tuple[str, Any]], **attributes: Any) -> Any:
    """Make a map on any base: the constructor of a dataclass does not take the values."""
    made = cls(**attributes)
    made.update(values)
    return made


def saved(session: Session, cls: Any, values: Mapping[str, Any], **attributes: Any) -> Any:
    """Make a map and commit it; the tables are made first."""
    cls.metadata.create_all(session.connection())
    session.commit()
    made = make(cls, values, **attributes)
    session.add(made)
    session.commit()
    return made


def past(session: Session, cls: Any, **stream: Any) -> list[tuple[int, dict[str, Any]]]:
    """Return the numbers and values of all versions of a stream, from the tables alone."""
    table, values, entries = cls.__table__, cls.metadata.tables["config_value"], cls.metadata.tables["config_entry"]
    conditions = [table.c[name] == value for name, value in stream.items()]
    found: dict[int, dict[str, Any]] = {
        number: {} for number in session.scalars(select(table.c.version).where(*conditions).order_by(table.c.version))
    }
    rows = session.execute(
        select(table.c.version, values.c.key, values.c.value)
        .join(entries, entries.c.owner_id == table.c.id)
        .join(values, (values.c.origin_id == entries.c.origin_id) & (values.c.key == entries.c.key))
        .where(*conditions)
    )
    for number, key, value in rows:
        found[number][key] = value
    return list(found.items())


def count_rows(session: Session, cls: Any) -> tuple[int, int, int]:
    """Return how many versions, values and entries there are."""
    tables = (cls.__table__, cls.metadata.tables["config_value"], cls.metadata.tables["config_entry"])
    one, two, three = (session.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
    return one, two, three
