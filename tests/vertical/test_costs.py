"""What is said about cost, in SQL statements."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select
from sqlalchemy.orm import Session, selectinload

from sqla_patterns.vertical import load_vertical
from tests.vertical import _models as models
from tests.vertical._models import Zoo

ANIMALS, FACTS = 1000, 20


def _fill(m: Zoo, engine: Engine, animals: int, facts: int) -> None:
    m.Base.metadata.create_all(engine)
    rows: list[dict[str, Any]] = []
    for number in range(1, animals + 1):
        for fact in range(facts):
            row: dict[str, Any] = {"animal_id": number, "key": f"k{fact:02}"}
            value = number * fact % 50
            if "type" not in m.Fact.__table__.c:
                row["value"] = str(value)
            else:
                row |= {"type": "int" if fact % 2 else "str"}
                row |= {"int_value": value if fact % 2 else None, "text_value": None if fact % 2 else str(value)}
            rows.append(row)
    with engine.begin() as connection:
        connection.execute(insert(m.Animal.__table__), [{"id": number} for number in range(1, animals + 1)])
        connection.execute(insert(m.Fact.__table__), rows)


@pytest.mark.parametrize("plain", [False, True])
def test_a_thousand_objects_with_twenty_values_load_in_three_statements(
    plain_bases: Any, engine: Engine, session: Session, statements: Any, plain: bool
) -> None:
    m = models.zoo(plain_bases, plain=plain)
    _fill(m, engine, ANIMALS, FACTS)
    with statements() as log:
        animals = session.scalars(select(m.Animal).options(selectinload(m.Animal.facts))).all()
        assert sum(len(animal.attrs.copy()) for animal in animals) == ANIMALS * FACTS
    assert len(log) <= 3, log.text


def test_a_relationship_that_is_mapped_to_load_so_needs_no_option(
    plain_bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.zoo(plain_bases, lazy="selectin")
    _fill(m, engine, ANIMALS, 2)
    with statements() as log:
        assert all(animal.attrs["k00"] is not None for animal in session.scalars(select(m.Animal)))
    assert len(log) <= 3, log.text


@pytest.mark.parametrize("plain", [False, True])
def test_load_vertical_is_one_statement_and_makes_no_object(
    plain_bases: Any, engine: Engine, session: Session, statements: Any, plain: bool
) -> None:
    m = models.zoo(plain_bases, plain=plain)
    _fill(m, engine, ANIMALS, FACTS)
    with statements() as log:
        found = load_vertical(session, m.Animal.attrs, range(1, ANIMALS + 1))
    assert len(log) == 1
    assert len(found) == ANIMALS
    assert sum(map(len, found.values())) == ANIMALS * FACTS
    assert not session.identity_map
    assert dict(session.get_one(m.Animal, 7).attrs) == found[7]


def test_load_vertical_of_very_many_is_one_statement_for_each_ten_thousand(
    plain_bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.zoo(plain_bases)
    _fill(m, engine, 5, 2)
    with statements() as log:
        found = load_vertical(session, m.Animal.attrs, range(25_000))
    assert len(log) == 3
    assert sum(map(len, found.values())) == 10


@pytest.mark.parametrize("plain", [False, True])
def test_changing_values_of_many_objects_is_one_statement_of_each_kind(
    plain_bases: Any, engine: Engine, session: Session, statements: Any, plain: bool
) -> None:
    m = models.zoo(plain_bases, plain=plain)
    _fill(m, engine, 50, FACTS)
    animals = session.scalars(select(m.Animal).options(selectinload(m.Animal.facts))).all()
    values = ["x", "", None, "y"] if plain else [1, "x", True, None]
    for number, animal in enumerate(animals):
        for fact in range(10):
            animal.attrs[f"k{fact:02}"] = values[(number + fact) % 4]
        for fact in range(10, 15):
            del animal.attrs[f"k{fact:02}"]
        for fact in range(5):
            animal.attrs[f"new {fact}"] = values[(number + fact) % 4]
    with statements() as log:
        session.flush()
    assert len(log) <= 3, log.text
    assert [len(log.starting(kind)) for kind in ("INSERT", "UPDATE", "DELETE")] == [1, 1, 1]


def test_new_objects_with_values_of_all_types_are_one_insert_for_each_table(
    plain_bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.things(plain_bases)
    m.Base.metadata.create_all(engine)
    from uuid import UUID

    for number in range(20):
        session.add(thing := m.Animal(id=UUID(int=number)))
        thing.attrs = {cls.__name__: samples[0] for cls, samples in models.SAMPLES.items()} | {"none": None}
    with statements() as log:
        session.flush()
    assert len(log) == 2, log.text


def test_setting_a_value_to_what_it_is_writes_nothing(zoo: Zoo, animal: Any, session: Session, statements: Any) -> None:
    with statements() as log:
        animal.attrs.update(animal.attrs.copy())
        animal.attrs = dict(animal.attrs)
        assert not session.dirty
        session.flush()
    assert len(log.starting("SELECT")) == len(log) <= 2, log.text


def test_deleting_and_setting_a_value_again_is_one_update(
    zoo: Zoo, animal: Any, session: Session, statements: Any
) -> None:
    del animal.attrs["a"]
    animal.attrs["a"] = zoo.values[1]
    with statements() as log:
        session.flush()
    assert len(log.starting("UPDATE")) == len(log) == 1, log.text


def test_the_first_access_loads_and_the_others_do_not(zoo: Zoo, animal: Any, session: Session, statements: Any) -> None:
    session.refresh(animal)
    with statements() as log:
        assert animal.attrs["a"] == zoo.values[0]
    assert len(log) == 1
    with statements() as log:
        assert dict(animal.attrs) == zoo.facts()
        animal.attrs["a"] = zoo.values[3]
        animal.attrs["new"] = zoo.values[3]
        del animal.attrs["b"]
        assert "b" not in animal.attrs
    assert len(log) == 0


def test_a_new_object_needs_no_statement(zoo: Zoo, animal: Any, session: Session, statements: Any) -> None:
    with statements() as log:
        session.add(new := zoo.Animal())
        new.attrs.update(zoo.facts())
        new.attrs["a"] = zoo.values[1]
    assert len(log) == 0


def test_classes_without_values_pay_nothing(plain_bases: Any, engine: Engine, statements: Any) -> None:
    m = models.zoo(plain_bases)
    m.Base.metadata.create_all(engine)
    calls: list[str] = []
    with Session(engine) as session:
        event.listen(session, "before_flush", lambda *_: calls.append("flush"))
        session.add(m.Animal())
        with statements() as log:
            session.flush()
    assert (len(log), calls) == (1, ["flush"])
