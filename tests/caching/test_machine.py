"""Random sequences of transactions: a cached read always returns what the database returns to the same session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, delete, event, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_patterns.caching._freshness import Freshness
from sqla_patterns.caching._memory_stamps import MemoryStamps
from tests._support import Database
from tests.caching._hooked import HookedStamps
from tests.caching._reader import Reader


class Base(DeclarativeBase):
    pass


class Left(Base):
    __tablename__ = "machine_left"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]


class Right(Base):
    __tablename__ = "machine_right"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]


SESSIONS = 3
STATEMENTS: dict[str, Any] = {
    "left": select(Left.id, Left.value).order_by(Left.id),
    "right": select(Right.id, Right.value).order_by(Right.id),
    "both": select(Left.id, Left.value, Right.value).join(Right, Right.id == Left.id).order_by(Left.id),
}
WHO = st.integers(0, SESSIONS - 1)
TABLE = st.sampled_from([Left, Right])


class Machine(RuleBasedStateMachine):
    """Three sessions, each of which writes its own rows, so that none waits for another."""

    engine: Engine
    level: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.stamps = HookedStamps(MemoryStamps(max_tags=6, clock=lambda: self.now))
        self.freshness = Freshness(self.stamps, pause=0, lease=10)
        self.reader = Reader(self.freshness)
        engine = self.engine if self.level is None else self.engine.execution_options(isolation_level=self.level)
        self.make = sessionmaker(engine)
        with Session(self.engine) as session:
            for table in (Left, Right):
                session.execute(delete(table))
                session.execute(insert(table), [{"id": number, "value": 0} for number in range(SESSIONS)])
            session.commit()
        self.handle = self.reader.attach(self.make)
        self.freshness.track_engine(self.engine)
        self.sessions = [self.make() for _ in range(SESSIONS)]
        self.written = [False] * SESSIONS
        self.value = 0

    def teardown(self) -> None:
        for session in self.sessions:
            session.close()
        self.handle.detach()
        self.freshness.detach()

    def _write(self, who: int, statement: Any) -> None:
        if self.engine.dialect.name == "sqlite" and any(self.written[:who] + self.written[who + 1 :]):
            return  # SQLite has one writer at a time.
        try:
            self.sessions[who].execute(statement)
            self.written[who] = True
        except OperationalError:  # A snapshot that is too old to write on.
            self.sessions[who].rollback()

    @rule(who=WHO, table=TABLE)
    def update(self, who: int, table: Any) -> None:
        self.value += 1
        self._write(who, update(table).where(table.id == who).values(value=self.value))

    @rule(who=WHO, table=TABLE)
    def update_in_text(self, who: int, table: Any) -> None:
        self.value += 1
        self._write(who, text(f"UPDATE {table.__tablename__} SET value = {self.value} WHERE id = {who}"))

    @rule(who=WHO, table=TABLE, kept=st.booleans())
    def update_in_a_savepoint(self, who: int, table: Any, kept: bool) -> None:
        if self.engine.dialect.name == "sqlite":
            return  # Its driver begins no transaction before a savepoint.
        nested = self.sessions[who].begin_nested()
        self.value += 1
        self.sessions[who].execute(update(table).where(table.id == who).values(value=self.value))
        self.written[who] = True
        nested.commit() if kept else nested.rollback()

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        self.sessions[who].commit()
        self.written[who] = False

    @rule(who=WHO)
    def roll_back(self, who: int) -> None:
        self.sessions[who].rollback()
        self.written[who] = False

    @rule(who=WHO, name=st.sampled_from(sorted(STATEMENTS)))
    def read(self, who: int, name: str) -> None:
        self._compare(self.sessions[who], name)

    @rule(name=st.sampled_from(sorted(STATEMENTS)))
    def read_anew(self, name: str) -> None:
        """Read in a new session, whose transaction has only just begun."""
        for _ in range(2):
            with self.make() as session:
                self._compare(session, name)

    def _compare(self, session: Session, name: str) -> None:
        cached = self.reader.rows(session, STATEMENTS[name], key=name)
        assert cached == [tuple(row) for row in session.execute(STATEMENTS[name])], f"{name}, a {self.reader.last}"

    @rule(step=st.sampled_from(["mark", "done", "read", "epoch"]))
    def lose_the_store(self, step: str) -> None:
        self.stamps.broken.add(step)

    @precondition(lambda self: self.stamps.broken)
    @rule(who=WHO)
    def find_the_store_again(self, who: int) -> None:
        self.stamps.broken.clear()
        self.commit(who)

    @rule()
    def forget_stamps(self) -> None:
        for number in range(6):
            self.stamps.inner.touch([f"u:{number}"])

    @rule()
    def start_a_generation(self) -> None:
        self.stamps.inner.new_generation()

    @rule()
    def let_leases_expire(self) -> None:
        self.now += 11

    @invariant()
    def nothing_from_nowhere(self) -> None:
        for _, rows in self.reader.entries.values():
            assert all(max(row) <= max(self.value, SESSIONS) for row in rows)


def _run(engine: Engine, level: str | None, examples: int) -> None:
    Base.metadata.create_all(engine)
    served: list[int] = []

    class Bound(Machine):
        def teardown(self) -> None:
            super().teardown()
            served.append(self.reader.counts["hit"])

    Bound.engine, Bound.level = engine, level
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=False,
        ),
    )
    assert sum(served) > examples / 4, "a machine that never hits tests nothing"


def test_a_cached_read_is_what_the_database_says(engine_factory: Callable[..., Engine], database: Database) -> None:
    engine = engine_factory()
    if database.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    _run(engine, None, 25)


@pytest.mark.only_on("postgresql", "mariadb")
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_cached_read_is_what_the_database_says_at_each_level(
    engine_factory: Callable[..., Engine], level: str
) -> None:
    _run(engine_factory(), level, 25)


@pytest.mark.soak
def test_a_cached_read_is_what_the_database_says_in_the_long_run(engine_factory: Callable[..., Engine]) -> None:
    _run(engine_factory(), None, 500)


@pytest.mark.only_on("sqlite")
def test_a_cached_read_is_what_sqlite_says_in_transactions_begun_by_hand(engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory(connect_args={"timeout": 0.2})
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA journal_mode=WAL")  # Before any BEGIN.
    _run(engine, None, 25)
