"""What the checkers must refuse about sharding."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.sharding import LookupRouter, ModuloRouter, ShardKey, Shards, sharded_sessionmaker


class Base(DeclarativeBase):
    pass


class Location(Base):
    __tablename__ = "location"
    id: Mapped[int] = mapped_column(primary_key=True)
    continent: Mapped[str]


def refused(shards: Shards) -> None:
    ShardKey(Location.continent, ModuloRouter(["a"]))  # E: "ModuloRouter"
    ShardKey(Location.continent, LookupRouter({1: "a"}))  # E: "int"
    sharded_sessionmaker(shards, scatter="sometimes")  # E: sometimes
    sharded_sessionmaker(shards, keys=[Location])  # E: type[Location]
