"""Tables: keys, indexes, the CHECK, migrations, and mappings that are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    column,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import (
    Session,
    attribute_keyed_dict,
    configure_mappers,
    mapped_column,
    relationship,
)

from sqla_patterns.exceptions import MappingError
from sqla_patterns.vertical import (
    PlainVerticalValue,
    VerticalAttributes,
    VerticalMapping,
    VerticalValue,
    VerticalValueOptions,
    value_column,
)
from tests._support import assert_migrates
from tests.vertical import _models as models

CONVENTION = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


def _indexes(table: Any) -> dict[str, list[str]]:
    return {index.name: [column.name for column in index.columns] for index in table.indexes}


def _checks(table: Any) -> list[str]:
    return [each.name for each in table.constraints if isinstance(each, CheckConstraint)]


def test_the_typed_variant_has_a_key_a_type_and_two_indexes_for_each_column(bases: Any) -> None:
    table = models.zoo(bases).Fact.__table__
    assert [column.name for column in table.primary_key] == ["animal_id", "key"]
    assert _indexes(table) == {
        "ix_animal_fact_key_int_value": ["key", "int_value"],
        "ix_animal_fact_key_text_value": ["key", "text_value"],
        "ix_animal_fact_key_bool_value": ["key", "bool_value"],
        "ix_animal_fact_int_value": ["int_value"],
        "ix_animal_fact_text_value": ["text_value"],
        "ix_animal_fact_bool_value": ["bool_value"],
        "ix_animal_fact_type": ["type"],
    }
    assert _checks(table) == ["ck_animal_fact_one_value"]
    assert table.c.type.nullable


def test_the_plain_variant_has_a_key_and_two_indexes(bases: Any) -> None:
    table = models.zoo(bases, plain=True).Fact.__table__
    assert [column.name for column in table.columns] == ["animal_id", "key", "value"]
    assert _indexes(table) == {"ix_animal_fact_key_value": ["key", "value"], "ix_animal_fact_value": ["value"]}
    assert _checks(table) == []


def test_documents_bytes_and_long_texts_have_no_index(bases: Any) -> None:
    names = _indexes(models.things(bases).Fact.__table__)
    assert not any("dict" in name or "list" in name or "bytes" in name for name in names)
    assert len(names) == 21


def test_long_texts_have_no_index_unless_it_is_asked_for(plain_bases: Any) -> None:
    Fact = _map(plain_bases, VerticalValue, a=value_column(int), b=value_column(str, Text()))
    assert set(_indexes(Fact.__table__)) == {"ix_fact_key_a", "ix_fact_a", "ix_fact_type"}


@pytest.mark.parametrize("sql_type", [String(1000), Text()], ids=["a long String", "Text"])
def test_the_beginning_of_a_long_text_is_indexed_where_not_all_of_it_can_be(
    plain_bases: Any, engine: Engine, session: Session, sql_type: Any
) -> None:
    Fact = _map(plain_bases, VerticalValue, a=value_column(str, sql_type, index=True))
    Fact.metadata.create_all(engine)
    session.add(Fact(id="1", key="k", value="x" * 900))
    session.commit()
    lengths = {str(index.name): index.dialect_options["mysql"]["length"] for index in Fact.__table__.indexes}
    assert lengths == {"ix_fact_key_a": {"a": 704}, "ix_fact_a": {"a": 768}, "ix_fact_type": None}
    assert session.scalars(select(Fact.id).where(Fact.a == "x" * 900)).all() == ["1"]


def test_an_index_can_be_left_out(plain_bases: Any) -> None:
    class Fact(VerticalValue, plain_bases()):  # type: ignore[misc]
        __tablename__ = "fact"
        id = mapped_column(String(10), primary_key=True)
        int_value = value_column(int, index=False)
        str_value = value_column(str)

    assert set(_indexes(Fact.__table__)) == {"ix_fact_key_str_value", "ix_fact_str_value", "ix_fact_type"}


def test_a_table_without_an_index_over_a_value_has_none_over_the_type(plain_bases: Any) -> None:
    Fact = _map(plain_bases, VerticalValue, a=value_column(int, index=False), b=value_column(dict))
    assert _indexes(Fact.__table__) == {}


@pytest.mark.parametrize("mixin", [VerticalValue, PlainVerticalValue])
def test_the_indexes_without_the_key_can_be_left_out(plain_bases: Any, mixin: type[Any]) -> None:
    options = VerticalValueOptions(any_value_index=False)
    Fact = _map(plain_bases, mixin, __vertical_value__=options, int_value=value_column(int))
    assert _indexes(Fact.__table__) == {"ix_fact_key_int_value": ["key", "int_value"]}


def test_options_may_come_from_a_mixin(plain_bases: Any) -> None:
    class Frugal(VerticalValue):
        __vertical_value__ = VerticalValueOptions(any_value_index=False)

    Fact = _map(plain_bases, Frugal, int_value=value_column(int))
    assert list(_indexes(Fact.__table__)) == ["ix_fact_key_int_value"]


@pytest.mark.parametrize("given", [False, {"any_value_index": False}, VerticalValueOptions])
def test_options_that_are_none_are_refused(plain_bases: Any, given: Any) -> None:
    with pytest.raises(MappingError, match=r"Fact\.__vertical_value__ is .*; give VerticalValueOptions\(\.\.\.\)"):
        _map(plain_bases, VerticalValue, __vertical_value__=given, int_value=value_column(int))


def test_a_naming_convention_makes_the_names(plain_bases: Any) -> None:
    class Fact(VerticalValue, plain_bases(metadata=MetaData(naming_convention=CONVENTION))):  # type: ignore[misc]
        __tablename__ = "fact"
        id = mapped_column(String(10), primary_key=True)
        int_value = value_column(int)

    assert set(_indexes(Fact.__table__)) == {"ix_fact_key_fact_int_value", "ix_fact_int_value", "ix_fact_type"}
    assert _checks(Fact.__table__) == ["ck_fact_one_value"]


def test_a_naming_convention_without_the_columns_gives_each_index_a_name(plain_bases: Any, engine: Engine) -> None:
    convention = {"ix": "ix_%(table_name)s"}

    class Fact(VerticalValue, plain_bases(metadata=MetaData(naming_convention=convention))):  # type: ignore[misc]
        __tablename__ = "fact"
        id = mapped_column(String(10), primary_key=True)
        int_value = value_column(int)
        str_value = value_column(str)

    assert len(_indexes(Fact.__table__)) == 5
    Fact.metadata.create_all(engine)
    assert len(inspect(engine).get_indexes("fact")) == 5


def test_the_metadata_pickles(plain_bases: Any) -> None:
    metadata = pickle.loads(pickle.dumps(models.zoo(plain_bases).Base.metadata))
    assert len(_indexes(metadata.tables["animal_fact"])) == 7


def test_long_names_are_shortened(plain_bases: Any, engine: Engine) -> None:
    Base = plain_bases()

    class Fact(VerticalValue, Base):  # type: ignore[misc, valid-type]
        __tablename__ = "fact_with_a_name_that_is_about_as_long_as_any_database_allows"
        id = mapped_column(String(10), primary_key=True)
        int_value = value_column(int)
        str_value = value_column(str)

    names = set(_indexes(Fact.__table__))
    assert len(names) == 5
    assert all(len(name) <= 63 for name in [*names, *_checks(Fact.__table__)])
    Base.metadata.create_all(engine)
    assert {index["name"] for index in inspect(engine).get_indexes(Fact.__tablename__)} == names


def test_nothing_of_the_librarys_stays_in_the_metadata(bases: Any) -> None:
    for m in (models.zoo(bases), models.zoo(bases, plain=True), models.things(bases)):
        for table in m.Base.metadata.tables.values():
            assert table.info == {}
            assert [column.info for column in table.columns if column.info] == []


@pytest.mark.parametrize("variant", ["typed", "plain", "things", "surrogates", "convention", "long"])
def test_tables_are_migrated_by_alembic(plain_bases: Any, engine: Engine, variant: str) -> None:
    make: dict[str, Callable[[], Any]] = {
        "typed": lambda: models.zoo(plain_bases),
        "plain": lambda: models.zoo(plain_bases, plain=True),
        "things": lambda: models.things(plain_bases),
        "surrogates": lambda: models.surrogates(plain_bases),
        "convention": lambda: models.zoo(_Conventional(plain_bases)),
        "long": lambda: models.one_type(plain_bases, str, String(1000)),
    }
    m = make[variant]()
    assert_migrates(
        engine,
        m.Base.metadata,
        "import sqla_patterns.vertical\nimport tests.vertical.user_types\nfrom sqlalchemy.dialects import mysql",
    )


class _Conventional:
    """A factory of bases with a naming convention."""

    kind = "plain"

    def __init__(self, bases: Any) -> None:
        self._bases = bases

    def __call__(self) -> Any:
        return self._bases(metadata=MetaData(naming_convention=CONVENTION))


# -- the CHECK ---------------------------------------------------------------------------------------


@pytest.fixture
def facts(plain_bases: Any, engine: Engine) -> Any:
    m = models.zoo(plain_bases)
    m.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(m.Animal.__table__), {"id": 1})
    return m.Fact.__table__


@pytest.mark.parametrize(
    "values",
    [
        {"type": "int", "int_value": 1, "text_value": "x"},
        {"type": None, "int_value": 1},
        {"type": "str", "int_value": 1},
        {"type": "complex", "bool_value": True},
    ],
)
def test_the_database_refuses_a_value_in_another_column_than_its_types(
    facts: Any, engine: Engine, values: dict[str, Any]
) -> None:
    with engine.connect() as connection, pytest.raises(DBAPIError):
        connection.execute(insert(facts), {"animal_id": 1, "key": "a", **values})


@pytest.mark.parametrize(
    "values", [{"type": "int", "int_value": 1}, {"type": "bool", "bool_value": False}, {"type": None}]
)
def test_the_database_takes_a_value_in_the_column_of_its_type(
    facts: Any, engine: Engine, values: dict[str, Any]
) -> None:
    with engine.begin() as connection:
        connection.execute(insert(facts), {"animal_id": 1, "key": "a", **values})


# -- mappings that are refused -------------------------------------------------------------------------


def _map(bases: Any, mixin: type[Any], **attributes: Any) -> Any:
    Base = bases()
    attributes = {"__tablename__": "fact", "id": mapped_column(String(10), primary_key=True), **attributes}
    return type("Fact", (mixin, Base), attributes)


@pytest.mark.parametrize(
    ("mixin", "attributes", "text"),
    [
        (VerticalValue, {}, r"VerticalValue on 'Fact' needs at least one value column and has 0; map one as in"),
        (PlainVerticalValue, {}, r"PlainVerticalValue on 'Fact' needs exactly one value column and has 0"),
        (PlainVerticalValue, {"a": int, "b": str}, r"needs exactly one value column and has 2"),
        (VerticalValue, {"a": int, "b": int}, r"'Fact' has two value columns for int, 'a' and 'b'; keep one"),
    ],
)
def test_value_columns_that_make_no_sense_are_refused(
    plain_bases: Any, mixin: type[Any], attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(MappingError, match=text):
        _map(plain_bases, mixin, **{name: value_column(each) for name, each in attributes.items()})


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (
            {"key": mapped_column(Integer, primary_key=True)},
            r"Fact\.key is a column of type Integer\(\), and VerticalValue adds a column of that name",
        ),
        ({"key": None}, "needs a column for texts as 'key', and has None"),
        ({"type": mapped_column(Integer)}, r"Fact\.type is a column of type Integer\(\), and VerticalValue adds"),
        ({"type": mapped_column(String(10), nullable=False)}, r"Fact\.type is NOT NULL, .*; write nullable=True"),
    ],
)
def test_a_column_of_the_users_in_place_of_the_mixins_must_fit(
    plain_bases: Any, attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(MappingError, match=text):
        _map(plain_bases, VerticalValue, int_value=value_column(int), **attributes)


def test_a_column_of_the_users_in_place_of_the_mixins_is_taken(plain_bases: Any) -> None:
    Fact = _map(
        plain_bases,
        VerticalValue,
        int_value=value_column(int),
        key=mapped_column("fact_key", String(200), primary_key=True),
        type=mapped_column("fact_type", String(10)),
    )
    assert _indexes(Fact.__table__) == {
        "ix_fact_fact_key_int_value": ["fact_key", "int_value"],
        "ix_fact_int_value": ["int_value"],
        "ix_fact_fact_type": ["fact_type"],
    }


def test_an_index_of_the_users_is_not_made_twice(plain_bases: Any) -> None:
    declared = (Index("one", "key", "int_value"), Index("two", "int_value", "id"), Index("three", "type"))
    Fact = _map(plain_bases, VerticalValue, int_value=value_column(int), __table_args__=declared)
    assert set(_indexes(Fact.__table__)) == {"one", "two", "three"}


def test_an_index_of_the_users_over_an_expression_is_another(plain_bases: Any) -> None:
    declared = (Index("lower", text("lower(str_value)")), Index("more", "key", func.lower(column("str_value"))))
    Fact = _map(plain_bases, VerticalValue, str_value=value_column(str), __table_args__=declared)
    assert {"ix_fact_key_str_value", "ix_fact_str_value"} < set(_indexes(Fact.__table__))


def test_two_columns_with_one_type_name_are_refused(plain_bases: Any) -> None:
    with pytest.raises(
        MappingError, match="two value columns with the type name 'int', 'a' and 'b'; give one of them another"
    ):
        _map(plain_bases, VerticalValue, a=value_column(int), b=value_column(str, type_name="int"))


def test_a_type_name_that_is_too_long_is_refused(plain_bases: Any) -> None:
    with pytest.raises(MappingError, match="longer than 64 characters"):
        _map(plain_bases, VerticalValue, a=value_column(int, type_name="x" * 65))


def test_a_subclass_cannot_add_value_columns(plain_bases: Any) -> None:
    Fact = _map(plain_bases, VerticalValue, a=value_column(int))
    with pytest.raises(MappingError, match="'More' adds value columns to those of 'Fact'"):
        type("More", (Fact,), {"b": value_column(str)})


def test_value_columns_may_come_from_a_mixin(plain_bases: Any) -> None:
    class Values(VerticalValue):
        int_value = value_column(int)

    Base = plain_bases()
    for name in ("one", "two"):
        namespace = {"__tablename__": name, "id": mapped_column(String(10), primary_key=True)}
        cls: Any = type(name.title(), (Values, Base), namespace)
        assert set(_indexes(cls.__table__)) == {f"ix_{name}_{each}" for each in ("key_int_value", "int_value", "type")}
        assert cls.__table__.c.int_value.info == {}


def _owner(bases: Any, **options: Any) -> Any:
    """Map animals whose relationship has other options than it should."""
    Base = bases()
    wanted: dict[str, Any] = {
        "collection_class": attribute_keyed_dict("key"),
        "cascade": "all, delete-orphan",
        "primary_key": True,
        "name": "facts",
        **options,
    }
    target = wanted.pop("target", "Fact")
    name, primary_key = wanted.pop("name"), wanted.pop("primary_key")
    facts: dict[str, Any] = {
        "__tablename__": "fact",
        "animal_id": mapped_column(ForeignKey("animal.id"), primary_key=primary_key),
        "int_value": value_column(int),
    }
    if not primary_key:
        facts["id"] = mapped_column(String(10), primary_key=True)
        facts["key"] = mapped_column(String(10))
    type("Fact", (VerticalValue, Base), facts)
    animal = {
        "__tablename__": "animal",
        "id": mapped_column(String(10), primary_key=True),
        "boss_id": mapped_column(ForeignKey("animal.id")),
        "facts": relationship(target, **wanted),
        "attrs": VerticalAttributes[int](name),
    }
    return type("Animal", (Base,), animal)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"name": "nothing"},
            r"Animal\.attrs goes through 'nothing', which is no relationship of Animal to a class with",
        ),
        (
            {"target": "Animal", "cascade": "all", "collection_class": None},
            r"goes through 'facts', which is no relationship",
        ),
        (
            {"collection_class": list},
            r"which is no dictionary; map it with collection_class=attribute_keyed_dict\(\"key\"\)",
        ),
        (
            {"cascade": "all"},
            r"whose rows would stay when a key is deleted; map it with cascade=\"all, delete-orphan\"",
        ),
        ({"primary_key": False}, r"whose table may have a key twice for one Animal; make the foreign key a part"),
    ],
)
def test_a_relationship_that_would_lose_rows_is_refused_when_mappers_are_configured(
    plain_bases: Any, options: dict[str, Any], text: str
) -> None:
    _owner(plain_bases, **options)
    with pytest.raises(MappingError, match=text):
        configure_mappers()


def test_the_relationship_as_it_should_be_is_taken(plain_bases: Any) -> None:
    Animal = _owner(plain_bases)
    configure_mappers()
    assert Animal().attrs == {}


def test_a_mapping_without_the_name_of_its_relationship_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    with pytest.raises(
        MappingError, match=r'VerticalMapping on .Animal. needs the name .* write __vertical__ = "facts"'
    ):
        type(
            "Animal",
            (VerticalMapping, Base),
            {"__tablename__": "animal", "id": mapped_column(String(10), primary_key=True)},
        )


def test_a_class_of_values_that_is_not_mapped_says_so() -> None:
    class Unmapped(VerticalValue):
        pass

    from sqla_patterns.exceptions import StateError

    with pytest.raises(StateError, match="'Unmapped' is not mapped; map it to a table"):
        _ = Unmapped().value


def test_annotated_value_columns_count(plain_bases: Any) -> None:
    m = models.annotated(plain_bases)
    animal = m.Animal()
    animal.attrs["x"] = 5
    assert animal.attrs["x"] == 5
    assert m.Fact.__table__.c.int_value.info == {}


def test_an_attribute_that_is_assigned_after_the_class_was_made_is_refused(plain_bases: Any) -> None:
    Animal = models.zoo(plain_bases).Animal
    Animal.late = VerticalAttributes[Any]("facts")
    with pytest.raises(MappingError, match=r"over 'facts' was assigned to Animal .*; write it in the class body"):
        Animal.late["x"]


@pytest.mark.parametrize("use", [lambda cls: cls.attrs["x"], lambda cls: cls().attrs])
def test_an_attribute_of_a_class_that_is_not_mapped_says_so(use: Callable[[Any], Any]) -> None:
    class HasAttributes:
        attrs = VerticalAttributes[int]("facts")

    with pytest.raises(MappingError, match=r"HasAttributes\.attrs cannot be used, .* is not mapped; map the class"):
        use(HasAttributes)


def test_a_subclass_may_be_the_dictionary_of_another_relationship(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    m = models.inherited(plain_bases)

    class DogFact(VerticalValue, m.Base):  # type: ignore[misc, name-defined]
        __tablename__ = "dog_fact"
        animal_id = mapped_column(ForeignKey("animal.id"), primary_key=True)
        int_value = value_column(int)

    class Pet(VerticalMapping[int], m.Animal):  # type: ignore[misc, name-defined]
        __mapper_args__ = {"polymorphic_identity": "pet"}
        __vertical__ = "facts"

    class Puppy(Pet):
        __mapper_args__ = {"polymorphic_identity": "puppy"}
        __vertical__ = "puppy_facts"
        puppy_facts = models.by_key(argument=DogFact)

    m.Base.metadata.create_all(engine)
    session.add(puppy := Puppy())
    puppy["x"] = 1
    session.commit()
    assert [row.value for row in puppy.puppy_facts.values()] == [1]


@pytest.mark.parametrize("names", [("i", "x"), ("int", "text")])
def test_indexes_have_names_of_their_own_whatever_the_columns_are_called(
    plain_bases: Any, names: tuple[str, str]
) -> None:
    Fact = _map(
        plain_bases,
        VerticalValue,
        __tablename__="int_text_fact",
        **{names[0]: value_column(int), names[1]: value_column(str)},
    )
    expected = {f"ix_int_text_fact_{each}" for each in (*names, *(f"key_{name}" for name in names), "type")}
    assert set(_indexes(Fact.__table__)) == expected
