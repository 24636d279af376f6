"""Weather reports of four continents: what the demos of sharding have in common."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import BigInteger, ForeignKey, func, inspect, make_url, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.demos._support import DemoOptions
from sqla_patterns.sharding import FollowsParent, LookupRouter, ShardId, ShardKey, ShardRule, explain

SHARDS = ["north_america", "asia", "europe", "south_america"]


class Base(DeclarativeBase):
    pass


class Location(Base):
    __tablename__ = "demo_weather_location"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, default=ShardId(SHARDS))
    continent: Mapped[str]
    city: Mapped[str]
    reports: Mapped[list[Report]] = relationship(back_populates="location", order_by="Report.id")


class Report(Base):
    __tablename__ = "demo_weather_report"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, default=ShardId(SHARDS))
    location_id: Mapped[int] = mapped_column(ForeignKey("demo_weather_location.id"))
    temperature: Mapped[float]
    day: Mapped[dt.date] = mapped_column(default=dt.date(2024, 5, 1))
    location: Mapped[Location] = relationship(back_populates="reports")


CONTINENTS = {"North America": "north_america", "Asia": "asia", "Europe": "europe", "South America": "south_america"}
KEYS: list[ShardRule] = [ShardKey(Location.continent, LookupRouter(CONTINENTS)), FollowsParent(Report.location)]

WEATHER = [
    ("Asia", "Tokyo", 80.0),
    ("North America", "New York", 75.0),
    ("North America", "Toronto", 85.0),
    ("Europe", "London", 65.0),
    ("Europe", "Dublin", 60.0),
    ("South America", "Brasilia", 90.0),
    ("South America", "Quito", 70.0),
]


def write(session: Session, continents: Collection[str] = tuple(CONTINENTS)) -> None:
    """Add locations and reports; each goes to the shard of its continent."""
    for continent, city, temperature in WEATHER:
        if continent in continents:
            session.add(Location(continent=continent, city=city, reports=[Report(temperature=temperature)]))


def read(session: Session, options: DemoOptions) -> None:
    """Ask as one would ask one database."""
    asia = select(Location).where(Location.continent == "Asia")
    tokyo = session.scalars(asia).one()
    options.say(f"Tokyo is on {inspect(tokyo).identity_token}; asked: {sorted(explain(session, asia).shards)}")
    assert explain(session, asia).shards == {"asia"}
    both = select(Location.city).where(Location.continent.in_(["Europe", "Asia"])).order_by(Location.city)
    assert session.scalars(both).all() == ["Dublin", "London", "Tokyo"]
    warmest = select(Location.city).join(Location.reports).order_by(Report.temperature.desc()).limit(3).offset(1)
    options.say("after the warmest:", session.scalars(warmest).all())
    assert session.scalars(warmest).all() == ["Toronto", "Tokyo", "New York"]
    count, average = session.execute(select(func.count(), func.avg(Report.temperature))).one()
    options.say(f"{count} reports on four shards, {average} degrees on average")
    assert (count, average) == (7, 75.0)
    assert explain(session, select(Location).where(Location.id == tokyo.id)).shards == {"asia"}


@contextmanager
def urls(options: DemoOptions, driver: str | None = None) -> Generator[dict[str, str], None, None]:
    """Yield the URL of a SQLite file for each shard; the files go in the end.

    Databases of a server would have to be created first. The demo therefore uses SQLite, whatever ``--url`` says.
    """
    if make_url(options.url).get_backend_name() != "sqlite":
        options.say("this demo uses SQLite files, a database for each shard")
    with tempfile.TemporaryDirectory() as folder:
        backend = "sqlite" if driver is None else f"sqlite+{driver}"
        yield {name: f"{backend}:///{Path(folder) / name}.db" for name in SHARDS}
