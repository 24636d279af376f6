"""Several caches on one target, one cache on targets that overlap, and every kind of session."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker, with_loader_criteria

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RelationshipCache, UnknownRegionError
from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from tests._support import count_statements
from tests.caching._world import Person, fill, memory_region

names = select(Person.name).where(Person.id == 1)


class Own(Session):
    """A session class of the user's."""


@pytest.fixture
def caches(engine: Engine) -> Generator[Callable[..., ORMCache], None, None]:
    """Make caches, each with the regions that are named."""
    fill(engine)
    made: list[ORMCache] = []

    def make(*regions: str) -> ORMCache:
        made.append(ORMCache({name: memory_region() for name in regions}, stamps=MemoryStamps()))
        return made[-1]

    yield make
    for cache in made:
        cache.detach()


def _read(factory: Any, *options: Any, times: int = 2) -> list[int]:
    """Return how many statements each of some sessions sends."""
    counts: list[int] = []
    for _ in range(times):
        with factory() as session, count_statements(session.get_bind()) as log:
            assert session.scalars(names.options(*options)).all() == ["person 01"]
            counts.append(len(log))
    return counts


# -- two caches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["short", "long"])
def test_two_caches_on_one_factory_serve_each_its_regions(
    engine: Engine, caches: Callable[..., ORMCache], region: str
) -> None:
    factory = sessionmaker(engine)
    both = {name: caches(name) for name in ("short", "long")}
    for cache in both.values():
        cache.listen_on_session(factory)
    assert _read(factory, FromCache(region)) == [1, 0]
    assert {name: (cache.stats.hits, cache.stats.misses) for name, cache in both.items()} == {
        name: (1, 1) if name == region else (0, 0) for name in both
    }


def test_of_two_caches_with_one_region_the_first_answers(engine: Engine, caches: Callable[..., ORMCache]) -> None:
    factory = sessionmaker(engine)
    first, second = caches("default"), caches("default")
    first.listen_on_session(factory)
    second.listen_on_session(factory)
    assert _read(factory, FromCache()) == [1, 0]
    assert (first.stats.hits, second.stats.hits) == (1, 0)


def test_a_region_that_neither_of_two_caches_has_is_named(engine: Engine, caches: Callable[..., ORMCache]) -> None:
    factory = sessionmaker(engine)
    for name in ("short", "long"):
        caches(name).listen_on_session(factory)
    with factory() as session, pytest.raises(UnknownRegionError, match=r"'nope' \(it has: 'short', 'long'\)"):
        session.scalars(names.options(FromCache("nope")))


def test_a_write_ends_the_entries_of_both_caches(engine: Engine, caches: Callable[..., ORMCache]) -> None:
    factory = sessionmaker(engine)
    for name in ("short", "long"):
        caches(name).listen_on_session(factory)
    for name in ("short", "long"):
        _read(factory, FromCache(name))
    with factory() as session:
        session.execute(update(Person).where(Person.id == 1).values(name="new"))
        session.commit()
    found: list[Any] = []
    for name in ("short", "long"):
        with factory() as session:
            found.append(session.scalar(names.options(FromCache(name))))
    assert found == ["new", "new"]


def test_a_bypass_of_two_caches_is_counted_once(engine: Engine, caches: Callable[..., ORMCache]) -> None:
    factory = sessionmaker(engine)
    short, long = caches("short"), caches("long")
    short.listen_on_session(factory)
    long.listen_on_session(factory)
    with factory() as session:
        session.execute(update(Person).where(Person.id == 1).values(name="mine"))
        assert session.scalar(names.options(FromCache("long"))) == "mine"
    assert (short.stats.bypasses, long.stats.bypasses) == ({}, {"own_writes": 1})


