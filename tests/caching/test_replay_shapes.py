"""A hit returns what the query returns, for every shape of statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Integer,
    String,
    cast,
    exists,
    func,
    lambda_stmt,
    literal,
    literal_column,
    select,
    text,
    type_coerce,
    union,
    union_all,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    defaultload,
    joinedload,
    load_only,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_polymorphic,
)

from sqla_patterns.caching import FromCache
from tests.caching._world import PEOPLE, Address, Animal, City, Dog, Person, Tag, Thing, World, person_tag

Read = Callable[[Any], Any]


def columns(entity: Any) -> tuple[Any, ...]:
    """Return the loaded column values of an object, to compare objects of different sessions."""
    keys = sorted(type(entity).__mapper__.column_attrs.keys())
    return (type(entity).__name__, *((key, entity.__dict__[key]) for key in keys if key in entity.__dict__))


def plain(row: Any) -> Any:
    """Return a row, its keys and mapping, with objects replaced by their values."""
    values = tuple(columns(each) if hasattr(each, "__mapper__") else each for each in row)
    return tuple(row._fields), values, type(row).__name__


def entities(result: Any) -> Any:
    return [columns(each) for each in result.scalars()]


def rows(result: Any) -> Any:
    return list(result.keys()), [plain(row) for row in result]


def collections(result: Any) -> Any:
    return [
        (columns(each), sorted(columns(child) for child in each.__dict__["addresses"]))
        for each in result.unique().scalars()
    ]


def partitions(result: Any) -> Any:
    return [[columns(each) for each in part] for part in result.scalars().partitions()]


def by_mapping(*keys: Any) -> Read:
    return lambda result: [tuple(row._mapping[key] for key in keys) for row in result]


other = aliased(Person, name="other")
people = select(Person).order_by(Person.id)
polymorphic = with_polymorphic(Animal, "*")
adults = select(Person).where(Person.score > 1).subquery("adults")
adult = aliased(Person, adults)
numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
recursive = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 4))

SHAPES: dict[str, tuple[Any, Read]] = {
    "entities": (people, entities),
    "entities as rows": (people, rows),
    "entities and values": (select(Person, Person.score, literal("x").label("x")).order_by(Person.id), rows),
    "columns": (select(Person.id, Person.name.label("called"), Person.score).order_by(Person.id), rows),
    "row mapping by column": (
        select(Person.id, Person.score).order_by(Person.id),
        by_mapping(Person.id, Person.score, "id", "score"),
    ),
    "row mapping by entity": (
        select(Person, Address).join(Person.addresses).order_by(Address.id),
        lambda result: [(columns(row._mapping[Person]), columns(row._mapping["Address"])) for row in result],
    ),
    "core table": (select(Person.__table__).order_by(Person.__table__.c.id), rows),
    "core row mapping": (
        select(Person.__table__).order_by(Person.__table__.c.id),
        by_mapping(Person.__table__.c.points, "name"),
    ),
    "aggregate": (select(func.count(Person.id), func.max(Person.score)), rows),
    "scalar": (select(func.count()).select_from(Person), lambda result: result.scalar_one()),
    "group by": (select(Person.score, func.count()).group_by(Person.score).order_by(Person.score), rows),
    "no rows": (people.where(Person.id < 0), entities),
    "one": (people.where(Person.id == 3), lambda result: columns(result.scalar_one())),
    "one or none": (people.where(Person.id == -3), lambda result: result.scalar_one_or_none()),
    "first": (people, lambda result: plain(result.first())),
    "mappings": (select(Person.id, Person.name).order_by(Person.id), lambda r: [dict(m) for m in r.mappings()]),
    "fetchmany": (people, lambda r: [len(r.fetchmany(5)), len(r.fetchmany(5)), len(r.fetchmany(5))]),
    "columns of result": (select(Person.id, Person.name), lambda r: sorted(r.columns(1, 0).all())),
    "frozen": (select(Person.id).order_by(Person.id), lambda r: [tuple(row) for row in r.freeze()()]),
    "distinct": (select(Person.score).distinct().order_by(Person.score), rows),
    "unique rows": (select(Person.score).order_by(Person.score), lambda r: r.unique().all()),
    "alias": (select(other).where(other.score == 2).order_by(other.id), rows),
    "self join": (
        select(Person.name, other).join(other, other.score == Person.score).order_by(Person.id, other.id),
        rows,
    ),
    "outer join": (
        select(Person, Address).outerjoin(Person.addresses).order_by(Person.id, Address.id),
        lambda r: [(columns(p), None if a is None else columns(a)) for p, a in r],
    ),
    "exists": (people.where(exists().where(Address.person_id == Person.id)), entities),
    "any": (people.where(Person.addresses.any(Address.street.like("%.1"))), entities),
    "scalar subquery": (
        select(Person.id, select(func.count(Address.id)).where(Address.person_id == Person.id).scalar_subquery()),
        lambda r: sorted(map(tuple, r)),
    ),
    "expressions": (
        select((Person.score + 1).label("more"), Person.name + "!", cast(Person.score, String(5))).order_by(Person.id),
        rows,
    ),
    "literal column": (select(literal_column("1", Integer).label("one"), Person.id).order_by(Person.id), rows),
    "type_coerce": (select(type_coerce(Person.name, String).label("s")).order_by(Person.id), rows),
    "bundle": (
        select(Bundle("pair", Person.id, Person.name)).order_by(Person.id),
        lambda r: [tuple(p) for p in r.scalars()],
    ),
    "bundle attributes": (
        select(Bundle("pair", Person.id, Person.name), Person.score).order_by(Person.id),
        lambda r: [(row.pair.id, row.pair.name, row.score) for row in r],
    ),
    "joinedload": (people.options(joinedload(Person.addresses)), collections),
    "joinedload chain": (
        people.options(joinedload(Person.addresses).joinedload(Address.city)),
        lambda r: [sorted(columns(a.__dict__["city"]) for a in p.__dict__["addresses"]) for p in r.unique().scalars()],
    ),
    "joinedload with limit": (people.options(joinedload(Person.addresses)).limit(5), collections),
    "selectinload": (people.options(selectinload(Person.addresses)), collections),
    "subqueryload": (people.options(subqueryload(Person.addresses)), collections),
    "contains_eager": (
        select(Person).join(Person.addresses).options(contains_eager(Person.addresses)).order_by(Person.id, Address.id),
        collections,
    ),
    "many to many": (
        people.options(selectinload(Person.tags)),
        lambda r: [[columns(tag) for tag in p.__dict__["tags"]] for p in r.scalars()],
    ),
    "load_only": (people.options(load_only(Person.name)), entities),
    "undefer": (people.options(undefer(Person.biography)), entities),
    "defaultload": (people.options(defaultload(Person.addresses).load_only(Address.street)), entities),
    "union": (
        select(Person).from_statement(
            union(people.where(Person.id < 3).order_by(None), people.where(Person.id > 9).order_by(None))
        ),
        lambda r: sorted(entities(r)),
    ),
    "union of columns": (union_all(select(Person.id), select(Address.id)), lambda r: sorted(map(tuple, r))),
    "entity of union": (
        select(
            aliased(
                Person, union_all(select(Person).where(Person.id == 1), select(Person).where(Person.id == 2)).subquery()
            )
        ),
        lambda r: sorted(entities(r)),
    ),
    "entity of subquery": (select(adult).order_by(adult.id), entities),
    "common table expression": (
        select(recursive.c.n).where(exists().where(Person.id == recursive.c.n)),
        lambda r: sorted(map(tuple, r)),
    ),
    "in": (people.where(Person.id.in_([3, 1, 5])), entities),
    "empty in": (people.where(Person.id.in_([])), entities),
    "secondary table": (
        select(Person.id, Tag.word)
        .join(person_tag, person_tag.c.person_id == Person.id)
        .join(Tag)
        .order_by(Person.id, Tag.id),
        rows,
    ),
    "limit": (people.limit(3).offset(2), entities),
    "window": (select(Person.id, func.row_number().over(order_by=Person.id.desc())).order_by(Person.id), rows),
    "polymorphic base": (select(Animal).order_by(Animal.id), lambda r: [type(a).__name__ for a in r.scalars()]),
    "polymorphic sub": (select(Dog), entities),
    "with_polymorphic": (select(polymorphic).order_by(polymorphic.id), entities),
    "selectin_polymorphic": (
        select(Animal).options(selectin_polymorphic(Animal, [Dog])).order_by(Animal.id),
        entities,
    ),
    "types": (select(Thing).order_by(Thing.id), entities),
    "types as columns": (
        select(Thing.color, Thing.price, Thing.secret, Thing.document, Thing.token, Thing.day, Thing.span).order_by(
            Thing.id
        ),
        rows,
    ),
    "yield_per": (people.execution_options(yield_per=5), partitions),
    "yield_per and selectinload": (
        people.options(selectinload(Person.addresses)).execution_options(yield_per=5),
        lambda r: [[len(p.__dict__["addresses"]) for p in part] for part in r.scalars().partitions()],
    ),
    "two entities": (
        select(City, func.count(Address.id))
        .join(Address, Address.city_id == City.id)
        .group_by(City.id, City.name)
        .order_by(City.id),
        rows,
    ),
    "lambda": (lambda_stmt(lambda: select(Person).order_by(Person.id)).options(FromCache()), entities),
}


#: PyMySQL cannot send a second statement while the rows of the first one are being read.
STREAMS = {"yield_per", "yield_per and selectinload"}


def test_miss_and_hit_give_what_the_query_gives(world: World) -> None:
    # One test for all, because a database for each would take minutes on a server.
    wrong: dict[str, object] = {}
    for shape, (statement, read) in SHAPES.items():
        if world.engine.dialect.name in {"mysql", "mariadb"} and shape in STREAMS:
            continue
        with world.plain() as session, world.counting() as log:
            expected, sent = read(session.execute(statement)), len(log)
        cached = statement if shape == "lambda" else statement.options(FromCache(cache_key=shape))
        hits = world.cache.stats.hits
        missed, hit, again = (world.rows(cached, read) for _ in range(3))
        # What select IN and subquery loading send beside the statement has the options of the statement, and is cached
        # too.
        outcome = [missed, hit, again, world.cache.stats.hits - hits]
        if outcome != [(expected, sent), (expected, 0), (expected, 0), 2 * sent]:
            wrong[shape] = (expected, sent, outcome)
    assert wrong == {}


@pytest.mark.parametrize("shape", ["entities", "joinedload", "types", "polymorphic base", "with_polymorphic"])
def test_objects_that_the_session_has_already_are_the_ones_it_gets(shape: str, world: World) -> None:
    statement, _ = SHAPES[shape]
    cached = statement.options(FromCache())
    world.rows(cached, lambda result: result.unique().all())
    with world.session() as session:
        first = session.scalars(cached).unique().all()
        second = session.scalars(cached).unique().all()
        assert all(a is b for a, b in zip(first, second, strict=True))
        assert all(each in session for each in first)
        assert not session.dirty


def test_text_is_cached_when_its_tables_are_named(world: World) -> None:
    statement = (
        select(Person)
        .from_statement(text("SELECT points, name, id FROM cache_person WHERE id < :most ORDER BY id"))
        .options(FromCache(tags=(Person,)))
    )
    with world.session() as session, world.counting() as log:
        for _ in range(2):
            found = session.scalars(statement, {"most": 4}).all()
            assert [(p.id, p.name, p.score) for p in found] == [(i, f"person {i:02}", i % 4) for i in (1, 2, 3)]
        assert len(log) == 1
        assert [p.id for p in session.scalars(statement, {"most": 2})] == [1]
        assert len(log) == 2


@pytest.mark.parametrize("named", ["by position", "by name"])
def test_columns_of_text_are_found_in_the_order_that_they_have(named: str, world: World) -> None:
    sql = text("SELECT word, id FROM cache_tag WHERE id < 3 ORDER BY id")
    textual = sql.columns(Tag.word, Tag.id) if named == "by position" else sql.columns(id=Integer, word=String)
    statement = select(Tag).from_statement(textual).options(FromCache(tags=(Tag,)))
    read: Read = lambda result: [(tag.id, tag.word) for tag in result.scalars()]  # noqa: E731
    assert world.rows(statement, read) == ([(1, "tag 0"), (2, "tag 1")], 1)
    assert world.rows(statement, read) == ([(1, "tag 0"), (2, "tag 1")], 0)


def test_query_objects_are_cached_too(world: World) -> None:
    for expected in (1, 0):
        with world.session() as session, world.counting() as log:
            query = session.query(Person).options(FromCache()).filter(Person.id < 4).order_by(Person.id)
            assert [person.id for person in query] == [1, 2, 3]
            assert len(log) == expected
    with world.session() as session, world.counting() as log:
        joined = session.query(Person, Address).join(Person.addresses).options(FromCache())
        assert len(joined.all()) == len(joined.all())
        assert len(log) == 1


def test_a_statement_that_needs_unique_demands_it_on_a_hit(world: World) -> None:
    statement = people.options(joinedload(Person.addresses), FromCache())
    for _ in range(3):
        with world.session() as session, pytest.raises(InvalidRequestError, match=r"unique\(\)"):
            session.scalars(statement).all()
        with world.session() as session:
            assert len(session.scalars(statement).unique().all()) == PEOPLE


def test_two_entities_with_an_eager_collection_can_be_cached(world: World) -> None:
    statement = (
        select(Person, Address)
        .join(Address, Address.person_id == Person.id)
        .options(joinedload(Person.tags), FromCache())
        .order_by(Address.id)
    )
    read = lambda result: [(columns(p), columns(a)) for p, a in result.unique()]  # noqa: E731
    with world.plain() as session:
        expected = read(session.execute(statement))
    assert world.rows(statement, read) == (expected, 1)
    assert world.rows(statement, read) == (expected, 0)


def test_a_session_without_autoflush_and_one_with_expire_on_commit_off(world: World) -> None:
    statement = people.options(FromCache())
    world.rows(statement)
    with Session(world.engine, autoflush=False, expire_on_commit=False) as session, world.counting() as log:
        handle = world.cache.listen_on_session(session)
        assert len(session.scalars(statement).all()) == PEOPLE
        assert log == []
        handle.detach()
