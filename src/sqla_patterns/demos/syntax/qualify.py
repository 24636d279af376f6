"""QUALIFY on databases that have none: SQLAlchemy's syntax_extensions/qualify."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Float, ForeignKey, String, func, select
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, relationship, selectinload

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.syntax import qualified


class Base(DeclarativeBase):
    pass


class Location(Base):
    __tablename__ = "demo_qualify_location"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Reading(Base):
    __tablename__ = "demo_qualify_reading"

    id: Mapped[int] = mapped_column(primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("demo_qualify_location.id"))
    celsius: Mapped[float] = mapped_column(Float)
    location: Mapped[Location] = relationship()


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        for name, values in (("attic", [21.5, 30.0, 24.5]), ("cellar", [12.0, 11.5, 14.0, 13.5])):
            location = Location(name=name)
            for value in values:
                session.add(Reading(location=location, celsius=value))
                session.flush()
        session.commit()

        # The warmest reading of each location. On SQLAlchemy 2.1 also: select(Reading).ext(qualify(warmest)).
        by_location = Reading.location_id
        warmest = func.row_number().over(partition_by=by_location, order_by=Reading.celsius.desc()) == 1
        statement = qualified(select(Reading).options(selectinload(Reading.location)).order_by(by_location), warmest)
        found = [(reading.location.name, reading.celsius) for reading in session.scalars(statement)]
        options.say("the warmest:", found)
        assert found == [("attic", 30.0), ("cellar", 14.0)]

        options.say(f"\non {engine.dialect.name}:\n{statement.compile(engine)}")
        other_database = DefaultDialect()
        other_database.name = "snowflake"
        options.say(f"\non Snowflake, from SQLAlchemy 2.1:\n{statement.compile(dialect=other_database)}")

        # Conditions of one call all hold; a second call filters what the first one has left.
        above = Reading.celsius > func.avg(Reading.celsius).over(partition_by=by_location)
        both = qualified(select(Reading.celsius).order_by(Reading.id), warmest, above)
        assert session.scalars(both).all() == [30.0, 14.0]
        coldest = func.row_number().over(partition_by=by_location, order_by=Reading.celsius) == 1
        twice = qualified(qualified(select(Reading.celsius).order_by(Reading.id), above), coldest)
        options.say("\nthe coldest of those above the average:", session.scalars(twice).all())
        assert session.scalars(twice).all() == [30.0, 13.5]

        # Aliases and subqueries work as they do without.
        other = aliased(Reading)
        last = func.row_number().over(partition_by=other.location_id, order_by=other.id.desc()) == 1
        assert [each.celsius for each in session.scalars(qualified(select(other).order_by(other.id), last))] == [
            24.5,
            13.5,
        ]
        subquery = qualified(select(Reading.id), warmest).subquery()
        assert session.scalar(select(func.count()).select_from(subquery)) == 2
    return 0
