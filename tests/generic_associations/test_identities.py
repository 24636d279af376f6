"""Discriminators that are no strings, and identities that their column cannot hold."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from sqlalchemy import Engine, Enum, Integer, SmallInteger, String, func, select
from sqlalchemy.orm import Session, configure_mappers, mapped_column
from sqlalchemy.types import TypeDecorator

from sqla_patterns.exceptions import InvalidArgumentError, MappingError
from sqla_patterns.generic_associations import GenericForeignKey, GenericRelationship


class Kind(enum.Enum):
    person = "p"
    second = "company"


class Other(enum.Enum):
    something = "else"


class Upper(TypeDecorator[str]):
    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.upper()


class Kinds(TypeDecorator[Kind]):
    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else Kind(value).value

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else Kind(value)


def mapped(Base: Any, column_type: Any, identities: Any = None, *, identity: Any = None) -> Any:
    class Note(Base):
        __tablename__ = "note"
        id = mapped_column(Integer, primary_key=True)
        about = mapped_column(column_type)
        about_id = mapped_column(Integer)
        parent = GenericForeignKey["Person | Company"]("about", "about_id", identities=identities)

    class Person(Base):
        __tablename__ = "person"
        id = mapped_column(Integer, primary_key=True)
        notes = GenericRelationship(lambda: Note, "parent", identity=identity)

    class Company(Base):
        __tablename__ = "company"
        id = mapped_column(Integer, primary_key=True)
        notes = GenericRelationship(lambda: Note, "parent")

    return Note, Person, Company


@pytest.mark.parametrize(
    ("column_type", "identities", "expected"),
    [
        (Enum(Kind, native_enum=False), None, [Kind.person, Kind.second]),
        (Enum(Kind, native_enum=False), {"Person": Kind.second, "Company": Kind.person}, [Kind.second, Kind.person]),
        (Enum("person", "company", native_enum=False), None, ["person", "company"]),
        (SmallInteger(), {"Person": 0, "Company": 1}, [0, 1]),
        (Kinds(), {"Person": Kind.person, "Company": Kind.second}, [Kind.person, Kind.second]),
    ],
    ids=["members by name and value", "members", "strings", "integers", "a type of the user's"],
)
def test_what_is_stored_can_be_read(
    plain_bases: Any, engine: Engine, session: Session, column_type: Any, identities: Any, expected: list[Any]
) -> None:
    Note, Person, Company = mapped(plain_bases(), column_type, identities)
    Note.metadata.create_all(engine)
    session.add_all([Note(parent=Person()), Company(notes=[Note()])])
    session.commit()
    session.expunge_all()
    notes = session.scalars(select(Note).order_by(Note.id).options(Note.parent.selectinload())).all()
    assert [note.about for note in sorted(notes, key=lambda note: isinstance(note.parent, Company))] == expected
    assert session.scalar(select(func.count()).where(Note.parent.is_type(Person))) == 1
    notes[0].parent = notes[1].parent
    session.commit()
    assert notes[0].parent is notes[1].parent


@pytest.mark.parametrize(
    ("column_type", "identities"),
    [
        (Enum(Other, native_enum=False), None),
        (Enum("a", "b", native_enum=False), None),
        (Integer(), None),
        (String(20), {"Person": 1}),
        (Upper(), None),
        (Kinds(), None),
    ],
    ids=["no member", "no string of the enum", "an integer", "a string", "changed on the way", "another class"],
)
def test_an_identity_that_cannot_be_stored_and_read_is_refused(
    plain_bases: Any, column_type: Any, identities: Any
) -> None:
    mapped(plain_bases(), column_type, identities)
    with pytest.raises(
        MappingError, match=r"^Note\.parent would store .* for Person, which is no value of .*identities="
    ):
        configure_mappers()


def test_an_identity_of_a_collection_can_be_zero(plain_bases: Any, engine: Engine, session: Session) -> None:
    Note, Person, _ = mapped(plain_bases(), Integer(), {"Company": 1}, identity=0)
    Note.metadata.create_all(engine)
    session.add(Note(parent=Person()))
    session.commit()
    assert session.scalars(select(Note.about)).one() == 0


def test_a_reference_to_no_class_says_how_to_name_them(plain_bases: Any) -> None:
    Base = plain_bases()

    class Note(Base):
        __tablename__ = "note"
        id = mapped_column(Integer, primary_key=True)
        about = mapped_column(String(20))
        about_id = mapped_column(Integer)
        parent = GenericForeignKey("about", "about_id")

    class Person(Base):
        __tablename__ = "person"
        id = mapped_column(Integer, primary_key=True)

    with pytest.raises(
        InvalidArgumentError, match=r"Note\.parent does not say .* write GenericForeignKey\[Person \| Company\]"
    ):
        Note(parent=Person())


def test_a_misspelt_target_is_named(plain_bases: Any) -> None:
    Base = plain_bases()

    class Person(Base):
        __tablename__ = "person"
        id = mapped_column(Integer, primary_key=True)
        notes = GenericRelationship(lambda: Base.Nothing, "parent")

    with pytest.raises(InvalidArgumentError, match=r"GenericRelationship 'notes' was given a function .*'Nothing'"):
        configure_mappers()
