"""Counters, events, contexts, explain, and a backend that is down."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
from dogpile.cache import make_region
from dogpile.cache.backends.memory import MemoryBackend
from dogpile.cache.region import register_backend
from sqlalchemy import event, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, selectinload

from sqla_patterns.caching import (
    CacheEvent,
    FromCache,
    MemoryStamps,
    ORMCache,
    RelationshipCache,
    SessionLocalBackend,
    _replay,
    register_session_backend,
)
from sqla_patterns.caching._replay import _probe
from sqla_patterns.exceptions import InvalidArgumentError, StateError
from tests.caching._world import PEOPLE, Person, World, fill, memory_region

people = select(Person).order_by(Person.id)
cached = people.options(FromCache())


def test_counters_by_region(worlds: Callable[..., World]) -> None:
    world = worlds(regions={"default": memory_region(), "other": memory_region()})
    stats = world.cache.stats
    for statement in (
        cached,
        cached,
        people.options(FromCache("other")),
        people.with_for_update().options(FromCache()),
    ):
        world.rows(statement)
    assert (stats.hits, stats.misses, stats.puts, stats.errors) == (1, 2, 2, 0)
    assert stats.bypasses == {"locks": 1}
    assert stats.refused == {}
    default = stats.regions["default"]
    assert (default.hits, default.misses, default.hit_rate) == (1, 1, 0.5)
    assert default.bytes_read == default.bytes_written > 100
    world.cache.invalidate_all()
    assert stats.invalidations == 1
    assert repr(stats) == "<CacheStats: 1 hits, 2 misses, 2 puts, 1 bypasses, 0 errors>"
    stats.reset()
    assert (stats.hits, stats.misses, stats.invalidations, dict(stats.regions)) == (0, 0, 0, {})


def test_events_tell_what_happened(world: World) -> None:
    seen: list[CacheEvent] = []
    listener = world.cache.events.listen(seen.append)
    world.cache.events.listen(listener)
    world.rows(cached)
    world.rows(cached)
    world.cache.invalidate(people)
    assert [each.kind for each in seen] == ["miss", "put", "hit", "invalidate"]
    put, hit = seen[1], seen[2]
    assert (put.rows, hit.rows, put.key, put.size) == (PEOPLE, PEOPLE, hit.key, hit.size)
    assert "FROM cache_person" in hit.sql
    assert hit.seconds > 0
    world.cache.events.remove(listener)
    world.rows(cached)
    assert len(seen) == 4


def test_bypass_and_refresh(world: World) -> None:
    world.rows(cached)
    with world.session() as session, world.counting() as log:
        with world.cache.bypass(session), world.cache.bypass(session):
            session.scalars(cached).all()
        assert len(log) == 1
        session.scalars(cached).all()
        assert len(log) == 1
    with world.engine.begin() as connection:
        connection.execution_options(cache_touches=[]).execute(
            text("UPDATE cache_person SET name = 'hidden' WHERE id = 1")
        )
    read = lambda result: result.scalars().first().name  # noqa: E731
    assert world.rows(cached, read) == ("person 01", 0)
    with world.session() as session, world.cache.refresh(session):
        assert session.scalars(cached).first().name == "hidden"
    assert world.rows(cached, read) == ("hidden", 0)
    assert world.cache.stats.bypasses == {"bypass": 1}


def test_explain_of_a_statement_that_is_not_cached_yet(world: World) -> None:
    with world.session() as session:
        plan = world.cache.explain(session, cached)
        assert (plan.region, plan.reason, plan.cached, plan.rows) == ("default", None, False, PEOPLE)
        assert plan.fill_seconds
        assert plan.hit_seconds
        assert plan.worthwhile is (plan.hit_seconds < plan.fill_seconds)
        assert any(tag.endswith("cache_person") for tag in plan.tags)
        again = world.cache.explain(session, cached)
        assert again.cached
        assert again.age is not None
        assert again.key == plan.key
        for line in ("region  default", f"key     {plan.key}", "entry   entry of", "sql     SELECT"):
            assert line in str(again)


def test_explain_says_why_a_statement_is_not_cached(world: World) -> None:
    with world.session() as session:
        assert world.cache.explain(session, cached.with_for_update()).advice.endswith("database: locks.")
        assert "no cache option" in world.cache.explain(session, people).advice
        session.add(Person(id=500, name="new"))
        plan = world.cache.explain(session, cached)
        assert (plan.reason, plan.worthwhile) == ("own_writes", None)


def test_explain_says_when_the_cache_costs_more_than_the_query(world: World) -> None:
    with world.session() as session:
        slow = lambda *args: time.sleep(0.05)  # noqa: E731
        event.listen(world.engine, "after_cursor_execute", slow)
        plan = world.cache.explain(session, cached)
        event.remove(world.engine, "after_cursor_execute", slow)
        assert plan.worthwhile is True
        assert plan.advice.startswith("A hit is cheaper")
        backend: Any = world.regions["default"].backend
        get = backend.get
        backend.get = lambda key: time.sleep(0.1) or get(key)
        plan = world.cache.explain(session, cached)
        backend.get = get
        assert plan.worthwhile is False
        assert plan.advice.startswith("The cache costs more than the query")


def test_explain_with_eager_loads_and_parameters(world: World) -> None:
    with world.session() as session:
        plan = world.cache.explain(session, people.options(selectinload(Person.addresses), FromCache()))
        assert plan.rows == PEOPLE
        assert "cache_address.street" not in plan.sql
        from sqlalchemy import bindparam

        statement = people.where(Person.id == bindparam("key")).options(FromCache())
        assert world.cache.explain(session, statement, {"key": 3}).rows == 1


async def test_explain_in_an_async_session(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(fill)
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
    factory = async_sessionmaker(async_engine)
    cache.listen_on_session(factory)
    async with factory() as session:
        plan = await session.run_sync(cache.explain, cached)
        assert plan.rows == PEOPLE
        with cache.bypass(session):
            assert (await session.scalars(cached)).first() is not None
        assert cache.stats.bypasses == {"bypass": 1}
    cache.detach()


# -- when something is missing -------------------------------------------------------------------


class BrokenBackend(MemoryBackend):
    """A backend that fails as long as it is broken."""

    broken = True
    calls = 0

    def get(self, key: str) -> Any:
        self._fail()
        return super().get(key)

    def set(self, key: str, value: Any) -> None:
        self._fail()
        super().set(key, value)

    def _fail(self) -> None:
        self.calls += 1
        if self.broken:
            raise ConnectionError("down")


register_backend("sqla_patterns.test_broken", __name__, "BrokenBackend")


def test_a_backend_that_is_down_costs_the_cache_and_not_the_answer(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    region = make_region().configure("sqla_patterns.test_broken")
    backend: Any = region.actual_backend
    world = worlds(regions={"default": region})
    for _ in range(20):
        assert len(world.rows(cached)[0]) == PEOPLE
    # It is asked again only after a while, because clients wait and retry.
    assert backend.calls <= 4
    assert 1 <= world.cache.stats.errors <= 4
    monkeypatch.setattr("sqla_patterns.caching._regions._PAUSE", 0.0)
    backend.broken = False
    world.cache._reader.regions["default"]._paused_until = 0.0
    assert [world.rows(cached)[1] for _ in range(2)] == [1, 0]


def test_a_sqlalchemy_that_lacks_what_is_needed_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _replay.probe() is None
    monkeypatch.setattr(_replay, "probe", lambda: "Something._private")
    for _ in range(2):
        assert world.rows(people.options(FromCache(), RelationshipCache(Person.addresses)))[1] == 1
    assert world.cache.stats.bypasses == {"unsupported_sqlalchemy": 2}


def test_the_probe_finds_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_probe, "_NEEDED", (*_probe._NEEDED, (Session, "_no_such_name")))
    _replay.probe.cache_clear()
    try:
        assert _replay.probe() == "Session._no_such_name"
    finally:
        monkeypatch.undo()
        _replay.probe.cache_clear()
    assert _replay.probe() is None


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"raw_dml": "maybe"}])
def test_policies_that_there_are_not_are_refused(options: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must be"):
        ORMCache({}, **options)


# -- the backend of the session ------------------------------------------------------------------


def local_region(**arguments: Any) -> Any:
    register_session_backend()
    register_session_backend()
    return make_region().configure("sqlalchemy.session", arguments=arguments)


def test_entries_live_and_die_with_the_session(worlds: Callable[..., World]) -> None:
    region = local_region()
    world = worlds(regions={"local": region})
    statement = people.where(Person.id == 10).options(FromCache("local"))
    with world.session() as one, world.session() as two, world.counting() as log:
        first = one.scalars(statement).one()
        assert one.scalars(statement).one() is first
        assert len(log) == 1
        two.scalars(statement).one()
        assert len(log) == 2
        backend = region.actual_backend
        assert isinstance(backend, SessionLocalBackend)
        assert len(backend.entries(one)) == 1
        assert len(backend._entries) == 2
    del one, two, first
    gc.collect()
    assert len(backend._entries) == 0


def test_a_scoped_session_forgets_on_remove(worlds: Callable[..., World]) -> None:
    regions: dict[str, Any] = {}
    world = worlds(regions=regions)
    registry = scoped_session(world.session)
    regions["local"] = local_region(scoped_session=registry)
    statement = people.options(FromCache("local"))
    with world.counting() as log:
        for expected in (1, 2):
            for _ in range(2):
                registry.scalars(statement).all()
            assert len(log) == expected
            regions["local"].set("mine", "value")
            assert regions["local"].get("mine") == "value"
            registry.remove()
            assert regions["local"].get("mine") != "value"
    registry.remove()


def test_outside_of_a_statement_there_is_no_session() -> None:
    with pytest.raises(StateError, match="FromCache"):
        local_region().get("key")


def test_a_write_ends_entries_of_the_session_too(worlds: Callable[..., World]) -> None:
    world = worlds(regions={"local": local_region()})
    statement = people.options(FromCache("local"))
    with world.session() as session:
        session.scalars(statement).all()
        session.rollback()
        world.write(update(Person).where(Person.id == 1).values(name="new"))
        assert session.scalars(statement).first().name == "new"


# -- entries that are decoded already ------------------------------------------------------------


def test_a_decoded_entry_is_served_without_the_region_and_never_stale(worlds: Callable[..., World]) -> None:
    world = worlds(decoded=2)
    backend: Any = world.regions["default"].backend
    names = select(Person.id, Person.name).order_by(Person.id).options(FromCache())
    for expected in (1, 0):
        assert world.rows(names)[1] == expected
    calls: list[str] = []
    get = backend.get
    backend.get = lambda key: calls.append(key) or get(key)
    found, sent = world.rows(names)
    assert (len(found), sent, calls) == (PEOPLE, 0, [])
    world.write(update(Person).where(Person.id == 1).values(name="new"))
    found, sent = world.rows(names)
    assert (found[0].name, sent) == ("new", 1)
    world.regions["default"].invalidate()
    assert world.rows(names)[1] == 1
    # Only so many are kept.
    for number in range(20):
        world.rows(people.where(Person.id > number).options(FromCache()))
        world.rows(people.where(Person.id > number).options(FromCache()))
    assert len(world.cache._reader.decoded._entries) <= 3


def test_what_can_be_changed_is_not_kept_decoded(worlds: Callable[..., World]) -> None:
    from tests.caching._world import Thing

    world = worlds(decoded=10)
    statement = select(Thing).order_by(Thing.id).options(FromCache())
    read = lambda result: result.scalars().first().document  # noqa: E731
    for _ in range(3):
        document, _ = world.rows(statement, read)
        assert document == {"number": 1, "list": [1, None, "é"]}
        document["list"].clear()


def test_entries_of_a_session_are_not_shared_decoded(worlds: Callable[..., World]) -> None:
    world = worlds(regions={"local": local_region()}, decoded=10)
    for _ in range(2):
        with world.session() as session, world.counting() as log:
            for _ in range(3):
                session.scalars(people.options(FromCache("local"))).all()
            assert len(log) == 1
