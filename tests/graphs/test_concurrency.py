"""Two transactions that each add a part of one cycle: never do both commit, whatever the isolation level."""

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
from tests.graphs._world import World

SERVERS = ("postgresql", "mariadb")
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
PATIENCE = 60.0

Outcome = BaseException | None
Make = Callable[..., "Place"]

levels = pytest.mark.parametrize("isolation", LEVELS)
second_levels = pytest.mark.parametrize("other", LEVELS)

# What is there, and the edge that each of two writers adds; together they close a cycle, alone they do not.
LAYOUTS = {
    "pair": ("ab", "", "ab", "ba"),
    "square": ("abcd", "bc da", "ab", "cd"),
    "long": ("abcdefghijkl", "bc cd de ef gh hi ij jk kl la xb cy", "fg", "ab"),
    "empty": ("abc", "", "ab bc", "ca"),
    "fan": ("abcdef", "ca da be", "ab ef", "ea"),
}
layouts = pytest.mark.parametrize("layout", ["pair", "square", "long", "empty"])


class Place:
    """A graph on a database with many connections, at one isolation level for each writer."""

    def __init__(self, factory: Callable[..., Engine], base: Any) -> None:
        self.engine = factory()
        if self.engine.dialect.name == "mysql":
            # A wait that no deadlock detector ends is a failure of the test; it need not take 50 seconds.
            event.listen(self.engine, "connect", _wait_a_little)
        self.world = World(base, acyclic=True)
        self.world.create(self.engine)

    def at(self, isolation: str | None) -> Engine:
        return self.engine if isolation is None else self.engine.execution_options(isolation_level=isolation)

    def plant(self, letters: str, edges: str) -> dict[str, Any]:
        with Session(self.engine) as session:
            for table in reversed(self.world.base.metadata.sorted_tables):
                session.connection().execute(table.delete())
            present = sorted({*letters, *edges.replace(" ", "")})
            nodes = self.world.plant(session, present, edges)
            return {name: node.id for name, node in nodes.items()}

    def add(self, session: Session, keys: dict[str, Any], edges: str) -> None:
        for pair in edges.split():
            # No flush before the last edge: writers wait for each other in between.
            with session.no_autoflush:
                lower, higher = (session.get_one(self.world.Node, keys[name]) for name in pair)
                lower.add_neighbor(higher)

    def add_keys(self, session: Session, keys: dict[str, Any], edges: str) -> None:
        """As `add`, without a look at the nodes: the flush is the first to read."""
        for pair in edges.split():
            edge = self.world.Edge()
            edge.lower_id, edge.higher_id = keys[pair[0]], keys[pair[1]]
            session.add(edge)

    def assert_acyclic(self) -> set[str]:
        with Session(self.engine) as session:
            assert find_cycles(session, self.world.Node) == []
            return self.world.pairs(session)


@pytest.fixture
def place(engine_factory: Callable[..., Engine], plain_bases: Any) -> Place:
    return Place(engine_factory, plain_bases())


