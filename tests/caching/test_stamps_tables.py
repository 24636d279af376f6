"""The tables of `SQLStamps` in the metadata of the application, which create and drop them with all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, String, insert, inspect, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from sqla_patterns.caching import FromCache, ORMCache, SQLStamps, StampsUnavailableError
from sqla_patterns.exceptions import InvalidArgumentError
from tests._support._alembic import assert_migrates
from tests.caching._world import memory_region

pytestmark = pytest.mark.only_on("postgresql", "mariadb")


class Shop:
    """An application whose metadata has the tables of its stamps."""

    def __init__(self, engine_factory: Callable[..., Engine], on_error: Any, **options: Any) -> None:
        class Base(DeclarativeBase):
            pass

        class Person(Base):
            __tablename__ = "stamped_person"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(String(20))

        self.engine = engine_factory()
        self.metadata = Base.metadata
        self.person = Person
        self.store = SQLStamps(engine_factory(), metadata=Base.metadata, **options)
        self.cache = ORMCache({"default": memory_region()}, stamps=self.store, on_error=on_error)
        self.session = sessionmaker(self.engine)
        self.cache.listen_on_session(self.session)

    def create(self) -> None:
        if self.engine.dialect.name != "postgresql":
            # MariaDB commits each CREATE TABLE by itself, and stamps none before it has stamps.
            self.store.create_tables()
        self.metadata.create_all(self.engine)

    def fill(self, name: str) -> None:
        with self.session() as session:
            session.execute(insert(self.person).values(id=1, name=name))
            session.commit()

    def name(self) -> Any:
        with self.session() as session:
            return session.scalar(select(self.person.name).options(FromCache()))


@pytest.fixture(params=["raise", "degrade"])
def shop(request: pytest.FixtureRequest, engine_factory: Callable[..., Engine]) -> Generator[Shop, None, None]:
    shop = Shop(engine_factory, request.param)
    yield shop
    shop.cache.detach()


def test_all_tables_are_created_and_dropped_with_those_of_the_stamps(shop: Shop) -> None:
    started = time.monotonic()
    for _ in range(2):
        shop.create()
        shop.fill("ann")
        assert [shop.name(), shop.name()] == ["ann", "ann"]
        shop.metadata.drop_all(shop.engine)
    assert time.monotonic() - started < 4  # less than the store waits for a lock
    assert inspect(shop.engine).get_table_names() == []


def test_entries_of_before_are_not_served_when_all_tables_are_new(shop: Shop) -> None:
    for name in ("ann", "ben"):
        shop.create()
        shop.fill(name)
        assert [shop.name(), shop.name()] == [name, name]
        shop.metadata.drop_all(shop.engine)


def test_writes_are_stamped_after_the_tables_were_created_again(shop: Shop) -> None:
    shop.create()
    shop.metadata.drop_all(shop.engine)
    shop.create()
    shop.fill("ann")
    found = [shop.name()]
    with shop.session() as session:
        session.execute(update(shop.person).values(name="new"))
        session.commit()
    assert [*found, shop.name()] == ["ann", "new"]


@pytest.mark.only_on("postgresql")
def test_a_lock_that_the_transaction_holds_is_not_waited_for_ever(engine_factory: Callable[..., Engine]) -> None:
    shop = Shop(engine_factory, "raise", lock_timeout=0.3)
    shop.create()
    with shop.session() as session, pytest.raises(StampsUnavailableError, match="lock timeout"):
        session.execute(text("DROP TABLE cache_epoch"))
        session.commit()
    shop.cache.detach()


def test_a_lock_timeout_of_nothing_is_refused(engine_factory: Callable[..., Engine]) -> None:
    with pytest.raises(InvalidArgumentError, match="lock_timeout=0"):
        SQLStamps(engine_factory(), lock_timeout=0)


def test_the_tables_migrate(engine: Engine, engine_factory: Callable[..., Engine]) -> None:
    metadata = MetaData()
    SQLStamps(engine_factory(), metadata=metadata)
    assert_migrates(engine, metadata, [])
