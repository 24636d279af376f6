"""A statement reads the database that it is sent to, whatever else the session reads."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Engine, String, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload, sessionmaker
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import ForeignKey

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RelationshipCache
from tests.caching._world import memory_region


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "bind_parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    children: Mapped[list[Child]] = relationship(order_by="Child.id")


class Child(Base):
    __tablename__ = "bind_child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("bind_parent.id"))
    name: Mapped[str] = mapped_column(String(30))


name_of_one = select(Parent.name).where(Parent.id == 1).options(FromCache())


def _fill(engine: Engine, word: str) -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Parent).values(id=1, name=f"from {word}"))
        connection.execute(insert(Child).values(id=1, parent_id=1, name=f"child from {word}"))


@pytest.fixture
def other() -> Generator[Engine, None, None]:
    """Yield a second database, to which the session is not bound."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    _fill(engine, "b")
    yield engine
    engine.dispose()


@pytest.fixture
def cache() -> Generator[ORMCache, None, None]:
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
    yield cache
    cache.detach()


@pytest.fixture
def factory(engine: Engine, cache: ORMCache) -> Any:
    _fill(engine, "a")
    factory = sessionmaker(engine)
    cache.listen_on_session(factory)
    return factory


def test_a_bind_of_the_call_is_where_a_miss_reads(factory: Any, other: Engine) -> None:
    with factory() as session:
        assert session.scalar(name_of_one, bind_arguments={"bind": other}) == "from b"


def test_a_bind_of_the_call_has_entries_of_its_own(factory: Any, other: Engine, cache: ORMCache) -> None:
    found: list[str] = []
    for _ in range(2):
        with factory() as session:
            found += [session.scalar(name_of_one, bind_arguments={"bind": other}), session.scalar(name_of_one)]
    assert (found, cache.stats.hits) == (["from b", "from a"] * 2, 2)


def test_a_session_without_a_bind_reads_that_of_the_call(other: Engine, cache: ORMCache) -> None:
    factory = sessionmaker()
    cache.listen_on_session(factory)
    found: list[Any] = []
    for _ in range(2):
        with factory() as session:
            found.append(session.scalar(name_of_one, bind_arguments={"bind": other}))
    assert (found, cache.stats.hits) == (["from b"] * 2, 1)


def test_the_users_dictionary_of_bind_arguments_stays_as_it_is(factory: Any, other: Engine) -> None:
    arguments = {"bind": other}
    with factory() as session:
        session.scalar(name_of_one, bind_arguments=arguments)
    assert arguments == {"bind": other}


def test_a_connection_as_bind_is_where_a_miss_reads(factory: Any, other: Engine, cache: ORMCache) -> None:
    found: list[str] = []
    for _ in range(2):
        with factory() as session, other.connect() as connection:
            found.append(session.scalar(name_of_one, bind_arguments={"bind": connection}))
            session.rollback()
    assert (found, cache.stats.hits) == (["from b"] * 2, 1)


def test_writes_of_a_session_that_was_sent_elsewhere_end_entries_there(factory: Any, other: Engine) -> None:
    with factory() as session:
        session.scalar(name_of_one, bind_arguments={"bind": other})
    with factory() as session:
        session.execute(Parent.__table__.update().values(name="new"), bind_arguments={"bind": other})
        session.commit()
    with factory() as session:
        assert session.scalar(name_of_one, bind_arguments={"bind": other}) == "new"


def test_own_writes_there_are_seen_before_the_commit(factory: Any, other: Engine) -> None:
    with factory() as session:
        session.scalar(name_of_one, bind_arguments={"bind": other})
        session.execute(Parent.__table__.update().values(name="mine"), bind_arguments={"bind": other})
        assert session.scalar(name_of_one, bind_arguments={"bind": other}) == "mine"


@pytest.mark.parametrize(
    "option",
    [(FromCache(), selectinload(Parent.children)), (FromCache(), RelationshipCache(Parent.children)), (FromCache(),)],
    ids=["selectinload", "relationship", "lazy"],
)
def test_what_is_loaded_beside_comes_from_where_it_would_without_a_cache(
    option: Any, engine: Engine, factory: Any, other: Engine
) -> None:
    statement = select(Parent).options(*option)

    def children(session: Session) -> list[str]:
        parents = session.scalars(statement, bind_arguments={"bind": other}).all()
        return [child.name for parent in parents for child in parent.children]

    with sessionmaker(engine)() as plain:
        expected = children(plain)
    found: list[list[str]] = []
    for _ in range(3):
        with factory() as session:
            found.append(children(session))
    assert found == [expected] * 3


class _Rotating(Session):
    """A session that sends each statement to the next of its engines, as sessions with several replicas do."""

    engines: list[Engine]
    asked: list[Engine]

    def get_bind(self, *args: Any, **kw: Any) -> Any:
        if kw.get("bind") is not None:
            return kw["bind"]
        self.asked.append(self.engines[len(self.asked) % len(self.engines)])
        return self.asked[-1]


@pytest.mark.only_on("sqlite")
def test_a_session_that_chooses_another_bind_each_time_is_asked_once_for_a_statement(
    cache: ORMCache, make_engines: Callable[[], list[Engine]]
) -> None:
    factory = sessionmaker(class_=_Rotating)
    cache.listen_on_session(factory)
    engines = make_engines()
    found: list[str] = []
    with factory() as session:
        session.engines, session.asked = engines, []
        for _ in range(4):
            asked = len(session.asked)
            found.append(str(session.scalar(name_of_one)))
            assert len(session.asked) == asked + 1
    assert found == ["from 0", "from 1", "from 0", "from 1"]


@pytest.fixture
def make_engines() -> Generator[Callable[[], list[Engine]], None, None]:
    made: list[Engine] = []

    def make() -> list[Engine]:
        for number in range(2):
            engine = create_engine("sqlite://", poolclass=StaticPool)
            _fill(engine, str(number))
            made.append(engine)
        return made

    yield make
    for engine in made:
        engine.dispose()
