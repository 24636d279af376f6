"""The dictionary of an instance: what it answers and what it writes, over both bases and both variants."""

from __future__ import annotations

import pickle
from collections.abc import Callable, MutableMapping
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, func, inspect, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import DetachedInstanceError

from sqla_patterns.exceptions import (
    DuplicateKeyError,
    InvalidArgumentError,
    KeyMismatchError,
    MappingError,
    PatternError,
    StateError,
)
from sqla_patterns.vertical import (
    UnknownKeyError,
    UnstorableValueError,
    UnsupportedValueError,
    VerticalAttributes,
    VerticalValue,
    value_column,
)
from tests.vertical import _models as models
from tests.vertical._models import Zoo

Stored = Callable[[Any], dict[str, Any]]


class PickledBase(DeclarativeBase):
    """Classes at module level, where pickle finds them."""


class PickledFact(VerticalValue, PickledBase):
    __tablename__ = "pickled_fact"
    animal_id: Mapped[int] = mapped_column(ForeignKey("pickled_animal.id"), primary_key=True)
    int_value: Mapped[int | None] = value_column(int)


class PickledAnimal(PickledBase):
    __tablename__ = "pickled_animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, PickledFact]] = models.by_key()
    attrs = VerticalAttributes[int | None]("facts")


# -- reading -----------------------------------------------------------------------------------------


def test_it_reads_like_a_dictionary(zoo: Zoo, animal: Any) -> None:
    attrs = animal.attrs
    one, two, three, four = zoo.values
    assert isinstance(attrs, MutableMapping)
    assert (attrs["a"], attrs["b"], attrs["c"], attrs["d"]) == (one, two, three, four)
    assert (attrs.get("a"), attrs.get("x"), attrs.get("x", 5)) == (one, None, 5)
    assert ("a" in attrs, "x" in attrs, 5 in attrs, len(attrs), bool(attrs)) == (True, False, False, 4, True)
    assert sorted(attrs) == sorted(attrs.keys()) == ["a", "b", "c", "d"]
    assert list(reversed(attrs)) == list(attrs)[::-1]
    assert dict(attrs.items()) == attrs == zoo.facts()
    assert attrs.copy() == zoo.facts()
    assert attrs | {"a": 0} == {**zoo.facts(), "a": 0}
    assert {"a": 0, "x": 1} | attrs == {"x": 1, **zoo.facts()}
    assert repr(attrs) == repr(dict(attrs))
    assert zoo.Animal().attrs == {}


def test_types_of_values_are_those_that_were_set(zoo: Zoo, animal: Any) -> None:
    assert {key: type(value) for key, value in animal.attrs.items()} == {
        key: type(value) for key, value in zoo.facts().items()
    }


def test_a_missing_key_is_a_key_error(animal: Any) -> None:
    for attempt in (lambda: animal.attrs["x"], lambda: animal.attrs.pop("x"), lambda: animal.attrs.__delitem__("x")):
        with pytest.raises(KeyError, match="x"):
            attempt()


def test_none_differs_from_missing(animal: Any, stored: Stored) -> None:
    assert animal.attrs["c"] is None
    assert "c" in animal.attrs
    del animal.attrs["c"]
    assert "c" not in animal.attrs
    assert "c" not in stored(animal)


def test_a_view_is_unhashable_as_a_dictionary(animal: Any) -> None:
    with pytest.raises(TypeError, match=r"unhashable: Animal\.attrs"):
        hash(animal.attrs)


# -- the object as the dictionary --------------------------------------------------------------------


def test_the_object_is_the_dictionary_of_its_values(zoo: Zoo, animal: Any, stored: Stored) -> None:
    one, two, *_ = zoo.values
    assert (animal["a"], animal.get("b"), animal.get("x", 5), "a" in animal, len(animal)) == (one, two, 5, True, 4)
    assert dict(animal) == dict(animal.items()) == zoo.facts()
    assert sorted(animal) == sorted(animal.keys()) == ["a", "b", "c", "d"]
    assert one in animal.values()
    animal["e"] = two
    animal.update({"f": two}, g=two)
    assert animal.setdefault("g", one) == two
    assert (animal.pop("f"), animal.pop("f", 5)) == (two, 5)
    with pytest.raises(KeyError):
        animal.pop("f")
    del animal["a"]
    assert set(stored(animal)) == set("bcdeg")
    animal.clear()
    assert stored(animal) == {}


