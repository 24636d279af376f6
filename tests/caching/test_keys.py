"""Statements whose answers may differ never share an entry; numbers are those of the recipe's defects."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Engine,
    Integer,
    String,
    bindparam,
    create_engine,
    event,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, sessionmaker, with_loader_criteria
from sqlalchemy.pool import SingletonThreadPool, StaticPool
from sqlalchemy.types import NullType

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RelationshipCache, UncacheableParameterError
from sqla_patterns.caching._keys import bucket, encode, make_cache_key
from tests._support import Database
from tests.caching._world import (
    Address,
    Base,
    Person,
    Secret,
    SecretType,
    Tag,
    Thing,
    World,
    fill,
    memory_region,
    region_of,
)

people = select(Person.name).order_by(Person.id)


def memory_engine(word: str) -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Tag).values(id=1, word=word))
    return engine


def words(session: Session, **options: Any) -> list[str]:
    return list(session.scalars(select(Tag.word).options(FromCache()), **options))


# -- values --------------------------------------------------------------------------------------


class Small(enum.Enum):
    ONE = 1
    TWO = 2


VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.0, 0.0, -0.0, "", "1", "None", b"", b"1", 10**40),
    *(date(2024, 1, 1), datetime(2024, 1, 1), time(1), time(1, fold=1), timedelta(1), timedelta(0, 1)),  # noqa: DTZ001
    *(Decimal("1.0"), Decimal("1.00"), uuid.UUID(int=1), Small.ONE, Small.TWO),
    *((), (1,), ((1,),), (1, 2), (12,), ("1", "2"), ("12",), {}, {1: 2}, {2: 1}, {1}, frozenset({2})),
]


def test_different_values_have_different_forms() -> None:
    forms = [encode(value, "it") for value in VALUES]
    assert len(set(forms)) == len(VALUES)


def test_equal_values_have_one_form_whatever_their_order() -> None:
    assert encode({"a": 1, "b": 2}, "it") == encode({"b": 2, "a": 1}, "it")
    assert encode({3, 1, 2}, "it") == encode(frozenset({2, 3, 1}), "it")
    assert encode([1, 2], "it") == encode((1, 2), "it")
    assert encode(bytearray(b"x"), "it") == encode(b"x", "it") == encode(memoryview(b"x"), "it")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(json, json)
def test_forms_are_equal_just_when_values_are(one: object, two: object) -> None:
    same = repr(_sorted(one)) == repr(_sorted(two))
    assert (encode(one, "it") == encode(two, "it")) is same


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(st.lists(st.binary(), max_size=4), st.lists(st.binary(), max_size=4))
def test_parts_do_not_run_together(one: list[bytes], two: list[bytes]) -> None:
    assert (make_cache_key(one) == make_cache_key(two)) is (one == two)


def test_a_value_without_a_form_is_refused_by_name() -> None:
    with pytest.raises(UncacheableParameterError, match=r"parameter 'x' is a .*\.object"):
        encode(object(), "parameter 'x'")


def test_tags_of_single_things_are_bounded() -> None:
    assert len({bucket("s", [str(i).encode()]) for i in range(3000)}) > 2800
    assert len(bucket("s", [b"x"])) == 6


# -- parameters ----------------------------------------------------------------------------------


def test_a_parameter_that_hides_its_value_is_told_apart_by_it(world: World) -> None:
    # 24
    def found(text: str) -> list[int]:
        statement = select(Thing.id).where(Thing.secret == Secret(text)).options(FromCache())
        return list(world.rows(statement, lambda result: result.scalars().all())[0])

    assert (found("secret 1"), found("secret 2"), found("secret 1")) == ([1], [2], [1])
    assert world.cache.stats.hits == 1


def test_objects_without_a_repr_method_have_different_entries(world: World) -> None:
    # 25
    class Key:
        def __init__(self, number: int) -> None:
            self.number = number

        def __composite_values__(self) -> tuple[int]:
            return (self.number,)

    from sqlalchemy import TypeDecorator

    class KeyType(TypeDecorator[Any]):
        impl = Integer
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Any) -> int:
            return int(value.number)

    for round_ in range(2):
        for number in range(1, 9):
            statement = select(Person.id).where(type_coerce(Person.id, KeyType) == Key(number)).options(FromCache())
            assert world.rows(statement, lambda result: result.scalar_one()) == (number, 1 - round_)


def test_one_value_through_two_types_is_two_values(world: World) -> None:
    # 26
    plain = select(Thing.id).where(type_coerce(Thing.secret, String) == "secret 1").options(FromCache())
    typed = select(Thing.id).where(type_coerce(Thing.secret, SecretType) == Secret("secret 1")).options(FromCache())
    read = lambda result: result.scalars().all()  # noqa: E731
    assert world.rows(plain, read)[0] == []
    assert world.rows(typed, read)[0] == [1]


def test_many_parameters_make_a_short_key(world: World) -> None:
    # 27
    keys: list[str] = []
    world.cache.events.listen(lambda event: keys.append(event.key))
    world.rows(people.where(Person.id.in_(range(1, 2000))).options(FromCache()))
    assert {len(key) for key in keys} == {48}


def test_in_with_the_same_number_of_values_is_told_apart(world: World) -> None:
    for ids in ([1, 2], [3, 4], [1, 2]):
        found, _ = world.rows(people.where(Person.id.in_(ids)).options(FromCache()))
        assert [row.name for row in found] == [f"person {i:02}" for i in ids]
    assert world.cache.stats.hits == 1


def test_parameters_given_at_execution_and_in_the_statement(world: World) -> None:
    from sqlalchemy import bindparam

    statement = people.where(Person.id == bindparam("key")).options(FromCache())
    for key, expected in ((1, 1), (2, 1), (1, 0)):
        with world.session() as session, world.counting() as log:
            assert session.scalars(statement, {"key": key}).one() == f"person {key:02}"
            assert len(log) == expected


class _Odd:
    """A value that SQLite accepts, and that has no form in a cache key."""

    def __conform__(self, protocol: object) -> str:
        return "person 01"


@pytest.mark.only_on("sqlite")
def test_a_statement_with_a_parameter_without_a_form_goes_to_the_database(world: World) -> None:
    statement = select(Person.id).where(Person.name == bindparam("odd", _Odd(), type_=NullType())).options(FromCache())
    assert [world.rows(statement) for _ in range(2)] == [([(1,)], 1)] * 2


@pytest.mark.only_on("sqlite")
def test_a_parameter_without_a_form_is_counted(world: World) -> None:
    world.rows(select(Person.id).where(Person.name == bindparam("odd", _Odd(), type_=NullType())).options(FromCache()))
    assert world.cache.stats.bypasses == {"parameter": 1}


def test_the_word_of_the_option_adds_to_the_key_and_never_replaces_it(world: World) -> None:
    # "cache_key ... will serve as the key", said the recipe
    one = people.where(Person.id == 1).options(FromCache(cache_key="word"))
    two = people.where(Person.id == 2).options(FromCache(cache_key="word"))
    other = people.where(Person.id == 1).options(FromCache(cache_key="other"))
    assert [world.rows(statement)[0][0].name for statement in (one, two)] == ["person 01", "person 02"]
    assert world.rows(other)[1] == 1
    assert world.rows(one)[1] == 0


def test_words_that_are_not_ascii(worlds: Callable[..., World], tmp_path: Path) -> None:
    # 35
    world = worlds(regions={"default": region_of("dogpile.cache.dbm", tmp_path)}, namespace="é")
    statement = people.where(Person.name == "é☃").options(FromCache(cache_key="ß"))
    assert [world.rows(statement)[1] for _ in range(2)] == [1, 0]


# -- types and shapes ----------------------------------------------------------------------------


def test_result_types_are_those_of_the_statement_at_hand(world: World) -> None:
    typed = select(Thing.secret).order_by(Thing.id).options(FromCache())
    plain = select(type_coerce(Thing.secret, String).label("secret")).order_by(Thing.id).options(FromCache())
    for _ in range(2):
        assert world.rows(typed)[0] == [(Secret("secret 1"),), (Secret("secret 2"),)]
        assert world.rows(plain)[0] == [("1 terces",), ("2 terces",)]


def test_a_mutable_value_is_not_shared_by_hits(world: World) -> None:
    statement = select(Thing).order_by(Thing.id).options(FromCache())
    read = lambda result: result.scalars().first().document  # noqa: E731
    world.rows(statement)
    document, _ = world.rows(statement, read)
    document["list"].append("mine")
    assert world.rows(statement, read) == ({"number": 1, "list": [1, None, "é"]}, 0)


def distinct_on(statement: Any, column: Any) -> Any:
    """Return a DISTINCT ON in the spelling of the SQLAlchemy series; 2.1 deprecates that of 2.0."""
    from sqlalchemy.dialects import postgresql

    if hasattr(postgresql, "distinct_on"):
        return statement.ext(postgresql.distinct_on(column))
    return statement.distinct(column)


@pytest.mark.only_on("postgresql")
def test_distinct_on_and_its_columns(world: World) -> None:
    # 21
    by_name = distinct_on(select(Person.name), Person.name).options(FromCache())
    by_score = distinct_on(select(Person.name), Person.score).options(FromCache())
    assert len(world.rows(by_name)[0]) == 12
    assert len(world.rows(by_score)[0]) == 4
    world.cache.invalidate(by_score)
    assert (world.rows(by_name)[1], world.rows(by_score)[1]) == (0, 1)


def test_prefixes_and_hints_are_told_apart(world: World) -> None:
    # 21
    word = "SQL_NO_CACHE" if world.engine.dialect.name in {"mysql", "mariadb"} else "ALL"
    world.rows(people.options(FromCache()))
    assert world.rows(people.prefix_with(word).options(FromCache()))[1] == 1


def test_a_column_that_the_class_gained(worlds: Callable[..., World], engine: Engine) -> None:
    # 39: an entry with a cache_key of the user's, made before the class had that column
    world = worlds()
    narrow = select(Person.id, Person.name).options(FromCache(cache_key="people"))
    wide = select(Person.id, Person.name, Person.score).options(FromCache(cache_key="people"))
    world.rows(narrow)
    assert len(world.rows(wide)[0][0]) == 3


# -- databases -----------------------------------------------------------------------------------


@pytest.mark.only_on("sqlite")
def test_databases_behind_one_url_are_told_apart() -> None:
    # 17
    engines = [memory_engine("one"), memory_engine("two")]
    factories = [sessionmaker(engine) for engine in engines]
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
    for factory in factories:
        cache.listen_on_session(factory)
    for _ in range(2):
        for factory, expected in zip(factories, ["one", "two"], strict=True):
            with factory() as session:
                assert words(session) == [expected]
    with factories[0]() as session:
        assert words(session, bind_arguments={"bind": engines[1]}) == ["two"]
    assert cache.stats.hits == 3
    cache.detach()
    for engine in engines:
        engine.dispose()


@pytest.mark.only_on("sqlite")
def test_sqlite_in_memory_is_another_database_for_each_thread_and_pool() -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = create_engine("sqlite://", connect_args={"check_same_thread": False})
    assert isinstance(engine.pool, SingletonThreadPool)
    factory = sessionmaker(engine)
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
    cache.listen_on_session(factory)

    def fresh(word: str) -> list[str]:
        with factory() as session:
            Base.metadata.create_all(session.connection())
            session.execute(insert(Tag).values(id=1, word=word))
            session.commit()
        with factory() as session:
            return words(session) + words(session)

    assert fresh("here") == ["here", "here"]
    with ThreadPoolExecutor(1) as other:
        assert other.submit(fresh, "there").result(timeout=20) == ["there", "there"]
    with factory() as session:
        assert words(session) == ["here"]
    engine.dispose()
    assert fresh("again") == ["again", "again"]
    cache.detach()
    engine.dispose()


def test_a_file_of_sqlite_is_one_database_under_every_path(database: Database, tmp_path: Path) -> None:
    if not str(database.url).startswith("sqlite"):
        return
    path = tmp_path / "one.db"
    engines = [create_engine(f"sqlite:///{path}"), create_engine(f"sqlite:///{tmp_path}/../{tmp_path.name}/one.db")]
    fill(engines[0])
    region = memory_region()
    stamps = MemoryStamps()
    one, two = (World(engine, {"default": region}, stamps=stamps) for engine in engines)
    statement = people.options(FromCache())
    assert (one.rows(statement)[1], two.rows(statement)[1]) == (1, 0)
    path.rename(tmp_path / "gone.db")
    for engine in engines:
        engine.dispose()
    fill(engines[0])
    assert one.rows(statement)[1] == 1
    for world in (one, two):
        world.close()
        world.engine.dispose()


@pytest.mark.only_on("postgresql")
def test_a_search_path_in_connect_args_is_told_apart(database: Database, worlds: Callable[..., World]) -> None:
    # 17
    first = worlds()
    with first.engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA other")
        connection.exec_driver_sql("CREATE TABLE other.cache_tag AS SELECT 1 AS id, 'elsewhere' AS word")
    engine = create_engine(database.url, connect_args={"options": "-csearch_path=other,public"})
    second = worlds(engine, regions=first.regions)
    for _ in range(2):
        with first.session() as session:
            assert len(words(session)) == 3
        with second.session() as session:
            assert words(session) == ["elsewhere"]
    engine.dispose()


@pytest.mark.only_on("postgresql")
def test_schemas_of_tenants_are_told_apart(worlds: Callable[..., World]) -> None:
    # 18
    world = worlds()
    with world.engine.begin() as connection:
        for tenant in ("ta", "tb"):
            connection.exec_driver_sql(f"CREATE SCHEMA {tenant}")
            connection.exec_driver_sql(f"CREATE TABLE {tenant}.cache_tag AS SELECT 1 AS id, 'of-{tenant}' AS word")
    for _ in range(2):
        for tenant in ("ta", "tb"):
            translate = {"schema_translate_map": {None: tenant}}
            with world.session() as session:
                assert words(session, execution_options=translate) == [f"of-{tenant}"]
            with Session(world.engine.execution_options(**translate)) as session:
                handle = world.cache.listen_on_session(session)
                assert words(session) == [f"of-{tenant}"]
                handle.detach()
            with world.engine.connect() as connection, Session(connection.execution_options(**translate)) as session:
                handle = world.cache.listen_on_session(session)
                assert words(session) == [f"of-{tenant}"]
                handle.detach()
            with world.session() as session:
                session.connection(execution_options=translate)
                assert words(session) == [f"of-{tenant}"]
    assert world.cache.stats.misses == 2
    with world.session() as session:
        assert len(words(session)) == 3


def test_a_named_database_is_told_apart(worlds: Callable[..., World]) -> None:
    world = worlds()
    named = worlds(world.engine.execution_options(cache_database="b"), regions=world.regions)
    statement = people.options(FromCache())
    assert (world.rows(statement)[1], named.rows(statement)[1], named.rows(statement)[1]) == (1, 1, 0)


# -- who asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after"])
def test_global_criteria_attached_before_and_after_the_cache(order: str, engine: Engine) -> None:
    # 19, 20
    fill(engine)
    factory = sessionmaker(engine)
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())

    def criteria(state: Any) -> None:
        tenant = state.session.info["tenant"]
        state.statement = state.statement.options(with_loader_criteria(Person, lambda cls: cls.score == tenant))

    if order == "before":
        event.listen(factory, "do_orm_execute", criteria)
    cache.listen_on_session(factory)
    if order == "after":
        event.listen(factory, "do_orm_execute", criteria)
    for _ in range(2):
        for tenant in (1, 2):
            with factory(info={"tenant": tenant}) as session:
                found = session.scalars(select(Person).options(FromCache())).all()
                assert {person.score for person in found} == {tenant}
                assert len(found) == 3
    assert (cache.stats.hits, cache.stats.misses) == (2, 2)
    cache.invalidate(select(Person))
    with factory(info={"tenant": 2}) as session:
        session.scalars(select(Person).options(FromCache())).all()
    assert cache.stats.misses == 3
    cache.detach()


def test_a_listener_after_the_cache_may_answer_or_route(worlds: Callable[..., World]) -> None:
    world = worlds()
    calls: list[str] = []

    def twice(state: Any) -> Any:
        calls.append("route")
        first = state.invoke_statement(execution_options={"part": 1})
        second = state.invoke_statement(execution_options={"part": 2})
        return first.merge(second)

    event.listen(world.session, "do_orm_execute", twice)
    statement = people.where(Person.id == 1).options(FromCache())
    # Each statement that the listener runs is looked up separately, and the listener is called once.
    assert [row.name for row in world.rows(statement)[0]] == ["person 01", "person 01"]
    assert world.rows(statement)[1] == 0
    assert calls == ["route", "route"]
    assert (world.cache.stats.hits, world.cache.stats.misses) == (3, 1)


def test_what_a_statement_does_not_show_goes_into_vary(worlds: Callable[..., World]) -> None:
    world = worlds(vary=lambda state: state.session.info.get("role"))
    for role, expected in (("a", 1), ("b", 1), ("a", 0), (("a", 1), 1)):
        with world.session(info={"role": role}) as session, world.counting() as log:
            session.execute(people.options(FromCache())).all()
            assert len(log) == expected
    for vary in ("x", lambda state: "y"):
        for expected in (1, 0):
            assert world.rows(people.options(FromCache(vary=vary)))[1] == expected
    with world.session(info={"role": object()}) as session, pytest.raises(UncacheableParameterError, match="vary"):
        session.execute(people.options(FromCache()))


def test_namespaces_share_nothing(worlds: Callable[..., World]) -> None:
    one = worlds(namespace="app:1")
    two = worlds(namespace="app:2", regions=one.regions)
    statement = people.options(FromCache())
    assert (one.rows(statement)[1], two.rows(statement)[1]) == (1, 1)


def test_nothing_grows_with_the_statements_that_were_run(world: World) -> None:
    # 37
    for width in range(700):
        statement = people.where(Person.id.in_([1])).where(*(Person.score > -i for i in range(width % 7)))
        world.rows(statement.limit(1 + width % 3).options(FromCache(cache_key=str(width % 5))))
    reader = world.cache._reader
    assert len(reader.statements) <= 750
    assert len(reader.plans) <= 50
    assert len(reader.locks) == 0


# -- invalidating --------------------------------------------------------------------------------


def test_query_select_and_alias_invalidate_alike(world: World) -> None:
    # 1, 36
    statement = select(Person).where(Person.id < 4).options(FromCache())
    with Session(world.engine) as other:
        variants: list[Any] = [
            select(Person).where(Person.id < 4),
            statement,
            other.query(Person).filter(Person.id < 4),
            other.query(Person).filter(Person.id < 4).options(FromCache("default")),
        ]
        for variant in variants:
            world.rows(statement)
            assert world.rows(statement)[1] == 0
            world.cache.invalidate(variant)
            assert world.rows(statement)[1] == 1
            world.cache.invalidate(variant, {}, FromCache("default"))
            assert world.rows(statement)[1] == 1


def test_invalidating_reaches_every_variant_and_no_other_statement(worlds: Callable[..., World]) -> None:
    # 2
    one = worlds()
    two = worlds(
        one.engine.execution_options(cache_database="b"), regions=one.regions, stamps=one.cache._freshness.store
    )
    statement, other = (people.where(Person.id < n).options(FromCache("default", "word")) for n in (3, 5))
    for world in (one, two):
        world.rows(statement)
        world.rows(other)
    one.cache.invalidate(people.where(Person.id < 3))
    for world in (one, two):
        assert world.rows(statement)[1] == 1
        assert world.rows(other)[1] == 0


def test_invalidating_with_parameters(world: World) -> None:
    from sqlalchemy import bindparam

    statement = people.where(Person.id == bindparam("key")).options(FromCache())
    for key in (1, 2):
        world.rows(statement, params={"key": key})
    world.cache.invalidate(statement, {"key": 1})
    assert world.rows(statement, params={"key": 1})[1] == 1
    assert world.rows(statement, params={"key": 2})[1] == 0


def test_invalidating_by_table_tag_and_all(world: World) -> None:
    statement = people.options(FromCache(tags=("word", Tag)))
    for end in (
        lambda: world.cache.invalidate_tables(Person),
        lambda: world.cache.invalidate_tables("cache_person"),
        lambda: world.cache.invalidate_tables(Tag.__table__),
        lambda: world.cache.invalidate_tags("word"),
        world.cache.invalidate_all,
        lambda: world.write(update(Tag).values(word="new")),
    ):
        world.rows(statement)
        assert world.rows(statement)[1] == 0
        world.cache.invalidate_tags("another")
        world.cache.invalidate_tables("another")
        assert world.rows(statement)[1] == 0
        end()
        assert world.rows(statement)[1] == 1


@pytest.mark.only_on("sqlite")
def test_shards_are_told_apart() -> None:
    shards = {"north": create_engine("sqlite://", poolclass=StaticPool)}
    shards["south"] = create_engine("sqlite://", poolclass=StaticPool)
    for number, (name, engine) in enumerate(shards.items(), 1):
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            addresses = {Address(id=i, street=f"{name} street {i}") for i in range(1, number + 1)}
            session.add_all([Person(id=1, name=name, addresses=addresses), Person(id=2, name=f"{name} 2")])
            session.commit()
    factory = sessionmaker(
        class_=ShardedSession,
        shards=shards,
        shard_chooser=lambda mapper, instance, clause=None: "north",
        identity_chooser=lambda mapper, key, *, lazy_loaded_from, execution_options, bind_arguments, **kw: (
            [lazy_loaded_from.identity_token] if lazy_loaded_from else list(shards)
        ),
        execute_chooser=lambda context: (
            [context.lazy_loaded_from.identity_token] if context.lazy_loaded_from else list(shards)
        ),
    )
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
    cache.listen_on_session(factory)
    statement = select(Person).options(FromCache(), RelationshipCache(Person.addresses))
    expected = [("north", ["north street 1"]), ("north 2", []), ("south", ["south street 1", "south street 2"])]
    for _ in range(3):
        with factory() as session:
            found = session.scalars(statement).all()
            got = sorted((person.name, sorted(each.street for each in person.addresses)) for person in found)
            assert got == [*expected, ("south 2", [])]
            assert {person.name for person in cache.get_many(session, Person, [1, 2]).values()} <= {
                *("north", "north 2", "south", "south 2")
            }
    # Statement by shard, lazy loads, and the keys of get_many() by shard.
    assert cache.stats.misses == 2 + 4 + 2 + 1
    cache.detach()
    for engine in shards.values():
        engine.dispose()
