"""A state machine: all that can be done with versioned maps and a session, against a list of dictionaries a stream."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from sqla_patterns.versioning import (
    MapValueError,
    StaleVersionError,
    delete_stream,
    get_current,
    get_version,
    history_of,
    load_current,
)
from tests.conftest import BaseFactory
from tests.versioning._versioned_maps import configs, make, past

KEYS = st.sampled_from(["a", "b", "A", "k d"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 1), st.sampled_from([0.0, 1.0, -0.0, "", "1", [1], [True], {"a": [1.0]}])
)
STREAMS = st.integers(0, 1)
TENANTS = ("t0", "t1")


class Stream:
    """The versions of one stream, oldest first, and what is to become the next one."""

    def __init__(self, versions: list[dict[str, Any]]) -> None:
        self.versions = versions
        self.now = deepcopy(versions[-1])

    def copy(self) -> Stream:
        return Stream(deepcopy(self.versions))

    def flush(self) -> None:
        if repr(sorted(self.now.items())) != repr(sorted(self.versions[-1].items())):
            self.versions.append(deepcopy(self.now))


class Machine(RuleBasedStateMachine):
    """Two streams in one session; `cls` and `engine` are set by the test."""

    cls: ClassVar[Any]
    engine: ClassVar[Engine]

    @initialize()
    def begin(self) -> None:
        self.session = Session(self.engine, autoflush=False)
        for name in ("config_entry", "config_value", "config"):
            self.session.execute(delete(self.cls.metadata.tables[name]))
        self.maps = [make(self.cls, {"a": number}, tenant=tenant) for number, tenant in enumerate(TENANTS)]
        self.session.add_all(self.maps)
        self.session.commit()
        self.streams = [Stream([{"a": number}]) for number in range(2)]
        self.committed = [each.copy() for each in self.streams]
        self.savepoints: list[tuple[Any, list[Stream]]] = []

    # -- changes ---------------------------------------------------------------------------------------------------

    @rule(stream=STREAMS, key=KEYS, value=VALUES)
    def set(self, stream: int, key: str, value: Any) -> None:
        self.maps[stream][key] = value
        self.streams[stream].now[key] = deepcopy(value)

    @rule(stream=STREAMS, key=KEYS)
    def take_out(self, stream: int, key: str) -> None:
        assert repr(self.maps[stream].pop(key, 5)) == repr(self.streams[stream].now.pop(key, 5))

    @rule(stream=STREAMS, values=st.dictionaries(KEYS, VALUES))
    def update(self, stream: int, values: Any) -> None:
        self.maps[stream].update(values)
        self.streams[stream].now.update(deepcopy(values))

    @rule(stream=STREAMS)
    def clear(self, stream: int) -> None:
        self.maps[stream].clear()
        self.streams[stream].now.clear()

    @rule(stream=STREAMS)
    def set_back(self, stream: int) -> None:
        # The values of the present version, whatever was done since: no net change.
        self.maps[stream].clear()
        self.maps[stream].update(self.streams[stream].versions[-1])
        self.streams[stream].now = deepcopy(self.streams[stream].versions[-1])

    @rule(stream=STREAMS, values=st.dictionaries(KEYS, VALUES), key=KEYS)
    def refused(self, stream: int, values: Any, key: str) -> None:
        with pytest.raises(MapValueError):
            self.maps[stream].update({**values, key: float("nan")})

    # -- the session -----------------------------------------------------------------------------------------------

    @rule()
    def flush(self) -> None:
        self.session.flush()
        for each in self.streams:
            each.flush()

    @rule()
    def commit(self) -> None:
        self.flush()
        self.session.commit()
        self.savepoints.clear()
        self.committed = [each.copy() for each in self.streams]

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.savepoints.clear()
        self.streams = [each.copy() for each in self.committed]

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def savepoint(self) -> None:
        # begin_nested() flushes.
        nested = self.session.begin_nested()
        for each in self.streams:
            each.flush()
        self.savepoints.append((nested, [each.copy() for each in self.streams]))

    @precondition(lambda self: self.savepoints)
    @rule()
    def release(self) -> None:
        nested, _ = self.savepoints.pop()
        nested.commit()
        for each in self.streams:
            each.flush()

    @precondition(lambda self: self.savepoints)
    @rule()
    def roll_back_to_savepoint(self) -> None:
        self.flush()  # A savepoint keeps the unflushed changes of objects that it has not flushed.
        nested, streams = self.savepoints.pop()
        nested.rollback()
        self.streams = streams

    @rule(stream=STREAMS)
    def expire(self, stream: int) -> None:
        self.flush()
        self.session.expire(self.maps[stream])

    @rule(stream=STREAMS)
    def refresh(self, stream: int) -> None:
        self.flush()
        self.session.refresh(self.maps[stream])

    @rule()
    def begin_again(self) -> None:
        self.commit()
        self.session.close()
        self.maps = [get_current(self.session, self.cls, tenant=tenant) for tenant in TENANTS]

    @rule(stream=STREAMS)
    def detach_and_merge(self, stream: int) -> None:
        self.flush()
        self.session.refresh(self.maps[stream])
        if not self.savepoints:
            self.commit()
            self.session.refresh(self.maps[stream])
            self.session.expunge(self.maps[stream])
            self.maps[stream] = self.session.merge(self.maps[stream])

    @rule(stream=STREAMS, key=KEYS)
    def write_to_the_past(self, stream: int, key: str) -> None:
        self.commit()
        if len(self.streams[stream].versions) > 1:
            old = get_version(self.session, self.cls, 1, tenant=TENANTS[stream])
            old[key] = "another past"
            with pytest.raises(StaleVersionError):
                self.session.flush()
            self.session.rollback()

    @rule(stream=STREAMS)
    def delete_and_begin_anew(self, stream: int) -> None:
        self.commit()
        assert delete_stream(self.session, self.cls, tenant=TENANTS[stream]) == len(self.streams[stream].versions)
        self.session.commit()
        self.maps[stream] = make(self.cls, {"a": 7}, tenant=TENANTS[stream])
        self.session.add(self.maps[stream])
        self.streams[stream] = Stream([{"a": 7}])
        self.commit()

    # -- what holds ------------------------------------------------------------------------------------------------

    @rule(stream=STREAMS, key=KEYS)
    def ask_for_the_history(self, stream: int, key: str) -> None:
        self.flush()
        expected: list[tuple[Any, int]] = []
        missing = object()
        before: Any = missing
        for number, version in enumerate(self.streams[stream].versions, 1):
            value = version.get(key, missing)
            if value is not missing and repr(value) != repr(before):
                expected.append((value, number))
            before = value
        found = history_of(self.session, self.cls, key, tenant=TENANTS[stream])
        assert repr([tuple(each) for each in found]) == repr(expected)

    @rule()
    def ask_for_the_current_versions(self) -> None:
        self.flush()
        found = {each.tenant: each for each in load_current(self.session, self.cls)}
        assert [found[tenant] for tenant in TENANTS] == self.maps

    @rule(stream=STREAMS)
    def ask_the_tables(self, stream: int) -> None:
        self.flush()
        found = past(self.session, self.cls, tenant=TENANTS[stream])
        assert [_shown(values) for _, values in found] == [_shown(each) for each in self.streams[stream].versions]
        assert [number for number, _ in found] == list(range(1, len(found) + 1))

    @invariant()
    def memory_is_the_model(self) -> None:
        if hasattr(self, "streams"):
            for config, stream in zip(self.maps, self.streams, strict=True):
                assert _shown(dict(config)) == _shown(stream.now)
                assert config.version == len(stream.versions)

    def teardown(self) -> None:
        if hasattr(self, "streams"):
            for number in range(2):
                self.ask_the_tables(number)
            self.session.close()


def _shown(values: dict[str, Any]) -> str:
    return repr(sorted(values.items()))


def _run(engine: Engine, cls: Any, examples: int, **options: Any) -> None:
    machine = type("Machine", (Machine,), {"cls": cls, "engine": engine})
    cls.metadata.create_all(engine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **{"stateful_step_count": 30, "derandomize": True, "database": None, **options},
        ),
    )


def test_the_model_holds(bases: BaseFactory, engine: Engine) -> None:
    _run(engine, configs(bases()), 25 if engine.dialect.name == "sqlite" else 5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_model_holds_for_long(plain_bases: Callable[[], Any], engine: Engine) -> None:
    examples = int(os.environ.get("SQLA_PATTERNS_SOAK", "300" if engine.dialect.name == "sqlite" else "40"))
    _run(engine, configs(plain_bases()), examples, stateful_step_count=100, derandomize=False)
