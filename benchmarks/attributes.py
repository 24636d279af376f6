"""Attributes: what an active default costs, and how much sqla_patterns.attributes.instrumentation slows down others.

Active defaults race against plain SQLAlchemy and against SQLAlchemy-Utils' ``force_instant_defaults``, which makes all
defaults while an object is constructed. That does not know defaults with a context, so its class has none.

Importing that module, and mapping a class with it, changes the whole process. So each contestant of a round is a fresh
process, which measures all operations and ends; in the next round the contestants start in the opposite order. Nothing
here reaches a server: the database is SQLite in memory, and time is the CPU time of the process that measures.

A figure is the time of one operation, the best of several loops in each process; the columns are over the rounds. A
ratio compares the best rounds, as elsewhere.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import sqlalchemy
from _harness import verify
from sqlalchemy import create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, registry
from sqlalchemy.pool import StaticPool

from sqla_patterns.attributes import ActiveDefaults

OBJECTS = 2_000
LOOPS = 7
#: The contestant that is another library.
PEER = "force_instant_defaults"
NUMBERS = itertools.count()

Seconds = dict[str, float]
Loop = Callable[[], Callable[[], object]]


class Plain(DeclarativeBase):
    pass


class Active(ActiveDefaults, DeclarativeBase):
    pass


class Instant(DeclarativeBase):
    pass


class _Columns:
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    radius: Mapped[int] = mapped_column(default=30)
    number: Mapped[int] = mapped_column(default=lambda: next(NUMBERS))


class _WithContext(_Columns):
    late: Mapped[str] = mapped_column(default=lambda context: context.get_current_parameters()["name"])


class PlainWidget(_WithContext, Plain):
    __tablename__ = "widget"


class ActiveWidget(_WithContext, Active):
    __tablename__ = "widget"


class InstantWidget(_Columns, Instant):
    __tablename__ = "widget"


def _objects(cls: type[Any]) -> list[Any]:
    return [cls(name="x") for _ in range(OBJECTS)]


def _per_operation(prepare: Loop) -> float:
    """Return the CPU time of one operation of a loop over all objects, the best of several."""
    best = float("inf")
    for _ in range(LOOPS):
        loop = prepare()
        gc.collect()
        gc.disable()
        try:
            began = time.process_time()
            loop()
            best = min(best, time.process_time() - began)
        finally:
            gc.enable()
    return best / OBJECTS


def _reading(cls: type[Any], attribute: str, *, again: bool = False) -> Loop:
    def prepare() -> Callable[[], object]:
        objects = _objects(cls)
        if again:
            for each in objects:
                getattr(each, attribute)

        def loop() -> None:
            for each in objects:
                getattr(each, attribute)

        return loop

    return prepare


def _assigning(cls: type[Any]) -> Loop:
    def prepare() -> Callable[[], object]:
        objects = _objects(cls)

        def loop() -> None:
            for each in objects:
                each.name = "y"

        return loop

    return prepare


def _constructing_and_reading(cls: type[Any]) -> Loop:
    def loop() -> None:
        for each in _objects(cls):
            verify(each.radius is not None or cls is PlainWidget, "a default that was read")
            verify(each.number is not None or cls is PlainWidget, "a default that was read")

    return lambda: loop


def _constructing(cls: type[Any]) -> Loop:
    return lambda: lambda: _objects(cls)


def _loading(cls: type[Any]) -> Loop:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    cls.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            insert(cls), [{"id": key, "name": "x", "radius": 1, "number": 1, "late": "x"} for key in range(OBJECTS)]
        )

    def prepare() -> Callable[[], object]:
        session = Session(engine)

        def loop() -> None:
            verify(len(session.scalars(select(cls)).all()) == OBJECTS, "rows that were loaded")

        return loop

    return prepare


def _defaults(cls: type[Any]) -> Seconds:
    found = {
        "construct": _per_operation(_constructing(cls)),
        "read an assigned value": _per_operation(_reading(cls, "name")),
        "read a scalar default, first": _per_operation(_reading(cls, "radius")),
        "read a scalar default, again": _per_operation(_reading(cls, "radius", again=True)),
        "read a callable default, first": _per_operation(_reading(cls, "number")),
    }
    if issubclass(cls, _WithContext):
        found["read a context default, first"] = _per_operation(_reading(cls, "late"))
    found["construct, and read the scalar and the callable"] = _per_operation(_constructing_and_reading(cls))
    return found


def plain_defaults() -> Seconds:
    verify(PlainWidget().radius is None, "a default of plain SQLAlchemy before the flush")
    return _defaults(PlainWidget)


def active_defaults() -> Seconds:
    verify(ActiveWidget().radius == 30, "an active default")
    verify(ActiveWidget(name="x").late == "x", "an active default with a context")
    return _defaults(ActiveWidget)


def instant_defaults() -> Seconds:
    from sqlalchemy_utils import force_instant_defaults

    force_instant_defaults(InstantWidget)
    verify(InstantWidget().radius == 30, "an instant default")
    return _defaults(InstantWidget)


def _others() -> Seconds:
    return {
        "read": _per_operation(_reading(PlainWidget, "name")),
        "assign": _per_operation(_assigning(PlainWidget)),
        "construct": _per_operation(_constructing(PlainWidget)),
        "load": _per_operation(_loading(PlainWidget)),
    }


def not_imported() -> Seconds:
    verify("sqlalchemy.ext.instrumentation" not in sys.modules, "nothing has imported the extension")
    return _others()


def imported() -> Seconds:
    import sqla_patterns.attributes.instrumentation as module

    verify(module.__name__ in sys.modules, "the module is imported")
    return _others()


def class_mapped() -> Seconds:
    from sqla_patterns.attributes.instrumentation import DictInstrumentation

    class Person:
        __sa_instrumentation_manager__ = DictInstrumentation.named("_values")
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    person: Any = registry().mapped(Person)()
    person.id = 1
    verify(person._values == {"id": 1}, "values are in the dictionary")
    return _others()


CONTESTANTS: dict[str, Callable[[], Seconds]] = {
    "plain": plain_defaults,
    "ActiveDefaults": active_defaults,
    PEER: instant_defaults,
    "not imported": not_imported,
    "imported": imported,
    "a class mapped with it": class_mapped,
}
RACES = {
    "A class with defaults, constructed and read before the flush": (
        "plain",
        "ActiveDefaults",
        PEER,
    ),
    "An unrelated class, beside sqla_patterns.attributes.instrumentation": (
        "not imported",
        "imported",
        "a class mapped with it",
    ),
}


def _in_a_process_of_its_own(name: str) -> Seconds:
    command = [sys.executable, __file__, "--measure", name]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds: Seconds = json.loads(found)
    return seconds


def _race(names: Sequence[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each round, by operation and by contestant."""
    times: dict[str, dict[str, list[float]]] = {}
    for turn in range(rounds):
        for name in names if turn % 2 else reversed(names):
            for operation, seconds in _in_a_process_of_its_own(name).items():
                times.setdefault(operation, {each: [] for each in names})[name].append(seconds)
    return times