def test_an_object_without_values_is_true(zoo: Zoo) -> None:
    animal = zoo.Animal()
    assert len(animal) == 0
    assert animal


def test_an_object_is_hashable_and_equal_to_itself_only(plain_bases: Any) -> None:
    m = models.zoo(plain_bases)
    animal = m.Animal()
    assert {animal} == {animal}
    assert animal != m.Animal()


def test_the_object_obeys_the_schema_of_the_attribute_over_the_same_relationship(plain_bases: Any) -> None:
    m = models.zoo(plain_bases, schema=models.VerticalSchema({"a": int}))
    animal = m.Animal()
    with pytest.raises(UnknownKeyError):
        animal["b"] = 1


def test_the_object_needs_no_attribute_beside_it(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.bare(plain_bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal["a"] = 5
    session.commit()
    assert dict(animal) == {"a": 5}


# -- writing -----------------------------------------------------------------------------------------


def test_it_writes_like_a_dictionary(zoo: Zoo, animal: Any, stored: Stored) -> None:
    one, two, three, four = zoo.values
    attrs = animal.attrs
    attrs["a"] = two
    attrs["e"] = one
    assert attrs.setdefault("f", three) is three
    assert attrs.setdefault("e", two) == one
    assert (attrs.pop("b"), attrs.pop("x", 5)) == (two, 5)
    attrs.update({"g": four}, h=one)
    attrs.update([("i", two)])
    del attrs["d"]
    expected = {"a": two, "c": three, "e": one, "f": three, "g": four, "h": one, "i": two}
    assert attrs == expected
    assert stored(animal) == expected
    key, value = attrs.popitem()
    assert expected.pop(key) == value
    assert stored(animal) == expected
    attrs.clear()
    assert attrs == {}
    assert stored(animal) == {}


def test_assigning_the_attribute_replaces_everything(zoo: Zoo, animal: Any, stored: Stored) -> None:
    one, two, *_ = zoo.values
    animal.attrs = {"b": one, "x": two}
    assert animal.attrs == {"b": one, "x": two}
    assert stored(animal) == {"b": one, "x": two}
    animal.attrs = [("y", one)]
    assert stored(animal) == {"y": one}
    animal.attrs.replace({})
    assert stored(animal) == {}


def test_augmented_assignment_keeps_the_rest(zoo: Zoo, animal: Any, stored: Stored) -> None:
    animal.attrs |= {"x": zoo.values[0]}
    assert stored(animal) == {**zoo.facts(), "x": zoo.values[0]}


def test_the_values_of_another_object_can_be_assigned(zoo: Zoo, animal: Any, session: Session, stored: Stored) -> None:
    session.add(twin := zoo.Animal())
    twin.attrs = animal.attrs
    assert stored(twin) == zoo.facts()
    assert stored(animal) == zoo.facts()


def test_a_constructor_takes_values(plain_bases: Any) -> None:
    m = models.zoo(plain_bases)
    assert m.Animal(name="stoat", attrs={"a": 1}).attrs == {"a": 1}


def test_setting_a_key_keeps_its_row(zoo: Zoo, animal: Any, session: Session) -> None:
    rows = dict(animal.facts)
    animal.attrs["a"] = zoo.values[1]
    animal.attrs = dict.fromkeys("dcba", zoo.values[3])
    session.flush()
    assert dict(animal.facts) == rows


def test_a_key_can_be_deleted_and_set_in_one_flush(zoo: Zoo, animal: Any, stored: Stored) -> None:
    one, two, *_ = zoo.values
    row = animal.facts["a"]
    del animal.attrs["a"]
    animal.attrs["a"] = two
    assert animal.facts["a"] is row
    animal.attrs.clear()
    animal.attrs.update({"b": one, "new": two})
    assert stored(animal) == {"b": one, "new": two}


def test_a_key_that_was_flushed_away_gets_a_new_row(zoo: Zoo, animal: Any, session: Session, stored: Stored) -> None:
    del animal.attrs["a"]
    session.flush()
    animal.attrs["a"] = zoo.values[1]
    assert stored(animal) == {**zoo.facts(), "a": zoo.values[1]}


def test_a_new_key_can_be_set_and_deleted_in_one_flush(zoo: Zoo, animal: Any, session: Session, stored: Stored) -> None:
    animal.attrs["new"] = zoo.values[0]
    del animal.attrs["new"]
    assert stored(animal) == zoo.facts()
    assert not session.new


def test_a_row_that_went_to_another_object_is_not_taken_back(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    m = models.surrogates(plain_bases)
    m.Base.metadata.create_all(engine)
    one, two = m.Animal(), m.Animal()
    one.attrs["a"] = 1
    session.add_all([one, two])
    session.commit()
    assert (len(one.facts), len(two.facts)) == (1, 0)  # loads, which would flush in between
    two.facts["a"] = one.facts.pop("a")
    one.attrs["a"] = 5
    session.commit()
    assert (dict(one.attrs), dict(two.attrs)) == ({"a": 5}, {"a": 1})


def test_rows_with_a_surrogate_key_are_reused_too(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.surrogates(plain_bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs = {"a": 1, "b": 2}
    session.commit()
    animal.attrs.clear()
    animal.attrs["a"] = 5
    session.commit()
    assert dict(animal.attrs) == {"a": 5}
    assert [row.id for row in animal.facts.values()] == [1]


def test_a_row_that_the_session_was_to_delete_stays_when_its_key_is_set(
    zoo: Zoo, animal: Any, session: Session, stored: Stored
) -> None:
    session.delete(animal.facts["a"])
    session.delete(animal.facts["b"])
    animal.attrs["a"] = zoo.values[3]
    animal.attrs["b"] = zoo.values[1]
    assert stored(animal) == {**zoo.facts(), "a": zoo.values[3]}


def test_a_row_that_the_session_has_deleted_is_made_again_when_its_key_is_set(
    zoo: Zoo, animal: Any, session: Session, stored: Stored
) -> None:
    session.delete(animal.facts["a"])
    session.flush()
    animal.attrs["a"] = zoo.values[0]
    assert stored(animal) == zoo.facts()


# -- what the session does ---------------------------------------------------------------------------


def test_rollback_takes_everything_back(zoo: Zoo, animal: Any, session: Session) -> None:
    animal.attrs.update(dict.fromkeys("abx", zoo.values[3]))
    del animal.attrs["c"]
    session.flush()
    animal.attrs["y"] = zoo.values[0]
    session.rollback()
    assert animal.attrs == zoo.facts()


def test_expired_objects_are_read_again(zoo: Zoo, animal: Any, session: Session) -> None:
    with Session(session.connection()) as other:
        other.get_one(zoo.Animal, animal.id).attrs["a"] = zoo.values[3]
        other.flush()
    session.expire_all()
    assert animal.attrs["a"] == zoo.values[3]


@pytest.mark.parametrize("expire", [True, False])
def test_a_value_of_an_expired_row_can_be_set(
    zoo: Zoo, animal: Any, session: Session, stored: Stored, expire: bool
) -> None:
    row = animal.facts["a"]
    if expire:
        session.expire(row)
    animal.attrs["a"] = zoo.values[3]
    assert stored(animal)["a"] == zoo.values[3]


def test_deleting_the_object_deletes_its_rows(zoo: Zoo, animal: Any, session: Session) -> None:
    session.delete(animal)
    session.flush()
    assert len(session.scalars(select(zoo.Fact)).all()) == 1
    session.rollback()


def test_merge_brings_the_values_along(zoo: Zoo, animal: Any, session: Session) -> None:
    session.expunge_all()
    with Session(session.connection()) as other:
        detached = other.get_one(zoo.Animal, 1)
        detached.attrs["a"] = zoo.values[1]
        detached.attrs["new"] = zoo.values[0]
        other.expunge_all()
    merged = session.merge(detached)
    session.flush()
    session.expire_all()
    assert merged.attrs == {**zoo.facts(), "a": zoo.values[1], "new": zoo.values[0]}
    session.rollback()


def test_a_flush_leaves_nothing_expired(zoo: Zoo, animal: Any, session: Session) -> None:
    animal.attrs.update({"a": zoo.values[3], "b": zoo.values[0], "new": zoo.values[2]})
    session.flush()
    assert [inspect(row).unloaded | inspect(row).expired_attributes for row in animal.facts.values()] == [set()] * 5


def test_rows_of_the_library_know_their_value(bases: Any) -> None:
    m = models.zoo(bases)
    animal = m.Animal()
    animal.attrs.update(m.facts())
    assert {key: row.value for key, row in animal.facts.items()} == m.facts()
    assert {key: row.type for key, row in animal.facts.items()} == {"a": "int", "b": "str", "c": None, "d": "bool"}


def test_the_value_of_a_row_can_be_set(bases: Any, engine: Engine, session: Session) -> None:
    m = models.zoo(bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    row = m.Fact()
    row.key = "a"
    row.value = 5
    animal.facts["a"] = row
    for value in (5, "five", None, True):
        row.value = value
        session.commit()
        assert animal.attrs == {"a": value}
        assert type(row.value) is type(value)
    with pytest.raises(UnsupportedValueError, match=r"AnimalFact\.value cannot be of type float"):
        row.value = 5.0
    with pytest.raises(UnstorableValueError, match=r"AnimalFact\.value cannot be 'x+\.\.\., which has 256 characters"):
        row.value = "x" * 256
    assert row.value is True


def test_changing_the_type_clears_the_old_column(bases: Any, engine: Engine, session: Session) -> None:
    m = models.zoo(bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs["a"] = 5
    session.flush()
    for value in ("five", False, None, 6):
        animal.attrs["a"] = value
        session.flush()
        columns = session.execute(select(m.Fact.int_value, m.Fact.str_value, m.Fact.bool_value)).one()
        assert [each for each in columns if each is not None] == ([] if value is None else [value])


def test_equal_values_of_several_types_are_several_values(bases: Any, engine: Engine, session: Session) -> None:
    m = models.zoo(bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    for value in (1, True, 1, "1", True):
        animal.attrs["a"] = value
        session.commit()
        assert type(animal.attrs["a"]) is type(value)


def test_a_detached_object_says_so_in_sqlalchemys_words(zoo: Zoo, animal: Any, session: Session) -> None:
    session.expire(animal)
    session.expunge(animal)
    with pytest.raises(DetachedInstanceError):
        animal.attrs["a"]


def test_an_object_with_values_can_be_pickled(engine: Engine, session: Session) -> None:
    PickledBase.metadata.create_all(engine)
    session.add(animal := PickledAnimal())
    animal.attrs.update(a=1, b=None)
    session.commit()
    assert dict(animal.attrs) == {"a": 1, "b": None}
    copy = pickle.loads(pickle.dumps(animal))
    assert dict(copy.attrs) == {"a": 1, "b": None}
    assert dict(pickle.loads(pickle.dumps(animal.attrs))) == {"a": 1, "b": None}


# -- bad input ---------------------------------------------------------------------------------------


class StrKey(str, Enum):  # noqa: UP042 - str() of a member is not its text, as drivers may take it
    A = "a"


def _nothing_happened(zoo: Zoo, animal: Any, session: Session) -> None:
    assert not session.new
    assert not session.dirty
    assert animal.attrs == zoo.facts()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (5, "has keys of type str, and was given 5; give a str"),
        (None, "has keys of type str, and was given None"),
        ("k" * 65, "has 65 characters, and the column holds 64"),
        ("a ", "ends with a space"),
        ("a\0", "NUL"),
        ("\ud800", "half a surrogate pair"),
    ],
)
def test_what_cannot_be_a_key_is_refused(zoo: Zoo, animal: Any, session: Session, key: Any, text: str) -> None:
    for attempt in (
        lambda: animal.attrs.__setitem__(key, zoo.values[0]),
        lambda: animal.attrs.update({"a": zoo.values[1], "new": zoo.values[1], key: zoo.values[0]}),
        lambda: animal.attrs.replace({"b": zoo.values[1], key: zoo.values[0]}),
    ):
        with pytest.raises(UnknownKeyError, match=text):
            attempt()
    _nothing_happened(zoo, animal, session)


@pytest.mark.parametrize("value", [5.0, object(), b"x", (1,)])
def test_a_value_of_a_type_without_a_column_is_refused(zoo: Zoo, animal: Any, session: Session, value: object) -> None:
    message = rf"Animal\.attrs\['new'\] cannot be of type {type(value).__name__}: AnimalFact has value columns for"
    for attempt in (
        lambda: animal.attrs.__setitem__("new", value),
        lambda: animal.attrs.update({"a": zoo.values[1], "b": zoo.values[0], "new": value}),
        lambda: animal.attrs.setdefault("new", value),
        lambda: setattr(animal, "attrs", {"new": value}),
        lambda: animal.__setitem__("new", value),
    ):
        with pytest.raises(UnsupportedValueError, match=message):
            attempt()
    _nothing_happened(zoo, animal, session)


def test_an_sql_expression_as_value_is_refused(zoo: Zoo, animal: Any) -> None:
    with pytest.raises(
        UnsupportedValueError, match=r"attrs\['a'\] takes a value, and was given the SQL expression now"
    ):
        animal.attrs["a"] = func.now()


def test_errors_are_what_python_and_sqlalchemy_call_them() -> None:
    assert issubclass(UnknownKeyError, KeyError)
    assert issubclass(UnsupportedValueError, TypeError)
    assert issubclass(UnsupportedValueError, ArgumentError)
    assert issubclass(UnknownKeyError, PatternError)


@pytest.mark.parametrize("values", [5, "ab", ["a"], [("a", 1, 2)], None])
def test_what_is_no_mapping_is_refused(zoo: Zoo, animal: Any, session: Session, values: Any) -> None:
    for attempt in (lambda: animal.attrs.update(values), lambda: setattr(animal, "attrs", values)):
        with pytest.raises(InvalidArgumentError, match="takes a mapping or pairs of key and value"):
            attempt()
    _nothing_happened(zoo, animal, session)


def test_a_duplicate_among_pairs_is_refused(zoo: Zoo, animal: Any, session: Session) -> None:
    pairs = [("x", zoo.values[0]), ("a", zoo.values[1]), ("a", zoo.values[3])]
    for attempt in (lambda: animal.attrs.update(pairs), lambda: setattr(animal, "attrs", pairs)):
        with pytest.raises(DuplicateKeyError, match="was given two values for the key 'a'"):
            attempt()
    _nothing_happened(zoo, animal, session)


def test_a_row_under_a_key_that_is_not_its_own_is_refused_at_the_flush(zoo: Zoo, animal: Any, session: Session) -> None:
    row = zoo.Fact()
    row.key = "x"
    animal.facts["y"] = row
    with pytest.raises(KeyMismatchError, match="its own key is 'x'"):
        session.flush()
    session.rollback()
    _nothing_happened(zoo, animal, session)


def test_a_dictionary_by_another_attribute_than_the_key_is_refused_at_the_flush(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    m = models.two_way(plain_bases, key="str_value")
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs["a"] = "b"
    with pytest.raises(MappingError, match=r"'facts', which is a dictionary by another attribute than the key"):
        session.flush()
    session.rollback()


def test_a_member_of_a_str_enumeration_is_its_text(zoo: Zoo, animal: Any, stored: Stored) -> None:
    animal.attrs[StrKey.A] = zoo.values[1]
    animal.attrs.update({StrKey.A: zoo.values[3]})
    assert stored(animal)["a"] == zoo.values[3]
    assert [type(key) for key in animal.attrs] == [str] * 4


def test_keys_that_differ_in_case_only_are_two_keys(zoo: Zoo, animal: Any, stored: Stored) -> None:
    animal.attrs["A"] = zoo.values[3]
    animal.attrs["ä"] = zoo.values[3]
    assert stored(animal) == {**zoo.facts(), "A": zoo.values[3], "ä": zoo.values[3]}


def test_a_row_of_an_unknown_type_says_what_is_missing(bases: Any, engine: Engine, session: Session) -> None:
    m = models.zoo(bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    session.flush()
    session.connection().execute(m.Fact.__table__.insert(), {"animal_id": 1, "key": "a", "type": "complex"})
    session.expire_all()
    with pytest.raises(StateError, match=r"of type 'complex', for which the class has no column; map a value_column"):
        animal.attrs["a"]


def test_a_value_of_an_unknown_type_can_be_replaced(bases: Any, engine: Engine, session: Session) -> None:
    m = models.zoo(bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    session.flush()
    session.connection().execute(m.Fact.__table__.insert(), {"animal_id": 1, "key": "b", "type": "complex"})
    session.expire_all()
    animal.attrs.update({"a": 1, "b": 2})
    session.commit()
    assert animal.attrs == {"a": 1, "b": 2}


def test_a_row_class_that_wants_arguments_is_refused(plain_bases: Any) -> None:
    m = models.zoo(plain_bases)

    def needs_more(self: Any, more: int) -> None:
        pass

    m.Fact.__init__ = needs_more
    animal = m.Animal()
    with pytest.raises(MappingError, match=r"makes rows by calling AnimalFact\(\), which fails"):
        animal.attrs["a"] = 5
    assert animal.attrs == {}


def test_an_object_outside_of_sessions_has_values() -> None:
    animal = PickledAnimal()
    animal.attrs["a"] = 1
    animal.attrs["a"] = 2
    assert animal.attrs == {"a": 2}
