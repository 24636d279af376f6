"""What is read through a sharded session is what one database with all rows answers, from as few shards as can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Select, and_, bindparam, distinct, exists, false, func, literal_column, not_, or_, select, text
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import Session, aliased, joinedload, selectinload, sessionmaker, subqueryload

from sqla_patterns.sharding import (
    AmbiguousIdentityError,
    CrossShardJoinError,
    ScatterForbiddenError,
    ScatterWarning,
    ShardNotNamedError,
    Shards,
    UnmergeableScatterError,
    explain,
    pinned_to,
    sharded_sessionmaker,
)
from tests.sharding._models import CONTINENTS, NAMES, Location, Report, Traffic, Unit, rules

Maker = sessionmaker[ShardedSession]
L, R, U = Location, Report, Unit
OTHER = aliased(Location)
SUB = select(Location).subquery()
ENTITY_SUB = aliased(Location, SUB)
ALL = {"asia", "europe", "america"}
TABLE = Location.__table__

PRUNED: list[tuple[str, Callable[[], Select[Any]], set[str]]] = [
    ("equals", lambda: select(L.id).where(L.continent == "Asia"), {"asia"}),
    ("mirrored", lambda: select(L.id).where(bindparam("x", "Asia") == L.continent), {"asia"}),
    ("in", lambda: select(L.id).where(L.continent.in_(["Asia", "Europe", "Asia"])), {"asia", "europe"}),
    ("in of one shard", lambda: select(L.id).where(L.continent.in_(["North America", "South America"])), {"america"}),
    ("in nothing", lambda: select(L.id).where(L.continent.in_([])), set()),
    ("unknown", lambda: select(L.id).where(L.continent == "Atlantis"), set()),
    ("and of two", lambda: select(L.id).where(L.continent == "Asia", L.continent == "Europe"), set()),
    ("or of two", lambda: select(L.id).where(or_(L.continent == "Asia", L.continent == "Europe")), {"asia", "europe"}),
    ("or with another column", lambda: select(L.id).where(or_(L.continent == "Asia", L.city == "Lima")), ALL),
    ("not", lambda: select(L.id).where(not_(and_(L.continent == "Asia", L.city == "Lima"))), ALL),
    ("differs", lambda: select(L.id).where(L.continent != "Asia"), ALL),
    ("nothing", lambda: select(L.id), ALL),
    ("false", lambda: select(L.id).where(false()), set()),
    ("alias", lambda: select(OTHER.id).where(OTHER.continent == "Asia"), {"asia"}),
    ("join on", lambda: select(R.id).join(L, and_(L.id == R.location_id, L.continent == "Europe")), {"europe"}),
    ("join", lambda: select(R.id).join(R.location).where(L.continent == "Europe"), {"europe"}),
    ("join of alias", lambda: select(R.id).join(R.location.of_type(OTHER)).where(OTHER.continent == "Asia"), {"asia"}),
    ("from subquery", lambda: select(SUB.c.id).where(SUB.c.continent == "Asia"), {"asia"}),
    ("entity of subquery", lambda: select(ENTITY_SUB.id).where(ENTITY_SUB.continent == "Asia"), {"asia"}),
    (
        "within a subquery",
        lambda: select(func.count()).select_from(select(L).where(L.continent == "Asia").subquery()),
        {"asia"},
    ),
    ("core", lambda: select(TABLE.c.id).where(TABLE.c.continent == "Asia"), {"asia"}),
    ("outer join on", lambda: select(L.id, R.id).outerjoin(R, and_(R.location_id == L.id, L.continent == "Asia")), ALL),
    ("exists", lambda: select(L.id).where(L.reports.any(R.degrees > 1)), ALL),
    ("exists with its own key", lambda: select(R.id).where(R.location.has(L.continent == "Asia")), ALL),
    (
        "in a subquery",
        lambda: select(R.id).where(R.location_id.in_(select(L.id).where(L.continent == "Asia"))),
        {"asia"},
    ),
    (
        "scalar subquery",
        lambda: select(L.id, select(func.count(R.id)).where(R.location_id == L.id).scalar_subquery()),
        ALL,
    ),
    ("reference", lambda: select(U.name), {"asia"}),
    (
        "reference join",
        lambda: select(R.id, U.name).join(R.unit).join(R.location).where(L.continent == "Asia"),
        {"asia"},
    ),
]


@pytest.mark.parametrize(("make", "shards_asked"), [case[1:] for case in PRUNED], ids=[case[0] for case in PRUNED])
def test_conditions_leave_shards_and_the_rows_are_those_of_one_database(
    filled: Maker, whole: Session, log: Traffic, make: Callable[[], Select[Any]], shards_asked: set[str]
) -> None:
    with filled() as session:
        expected = sorted(map(tuple, whole.execute(make())), key=repr)
        for _ in range(2):  # with a plan that is made, and with one that is kept
            log.clear()
            found = sorted(map(tuple, session.execute(make())), key=repr)
            assert found == expected
            assert set(log.shards) == shards_asked
            assert len(log) == len(shards_asked)
        assert explain(session, make()).shards == shards_asked


@pytest.mark.parametrize("continent", [*CONTINENTS, "Atlantis"])
def test_one_continent_takes_one_select(filled: Maker, whole: Session, log: Traffic, continent: str) -> None:
    statement = select(Location).where(Location.continent == continent).order_by(Location.id)
    with filled() as session:
        found = session.scalars(statement).all()
        assert [each.id for each in found] == [each.id for each in whole.scalars(statement)]
        assert log.shards == ([CONTINENTS[continent]] if continent in CONTINENTS else [])


def test_the_plan_of_a_form_is_made_once(filled: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqla_patterns.sharding import _reads

    made: list[object] = []
    real = _reads.analyse
    monkeypatch.setattr(_reads, "analyse", lambda *args: made.append(args) or real(*args))
    with filled() as session:
        for number in range(30):
            for continent in CONTINENTS:
                session.scalars(select(L.city).where(L.continent == continent, L.id == number)).all()
    assert len(made) == 1


def test_a_parameter_of_the_execution_is_looked_at(filled: Maker, whole: Session, log: Traffic) -> None:
    statement = select(L.id).where(L.continent == bindparam("where")).order_by(L.id)
    with filled() as session:
        for continent in ("Asia", "Europe"):
            found = session.scalars(statement, {"where": continent}).all()
            assert found == whole.scalars(statement, {"where": continent}).all()
    assert log.shards == ["asia", "europe"]


AGGREGATES = [
    select(func.count()).select_from(L),
    select(func.count(L.people), func.sum(L.people), func.min(L.people), func.max(L.people)),
    select(func.avg(L.people), func.avg(L.area), func.sum(L.area), func.avg(L.height)),
    select(func.min(L.city), func.max(L.city), func.min(L.founded), func.max(L.height)),
    select(func.count(), func.sum(R.degrees)).join(R.location).where(L.people > 0),
    select(func.count().filter(L.people > 1), func.avg(L.people).filter(L.people > 0)).select_from(L),
    select(func.sum(L.people)).where(L.city == "nowhere"),
    select(func.count(), func.max(L.people)).where(L.continent == "Atlantis"),
    select(func.coalesce(func.max(L.people), 7)).where(L.continent == "Atlantis"),
]


@pytest.mark.parametrize("statement", AGGREGATES, ids=str)
def test_aggregates_are_those_of_one_database(filled: Maker, whole: Session, statement: Select[Any]) -> None:
    with filled() as session:
        (found,), (expected,) = session.execute(statement).all(), whole.execute(statement).all()
        # Floats are added in another order.
        assert tuple(found) == tuple(pytest.approx(each) if isinstance(each, float) else each for each in expected)


ORDERED = [
    select(L.city).order_by(L.people.desc(), L.id).limit(5).offset(2),
    select(L.city, L.people).order_by(L.people.nulls_last(), L.id.desc()).limit(7).offset(3),
    select(L.id).order_by(L.city.desc().nulls_first(), L.area, L.height.desc(), L.founded, L.id),
    select(L.id).order_by(L.kind, L.id),
    select(L.id).order_by(-L.people, L.id + 5),
    select(L.id.label("number")).order_by("number").offset(30),
    select(L.id).order_by(L.id).limit(0),
    select(L.city).distinct().order_by(L.city),
    select(L.people, L.city).distinct().order_by(L.people.desc(), L.city).limit(4).offset(1),
    select(L.city, func.count(), func.sum(L.people)).group_by(L.city).order_by(func.count().desc(), L.city),
    select(L.continent, func.avg(L.people)).group_by(L.continent).order_by(L.continent).limit(2).offset(1),
    select(func.count()).select_from(L).group_by(L.city, L.people).order_by(L.city, L.people),
    select(func.max(L.area).label("most"), L.kind).group_by(L.kind).order_by("most", L.kind),
    select(R.id, L.city).join(R.location).order_by(L.city, R.id).limit(10),
    select(R.id, U.name).outerjoin(R.unit).order_by(U.name, R.id),
    select(L.id, func.count(R.id)).outerjoin(L.reports).group_by(L.id).order_by(func.count(R.id), L.id),
]


@pytest.mark.parametrize("statement", ORDERED, ids=str)
def test_ordered_rows_are_in_the_order_of_one_database(filled: Maker, whole: Session, statement: Select[Any]) -> None:
    with filled() as session:
        found = session.execute(statement)
        expected = whole.execute(statement)
        assert list(found.keys()) == list(expected.keys())
        assert found.all() == expected.all()


UNMERGEABLE = [
    (select(func.count(L.city.distinct())), "count"),
    (select(L.city, func.count()).group_by(L.city).having(func.count() > 1), "HAVING"),
    (select(L.id, func.row_number().over(order_by=L.id)), "OVER"),
    (select(func.group_concat(L.city)), "group_concat"),
    (select(func.count() + 1).select_from(L), "count"),
    (select(L.city).distinct().order_by(L.people), "DISTINCT"),
    (select(L.id).union(select(R.id)), "UNION"),
    (select(func.count()).select_from(select(L.city).distinct().subquery()), "DISTINCT"),
    (select(L.id).order_by(L.id).fetch(3), "FETCH"),
    (select(literal_column("count(*)")).select_from(L), "count"),
    (select(text("count(*)")).select_from(L), "count"),
]


@pytest.mark.parametrize(("statement", "clause"), UNMERGEABLE, ids=str)
def test_what_cannot_be_merged_is_refused_by_name(filled: Maker, log: Traffic, statement: Any, clause: str) -> None:
    with filled() as session, pytest.raises(UnmergeableScatterError, match=clause):
        session.execute(statement)
    assert log == []


@pytest.mark.parametrize(("statement", "clause"), UNMERGEABLE[:3], ids=str)
def test_what_cannot_be_merged_may_be_listed_shard_by_shard(filled: Maker, statement: Any, clause: str) -> None:
    with filled() as session:
        found = session.execute(statement.execution_options(shard_merge="concat")).all()
        apart: list[Any] = []
        for shard in NAMES:
            with pinned_to(shard):
                apart += session.execute(statement).all()
        assert found == apart


JOINS = [
    select(L.id, OTHER.id).where(L.people == OTHER.people),
    select(L.id).where(L.people > select(func.avg(OTHER.people)).scalar_subquery()),
    select(L.id).where(L.people.not_in(select(OTHER.people))),
    select(L.id, OTHER.id).where(L.continent == "Asia", OTHER.continent == "Europe"),
    select(L.id, OTHER.id).where(L.continent == "Asia", L.people == OTHER.people),
    select(U.id).where(exists().where(R.unit_id == U.id)),
    select(U.id, R.id).outerjoin(R, R.unit_id == U.id),
]


@pytest.mark.parametrize("statement", JOINS, ids=str)
def test_joins_of_rows_that_may_be_apart_are_refused(filled: Maker, log: Traffic, statement: Select[Any]) -> None:
    with filled() as session, pytest.raises(CrossShardJoinError):
        session.execute(statement)
    assert log == []


def test_two_aliases_on_one_shard_are_joined(filled: Maker, whole: Session, log: Traffic) -> None:
    statement = (
        select(L.id, OTHER.id)
        .where(L.continent == "Asia", OTHER.continent == "Asia", L.people == OTHER.people)
        .order_by(L.id, OTHER.id)
    )
    with filled() as session:
        assert session.execute(statement).all() == whole.execute(statement).all()
    assert log.shards == ["asia"]


@pytest.mark.parametrize("load", [selectinload, subqueryload, joinedload])
def test_eager_loads_stay_on_the_shard_of_the_object(filled: Maker, whole: Session, load: Any) -> None:
    statement = select(L).options(load(L.reports).joinedload(R.unit)).order_by(L.city, L.id).limit(9)
    with filled() as session:
        found = [(each.id, [report.id for report in each.reports]) for each in session.scalars(statement).unique()]
        expected = [(each.id, [report.id for report in each.reports]) for each in whole.scalars(statement).unique()]
        assert found == expected


def test_a_lazy_load_asks_the_shard_of_its_object(filled: Maker, log: Traffic) -> None:
    with filled() as session:
        location = session.scalars(select(L).where(L.continent == "Europe", L.reports.any())).first()
        assert location is not None
        log.clear()
        reports = location.reports
        assert reports
        assert reports[0].location is location
        session.expire(reports[0])
        assert reports[0].location_id == location.id
        assert set(log.shards) == {"europe"}


def test_legacy_queries_work(filled: Maker, whole: Session) -> None:
    with filled() as session:
        assert session.query(L).count() == whole.query(L).count()
        found = session.query(L).order_by(L.city, L.id).limit(5).all()
        assert [each.id for each in found] == [each.id for each in whole.query(L).order_by(L.city, L.id).limit(5)]
        assert session.query(L.id).order_by(L.id).all() == whole.query(L.id).order_by(L.id).all()
        assert session.query(L).filter(L.continent == "Atlantis").all() == []


def test_get_finds_a_row_on_any_shard(filled: Maker, log: Traffic) -> None:
    with filled() as session:
        location = session.get_one(L, 5)
        assert location.id == 5
        log.clear()
        assert session.get(L, 5) is location
        assert session.get(L, 5, identity_token=CONTINENTS[location.continent]) is location
        assert log == []
        assert session.get(L, 999) is None
        assert len(log) == 3


def test_get_of_a_key_on_two_shards_names_both(maker: Maker) -> None:
    with maker() as session:
        session.add(L(id=1, continent="Asia", city="x"))
        session.commit()
        session.add(L(id=1, continent="Europe", city="y"))
        session.commit()
    with maker() as session:
        with pytest.raises(AmbiguousIdentityError) as error:
            session.get(L, 1)
        assert error.value.shards == ("asia", "europe")
        assert session.get_one(L, 1, identity_token="europe").city == "y"
        with pinned_to("asia"):
            assert session.get_one(L, 1).city == "x"


def test_a_named_shard_comes_first(filled: Maker, log: Traffic) -> None:
    statement = select(L).where(L.continent == "Asia")
    with filled() as session:
        assert session.scalars(statement.options(set_shard_id("europe"))).all() == []
        assert session.scalars(statement, bind_arguments={"shard_id": "america"}).all() == []
        assert session.scalars(statement, execution_options={"identity_token": "europe"}).all() == []
        with pinned_to("america"):
            assert session.scalars(statement).all() == []
        assert log.shards == ["europe", "america", "europe", "america"]


def test_connections_and_texts_need_a_name(filled: Maker) -> None:
    with filled() as session:
        with pytest.raises(ShardNotNamedError, match="pinned_to"):
            session.execute(text("SELECT 1"))
        with pytest.raises(ShardNotNamedError, match="pinned_to"):
            session.connection()
        with pytest.raises(ShardNotNamedError, match="pinned_to"):
            session.scalars(select(L).from_statement(text("SELECT 1"))).all()
        with pinned_to("asia"):
            assert session.scalar(text("SELECT 1")) == 1
            assert session.connection().get_execution_options()["sqla_patterns_shard"] == "asia"
        assert session.scalar(text("SELECT 1"), bind_arguments={"shard_id": "europe"}) == 1


def test_scatter_is_warned_of_or_forbidden(shards: Shards) -> None:
    with sharded_sessionmaker(shards, keys=rules(), scatter="warn")() as session:
        with pytest.warns(ScatterWarning, match="america, asia, europe"):
            session.scalars(select(L)).all()
        session.scalars(select(L).where(L.continent == "Asia")).all()
    with sharded_sessionmaker(shards, keys=rules(), scatter="forbid")() as session:
        with pytest.raises(ScatterForbiddenError, match="shard key"):
            session.scalars(select(L)).all()
        session.scalars(select(L).where(L.continent == "Asia")).all()


def test_batches_are_merged_as_they_come(filled: Maker, whole: Session) -> None:
    statement = select(L).order_by(L.id).execution_options(yield_per=4)
    with filled() as session:
        found = [[each.id for each in batch] for batch in session.scalars(statement).partitions()]
        assert found == [[each.id for each in batch] for batch in whole.scalars(statement).partitions()]


@pytest.mark.parametrize(
    ("collation", "binary"),
    [
        pytest.param("NOCASE", "BINARY", marks=pytest.mark.only_on("sqlite")),
        pytest.param("en-x-icu", "C", marks=pytest.mark.only_on("postgresql")),
    ],
)
def test_strings_are_merged_only_in_an_order_that_python_knows(
    filled: Maker, whole: Session, collation: str, binary: str
) -> None:
    with filled() as session:
        for statement in (
            select(L.id).order_by(L.city.collate(collation), L.id),
            select(func.max(L.city.collate(collation))),
        ):
            with pytest.raises(UnmergeableScatterError, match="collation"):
                session.execute(statement)
        known = select(L.id).order_by(L.city.collate(binary), L.id)
        assert session.execute(known).all() == whole.execute(known).all()


@pytest.mark.filterwarnings("ignore:Column-expression-level")
def test_a_distinct_column_is_refused(filled: Maker) -> None:
    with filled() as session, pytest.raises(UnmergeableScatterError, match="DISTINCT"):
        session.execute(select(distinct(L.city)))
