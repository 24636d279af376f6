"""Routers and rules: which shard, for which value, and what is refused when a factory is built."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Date, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from sqla_patterns.sharding import (
    CallableRouter,
    Choosers,
    ConsistentHashRouter,
    FollowsParent,
    HashRouter,
    LookupRouter,
    ModuloRouter,
    RangeRouter,
    ShardKey,
    Shards,
    TenantRouter,
    UnroutableKeyError,
    create_all,
    explain,
    sharded_sessionmaker,
)
from tests.sharding._models import NAMES, Location, Report, Unit

ABC = ["a", "b", "c"]


def test_a_hash_is_the_same_in_each_process_and_even() -> None:
    router = HashRouter(ABC)
    here = [router.shard_for(key) for key in ("x", 5, Decimal(7))]
    code = (
        "from decimal import Decimal; from sqla_patterns.sharding import HashRouter; r = HashRouter(['a', 'b', 'c'])\n"
    )
    code += "print([r.shard_for(key) for key in ('x', 5, Decimal('7'))])"
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip() == str(here)
    counts = Counter(router.shard_for(number) for number in range(3000))
    assert all(900 < count < 1100 for count in counts.values())


@pytest.mark.parametrize("router", [HashRouter(ABC), ConsistentHashRouter(ABC)])
def test_values_that_a_database_takes_for_equal_have_one_shard(router: HashRouter | ConsistentHashRouter) -> None:
    for number in range(50):
        equal = [number, float(number), Decimal(number), Decimal(f"{number}.00")]
        assert len({router.shard_for(each) for each in equal}) == 1


def test_a_consistent_hash_moves_few_keys_for_one_more_shard() -> None:
    before, after = ConsistentHashRouter(ABC), ConsistentHashRouter([*ABC, "d"])
    moved = [key for key in range(4000) if before.shard_for(key) != after.shard_for(key)]
    assert 600 < len(moved) < 1400
    assert {after.shard_for(key) for key in moved} == {"d"}


def test_ranges_have_their_lower_bound() -> None:
    router = RangeRouter([(None, 10, "a"), (10, 20, "b"), (30, None, "c")])
    assert [router.shard_for(key) for key in (-5, 9, 10, 19, 30, 99)] == ["a", "a", "b", "b", "c", "c"]
    for outside in (20, 29):
        with pytest.raises(LookupError):
            router.shard_for(outside)
    assert router.shards_between(5, 10) == {"a", "b"}
    assert router.shards_between(20, 29) == set()
    assert router.shards_between(None, 9) == {"a"}
    assert router.shards_between(19, None) == {"b", "c"}


@pytest.mark.parametrize(
    "ranges", [[(None, 10, "a"), (5, None, "b")], [(10, None, "a"), (None, 10, "b")], [(10, 5, "a")], []]
)
def test_ranges_that_overlap_are_refused(ranges: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        RangeRouter(ranges)


def test_a_tenant_is_where_it_was_placed_and_others_are_distributed() -> None:
    router = TenantRouter({"big": "c"}, default=["a", "b"])
    assert router.shard_for("big") == "c"
    assert {router.shard_for(f"t{number}") for number in range(50)} == {"a", "b"}


def test_modulo_and_callable() -> None:
    assert [ModuloRouter(ABC).shard_for(key) for key in range(4)] == ["a", "b", "c", "a"]
    assert CallableRouter(lambda key: str(key)[0], ABC).shard_for("cat") == "c"


@pytest.mark.parametrize("make", [lambda: HashRouter([]), lambda: HashRouter(["a", "a"]), lambda: LookupRouter({1: 2})])  # type: ignore[dict-item]
def test_routers_without_shards_are_refused(make: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        make()


# -- factories ---------------------------------------------------------------------------------------------------------


def _shards() -> Shards:
    return Shards.from_engines({name: create_engine("sqlite://") for name in NAMES})


BY_CONTINENT = ShardKey(Location.continent, LookupRouter({"Asia": "asia"}))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keys": [ShardKey(Location.continent, LookupRouter({"Asia": "mars"}))]}, "mars"),
        ({"keys": [BY_CONTINENT, BY_CONTINENT]}, "second rule"),
        ({"keys": ["Location"]}, "ShardKey"),
        ({"keys": [BY_CONTINENT], "reference": [Location]}, "reference"),
        ({"scatter": "never"}, "scatter"),
        ({"merge": "never"}, "merge"),
    ],
)
def test_rules_that_name_what_is_not_there_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        sharded_sessionmaker(_shards(), **options)


def test_an_answer_outside_of_the_shards_of_a_router_is_refused() -> None:
    shards = _shards()
    router: CallableRouter[str] = CallableRouter(lambda key: "mars", NAMES)
    with sharded_sessionmaker(shards, keys=[ShardKey(Location.continent, router)])() as session:
        session.add(Location(id=1, continent="Asia", city="x"))
        with pytest.raises(InvalidArgumentError, match="mars"):
            session.flush()


def test_keys_are_columns_and_parents_are_relationships() -> None:
    with pytest.raises(InvalidArgumentError, match="mapped column"):
        ShardKey(Report.location, LookupRouter({1: "a"}))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="relationship"):
        FollowsParent(Report.location_id)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Shards.from_engines({}),
        lambda: Shards.from_engines({1: create_engine("sqlite://")}),  # type: ignore[dict-item]
        lambda: Shards.from_engines(dict.fromkeys(["a", "b"], create_engine("sqlite://"))),
        lambda: Shards.from_engines({"a": create_engine("sqlite://"), "b": create_engine("postgresql+psycopg://")}),
        lambda: Shards.from_table_prefix(create_engine("sqlite://"), {"a": "not a name"}),
    ],
)
def test_shards_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(PatternError):
        make()


def test_strings_that_a_server_compares_by_its_own_rules_are_no_keys() -> None:
    shards = Shards.from_engines({"asia": create_engine("mysql+pymysql://")})
    with pytest.raises(InvalidArgumentError, match="collation"):
        sharded_sessionmaker(shards, keys=[BY_CONTINENT])


def test_upstream_choosers_take_the_place_of_rules() -> None:
    shards = _shards()
    create_all(shards, Location.metadata)
    choosers = Choosers(
        shard_chooser=lambda mapper, instance, clause=None: "europe",
        identity_chooser=lambda mapper, key, **_: ["europe"],
        execute_chooser=lambda state: ["europe"],
    )
    with sharded_sessionmaker(shards, choosers=choosers)() as session:
        session.add(Unit(id=1, name="x"))
        session.commit()
        assert session.scalars(select(Unit.name)).all() == ["x"]
        assert session.get_one(Unit, 1, identity_token="europe").name == "x"
    for engine in shards.engines.values():
        engine.dispose()


# -- pruning by ranges -------------------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class Day(Base):
    __tablename__ = "shard_day"
    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[dt.date] = mapped_column(Date)
    name: Mapped[str | None] = mapped_column(String(5))


def test_ranges_of_a_key_leave_the_shards_of_their_ranges() -> None:
    y2k = dt.date(2000, 1, 1)
    router = RangeRouter[dt.date]([(None, y2k, "asia"), (y2k, None, "europe")])
    with sharded_sessionmaker(_shards(), keys=[ShardKey(Day.day, router)])() as session:

        def asked(*conditions: Any) -> set[str]:
            return set(explain(session, select(Day).where(*conditions)).shards)

        old, new = dt.date(1990, 5, 5), dt.date(2010, 5, 5)
        assert asked(Day.day < old) == {"asia"}
        assert asked(Day.day >= y2k) == {"europe"}
        assert asked(Day.day <= new) == {"asia", "europe"}
        assert asked(Day.day.between(old, dt.date(1995, 1, 1))) == {"asia"}
        assert asked(Day.day > old, Day.day < new) == {"asia", "europe"}
        assert asked(new < Day.day) == {"europe"}
        assert asked(Day.day == new) == {"europe"}
        assert asked(Day.day == "2010-05-05") == set(NAMES)  # the database may convert it
        assert asked(Day.day.is_(None)) == set(NAMES)
        with pytest.raises(UnroutableKeyError, match="date"):
            session.add(Day(id=1, day=dt.datetime(2000, 1, 1, 12, 0, tzinfo=dt.UTC)))
            session.flush()
