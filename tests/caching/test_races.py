"""Races: each test puts a step of one transaction between two steps of another."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_patterns.caching._freshness import Freshness
from sqla_patterns.caching._memory_stamps import MemoryStamps
from tests.caching._hooked import HookedStamps
from tests.caching._reader import Reader


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "race_counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class Other(Base):
    __tablename__ = "race_other"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


COUNTER = select(Counter.value).where(Counter.id == 1)
OTHER = select(Other.value).where(Other.id == 1)


class World:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.stamps = HookedStamps(MemoryStamps(max_tags=10))
        self.reader = Reader(Freshness(self.stamps))
        self.make = sessionmaker(engine)
        self.reader.attach(self.make)
        self.reader.freshness.track_engine(engine)
        with self.make() as session:
            session.add_all([Counter(id=1, value=0), Other(id=1, value=0)])
            session.commit()

    def write(self, value: int, entity: Any = Counter) -> None:
        with self.make() as session:
            session.execute(update(entity).where(entity.id == 1).values(value=value))
            session.commit()

    def read(self, session: Session | None = None, statement: Any = COUNTER) -> int:
        if session is not None:
            return int(self.reader.rows(session, statement)[0][0])
        with self.make() as own:
            return self.read(own, statement)

    def level(self, name: str) -> World:
        """Return the same with sessions of another isolation level."""
        engine = self.engine.execution_options(isolation_level=name)
        other = object.__new__(World)
        other.__dict__.update(self.__dict__, engine=engine, make=sessionmaker(engine))
        other.reader.attach(other.make)
        return other


@pytest.fixture
def world(engine_factory: Callable[..., Engine]) -> Generator[World, None, None]:
    engine = engine_factory(pool_size=10)
    Base.metadata.create_all(engine)
    world = World(engine)
    yield world
    world.reader.freshness.detach()


LEVELS = ["READ COMMITTED", "REPEATABLE READ"]
SERVERS = pytest.mark.only_on("postgresql", "mariadb")


# -- a fill against a write ----------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before_database", "before_put"])
def test_a_fill_that_a_commit_overtakes_is_never_served(world: World, moment: str) -> None:
    world.read()
    for value in (1, 2, 3):
        world.reader.entries.clear()
        with world.make() as session:
            # The commit is between the read epoch of this read and its query, or between the query and the put.
            setattr(world.reader, moment, lambda value=value: _once(world, moment, value))
            seen = world.read(session)
        # On MariaDB the snapshot was taken with the read epoch.
        pinned = world.engine.dialect.name == "mysql"
        assert seen == (value if moment == "before_database" and not pinned else value - 1)
        assert world.reader.last == "put", "nobody could know yet"
        assert world.read() == value
        assert world.reader.last == "put", "the entry is not served"
        assert world.read() == value
        assert world.reader.last == "hit"


def _once(world: World, moment: str, value: int) -> None:
    setattr(world.reader, moment, lambda: None)
    world.write(value)


def test_a_read_between_mark_and_commit_sees_the_old_value_and_leaves_nothing(world: World) -> None:
    assert world.read() == world.read() == 0
    seen: list[Any] = []
    world.stamps.hooks["after mark"] = lambda: seen.append((world.read(), world.reader.last))
    world.write(1)
    assert seen == [(0, "read")]
    assert world.read() == 1
    assert world.reader.last == "put"


def test_a_read_between_commit_and_done_sees_the_new_value_and_so_does_every_later_one(world: World) -> None:
    assert world.read() == world.read() == 0
    seen: list[Any] = []

    def look() -> None:
        seen.extend([(world.read(), world.reader.last), (world.read(), world.reader.last)])

    world.stamps.hooks["before done"] = look
    world.write(1)
    assert seen == [(1, "read"), (1, "read")], "never from the entry of the old value"
    assert world.read() == 1


def test_an_entry_that_is_put_back_late_is_not_served(world: World) -> None:
    world.read()
    (key, old), *_ = world.reader.entries.items()
    world.write(1)
    assert world.read() == 1
    world.reader.entries[key] = old
    assert world.read() == 1
    assert world.reader.last == "put"


def test_a_lost_stamp_invalidates_what_was_stored_before(world: World) -> None:
    world.read()
    (key, old), *_ = world.reader.entries.items()
    world.write(1)
    for number in range(20):
        world.stamps.touch([f"u:{number}"])  # The store of this world keeps ten.
    world.reader.entries[key] = old
    assert world.read() == 1


def test_two_read_epochs_agree_unless_something_was_written_in_between(world: World) -> None:
    with world.make() as session:
        world.reader.take_read_epoch(session, COUNTER, OTHER)
        first = world.reader.take_read_epoch(session, COUNTER, OTHER)
        assert first.agrees_with(world.reader.take_read_epoch(session, COUNTER, OTHER))
        seen: list[bool] = []

        def look() -> None:
            with world.make() as other:
                seen.append(first.agrees_with(world.reader.take_read_epoch(other, COUNTER, OTHER)))

        session.rollback()
        world.stamps.hooks["after mark"] = look
        world.write(1)
        look()
        assert seen == [False, False]


# -- a write against a write ---------------------------------------------------------------------


@SERVERS
def test_leases_of_two_commits_overlap(world: World) -> None:
    world.read()
    world.read(statement=OTHER)
    seen: list[Any] = []

    def second() -> None:
        # The first is marked; another commits to the same table from begin to end.
        with world.make() as session:
            session.add(Counter(id=2, value=7))
            session.commit()
        seen.append((world.read(), world.reader.last))
        seen.append((world.read(statement=OTHER), world.reader.last))

    world.stamps.hooks["after mark"] = second
    world.write(1)
    assert seen == [(0, "read"), (0, "hit")], "the lease of the first goes on; the other table has none"
    assert world.read() == 1
    assert world.reader.last == "put"


@SERVERS
def test_a_commit_does_not_end_what_others_have_written(world: World) -> None:
    with world.make() as one, world.make() as two:
        one.execute(update(Counter).where(Counter.id == 1).values(value=5))
        two.execute(update(Other).values(value=6))
        two.commit()
        assert world.read(one) == 5
        assert world.reader.bypasses[-1] == "own_writes"
        assert world.read(two) == 0
        one.commit()
    assert world.read() == 5


# -- own writes ----------------------------------------------------------------------------------


def test_what_is_not_committed_is_never_put(world: World) -> None:
    with world.make() as session:
        session.execute(update(Counter).values(value=9))
        assert world.read(session) == 9
        assert world.reader.last == "read"
        session.rollback()
    assert world.read() == 0


@SERVERS
def test_a_savepoint_that_is_rolled_back_keeps_the_session_off_the_cache(world: World) -> None:
    world.read()
    with world.make() as session:
        nested = session.begin_nested()
        session.execute(update(Counter).values(value=9))
        assert world.read(session) == 9
        nested.rollback()
        assert world.read(session) == 0
        assert world.reader.last == "read"
        session.execute(update(Other).values(value=1))
        session.commit()
    assert world.read() == 0


# -- one snapshot --------------------------------------------------------------------------------


@SERVERS
def test_repeatable_read_goes_on_reading_its_snapshot(world: World) -> None:
    fixed = world.level("REPEATABLE READ")
    now = world.level("READ COMMITTED")
    now.read()
    with fixed.make() as session:
        assert fixed.read(session) == 0
        now.write(1)
        assert now.read() == 1  # ... and puts
        assert now.read() == 1
        assert now.reader.last == "hit"
        assert fixed.read(session) == 0, "the entry is newer than the snapshot"
        assert fixed.reader.last == "read"
        session.rollback()
        assert fixed.read(session) == 1
    assert now.read() == 1


@SERVERS
def test_repeatable_read_that_fills_late_puts_nothing(world: World) -> None:
    fixed = world.level("REPEATABLE READ")
    with fixed.make() as session:
        session.scalars(select(Other.value)).all()
        world.write(1)
        assert fixed.read(session) == 0
        assert fixed.reader.last == "read"
    assert world.read() == 1


@SERVERS
def test_a_hit_under_repeatable_read_is_not_contradicted_by_a_later_query(world: World) -> None:
    fixed = world.level("REPEATABLE READ")
    world.read()
    with fixed.make() as session:
        assert fixed.read(session) == 0
        assert fixed.reader.last == "hit"
        world.write(1)
        world.write(2, Other)
        assert session.scalars(COUNTER).one() == 0
        assert session.scalars(OTHER).one() == 0
        assert fixed.read(session, OTHER) == 0


@SERVERS
def test_a_commit_between_begin_and_the_first_read_is_seen_or_not_but_never_both(world: World) -> None:
    fixed = world.level("REPEATABLE READ")
    world.read()
    with fixed.make() as session:
        session.connection()
        world.write(1)
        value = fixed.read(session)
        assert session.scalars(COUNTER).one() == value == 1
        assert fixed.reader.last == "read", "what came between begin and snapshot is neither served nor put"
    assert world.read() == 1


@SERVERS
def test_serializable_asks_the_database(world: World) -> None:
    strict = world.level("SERIALIZABLE")
    world.read()
    with strict.make() as session:
        strict.read(session)
        assert strict.reader.bypasses == ["serializable"]


@SERVERS
def test_read_uncommitted_puts_nothing(world: World) -> None:
    loose = world.level("READ UNCOMMITTED")
    with loose.make() as session:
        loose.read(session)
        assert loose.reader.bypasses == ["isolation"]


@SERVERS
def test_a_level_that_is_set_by_hand_is_taken_for_the_strictest(world: World) -> None:
    now = world.level("READ COMMITTED")
    now.read()
    with now.make() as session:
        session.execute(
            text("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if _mysql(world)
            else text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        )
        now.read(session)
        assert now.reader.bypasses == ["isolation"]
        session.connection().invalidate()
        session.rollback()


def _mysql(world: World) -> bool:
    return world.engine.dialect.name == "mysql"


@pytest.mark.only_on("mariadb")
def test_a_snapshot_is_not_pinned_where_that_would_end_a_transaction(world: World) -> None:
    with world.make() as session:
        session.execute(select(Counter.value).where(Counter.id == 1).with_for_update())
        with world.engine.connect() as other:
            other.exec_driver_sql("SET innodb_lock_wait_timeout = 1")
            assert world.read(session) == 0
            with pytest.raises(Exception, match="Lock wait timeout"):
                other.execute(update(Counter).values(value=3))


@pytest.mark.only_on("sqlite")
def test_an_open_result_keeps_sqlite_at_its_snapshot_and_nothing_is_put(world: World) -> None:
    with world.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    with world.make() as session:
        world.read(session)
        rows = session.connection().exec_driver_sql("SELECT value FROM race_counter UNION ALL SELECT 5").cursor
        rows.fetchone()
        world.write(1)
        assert world.read(session) == 0
        assert world.reader.last == "read"
        rows.close()
    assert world.read() == 1


# -- threads -------------------------------------------------------------------------------------


@SERVERS
@pytest.mark.parametrize("level", LEVELS)
def test_readers_and_a_writer_that_start_together(world: World, level: str) -> None:
    there = world.level(level)
    rounds, readers = 15, 3
    barrier = Barrier(readers + 1)
    acknowledged = [0]

    def write() -> None:
        for value in range(1, rounds + 1):
            barrier.wait(60)
            there.write(value)
            acknowledged[0] = value

    def read() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        for _ in range(rounds):
            barrier.wait(60)
            for _ in range(4):
                floor = acknowledged[0]
                seen.append((floor, there.read()))
        return seen

    with ThreadPoolExecutor(readers + 1) as pool:
        writing = pool.submit(write)
        reading = [pool.submit(read) for _ in range(readers)]
        writing.result(90)
        for each in reading:
            seen = each.result(90)
            assert all(value >= floor for floor, value in seen), "stale after an acknowledged commit"
            values = [value for _, value in seen]
            assert values == sorted(values), "backwards"
    assert there.read() == rounds
    assert there.reader.counts["hit"] > 0
