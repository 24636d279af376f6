"""PostgreSQL and MariaDB read each form of criterion by an index that the mixin declares, or by the primary key."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, Select, event, insert, or_, select, text

from tests.conftest import BaseFactory
from tests.vertical import _models as models
from tests.vertical._forms import FORMS, TEXT_FORMS
from tests.vertical._models import SAMPLES, Zoo

pytestmark = pytest.mark.only_on("postgresql", "mariadb")

ROWS = 10_000
ANIMALS, KEYS = 1_000, 9
COMPARABLE = [each for each in SAMPLES if each not in (bytes, dict, list)]


def _values() -> list[Any]:
    """Return so many values: numbers and texts, evenly spread, and a few booleans and Nones."""
    values: list[Any] = []
    for number in range(ANIMALS * KEYS):
        spread = number * 7 % 1_000
        values.append(spread if number % 2 else str(spread))
    values += [(number % 9, str(number % 9), number % 4 == 1, None)[number % 4] for number in range(100)]
    return values


def _row(number: int, value: Any, *, plain: bool) -> dict[str, Any]:
    few = number - ANIMALS * KEYS
    row = {"animal_id": number % ANIMALS + 1, "key": f"k{number // ANIMALS}" if few < 0 else "x"}
    if plain:
        return row | {"value": None if value is None else str(value)}
    columns = {int: "int_value", str: "text_value", bool: "bool_value"}
    row |= {"type": None if value is None else type(value).__name__} | dict.fromkeys(columns.values())
    return row if value is None else row | {columns[type(value)]: value}


def _make(engine: Engine, *, plain: bool) -> Generator[Zoo, None, None]:
    """Make many animals with keys that all of them have, and one, ``x``, that few have."""
    factory = BaseFactory("plain")
    m = models.zoo(factory, plain=plain)
    m.Base.metadata.create_all(engine)
    rows = [_row(number, value, plain=plain) for number, value in enumerate(_values())]
    # Those that make the number round have a key that nobody asks for.
    missing = ROWS - len(rows)
    rows += [{**rows[1], "animal_id": number + 1, "key": "other"} for number in range(missing)]
    with engine.begin() as connection:
        connection.execute(
            insert(m.Animal.__table__), [{"id": n, "name": f"animal {n}"} for n in range(1, ANIMALS + 1)]
        )
        connection.execute(insert(m.Fact.__table__), rows)
    _analyze(engine, "animal", "animal_fact")
    yield m
    factory.dispose()


@pytest.fixture
def zoo(engine: Engine) -> Generator[Zoo, None, None]:
    yield from _make(engine, plain=False)


@pytest.fixture
def texts(engine: Engine) -> Generator[Zoo, None, None]:
    yield from _make(engine, plain=True)


@pytest.fixture
def things(engine: Engine) -> Generator[Zoo, None, None]:
    """Make many things with a key for each type, named after it, and many numbers that nobody asks for."""
    factory = BaseFactory("plain")
    m = models.things(factory)
    m.Base.metadata.create_all(engine)
    columns = {column.python_type: column.attribute for column in m.Animal.attrs.shape.table.columns}
    empty: dict[str, Any] = dict.fromkeys(columns.values())
    rows = [
        {**empty, "thing_id": UUID(int=number % 500), "key": cls.__name__, "type": cls.__name__, columns[cls]: value}
        for cls, samples in SAMPLES.items()
        for number, value in enumerate(samples)
    ]
    rows += [
        {
            **empty,
            "thing_id": UUID(int=number % 500),
            "key": f"k{number // 500}",
            "type": "float",
            "float_value": number,
        }
        for number in range(ROWS - len(rows))
    ]
    with engine.begin() as connection:
        connection.execute(insert(m.Animal.__table__), [{"id": UUID(int=number)} for number in range(500)])
        connection.execute(insert(m.Fact), rows)
    _analyze(engine, "thing", "thing_fact")
    yield m
    factory.dispose()


def _analyze(engine: Engine, *tables: str) -> None:
    for table in tables:
        statement = f"ANALYZE {table}" if engine.dialect.name == "postgresql" else f"ANALYZE TABLE {table}"
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement)).close()


def _plan(connection: Connection, query: Select[Any]) -> str:
    """Return what the database says about how it reads `query`, with the parameters that SQLAlchemy binds."""

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return f"EXPLAIN {statement}", parameters

    event.listen(connection, "before_cursor_execute", explain, retval=True)
    try:
        cursor: Any = connection.execute(query).cursor
        names, rows = [each[0] for each in cursor.description], cursor.fetchall()
    finally:
        event.remove(connection, "before_cursor_execute", explain)
    if connection.dialect.name == "postgresql":
        return "\n".join(row[0] for row in rows)
    steps = [dict(zip(names, row, strict=True)) for row in rows]
    return "\n".join(f"{step['table']}: type={step['type']} key={step['key']} rows={step['rows']}" for step in steps)


def _indexes_used(plan: str, m: Zoo, database: str) -> set[str]:
    """Return the declared indexes by which a plan reads the facts; "none" is among them if a step uses no index."""
    table = m.Fact.__table__
    if database == "postgresql":
        found = set(re.findall(r"(?:using|Bitmap Index Scan on) (\w+)", plan))
        found |= {"none"} if f"Seq Scan on {table.name}" in plan else set()
        declared = {str(index.name) for index in table.indexes} | {f"{table.name}_pkey", "none"}
        return found & declared or {"none"}
    # type=index reads the whole of an index; type=index_merge reads several.
    steps = re.findall(rf"^{table.name}\w*: type=(\w+) key=(\S+)", plan, re.MULTILINE)
    return {key for kind, keys in steps for key in (["none"] if kind in ("ALL", "index") else keys.split(","))} or {
        "none"
    }


def _unserved(m: Zoo, engine: Engine, forms: dict[str, Any], wanted: Callable[[str, set[str]], bool]) -> dict[str, str]:
    """Return the plans of those forms whose indexes are not those that are wanted."""
    with engine.connect() as connection:
        plans = {form: _plan(connection, select(m.Animal).where(condition)) for form, condition in forms.items()}
    used = {form: _indexes_used(plan, m, engine.dialect.name) for form, plan in plans.items()}
    return {form: f"{used[form]}\n{plan}" for form, plan in plans.items() if not wanted(form, used[form])}


def _is_served(form: str, used: set[str]) -> bool:
    return "none" not in used


def test_every_form_uses_a_declared_index(zoo: Zoo, engine: Engine) -> None:
    assert _unserved(zoo, engine, {form: make(zoo.Animal.attrs) for form, make in FORMS.items()}, _is_served) == {}


def test_every_form_uses_a_declared_index_in_the_plain_variant(texts: Zoo, engine: Engine) -> None:
    forms = {form: make(texts.Animal.attrs) for form, make in TEXT_FORMS.items()}
    assert _unserved(texts, engine, forms, _is_served) == {}


def test_a_comparison_with_each_type_uses_the_index_of_its_column(things: Zoo, engine: Engine) -> None:
    columns = {column.python_type: column.attribute for column in things.Animal.attrs.shape.table.columns}
    attrs = things.Animal.attrs
    keyed = {cls.__name__: attrs[cls.__name__] == SAMPLES[cls][0] for cls in COMPARABLE}
    any_key = {cls.__name__: attrs.any_value(SAMPLES[cls][0]) for cls in COMPARABLE}
    by_name = {cls.__name__: columns[cls] for cls in COMPARABLE}
    # So few rows have such a key that an index over it and another column serves as well.
    assert _unserved(things, engine, keyed, _is_served) == {}
    assert _unserved(things, engine, any_key, lambda form, used: f"ix_thing_fact_{by_name[form]}" in used) == {}


def test_what_documents_and_bytes_are_asked_uses_an_index_over_the_key(things: Zoo, engine: Engine) -> None:
    attrs = things.Animal.attrs
    for key in ("dict", "list", "bytes"):
        forms = {"exists": attrs[key].exists(), "is_": attrs[key].is_(None), "is_not": attrs[key].is_not(None)}
        assert _unserved(things, engine, forms, _is_served) == {}


def test_selective_comparisons_use_an_index_over_the_value(zoo: Zoo, engine: Engine) -> None:
    number, word = zoo.Animal.attrs["k1"], zoo.Animal.attrs["k2"]
    forms = {
        "==": number == 491,
        "<": number < 10,
        "<=": number <= 10,
        ">": number > 990,
        ">=": number >= 990,
        "in_": number.in_([5, 7]),
    }
    wanted = {"ix_animal_fact_key_int_value", "ix_animal_fact_int_value"}
    assert _unserved(zoo, engine, forms, lambda form, used: bool(used & wanted)) == {}
    wanted = {"ix_animal_fact_key_text_value", "ix_animal_fact_text_value"}
    assert _unserved(zoo, engine, {"text": word == "490"}, lambda form, used: bool(used & wanted)) == {}


def test_combined_conditions_use_declared_indexes(zoo: Zoo, engine: Engine) -> None:
    attrs = zoo.Animal.attrs
    forms = {
        "two": (attrs["k1"] > 990) & (attrs["k2"] == "5"),
        "one of two": or_(attrs["k1"] == 5, attrs["k3"] == 7),
        "any value of one object": (zoo.Animal.id == 5) & attrs.any_value(5),
    }
    assert _unserved(zoo, engine, forms, _is_served) == {}


def test_a_value_to_order_by_is_read_by_an_index(zoo: Zoo, engine: Engine) -> None:
    k1 = zoo.Animal.attrs["k1"]
    query = select(zoo.Animal).where(k1 > 990).order_by(k1.value(int))
    with engine.connect() as connection:
        assert "none" not in _indexes_used(_plan(connection, query), zoo, engine.dialect.name)


def test_exists_and_in_are_planned_alike(zoo: Zoo, engine: Engine) -> None:
    m = zoo
    subquery = select(m.Fact.animal_id).where(m.Fact.key == "k1", m.Fact.int_value > 990)
    with engine.connect() as connection:
        plans = [
            _plan(connection, select(m.Animal).where(condition))
            for condition in (m.Animal.attrs["k1"] > 990, m.Animal.id.in_(subquery))
        ]
    assert all("ix_animal_fact_key_int_value" in plan for plan in plans)
