"""Random operations of a session on temporal rows, compared with a model that lists all past states."""

from __future__ import annotations

import os
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, String, delete, func, inspect, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.versioning import TemporalOptions, _clock, valid_at
from tests.versioning._models import use_real_savepoints
from tests.versioning.temporal._models import FORMS, MIXINS, is_current

LABELS = "abcd"
#: Which of the objects there are, counted from the first one again.
PICKS = st.integers(0, 11)
SIZES = st.integers(0, 2)

Values = tuple[str, int]


class Clock:
    """A clock that advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


class State:
    """The model: what is stored at one point of a transaction.

    Attributes:
        versions: All values that each label ever had, oldest first.
        current: The labels whose last version is current.
        made: The labels whose last version was made by this transaction.
    """

    def __init__(self) -> None:
        self.versions: dict[str, list[Values]] = {}
        self.current: set[str] = set()
        self.made: set[str] = set()

    def write(self, label: str, values: Values, *, always: bool = False) -> None:
        known = self.versions.setdefault(label, [])
        if label in self.current and not always and (values == known[-1] or label in self.made):
            known[-1] = values
        else:
            known.append(values)
            self.made.add(label)
        self.current.add(label)

    def close(self, label: str) -> None:
        self.current.discard(label)
        self.made.discard(label)


class RowMachine(RuleBasedStateMachine):
    """One session, whose objects are held for as long as they live."""

    engine: Engine
    Item: Any
    form: str
    clock: Clock

    @initialize()
    def begin(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.Item.__table__.delete())
        self.session = Session(self.engine, autoflush=False)
        self.stored = State()
        self.committed = deepcopy(self.stored)
        #: The objects that the session has, and what each of them shall be.
        self.objects: dict[str, Any] = {}
        self.wanted: dict[str, Values] = {}
        self.deleted: set[str] = set()
        self.committed_objects: dict[str, Any] = {}
        self.savepoints: list[tuple[Any, State, dict[str, Any]]] = []
        self.moments: list[tuple[datetime, dict[str, Values]]] = []
        self.counter = 0
        self.add(0, 0)
        self.add(0, 1)
        self.commit()

    def teardown(self) -> None:
        if hasattr(self, "session"):
            try:
                self.commit()
                self.check_moments()
            finally:
                self.session.close()

    # -- changes ---------------------------------------------------------------------------------

    def next_name(self) -> str:
        self.counter += 1
        return f"n{self.counter}"

    def pick(self, number: int) -> str:
        labels = sorted(self.objects)
        return labels[number % len(labels)]

    def free(self) -> list[str]:
        """Return the labels that a new object may have; the key of a copied row is never used again."""
        used = self.stored.versions if self.form == "copied" else self.stored.current
        return [each for each in LABELS if each not in used and each not in self.objects and each not in self.deleted]

    @precondition(lambda self: self.free())
    @rule(number=PICKS, size=SIZES)
    def add(self, number: int, size: int) -> None:
        label = self.free()[number % len(self.free())]
        values = self.next_name(), size
        obj = self.Item(label=label, name=values[0], size=size)
        self.session.add(obj)
        self.objects[label], self.wanted[label] = obj, values

    @precondition(lambda self: self.objects)
    @rule(number=PICKS, size=SIZES)
    def change(self, number: int, size: int) -> None:
        label, name = self.pick(number), self.next_name()
        self.objects[label].name, self.objects[label].size = name, size
        self.wanted[label] = name, size

    @precondition(lambda self: self.objects)
    @rule(number=PICKS, size=SIZES)
    def change_at_once(self, number: int, size: int) -> None:
        self.change(number, size)
        self.flush()

    @precondition(lambda self: self.objects)
    @rule(size=SIZES)
    def change_all(self, size: int) -> None:
        for number in range(len(self.objects)):
            self.change(number, size)
        self.flush()

    @precondition(lambda self: self.objects)
    @rule(number=PICKS)
    def change_nothing(self, number: int) -> None:
        label = self.pick(number)
        self.objects[label].size = self.wanted[label][1]

    @precondition(lambda self: len(self.objects) > 1)
    @rule(number=PICKS)
    def delete(self, number: int) -> None:
        label = self.pick(number)
        if inspect(self.objects[label]).persistent:
            self.session.delete(self.objects.pop(label))
            self.wanted.pop(label)
            self.deleted.add(label)

    @rule(size=SIZES)
    def update_statement(self, size: int) -> None:
        self.flush()
        self.session.execute(update(self.Item).where(self.Item.size == size).values(name=self.Item.name + "!"))
        for label in sorted(self.stored.current):
            name, here = self.stored.versions[label][-1]
            if here == size:
                self.stored.write(label, (name + "!", here), always=True)
                self.wanted[label] = (name + "!", here)

    @rule(size=SIZES)
    def delete_statement(self, size: int) -> None:
        self.flush()
        self.session.execute(delete(self.Item).where(self.Item.size == size))
        for label in sorted(self.stored.current):
            if self.stored.versions[label][-1][1] == size:
                self.stored.close(label)
                assert self.objects.pop(label) not in self.session
                self.wanted.pop(label)

    @precondition(lambda self: self.objects)
    @rule(number=PICKS)
    def expire(self, number: int) -> None:
        self.flush()
        self.session.expire(self.objects[self.pick(number)])

    # -- transactions ----------------------------------------------------------------------------

    @rule()
    def flush(self) -> None:
        self.session.flush()
        for label in self.deleted:
            self.stored.close(label)
        self.deleted.clear()
        for label, values in self.wanted.items():
            self.stored.write(label, values)
        self.check()

    @rule()
    def commit(self) -> None:
        self.flush()
        self.session.commit()
        self.savepoints.clear()
        self.stored.made.clear()
        self.committed = deepcopy(self.stored)
        self.committed_objects = dict(self.objects)
        self.moments.append((self.clock(), {label: self.stored.versions[label][-1] for label in self.stored.current}))

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.savepoints.clear()
        self.go_back(self.committed, self.committed_objects)

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def begin_savepoint(self) -> None:
        self.flush()
        self.savepoints.append((self.session.begin_nested(), deepcopy(self.stored), dict(self.objects)))

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_savepoint(self) -> None:
        self.flush()
        self.savepoints.pop()[0].commit()

    @precondition(lambda self: self.savepoints)
    @rule()
    def rollback_savepoint(self) -> None:
        savepoint, state, objects = self.savepoints.pop()
        savepoint.rollback()
        self.go_back(state, objects)

    def go_back(self, state: State, objects: dict[str, Any]) -> None:
        self.stored, self.objects = deepcopy(state), dict(objects)
        self.wanted = {label: self.stored.versions[label][-1] for label in self.stored.current}
        self.deleted.clear()
        self.check()

    # -- what must hold --------------------------------------------------------------------------

    def check(self) -> None:
        table = self.Item.__table__
        order = {"versioned": "version_id", "temporal": "valid_from", "copied": "id"}[self.form]
        closed = table.c.valid_to.is_not(None) if self.form == "temporal" else table.c.is_current.is_(False)
        statement = select(table.c.label, table.c.name, table.c.size, closed).order_by(table.c.label, table.c[order])
        found: dict[str, list[Values]] = {}
        current: set[str] = set()
        for label, name, size, is_closed in self.session.connection().execute(statement):
            assert label not in current, "the current row is the last one, and the only one"
            found.setdefault(label, []).append((name, size))
            if not is_closed:
                current.add(label)
        assert found == self.stored.versions
        assert current == self.stored.current == set(self.objects)
        with self.session.no_autoflush:
            seen = {each.label: each for each in self.session.scalars(select(self.Item))}
        assert seen == self.objects, "the objects in hand are the current ones"
        for label, obj in self.objects.items():
            assert (obj.name, obj.size, is_current(obj)) == (*self.wanted[label], True)
        assert self.session.scalar(select(func.count()).select_from(self.Item)) == len(current)

    @rule()
    def check_moments(self) -> None:
        with Session(self.engine) if not self.session.in_transaction() else Session(self.session.connection()) as other:
            for moment, expected in self.moments[-8:]:
                rows = other.execute(select(self.Item.label, self.Item.name, self.Item.size).options(valid_at(moment)))
                assert {label: (name, size) for label, name, size in rows} == expected


@pytest.fixture(params=FORMS)
def machine(
    request: pytest.FixtureRequest, plain_bases: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> type[RowMachine]:
    base, form = plain_bases(), request.param
    use_real_savepoints(engine)

    class Item(MIXINS[form], base):
        __tablename__ = "item"
        __temporal__ = TemporalOptions(period=True)
        if form == "copied":
            id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(1), primary_key=form != "copied")
        name: Mapped[str] = mapped_column(String(50))
        size: Mapped[int]

    base.metadata.create_all(engine)
    clock = Clock()
    monkeypatch.setattr(_clock, "now", clock)
    members = {"engine": engine, "Item": Item, "form": form, "clock": clock}
    return type("Machine", (RowMachine,), members)


def _settings(examples: int, steps: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def test_whatever_a_session_does_every_past_moment_is_as_it_was(machine: type[RowMachine], engine: Engine) -> None:
    examples = 20 if engine.dialect.name == "sqlite" else 5
    run_state_machine_as_test(
        machine, settings=_settings(examples, 25, derandomize=True, database=None, phases=(Phase.generate,))
    )


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_whatever_a_session_does_for_a_long_time(machine: type[RowMachine]) -> None:
    # 200 runs of 50 steps, 10,000 for each form.
    examples = int(os.environ.get("SQLA_PATTERNS_SOAK", "200"))
    run_state_machine_as_test(machine, settings=_settings(examples, 50, print_blob=True))