@pytest.mark.parametrize("first", [True, False], ids=["by the first", "by the second"])
def test_get_is_answered_by_the_cache_that_was_asked(
    engine: Engine, caches: Callable[..., ORMCache], first: bool
) -> None:
    factory = sessionmaker(engine)
    both = [caches("default"), caches("default")]
    for cache in both:
        cache.listen_on_session(factory)
    asked, other = both if first else reversed(both)
    for _ in range(2):
        with factory() as session:
            assert asked.get(session, Person, 1) is not None
    assert (asked.stats.hits, other.stats.hits, other.stats.misses) == (1, 0, 0)


def test_a_cache_that_is_not_attached_leaves_get_to_the_database(
    engine: Engine, caches: Callable[..., ORMCache]
) -> None:
    factory = sessionmaker(engine)
    attached, other = caches("default"), caches("default")
    attached.listen_on_session(factory)
    with factory() as session:
        assert other.get(session, Person, 1) is not None
    assert (attached.stats.misses, other.stats.misses) == (0, 0)


def test_explain_is_answered_by_the_cache_that_was_asked(engine: Engine, caches: Callable[..., ORMCache]) -> None:
    factory = sessionmaker(engine)
    first, second = caches("default"), caches("default")
    first.listen_on_session(factory)
    second.listen_on_session(factory)
    with factory() as session:
        assert second.explain(session, names.options(FromCache())).reason is None
    assert (first.stats.misses, second.stats.misses) == (0, 1)


def test_relationships_of_two_caches_are_served_each_by_its_own(
    engine: Engine, caches: Callable[..., ORMCache]
) -> None:
    factory = sessionmaker(engine)
    both = [caches("short"), caches("long")]
    for cache in both:
        cache.listen_on_session(factory)
    option = RelationshipCache(Person.addresses, "short").and_(RelationshipCache(Person.tags, "long"))
    for _ in range(2):
        with factory() as session:
            for person in session.scalars(select(Person).options(option)):
                assert len(person.addresses) == len(person.tags) == person.id % 3
    assert [cache.stats.hits for cache in both] == [12, 12]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["before both", "between", "after both"])
def test_a_listener_among_two_caches_has_its_say_before_them(
    engine: Engine, caches: Callable[..., ORMCache], place: int
) -> None:
    from sqlalchemy import event

    factory = sessionmaker(engine)
    calls: list[object] = []

    def add_criteria(state: Any) -> None:
        calls.append(state)
        state.statement = state.statement.options(with_loader_criteria(Person, Person.id == state.session.info["id"]))

    steps: list[Callable[[], object]] = [
        lambda: caches("short").listen_on_session(factory),
        lambda: caches("long").listen_on_session(factory),
    ]
    steps.insert(place, lambda: event.listen(factory, "do_orm_execute", add_criteria))
    for step in steps:
        step()
    found: list[Any] = []
    for number in (1, 2, 1):
        with factory(info={"id": number}) as session:
            found.append(session.scalars(select(Person.name).options(FromCache("long"))).all())
    assert (found, len(calls)) == ([["person 01"], ["person 02"], ["person 01"]], 3)


# -- one cache on targets that overlap -----------------------------------------------------------


@pytest.mark.parametrize("class_first", [True, False], ids=["class first", "factory first"])
def test_a_cache_on_a_class_and_on_its_factory_answers_once(
    engine: Engine, caches: Callable[..., ORMCache], class_first: bool
) -> None:
    factory = sessionmaker(engine, class_=Own)
    cache = caches("default")
    for target in (Own, factory) if class_first else (factory, Own):
        cache.listen_on_session(target)
    assert _read(factory, FromCache()) == [1, 0]
    assert (cache.stats.hits, cache.stats.misses) == (1, 1)


@pytest.mark.parametrize("session_first", [True, False], ids=["session first", "factory first"])
def test_a_cache_on_a_session_and_on_its_factory_answers_once(
    engine: Engine, caches: Callable[..., ORMCache], session_first: bool
) -> None:
    factory = sessionmaker(engine)
    cache = caches("default")
    with factory() as session:
        for target in (session, factory) if session_first else (factory, session):
            cache.listen_on_session(target)
        for _ in range(2):
            assert session.scalars(names.options(FromCache())).all() == ["person 01"]
    assert (cache.stats.hits, cache.stats.misses) == (1, 1)


