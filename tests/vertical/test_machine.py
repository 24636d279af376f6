"""A state machine: all that can be done with a dictionary and a session, in any order, against plain dictionaries."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from sqla_patterns.vertical import UnsupportedValueError, load_vertical
from tests.conftest import BaseFactory
from tests.vertical import _models as models
from tests.vertical._models import Zoo

KEYS = st.sampled_from(["a", "b", "c", "A", "k d"])
TYPED = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "0", "1", "x"]))
PLAIN = st.one_of(st.none(), st.sampled_from(["", "0", "1", "x", "X"]))
ANIMALS = st.integers(0, 1)


class Machine(RuleBasedStateMachine):
    """Two animals in one session; `values`, `zoo` and `engine` are set by the test."""

    zoo: ClassVar[Zoo]
    engine: ClassVar[Engine]

    @initialize()
    def begin(self) -> None:
        self.session = Session(self.engine)
        self.session.execute(delete(self.zoo.Fact))
        self.session.execute(delete(self.zoo.Animal))
        self.animals = [self.zoo.Animal(), self.zoo.Animal()]
        self.session.add_all(self.animals)
        self.session.commit()
        self.ids = [animal.id for animal in self.animals]
        self.model: list[dict[str, Any]] = [{}, {}]
        self.committed: list[dict[str, Any]] = [{}, {}]

    @rule(animal=ANIMALS, key=KEYS, data=st.data())
    def set(self, animal: int, key: str, data: Any) -> None:
        value = data.draw(self.values)
        self.animals[animal].attrs[key] = value
        self.model[animal][key] = value

    @rule(animal=ANIMALS, key=KEYS)
    def delete(self, animal: int, key: str) -> None:
        if key in self.model[animal]:
            del self.animals[animal].attrs[key]
            del self.model[animal][key]
        else:
            with pytest.raises(KeyError):
                del self.animals[animal].attrs[key]

    @rule(animal=ANIMALS, data=st.data())
    def update(self, animal: int, data: Any) -> None:
        values = data.draw(st.dictionaries(KEYS, self.values))
        self.animals[animal].attrs.update(values)
        self.model[animal].update(values)

    @rule(animal=ANIMALS, data=st.data())
    def assign(self, animal: int, data: Any) -> None:
        values = data.draw(st.dictionaries(KEYS, self.values))
        self.animals[animal].attrs = values
        self.model[animal] = dict(values)

    @rule(animal=ANIMALS, key=KEYS, data=st.data())
    def setdefault(self, animal: int, key: str, data: Any) -> None:
        value = data.draw(self.values)
        assert self.animals[animal].attrs.setdefault(key, value) == self.model[animal].setdefault(key, value)

    @rule(animal=ANIMALS, key=KEYS)
    def pop(self, animal: int, key: str) -> None:
        assert self.animals[animal].attrs.pop(key, 5) == self.model[animal].pop(key, 5)

    @rule(animal=ANIMALS)
    def clear(self, animal: int) -> None:
        self.animals[animal].attrs.clear()
        self.model[animal].clear()

    @rule(animal=ANIMALS, key=KEYS, data=st.data())
    def refused(self, animal: int, key: str, data: Any) -> None:
        values = data.draw(st.dictionaries(KEYS, self.values))
        with pytest.raises(UnsupportedValueError):
            self.animals[animal].attrs.update(values | {key: 5.0})

    @rule()
    def flush(self) -> None:
        self.session.flush()

    @rule()
    def commit(self) -> None:
        self.session.commit()
        self.committed = [dict(each) for each in self.model]

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.model = [dict(each) for each in self.committed]

    @rule(animal=ANIMALS)
    def expire_after_flush(self, animal: int) -> None:
        self.session.flush()
        self.session.expire(self.animals[animal])

    @rule()
    def expire_rows_after_flush(self) -> None:
        self.session.flush()
        for animal in self.animals:
            for row in animal.facts.values():
                self.session.expire(row)

    @rule(animal=ANIMALS)
    def refresh(self, animal: int) -> None:
        self.session.flush()
        self.session.refresh(self.animals[animal])

    @rule()
    def begin_again(self) -> None:
        self.session.commit()
        self.committed = [dict(each) for each in self.model]
        self.session.close()
        self.animals = [self.session.get_one(self.zoo.Animal, number) for number in self.ids]

    @rule(key=KEYS, data=st.data())
    def ask_sql(self, key: str, data: Any) -> None:
        value = data.draw(self.values)
        attrs = self.zoo.Animal.attrs
        found = set(self.session.scalars(select(self.zoo.Animal.id).where(attrs[key] == value)))
        assert found == {
            number
            for number, values in zip(self.ids, self.model, strict=True)
            if key in values and values[key] == value and type(values[key]) is type(value)
        }

    @rule()
    def load(self) -> None:
        found = load_vertical(self.session, self.zoo.Animal.attrs, self.ids)
        assert list(found.values()) == self.model

    @invariant()
    def memory_is_the_model(self) -> None:
        if hasattr(self, "model"):
            for animal, values in zip(self.animals, self.model, strict=True):
                found = dict(animal.attrs)
                assert found == values
                assert {key: type(value) for key, value in found.items()} == {
                    key: type(value) for key, value in values.items()
                }

    @property
    def values(self) -> Any:
        return TYPED if len(self.zoo.Fact.__table__.c) > 3 else PLAIN

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.load()
            self.session.close()


def _run(engine: Engine, zoo: Zoo, examples: int, **options: Any) -> None:
    machine = type("Machine", (Machine,), {"zoo": zoo, "engine": engine})
    zoo.Base.metadata.create_all(engine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **{"stateful_step_count": 30, "derandomize": True, "database": None, **options},
        ),
    )


@pytest.fixture(params=["plain", "typed"])
def make_zoo(request: pytest.FixtureRequest) -> Any:
    factories: list[BaseFactory] = []

    def make(kind: Any) -> Zoo:
        factories.append(factory := BaseFactory(kind))
        return models.zoo(factory, plain=request.param == "plain")

    yield make
    for factory in factories:
        factory.dispose()


@pytest.mark.parametrize("kind", ["plain", "dataclass"])
def test_a_dictionary_is_a_dictionary(engine: Engine, make_zoo: Callable[[Any], Zoo], kind: str) -> None:
    _run(engine, make_zoo(kind), examples=40 if engine.dialect.name == "sqlite" else 8)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_dictionary_is_a_dictionary_for_long(engine: Engine, make_zoo: Callable[[Any], Zoo]) -> None:
    examples = int(os.environ.get("SQLA_PATTERNS_SOAK", "1000"))
    _run(engine, make_zoo("plain"), examples, stateful_step_count=60, derandomize=False)