def _print(title: str, times: dict[str, dict[str, list[float]]]) -> None:
    operations = max(map(len, times))
    width = max(len(name) for by_name in times.values() for name in by_name)
    print(f"\n{title}")
    print(
        f"  {'nanoseconds':<{operations}}  {'':<{width}}  {'best':>7}  {'median':>7}  {'worst':>7}  rounds   ratio  "
        "of medians"
    )
    for operation, by_name in times.items():
        reference = next(iter(by_name.values()))
        for name, seconds in by_name.items():
            if not seconds:
                continue
            best, middle, worst = (1e9 * measure(seconds) for measure in (min, statistics.median, max))
            print(
                f"  {operation:<{operations}}  {name:<{width}}  {best:>7,.0f}  {middle:>7,.0f}  {worst:>7,.0f}"
                f"  {len(seconds):>6}  {min(seconds) / min(reference):>6.2f}"
                f"  {statistics.median(seconds) / statistics.median(reference):>10.2f}",
                flush=True,
            )


def main() -> None:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--rounds", type=int, default=9, help="processes for each contestant (default: 9)")
    parser.add_argument("--skip", metavar="TEXT", help="leave out contestants with this in their name")
    parser.add_argument("--measure", choices=CONTESTANTS, help="measure one contestant in this process, print JSON")
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(CONTESTANTS[options.measure]()))
        return
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    print(summary)
    races = {
        title: [each for each in names if not options.skip or options.skip not in each]
        for title, names in RACES.items()
    }
    peer = f"SQLAlchemy-Utils {version('SQLAlchemy-Utils')}, " if PEER in races[next(iter(races))] else ""
    print(f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, {peer}{OBJECTS:,} objects")
    print(f"CPU time; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before", flush=True)
    for title, names in races.items():
        _print(title, _race(names, options.rounds))
    print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
