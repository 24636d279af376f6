"""Lazy loads from the cache: in batches, and invalidated one by one or all together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select, update
from sqlalchemy.orm import joinedload

from sqla_patterns.caching import CacheEvent, FromCache, MemoryStamps, RelationshipCache
from sqla_patterns.exceptions import StateError
from tests.caching._world import PEOPLE, Address, City, Person, Tag, World, fill

people = select(Person).order_by(Person.id)
option = RelationshipCache(Person.addresses).and_(RelationshipCache(Person.tags)).and_(RelationshipCache(Address.city))
cached = people.options(FromCache(), option)


class CountingStamps(MemoryStamps):
    """A stamp store that counts its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read(self, tags: Any) -> Any:
        self.reads += 1
        return super().read(tags)


def everything(result: Any) -> Any:
    return [
        (
            person.name,
            sorted((address.street, address.city.name if address.city else None) for address in person.addresses),
            [tag.word for tag in person.tags],
        )
        for person in result.scalars()
    ]


def test_cached_relationships_are_what_is_in_the_database(world: World) -> None:
    with world.plain() as session:
        expected = everything(session.execute(people))
    for count in (1 + 2 * PEOPLE + 3, 0, 0):
        assert world.rows(cached, everything) == (expected, count)


def test_one_question_answers_the_attribute_of_all_objects(worlds: Callable[..., World]) -> None:
    stamps = CountingStamps()
    world = worlds(stamps=stamps)
    calls: list[int] = []
    backend: Any = world.regions["default"].backend
    original = backend.get_multi
    backend.get_multi = lambda keys: calls.append(len(keys)) or original(keys)
    world.rows(cached, lambda result: [len(person.addresses) for person in result.scalars()])
    stamps.reads = 0
    calls.clear()
    world.rows(cached, lambda result: [len(person.addresses) for person in result.scalars()])
    assert calls == [PEOPLE - 1]
    # The statement, the first lazy load, and the rest together.
    assert stamps.reads <= 4
    assert world.cache.stats.hits == 1 + PEOPLE


def test_many_to_one_is_answered_together_too(world: World) -> None:
    statement = select(Address).order_by(Address.id).options(RelationshipCache(Address.city))
    read = lambda result: [address.city.name for address in result.scalars()]  # noqa: E731
    expected, _ = world.rows(statement, read)
    assert world.rows(statement, read) == (expected, 1)


def test_what_has_been_changed_in_the_session_is_left_alone(world: World) -> None:
    world.rows(cached, everything)
    with world.session(autoflush=False) as session:
        found = session.scalars(cached).all()
        mine = Address(street="mine")
        found[1].addresses = {mine}
        assert len(found[0].addresses) == 1
        assert found[1].addresses == {mine}
        found[3].addresses.add(Address(street="added"))
        assert len(found[3].addresses) == 2


def test_a_write_ends_the_lazy_loads_of_its_table_alone(world: World) -> None:
    world.rows(cached, everything)
    world.write(update(Tag).values(word="new"))
    found, count = world.rows(cached, everything)
    assert count == PEOPLE  # the tags
    assert found[1][2] == ["new", "new"]
    world.write(insert(Address).values(street="new", person_id=3))
    found, _ = world.rows(cached, everything)
    assert found[2][1] == [("new", None)]


def test_invalidating_one_collection_ends_that_one(world: World) -> None:
    # 3
    world.rows(cached, everything)
    with world.session() as session:
        person = session.get_one(Person, 5)
        world.cache.invalidate_relationship(person, Person.addresses)
    assert world.rows(cached, everything)[1] == 1
    assert world.rows(cached, everything)[1] == 0
    with pytest.raises(StateError, match="flush it first"):
        world.cache.invalidate_relationship(Person(name="new"), Person.addresses)


def test_invalidating_by_the_option_ends_all_of_its_relationships(world: World) -> None:
    # 3, as the recipe's advanced.py has it
    world.rows(cached, everything)
    world.cache.invalidate(people, {}, RelationshipCache(Person.addresses, "default"))
    assert world.rows(cached, everything)[1] == PEOPLE
    world.cache.invalidate(people, {}, FromCache("default"))
    assert world.rows(cached, everything)[1] == 1
    world.cache.invalidate(people, {}, option)
    assert world.rows(cached, everything)[1] == 2 * PEOPLE + 3


def test_a_batch_does_not_mix_statements_that_load_with_other_options(world: World) -> None:
    world.rows(cached, everything)
    with world.session() as session:
        plain = session.scalars(people.where(Person.id < 4)).all()
        others = session.scalars(people.where(Person.id >= 4).options(option)).all()
        with world.counting() as log:
            assert [len(person.addresses) for person in others] == [i % 3 for i in range(4, PEOPLE + 1)]
            assert log == []
            assert [len(person.addresses) for person in plain] == [1, 2, 0]
            assert len(log) == 3


def test_eager_joins_inside_lazy_loads(world: World) -> None:
    statement = people.options(joinedload(Person.addresses).joinedload(Address.city), option)
    read = lambda result: everything(result.unique())  # noqa: E731
    expected, _ = world.rows(statement, read)
    assert world.rows(statement, read)[0] == expected


def test_a_region_that_forgets_some_entries(world: World) -> None:
    keys: list[str] = []

    @world.cache.events.listen
    def note(event_: CacheEvent) -> None:
        if event_.kind == "put" and "cache_address" in event_.sql and "WHERE" in event_.sql:
            keys.append(event_.key)

    expected, _ = world.rows(cached, everything)
    for key in keys[::2]:
        world.regions["default"].backend.delete(key)
    assert world.rows(cached, everything)[0] == expected


