"""Random operations of sessions on versioned objects, compared with a model that lists all past states."""

from __future__ import annotations

import os
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import JSON, Engine, String, delete, insert, select, update
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.versioning import (
    RevisionLog,
    Versioned,
    VersionOptions,
    as_of,
    prune,
    restore,
    revert,
    revision,
    version_at,
    versioning_disabled,
    versions,
)
from tests.versioning._models import history, history_table, use_real_savepoints

KEYS = st.sampled_from("abcd")
ACTORS = st.sampled_from(["ann", "bob", None])
NAMES = ("title", "size", "data")

Values = dict[str, Any]


class State:
    """The model: what is stored at one point of a transaction."""

    def __init__(self) -> None:
        #: The current version of each existing key: its number, and which of `Machine.values` it has.
        self.live: dict[str, tuple[int, int]] = {}
        #: What ended, by key: number, values, operation.
        self.past: dict[str, list[tuple[int, int, str]]] = {key: [] for key in "abcdef"}
        #: Keys whose current version was made by this transaction, with the `revision` block that did, or None.
        self.made: dict[str, int | None] = {}

    def copy(self) -> State:
        return deepcopy(self)

    def next_number(self, key: str) -> int:
        numbers = [number for number, _, _ in self.past[key]]
        return max(numbers, default=0) + 1