def test_a_bypass_on_targets_that_overlap_is_counted_once(engine: Engine, caches: Callable[..., ORMCache]) -> None:
    factory = sessionmaker(engine, class_=Own)
    cache = caches("default")
    cache.listen_on_session(Own)
    cache.listen_on_session(factory)
    with factory() as session:
        session.execute(update(Person).where(Person.id == 1).values(name="mine"))
        assert session.scalar(names.options(FromCache())) == "mine"
    assert cache.stats.bypasses == {"own_writes": 1}


def test_two_caches_on_a_class_and_on_its_factory_serve_each_its_regions(
    engine: Engine, caches: Callable[..., ORMCache]
) -> None:
    factory = sessionmaker(engine, class_=Own)
    caches("short").listen_on_session(Own)
    caches("long").listen_on_session(factory)
    assert [_read(factory, FromCache(name)) for name in ("short", "long")] == [[1, 0], [1, 0]]


# -- kinds of sessions ---------------------------------------------------------------------------


CALLS: dict[str, Callable[[ORMCache, Any], Any]] = {
    "cache.get": lambda cache, session: cache.get(session, Person, 1),
    "cache.get_many": lambda cache, session: cache.get_many(session, Person, [1]),
    "cache.explain": lambda cache, session: cache.explain(session, names.options(FromCache())),
    "cache.bypass": lambda cache, session: cache.bypass(session).__enter__(),
    "cache.refresh": lambda cache, session: cache.refresh(session).__enter__(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_scoped_session_is_as_good_as_its_session(engine: Engine, caches: Callable[..., ORMCache], call: str) -> None:
    scoped = scoped_session(sessionmaker(engine))
    cache = caches("default")
    cache.listen_on_session(scoped)
    CALLS[call](cache, scoped)
    assert scoped.registry.has()
    scoped.remove()


def test_bypass_of_a_scoped_session_holds_for_its_session(engine: Engine, caches: Callable[..., ORMCache]) -> None:
    scoped = scoped_session(sessionmaker(engine))
    cache = caches("default")
    cache.listen_on_session(scoped)
    with cache.bypass(scoped):
        scoped.scalars(names.options(FromCache())).all()
    scoped.remove()
    assert cache.stats.bypasses == {"bypass": 1}


@pytest.mark.parametrize("call", ["cache.get", "cache.get_many", "cache.explain"])
@pytest.mark.parametrize("kind", [AsyncSession, async_scoped_session])
def test_what_would_have_to_be_awaited_is_refused_with_the_line_to_write(
    caches: Callable[..., ORMCache], async_engine: AsyncEngine, call: str, kind: Any
) -> None:
    factory = async_sessionmaker(async_engine)
    session: Any = factory() if kind is AsyncSession else async_scoped_session(factory, lambda: 1)
    with pytest.raises(InvalidArgumentError, match=rf"await session\.run_sync\({call}, \.\.\.\)"):
        CALLS[call](caches("default"), session)


@pytest.mark.parametrize("context", ["bypass", "refresh"])
@pytest.mark.parametrize("kind", [AsyncSession, async_scoped_session])
def test_the_contexts_take_async_sessions(
    caches: Callable[..., ORMCache], async_engine: AsyncEngine, context: str, kind: Any
) -> None:
    factory = async_sessionmaker(async_engine)
    session: Any = factory() if kind is AsyncSession else async_scoped_session(factory, lambda: 1)
    cache = caches("default")
    with getattr(cache, context)(session):
        assert len(cache._reader.modes) == 1


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_session_is_refused(engine: Engine, caches: Callable[..., ORMCache], call: str) -> None:
    with pytest.raises(PatternError, match=rf"{call}\(\) needs a session"):
        CALLS[call](caches("default"), sessionmaker(engine))
