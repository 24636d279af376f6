"""Models and a cache to test with."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from dogpile.cache import make_region
from dogpile.cache.region import CacheRegion
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    TypeDecorator,
    Uuid,
    func,
    select,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    deferred,
    mapped_column,
    relationship,
    sessionmaker,
)

from sqla_patterns.caching import MemoryStamps, ORMCache
from tests._support import StatementLog, count_statements


class Base(DeclarativeBase):
    pass


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Secret:
    """A value whose ``repr()`` hides its content."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class SecretType(TypeDecorator[Secret]):
    impl = String(50)
    cache_ok = True

    def process_bind_param(self, value: Secret | None, dialect: Any) -> str | None:
        return None if value is None else value.text[::-1]

    def process_result_value(self, value: str | None, dialect: Any) -> Secret | None:
        return None if value is None else Secret(value[::-1])


person_tag = Table(
    "cache_person_tag",
    Base.metadata,
    Column("person_id", ForeignKey("cache_person.id"), primary_key=True),
    Column("tag_id", ForeignKey("cache_tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "cache_tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(String(30))


class City(Base):
    __tablename__ = "cache_city"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))


class Address(Base):
    __tablename__ = "cache_address"
    id: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str] = mapped_column(String(30))
    person_id: Mapped[int | None] = mapped_column(ForeignKey("cache_person.id"))
    city_id: Mapped[int | None] = mapped_column(ForeignKey("cache_city.id"))
    person: Mapped[Person | None] = relationship(back_populates="addresses")
    city: Mapped[City | None] = relationship()


class Person(Base):
    __tablename__ = "cache_person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    score: Mapped[int] = mapped_column("points", default=0)
    biography: Mapped[str] = deferred(mapped_column(String(50), default="long"))
    addresses: Mapped[set[Address]] = relationship(back_populates="person", order_by=Address.id)
    tags: Mapped[list[Tag]] = relationship(secondary=person_tag, order_by=Tag.id)


Person.address_count = column_property(  # type: ignore[attr-defined]
    select(func.count(Address.id)).where(Address.person_id == Person.id).correlate_except(Address).scalar_subquery()
)


class Thing(Base):
    """A row with a column of every type that drivers and types treat differently."""

    __tablename__ = "cache_thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    color: Mapped[Color]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    weight: Mapped[float]
    ok: Mapped[bool]
    day: Mapped[date]
    moment: Mapped[datetime] = mapped_column(DateTime().with_variant(DateTime(), "mysql"))
    zoned: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    token: Mapped[uuid.UUID] = mapped_column(Uuid())
    data: Mapped[bytes] = mapped_column(LargeBinary(100))
    document: Mapped[Any] = mapped_column(JSON)
    secret: Mapped[Secret] = mapped_column(SecretType)
    empty: Mapped[str | None] = mapped_column(String(10))
    span: Mapped[timedelta | None]


class Animal(Base):
    __tablename__ = "cache_animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(30))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "cache_dog"
    id: Mapped[int] = mapped_column(ForeignKey("cache_animal.id"), primary_key=True)
    tricks: Mapped[int] = mapped_column(Integer)
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Fish(Animal):
    salt: Mapped[bool | None]
    __mapper_args__ = {"polymorphic_identity": "fish"}


PEOPLE = 12


def fill(engine: Engine | Connection) -> None:
    """Create the tables and some rows."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        tags = [Tag(word=f"tag {i}") for i in range(3)]
        cities = [City(name=f"city {i}") for i in range(3)]
        session.add_all(tags + cities)
        for i in range(1, PEOPLE + 1):
            person = Person(id=i, name=f"person {i:02}", score=i % 4, tags=tags[: i % 3])
            person.addresses = {Address(street=f"street {i}.{j}", city=cities[(i + j) % 3]) for j in range(i % 3)}
            session.add(person)
        session.add_all(
            Thing(
                id=i,
                color=Color.RED if i % 2 else Color.BLUE,
                price=Decimal("12.50") * i,
                weight=i / 3,
                ok=bool(i % 2),
                day=date(2024, 2, 27 + i),
                moment=datetime(2024, 1, 1, 12, 0, i),  # noqa: DTZ001 - a column without time zone
                zoned=datetime(2024, 1, 1, 12, 0, i, tzinfo=UTC),
                token=uuid.UUID(int=i),
                data=bytes([0, i, 255]),
                document={"number": i, "list": [1, None, "é"]},
                secret=Secret(f"secret {i}"),
                span=timedelta(hours=i) if i % 2 else None,
            )
            for i in (1, 2)
        )
        session.add_all([Dog(name="rex", tricks=3), Fish(name="nemo", salt=True), Animal(name="thing")])
        session.commit()


BACKENDS = ("dogpile.cache.memory", "dogpile.cache.memory_pickle", "dogpile.cache.dbm")


def memory_region(**options: Any) -> CacheRegion:
    return make_region(**options).configure("dogpile.cache.memory")


def region_of(backend: str, folder: Path) -> CacheRegion:
    arguments = {"filename": str(folder / "cache.dbm")} if backend.endswith("dbm") else {}
    return make_region().configure(backend, arguments=arguments)


class World:
    """An engine with rows, a cache, and sessions with and without it."""

    def __init__(self, engine: Engine, regions: dict[str, CacheRegion] | None = None, **options: Any) -> None:
        self.engine = engine
        self.regions = {"default": memory_region()} if regions is None else regions
        options.setdefault("stamps", MemoryStamps())
        self.cache = ORMCache(self.regions, **options)
        self.session = sessionmaker(engine)
        self.plain = sessionmaker(engine)
        self.cache.listen_on_session(self.session)

    @contextmanager
    def counting(self) -> Generator[StatementLog]:
        with count_statements(self.engine) as log:
            yield log

    def rows(self, statement: Any, read: Callable[[Any], Any] | None = None, **options: Any) -> tuple[Any, int]:
        """Return what a new session with the cache gets, and how many statements it sent."""
        with self.session() as session, self.counting() as log:
            result = session.execute(statement, **options)
            answer = result.all() if read is None else read(result)
            return answer, len(log)

    def write(self, statement: Any) -> None:
        """Write and commit, as any part of the application would."""
        with self.session() as session:
            session.execute(statement)
            session.commit()

    def close(self) -> None:
        self.cache.detach()
