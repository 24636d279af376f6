"""Options: their cache key, how they are combined, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from sqla_patterns.caching import FromCache, RelationshipCache, UnknownRegionError
from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from tests.caching._world import PEOPLE, Address, Animal, City, Dog, Person, World, memory_region

people = select(Person).order_by(Person.id)


def sent(world: World, statement: Any) -> int:
    """Return how many statements loading people, their addresses and cities sends."""

    def read(result: Any) -> int:
        return sum(len([address.city for address in person.addresses]) for person in result.scalars())

    return world.rows(statement, read)[1]


@pytest.mark.parametrize("order", ["cache first", "relationship first", "no cache", "cache alone"])
def test_both_options_act_on_one_statement_in_any_order(order: str, world: World) -> None:
    # SQLAlchemy pairs the options of a cached statement with those of the statement that is run, by position.
    statements = {
        "cache first": people.options(FromCache(), RelationshipCache(Person.addresses)),
        "relationship first": people.options(RelationshipCache(Person.addresses), FromCache()),
        "no cache": people.options(RelationshipCache(Person.addresses)),
        "cache alone": people.options(FromCache()),
    }
    for statement in (people, *statements.values(), people):
        with world.session() as session:
            session.scalars(statement).all()
    statement = statements[order]
    read = lambda result: [len(person.addresses) for person in result.scalars()]  # noqa: E731
    world.rows(statement, read)
    uncached = {"no cache": 1, "cache alone": PEOPLE}.get(order, 0)
    assert world.rows(statement, read) == ([i % 3 for i in range(1, PEOPLE + 1)], uncached)


def test_options_reach_the_objects_behind_relationships(world: World) -> None:
    chain = RelationshipCache(Person.addresses).and_(RelationshipCache(Address.city))
    statement = people.options(FromCache(), chain)
    assert sent(world, statement) == 1 + PEOPLE + 3
    assert sent(world, statement) == 0


def test_and_returns_a_new_option() -> None:
    # 40
    one, two = RelationshipCache(Person.addresses), RelationshipCache(Address.city)
    both = one.and_(two)
    assert (len(one.relationships), len(two.relationships), len(both.relationships)) == (1, 1, 2)
    assert repr(both) == "RelationshipCache(Person.addresses & Address.city, 'default')"
    other = RelationshipCache(Person.addresses, "other")
    assert both.and_(other).for_path(Person.__mapper__, "addresses") is other


def test_each_relationship_keeps_the_settings_of_its_option(worlds: Callable[..., World]) -> None:
    regions = {"default": memory_region(), "cities": memory_region()}
    world = worlds(regions=regions)
    chain = RelationshipCache(Person.addresses).and_(RelationshipCache(Address.city, "cities", expiration_time=0))
    sent(world, people.options(chain))
    assert (world.cache.stats.regions["default"].puts, world.cache.stats.regions["cities"].puts) == (PEOPLE, 3)
    assert sent(world, people.options(chain)) == 1 + 3


def test_subclasses_have_the_relationships_of_their_base() -> None:
    class Plain:
        """A class that is not mapped."""

    option = RelationshipCache(Person.addresses)
    assert option.for_path(Person.__mapper__, "addresses") is option
    assert option.for_path(Person.__mapper__, "tags") is None
    assert option.for_path(Dog.__mapper__, "addresses") is None
    assert issubclass(Dog, Animal)


def test_an_unknown_region_is_named_with_those_there_are(world: World) -> None:
    # 4
    with world.session() as session, pytest.raises(UnknownRegionError, match=r"'nope' \(it has: 'default'\)") as caught:
        session.scalars(people.options(FromCache("nope"))).all()
    assert isinstance(caught.value, (KeyError, PatternError))
    with world.session() as session:
        assert session.scalars(people).first() is not None


@pytest.mark.parametrize(
    "make",
    [
        lambda: RelationshipCache(Person.name),
        lambda: RelationshipCache("addresses"),  # type: ignore[arg-type]
        lambda: FromCache(tags="word"),
    ],
)
def test_bad_arguments_are_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgumentError):
        make()


def test_regions_may_come_later_and_be_replaced(worlds: Callable[..., World]) -> None:
    regions: dict[str, Any] = {}
    world = worlds(regions=regions)
    regions["default"] = memory_region()
    statement = people.options(FromCache())
    assert [world.rows(statement)[1] for _ in range(2)] == [1, 0]
    regions["default"] = memory_region()
    assert [world.rows(statement)[1] for _ in range(2)] == [1, 0]


def test_a_statement_without_options_is_left_alone(world: World) -> None:
    for _ in range(2):
        assert world.rows(people)[1] == 1
    assert world.rows(select(func.count()).select_from(Person))[1] == 1
    assert world.cache.stats.misses == 0


def test_a_session_that_is_not_attached_ignores_the_options(world: World) -> None:
    with Session(world.engine) as session, world.counting() as log:
        for _ in range(2):
            session.scalars(people.options(FromCache(), RelationshipCache(Person.addresses))).all()
        assert len(log) == 2


def test_eager_loads_under_a_relationship_option(world: World) -> None:
    option = RelationshipCache(Person.addresses)
    selecting = people.options(selectinload(Person.addresses), option)
    joined = people.options(joinedload(Person.addresses), option, FromCache())
    read = lambda result: [len(person.addresses) for person in result.unique().scalars()]  # noqa: E731
    expected = [i % 3 for i in range(1, PEOPLE + 1)]
    assert [world.rows(selecting, read) for _ in range(2)] == [(expected, 2), (expected, 1)]
    assert [world.rows(joined, read) for _ in range(2)] == [(expected, 1), (expected, 0)]
    assert City is not None