def test_a_hundred_cached_collections_are_faster_than_a_hundred_lazy_loads(engine: Engine) -> None:
    world = World(engine)
    Person.metadata.create_all(engine)
    with world.plain() as session:
        city = City(name="c")
        for i in range(1, 101):
            session.add(Person(id=i, name=f"p{i}", addresses={Address(street=f"{i}.{j}", city=city) for j in range(5)}))
        session.commit()
    statement = people.options(FromCache(), RelationshipCache(Person.addresses))
    read = lambda result: sum(len(person.addresses) for person in result.scalars())  # noqa: E731

    # SQLite works in this process, and its time hardly depends on what else the machine does.
    clock = time.process_time if engine.dialect.name == "sqlite" else time.perf_counter

    def seconds(factory: Any, what: Any) -> float:
        with factory() as session:
            found = session.scalars(what).all()
            started = clock()
            assert sum(len(person.addresses) for person in found) == 500
            return clock() - started

    world.rows(statement, read)
    rounds = [(seconds(world.session, statement), seconds(world.plain, people)) for _ in range(9)]
    hits, loads = (min(times) for times in zip(*rounds, strict=True))
    world.close()
    assert hits < loads, f"{hits * 1e3:.1f} ms for hits, {loads * 1e3:.1f} ms for lazy loads"


# -- by primary key ------------------------------------------------------------------------------


def test_get_and_get_many_share_their_entries(world: World) -> None:
    for expected in (1, 0):
        with world.session() as session, world.counting() as log:
            found = world.cache.get_many(session, Person, [1, 2, 3, 99])
            assert {key: person.name for key, person in found.items()} == {i: f"person {i:02}" for i in (1, 2, 3)}
            assert len(log) == expected
    with world.session() as session, world.counting() as log:
        person = world.cache.get(session, Person, 2)
        assert person is not None
        assert world.cache.get(session, Person, 2) is person
        assert world.cache.get(session, Person, 99) is None
        assert world.cache.get(session, Person, {"id": 3}) is not None
        assert world.cache.get_many(session, Person, [2, {"id": 3}, (1,)]).keys() == {2, (3,), (1,)}
        assert log == []
        assert world.cache.get(session, Person, 4) is not None
        assert len(log) == 1


def test_get_sees_writes_and_the_sessions_own(world: World) -> None:
    with world.session() as session:
        world.cache.get_many(session, Person, [1, 2])
    world.write(update(Person).where(Person.id == 1).values(name="new"))
    with world.session() as session:
        person = world.cache.get(session, Person, 1)
        assert person is not None
        assert person.name == "new"
        person.name = "mine"
        assert world.cache.get(session, Person, 1).name == "mine"  # type: ignore[union-attr]
        session.flush()
        session.expunge_all()
        assert world.cache.get_many(session, Person, [1, 2])[1].name == "mine"
        assert world.cache.stats.bypasses == {"own_writes": 1}


def test_composite_keys_and_subclasses(world: World) -> None:
    from tests.caching._world import Animal, Dog

    with world.session() as session:
        animals = world.cache.get_many(session, Animal, [1, 2, 3])
        assert sorted(type(animal).__name__ for animal in animals.values()) == ["Animal", "Dog", "Fish"]
        (dog,) = (key for key, animal in animals.items() if isinstance(animal, Dog))
    with world.session() as session:
        assert list(world.cache.get_many(session, Dog, [1, 2, 3])) == [dog]
    with world.session() as session, pytest.raises(Exception, match="no primary key of Person"):
        world.cache.get(session, Person, (1, 2))


def test_invalidating_an_object_ends_what_get_has_of_it(world: World) -> None:
    with world.session() as session:
        found = world.cache.get_many(session, Person, [1, 2])
        world.cache.invalidate_object(found[1])
    with world.session() as session, world.counting() as log:
        world.cache.get(session, Person, 2)
        assert log == []
        world.cache.get(session, Person, 1)
        assert len(log) == 1


def test_get_many_of_many_takes_few_statements(world: World) -> None:
    with world.session() as session, world.counting() as log:
        assert len(world.cache.get_many(session, Person, range(1, 1300))) == PEOPLE
        assert len(log) == 3
    with world.session() as session, world.counting() as log:
        assert len(world.cache.get_many(session, Person, range(1, 1300))) == PEOPLE
        assert log == []
        assert world.cache.get_many(session, Person, []) == {}


def test_a_load_listener_may_run_statements_of_its_own(world: World) -> None:
    def on_load(target: Person, context: Any) -> None:
        context.session.execute(select(City.id).options(FromCache())).all()

    world.rows(cached, everything)
    event.listen(Person, "load", on_load)
    try:
        assert world.rows(cached, lambda result: len(result.scalars().all()))[0] == PEOPLE
    finally:
        event.remove(Person, "load", on_load)


def test_get_many_never_mixes_moments(engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    fill(engine)
    world = World(engine)
    with world.session() as session:
        world.cache.get_many(session, Person, [1, 2])
    wrote: list[int] = []

    def write_between(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "cache_person" in statement and statement.startswith("SELECT") and not wrote:
            wrote.append(1)
            world.write(update(Person).where(Person.id.in_([1, 3])).values(name="new"))

    event.listen(engine, "before_cursor_execute", write_between)
    with world.session() as session:
        names = {key: each.name for key, each in world.cache.get_many(session, Person, [1, 2, 3]).items()}
    event.remove(engine, "before_cursor_execute", write_between)
    assert names in ({1: "new", 2: "person 02", 3: "new"}, {1: "person 01", 2: "person 02", 3: "person 03"})
    world.close()
