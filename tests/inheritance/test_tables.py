"""The tables that each strategy makes, and what it refuses."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Computed, Engine, ForeignKey, Identity, String, inspect, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Mapped,
    Session,
    composite,
    configure_mappers,
    declared_attr,
    deferred,
    mapped_column,
    relationship,
    synonym,
)
from sqlalchemy.sql import visitors

from sqla_patterns.exceptions import InvalidArgumentError, MappingError
from sqla_patterns.inheritance import ConcreteTable, JoinedTable, SingleTable, shared_column

from . import _models as models
from .test_hierarchies import make


@dataclasses.dataclass
class Point:
    x: int
    y: int


KeyOfPerson = Annotated[int, mapped_column(ForeignKey("person.id"), primary_key=True)]


def _columns(cls: Any) -> list[str]:
    return [column.name for column in cls.__table__.c]


def _references(cls: Any) -> list[tuple[list[str], list[str]]]:
    return sorted(
        ([column.name for column in constraint.columns], [element.target_fullname for element in constraint.elements])
        for constraint in cls.__table__.foreign_key_constraints
    )


def _person(bases: Any, mixin: type, **arguments: Any) -> Any:
    class Person(mixin, bases()):  # type: ignore[misc]
        __tablename__ = "person"
        __table_args__ = arguments
        id: Mapped[int] = mapped_column(primary_key=True)

    return Person


# -- single --------------------------------------------------------------------------------------


def test_a_shared_column_is_in_the_table_once(bases: Any) -> None:
    m = models.company(bases, "single")
    assert _columns(m.Person).count("status") == 1


def test_a_shared_column_is_read_by_each_class(bases: Any, engine: Engine, session: Session) -> None:
    m = models.company(bases, "single")
    m.metadata.create_all(engine)
    session.add_all([make(m.Engineer, status="busy"), make(m.Manager, status="idle")])
    session.commit()
    assert session.scalars(select(m.Engineer.status)).all() == ["busy"]
    assert session.scalars(select(m.Manager.status)).all() == ["idle"]


def test_a_shared_column_allows_null_whatever_its_annotation_says(plain_bases: Any) -> None:
    Person = _person(plain_bases, SingleTable)

    class Engineer(Person):
        status: Mapped[str] = shared_column(String(10))

    assert Person.__table__.c.status.nullable is True


def test_a_shared_column_with_a_default_may_be_not_null(plain_bases: Any) -> None:
    Person = _person(plain_bases, SingleTable)

    class Engineer(Person):
        status: Mapped[str] = shared_column(String(10), nullable=False, server_default="x")

    assert Person.__table__.c.status.nullable is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nullable": False}, "was given nullable=False"),
        ({"primary_key": True}, "was given 'primary_key'"),
        ({"use_existing_column": False}, "was given 'use_existing_column'"),
    ],
)
def test_a_shared_column_that_cannot_be_is_refused(options: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        shared_column(String(10), **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((String(20),), {}, r"the type String\(length=20\)"),
        ((ForeignKey("person.id"),), {}, "a foreign key to 'person.id'"),
        ((), {"insert_default": 5}, "default="),
        ((), {"server_default": "5"}, "server_default="),
        ((), {"onupdate": 5}, "onupdate="),
    ],
)
def test_a_shared_column_that_says_more_than_the_first_is_refused(
    plain_bases: Any, arguments: Any, options: Any, message: str
) -> None:
    Person = _person(plain_bases, SingleTable)

    class Engineer(Person):
        level: Mapped[int | None] = shared_column()

    with pytest.raises(MappingError, match=rf"Manager\.level is declared with {message}.* alike"):

        class Manager(Person):
            level: Mapped[int | None] = shared_column(*arguments, **options)

    assert _columns(Person) == _columns(Engineer)


def test_a_shared_column_with_another_scalar_default_is_refused(plain_bases: Any) -> None:
    Person = _person(plain_bases, SingleTable)

    class Engineer(Person):
        level: Mapped[int | None] = shared_column(insert_default=0)

    with pytest.raises(MappingError, match="default=1"):

        class Manager(Person):
            level: Mapped[int | None] = shared_column(insert_default=1)

    assert Engineer.__table__ is Person.__table__


def test_a_shared_column_with_an_annotation_of_another_type_is_refused(plain_bases: Any) -> None:
    Person = _person(plain_bases, SingleTable)

    class Engineer(Person):
        level: Mapped[int | None] = shared_column()

    with pytest.raises(MappingError, match=r"annotation <class 'str'>, where the other has <class 'int'>"):

        class Manager(Person):
            level: Mapped[str] = shared_column()

    assert Engineer.__table__ is Person.__table__


def test_a_shared_column_may_say_what_the_first_says(plain_bases: Any) -> None:
    Person = _person(plain_bases, SingleTable)

    class Leveled:
        level: Mapped[int | None] = shared_column(ForeignKey("person.id"), insert_default=5, onupdate=lambda: 6)

    class Engineer(Leveled, Person):
        pass

    class Manager(Leveled, Person):
        pass

    class Clerk(Person):
        level: Mapped[int] = shared_column(ForeignKey("person.id"), insert_default=5, onupdate=lambda: 6)

    assert _columns(Person).count("level") == 1


def test_a_column_of_a_subclass_that_the_others_cannot_fill_is_refused(plain_bases: Any) -> None:
    Person = _person(plain_bases, SingleTable)
    with pytest.raises(
        MappingError, match="column 'status' of Engineer is NOT NULL, and table 'person' also has the rows"
    ):

        class Engineer(Person):
            status: Mapped[str]


@pytest.mark.parametrize("default", [{"default": "x"}, {"server_default": "x"}])
def test_a_column_of_a_subclass_with_a_default_is_filled_for_the_others(
    plain_bases: Any, engine: Engine, session: Session, default: Any
) -> None:
    Person = _person(plain_bases, SingleTable)

    class Engineer(Person):
        status: Mapped[str] = mapped_column(String(10), **default)

    Person.metadata.create_all(engine)
    session.add_all([Person(), Engineer(status="y")])
    session.commit()
    assert sorted(session.scalars(select(Person.__table__.c.status))) == ["x", "y"]


@pytest.mark.parametrize(
    "declared", [{"__tablename__": "engineer"}, {"__table__": sa.Table("engineer", sa.MetaData())}]
)
def test_a_subclass_of_a_single_table_with_a_table_is_refused(plain_bases: Any, declared: Any) -> None:
    Person = _person(plain_bases, SingleTable)
    with pytest.raises(
        MappingError, match=f"Engineer declares {next(iter(declared))}, and the rows of its base Person"
    ):
        type(Person)("Engineer", (Person,), declared)
    assert set(Person.metadata.tables) == {"person"}


@pytest.mark.parametrize(("mixin", "wanted"), [(SingleTable, "named_person"), (JoinedTable, "named_engineer")])
def test_a_base_that_names_tables_is_respected(plain_bases: Any, mixin: type, wanted: str) -> None:
    class Named:
        @declared_attr.directive
        def __tablename__(cls) -> str:
            return f"named_{cls.__name__.lower()}"

    class Person(mixin, Named, plain_bases()):  # type: ignore[misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        pass

    assert inspect(Engineer).local_table.name == wanted


# -- joined --------------------------------------------------------------------------------------


def test_a_joined_subclass_has_a_key_that_refers_to_its_parent(bases: Any) -> None:
    m = models.company(bases, "joined")
    assert [_columns(cls)[0] for cls in (m.Engineer, m.Senior)] == ["id", "id"]
    assert [_references(cls) for cls in (m.Engineer, m.Senior)] == [
        [(["id"], ["person.id"])],
        [(["id"], ["engineer.id"])],
    ]


def test_a_joined_subclass_refers_to_a_composite_key_as_a_whole(declarative_bases: Any) -> None:
    m = models.composite(declarative_bases, "joined")
    assert _columns(m.Robot) == ["book_name", "page", "arms"]
    assert _references(m.Machine) == [(["book_name", "page"], ["asset.book_name", "asset.page"])]
    assert _references(m.Robot) == [(["book_name", "page"], ["machine.book_name", "machine.page"])]


def test_a_composite_reference_stands_beside_the_users_table_arguments(plain_bases: Any) -> None:
    m = models.composite(plain_bases, "joined")

    class Tool(m.Asset):  # type: ignore[misc,name-defined]
        __table_args__ = (sa.CheckConstraint("weight > 0"), {"comment": "tools"})
        weight: Mapped[int]

    class Bag(m.Asset):  # type: ignore[misc,name-defined]
        __table_args__ = {"comment": "bags"}

    assert [len(cls.__table__.foreign_key_constraints) for cls in (Tool, Bag)] == [1, 1]
    assert [cls.__table__.comment for cls in (Tool, Bag)] == ["tools", "bags"]


def test_a_key_of_the_users_is_kept(plain_bases: Any) -> None:
    Person = _person(plain_bases, JoinedTable)

    class Engineer(Person):
        id: Mapped[int] = mapped_column("engineer_no", ForeignKey("person.id", ondelete="CASCADE"), primary_key=True)

    class Manager(Person):
        manager_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)

    assert (_columns(Engineer), _columns(Manager)) == (["engineer_no"], ["manager_id"])


def test_a_key_that_an_annotated_type_declares_is_kept(plain_bases: Any) -> None:
    Person = _person(plain_bases, JoinedTable)

    class Engineer(Person):
        person_id: Mapped[KeyOfPerson]

    assert [column.name for column in Engineer.__table__.primary_key] == ["person_id"]


def test_a_key_that_a_mixin_of_the_subclass_declares_is_kept(plain_bases: Any) -> None:
    Person = _person(plain_bases, JoinedTable)

    class RefersToPerson:
        person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)

    class Engineer(RefersToPerson, Person):
        pass

    assert [column.name for column in Engineer.__table__.primary_key] == ["person_id"]


def test_a_table_name_of_the_users_is_kept(plain_bases: Any) -> None:
    class Engineer(_person(plain_bases, JoinedTable)):  # type: ignore[misc]
        __tablename__ = "the_engineers"

    assert Engineer.__table__.name == "the_engineers"


def test_a_table_of_the_users_is_kept(plain_bases: Any) -> None:
    Person = _person(plain_bases, JoinedTable)

    class Engineer(Person):
        __table__ = sa.Table("engineers", Person.metadata, sa.Column("id", ForeignKey("person.id"), primary_key=True))

    assert (_columns(Engineer), Engineer().type) == (["id"], "engineer")


def test_a_key_of_the_database_is_handed_down(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Person(JoinedTable, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(
            "person_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True
        )

    class HTTPEngineer(Person):
        pass

    Base.metadata.create_all(engine)
    session.add_all([Person(), HTTPEngineer()])
    session.commit()
    assert session.scalars(select(HTTPEngineer.__table__.c.person_id)).all() == [2]
    assert HTTPEngineer.__table__.name == "http_engineer"


def test_parents_in_a_schema_are_referred_to(plain_bases: Any) -> None:
    Person = _person(plain_bases, JoinedTable, schema="hr")

    class Engineer(Person):
        __table_args__ = {"schema": "tech"}

    assert _references(Engineer) == [(["id"], ["hr.person.id"])]


def test_the_naming_convention_names_the_reference(plain_bases: Any) -> None:
    Base = plain_bases(metadata=sa.MetaData(naming_convention={"fk": "fk_%(table_name)s_%(referred_table_name)s"}))

    class Person(JoinedTable, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        pass

    assert [constraint.name for constraint in Engineer.__table__.foreign_key_constraints] == ["fk_engineer_person"]


@pytest.mark.parametrize("mixin", [JoinedTable, ConcreteTable])
@pytest.mark.parametrize("name", ["__tablename__", "__table__"])
def test_a_subclass_that_has_no_table_where_one_is_needed_is_refused(plain_bases: Any, mixin: type, name: str) -> None:
    Person = _person(plain_bases, mixin)
    with pytest.raises(
        MappingError, match="Engineer says that it has no table, and each class of its hierarchy needs one"
    ):
        type(Person)("Engineer", (Person,), {name: None})
    assert set(Person.metadata.tables) == {"person"}


# -- concrete ------------------------------------------------------------------------------------


def test_a_concrete_subclass_has_all_columns_its_parents_first(bases: Any) -> None:
    m = models.company(bases, "concrete")
    assert _columns(m.Senior) == ["id", "person_name", "company_id", "language", "status", "years"]


def test_foreign_keys_are_copied_with_their_options(bases: Any) -> None:
    m = models.company(bases, "concrete")
    for cls in (m.Engineer, m.Senior, m.Manager):
        assert _references(cls) == [(["company_id"], ["company.id"])]
        assert [constraint.ondelete for constraint in cls.__table__.foreign_key_constraints] == ["SET NULL"]


def test_composite_foreign_keys_are_copied_with_their_options(declarative_bases: Any) -> None:
    m = models.composite(declarative_bases, "concrete")
    for cls in (m.Machine, m.Robot):
        assert _references(cls) == [(["site_area", "site_number"], ["site.area", "site.number"])]
        assert [constraint.ondelete for constraint in cls.__table__.foreign_key_constraints] == ["CASCADE"]


def _rich(bases: Any) -> Any:
    Base = bases()

    class Person(ConcreteTable, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(Identity(start=5), primary_key=True)
        name: Mapped[str] = mapped_column("the_name", String(20), index=True, unique=True, comment="n", default="x")
        stamp: Mapped[int] = mapped_column(server_default="7", onupdate=8)
        double: Mapped[int] = mapped_column(Computed("stamp * 2"))
        boss_id: Mapped[int | None] = mapped_column(ForeignKey("person.id", name="fk_boss"))
        notes: Mapped[str | None] = deferred(mapped_column(String(20)))

        @hybrid_property
        def loud(self) -> str:
            return self.name.upper()

    class Engineer(Person):
        stamp: Mapped[str | None] = mapped_column(String(20))  # type: ignore[assignment]

    Person.Engineer = Engineer
    return Person


def test_what_a_column_says_is_copied(plain_bases: Any) -> None:
    Engineer = _rich(plain_bases).Engineer
    c = Engineer.__table__.c
    assert (c.id.identity.start, c.double.computed is not None, c.the_name.comment) == (5, True, "n")
    assert (c.the_name.default.arg, c.the_name.nullable, c.notes.nullable) == ("x", False, True)
    assert [index.columns.keys() for index in Engineer.__table__.indexes] == [["the_name"]]
    assert inspect(Engineer).attrs["notes"].deferred is True
    assert Engineer(name="x").loud == "X"


def test_a_column_of_a_mixin_is_copied_as_the_parent_has_it(plain_bases: Any) -> None:
    class Noted:
        @declared_attr
        def note(cls) -> Mapped[str]:
            return mapped_column(String(20), nullable=True)

    class Person(ConcreteTable, Noted, plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        pass

    assert [cls.__table__.c.note.nullable for cls in (Person, Engineer)] == [True, True]


def test_a_column_that_the_subclass_declares_itself_replaces_the_parents(plain_bases: Any) -> None:
    assert isinstance(_rich(plain_bases).Engineer.__table__.c.stamp.type, String)


def test_a_reference_to_its_own_table_refers_to_the_parents(plain_bases: Any) -> None:
    assert _references(_rich(plain_bases).Engineer) == [(["boss_id"], ["person.id"])]


def test_names_of_foreign_keys_are_not_copied(plain_bases: Any) -> None:
    assert [fk.name for fk in _rich(plain_bases).Engineer.__table__.foreign_key_constraints] == [None]


def test_the_attributes_of_the_parent_are_left_as_they_are(plain_bases: Any) -> None:
    Person = _rich(plain_bases)
    assert {column.table for column in inspect(Person).columns} == {Person.__table__}


def test_options_of_references_are_copied(plain_bases: Any) -> None:
    Base = plain_bases()

    class Company(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "company"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Person(ConcreteTable, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        company_id: Mapped[int] = mapped_column(ForeignKey("company.id"))
        company: Mapped[Any] = relationship(lambda: Company, lazy="joined", innerjoin=True, cascade="all")

    class Engineer(Person):
        pass

    configure_mappers()
    company = inspect(Engineer).relationships["company"]
    assert (company.lazy, company.innerjoin, company.cascade.delete) == ("joined", True, True)


def test_a_back_reference_is_shared_by_the_references(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Company(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "company"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Person(ConcreteTable, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        company_id: Mapped[int] = mapped_column(ForeignKey("company.id"))
        company = relationship(lambda: Company, backref="people")

    class Engineer(Person):
        pass

    Base.metadata.create_all(engine)
    company = Company()
    session.add(company)
    company.people.append(Engineer())  # type: ignore[attr-defined]
    session.commit()
    assert [type(each) for each in company.people] == [Engineer]  # type: ignore[attr-defined]


def _shape(bases: Any) -> Any:
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}

    class Shape(ConcreteTable, bases()):  # type: ignore[misc]
        __tablename__ = "shape"
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        name: Mapped[str] = mapped_column("shape_name", String(20))
        center: Mapped[Point] = composite(Point, mapped_column("center_x"), mapped_column("center_y"))
        title: Mapped[str] = synonym("name", **no_init)

    class Circle(Shape):
        radius: Mapped[int]

    return SimpleNamespace(Shape=Shape, Circle=Circle)


def _tables(statement: Any) -> set[str]:
    return {table.name for table in visitors.iterate(statement) if isinstance(table, sa.Table)}


def test_a_synonym_of_a_concrete_class_is_about_its_table(plain_bases: Any) -> None:
    m = _shape(plain_bases)
    assert _tables(select(m.Circle.id).where(m.Circle.title == "x")) == {"circle"}


def test_a_composite_of_a_concrete_class_is_about_its_table(plain_bases: Any) -> None:
    m = _shape(plain_bases)
    assert _tables(select(m.Circle.id).where(m.Circle.center == Point(1, 2))) == {"circle"}


def test_synonyms_and_composites_of_concrete_objects_are_stored(
    declarative_bases: Any, engine: Engine, session: Session
) -> None:
    m = _shape(declarative_bases)
    m.Shape.metadata.create_all(engine)
    session.add(m.Circle(name="x", center=Point(1, 2), radius=3))
    session.commit()
    circle = session.scalars(select(m.Circle).where(m.Circle.center == Point(1, 2), m.Circle.title == "x")).one()
    assert (circle.title, circle.center) == ("x", Point(1, 2))


def test_what_cannot_be_copied_is_explained_on_use(plain_bases: Any) -> None:
    Base = plain_bases()

    class Person(ConcreteTable, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        boss_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
        boss: Mapped[Any] = relationship(lambda: Person, remote_side=[id])
        staff: Mapped[list[Any]] = relationship(lambda: Person, viewonly=True)

    class Engineer(Person):
        pass

    configure_mappers()
    engineer = Engineer()
    for name in ("boss", "staff"):
        with pytest.raises(AttributeError, match="Add this property explicitly"):
            getattr(engineer, name)


def test_a_table_of_the_user_with_a_type_column_is_no_trouble(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()

    class Person(ConcreteTable, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        type: Mapped[str] = mapped_column(String(20))

    class Engineer(Person):
        pass

    Base.metadata.create_all(engine)
    session.add_all([Person(type="x"), Engineer(type="y")])
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Person).order_by(Person.type)).all()
    assert [(type(each), each.type) for each in found] == [(Person, "x"), (Engineer, "y")]


def test_a_concrete_class_that_is_defined_too_late_is_refused(plain_bases: Any) -> None:
    Person = _person(plain_bases, ConcreteTable)

    class Engineer(Person):
        pass

    configure_mappers()
    for parent in (Person, Engineer):
        with pytest.raises(MappingError, match=r"Late was defined after queries for .* were prepared"):
            type(parent)("Late", (parent,), {})
    assert "late" not in Person.metadata.tables


def test_a_concrete_table_of_the_users_is_kept(plain_bases: Any) -> None:
    Person = _person(plain_bases, ConcreteTable)

    class Engineer(Person):
        __table__ = sa.Table("engineers", Person.metadata, sa.Column("id", sa.Integer, primary_key=True))

    configure_mappers()
    assert _columns(Engineer) == ["id"]
