"""What type checkers read of `sqla_patterns.sharding`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type
from uuid import UUID

from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from sqla_patterns.sharding import (
    CallableRouter,
    FollowsParent,
    HashRouter,
    LookupRouter,
    ModuloRouter,
    RangeRouter,
    RoutingPlan,
    ShardId,
    ShardKey,
    ShardRouter,
    Shards,
    SnowflakeId,
    async_sharded_sessionmaker,
    explain,
    move,
    sharded_sessionmaker,
    uuid7,
)


class Base(DeclarativeBase):
    pass


class Location(Base):
    __tablename__ = "location"
    id: Mapped[int] = mapped_column(primary_key=True, default=ShardId(["a"]))
    continent: Mapped[str]


class Report(Base):
    __tablename__ = "report"
    id: Mapped[int] = mapped_column(primary_key=True, default=SnowflakeId(node=1))
    location_id: Mapped[int]
    location: Mapped[Location] = relationship()


class Own:
    """A router of the user's."""

    shard_ids = ("a", "b")

    def shard_for(self, key: str, /) -> str:
        return key[0]


shards = Shards.from_engines({"a": create_engine("sqlite://")})
by_name = ShardKey(Location.continent, LookupRouter({"Asia": "a"}))
assert_type(by_name, ShardKey[str])
assert_type(ShardKey(Location.id, ModuloRouter(["a"])), ShardKey[int])
assert_type(ShardKey(Location.continent, HashRouter(["a"])), ShardKey[str])
assert_type(ShardKey(Location.continent, Own()), ShardKey[str])
assert_type(ShardKey(Location.id, RangeRouter([(None, 5, "a"), (5, None, "b")])), ShardKey[int])
by_function: ShardRouter[str] = CallableRouter(lambda key: key[0], ["a"])

Session = sharded_sessionmaker(shards, keys=[by_name, FollowsParent(Report.location)], scatter="warn")
assert_type(Session, sessionmaker[ShardedSession])
assert_type(async_sharded_sessionmaker(shards, keys=[by_name]), async_sessionmaker[AsyncSession])
with Session() as session:
    assert_type(explain(session, select(Location)), RoutingPlan)
    assert_type(explain(session, select(Location)).shards, frozenset[str])
    assert_type(session.scalars(select(Location)).all(), Sequence[Location])
    assert_type(move(session, Location(), continent="Europe"), str)
assert_type(uuid7(), UUID)
