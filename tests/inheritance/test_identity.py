"""Identities and discriminators: what a class gets, what the user declares, and what is refused."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from sqlalchemy import Enum, Integer, MetaData, String, inspect
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, registry
from sqlalchemy.orm import synonym as synonym_of

from sqla_patterns.exceptions import MappingError, PatternError
from sqla_patterns.inheritance import ConcreteTable, JoinedTable, PolymorphicIdentity, SingleTable
from sqla_patterns.inheritance._classes import snake_case

from ._models import STRATEGIES


class Kind(enum.Enum):
    PERSON = "p"
    ENGINEER = "e"


def _person(bases: Any, mixin: type = SingleTable, **options: Any) -> Any:
    class Person(mixin, bases(), **options):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Person


def _identity(cls: type[Any]) -> Any:
    return inspect(cls).polymorphic_identity


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Person", "person"),
        ("SeniorEngineer", "senior_engineer"),
        ("HTTPServer", "http_server"),
        ("Ipv4Host", "ipv4_host"),
    ],
)
def test_names_of_classes_are_put_into_snake_case(name: str, wanted: str) -> None:
    assert snake_case(name) == wanted


def test_the_type_column_is_made_not_null_with_room_for_fifty_characters(plain_bases: Any) -> None:
    column = _person(plain_bases).__table__.c.type
    assert isinstance(column.type, String)
    assert (column.type.length, column.nullable) == (50, False)


def test_a_type_column_of_the_users_is_the_discriminator(plain_bases: Any) -> None:
    class Person(SingleTable, plain_bases(), identity=1):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        type: Mapped[int] = mapped_column("person_type")

    class Engineer(Person, identity=2):
        pass

    assert [column.name for column in Person.__table__.c] == ["id", "person_type"]
    assert (Person().type, Engineer().type) == (1, 2)


def test_a_type_column_of_a_mixin_is_the_discriminator(plain_bases: Any) -> None:
    class Typed:
        @declared_attr
        def type(cls) -> Mapped[str]:
            return mapped_column("kind", String(8))

    class Person(SingleTable, Typed, plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        pass

    assert [column.name for column in Person.__table__.c] == ["id", "kind"]
    assert Engineer().type == "engineer"


def test_a_type_that_is_only_annotated_is_the_discriminator(plain_bases: Any) -> None:
    class Person(SingleTable, plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        type: Mapped[str]

    assert Person().type == "person"


@pytest.mark.parametrize("by", ["name", "column"])
def test_another_discriminator_of_the_users_is_kept(plain_bases: Any, by: str) -> None:
    class Person(SingleTable, plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind" if by == "name" else kind}

    class Engineer(Person):
        pass

    assert [column.name for column in Person.__table__.c] == ["id", "kind"]
    assert Engineer().kind == "engineer"


def test_other_mapper_arguments_are_kept(plain_bases: Any) -> None:
    class Eager:
        __mapper_args__ = {"eager_defaults": True}

    class Person(SingleTable, Eager, plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        __mapper_args__ = {"polymorphic_load": "selectin"}

    assert inspect(Person).eager_defaults is True
    assert (_identity(Engineer), inspect(Engineer).polymorphic_load) == ("engineer", "selectin")


def test_mapper_arguments_may_be_declared_by_a_function(plain_bases: Any) -> None:
    class Person(SingleTable, plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:
            return {"polymorphic_identity": f"the {cls.__name__}"}

    assert _identity(Person) == "the Person"


def test_an_identity_of_the_users_mapper_arguments_is_kept(plain_bases: Any) -> None:
    class Engineer(_person(plain_bases)):  # type: ignore[misc]
        __mapper_args__ = {"polymorphic_identity": "eng"}

    assert _identity(Engineer) == "eng"


def test_an_enum_discriminator_takes_its_members(plain_bases: Any) -> None:
    class Person(SingleTable, plain_bases(), identity=Kind.PERSON):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        type: Mapped[Kind]

    class Engineer(Person, identity=Kind.ENGINEER):
        pass

    assert (Person().type, Engineer().type) == (Kind.PERSON, Kind.ENGINEER)


def test_a_polymorphic_abstract_class_has_no_identity(plain_bases: Any) -> None:
    class Worker(_person(plain_bases)):  # type: ignore[misc]
        __mapper_args__ = {"polymorphic_abstract": True}

    class Engineer(Worker):
        pass

    assert (_identity(Worker), _identity(Engineer)) == (None, "engineer")


def test_an_abstract_class_between_is_no_class_of_the_hierarchy(plain_bases: Any) -> None:
    class Worker(_person(plain_bases)):  # type: ignore[misc]
        __abstract__ = True

    class Engineer(Worker):
        pass

    assert _identity(Engineer) == "engineer"
    assert inspect(Engineer).inherits.class_.__name__ == "Person"


def test_a_base_with_the_mixin_starts_a_hierarchy_with_each_class() -> None:
    class Base(SingleTable, DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        pass

    class House(Base):
        __tablename__ = "house"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert [_identity(cls) for cls in (Person, Engineer, House)] == ["person", "engineer", "house"]
    assert "type" in House.__table__.c


def test_tables_can_be_declared_by_hand_with_polymorphic_identity(plain_bases: Any) -> None:
    from sqlalchemy import ForeignKey

    Person = _person(plain_bases, PolymorphicIdentity)

    class Engineer(Person):
        __tablename__ = "the_engineers"
        id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)

    class Clerk(Person):
        pass

    assert [inspect(cls).local_table.name for cls in (Person, Engineer, Clerk)] == ["person", "the_engineers", "person"]


def test_a_single_table_can_stand_below_a_joined_one(plain_bases: Any) -> None:
    class Engineer(_person(plain_bases, JoinedTable)):  # type: ignore[misc]
        pass

    class Senior(SingleTable, Engineer):
        years: Mapped[int | None]

    assert inspect(Senior).local_table.name == "engineer"
    assert [column.name for column in Engineer.__table__.c] == ["id", "years"]


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mixin", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("identity", ["person", "engineer"])
def test_a_duplicate_identity_is_refused_and_leaves_no_table(plain_bases: Any, mixin: type, identity: str) -> None:
    Person = _person(plain_bases, mixin)

    class Engineer(Person):
        pass

    tables = set(Person.metadata.tables)
    with pytest.raises(
        MappingError, match=f"Other has the identity '{identity}', which is that of {identity.title()}"
    ) as raised:

        class Other(Engineer, identity=identity):
            pass

    assert isinstance(raised.value, PatternError)
    assert isinstance(raised.value, ArgumentError)
    assert set(Person.metadata.tables) == tables
    assert {mapper.class_.__name__ for mapper in inspect(Person).self_and_descendants} == {"Person", "Engineer"}


def test_a_second_class_of_one_name_is_a_duplicate(plain_bases: Any) -> None:
    Person = _person(plain_bases)
    type(Person)("Engineer", (Person,), {})
    with pytest.raises(MappingError, match=r"give it another: class Engineer\(\.\.\., identity="):
        type(Person)("Engineer", (Person,), {})


def test_two_hierarchies_may_have_one_identity(plain_bases: Any) -> None:
    assert [_identity(_person(plain_bases)) for _ in range(2)] == ["person", "person"]


@pytest.mark.parametrize(
    ("column_type", "identity", "fault"),
    [
        (String(5), "engineer", "must not be longer than 5"),
        (String(50), 5, "must be a string"),
        (Integer(), "engineer", "must be of type int"),
        (Enum(Kind), "engineer", "must be one of <Kind.PERSON"),
        (Enum("p", "e"), "x", "must be one of 'p', 'e'"),
    ],
)
def test_an_identity_that_does_not_fit_the_column_is_refused(
    plain_bases: Any, column_type: Any, identity: Any, fault: str
) -> None:
    first: Any = {Integer: 1, Enum: Kind.PERSON}.get(type(column_type), "p")
    first = "p" if getattr(column_type, "enum_class", Kind) is None else first

    class Person(SingleTable, plain_bases(), identity=first):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        type = mapped_column(column_type)

    with pytest.raises(MappingError) as raised:

        class Engineer(Person, identity=identity):
            pass

    assert f"Engineer has the identity {identity!r}, which {fault}" in str(raised.value)


def test_the_identity_of_the_first_class_must_fit_too(plain_bases: Any) -> None:
    with pytest.raises(MappingError, match="Person has the identity 'person', which must be of type int"):

        class Person(SingleTable, plain_bases()):  # type: ignore[misc]
            __tablename__ = "person"
            id: Mapped[int] = mapped_column(primary_key=True)
            type: Mapped[int]


def test_a_type_that_is_no_column_is_refused(plain_bases: Any) -> None:
    with pytest.raises(MappingError, match=r"Person\.type is .* and not the column that tells the classes apart"):

        class Person(SingleTable, plain_bases()):  # type: ignore[misc]
            __tablename__ = "person"
            id: Mapped[int] = mapped_column(primary_key=True)
            type = synonym_of("id")


def test_two_different_identities_of_a_class_are_refused(plain_bases: Any) -> None:
    Person = _person(plain_bases)
    with pytest.raises(MappingError, match="identity='one', and its __mapper_args__ say 'two'"):

        class Engineer(Person, identity="one"):
            __mapper_args__ = {"polymorphic_identity": "two"}


def test_the_identity_none_is_refused(plain_bases: Any) -> None:
    Person = _person(plain_bases)
    with pytest.raises(MappingError, match="Engineer was given the identity None"):

        class Engineer(Person, identity=None):
            pass


def test_an_identity_of_a_polymorphic_abstract_class_is_refused(plain_bases: Any) -> None:
    Person = _person(plain_bases)
    with pytest.raises(MappingError, match="is polymorphic_abstract, so that no row is of it"):

        class Engineer(Person, identity="engineer"):
            __mapper_args__ = {"polymorphic_abstract": True}


def test_an_identity_of_a_class_that_is_not_mapped_is_refused() -> None:
    with pytest.raises(MappingError, match="Mixin was given identity='x' and is no class that is mapped"):

        class Mixin(SingleTable, identity="x"):
            pass


@pytest.mark.parametrize("mixin", STRATEGIES.values(), ids=STRATEGIES)
def test_a_mixin_after_the_declarative_base_is_refused(plain_bases: Any, mixin: type) -> None:
    Base = plain_bases()
    with pytest.raises(MappingError, match="name the mixin before the declarative base"):

        class Person(Base, mixin):  # type: ignore[misc,valid-type]
            __tablename__ = "person"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_a_class_below_one_without_a_discriminator_is_refused(plain_bases: Any) -> None:
    class Person(plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MappingError, match="Person, which has no column that tells its classes apart"):

        class Engineer(JoinedTable, Person):
            pass


def test_a_class_below_one_with_a_discriminator_of_the_users_fits_in(plain_bases: Any) -> None:
    class Person(plain_bases()):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Engineer(JoinedTable, Person):
        pass

    assert (Engineer().kind, inspect(Engineer).local_table.name) == ("engineer", "engineer")


@pytest.mark.parametrize(("above", "below"), [(ConcreteTable, JoinedTable), (SingleTable, ConcreteTable)])
def test_concrete_tables_are_not_mixed_with_other_strategies(plain_bases: Any, above: type, below: type) -> None:
    Person = _person(plain_bases, above)
    with pytest.raises(MappingError, match="use one strategy for the whole hierarchy"):

        class Engineer(below, Person):  # type: ignore[misc,valid-type]
            pass


def test_tables_hold_nothing_of_the_librarys(plain_bases: Any) -> None:
    metadata: MetaData = _person(plain_bases).metadata
    assert [(table.info, [column.info for column in table.c]) for table in metadata.tables.values()] == [({}, [{}, {}])]


def test_a_registry_maps_a_class_whose_table_is_declared() -> None:
    from sqlalchemy import Column, Table

    mapping = registry()

    @mapping.mapped
    class Person(SingleTable):
        __table__ = Table(
            "person",
            mapping.metadata,
            Column("id", Integer, primary_key=True),
            Column("type", String(10)),
        )

    @mapping.mapped
    class Engineer(Person):
        pass

    assert Engineer().type == "engineer"


def test_a_legacy_declarative_base_is_a_base() -> None:
    from sqlalchemy import Column
    from sqlalchemy.orm import declarative_base

    Base: Any = declarative_base()

    class Person(JoinedTable, Base):
        __tablename__ = "person"
        id = Column(Integer, primary_key=True)

    class Engineer(Person, identity="e"):
        pass

    assert (Engineer().type, inspect(Engineer).local_table.name) == ("e", "engineer")


def test_classes_that_a_registry_makes_dataclasses_work() -> None:
    mapping = registry()

    @mapping.mapped_as_dataclass
    class Person(JoinedTable):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column(String(20))

    @mapping.mapped_as_dataclass
    class Engineer(Person):
        language: Mapped[str] = mapped_column(String(20), default="C")

    engineer = Engineer("Ada")
    assert (engineer.type, engineer.name, engineer.language) == ("engineer", "Ada", "C")


def test_a_table_without_a_discriminator_is_refused(plain_bases: Any) -> None:
    from sqlalchemy import Column, Table

    Base = plain_bases()
    with pytest.raises(MappingError, match="its __table__ has no 'type'"):

        class Person(SingleTable, Base):  # type: ignore[misc,valid-type]
            __table__ = Table("person", Base.metadata, Column("id", Integer, primary_key=True))
