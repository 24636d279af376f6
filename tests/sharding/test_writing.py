"""What is written goes to one shard, and what would leave its shard is refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import sessionmaker

from sqla_patterns.sharding import (
    CrossShardRelationshipError,
    ShardingError,
    ShardKeyChangedError,
    ShardNotNamedError,
    Shards,
    UnroutableKeyError,
    move,
    pinned_to,
    sharded_sessionmaker,
)
from tests.sharding._models import CONTINENTS, Location, Report, Traffic, Unit, location_rows, report_rows, rules

Maker = sessionmaker[ShardedSession]
L, R, U = Location, Report, Unit


def where(maker: Maker, cls: type[Any]) -> dict[str, list[int]]:
    """Return the primary keys on each shard."""
    found: dict[str, list[int]] = {}
    with maker() as session:
        for shard in ("asia", "europe", "america"):
            with pinned_to(shard):
                found[shard] = list(session.scalars(select(cls.id).order_by(cls.id)))
    return found


def test_new_objects_go_to_the_shard_of_their_key_and_children_follow(maker: Maker) -> None:
    with maker() as session:
        tokyo = L(id=1, continent="Asia", city="Tokyo", reports=[R(id=10), R(id=11)])
        session.add_all([tokyo, L(id=2, continent="South America", city="Lima", reports=[R(id=12)])])
        session.commit()
        assert inspect(tokyo).identity_token == "asia"
    assert where(maker, L) == {"asia": [1], "europe": [], "america": [2]}
    assert where(maker, R) == {"asia": [10, 11], "europe": [], "america": [12]}


def test_a_child_with_only_a_foreign_key_finds_its_parent(maker: Maker, log: Traffic) -> None:
    with maker() as session:
        session.add_all([L(id=1, continent="Asia", city="a"), L(id=2, continent="Europe", city="b")])
        session.commit()
    with maker() as session:
        log.clear()
        session.add_all([R(id=number, location_id=1 + number % 2) for number in range(20)])
        session.commit()
        assert len(log.of("SELECT")) == 3
    assert where(maker, R)["europe"] == list(range(1, 20, 2))
    with maker() as session:
        session.add(R(id=99, location_id=77))
        with pytest.raises(UnroutableKeyError, match="no such parent"):
            session.flush()


@pytest.mark.parametrize(
    ("make", "text_"),
    [
        (lambda: L(id=1, continent="Atlantis", city="x"), "Location.continent = 'Atlantis'"),
        (lambda: L(id=1, city="x"), "Location.continent = None"),
        (lambda: L(id=1, continent=5, city="x"), "values of the type str"),
        (lambda: R(id=1), "Report.location = None"),
    ],
    ids=["unknown", "missing", "type", "orphan"],
)
def test_a_row_without_a_route_is_refused_before_any_sql(maker: Maker, log: Traffic, make: Any, text_: str) -> None:
    with maker() as session:
        session.add(make())
        with pytest.raises(UnroutableKeyError, match=text_) as error:
            session.flush()
        assert error.value.key in ("Location.continent", "Report.location")
        assert log == []
        session.rollback()
        session.add(L(id=1, continent="Asia", city="x"))
        session.commit()


def test_a_class_without_a_rule_needs_a_pin(shards: Shards) -> None:
    maker = sharded_sessionmaker(shards, keys=rules())
    with maker() as session:
        session.add(U(id=1, name="x"))
        with pytest.raises(ShardNotNamedError, match="Unit has no rule"):
            session.flush()
        session.rollback()
        with pinned_to("europe"):
            session.add(U(id=1, name="x"))
            session.commit()
    assert where(maker, U) == {"asia": [], "europe": [1], "america": []}


def test_a_row_of_another_shard_is_refused_under_a_pin(maker: Maker) -> None:
    with maker() as session, pinned_to("europe"):
        session.add(L(id=1, continent="Asia", city="x"))
        with pytest.raises(ShardingError, match="pinned to"):
            session.flush()


def test_an_insert_under_a_pin_goes_there_or_is_refused(maker: Maker) -> None:
    with maker() as session, pinned_to("europe"):
        session.execute(insert(L), [{"id": 1, "continent": "Europe", "city": "x"}])
        for rows in ([{"id": 2, "continent": "Asia", "city": "x"}], [{"id": n, "continent": "Asia"} for n in (3, 4)]):
            with pytest.raises(ShardingError, match="pinned to"):
                session.execute(insert(L), rows)
        session.execute(insert(L), {"id": 5, "continent": "Asia", "city": "x"}, bind_arguments={"shard_id": "asia"})
        session.commit()
    assert where(maker, L) == {"asia": [5], "europe": [1], "america": []}


@pytest.mark.parametrize("expire", [False, True])
def test_a_key_of_another_shard_is_refused_and_one_of_the_same_is_not(maker: Maker, expire: bool) -> None:
    with maker() as session:
        location = L(id=1, continent="North America", city="x")
        session.add(location)
        session.commit()
        location.continent = "South America"
        session.commit()
        if not expire:
            assert location.city == "x"
        location.continent = "Asia"
        with pytest.raises(ShardKeyChangedError, match="move"):
            session.flush()
        session.rollback()
        assert location.continent == "South America"


def test_a_key_that_is_set_while_the_row_is_written_is_refused(maker: Maker) -> None:
    from sqlalchemy import event

    def late(mapper: object, connection: object, location: Location) -> None:
        location.continent = "Europe"

    event.listen(L, "before_insert", late)
    try:
        with maker() as session:
            session.add(L(id=1, continent="Asia", city="x"))
            with pytest.raises(ShardKeyChangedError, match="while it was written"):
                session.commit()
    finally:
        event.remove(L, "before_insert", late)
    assert where(maker, L) == {"asia": [], "europe": [], "america": []}


def test_references_across_shards_are_refused(maker: Maker) -> None:
    with maker() as session:
        asia, europe = L(id=1, continent="Asia", city="x"), L(id=2, continent="Europe", city="y")
        report = R(id=1, location=asia)
        session.add_all([asia, europe, report])
        session.commit()
        for change in (
            lambda: setattr(report, "location", europe),
            lambda: europe.reports.append(report),
            lambda: setattr(report, "location_id", 2),
        ):
            change()
            with pytest.raises(CrossShardRelationshipError, match="europe"):
                session.flush()
            session.rollback()


def test_rolled_back_objects_may_go_elsewhere(maker: Maker) -> None:
    with maker() as session:
        location = L(id=1, continent="Asia", city="x")
        session.add(location)
        session.flush()
        session.rollback()
        location.continent = "Europe"
        session.add(location)
        session.commit()
    assert where(maker, L) == {"asia": [], "europe": [1], "america": []}


# -- statements --------------------------------------------------------------------------------------------------------


def test_a_bulk_insert_is_one_statement_a_shard_and_set_of_columns(maker: Maker, log: Traffic) -> None:
    rows = location_rows(count=3000)
    for row in rows:
        del row["area"], row["height"], row["founded"], row["kind"]
    with maker.begin() as session:
        returned = session.execute(insert(L).returning(L.id, L.city), rows).all()
        assert returned == [(row["id"], row["city"]) for row in rows]
        assert session.scalar(select(func.count()).select_from(L)) == 3000
    found = where(maker, L)
    for shard, ids in found.items():
        assert ids == [row["id"] for row in rows if CONTINENTS[row["continent"]] == shard]
    sets = {(statement.split("(", 1)[1].split(")")[0], shard) for shard, statement in log if "INSERT" in statement}
    assert len(sets) == 6  # with people, and without; SQLAlchemy splits each into batches


def test_a_bulk_insert_returns_objects_of_their_shards(maker: Maker) -> None:
    with maker() as session:
        found = session.scalars(insert(L).returning(L), location_rows(count=10)).all()
        assert [each.id for each in found] == list(range(1, 11))
        assert all(inspect(each).identity_token == CONTINENTS[each.continent] for each in found)
        found[0].city = "changed"
        session.commit()
        assert session.get_one(L, 1).city == "changed"


def test_rows_in_values_are_divided_too(maker: Maker) -> None:
    rows = [{"id": row["id"], "continent": row["continent"], "city": row["city"]} for row in location_rows(count=12)]
    with maker() as session:
        session.execute(insert(L).values(rows))
        session.execute(insert(L).values(id=50, continent="Asia", city="one"))
        session.execute(insert(L), {"id": 51, "continent": "Europe", "city": "two"})
        session.execute(
            insert(L.__table__).values(continent="Asia"), [{"id": 52, "city": "x"}, {"id": 53, "city": "y"}]
        )
        session.commit()
    assert where(maker, L)["asia"][-3:] == [50, 52, 53]
    assert sum(map(len, where(maker, L).values())) == 16


def test_children_in_bulk_follow_their_parents(filled: Maker, log: Traffic) -> None:
    rows = report_rows(location_rows(), seed=9, count=100)
    for row in rows:
        row["id"] += 1000
    log.clear()
    with filled.begin() as session:
        session.execute(insert(R), rows)
        assert len(log.of("SELECT")) == 3
        orphans = select(R.id).where(~R.location.has())
        assert session.scalars(orphans).all() == []


@pytest.mark.parametrize(
    "statement",
    [
        insert(L).values(id=1, continent="Atlantis", city="x"),
        insert(L).values(id=1, city="x"),
        insert(L).values(id=1, continent=func.upper("asia"), city="x"),
        insert(R).values(id=1, location_id=7),
    ],
    ids=str,
)
def test_an_insert_without_a_route_is_refused(maker: Maker, log: Traffic, statement: Any) -> None:
    with maker() as session:
        with pytest.raises(UnroutableKeyError):
            session.execute(statement)
        assert log.of("INSERT") == []


def test_a_list_with_one_row_without_a_route_inserts_nothing(maker: Maker, log: Traffic) -> None:
    with maker() as session, pytest.raises(UnroutableKeyError):
        session.execute(
            insert(L), [{"id": 1, "continent": "Asia", "city": "x"}, {"id": 2, "continent": "", "city": ""}]
        )
    assert log == []


def test_an_insert_from_a_select_names_its_shard(filled: Maker) -> None:
    rows = select(L.id + 1000, L.continent, L.city).where(L.continent == "Asia")
    statement = insert(L).from_select(["id", "continent", "city"], rows)
    with filled() as session:
        with pytest.raises(ShardNotNamedError, match="SELECT"):
            session.execute(statement)
        session.execute(statement, bind_arguments={"shard_id": "asia"})
        assert session.scalar(select(func.count()).where(L.id > 1000)) == len(where(filled, L)["asia"])


def test_update_and_delete_go_where_their_conditions_lead(filled: Maker, log: Traffic) -> None:
    before = where(filled, L)
    with filled() as session:
        log.clear()
        found = session.execute(update(L).where(L.continent == "Asia").values(city="x"))
        assert found.rowcount == len(before["asia"])  # type: ignore[attr-defined]
        assert log.shards == ["asia"]
        found = session.execute(update(L).where(L.city == "x").values(people=1))
        assert found.rowcount == len(before["asia"])  # type: ignore[attr-defined]
        assert session.execute(delete(R)).rowcount == 60  # type: ignore[attr-defined]
        assert session.execute(delete(L).where(L.continent == "Atlantis")).rowcount == 0  # type: ignore[attr-defined]
        returned = session.scalars(delete(L).where(L.continent.in_(["Asia", "Europe"])).returning(L.id)).all()
        assert sorted(returned) == sorted(before["asia"] + before["europe"])
        session.commit()
    assert where(filled, L) == {"asia": [], "europe": [], "america": before["america"]}


def test_objects_in_the_session_follow_an_update_of_several_shards(filled: Maker) -> None:
    with filled() as session:
        objects = session.scalars(select(L)).all()
        session.execute(update(L).where(L.people > 0).values(people=99))
        session.execute(delete(R), execution_options={"synchronize_session": "fetch"})
        assert {each.people for each in objects if each.people is not None and each.people > 0} == {99}


def test_an_update_of_a_list_goes_to_the_shards_of_its_rows(filled: Maker) -> None:
    with filled() as session:
        session.execute(update(L), [{"id": number, "city": f"new {number}"} for number in range(1, 41)])
        assert session.scalars(select(L.city).order_by(L.id)).all() == [f"new {number}" for number in range(1, 41)]
        with pytest.raises(UnroutableKeyError, match="no such row"):
            session.execute(update(L), [{"id": 999, "city": ""}])


@pytest.mark.parametrize(
    "statement",
    [
        update(L).values(continent="Asia"),
        update(L).where(L.continent == "Europe").values(continent=L.continent + "x"),
        update(R).values(location_id=5),
    ],
    ids=str,
)
def test_an_update_of_the_key_is_refused(filled: Maker, log: Traffic, statement: Any) -> None:
    with filled() as session:
        log.clear()
        with pytest.raises(ShardKeyChangedError):
            session.execute(statement)
        assert log == []


# -- reference tables --------------------------------------------------------------------------------------------------


def test_reference_rows_are_on_each_shard(filled: Maker, log: Traffic) -> None:
    everywhere = {"asia": [1, 2], "europe": [1, 2], "america": [1, 2]}
    assert where(filled, U) == everywhere
    with filled() as session:
        session.add(U(id=3, name="rankine"))
        session.commit()
        unit = session.get_one(U, 1)
        unit.name = "Celsius"
        report = session.scalars(select(R).where(R.unit_id == 1)).first()
        assert report is not None
        session.flush()
        assert report.unit is unit
        session.execute(update(U).where(U.id == 2).values(name="Kelvin"))
        session.delete(session.get_one(U, 3))
        session.commit()
        for shard in everywhere:
            with pinned_to(shard):
                assert session.scalars(select(U.name).order_by(U.id)).all() == ["Celsius", "Kelvin"]
        log.clear()
        assert session.scalar(select(func.count()).select_from(U)) == 2
        assert len(log) == 1


# -- moves -------------------------------------------------------------------------------------------------------------


def test_an_object_moves_with_all_that_it_holds(filled: Maker) -> None:
    with filled() as session:
        location = session.scalars(select(L).where(L.continent == "Asia", ~L.reports.any())).first()
        assert location is not None
        values = {column.key: getattr(location, column.key) for column in inspect(L).column_attrs}
        assert move(session, location, continent="Europe") == "europe"
        assert location in session
        assert session.get(L, location.id) is location
        assert {key: getattr(location, key) for key in values} == {**values, "continent": "Europe"}
        location.city = "moved"
        session.commit()
        assert location.id in where(filled, L)["europe"]
        assert location.id not in where(filled, L)["asia"]


def test_followers_move_along_when_asked(filled: Maker) -> None:
    with filled() as session:
        location = session.scalars(select(L).where(L.continent == "Asia", L.reports.any())).first()
        assert location is not None
        reports = list(location.reports)
        with pytest.raises(CrossShardRelationshipError, match="Report"):
            move(session, location, continent="Europe")
        move(session, location, continent="Europe", with_children=True)
        assert location.reports == reports
        session.commit()
        assert {inspect(each).identity_token for each in reports} == {"europe"}
        assert {each.id for each in reports} <= set(where(filled, R)["europe"])


@pytest.mark.parametrize("savepoint", [False, True])
def test_a_move_that_is_rolled_back_has_not_happened(filled: Maker, savepoint: bool) -> None:
    before = where(filled, L)
    with filled() as session:
        location = session.scalars(select(L).where(L.continent == "Asia", ~L.reports.any())).first()
        assert location is not None
        if savepoint and session.connection(bind_arguments={"shard_id": "europe"}).dialect.name == "sqlite":
            session.rollback()  # without a write, sqlite3 begins no transaction that a savepoint is in
            session.execute(update(L).values(people=0))
        nested = session.begin_nested() if savepoint else None
        move(session, location, continent="Europe")
        (nested or session).rollback()
        assert inspect(location).identity_token == "asia"
        assert location.continent == "Asia"
        location.city = "still here"
        session.commit()
    assert where(filled, L) == before


def test_a_savepoint_heals_what_failed_in_it(maker: Maker) -> None:
    with maker() as session:
        session.add_all([L(id=1, continent="Asia", city="x"), L(id=2, continent="Europe", city="x")])
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(insert(L).values(id=1, continent="Asia", city="x"))
        session.commit()
    assert where(maker, L) == {"asia": [1], "europe": [2], "america": []}


def test_text_under_a_pin_writes_there(maker: Maker) -> None:
    with maker() as session, pinned_to("europe"):
        assert session.execute(text("SELECT 1")).scalar_one() == 1
