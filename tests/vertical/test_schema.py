"""The schema: unknown keys, wrong types and missing keys are refused, at once or before the first write."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from sqlalchemy import Engine, event, func, inspect, select
from sqlalchemy.orm import Session, configure_mappers

from sqla_patterns.exceptions import InvalidArgumentError, MappingError, StateError
from sqla_patterns.vertical import (
    MissingKeyError,
    UnknownKeyError,
    UnsupportedValueError,
    VerticalAttributes,
    VerticalSchema,
)
from tests.vertical import _models as models

SCHEMA = VerticalSchema({"n": int, "text": str | None, "either": int | str}, required=("colour",))


@pytest.fixture
def m(bases: Any) -> models.Zoo:
    return models.zoo(bases, schema=SCHEMA)


@pytest.fixture
def animal(m: models.Zoo, engine: Engine, session: Session) -> Any:
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs.update(n=1, text="t", colour="red")
    session.commit()
    return animal


def test_what_the_schema_says_is_taken(animal: Any, session: Session) -> None:
    animal.attrs.update(n=2, text=None, either="x", colour=5)
    session.commit()
    assert animal.attrs == {"n": 2, "text": None, "either": "x", "colour": 5}


@pytest.mark.parametrize("key", ["other", "N", "n ", ""])
def test_a_key_outside_of_the_schema_is_refused(animal: Any, session: Session, key: str) -> None:
    with pytest.raises(UnknownKeyError):
        animal.attrs.update({"n": 5, key: 1})
    assert animal.attrs["n"] == 1
    assert not session.new
    assert not session.dirty


def test_the_error_names_the_key_and_those_that_there_are(animal: Any) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        animal.attrs["other"] = 1
    assert str(caught.value) == (
        "Animal.attrs has no key 'other' in its schema, which has 'colour', 'n', 'text', 'either'; "
        "add it there, or correct it"
    )


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("n", "1", r"Animal\.attrs\['n'\] cannot be of type str: the schema says int; convert the value"),
        ("n", None, r"cannot be of type NoneType: the schema says int"),
        ("n", True, r"cannot be of type bool: the schema says int"),
        ("text", 1, r"cannot be of type int: the schema says None \| str"),
        ("either", None, r"the schema says int \| str"),
        ("either", True, r"the schema says int \| str"),
        ("n", 1.5, r"AnimalFact has value columns for int, str, bool"),
    ],
)
def test_a_value_of_another_type_is_refused(animal: Any, session: Session, key: str, value: Any, text: str) -> None:
    with pytest.raises(UnsupportedValueError, match=text):
        animal.attrs[key] = value
    assert not session.dirty


def test_a_key_that_left_the_schema_can_be_read_and_deleted(m: models.Zoo, animal: Any, session: Session) -> None:
    row = {"animal_id": animal.id, "key": "legacy", "type": "int", "int_value": 5}
    session.connection().execute(m.Fact.__table__.insert(), row)
    session.commit()
    assert animal.attrs["legacy"] == 5
    assert "legacy" in animal.attrs
    del animal.attrs["legacy"]
    session.commit()
    assert "legacy" not in animal.attrs


# -- required keys -----------------------------------------------------------------------------------


def test_a_missing_key_is_refused_before_anything_is_written(m: models.Zoo, animal: Any, session: Session) -> None:
    session.add(good := m.Animal())
    good.attrs["colour"] = "red"
    session.add(bad := m.Animal())
    bad.attrs["n"] = 1
    with pytest.raises(
        MissingKeyError, match=r"^A new Animal has no 'colour' in Animal\.attrs, which its schema requires"
    ):
        session.flush()
    session.rollback()
    assert session.scalar(select(func.count()).select_from(m.Animal)) == 1
    assert issubclass(MissingKeyError, StateError)


def test_the_check_comes_before_the_first_statement(
    m: models.Zoo, animal: Any, session: Session, statements: Any
) -> None:
    session.add(m.Animal())
    animal.name = "changed"
    with statements() as log, pytest.raises(MissingKeyError):
        session.flush()
    assert log.starting("INSERT", "UPDATE", "DELETE") == []
    session.rollback()


def test_an_object_without_any_value_is_missing_its_keys(m: models.Zoo, animal: Any, session: Session) -> None:
    session.add(m.Animal())
    with pytest.raises(MissingKeyError):
        session.flush()
    session.rollback()


def test_a_required_key_may_be_set_until_the_flush(m: models.Zoo, animal: Any, session: Session) -> None:
    session.add(new := m.Animal())
    new.attrs["n"] = 1
    new.attrs["colour"] = None
    session.commit()
    assert new.attrs == {"n": 1, "colour": None}


@pytest.mark.parametrize("how", ["del", "clear", "replace", "pop"])
def test_a_required_key_cannot_be_removed(animal: Any, session: Session, how: str) -> None:
    if how == "del":
        del animal.attrs["colour"]
    elif how == "clear":
        animal.attrs.clear()
    elif how == "replace":
        animal.attrs = {"n": 1}
    else:
        animal.attrs.pop("colour")
    with pytest.raises(MissingKeyError, match=f"^Animal {animal.id} has no 'colour'"):
        session.flush()
    session.rollback()
    assert animal.attrs["colour"] == "red"


def test_a_required_key_may_be_deleted_and_set_again(animal: Any, session: Session) -> None:
    del animal.attrs["colour"]
    animal.attrs["colour"] = "blue"
    session.commit()
    assert animal.attrs["colour"] == "blue"


def test_a_required_key_goes_with_its_object(m: models.Zoo, animal: Any, session: Session) -> None:
    session.delete(animal)
    session.commit()
    assert session.scalar(select(func.count()).select_from(m.Fact)) == 0


def test_an_old_object_without_a_required_key_can_be_changed(m: models.Zoo, animal: Any, session: Session) -> None:
    session.connection().execute(m.Fact.__table__.delete())
    session.commit()
    animal.name = "new"
    animal.attrs["colour"] = "red"
    session.commit()
    assert animal.attrs == {"colour": "red"}


def test_a_change_of_another_column_loads_no_values(animal: Any, session: Session, statements: Any) -> None:
    assert animal.name is None
    animal.name = "new"
    with statements() as log:
        session.flush()
    assert len(log) == 1, log.text
    assert "facts" in inspect(animal).unloaded


def test_a_listener_of_the_users_that_comes_later_is_checked_too(m: models.Zoo, animal: Any, engine: Engine) -> None:
    class Later(Session):
        """A session whose listener runs after that of the library, as one on a subclass does."""

    @event.listens_for(Later, "before_flush")
    def add_one(session: Session, context: object, instances: object) -> None:
        if not any(isinstance(each, m.Animal) for each in session.new):
            session.add(m.Animal(name="late"))

    with Later(engine) as session:
        found = session.get_one(m.Animal, animal.id)
        found.name = "changed"
        with pytest.raises(MissingKeyError):
            session.flush()


@pytest.mark.parametrize(
    ("key", "column", "value", "error"),
    [("other", "int_value", 1, UnknownKeyError), ("n", "str_value", "1", UnsupportedValueError)],
)
def test_a_row_that_is_added_by_hand_is_checked_at_the_flush(
    m: models.Zoo, animal: Any, session: Session, key: str, column: str, value: Any, error: type[Exception]
) -> None:
    row = m.Fact()
    row.key = key
    row.type = column.removesuffix("_value")
    setattr(row, column, value)
    del animal.attrs["n"]
    session.flush()
    animal.facts[key] = row
    with pytest.raises(error):
        session.flush()
    session.rollback()


@pytest.mark.parametrize(("key", "value", "error"), [("other", 1, UnknownKeyError), ("n", "1", UnsupportedValueError)])
def test_a_row_that_joins_values_which_are_not_loaded_is_checked_at_the_flush(
    plain_bases: Any, engine: Engine, session: Session, key: str, value: Any, error: type[Exception]
) -> None:
    m = models.two_way(plain_bases, VerticalSchema({"n": int}))
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    session.commit()
    session.add(m.Fact(key=key, value=value, animal=animal))
    with pytest.raises(error):
        session.flush()
    session.rollback()


def test_rows_that_join_values_which_are_not_loaded_load_nothing(
    plain_bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.two_way(plain_bases, VerticalSchema({"n": int}))
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    session.commit()
    session.refresh(animal, ["id"])
    with statements() as seen:
        session.add(m.Fact(key="n", value=1, animal=animal))
        session.flush()
    assert len(seen) == 1


def test_subclasses_keep_the_check(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.inherited(plain_bases, VerticalSchema({"x": int}, required=("x",)))
    m.Base.metadata.create_all(engine)
    for cls in (m.Animal, m.Dog, m.Cat):
        session.add(cls())
        with pytest.raises(MissingKeyError):
            session.flush()
        session.rollback()


def test_a_subclass_may_have_a_schema_of_its_own(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.inherited(plain_bases, VerticalSchema({"x": int}, required=("x",)))

    class Fox(m.Animal):  # type: ignore[misc, name-defined]
        __mapper_args__ = {"polymorphic_identity": "fox"}
        attrs = VerticalAttributes[int]("facts", schema=VerticalSchema({"y": int}))

    m.Base.metadata.create_all(engine)
    session.add(fox := Fox())
    fox.attrs["y"] = 1
    session.commit()
    assert fox.attrs == {"y": 1}
    with pytest.raises(UnknownKeyError):
        fox.attrs["x"] = 1


# -- the schema itself -------------------------------------------------------------------------------


#: Not typed, since checkers would refuse them.
PAIRS: Any = [("a", int)]
BY_NUMBER: Any = {1: int}


def test_a_schema_is_frozen_and_hides_nothing() -> None:
    schema = VerticalSchema({"a": int, "b": Optional[str], "c": dict[str, Any]}, required=["r"])  # noqa: UP045
    assert schema.types == {"r": frozenset(), "a": {int}, "b": {str, type(None)}, "c": {dict}}
    assert schema.required == {"r"}
    with pytest.raises(AttributeError):
        schema.required = frozenset()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: VerticalSchema({"a": 5}), "The schema says that 'a' is 5; give a class"),  # type: ignore[dict-item]
        (lambda: VerticalSchema({"a": "int"}), "The schema says that 'a' is 'int'"),  # type: ignore[dict-item]
        (lambda: VerticalSchema({"a": Any}), r"The schema says that 'a' is typing\.Any; give a class, or a union"),
        (lambda: VerticalSchema({"a": int | Any}), r"The schema says that 'a' is .*; give a class, or a union"),
        (lambda: VerticalSchema(required="colour"), "was given one text; give the keys in a tuple"),
        (lambda: VerticalSchema(PAIRS), r"given \[\('a', <class 'int'>\)\] as its types; give a dictionary"),
        (lambda: VerticalSchema(BY_NUMBER), "has 1 among its keys, which are texts; give a str"),
        (lambda: VerticalSchema(required=5), "was given 5 as the keys that are required"),  # type: ignore[arg-type]
        (lambda: VerticalSchema(required=("a", 1)), "has 1 among its keys, which are texts"),  # type: ignore[arg-type]
        (lambda: VerticalAttributes("facts", schema={"a": int}), "give a VerticalSchema"),  # type: ignore[arg-type]
    ],
)
def test_a_schema_that_says_nothing_clear_is_refused(make: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        make()


def test_a_type_without_a_column_is_refused_when_mappers_are_configured(plain_bases: Any) -> None:
    models.zoo(plain_bases, schema=VerticalSchema({"a": float | None}))
    with pytest.raises(
        MappingError, match=r"The schema of Animal\.attrs says that 'a' is a float, for which AnimalFact has no"
    ):
        configure_mappers()
