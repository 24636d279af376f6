"""Columns that are added to a versioned class after it was mapped."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.generic_associations import DiscriminatorAssociation
from sqla_patterns.versioning import Versioned, VersionOptions, restore, revert, versions
from tests._support import assert_migrates


def _doc(base: Any, **options: Any) -> Any:
    class Doc(Versioned, base):  # type: ignore[misc]
        __tablename__ = "doc"
        __versioned__ = VersionOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    return Doc


def test_a_column_that_is_added_below_the_class_is_versioned(
    engine: Engine, session: Session, plain_bases: Any
) -> None:
    base = plain_bases()
    Doc = _doc(base)
    Doc.pages = mapped_column("page_count", Integer)
    base.metadata.create_all(engine)
    session.add(doc := Doc(title="a", pages=1))
    session.commit()
    doc.pages = 2
    session.commit()
    assert [version.object.pages for version in versions(session, doc)] == [1, 2]
    revert(session, doc, to=1)
    session.commit()
    assert doc.pages == 1
    session.delete(doc)
    session.commit()
    assert restore(session, Doc, 1).pages == 1


def test_it_is_versioned_also_where_the_class_was_used_before(engine: Engine, plain_bases: Any) -> None:
    # What was derived from the columns before is computed again.
    base = plain_bases()
    Doc = _doc(base)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(doc := Doc(title="a"))
        session.commit()
        doc.title = "b"
        session.commit()
    base.metadata.drop_all(engine)
    Doc.pages = mapped_column(Integer)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(doc := Doc(id=7, title="a", pages=1))
        session.commit()
        doc.pages = 2
        session.commit()
        assert [version.object.pages for version in versions(session, doc)] == [1, 2]


def test_a_later_column_of_a_joined_subclass_is_versioned(engine: Engine, session: Session, plain_bases: Any) -> None:
    base = plain_bases()
    Doc = _doc(base)

    class Book(Doc):  # type: ignore[valid-type, misc]
        __tablename__ = "book"
        book_id: Mapped[int] = mapped_column(ForeignKey("doc.id"), primary_key=True)

    Doc.pages = mapped_column(Integer)
    Book.isbn = mapped_column(String(20))
    base.metadata.create_all(engine)
    session.add(book := Book(title="a", pages=1, isbn="x"))
    session.commit()
    book.isbn = "y"
    book.pages = 2
    session.commit()
    assert [(each.object.pages, each.object.isbn) for each in versions(session, book)] == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("versioned_first", [True, False])
def test_a_child_of_a_discriminator_association_may_be_versioned(
    engine: Engine, session: Session, plain_bases: Any, versioned_first: bool
) -> None:
    # The strategy gives the table of the child a column once a parent class is mapped.
    base = plain_bases()
    Note = _doc(base)
    history = Note.__history_mapper__ if versioned_first else None

    class Person(base):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        notes = DiscriminatorAssociation(Note)

    assert history is None or "association_id" in history.local_table.c
    base.metadata.create_all(engine)
    one, two, note = Person(), Person(), Note(title="a")
    one.notes.append(note)
    session.add_all([one, two])
    session.commit()
    note.parent = two
    session.commit()
    assert [version.number for version in versions(session, note)] == [1, 2]
    revert(session, note, to=1)
    session.commit()
    assert note.parent is one


def test_migrations_have_the_column(engine: Engine, plain_bases: Any) -> None:
    base = plain_bases()
    Note = _doc(base)

    class Person(base):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        notes = DiscriminatorAssociation(Note)

    text = assert_migrates(engine, base.metadata, "import sqla_patterns.versioning")
    assert text.count("sa.Column('association_id', sa.Integer()") == 2
