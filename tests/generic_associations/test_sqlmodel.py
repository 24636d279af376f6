"""On SQLModel, whose base refuses ``setattr()`` for what is no field: collections and parents are in plain mixins."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, registry
from sqlmodel import Field, SQLModel

from sqla_patterns.generic_associations import (
    AssociationParent,
    DiscriminatorAssociation,
    GenericForeignKey,
    GenericRelationship,
    TablePerAssociation,
)

from ._models import ONE_CHILD_CLASS


@pytest.fixture(params=ONE_CHILD_CLASS)
def made(request: pytest.FixtureRequest, engine: Engine) -> Any:
    """Map notes, persons and companies."""
    strategy, own = request.param, registry()

    class Base(SQLModel, registry=own):
        pass

    class HasParent:
        parent = (
            GenericForeignKey[Any]("about", "about_id")
            if strategy == "generic_foreign_key"
            else AssociationParent[Any]()
        )

    class Note(HasParent, Base, table=True):
        id: int | None = Field(default=None, primary_key=True)
        text: str = "a note"
        about: str | None = None
        about_id: int | None = None

    class HasNotes:
        if strategy == "generic_foreign_key":
            notes = GenericRelationship(lambda: Note, "parent")
        else:
            make = TablePerAssociation if strategy == "table_per_association" else DiscriminatorAssociation
            notes = make(Note)

    class Person(HasNotes, Base, table=True):
        id: int | None = Field(default=None, primary_key=True)

    class Company(HasNotes, Base, table=True):
        id: int | None = Field(default=None, primary_key=True)

    Base.metadata.create_all(engine)
    yield Note, Person, Company
    Base.metadata.drop_all(engine)
    own.dispose()
    Base.metadata.clear()


def test_children_are_given_to_parents_and_taken_from_them(made: Any, session: Session) -> None:
    Note, Person, Company = made
    person, company = Person(), Company()
    person.notes.extend([Note(text="one"), Note(text="two")])
    session.add_all([person, company])
    session.commit()
    one, two = sorted(person.notes, key=lambda note: note.text)
    assert one.parent is two.parent is person
    company.notes.append(one)
    person.notes.remove(two)
    session.commit()
    assert (person.notes, company.notes, one.parent) == ([], [one], company)
    assert session.scalars(select(Note)).all() == [one]
    session.delete(company)
    session.commit()
    assert session.scalars(select(Note)).all() == []
