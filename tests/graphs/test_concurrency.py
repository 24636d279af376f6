"""Of two transactions that each add a part of one cycle at most one commits, whatever the isolation levels."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from sqla_patterns.graphs import CycleError, find_cycles
from tests.graphs._models import GraphModels

SERVERS = ("postgresql", "mariadb")
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
TIMEOUT = 60.0

Outcome = BaseException | None
Make = Callable[..., "SharedGraph"]

levels = pytest.mark.parametrize("isolation", LEVELS)
second_levels = pytest.mark.parametrize("other", LEVELS)

# Nodes and edges that exist, and the edges that each of two writers adds. Only both together close a cycle.
LAYOUTS = {
    "pair": ("ab", "", "ab", "ba"),
    "square": ("abcd", "bc da", "ab", "cd"),
    "long": ("abcdefghijkl", "bc cd de ef gh hi ij jk kl la xb cy", "fg", "ab"),
    "empty": ("abc", "", "ab bc", "ca"),
    "fan": ("abcdef", "ca da be", "ab ef", "ea"),
}
layouts = pytest.mark.parametrize("layout", ["pair", "square", "long", "empty"])


class SharedGraph:
    """An acyclic graph on a database with many connections, which several writers change at the same time."""

    def __init__(self, factory: Callable[..., Engine], base: Any) -> None:
        self.engine = factory()
        if self.engine.dialect.name == "mysql":
            # A lock wait that is no deadlock is a failure of the test. Its timeout need not be 50 seconds.
            event.listen(self.engine, "connect", _shorten_lock_waits)
        self.graph = GraphModels(base, acyclic=True)
        self.graph.create(self.engine)

    def at(self, isolation: str | None) -> Engine:
        """Return the engine at an isolation level."""
        return self.engine if isolation is None else self.engine.execution_options(isolation_level=isolation)

    def insert(self, letters: str, edges: str) -> dict[str, Any]:
        """Delete all rows, insert nodes and edges, and return the keys of the nodes by name."""
        with Session(self.engine) as session:
            for table in reversed(self.graph.base.metadata.sorted_tables):
                session.connection().execute(table.delete())
            present = sorted({*letters, *edges.replace(" ", "")})
            nodes = self.graph.insert(session, present, edges)
            return {name: node.id for name, node in nodes.items()}

    def add(self, session: Session, keys: dict[str, Any], edges: str) -> None:
        """Add edges between loaded nodes."""
        for pair in edges.split():
            # No flush before the last edge: the writers start their flushes at the same time.
            with session.no_autoflush:
                lower, higher = (session.get_one(self.graph.Node, keys[name]) for name in pair)
                lower.add_neighbor(higher)

    def add_keys(self, session: Session, keys: dict[str, Any], edges: str) -> None:
        """Add edges by the keys of their ends, so that nothing is read before the flush."""
        for pair in edges.split():
            edge = self.graph.Edge()
            edge.lower_id, edge.higher_id = keys[pair[0]], keys[pair[1]]
            session.add(edge)

    def assert_acyclic(self) -> set[str]:
        """Assert that there is no cycle, and return the edges."""
        with Session(self.engine) as session:
            assert find_cycles(session, self.graph.Node) == []
            return self.graph.pairs(session)


@pytest.fixture
def shared(engine_factory: Callable[..., Engine], plain_bases: Any) -> SharedGraph:
    return SharedGraph(engine_factory, plain_bases())


def _shorten_lock_waits(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SET innodb_lock_wait_timeout = 10")
    cursor.close()


def run_at_once(*jobs: Callable[[], None]) -> list[Outcome]:
    """Run all `jobs` at the same time, each in a thread, and return what each has raised."""
    outcomes: list[Outcome] = [None] * len(jobs)
    start = Barrier(len(jobs))

    def run(index: int, job: Callable[[], None]) -> None:
        try:
            start.wait(TIMEOUT)
            job()
        except BaseException as error:  # noqa: BLE001 - the test checks it
            outcomes[index] = error

    threads = [Thread(target=run, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in threads), "a writer does not end"
    return outcomes


def is_refused(error: Outcome) -> bool:
    """Return whether a writer was refused as it should be.

    Either a cycle was found, or the database refused a stale snapshot (40001) or ended a deadlock (40P01, 1213).
    """
    if isinstance(error, CycleError):
        return True
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(error, DBAPIError) and (
        state in {"40001", "40P01"} or "1213" in str(error) or "1020" in str(error)
    )


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def run_one_after_the_other(
    shared: SharedGraph, first: tuple[str, Callable[[Session], None]], second: tuple[str, Callable[[Session], None]]
) -> list[Outcome]:
    """Flush `first`, then `second` in a thread, commit `first` once `second` waits for it or is done; return errors.

    Both read before that, so that a snapshot, where the isolation level has one, is older than what the other writes.
    """
    outcomes: list[Outcome] = [None, None]
    ready, go, done = Event(), Event(), Event()
    # MariaDB's SERIALIZABLE locks what a plain SELECT reads: there the second writer would block the first one.
    reads_edges = shared.engine.dialect.name == "postgresql" or "SERIALIZABLE" not in {first[0], second[0]}
    first_read = select(shared.graph.Edge.__table__) if reads_edges else select(1)

    def run_second() -> None:
        try:
            with Session(shared.at(second[0])) as session:
                session.execute(first_read).all()
                ready.set()
                assert go.wait(TIMEOUT)
                second[1](session)
                session.commit()
        except BaseException as error:  # noqa: BLE001 - the test checks it
            outcomes[1] = error
        finally:
            ready.set()
            done.set()

    thread = Thread(target=run_second, daemon=True)
    with Session(shared.at(first[0])) as session:
        session.execute(first_read).all()
        thread.start()
        assert ready.wait(TIMEOUT)
        try:
            first[1](session)
            session.flush()
            go.set()
            _wait_until_blocked(shared.engine, done)
            session.commit()
        except (DBAPIError, CycleError) as error:
            outcomes[0] = error
            session.rollback()
            go.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive(), "the second writer does not end"
    return outcomes


def _wait_until_blocked(engine: Engine, done: Event) -> None:
    if engine.dialect.name != "postgresql":
        # InnoDB caches what it reports of its locks, and repeated queries keep it from refreshing that.
        done.wait(0.3)
        return
    deadline = time.monotonic() + TIMEOUT
    while not done.is_set():
        with engine.connect() as connection:
            if connection.scalar(text(_WAITING)):
                return
        assert time.monotonic() < deadline, "the second writer neither waits nor ends"
        done.wait(0.02)


@pytest.mark.only_on(*SERVERS)
@levels
@second_levels
@layouts
def test_two_halves_of_a_cycle_one_after_the_other_never_both_commit(
    shared: SharedGraph, isolation: str, other: str, layout: str
) -> None:
    letters, edges, one, two = LAYOUTS[layout]
    for add in (shared.add, shared.add_keys):
        keys = shared.insert(letters, edges)
        outcomes = run_one_after_the_other(
            shared,
            (isolation, lambda session, add=add, keys=keys: add(session, keys, one)),
            (other, lambda session, add=add, keys=keys: add(session, keys, two)),
        )
        # A deadlock ends either; a stale snapshot ends the second.
        assert sum(error is None for error in outcomes) == 1, outcomes
        assert all(error is None or is_refused(error) for error in outcomes), outcomes
        shared.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
@levels
def test_two_halves_of_a_cycle_at_the_same_time_never_both_commit(shared: SharedGraph, isolation: str) -> None:
    for attempt in range(12):
        letters, edges, one, two = list(LAYOUTS.values())[attempt % 5]
        keys = shared.insert(letters, edges)
        ready = Barrier(2)

        def write(
            wanted: str, keys: dict[str, Any] = keys, ready: Barrier = ready, by_key: bool = attempt % 2 == 0
        ) -> None:
            with Session(shared.at(isolation)) as session:
                session.execute(select(shared.graph.Edge.__table__)).all()
                (shared.add_keys if by_key else shared.add)(session, keys, wanted)
                ready.wait(TIMEOUT)
                session.commit()

        outcomes = run_at_once(lambda one=one, write=write: write(one), lambda two=two, write=write: write(two))
        assert sum(error is None for error in outcomes) <= 1, outcomes
        assert all(error is None or is_refused(error) for error in outcomes), outcomes
        shared.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
@levels
def test_an_edge_through_a_new_node_of_another_transaction_is_seen(shared: SharedGraph, isolation: str) -> None:
    # The first writer adds an edge from an old node to a new one, and only in a later flush one from there to another.
    keys = shared.insert("abc", "ca")

    def first(session: Session) -> None:
        new = shared.graph.make_node("n", 50)
        a, b = (session.get_one(shared.graph.Node, keys[name]) for name in "ab")
        a.add_neighbor(new)
        session.flush()
        new.add_neighbor(b)

    outcomes = run_one_after_the_other(
        shared, (isolation, first), (isolation, lambda session: shared.add_keys(session, keys, "bc"))
    )
    assert sum(error is None for error in outcomes) == 1, outcomes
    assert all(error is None or is_refused(error) for error in outcomes), outcomes
    shared.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
def test_writers_that_close_no_cycle_all_commit_under_read_committed(shared: SharedGraph) -> None:
    letters = "abcdefghijklmnop"
    keys = shared.insert(letters, "")

    def write(number: int) -> None:
        for step in range(1, 5):
            with Session(shared.at("READ COMMITTED")) as session:
                lower, higher = letters[number], letters[number + step * 2]
                shared.add(session, keys, lower + higher)
                session.commit()

    outcomes = run_at_once(*(lambda number=number: write(number) for number in range(6)))
    errors = [error for error in outcomes if error is not None]
    if shared.engine.dialect.name == "postgresql":
        assert errors == []
        assert len(shared.assert_acyclic()) == 24
    else:
        # Writers may lock the same rows in different orders; the database then ends one of them.
        assert all(is_refused(error) for error in errors), errors
        shared.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
@levels
def test_many_writers_of_random_edges_leave_no_cycle(shared: SharedGraph, isolation: str) -> None:
    letters = "abcdefgh"
    keys = shared.insert(letters, "ab")
    added = [0] * 5

    def write(number: int) -> None:
        rng = random.Random(number)
        for _ in range(12):
            with Session(shared.at(isolation)) as session:
                try:
                    shared.add(session, keys, "".join(rng.sample(letters, 2)))
                    session.commit()
                    added[number] += 1
                except (CycleError, DBAPIError) as error:
                    # Two writers may also pick the same edge.
                    if not (is_refused(error) or isinstance(error, IntegrityError)):
                        raise

    outcomes = run_at_once(*(lambda number=number: write(number) for number in range(5)))
    assert outcomes == [None] * 5
    shared.assert_acyclic()
    assert sum(added) > 5


@pytest.mark.only_on("sqlite")
def test_two_halves_of_a_cycle_on_a_sqlite_file_never_both_commit(shared: SharedGraph) -> None:
    for letters, edges, one, two in LAYOUTS.values():
        keys = shared.insert(letters, edges)
        ready = Barrier(2)

        def write(wanted: str, keys: dict[str, Any] = keys, ready: Barrier = ready) -> None:
            with Session(shared.engine) as session:
                shared.add_keys(session, keys, wanted)
                ready.wait(TIMEOUT)
                session.commit()

        outcomes = run_at_once(lambda one=one, write=write: write(one), lambda two=two, write=write: write(two))
        assert sum(error is None for error in outcomes) == 1, outcomes
        assert all(
            error is None
            or isinstance(error, CycleError)
            or (isinstance(error, OperationalError) and "locked" in str(error))
            for error in outcomes
        ), outcomes
        shared.assert_acyclic()
