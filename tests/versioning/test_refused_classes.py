"""A class whose mapping is refused does not affect the other classes of its registry, even while its error is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, Table
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Mapped, Session, configure_mappers, mapped_column

from sqla_patterns.exceptions import MappingError
from sqla_patterns.versioning import Versioned, VersionOptions
from tests.versioning._models import history, history_table


def by_options(base: Any) -> None:
    class Bad(Versioned, base):
        __tablename__ = "bad"
        __versioned__ = VersionOptions(granularity="month")  # type: ignore[arg-type]
        id: Mapped[int] = mapped_column(primary_key=True)


def by_a_name_of_the_history(base: Any) -> None:
    class Bad(Versioned, base):
        __tablename__ = "bad"
        id: Mapped[int] = mapped_column(primary_key=True)
        changed: Mapped[int] = mapped_column()


def by_a_misspelt_exclude(base: Any) -> None:
    class Bad(Versioned, base):
        __tablename__ = "bad"
        __versioned__ = VersionOptions(exclude=("nosuch",))
        id: Mapped[int] = mapped_column(primary_key=True)


def by_a_misspelt_association(base: Any) -> None:
    class Bad(Versioned, base):
        __tablename__ = "bad"
        __versioned__ = VersionOptions(associations=("nosuch",))
        id: Mapped[int] = mapped_column(primary_key=True)


def by_sqlalchemy(base: Any) -> None:
    class Bad(base):
        __tablename__ = "bad"
        name: Mapped[str] = mapped_column()


@pytest.mark.parametrize(
    "refused",
    [by_options, by_a_name_of_the_history, by_a_misspelt_exclude, by_a_misspelt_association, by_sqlalchemy],
    ids=lambda refused: refused.__name__,
)
def test_a_refused_class_leaves_the_others_alone(
    plain_bases: Any, engine: Engine, session: Session, refused: Callable[[Any], None]
) -> None:
    base = plain_bases()

    class Parent(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)

    # The error keeps the class alive, as a notebook does.
    with pytest.raises(ArgumentError) as error:
        refused(base)

    class Child(Versioned, base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column()
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", ondelete="CASCADE"))

    configure_mappers()
    tables = [Parent.__table__, Child.__table__, base.metadata.tables["child_history"]]
    base.metadata.create_all(engine, tables=tables)
    session.add(Parent(id=1))
    session.flush()
    session.add(Child(id=1, n=1, parent_id=1))
    session.commit()
    session.delete(session.get_one(Parent, 1))
    session.commit()
    assert history(session, Child, "id", "n") == [(1, 1)]
    assert error.value is not None


# -- a second class on the table of a versioned one ------------------------------------------------


def _doc(base: Any) -> Any:
    class Doc(Versioned, base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column()

    return Doc


def test_a_second_class_on_a_versioned_table_is_refused(plain_bases: Any) -> None:
    base = plain_bases()
    Doc = _doc(base)
    with pytest.raises(MappingError, match="Lite is mapped to table 'doc', which Doc versions"):

        class Lite(base):
            __table__ = Doc.__table__


def test_a_second_class_that_is_mapped_imperatively_is_refused(plain_bases: Any) -> None:
    base = plain_bases()
    Doc = _doc(base)

    class Lite:
        pass

    with pytest.raises(MappingError, match="Lite"):
        base.registry.map_imperatively(Lite, Doc.__table__)


def test_a_second_class_that_is_mapped_first_is_refused(plain_bases: Any) -> None:
    base = plain_bases()
    table = Table("doc", base.metadata, Column("id", Integer, primary_key=True))

    class Lite(base):
        __table__ = table

    with pytest.raises(MappingError, match="Lite"):

        class Doc(Versioned, base):
            __table__ = table


def test_a_second_versioned_class_is_refused(plain_bases: Any) -> None:
    base = plain_bases()
    Doc = _doc(base)
    with pytest.raises(MappingError, match="Other"):

        class Other(Versioned, base):
            __table__ = Doc.__table__


def test_a_subclass_on_the_same_table_is_none(plain_bases: Any) -> None:
    Doc = _doc(plain_bases())

    class Report(Doc):
        pass

    configure_mappers()
    assert history_table(Report) is history_table(Doc)


def test_a_table_whose_classes_were_disposed_of_can_be_mapped_again(plain_bases: Any) -> None:
    base = plain_bases()
    Doc = _doc(base)
    table = Doc.__table__
    base.registry.dispose()

    class Again(base):
        __table__ = table

    configure_mappers()
    assert Again.__table__ is table
