"""Ids that processes make without asking each other."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Any

import pytest
from sqlalchemy import BigInteger, ForeignKey, String, create_engine, event, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.sharding import (
    BlockSequence,
    ClockMovedBackError,
    FollowsParent,
    LookupRouter,
    ShardId,
    ShardKey,
    Shards,
    SnowflakeId,
    create_all,
    sharded_sessionmaker,
    uuid7,
)
from tests._support import Database
from tests.sharding._models import CONTINENTS, NAMES, Traffic

EPOCH = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


class Base(DeclarativeBase):
    pass


class Town(Base):
    __tablename__ = "shard_town"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, default=ShardId(NAMES))
    continent: Mapped[str] = mapped_column(String(30))


class House(Base):
    __tablename__ = "shard_house"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, default=ShardId(NAMES))
    town_id: Mapped[int] = mapped_column(ForeignKey("shard_town.id"))
    town: Mapped[Town] = relationship()


def test_snowflakes_go_up_and_have_their_node() -> None:
    made = SnowflakeId(node=5, epoch=EPOCH)
    ids = [made() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    assert {each >> 12 & 1023 for each in ids} == {5}
    now = (dt.datetime.now(dt.UTC) - EPOCH).total_seconds() * 1000
    assert abs((ids[-1] >> 22) - now) < 1000


def test_threads_never_get_one_id_twice() -> None:
    made = SnowflakeId(node=1)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.extend([made() for _ in range(3000)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 24_000


@pytest.mark.parametrize("made", [SnowflakeId(node=1), ShardId(["a"])])
def test_a_clock_that_goes_back_far_is_refused_and_a_little_is_waited_for(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = made.make if isinstance(made, ShardId) else made
    arguments = ("a",) if isinstance(made, ShardId) else ()
    real, shift = time.time_ns, 0
    monkeypatch.setattr(time, "time_ns", lambda: real() + shift)
    first = make(*arguments)
    shift = -5_000_000
    assert make(*arguments) > first
    shift = -60_000_000
    with pytest.raises(ClockMovedBackError, match="ms behind"):
        make(*arguments)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SnowflakeId(node=1024),
        lambda: SnowflakeId(node=-1),
        lambda: SnowflakeId(node=1, epoch=dt.datetime(2024, 1, 1)),  # noqa: DTZ001
        lambda: SnowflakeId(node=1, epoch=dt.datetime(2999, 1, 1, tzinfo=dt.UTC)),
        lambda: ShardId([]),
        lambda: ShardId("abc"),
        lambda: ShardId(["a", "a"]),
        lambda: ShardId(["a"], offset=2, parts=2),
        lambda: BlockSequence(create_engine("sqlite://"), "x", block=0),
    ],
)
def test_generators_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        make()


def test_uuids_are_of_version_7_and_in_the_order_of_time() -> None:
    first = uuid7()
    time.sleep(0.003)
    second = uuid7()
    assert first < second
    assert (first.version, first.variant) == (7, "specified in RFC 4122")
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_an_id_with_its_shard_takes_one_shard_to_find(make_shards: Any, log: Traffic) -> None:
    shards: Shards = make_shards()
    create_all(shards, Base.metadata)
    maker = sharded_sessionmaker(
        shards, keys=[ShardKey(Town.continent, LookupRouter(CONTINENTS)), FollowsParent(House.town)]
    )
    with maker() as session:
        towns = [Town(continent=continent) for continent in CONTINENTS for _ in range(5)]
        session.add_all(towns)
        session.commit()
        ids = {town.id: CONTINENTS[town.continent] for town in towns}
    with maker() as session:
        for key, shard in ids.items():
            log.clear()
            assert CONTINENTS[session.get_one(Town, key).continent] == shard
            assert log.shards == [shard]
        log.clear()
        session.add_all([House(town_id=key) for key in ids])
        session.commit()
        assert log.of("SELECT") == []
        log.clear()
        key = next(iter(ids))
        assert len(session.scalars(select(House).where(House.town_id == key)).all()) == 1
        assert log.shards == [ids[key]]
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with pytest.raises(StatementError, match="ShardId knows no shard"), engine.begin() as connection:
        connection.execute(Town.__table__.insert().values(continent="Asia"))
    engine.dispose()


def test_parts_of_the_numbers_keep_processes_apart() -> None:
    made = [ShardId(["a", "b"], offset=part, parts=4) for part in range(4)]
    ids = [each.make(shard) for _ in range(500) for each in made for shard in ("a", "b")]
    assert len(set(ids)) == 4000
    assert {made[0].shard_of(each) for each in ids} == {"a", "b"}
    assert made[0].shard_of(5 << 10) is None


def test_a_block_takes_one_transaction(database: Database) -> None:
    engine = database.create_engine()
    numbers = BlockSequence(engine, "towns", block=50)
    numbers.create()
    numbers.create()
    commits: list[object] = []
    event.listen(engine, "commit", commits.append)
    other = BlockSequence(engine, "towns", block=50)
    found = [each() for _ in range(100) for each in (numbers, other)]
    assert sorted(found) == list(range(1, 201))
    assert len(commits) == 4
    with pytest.raises(InvalidArgumentError, match="create"):
        BlockSequence(engine, "houses")()
