"""Race contestants against each other in one process and hold them to limits.

A contestant is a generator function that takes the engine. What it does before its only ``yield`` is preparation; it
yields the function to be timed and gets back what that returned; then it checks the result, so that nobody wins by
doing
nothing::

    def walk(engine: Engine) -> Contestant[int]:
        with Session(engine) as session:
            count = yield lambda: len(load(session))
            verify(count == NODES)

Contestants take turns, so that whatever else the machine does hits all of them. Every one has a round before those that
count, which warms caches; one that `Benchmark.race` is told to run once has none. Garbage is collected before and not
during the timed part, as in `timeit`. Statements are calls of the driver's cursor: an ``executemany`` is one.

Time is that of the wall clock, and on SQLite, which works in this process, the CPU time of the process: it hardly
depends on what else the machine does. A ratio compares the best rounds, and limits are about that: other processes only
ever add time. The ratio of the medians stands beside it; where the two differ much, the machine was too busy, or there
were too few rounds.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool

__all__ = ("Benchmark", "Contestant", "Race", "benchmark", "verify")

T = TypeVar("T")
Contestant = Generator[Callable[[], T], T, None]
Start = Callable[[Engine], Contestant[Any]]

_MEASURES: tuple[Callable[[list[float]], float], ...] = (min, statistics.median, max)


def verify(truth: bool, what: str) -> None:
    """Stop the benchmark if a contestant did not do what it was to do."""
    if not truth:
        raise RuntimeError(f"wrong result: {what}")


@dataclass
class Race:
    """The seconds and statements of each contestant, in the order of the rounds."""

    bench: Benchmark
    reference: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    statements: dict[str, list[int]] = field(default_factory=dict)

    def ratio(self, name: str, of: str | None = None, *, measure: Callable[[list[float]], float] = min) -> float:
        return measure(self.seconds[name]) / measure(self.seconds[of or self.reference])

    def at_most(
        self, name: str, *, ratio: float | None = None, of: str | None = None, statements: int | None = None
    ) -> None:
        """Print PASS or FAIL: at most `ratio` times the time of `of`, and at most so many statements.

        `of` is the reference if it is not given.
        """
        if ratio is not None:
            found = self.ratio(name, of)
            self.bench.judge(found <= ratio, f"{name}: {found:.2f} x {of or self.reference!r}, limit {ratio:g}")
        if statements is not None:
            most = max(self.statements[name])
            self.bench.judge(most <= statements, f"{name}: {most:,} statements, limit {statements:,}")

    def _print(self, title: str) -> None:
        width = max(map(len, self.seconds))
        print(f"\n{title}")
        print(
            f"  {'milliseconds':<{width}}  {'best':>9}  {'median':>9}  {'worst':>9}  rounds  statements   ratio"
            "  of medians"
        )
        for name, seconds in self.seconds.items():
            best, middle, worst = (1000 * measure(seconds) for measure in _MEASURES)
            print(
                f"  {name:<{width}}  {best:>9,.1f}  {middle:>9,.1f}  {worst:>9,.1f}  {len(seconds):>6}"
                f"  {max(self.statements[name]):>10,}  {self.ratio(name):>6.2f}"
                f"  {self.ratio(name, measure=statistics.median):>10.2f}",
                flush=True,
            )


class Benchmark:
    """An engine on a database that belongs to this run, and whether every limit held so far."""

    def __init__(self, engine: Engine, rounds: int, skip: str | None = None) -> None:
        self.engine = engine
        self.rounds = rounds
        self.skip = skip
        self.failures = 0
        self._statements = 0
        self._clock = time.process_time if engine.dialect.name == "sqlite" else time.perf_counter
        event.listen(engine, "before_cursor_execute", self._count)

    def race(self, title: str, contestants: Mapping[str, Start], *, once: Collection[str] = ()) -> Race:
        """Run `contestants` and print what they took; the first is the reference.

        Args:
            title: what they do.
            contestants: by the name to print.
            once: names of those that are too slow to run more than once.
        """
        race = Race(self, next(iter(contestants)))
        if self.skip:
            contestants = {name: start for name, start in contestants.items() if self.skip not in name}
        race.seconds = {name: [] for name in contestants}
        race.statements = {name: [] for name in contestants}
        for turn in range(self.rounds + 1):
            # Round 0 warms up. Turns go back and forth, so that nobody always runs behind the same one.
            for name in sorted(contestants, key=list(contestants).index, reverse=bool(turn % 2)):
                if name in once and turn != 1:
                    continue
                seconds, statements = self._run(contestants[name])
                if turn:
                    race.seconds[name].append(seconds)
                    race.statements[name].append(statements)
        race._print(title)
        return race

    def judge(self, held: bool, limit: str) -> None:
        print(f"  {'PASS' if held else 'FAIL'}  {limit}", flush=True)
        self.failures += not held

    def _count(self, connection: object, cursor: object, statement: str, *_: object) -> None:
        # As in the tests: what delimits a transaction is no statement.
        self._statements += not statement.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))

    def _run(self, start: Start) -> tuple[float, int]:
        contestant = start(self.engine)
        timed = next(contestant)
        gc.collect()
        gc.disable()
        try:
            before = self._statements
            began = self._clock()
            result = timed()
            seconds = self._clock() - began
            statements = self._statements - before
        finally:
            gc.enable()
        try:
            contestant.send(result)
        except StopIteration:
            return seconds, statements
        raise RuntimeError("a contestant yields once")


@contextmanager
def benchmark(
    doc: str | None, argv: Sequence[str] | None = None, *, rounds: int = 9, peers: Sequence[str] = ()
) -> Generator[Benchmark, None, None]:
    """Read the options, connect, print on what this runs, and exit with 1 in the end if a limit was not kept.

    Args:
        doc: the docstring of the script.
        argv: arguments; those of the process if None.
        rounds: how many count unless ``--rounds`` says otherwise.
        peers: distributions whose versions to print.
    """
    summary = (doc or "").strip().partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--url", help="database; one of its own is created there and dropped (default: a SQLite file)")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds that count (default: {rounds})")
    parser.add_argument(
        "--skip", metavar="TEXT", help="leave out contestants with this in their name, a slow peer for instance"
    )
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    with _own_database(options.url) as url:
        engine = create_engine(url)
        try:
            bench = Benchmark(engine, options.rounds, options.skip)
            print(summary)
            print(_versions(engine, peers))
            clock = "CPU time" if bench.engine.dialect.name == "sqlite" else "wall clock"
            print(f"{clock}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before", flush=True)
            yield bench
            print(f"\nload {os.getloadavg()[0]:.1f} after; {bench.failures} limits not kept")
        finally:
            engine.dispose()
    if bench.failures:
        raise SystemExit(1)


@contextmanager
def _own_database(given: str | None) -> Generator[URL, None, None]:
    url = make_url(given or "sqlite://")
    if url.get_backend_name() == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield url if url.database else url.set(database=os.path.join(folder, "bench.db"))
        return
    name = f"sqla_patterns_bench_{os.getpid()}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield url.set(database=name)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name}"))


def _versions(engine: Engine, peers: Sequence[str]) -> str:
    from importlib.metadata import version

    with engine.connect() as connection:
        found = connection.dialect.server_version_info or ()
    parts = [
        f"Python {platform.python_version()}",
        f"SQLAlchemy {sqlalchemy.__version__}",
        f"{engine.dialect.name} {'.'.join(map(str, found))} ({engine.dialect.driver})",
        *(f"{peer} {version(peer)}" for peer in peers),
    ]
    return ", ".join(parts)
