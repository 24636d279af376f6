"""Readers and writers in threads and processes that check one another; `run` starts them and returns what they saw.

All processes share two arrays in memory. Before a read begins, the reader notes for its key the last version whose
``commit()`` has returned and the highest version that any read has returned; what it then gets must not be older than
these two.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
import time
import traceback
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import redis
from dogpile.cache import make_region
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_patterns.caching import FromCache, ORMCache
from sqla_patterns.caching._redis_stamps import RedisStamps
from sqla_patterns.caching._stamps import Epoch, Snapshot

KEYS = 1000
#: Added to a version in a transaction that will be rolled back; it must never be seen.
POISON = 1_000_000
TABLES = 10


class Base(DeclarativeBase):
    pass


class Row:
    """One of the tables; several, so that a write leaves most of the cache as it is."""

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


def _row(number: int) -> type[Any]:
    return type(f"Row{number}", (Row, Base), {"__tablename__": f"model_row_{number}", "__module__": __name__})


ROWS = [_row(number) for number in range(TABLES)]


@dataclass
class Scenario:
    url: str
    redis_url: str
    seconds: float
    processes: int = 2
    threads: int = 4
    #: The part that is removed from the protocol: "" is none, "lease" the lease, "second stamp" the stamp after COMMIT
    #: and with it the lease.
    sabotage: str = ""
    #: The longest of the small random sleeps in the windows of a commit and of a fill.
    nap: float = 0.002
    writes: float = 0.05
    #: The share of reads that do not use the cache; what one has seen in the database, the cache must not contradict.
    plain: float = 0.1
    keys: int = KEYS
    seed: int = field(default_factory=lambda: random.randrange(2**32))
    prefix: str = field(default_factory=lambda: f"test:{uuid.uuid4().hex}")


@dataclass
class Report:
    reads: int = 0
    hits: int = 0
    plain: int = 0
    writes: int = 0
    rollbacks: int = 0
    stale: int = 0
    backwards: int = 0
    uncommitted: int = 0
    torn: int = 0
    errors: list[str] = field(default_factory=list[str])

    def add(self, other: Report) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def violations(self) -> int:
        return self.stale + self.backwards + self.uncommitted + self.torn


class NappingStamps(RedisStamps):
    """A store in Redis that sleeps where races happen, and from which a part of the protocol can be removed."""

    nap = 0.0
    sabotage = ""

    def read(self, tags: Collection[str]) -> Snapshot:
        snapshot = super().read(tags)
        self._nap(0.1)
        return snapshot

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        marked = self.touch(tags) if self.sabotage else super().mark(lease, tags, seconds)
        self._nap()
        return marked

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        self._nap()
        if self.sabotage == "second stamp":
            return self.epoch()
        return self.touch(tags) if self.sabotage else super().done(lease, tags)

    def _nap(self, share: float = 1.0) -> None:
        if random.random() < share:
            time.sleep(random.random() * self.nap)


class Process:
    """The threads of one process over one cache."""

    def __init__(self, scenario: Scenario, number: int, acknowledged: Any, seen: Any) -> None:
        self.scenario = scenario
        self.number = number
        self.acknowledged = acknowledged
        self.seen = seen
        self.engine = create_engine(scenario.url, pool_size=scenario.threads * 2, max_overflow=10)
        self.cache = ORMCache({"default": _region(scenario)}, stamps=_stamps(scenario))
        self.make = sessionmaker(self.engine)
        self.cache.listen_on_session(self.make)
        self.cache.track_engine(self.engine)
        fixed = self.engine.execution_options(isolation_level="REPEATABLE READ")
        self.make_fixed = sessionmaker(fixed)
        self.cache.listen_on_session(self.make_fixed)
        # Rank 0 is the key that is asked for most; neighbours in rank are in different tables.
        self.weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(scenario.keys)))

    def run(self) -> Report:
        report = Report()
        lock = threading.Lock()
        stop = time.monotonic() + self.scenario.seconds

        def work(number: int) -> None:
            own = Report()
            try:
                self._work(random.Random(f"{self.scenario.seed} {self.number} {number}"), stop, own)
            except Exception:  # noqa: BLE001 - the parent has to hear of it
                own.errors.append(traceback.format_exc())
            with lock:
                report.add(own)

        threads = [
            threading.Thread(target=work, args=(number,), daemon=True) for number in range(self.scenario.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.scenario.seconds + 60)
            if thread.is_alive():
                report.errors.append("a thread hangs")
        report.hits = self.cache.stats.hits
        self.cache.detach()
        self.engine.dispose()
        return report

    def _work(self, chance: random.Random, stop: float, report: Report) -> None:
        while time.monotonic() < stop:
            key = chance.choices(range(self.scenario.keys), cum_weights=self.weights)[0]
            if chance.random() < self.scenario.writes:
                self._write(chance, key, report)
            elif chance.random() < 0.05:
                self._read_twice(key, report)
            else:
                self._read(key, report, cached=chance.random() >= self.scenario.plain)

    def _write(self, chance: random.Random, key: int, report: Report) -> None:
        row = ROWS[key % TABLES]
        fails = chance.random() < 0.15
        with self.make() as session:
            found = session.get_one(row, key, with_for_update=True)
            found.version += POISON if fails else 1
            session.flush()
            version = found.version
            if fails:
                time.sleep(chance.random() * self.scenario.nap)
                session.rollback()
                report.rollbacks += 1
            else:
                session.commit()
                self.acknowledged[key] = max(self.acknowledged[key], version)
                report.writes += 1

    def _read(self, key: int, report: Report, *, cached: bool) -> None:
        stale_below, backwards_below = self.acknowledged[key], self.seen[key]
        with self.make() as session:
            version = self._version(session, key, cached=cached)
        report.plain += not cached
        self._judge(version, stale_below, backwards_below, report)
        self.seen[key] = max(self.seen[key], version)

    def _read_twice(self, key: int, report: Report) -> None:
        """Read in one snapshot, which may be older than what others read meanwhile, not than earlier commits."""
        stale_below = self.acknowledged[key]
        with self.make_fixed() as session:
            first, second = self._version(session, key), self._version(session, key)
        self._judge(first, stale_below, 0, report)
        self._judge(second, stale_below, 0, report)
        report.torn += first != second

    def _version(self, session: Session, key: int, *, cached: bool = True) -> int:
        row = ROWS[key % TABLES]
        statement = select(row.version).where(row.id == key)
        return session.scalars(statement.options(FromCache("default")) if cached else statement).one()

    def _judge(self, version: int, stale_below: int, backwards_below: int, report: Report) -> None:
        report.reads += 1
        report.uncommitted += version >= POISON
        report.stale += version < stale_below
        report.backwards += stale_below <= version < backwards_below


def run(scenario: Scenario) -> Report:
    """Run readers and writers for as long as the scenario says."""
    engine = create_engine(scenario.url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for number, row in enumerate(ROWS):
            keys = range(number, KEYS, TABLES)
            connection.execute(update(row).values(version=0))
            if connection.scalar(select(row.id).limit(1)) is None:
                connection.execute(insert(row), [{"id": key, "version": 0} for key in keys])
    engine.dispose()
    # A fresh interpreter each, as in a deployment; nothing is inherited but the arrays.
    context = multiprocessing.get_context("spawn")
    acknowledged, seen = context.Array("q", KEYS, lock=False), context.Array("q", KEYS, lock=False)
    barrier = context.Barrier(scenario.processes)
    results: Any = context.Queue()
    children = [
        context.Process(target=_child, args=(scenario, number, acknowledged, seen, barrier, results), daemon=True)
        for number in range(scenario.processes)
    ]
    report = Report()
    for child in children:
        child.start()
    for _ in children:
        report.add(results.get(timeout=scenario.seconds + 120))
    for child in children:
        child.join(30)
    with redis.Redis.from_url(scenario.redis_url) as client:
        for key in client.scan_iter(match=f"*{scenario.prefix}*", count=1000):
            client.delete(key)
    return report


def _child(scenario: Scenario, number: int, acknowledged: Any, seen: Any, barrier: Any, results: Any) -> None:
    try:
        process = Process(scenario, number, acknowledged, seen)
        barrier.wait(90)
        results.put(process.run())
    except Exception:  # noqa: BLE001
        results.put(Report(errors=[traceback.format_exc()]))


def _stamps(scenario: Scenario) -> NappingStamps:
    stamps = NappingStamps.from_url(scenario.redis_url, prefix=scenario.prefix, timeout=10)
    stamps.nap, stamps.sabotage = scenario.nap, scenario.sabotage
    return stamps


def _region(scenario: Scenario) -> Any:
    region = make_region(key_mangler=lambda key: f"{scenario.prefix}:{key}")
    return region.configure("dogpile.cache.redis", expiration_time=600, arguments={"url": scenario.redis_url})
