"""Conditions and values in SQL, against what Python says of the same values."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ColumnElement, Engine, delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased, joinedload, selectinload, with_loader_criteria

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.vertical import KeyCriteria, UnknownKeyError, UnsupportedValueError, VerticalCriteria, VerticalSchema
from tests.vertical import _models as models
from tests.vertical._forms import FORMS, TEXT_FORMS
from tests.vertical._models import SAMPLES, Zoo
from tests.vertical.user_types import Colour, Euros, Money

#: Animals and their facts; the typed variant's.
FACTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "int": {"x": 5, "y": 1},
    "text": {"x": "5", "y": 5},
    "true": {"x": True},
    "false": {"x": False},
    "none": {"x": None, "y": 5},
    "seven": {"x": 7},
}
TEXTS: dict[str, dict[str, str | None]] = {
    "nothing": {},
    "5": {"x": "5", "y": "1"},
    "7": {"x": "7"},
    "none": {"x": None, "y": "5"},
    "empty": {"x": ""},
}


def _fill(m: Zoo, engine: Engine, session: Session, facts: dict[str, dict[str, Any]]) -> Any:
    m.Base.metadata.create_all(engine)
    for name, values in facts.items():
        animal = m.Animal(name=name)
        animal.attrs = values
        session.add(animal)
    session.commit()
    return m.Animal


def _names(session: Session, animal: Any, *conditions: ColumnElement[bool]) -> set[str]:
    return set(session.scalars(select(animal.name).where(*conditions)))


# -- the forms ---------------------------------------------------------------------------------------

#: What each form matches.
MATCHES: dict[str, set[str]] = {
    "== 5": {"int"},
    "== '5'": {"text"},
    "== True": {"true"},
    "== False": {"false"},
    "== 1": set(),
    "== None": {"none"},
    "!= 5": {"text", "true", "false", "none", "seven"},
    "!= None": {"int", "text", "true", "false", "seven"},
    "~(== 5)": {"nothing", "text", "true", "false", "none", "seven"},
    "~(!= 5)": {"nothing", "int"},
    "< 7": {"int"},
    "<= 7": {"int", "seven"},
    "> 5": {"seven"},
    ">= 5": {"int", "seven"},
    "> '4'": {"text"},
    "in_": {"int", "text", "none"},
    "in_ of one type": {"int", "seven"},
    "~in_": {"nothing", "false", "none", "seven"},
    "like": {"text"},
    "is_(None)": {"none"},
    "is_not(None)": {"int", "text", "true", "false", "seven"},
    "exists": {"int", "text", "true", "false", "none", "seven"},
    "~exists": {"nothing"},
    "value": {"int"},
    "any_value(5)": {"int", "text", "none"},
    "any_value('5')": {"text"},
    "any_value(False)": {"false"},
    "any_value(None)": {"none"},
    "~any_value": {"nothing", "true", "false", "seven"},
}
TEXT_MATCHES: dict[str, set[str]] = {
    "== '5'": {"5"},
    "== ''": {"empty"},
    "== None": {"none"},
    "!= '5'": {"7", "none", "empty"},
    "~(== '5')": {"nothing", "7", "none", "empty"},
    "> '5'": {"7"},
    "in_": {"7", "none"},
    "like": {"5", "7"},
    "is_(None)": {"none"},
    "is_not(None)": {"5", "7", "empty"},
    "exists": {"5", "7", "none", "empty"},
    "value": {"5"},
    "any_value('5')": {"5", "none"},
    "any_value(None)": {"none"},
}


@pytest.fixture
def animals(bases: Any, engine: Engine, session: Session) -> Any:
    return _fill(models.zoo(bases), engine, session, FACTS)


@pytest.fixture
def texts(bases: Any, engine: Engine, session: Session) -> Any:
    return _fill(models.zoo(bases, plain=True), engine, session, TEXTS)


def test_each_form_matches_what_it_says(animals: Any, session: Session) -> None:
    assert {form: _names(session, animals, make(animals.attrs)) for form, make in FORMS.items()} == MATCHES


def test_each_form_matches_what_it_says_in_the_plain_variant(texts: Any, session: Session) -> None:
    assert {form: _names(session, texts, make(texts.attrs)) for form, make in TEXT_FORMS.items()} == TEXT_MATCHES


def test_each_form_means_the_same_through_an_alias(animals: Any, session: Session) -> None:
    other = aliased(animals)
    assert {form: _names(session, other, make(other.attrs)) for form, make in FORMS.items()} == MATCHES


def test_conditions_combine(animals: Any, session: Session) -> None:
    x, y = animals.attrs["x"], animals.attrs["y"]
    assert _names(session, animals, x == "5", y == 5) == {"text"}
    assert _names(session, animals, or_(x == 5, y == 5)) == {"int", "text", "none"}
    assert _names(session, animals, (x == 5) & (y == 1) | (x == 7)) == {"int", "seven"}


def test_two_aliases_are_compared_with_each_other(animals: Any, session: Session) -> None:
    one, two = aliased(animals), aliased(animals)
    query = select(one.name, two.name).where(
        one.id != two.id, one.attrs["x"].value(int) < two.attrs["x"].value(int), ~two.attrs["y"].exists()
    )
    assert session.execute(query).all() == [("int", "seven")]


def test_in_of_nothing_matches_nothing(animals: Any, session: Session) -> None:
    assert _names(session, animals, animals.attrs["x"].in_([])) == set()


def test_the_list_of_forms_has_every_method() -> None:
    operators = {"__eq__": "==", "__ne__": "!=", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}
    methods = {name for cls in (KeyCriteria, VerticalCriteria) for name in vars(cls) if not name.startswith("_")}
    methods -= {"entity", "shape", "adapt_to_entity"}
    assert {each for each in (*operators.values(), *methods) if not any(each in form for form in FORMS)} == set()
    assert operators.keys() <= vars(KeyCriteria).keys()


def test_a_value_orders_and_is_selected(animals: Any, session: Session) -> None:
    number = animals.attrs["x"].value(int)
    query = select(animals.name, number).where(number.is_not(None)).order_by(number.desc())
    assert session.execute(query).all() == [("seven", 7), ("int", 5)]


def test_a_value_stands_beside_the_rows_themselves(animals: Any, session: Session) -> None:
    query = (
        select(animals)
        .join(animals.facts)
        .where(animals.attrs["x"] == 5)
        .order_by(animals.attrs["y"].value(int))
        .options(joinedload(animals.facts))
    )
    assert [dict(each.attrs) for each in session.scalars(query).unique()] == [{"x": 5, "y": 1}]


def test_a_value_is_compared_with_a_column(animals: Any, session: Session) -> None:
    assert _names(session, animals, animals.attrs["x"].value(int) == animals.attrs["y"].value(int) + 4) == {"int"}
    assert _names(session, animals, animals.attrs["y"].value(int) == animals.id - 1) == {"int", "none"}


def test_a_value_can_be_aggregated(animals: Any, session: Session) -> None:
    assert session.scalar(select(func.sum(animals.attrs["y"].value(int))).select_from(animals)) == 11


def test_bulk_statements_take_conditions(animals: Any, session: Session) -> None:
    session.execute(update(animals).where(animals.attrs["x"] == 5).values(name="updated"))
    assert _names(session, animals, animals.attrs["x"] == 5) == {"updated"}
    session.execute(delete(animals).where(~animals.attrs["x"].exists()))
    assert "nothing" not in _names(session, animals)


def test_what_is_not_flushed_counts_after_autoflush(animals: Any, session: Session) -> None:
    animal = session.scalars(select(animals).where(animals.name == "nothing")).one()
    animal.attrs["x"] = 99
    assert _names(session, animals, animals.attrs["x"] > 50) == {"nothing"}


def test_criteria_of_the_session_apply_to_the_value(animals: Any, session: Session) -> None:
    fact = animals.facts.property.mapper.class_
    value = animals.attrs["y"].value(int)
    query = select(animals.name).where(value.is_not(None)).options(with_loader_criteria(fact, fact.int_value == 1))
    assert session.scalars(query).all() == ["int"]


def test_a_subclass_has_conditions_of_its_own(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.inherited(plain_bases)
    m.Base.metadata.create_all(engine)
    dog, cat = m.Dog(), m.Cat()
    dog.attrs["x"] = cat.attrs["x"] = 5
    session.add_all([dog, cat])
    session.commit()
    assert session.scalars(select(m.Dog).where(m.Dog.attrs["x"] == 5)).all() == [dog]
    assert set(session.scalars(select(m.Animal).where(m.Animal.attrs["x"] == 5))) == {dog, cat}
    assert (dog.attrs, cat.attrs["x"]) == ({"x": 5}, 5)


def test_conditions_work_before_mappers_are_configured(plain_bases: Any) -> None:
    m = models.zoo(plain_bases)
    assert "animal_fact.int_value" in str(m.Animal.attrs["x"] == 5)


def test_sql_text_is_the_same_each_time(plain_bases: Any) -> None:
    def texts() -> list[str]:
        m = models.zoo(plain_bases)
        forms = [str(select(m.Animal).where(make(m.Animal.attrs))) for make in FORMS.values()]
        return [*forms, str(select(m.Animal.attrs["x"].value(str)))]

    assert texts() == texts()


def test_statements_share_their_cache_entry(animals: Any, session: Session) -> None:
    keys = {
        select(animals).where(animals.attrs[key] == value)._generate_cache_key().key  # type: ignore[union-attr]
        for key, value in (("x", 5), ("y", 6), ("z", 7))
    }
    assert len(keys) == 1


# -- values of all types -----------------------------------------------------------------------------

COMPARABLE = [each for each in SAMPLES if each not in (bytes, dict, list)]
ORDERED = [each for each in COMPARABLE if each is not Colour]


@pytest.fixture
def things(bases: Any, engine: Engine, session: Session) -> Any:
    from uuid import UUID

    m = models.things(bases)
    m.Base.metadata.create_all(engine)
    number = 0
    for samples in SAMPLES.values():
        for place, value in enumerate(samples):
            thing = m.Animal(id=UUID(int=number))
            thing.attrs = {"x": value, "place": place}
            session.add(thing)
            number += 1
    session.commit()
    return m.Animal


def _values(session: Session, things: Any, condition: ColumnElement[bool]) -> list[Any]:
    query = select(things).where(condition).options(selectinload(things.facts))
    return sorted((each.attrs["x"] for each in session.scalars(query)), key=repr)


@pytest.mark.parametrize("python_type", COMPARABLE, ids=lambda each: each.__name__)
def test_values_of_a_type_are_equal_to_themselves_only(things: Any, session: Session, python_type: type[Any]) -> None:
    for value in SAMPLES[python_type]:
        assert _values(session, things, things.attrs["x"] == value) == [value]
        assert _values(session, things, things.attrs["x"].in_([value])) == [value]


@pytest.mark.parametrize("python_type", ORDERED, ids=lambda each: each.__name__)
def test_values_of_a_type_are_ordered_as_in_python(things: Any, session: Session, python_type: type[Any]) -> None:
    samples = SAMPLES[python_type]
    x = things.attrs["x"]
    for operation in ("__lt__", "__le__", "__gt__", "__ge__"):
        found = _values(session, things, getattr(x, operation)(samples[-1]))
        assert found == sorted((each for each in samples if getattr(each, operation)(samples[-1])), key=repr)
    value = x.value(python_type)
    assert session.scalars(select(value).select_from(things).where(value.is_not(None)).order_by(value)).all() == list(
        samples
    )


@pytest.mark.parametrize("python_type", SAMPLES, ids=lambda each: each.__name__)
def test_values_of_every_type_are_selected(things: Any, session: Session, python_type: type[Any]) -> None:
    value, place = things.attrs["x"].value(python_type), things.attrs["place"].value(int)
    query = select(value).select_from(things).where(things.attrs["x"].exists(), value.is_not(None)).order_by(place)
    assert session.scalars(query).all() == list(SAMPLES[python_type])


# -- bad input ---------------------------------------------------------------------------------------


@pytest.fixture
def x(plain_bases: Any) -> Any:
    return models.things(plain_bases).Animal.attrs["x"]


@pytest.mark.parametrize("value", [b"x", {}, {"a": 1}, [1]])
def test_documents_and_bytes_are_not_compared(x: Any, value: Any) -> None:
    for attempt in (lambda: x == value, lambda: x != value, lambda: x < value, lambda: x.in_([value])):
        with pytest.raises(UnsupportedValueError, match=r"take exists\(\) and is_\(None\) only"):
            attempt()


def test_an_enumeration_has_no_order(x: Any) -> None:
    with pytest.raises(UnsupportedValueError, match=r"< <Colour.RED: 'r'> has no meaning: Colour has no order in SQL"):
        _ = x < Colour.RED


def test_none_has_no_order(x: Any) -> None:
    with pytest.raises(UnsupportedValueError, match="None has no order"):
        _ = x >= None


def test_an_operand_of_a_type_without_a_column_is_refused(x: Any) -> None:
    for attempt in (
        lambda: x == 5j,
        lambda: x != 5j,
        lambda: x > 5j,
        lambda: x.in_([1, 5j]),
        lambda: x.value(complex),
    ):
        with pytest.raises(UnsupportedValueError, match=r"Thing\.attrs\['x'\] cannot be of type complex"):
            attempt()


def test_any_value_of_a_type_without_a_column_is_refused(plain_bases: Any) -> None:
    thing = models.things(plain_bases).Animal
    with pytest.raises(
        UnsupportedValueError, match=r"operand of Thing\.attrs\.any_value\(\) cannot be of type complex"
    ):
        thing.attrs.any_value(5j)
    with pytest.raises(UnsupportedValueError, match="has no meaning"):
        thing.attrs.any_value(b"x")


def test_an_sql_expression_as_operand_says_how_to_compare(plain_bases: Any) -> None:
    thing = models.things(plain_bases).Animal
    for expression in (thing.id, func.now(), thing.attrs["y"].value(int)):
        with pytest.raises(UnsupportedValueError, match=r"write Thing\.attrs\['x'\]\.value\(type\) == that"):
            _ = thing.attrs["x"] == expression


def test_another_key_as_operand_says_how_to_compare(x: Any) -> None:
    with pytest.raises(UnsupportedValueError, match=r"compare .*\['x'\]\.value\(type\) with .*\['x'\]\.value\(type\)"):
        _ = x == x


def test_is_takes_none_only(x: Any) -> None:
    for attempt in (lambda: x.is_(5), lambda: x.is_not(True)):
        with pytest.raises(InvalidArgumentError, match="takes None"):
            attempt()


@pytest.mark.parametrize("values", ["abc", b"abc", 5, None])
def test_a_single_operand_of_in_is_refused(x: Any, values: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"in_\(\) takes a collection of values"):
        x.in_(values)


@pytest.mark.parametrize("python_type", [None, 5, int | str, "int"])
def test_the_type_of_a_value_is_a_class(x: Any, python_type: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"\['x'\]\.value\(\) takes the class of the values, and was given"):
        x.value(python_type)


def test_an_sql_expression_as_operand_of_any_value_is_refused(plain_bases: Any) -> None:
    Animal = models.zoo(plain_bases).Animal
    with pytest.raises(UnsupportedValueError, match=r"any_value\(\) takes a value, and was given the SQL expression"):
        Animal.attrs.any_value(Animal.name)


def test_a_pattern_is_a_text(x: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"like\(\) takes a text, and was given 5"):
        x.like(5)


def test_a_number_of_more_than_64_bits_is_refused(x: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="has more than 64 bits"):
        _ = x == 2**63


def test_a_long_text_is_not_found_rather_than_refused(animals: Any, session: Session) -> None:
    assert _names(session, animals, animals.attrs["x"] == "x" * 300) == set()


@pytest.mark.parametrize("key", [5, None, "a ", "k" * 65])
def test_what_cannot_be_a_key_is_refused(plain_bases: Any, key: Any) -> None:
    with pytest.raises(UnknownKeyError):
        models.zoo(plain_bases).Animal.attrs[key]


def test_the_schema_holds_for_conditions(plain_bases: Any) -> None:
    animal = models.zoo(plain_bases, schema=VerticalSchema({"n": int, "m": str | None}, required=("any",))).Animal
    assert str(animal.attrs["n"] == 5)
    assert str(animal.attrs["any"] == "text")
    with pytest.raises(UnknownKeyError, match=r"Animal\.attrs has no key 'N' in its schema, which has 'any', 'n', 'm'"):
        animal.attrs["N"]
    for attempt in (
        lambda: animal.attrs["n"] == "5",
        lambda: animal.attrs["n"].value(str),
        lambda: animal.attrs["m"] > 5,
        lambda: animal.attrs["n"] == None,  # noqa: E711
    ):
        with pytest.raises(UnsupportedValueError, match="the schema says"):
            attempt()


def test_a_condition_to_be_is_neither_true_nor_iterable(x: Any, plain_bases: Any) -> None:
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(x)
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)
    attrs = models.zoo(plain_bases).Animal.attrs
    with pytest.raises(TypeError, match="has no keys to iterate over"):
        list(attrs)
    with pytest.raises(TypeError, match=r"for a condition write \['x'\]\.exists\(\)"):
        _ = "x" in attrs
    assert repr(x) == "<KeyCriteria Thing.attrs['x']>"
    assert repr(attrs).startswith("<VerticalCriteria of <class")


@pytest.mark.only_on("postgresql")
def test_jsonb_is_compared(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.documents(plain_bases)
    m.Base.metadata.create_all(engine)
    for value in ({"a": 1, "b": 2}, {"a": 2}, None):
        session.add(animal := m.Animal())
        animal.attrs["x"] = value
    session.commit()
    found = session.scalars(select(m.Animal).where(m.Animal.attrs["x"] == {"b": 2, "a": 1})).all()
    assert [dict(each.attrs) for each in found] == [{"x": {"a": 1, "b": 2}}]
    assert len(session.scalars(select(m.Animal).where(m.Animal.attrs["x"].is_(None))).all()) == 1
    with pytest.raises(UnsupportedValueError, match="has no order"):
        _ = m.Animal.attrs["x"] < {}


def test_a_subclass_of_a_users_class_is_found_in_its_column(things: Any, session: Session) -> None:
    assert _values(session, things, things.attrs["x"] == Euros(5)) == [Money(5)]
