"""The common part of the caching demos: models, rows, a cache in a dbm file, and two runs on the same files.

By default a demo works in a temporary folder. With ``--folder`` the database and the cache stay there, and the next
call of the demo answers from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dogpile.cache import make_region
from dogpile.cache.region import CacheRegion
from sqlalchemy import Engine, ForeignKey, String, create_engine, event, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker

from sqla_patterns.caching import ORMCache, RelationshipCache, SQLStamps
from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_parser


class Base(DeclarativeBase):
    pass


class Country(Base):
    __tablename__ = "caching_country"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


class City(Base):
    __tablename__ = "caching_city"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    country_id: Mapped[int] = mapped_column(ForeignKey("caching_country.id"))
    country: Mapped[Country] = relationship()


class PostalCode(Base):
    __tablename__ = "caching_postal_code"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(10))
    city_id: Mapped[int] = mapped_column(ForeignKey("caching_city.id"))
    city: Mapped[City] = relationship()


class Address(Base):
    __tablename__ = "caching_address"

    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("caching_person.id"))
    street: Mapped[str] = mapped_column(String(200))
    postal_code_id: Mapped[int] = mapped_column(ForeignKey("caching_postal_code.id"))
    postal_code: Mapped[PostalCode] = relationship()

    def __str__(self) -> str:
        city = self.postal_code.city
        return f"{self.street}, {city.name} {self.postal_code.code}, {city.country.name}"


class Person(Base):
    __tablename__ = "caching_person"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    addresses: Mapped[set[Address]] = relationship()

    def __str__(self) -> str:
        return "; ".join([self.name, *sorted(map(str, self.addresses))])


#: The postal code, city and country of an address come from the cache.
cache_address_bits = (
    RelationshipCache(PostalCode.city)
    .and_(RelationshipCache(City.country))
    .and_(RelationshipCache(Address.postal_code))
)

CITIES = {
    ("Chicago", "United States"): ("60601", "60602", "60603", "60604"),
    ("Montreal", "Canada"): ("H2S 3K9", "H2B 1V4", "H7G 2T8"),
    ("Edmonton", "Canada"): ("T5J 1R9", "T5J 1Z4", "T5H 1P6"),
    ("New York", "United States"): ("10001", "10002", "10003"),
}


def install(session: Session) -> None:
    """Insert fifty persons, each with an address."""
    countries = {name: Country(name=name) for _, name in CITIES}
    codes = [
        PostalCode(code=code, city=city)
        for (name, country), listed in CITIES.items()
        for city in [City(name=name, country=countries[country])]
        for code in listed
    ]
    for number in range(1, 51):
        address = Address(street=f"street {number:02}", postal_code=codes[number * 7 % len(codes)])
        session.add(Person(name=f"person {number:02}", addresses={address}))
    session.commit()


class Run:
    """One process of the application: sessions, a cache, and a count of the statements that went to the database."""

    def __init__(self, engine: Engine, regions: dict[str, CacheRegion], cache: ORMCache) -> None:
        self.engine = engine
        self.regions = regions
        self.cache = cache
        self.session = scoped_session(sessionmaker(engine))
        cache.listen_on_session(self.session)
        self.sent = 0
        event.listen(engine, "before_cursor_execute", self._count)

    def _count(self, *args: object) -> None:
        self.sent += 1

    def statements(self) -> int:
        """Return the number of statements since the last call."""
        sent, self.sent = self.sent, 0
        return sent

    def close(self) -> None:
        """End the process."""
        self.session.remove()
        self.cache.detach()
        event.remove(self.engine, "before_cursor_execute", self._count)


class CachingOptions(DemoOptions):
    """The options of these demos."""

    folder: Path | None


Demonstration = Callable[[CachingOptions, Run], None]


def run_demo(doc: str | None, argv: Sequence[str] | None, demonstrate: Demonstration) -> int:
    """Run the demo twice, the second time in a process that finds the cache files of the first."""
    parser = demo_parser(doc)
    parser.add_argument("--folder", type=Path, help="keep database and cache here for the next call")
    options = parser.parse_args(argv, namespace=CachingOptions())
    with _place(options) as (folder, engine):
        for number in ("first", "second"):
            options.say(f"== {number} run")
            with _process(folder, engine) as run:
                demonstrate(options, run)
    return 0


@contextmanager
def _place(options: CachingOptions) -> Generator[tuple[Path, Engine]]:
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        engine = create_engine(f"sqlite:///{options.folder / 'demo.db'}", echo=options.echo)
        Base.metadata.create_all(engine)
        _install_once(engine)
        yield options.folder, engine
        engine.dispose()
        return
    with TemporaryDirectory() as folder:
        if options.url == "sqlite://":
            # In memory there would be nothing for a second process to find.
            given = vars(options) | {"url": f"sqlite:///{Path(folder) / 'demo.db'}"}
            options = argparse.Namespace.__new__(CachingOptions)
            vars(options).update(given)
        with demo_engine(options, Base.metadata) as engine:
            _install_once(engine)
            yield Path(folder), engine


def _install_once(engine: Engine) -> None:
    with Session(engine) as session:
        if not session.scalar(select(func.count()).select_from(Person)):
            install(session)


@contextmanager
def _process(folder: Path, engine: Engine) -> Generator[Run]:
    filename = str(folder / "cache.dbm")
    regions = {
        "default": make_region().configure("dogpile.cache.dbm", expiration_time=3600, arguments={"filename": filename})
    }
    stamps_engine = create_engine(f"sqlite:///{folder / 'stamps.db'}")
    stamps = SQLStamps(stamps_engine)
    if not inspect(stamps_engine).get_table_names():
        stamps.create_tables()
    run = Run(engine, regions, ORMCache(regions, stamps=stamps))
    try:
        yield run
    finally:
        run.close()
        stamps_engine.dispose()
