"""A side task that fails costs the cache, and never the answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from sqla_patterns.caching import (
    CacheEvent,
    FromCache,
    MemoryStamps,
    RelationshipCache,
    Snapshot,
    StampsUnavailableError,
    TypedCodec,
    _replay,
    _writes,
)
from tests.caching._world import PEOPLE, Person, Tag, World

statement = select(Person.id).order_by(Person.id).options(FromCache())
expected = [(number,) for number in range(1, PEOPLE + 1)]


class FailingStamps(MemoryStamps):
    """A store of the user's, whose client raises anything."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: set[str] = set()

    def _may(self, step: str) -> None:
        if step in self.fails:
            raise ConnectionResetError("gone")

    def read(self, tags: Collection[str]) -> Snapshot:
        self._may("read")
        return super().read(tags)

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Any:
        self._may("mark")
        return super().mark(lease, tags, seconds)

    def done(self, lease: str, tags: Collection[str] = ()) -> Any:
        self._may("done")
        return super().done(lease, tags)


class FailingCodec:
    """A codec one of whose methods fails."""

    name = "failing"

    def __init__(self, *, fails: str) -> None:
        self.fails = fails
        self.inner = TypedCodec()

    def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
        if self.fails == "dumps":
            raise OverflowError("too much")
        return self.inner.dumps(rows)

    def loads(self, data: bytes) -> Sequence[Sequence[object]]:
        if self.fails == "loads":
            raise RuntimeError("unreadable")
        return self.inner.loads(data)


@pytest.mark.parametrize("fails", ["dumps", "loads"])
def test_a_codec_that_fails_costs_the_cache(worlds: Callable[..., World], fails: str) -> None:
    world = worlds(codec=FailingCodec(fails=fails))
    assert [world.rows(statement) for _ in range(2)] == [(expected, 1)] * 2


@pytest.mark.parametrize(("fails", "count"), [("dumps", 2), ("loads", 1)])
def test_a_codec_that_fails_is_counted(worlds: Callable[..., World], fails: str, count: int) -> None:
    world = worlds(codec=FailingCodec(fails=fails))
    for _ in range(2):
        world.rows(statement)
    assert world.cache.stats.errors == count


def test_a_failure_is_logged_once_with_its_traceback(
    worlds: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = worlds(codec=FailingCodec(fails="dumps"))
    for _ in range(3):
        world.rows(statement)
    (record,) = [record for record in caplog.records if record.name == "sqla_patterns.caching"]
    assert record.exc_info is not None
    assert record.exc_info[0] is OverflowError


def test_a_vary_that_fails_costs_the_cache(worlds: Callable[..., World]) -> None:
    world = worlds(vary=lambda state: state.session.info["role"])
    assert [world.rows(statement) for _ in range(2)] == [(expected, 1)] * 2
    assert world.cache.stats.bypasses == {"error": 2}


def test_a_tag_that_cannot_be_made_costs_the_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise AttributeError("_no_such_name")

    monkeypatch.setattr(_replay, "compile_neutrally", fail)
    assert [world.rows(statement) for _ in range(2)] == [(expected, 1)] * 2


def test_a_batch_of_lazy_loads_that_fails_costs_the_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise AttributeError("_no_such_name")

    monkeypatch.setattr(_replay, "loaded_together", fail)
    with world.session() as session:
        people = session.scalars(select(Person).options(RelationshipCache(Person.addresses))).all()
        assert sum(len(person.addresses) for person in people) == PEOPLE


def test_a_store_that_raises_what_it_likes_counts_as_down(worlds: Callable[..., World]) -> None:
    stamps = FailingStamps()
    stamps.fails.add("read")
    world = worlds(stamps=stamps)
    assert [world.rows(statement) for _ in range(2)] == [(expected, 1)] * 2


@pytest.mark.parametrize("step", ["mark", "done"])
def test_a_commit_survives_a_store_that_raises_what_it_likes(worlds: Callable[..., World], step: str) -> None:
    stamps = FailingStamps()
    world = worlds(stamps=stamps)
    stamps.fails.add(step)
    world.write(update(Person).where(Person.id == 1).values(name="new"))
    with world.plain() as session:
        assert session.get_one(Person, 1).name == "new"


def test_a_commit_is_refused_by_such_a_store_where_that_was_chosen(worlds: Callable[..., World]) -> None:
    stamps = FailingStamps()
    world = worlds(stamps=stamps, on_error="raise")
    stamps.fails.add("mark")
    with pytest.raises(StampsUnavailableError, match="ConnectionResetError: gone"):
        world.write(insert(Tag).values(word="x"))


def test_a_write_that_cannot_be_understood_is_executed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise AttributeError("_no_such_name")

    monkeypatch.setattr(_writes, "_of_compiled", fail)
    world.write(update(Person).where(Person.id == 1).values(name="new"))
    with world.plain() as session:
        assert session.get_one(Person, 1).name == "new"


def test_a_write_that_cannot_be_understood_ends_every_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise AttributeError("_no_such_name")

    names = select(Person.name).where(Person.id == 1).options(FromCache())
    world.rows(names)
    monkeypatch.setattr(_writes, "_of_compiled", fail)
    world.write(update(Person).where(Person.id == 1).values(name="new"))
    assert world.rows(names)[0] == [("new",)]


# -- listeners -----------------------------------------------------------------------------------


def _failing(seen: list[CacheEvent]) -> Callable[[CacheEvent], None]:
    def listener(event: CacheEvent) -> None:
        seen.append(event)
        raise ZeroDivisionError("metrics")

    return listener


def test_a_listener_that_raises_harms_no_statement(world: World) -> None:
    seen: list[CacheEvent] = []
    world.cache.events.listen(_failing(seen))
    found = [world.rows(statement)[0] for _ in range(2)]
    assert (found, [event.kind for event in seen]) == ([expected] * 2, ["miss", "put", "hit"])


def test_a_listener_that_raises_harms_no_commit(worlds: Callable[..., World]) -> None:
    stamps = FailingStamps()
    stamps.fails.add("mark")
    world = worlds(stamps=stamps)
    seen: list[CacheEvent] = []
    world.cache.events.listen(_failing(seen))
    world.write(update(Person).values(name="new"))
    assert [event.kind for event in seen] == ["error"]


def test_a_listener_that_raises_does_not_keep_events_from_the_next(world: World) -> None:
    seen: list[CacheEvent] = []
    kinds: list[str] = []
    world.cache.events.listen(_failing(seen))
    world.cache.events.listen(lambda event: kinds.append(event.kind))
    world.rows(statement)
    assert kinds == ["miss", "put"]


def test_each_listener_that_raises_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        world.cache.events.listen(_failing([]))
    for _ in range(3):
        world.rows(statement)
    assert [record.levelno for record in caplog.records if "listener" in record.getMessage()] == [logging.ERROR] * 2
