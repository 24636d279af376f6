"""Wrong arguments are refused where they are given, by name; what can be meant in one way only is accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from dogpile.cache import make_region
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import sessionmaker

from sqla_patterns.caching import (
    CacheMiss,
    FromCache,
    MemoryStamps,
    ORMCache,
    RedisStamps,
    RelationshipCache,
    StampsUnavailableError,
)
from sqla_patterns.exceptions import InvalidArgumentError
from tests.caching._hooked import HookedStamps
from tests.caching._world import Person, World, fill, memory_region

names = select(Person.name).order_by(Person.id)

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a number as key": (
        lambda: FromCache("default", 60),  # type: ignore[arg-type]
        r"cache_key=60 .* expiration_time=60",
    ),
    "a number as region": (lambda: FromCache(60), "region=60 is no name"),  # type: ignore[arg-type]
    "a string as duration": (lambda: FromCache(expiration_time="60"), "expiration_time='60'"),  # type: ignore[arg-type]
    "a negative duration": (lambda: FromCache(expiration_time=-5), "expiration_time=-5"),
    "a negative timedelta": (lambda: FromCache(expiration_time=timedelta(-1)), "expiration_time=datetime"),
    "a boolean as duration": (lambda: FromCache(expiration_time=True), "expiration_time=True"),
    "no number at all": (lambda: FromCache(expiration_time=float("nan")), "expiration_time=nan"),
    "a relationship with a number as key": (
        lambda: RelationshipCache(Person.addresses, "default", 60),  # type: ignore[arg-type]
        "cache_key=60",
    ),
    "a relationship with a string as duration": (
        lambda: RelationshipCache(Person.addresses, expiration_time="60"),  # type: ignore[arg-type]
        "expiration_time='60'",
    ),
    "a list of regions": (
        lambda: ORMCache([memory_region()]),  # type: ignore[arg-type]
        "give a dictionary of regions",
    ),
    "a name of stamps": (lambda: ORMCache({}, stamps="memory"), "stamps='memory' is no store"),
    "a class of stamps": (lambda: ORMCache({}, stamps=MemoryStamps), "is no store of stamps"),  # type: ignore[arg-type]
    "a region as stamps": (
        lambda: ORMCache({}, stamps=memory_region()),  # type: ignore[arg-type]
        "is no store of stamps",
    ),
}


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_refused_at_once(name: str) -> None:
    make, words = WRONG[name]
    with pytest.raises(InvalidArgumentError, match=words):
        make()


@pytest.mark.parametrize("duration", [timedelta(minutes=1), 60, 60.0, -1, 0.5])
def test_a_duration_is_a_timedelta_or_seconds(worlds: Callable[..., World], duration: Any) -> None:
    world = worlds()
    for _ in range(2):
        world.rows(names.options(FromCache(expiration_time=duration)))
    assert world.cache.stats.hits == 1


def test_a_timedelta_ends_an_entry(world: World) -> None:
    for _ in range(2):
        world.rows(names.options(FromCache(expiration_time=timedelta(microseconds=1))))
    assert world.cache.stats.hits == 0


def test_a_region_alone_is_the_default_one(engine: Engine) -> None:
    fill(engine)
    cache = ORMCache(memory_region(), stamps=MemoryStamps())
    factory = sessionmaker(engine)
    with cache.listen_on_session(factory):
        for _ in range(2):
            with factory() as session:
                session.scalars(names.options(FromCache())).all()
    cache.detach()
    assert cache.stats.hits == 1


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("url", ["redis://localhost/5", "rediss://localhost/5", "unix:///tmp/redis.sock"])
def test_the_url_of_a_redis_is_a_store(url: str) -> None:
    assert isinstance(ORMCache({}, stamps=url)._freshness.store, RedisStamps)


def test_a_region_that_was_never_configured_is_named(worlds: Callable[..., World]) -> None:
    world = worlds(regions={"default": make_region()})
    with pytest.raises(InvalidArgumentError, match=r"region 'default' .* never configured"):
        world.rows(names.options(FromCache()))


def test_what_is_no_region_is_named(worlds: Callable[..., World]) -> None:
    world = worlds(regions={"default": {}})
    with pytest.raises(InvalidArgumentError, match=r"region 'default' of the cache is \{\}"):
        world.rows(names.options(FromCache()))


def test_a_region_may_be_configured_after_the_cache_is_made(worlds: Callable[..., World]) -> None:
    region = make_region()
    world = worlds(regions={"default": region})
    region.configure("dogpile.cache.memory")
    for _ in range(2):
        world.rows(names.options(FromCache()))
    assert world.cache.stats.hits == 1


# -- never ask the database ----------------------------------------------------------------------

only_cached = FromCache(ignore_expiration=True)


def _own_writes(world: World, session: Any) -> Any:
    session.execute(update(Person).values(name="mine"))
    return names


def _stamps_down(world: World, session: Any) -> Any:
    world.hooked.broken.add("read")  # type: ignore[attr-defined]
    return names


def _volatile(world: World, session: Any) -> Any:
    return names.where(func.current_timestamp() > text("'2000-01-01'"))


def _locks(world: World, session: Any) -> Any:
    return names.with_for_update()


def _refresh(world: World, session: Any) -> Any:
    return select(Person).execution_options(populate_existing=True)


def _region_down(world: World, session: Any) -> Any:
    def fail(*args: Any) -> Any:
        raise ConnectionError("down")

    backend: Any = world.regions["default"].backend
    backend.get_serialized = fail
    return names


WAYS_PAST: dict[str, Callable[[World, Any], Any]] = {
    way.__name__.strip("_"): way for way in (_own_writes, _stamps_down, _volatile, _locks, _refresh, _region_down)
}


@pytest.mark.parametrize("way", WAYS_PAST)
def test_ignore_expiration_never_asks_the_database(worlds: Callable[..., World], way: str) -> None:
    hooked = HookedStamps(MemoryStamps())
    world = worlds(stamps=hooked)
    world.hooked = hooked  # type: ignore[attr-defined]
    world.rows(names.options(FromCache()))
    with world.session() as session:
        statement = WAYS_PAST[way](world, session)
        with world.counting() as log, pytest.raises(CacheMiss):
            session.execute(statement.options(only_cached)).all()
        assert log.starting("SELECT cache_person") == []


def test_the_text_of_a_cache_miss_says_why(world: World) -> None:
    with world.session() as session:
        session.execute(update(Person).values(name="mine"))
        with pytest.raises(CacheMiss, match=r"FROM cache_person.* from region 'default' \(own_writes\)"):
            session.execute(names.options(only_cached))


def test_a_user_who_bypasses_the_cache_asks_the_database(world: World) -> None:
    with world.session() as session, world.cache.bypass(session):
        assert len(session.scalars(names.options(only_cached)).all()) > 0


# -- values that a backend refuses ---------------------------------------------------------------


class TooLargeError(Exception):
    """The error of a memcached client for a value over its limit."""


def _refusing(world: World, error: Exception, words: str) -> list[str]:
    backend: Any = world.regions["default"].backend
    original = backend.set_serialized
    calls: list[str] = []

    def set_serialized(key: str, value: bytes) -> None:
        calls.append(key)
        if words.encode() in value:
            raise error
        original(key, value)

    backend.set_serialized = set_serialized
    return calls


def test_a_refused_value_costs_its_own_entry_alone(world: World) -> None:
    _refusing(world, TooLargeError("1 MB"), "person 02")
    small = select(Person.name).where(Person.id == 1).options(FromCache())
    large = names.options(FromCache())
    world.rows(small)
    counts = [(world.rows(large)[1], world.rows(small)[1]) for _ in range(5)]
    assert counts == [(1, 0)] * 5


def test_a_refused_value_is_counted(world: World) -> None:
    _refusing(world, TooLargeError("1 MB"), "person 02")
    for _ in range(3):
        world.rows(names.options(FromCache()))
    assert world.cache.stats.errors == 3


class ServerDown(Exception):  # noqa: N818 - named as in pylibmc
    """An error of a client, which has no base class in common with those of other clients."""


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), ServerDown(), StampsUnavailableError("x")])
def test_a_backend_that_cannot_be_reached_is_left_alone_for_a_while(world: World, error: Exception) -> None:
    calls = _refusing(world, error, "person")
    for _ in range(3):
        world.rows(names.options(FromCache()))
    assert len(calls) == 1
