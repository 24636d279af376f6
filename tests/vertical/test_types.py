"""Values of every type: what comes back is what was set, and what could not come back is refused."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from enum import IntEnum
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Text,
    insert,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.vertical import (
    ExactNumeric,
    UnstorableValueError,
    UnsupportedValueError,
    load_vertical,
    value_column,
)
from tests.vertical import _models as models
from tests.vertical._models import SAMPLES
from tests.vertical.user_types import Colour, Euros, Money, MoneyAsJSON, MoneyAsNullJSON


def _round_trip(m: Any, session: Session, values: dict[str, Any]) -> dict[str, Any]:
    from uuid import UUID

    thing = m.Animal(id=UUID(int=7))
    thing.attrs = values
    session.add(thing)
    session.commit()
    return dict(thing.attrs)


@pytest.mark.parametrize("python_type", SAMPLES, ids=lambda each: each.__name__)
def test_values_come_back_as_they_were(bases: Any, engine: Engine, session: Session, python_type: type[Any]) -> None:
    m = models.things(bases)
    m.Base.metadata.create_all(engine)
    values = {f"k{number}": value for number, value in enumerate(SAMPLES[python_type])}
    found = _round_trip(m, session, values)
    assert found == values
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in values.items()}


def test_load_vertical_reads_values_of_every_type(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.things(plain_bases)
    m.Base.metadata.create_all(engine)
    values = {f"{cls.__name__}{place}": value for cls, many in SAMPLES.items() for place, value in enumerate(many)}
    _round_trip(m, session, {**values, "none": None})
    (found,) = load_vertical(session, m.Animal.attrs, [session.scalars(select(m.Animal.id)).one()]).values()
    assert found == {**values, "none": None}


def test_each_pair_of_types_follows_each_other_in_one_row(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.things(plain_bases)
    m.Base.metadata.create_all(engine)
    _round_trip(m, session, {"x": None})
    thing = session.scalars(select(m.Animal)).one()
    types = [*SAMPLES]
    for step in range(1, len(types)):
        for start in range(len(types)):
            value = SAMPLES[types[start * step % len(types)]][-1]
            thing.attrs["x"] = value
            session.commit()
            assert thing.attrs["x"] == value


# -- values that are changed in place ----------------------------------------------------------------


@pytest.mark.parametrize("value", [{"a": 1}, [1]])
def test_a_document_that_was_changed_in_place_is_written_when_it_is_set(
    plain_bases: Any, engine: Engine, session: Session, value: Any
) -> None:
    m = models.things(plain_bases)
    m.Base.metadata.create_all(engine)
    _round_trip(m, session, {"x": value})
    thing = session.scalars(select(m.Animal)).one()
    document = thing.attrs["x"]
    document.update(b=2) if isinstance(document, dict) else document.append(2)
    thing.attrs["x"] = document
    session.commit()
    assert thing.attrs["x"] == ({"a": 1, "b": 2} if isinstance(value, dict) else [1, 2])


def test_a_mutable_document_is_written_when_it_is_changed(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.mutable_documents(plain_bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs["x"] = {"a": 1}
    session.commit()
    animal.attrs["x"]["b"] = 2
    session.commit()
    assert animal.attrs["x"] == {"a": 1, "b": 2}


# -- values that are refused -------------------------------------------------------------------------


class Level(IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value", [Level.LOW, Name("x"), 5j, object(), (1, 2), {1, 2}, bytearray(b"x")], ids=lambda each: type(each).__name__
)
def test_a_value_that_would_come_back_as_another_type_is_refused(plain_bases: Any, value: object) -> None:
    thing = models.things(plain_bases).Animal(id=None)
    with pytest.raises(
        UnsupportedValueError, match=rf"Thing\.attrs\['x'\] cannot be of type {type(value).__name__}: .*bool, int"
    ):
        thing.attrs["x"] = value
    assert thing.attrs == {}


@pytest.mark.parametrize(("kept", "value"), [(int, True), (date, datetime(2024, 1, 1, tzinfo=UTC))])
def test_a_bool_is_no_int_and_a_datetime_no_date(plain_bases: Any, kept: type[Any], value: object) -> None:
    thing = models.one_type(plain_bases, kept).Animal()
    with pytest.raises(UnsupportedValueError):
        thing.attrs["x"] = value


def test_a_users_class_takes_its_subclasses(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.things(plain_bases)
    m.Base.metadata.create_all(engine)
    assert _round_trip(m, session, {"x": Euros(5)}) == {"x": Money(5)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 256, "has 256 characters, and the column holds 255"),
        ("a\0b", "has a NUL character"),
        ("\udc80", "has half a surrogate pair"),
        (2**63, "has more than 64 bits"),
        (-(2**63) - 1, "has more than 64 bits"),
        (float("nan"), "is not finite"),
        (float("inf"), "is not finite"),
        (Decimal("NaN"), "is not finite"),
        (Decimal("0.0000001"), "has 7 digits after the point, and the column holds 6"),
        (Decimal(1234567890123), "has 13 digits before the point, and the column holds 12"),
        (Decimal("1." + "0" * 40 + "1"), "has 41 digits after the point"),
        (Decimal("1E+12"), "has 13 digits before the point"),
        (datetime(2024, 1, 1, tzinfo=UTC), "has a time zone, which the column does not keep"),
    ],
)
def test_a_value_that_the_column_could_not_give_back_is_refused(plain_bases: Any, value: Any, text: str) -> None:
    thing = models.things(plain_bases).Animal(id=None)
    with pytest.raises(UnstorableValueError, match=rf"Thing\.attrs\['x'\] cannot be .*{text}.*; change the value"):
        thing.attrs.update({"y": 1, "x": value})
    assert thing.attrs == {}
    assert issubclass(UnstorableValueError, ValueError)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"a": [{1: 2}]}, "has the key 1, of which JSON makes a text"),
        ({"a": (1, 2)}, "has a tuple, of which JSON makes a list"),
        ({"a": [float("nan")]}, "has a number that is not finite, which not every database can store"),
    ],
)
def test_a_document_that_json_could_not_give_back_is_refused(
    plain_bases: Any, document: dict[str, Any], text: str
) -> None:
    animal = models.one_type(plain_bases, dict).Animal()
    with pytest.raises(UnstorableValueError, match=text):
        animal.attrs["x"] = document


@pytest.mark.parametrize("value", [Decimal("1.500000000"), Decimal("0E-30"), Decimal("-0.000001"), Decimal(10) ** 11])
def test_zeros_of_a_decimal_do_not_count(plain_bases: Any, engine: Engine, session: Session, value: Decimal) -> None:
    m = models.things(plain_bases)
    m.Base.metadata.create_all(engine)
    assert _round_trip(m, session, {"x": value}) == {"x": value}


def test_a_type_without_a_limit_takes_long_values(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.one_type(plain_bases, str, Text())
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs["x"] = "x" * 10_000
    session.commit()
    assert animal.attrs["x"] == "x" * 10_000


def test_a_column_that_keeps_time_zones_takes_them(plain_bases: Any) -> None:
    animal = models.one_type(plain_bases, datetime, DateTime(timezone=True)).Animal()
    animal.attrs["x"] = datetime(2024, 1, 1, tzinfo=UTC)
    assert animal.attrs["x"].tzinfo is UTC


def test_a_numeric_of_the_users_limits_decimals(plain_bases: Any) -> None:
    animal = models.one_type(plain_bases, Decimal, Numeric(5, 2)).Animal()
    animal.attrs["x"] = Decimal("123.45")
    with pytest.raises(UnstorableValueError, match="3 digits after the point"):
        animal.attrs["x"] = Decimal("0.001")
    with pytest.raises(UnstorableValueError, match="4 digits before the point"):
        animal.attrs["x"] = Decimal(1234)


@pytest.mark.parametrize(
    ("sql_type", "lowest", "highest"),
    [
        (SmallInteger(), -(2**15), 2**15 - 1),
        (Integer(), -(2**31), 2**31 - 1),
        (BigInteger(), -(2**63), 2**63 - 1),
        (BigInteger().with_variant(Integer(), "sqlite"), -(2**63), 2**63 - 1),
        (mysql.TINYINT(), -128, 127),
        (mysql.MEDIUMINT(), -(2**23), 2**23 - 1),
        (mysql.INTEGER(unsigned=True), 0, 2**32 - 1),
    ],
    ids=repr,
)
def test_a_number_beyond_the_range_of_its_column_is_refused(
    plain_bases: Any, sql_type: Any, lowest: int, highest: int
) -> None:
    animal = models.one_type(plain_bases, int, sql_type).Animal()
    animal.attrs.update(lowest=lowest, highest=highest)
    assert animal.attrs == {"lowest": lowest, "highest": highest}
    for value in (lowest - 1, highest + 1):
        with pytest.raises(UnstorableValueError, match=r"bits|is negative"):
            animal.attrs["x"] = value
        with pytest.raises(UnstorableValueError, match=r"bits|is negative"):
            _ = type(animal).attrs["x"] == value


@pytest.mark.parametrize("sql_type", [SmallInteger, Integer, BigInteger])
def test_the_ends_of_the_range_are_stored(plain_bases: Any, engine: Engine, session: Session, sql_type: Any) -> None:
    m = models.one_type(plain_bases, int, sql_type)
    m.Base.metadata.create_all(engine)
    end = 2 ** {SmallInteger: 15, Integer: 31, BigInteger: 63}[sql_type]
    session.add(animal := m.Animal())
    animal.attrs.update(lowest=-end, highest=end - 1)
    session.commit()
    assert dict(animal.attrs) == {"lowest": -end, "highest": end - 1}


def test_a_zero_of_the_other_sign_is_another_value(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.one_type(plain_bases, float)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs["x"] = 0.0
    session.commit()
    animal.attrs["x"] = -0.0
    assert math.copysign(1, animal.attrs["x"]) == -1


@pytest.mark.only_on("postgresql")  # SQLite and MariaDB store 0.0
def test_a_negative_zero_comes_back(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.one_type(plain_bases, float)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs["x"] = 0.0
    session.commit()
    animal.attrs["x"] = -0.0
    session.commit()
    assert math.copysign(1, animal.attrs["x"]) == -1


# -- value_column ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: value_column(complex), r"value_column\(complex\) needs to know how such a value is stored"),
        (lambda: value_column(int | None), "needs a class, for instance int"),  # type: ignore[arg-type]
        (lambda: value_column("int"), "needs a class, for instance int"),  # type: ignore[arg-type]
        (lambda: value_column(dict, JSON()), "give the type none_as_null=True"),
        (lambda: value_column(dict, JSONB()), "give the type none_as_null=True"),
        (
            lambda: value_column(dict, JSON(none_as_null=True).with_variant(JSONB(), "postgresql")),
            "give the type none_as_null=True",
        ),
        (lambda: value_column(Money, MoneyAsNullJSON()), "give the type none_as_null=True"),
        (lambda: value_column(Money, MoneyAsNullJSON), "give the type none_as_null=True"),
        (lambda: value_column(Money, MoneyAsJSON(), index=True), "which databases cannot index"),
        (lambda: value_column(dict, index=True), "which databases cannot index"),
        (lambda: value_column(bytes, LargeBinary(10), index=True), "which databases cannot index"),
        (lambda: ExactNumeric(19, 2), "give a precision of at most 18"),
        (lambda: ExactNumeric(5, 6), "give a precision of at most 18"),
    ],
)
def test_a_column_that_could_not_work_is_refused(make: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        make()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((int,), BigInteger),
        ((str, String(10)), String),
        ((str, Text), Text),
        ((dict, JSON), JSON),
        ((dict, JSONB), JSONB),
        ((Colour,), String),
    ],
)
def test_the_sql_type_may_be_given(arguments: Any, expected: Any) -> None:
    assert isinstance(value_column(*arguments).column.type, expected)


def test_a_column_has_the_name_that_it_is_given() -> None:
    assert value_column(int, name="number").column.name == "number"


# -- ExactNumeric ------------------------------------------------------------------------------------


def test_an_exact_numeric_is_exact_where_binary_numbers_are_not(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    m = models.one_type(plain_bases, Decimal, ExactNumeric(18, 2))
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    session.flush()
    value = Decimal("9999999999999999.99")
    session.execute(insert(m.Fact.__table__), {"animal_id": 1, "key": "x", "value": value})
    assert animal.attrs["x"] == value
    assert session.scalars(select(m.Animal).where(m.Animal.attrs["x"] == value)).all() == [animal]
    assert session.scalars(select(m.Animal).where(m.Animal.attrs["x"] < value)).all() == []
    assert session.scalars(select(m.Animal).where(m.Animal.attrs["x"] > value - Decimal("0.01"))).all() == [animal]


def test_a_decimal_context_of_few_digits_changes_nothing(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.one_type(plain_bases, Decimal, ExactNumeric(18, 2))
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    with localcontext() as context:
        context.prec = 3
        animal.attrs["x"] = Decimal("1234567.89")
        session.commit()
        assert animal.attrs["x"] == Decimal("1234567.89")


@pytest.mark.parametrize("value", [Decimal("0.001"), Decimal("NaN"), Decimal("Infinity")])
def test_an_exact_numeric_by_itself_does_not_round(plain_bases: Any, engine: Engine, value: Decimal) -> None:
    m = models.one_type(plain_bases, Decimal, ExactNumeric(18, 2))
    m.Base.metadata.create_all(engine)
    with (
        Session(engine) as session,
        pytest.raises(StatementError, match="more than 2 digits after the point; round it"),
    ):
        session.scalars(select(m.Fact).where(m.Fact.value > value))


def test_comparing_with_more_digits_than_a_column_has_is_refused(plain_bases: Any) -> None:
    m = models.one_type(plain_bases, Decimal, ExactNumeric(18, 2))
    with pytest.raises(UnstorableValueError, match="3 digits after the point"):
        m.Animal.attrs["x"] > Decimal("0.001")  # noqa: B015


# -- a type of the user's over one that is not compared ----------------------------------------------


def test_a_users_type_over_json_is_stored(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.one_type(plain_bases, Money, MoneyAsJSON())
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs = {"a": Money(5), "b": None}
    session.commit()
    assert animal.attrs == {"a": Money(5), "b": None}


@pytest.mark.parametrize("sql_type", [MoneyAsJSON(), PickleType()])
def test_a_users_type_over_json_or_bytes_has_no_index(plain_bases: Any, sql_type: Any) -> None:
    assert not models.one_type(plain_bases, Money, sql_type).Fact.__table__.indexes


@pytest.mark.parametrize("sql_type", [MoneyAsJSON(), PickleType()])
def test_a_users_type_over_json_or_bytes_is_not_compared(plain_bases: Any, sql_type: Any) -> None:
    x = models.one_type(plain_bases, Money, sql_type).Animal.attrs["x"]
    with pytest.raises(UnsupportedValueError, match=r"take exists\(\) and is_\(None\) only"):
        _ = x == Money(5)