def _wait_a_little(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SET innodb_lock_wait_timeout = 10")
    cursor.close()


def together(*jobs: Callable[[], None]) -> list[Outcome]:
    """Start all *jobs* at once, each in a thread; return what each raised."""
    outcomes: list[Outcome] = [None] * len(jobs)
    start = Barrier(len(jobs))

    def run(index: int, job: Callable[[], None]) -> None:
        try:
            start.wait(PATIENCE)
            job()
        except BaseException as error:  # noqa: BLE001 - the test judges it
            outcomes[index] = error

    threads = [Thread(target=run, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a writer hangs"
    return outcomes


def is_refused(error: Outcome) -> bool:
    """A cycle was found; or the database refused a stale snapshot (40001), or ended a deadlock (40P01, 1213)."""
    if isinstance(error, CycleError):
        return True
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(error, DBAPIError) and (
        state in {"40001", "40P01"} or "1213" in str(error) or "1020" in str(error)
    )


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def one_after_the_other(
    place: Place, first: tuple[str, Callable[[Session], None]], second: tuple[str, Callable[[Session], None]]
) -> list[Outcome]:
    """Flush *first*, then *second* in a thread; commit *first* once *second* waits for it or is done.

    Both have read before, so that a snapshot, where the level has one, is older than what the other writes.
    """
    outcomes: list[Outcome] = [None, None]
    ready, go, done = Event(), Event(), Event()
    # MariaDB's SERIALIZABLE locks what a plain SELECT reads: there the second writer would block the first by having looked.
    look = place.engine.dialect.name == "postgresql" or "SERIALIZABLE" not in {first[0], second[0]}
    count = select(place.world.Edge.__table__) if look else select(1)

    def run_second() -> None:
        try:
            with Session(place.at(second[0])) as session:
                session.execute(count).all()
                ready.set()
                assert go.wait(PATIENCE)
                second[1](session)
                session.commit()
        except BaseException as error:  # noqa: BLE001 - the test judges it
            outcomes[1] = error
        finally:
            ready.set()
            done.set()

    thread = Thread(target=run_second, daemon=True)
    with Session(place.at(first[0])) as session:
        session.execute(count).all()
        thread.start()
        assert ready.wait(PATIENCE)
        try:
            first[1](session)
            session.flush()
            go.set()
            _await_block(place.engine, done)
            session.commit()
        except (DBAPIError, CycleError) as error:
            outcomes[0] = error
            session.rollback()
            go.set()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the second writer hangs"
    return outcomes


def _await_block(engine: Engine, done: Event) -> None:
    if engine.dialect.name != "postgresql":
        # What InnoDB tells of its locks is cached for as long as somebody keeps asking.
        done.wait(0.3)
        return
    deadline = time.monotonic() + PATIENCE
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
    place: Place, isolation: str, other: str, layout: str
) -> None:
    letters, edges, one, two = LAYOUTS[layout]
    for add in (place.add, place.add_keys):
        keys = place.plant(letters, edges)
        outcomes = one_after_the_other(
            place,
            (isolation, lambda session, add=add, keys=keys: add(session, keys, one)),
            (other, lambda session, add=add, keys=keys: add(session, keys, two)),
        )
        # A deadlock ends either; a stale snapshot ends the second.
        assert sum(error is None for error in outcomes) == 1, outcomes
        assert all(error is None or is_refused(error) for error in outcomes), outcomes
        place.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
@levels
def test_two_halves_of_a_cycle_at_the_same_time_never_both_commit(place: Place, isolation: str) -> None:
    for attempt in range(12):
        letters, edges, one, two = list(LAYOUTS.values())[attempt % 5]
        keys = place.plant(letters, edges)
        ready = Barrier(2)

        def write(
            wanted: str, keys: dict[str, Any] = keys, ready: Barrier = ready, by_key: bool = attempt % 2 == 0
        ) -> None:
            with Session(place.at(isolation)) as session:
                session.execute(select(place.world.Edge.__table__)).all()
                (place.add_keys if by_key else place.add)(session, keys, wanted)
                ready.wait(PATIENCE)
                session.commit()

        outcomes = together(lambda one=one, write=write: write(one), lambda two=two, write=write: write(two))
        assert sum(error is None for error in outcomes) <= 1, outcomes
        assert all(error is None or is_refused(error) for error in outcomes), outcomes
        place.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
@levels
def test_an_edge_through_a_new_node_of_another_transaction_is_seen(place: Place, isolation: str) -> None:
    """The first writer links an old node to a new one, and only in a later flush the new one on."""
    keys = place.plant("abc", "ca")

    def first(session: Session) -> None:
        new = place.world.node("n", 50)
        a, b = (session.get_one(place.world.Node, keys[name]) for name in "ab")
        a.add_neighbor(new)
        session.flush()
        new.add_neighbor(b)

    outcomes = one_after_the_other(
        place, (isolation, first), (isolation, lambda session: place.add_keys(session, keys, "bc"))
    )
    assert sum(error is None for error in outcomes) == 1, outcomes
    assert all(error is None or is_refused(error) for error in outcomes), outcomes
    place.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
def test_writers_that_close_no_cycle_all_commit_under_read_committed(place: Place) -> None:
    letters = "abcdefghijklmnop"
    keys = place.plant(letters, "")

    def write(number: int) -> None:
        for step in range(1, 5):
            with Session(place.at("READ COMMITTED")) as session:
                lower, higher = letters[number], letters[number + step * 2]
                place.add(session, keys, lower + higher)
                session.commit()

    outcomes = together(*(lambda number=number: write(number) for number in range(6)))
    errors = [error for error in outcomes if error is not None]
    if place.engine.dialect.name == "postgresql":
        assert errors == []
        assert len(place.assert_acyclic()) == 24
    else:
        # Row locks may meet crosswise; the database then ends one of the writers.
        assert all(is_refused(error) for error in errors), errors
        place.assert_acyclic()


@pytest.mark.only_on(*SERVERS)
@levels
def test_many_writers_of_random_edges_leave_no_cycle(place: Place, isolation: str) -> None:
    letters = "abcdefgh"
    keys = place.plant(letters, "ab")
    added = [0] * 5

    def write(number: int) -> None:
        chance = random.Random(number)
        for _ in range(12):
            with Session(place.at(isolation)) as session:
                try:
                    place.add(session, keys, "".join(chance.sample(letters, 2)))
                    session.commit()
                    added[number] += 1
                except (CycleError, DBAPIError) as error:
                    # Two writers may also pick the same edge.
                    if not (is_refused(error) or isinstance(error, IntegrityError)):
                        raise

    outcomes = together(*(lambda number=number: write(number) for number in range(5)))
    assert outcomes == [None] * 5
    place.assert_acyclic()
    assert sum(added) > 5


@pytest.mark.only_on("sqlite")
def test_two_halves_of_a_cycle_on_a_sqlite_file_never_both_commit(place: Place) -> None:
    for letters, edges, one, two in LAYOUTS.values():
        keys = place.plant(letters, edges)
        ready = Barrier(2)

        def write(wanted: str, keys: dict[str, Any] = keys, ready: Barrier = ready) -> None:
            with Session(place.engine) as session:
                place.add_keys(session, keys, wanted)
                ready.wait(PATIENCE)
                session.commit()

        outcomes = together(lambda one=one, write=write: write(one), lambda two=two, write=write: write(two))
        assert sum(error is None for error in outcomes) == 1, outcomes
        assert all(
            error is None
            or isinstance(error, CycleError)
            or (isinstance(error, OperationalError) and "locked" in str(error))
            for error in outcomes
        ), outcomes
        place.assert_acyclic()
