"""Weather stations on three shards, and what the tests need to look at them."""

from __future__ import annotations

import datetime as dt
import enum
import random
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, ForeignKey, MetaData, Numeric, String, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqla_patterns.sharding import FollowsParent, LookupRouter, ShardKey, ShardRule

CONTINENTS = {"Asia": "asia", "Europe": "europe", "North America": "america", "South America": "america"}
NAMES = ["asia", "europe", "america"]


class Kind(enum.Enum):
    ZOO = "zoo"
    AIRPORT = "airport"
    MOUNTAIN = "mountain"


class Base(DeclarativeBase):
    metadata = MetaData()


class Unit(Base):
    __tablename__ = "shard_unit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(20))


class Location(Base):
    __tablename__ = "shard_location"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(30))
    city: Mapped[str] = mapped_column(String(30))
    people: Mapped[int | None]
    area: Mapped[Decimal | None] = mapped_column(Numeric(10, 2, asdecimal=True))
    height: Mapped[float | None]
    founded: Mapped[dt.date | None]
    kind: Mapped[Kind | None]
    reports: Mapped[list[Report]] = relationship(back_populates="location", order_by="Report.id")


class Report(Base):
    __tablename__ = "shard_report"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    location_id: Mapped[int] = mapped_column(ForeignKey("shard_location.id"))
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("shard_unit.id"))
    degrees: Mapped[float | None]
    location: Mapped[Location] = relationship(back_populates="reports")
    unit: Mapped[Unit | None] = relationship()


def rules() -> list[ShardRule]:
    return [ShardKey(Location.continent, LookupRouter(CONTINENTS)), FollowsParent(Report.location)]


def location_rows(seed: int = 1, count: int = 40) -> list[dict[str, Any]]:
    """Return rows with equal values and NULLs in each column but the keys."""
    rng = random.Random(seed)
    return [
        {
            "id": number,
            "continent": rng.choice(list(CONTINENTS)),
            "city": rng.choice(["Tokyo", "tokyo", "Ärhus", "Zürich", "Lima", "a", "B", "", "Zu"]),
            "people": rng.choice([None, 0, 1, -3, 7, 7, 2**31 - 1]),
            "area": rng.choice([None, Decimal("1.50"), Decimal("1.25"), Decimal("-3.10"), Decimal("10.00")]),
            "height": rng.choice([None, 0.5, -2.25, 8.0, 0.0]),
            "founded": rng.choice([None, dt.date(2000, 1, 31), dt.date(1999, 12, 31), dt.date(2024, 2, 29)]),
            "kind": rng.choice([None, *Kind]),
        }
        for number in range(1, count + 1)
    ]


def report_rows(locations: list[dict[str, Any]], seed: int = 2, count: int = 60) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "id": number,
            "location_id": rng.choice(locations)["id"],
            "unit_id": rng.choice([None, 1, 2]),
            "degrees": rng.choice([None, 0.5, 1.5, -4.0, 20.25]),
        }
        for number in range(1, count + 1)
    ]


UNITS = [{"id": 1, "name": "celsius"}, {"id": 2, "name": "kelvin"}]


class Traffic(list[tuple[str, str]]):
    """The statements that were executed, each with its shard."""

    @property
    def shards(self) -> list[str]:
        return [shard for shard, _ in self]

    def of(self, *words: str) -> list[str]:
        return [shard for shard, statement in self if statement.lstrip().upper().startswith(words)]


@contextmanager
def traffic() -> Generator[Traffic, None, None]:
    """Log what is executed on shards, by any engine."""
    log = Traffic()

    def record(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        shard = connection.get_execution_options().get("sqla_patterns_shard")
        if shard is not None and not statement.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
            log.append((shard, statement))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield log
    finally:
        event.remove(Engine, "before_cursor_execute", record)
