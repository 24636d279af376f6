"""Alembic's autogenerate, as a gate for every package that adds columns or tables."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Index, MetaData, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tests._support import assert_empty_diff

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def _model(bases: Any) -> MetaData:
    Base = bases(metadata=MetaData(naming_convention=NAMING))

    class Shelf(Base):
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50), server_default="unnamed")

    class Book(Base):
        __tablename__ = "book"
        __table_args__ = (UniqueConstraint("shelf_id", "title"), Index(None, "title"))
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
        title: Mapped[str] = mapped_column(String(100))
        added: Mapped[str] = mapped_column(String(40), server_default="today")

    metadata: MetaData = Base.metadata
    return metadata


def test_a_created_model_has_nothing_to_migrate(engine: Engine, bases: Any) -> None:
    metadata = _model(bases)
    metadata.create_all(engine)
    assert_empty_diff(engine, metadata)


def test_a_missing_table_is_seen(engine: Engine, plain_bases: Any) -> None:
    metadata = _model(plain_bases)
    metadata.create_all(engine, tables=[metadata.tables["shelf"]])
    with pytest.raises(AssertionError, match="add_table"):
        assert_empty_diff(engine, metadata)