class Clock:
    """A clock that advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


class VersionMachine(RuleBasedStateMachine):
    """Two sessions that take turns.

    Each change is made through the ORM, by a bulk statement, or by a function of the package.
    """

    engine: Engine
    Doc: Any
    granularity: str
    clock: Clock

    @initialize()
    def begin(self) -> None:
        with self.engine.begin() as connection:
            for table in (self.Doc.__table__, history_table(self.Doc)):
                connection.execute(table.delete())
        self.sessions = [
            Session(self.engine, autoflush=False),
            Session(self.engine, autoflush=False, expire_on_commit=False),
        ]
        self.session = self.sessions[0]
        #: Every state that any key ever had; versions refer to them by index.
        self.values: list[Values] = []
        self.stored = State()
        self.committed = self.stored.copy()
        self.savepoints: list[tuple[Any, State]] = []
        #: What the session has, flushed or not: values by key.
        self.wanted: dict[str, Values] = {}
        self.new: dict[str, Any] = {}
        self.moments: list[tuple[datetime, dict[str, int]]] = []
        self.pruned = self.ending = False
        self.block: int | None = None
        self.counter = 0
        self.store_moment()

    def teardown(self) -> None:
        if hasattr(self, "session"):
            try:
                self.ending = True
                self.commit_all()
            finally:
                for session in self.sessions:
                    session.close()

    # -- the model -----------------------------------------------------------------------------

    def next_counter(self) -> int:
        self.counter += 1
        return self.counter

    def apply_flush(self) -> None:
        """Set the model's rows to what the session has flushed."""
        for key in "abcdef":
            new = self.wanted.get(key)
            old = self.stored.live.get(key)
            if old is None:
                if new is not None:
                    self.inserted(key, new)
            elif new is None:
                self.deleted(key)
            elif new != self.values[old[1]]:
                self.changed(key, new)
        self.new.clear()

    def remember(self, values: Values) -> int:
        self.values.append(deepcopy(values))
        return len(self.values) - 1

    def inserted(self, key: str, values: Values) -> None:
        self.stored.live[key] = (self.stored.next_number(key), self.remember(values))
        self.stored.made[key] = self.block

    def changed(self, key: str, values: Values) -> None:
        number, index = self.stored.live[key]
        if self.granularity == "transaction" and self.stored.made.get(key, "other") == self.block:
            self.stored.live[key] = (number, self.remember(values))
            return
        self.stored.past[key].append((number, index, "update"))
        self.stored.live[key] = (number + 1, self.remember(values))
        self.stored.made[key] = self.block

    def deleted(self, key: str) -> None:
        number, index = self.stored.live.pop(key)
        past = self.stored.past[key]
        if self.granularity == "flush" or self.stored.made.pop(key, "other") != self.block:
            past.append((number, index, "delete"))
        elif past and past[-1][0] == number - 1 and past[-1][2] == "update":
            # The deletion has ended the version before, as no other transaction has ever seen the present one.
            past[-1] = (*past[-1][:2], "delete")

    def store_moment(self) -> None:
        """Store a moment between this transaction and the next."""
        self.moments.append((self.clock(), {key: index for key, (_, index) in self.stored.live.items()}))

    # -- the session ---------------------------------------------------------------------------

    def flush(self) -> None:
        self.session.flush()
        self.apply_flush()

    def obj(self, key: str) -> Any:
        return self.new.get(key) or self.session.get_one(self.Doc, key)

    def reread(self) -> None:
        """Set what the session expects to what is stored."""
        self.wanted = {key: deepcopy(self.values[index]) for key, (_, index) in self.stored.live.items()}
        self.new.clear()

    def commit_all(self) -> None:
        self.session.commit()
        self.apply_flush()
        self.savepoints.clear()
        self.stored.made.clear()
        self.committed = self.stored.copy()
        self.store_moment()
        self.compare_all()

    # -- rules ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.wanted) < 4)
    @rule(key=KEYS, size=st.integers(0, 3))
    def add(self, key: str, size: int) -> None:
        if key in self.wanted:
            return
        if key in self.stored.live:
            self.flush()  # There is another rule for row switches.
        values = {"title": f"t{self.next_counter()}", "size": size, "data": {"k": 0}}
        self.new[key] = self.Doc(key=key, **deepcopy(values))
        self.session.add(self.new[key])
        self.wanted[key] = values

    @precondition(lambda self: self.wanted)
    @rule(data=st.data(), size=st.integers(0, 3))
    def edit(self, data: Any, size: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        self.obj(key).size = size
        self.wanted[key]["size"] = size

    @precondition(lambda self: self.wanted)
    @rule(data=st.data(), back=st.booleans())
    def edit_and_undo(self, data: Any, back: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        obj = self.obj(key)
        obj.title = "in between"
        self.wanted[key]["title"] = obj.title = self.wanted[key]["title"] if back else f"t{self.next_counter()}"

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def set_expired_to_what_it_is(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        self.flush()
        obj = self.obj(key)
        self.session.expire(obj)
        obj.title = self.wanted[key]["title"]

    @precondition(lambda self: self.wanted)
    @rule(data=st.data(), value=st.integers(0, 3))
    def mutate_in_place(self, data: Any, value: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        obj = self.obj(key)  # kept here, as the session might release it before the change
        obj.data["k"] = value
        self.wanted[key]["data"]["k"] = value

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        if key in self.new:
            self.flush()
        self.session.delete(self.obj(key))
        del self.wanted[key]

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def switch_rows(self, data: Any) -> None:
        """Delete an object and add another with its key, in one flush."""
        self.flush()
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        self.session.delete(self.obj(key))
        values = {"title": f"t{self.next_counter()}", "size": 9, "data": {"k": 9}}
        self.session.add(self.Doc(key=key, **deepcopy(values)))
        self.wanted[key] = values
        self.flush()

    @precondition(lambda self: self.wanted)
    @rule(size=st.integers(0, 3), synchronize=st.sampled_from(["auto", "fetch", "evaluate", False]))
    def bulk_update(self, size: int, synchronize: Any) -> None:
        self.flush()
        title = f"t{self.next_counter()}"
        statement = update(self.Doc).where(self.Doc.size == size).values(title=title)
        self.session.execute(statement.execution_options(synchronize_session=synchronize))
        for key, values in self.wanted.items():
            if values["size"] == size:
                values["title"] = title
                self.changed(key, values)
        if synchronize is False:
            self.session.expire_all()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def bulk_update_by_key(self, data: Any) -> None:
        self.flush()
        keys = data.draw(st.lists(st.sampled_from(sorted(self.wanted)), min_size=1, unique=True))
        rows = [{"key": key, "title": f"t{self.next_counter()}"} for key in keys]
        self.session.execute(update(self.Doc), rows)
        for row in rows:
            self.wanted[row["key"]]["title"] = row["title"]
            self.changed(row["key"], self.wanted[row["key"]])

    @rule(size=st.integers(0, 3))
    def bulk_delete(self, size: int) -> None:
        self.flush()
        self.session.execute(delete(self.Doc).where(self.Doc.size == size))
        self.wanted = {key: values for key, values in self.wanted.items() if values["size"] != size}
        self.apply_flush()

    @rule(size=st.integers(0, 3))
    def bulk_insert(self, size: int) -> None:
        self.flush()
        keys = [key for key in "abcd" if key not in self.wanted][:2]
        if keys:
            rows = [{"title": f"t{self.next_counter()}", "size": size, "data": {"k": 0}} for _ in keys]
            self.session.execute(insert(self.Doc), [{"key": key, **row} for key, row in zip(keys, rows, strict=True)])
            self.wanted.update(zip(keys, rows, strict=True))
            self.apply_flush()

    @precondition(lambda self: any(self.stored.past[key] for key in self.stored.live))
    @rule(data=st.data())
    def revert(self, data: Any) -> None:
        self.flush()
        keys = [key for key in sorted(self.stored.live) if self.stored.past[key]]
        if keys and not self.pruned:
            key = data.draw(st.sampled_from(keys))
            numbers = {number: index for number, index, _ in self.stored.past[key]}
            number = data.draw(st.sampled_from(sorted(numbers)))
            revert(self.session, self.obj(key), to=number)
            self.wanted[key] = deepcopy(self.values[numbers[number]])
            self.flush()

    @precondition(lambda self: not self.pruned)
    @rule(data=st.data())
    def restore(self, data: Any) -> None:
        self.flush()
        gone = [key for key in "abcd" if self.stored.past[key] and key not in self.wanted]
        if gone:
            key = data.draw(st.sampled_from(gone))
            restore(self.session, self.Doc, key)
            self.wanted[key] = deepcopy(self.values[self.stored.past[key][-1][1]])
            self.flush()

    @rule(actor=ACTORS, size=st.integers(0, 3))
    def revise(self, actor: str | None, size: int) -> None:
        self.flush()
        with revision(self.session, actor=actor):
            self.block = self.next_counter()
            for key, values in self.wanted.items():
                self.obj(key).size = size
                values["size"] = size
            self.flush()
        self.block = None

    @precondition(lambda self: self.wanted and self.granularity == "flush")
    @rule(data=st.data())
    def edit_while_disabled(self, data: Any) -> None:
        """Overwrite the current version: for the history, it has always been so."""
        self.flush()
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        with versioning_disabled(self.session):
            self.wanted[key]["title"] = self.obj(key).title = f"t{self.next_counter()}"
            self.session.flush()
        _, index = self.stored.live[key]
        self.savepoint_barrier()
        self.values[index] = deepcopy(self.wanted[key])
        self.commit_all()

    def savepoint_barrier(self) -> None:
        """Forget savepoints, as overwritten values are shared by all copies of the state."""
        while self.savepoints:
            self.savepoints.pop()[0].commit()

    @precondition(lambda self: self.wanted and self.granularity == "flush")
    @rule(data=st.data())
    def change_the_key(self, data: Any) -> None:
        """Change a key: old rows stay under the old key; the number continues after those that the new key has had."""
        self.flush()
        old = data.draw(st.sampled_from(sorted(self.wanted)))
        new = data.draw(st.sampled_from([key for key in "abcdef" if key not in self.wanted]))
        self.obj(old).key = new
        self.session.flush()
        number, index = self.stored.live.pop(old)
        self.stored.past[old].append((number, index, "update"))
        self.wanted[new] = self.wanted.pop(old)
        following = max(number + 1, self.stored.next_number(new))
        self.stored.live[new] = following, self.remember(self.wanted[new])

    @rule()
    def flush_now(self) -> None:
        self.flush()

    @precondition(lambda self: len(self.savepoints) < 2)
    @rule()
    def savepoint(self) -> None:
        self.flush()
        self.savepoints.append((self.session.begin_nested(), self.stored.copy()))

    @precondition(lambda self: self.savepoints)
    @rule(release=st.booleans())
    def end_savepoint(self, release: bool) -> None:
        savepoint, state = self.savepoints.pop()
        if release:
            savepoint.commit()
            self.apply_flush()
        else:
            savepoint.rollback()
            self.stored = state
            self.reread()

    @rule()
    def commit(self) -> None:
        self.commit_all()

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.savepoints.clear()
        self.stored = self.committed.copy()
        self.reread()

    @rule()
    def switch_sessions(self) -> None:
        self.commit_all()
        self.session = self.sessions[1 - self.sessions.index(self.session)]
        self.session.expire_all()
        self.reread()

    @precondition(lambda self: self.granularity == "flush")
    @rule(keep=st.integers(0, 2))
    def prune_and_roll_back(self, keep: int) -> None:
        self.commit_all()
        expected = sum(max(0, len(rows) - keep) for rows in self.stored.past.values())
        assert prune(self.session, self.Doc, keep=keep) == expected
        self.session.rollback()
        self.reread()

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def versions_in_memory_are_those_of_the_rows(self) -> None:
        if not hasattr(self, "session") or self.session.dirty or self.session.new or self.session.deleted:
            return
        rows = {row.key: row.version for row in self.session.execute(select(self.Doc.key, self.Doc.version))}
        for obj in self.session.identity_map.values():
            if isinstance(obj, self.Doc) and "version" in obj.__dict__ and obj.key in rows:
                assert obj.__dict__["version"] == rows[obj.key], obj.key

    def compare_all(self) -> None:
        """Check that the library's past of every moment, and its history row by row, are the model's."""
        session = self.session
        # All moments at the end; here those that the last steps may have changed, and one more in turn.
        some = [*self.moments[-2:], self.moments[self.counter % len(self.moments)]]
        for moment, expected in self.moments if self.ending else some:
            found = {each.key: told(each) for each in as_of(session, select(self.Doc), moment)}
            assert found == {key: self.values[index] for key, index in expected.items()}, moment
        for moment, expected in (self.moments[-1], self.moments[len(self.moments) // 2]):
            for key in "abcdef":
                past = version_at(session, self.Doc, key, moment)
                index = expected.get(key)
                assert (past and told(past)) == (None if index is None else self.values[index]), (key, moment)
        if self.granularity == "flush":
            rows = {key: [] for key in "abcdef"}
            for key, number, operation, *values in history(session, self.Doc, "key", "version", "operation", *NAMES):
                rows[key].append((number, dict(zip(NAMES, values, strict=True)), operation))
            assert rows == {
                key: [(number, self.values[index], how) for number, index, how in past]
                for key, past in self.stored.past.items()
            }
            for key, (number, _) in self.stored.live.items():
                found = versions(session, session.get_one(self.Doc, key))
                assert [version.number for version in found] == [
                    *(number for number, _, _ in self.stored.past[key]),
                    number,
                ]
        periods: dict[str, list[Any]] = {}
        for key, start, end in history(session, self.Doc, "key", "valid_from", "valid_to"):
            assert start <= end
            assert not periods.get(key) or periods[key][-1][1] <= start
            periods.setdefault(key, []).append((start, end))
        session.rollback()
        session.expire_all()


def told(doc: Any) -> Values:
    return {name: deepcopy(getattr(doc, name)) for name in NAMES} | {"data": dict(doc.data)}


@pytest.fixture(params=["flush", "transaction"])
def machine(
    request: pytest.FixtureRequest, engine: Engine, plain_bases: Any, monkeypatch: pytest.MonkeyPatch
) -> type[VersionMachine]:
    clock = Clock()
    monkeypatch.setattr("sqla_patterns.versioning._clock.now", clock)
    use_real_savepoints(engine)
    base = plain_bases()

    class Revision(RevisionLog, base):
        __tablename__ = "revision"

    class Doc(Versioned, base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True, operation=True, revision=Revision, granularity=request.param)
        key: Mapped[str] = mapped_column(String(5), primary_key=True)
        title: Mapped[str] = mapped_column(String(50))
        size: Mapped[int]
        data: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON))

    base.metadata.create_all(engine)
    return type(
        "Machine", (VersionMachine,), {"engine": engine, "Doc": Doc, "granularity": request.param, "clock": clock}
    )


def _settings(examples: int, steps: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        **more,
    )


def test_whatever_sessions_do_every_past_moment_is_as_it_was(machine: type[VersionMachine], engine: Engine) -> None:
    examples = 20 if engine.dialect.name == "sqlite" else 8
    run_state_machine_as_test(
        machine, settings=_settings(examples, 20, derandomize=True, database=None, phases=(Phase.generate,))
    )


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_whatever_sessions_do_for_a_long_time(machine: type[VersionMachine]) -> None:
    examples = int(os.environ.get("SQLA_PATTERNS_SOAK", "1000"))
    run_state_machine_as_test(machine, settings=_settings(examples, 50, print_blob=True))
