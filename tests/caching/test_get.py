"""``cache.get()`` and ``cache.get_many()`` return what ``session.get()`` returns, however a key is spelled."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Engine, Numeric, String, Uuid, delete, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_patterns.caching import MemoryStamps, ORMCache
from tests.caching._world import memory_region


class Base(DeclarativeBase):
    pass


NOCASE = String(20).with_variant(String(20, collation="NOCASE"), "sqlite")


class Person(Base):
    __tablename__ = "get_person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Code(Base):
    """A row whose key is compared without regard to case, on SQLite by its collation and on MariaDB by default."""

    __tablename__ = "get_code"
    code: Mapped[str] = mapped_column(NOCASE, primary_key=True)


class Pair(Base):
    __tablename__ = "get_pair"
    number: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(NOCASE, primary_key=True)


class Token(Base):
    __tablename__ = "get_token"
    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)


class Price(Base):
    __tablename__ = "get_price"
    id: Mapped[Any] = mapped_column(Numeric(10, 2), primary_key=True)


class Store:
    def __init__(self, engine: Engine) -> None:
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Person), [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}])
            connection.execute(insert(Code), [{"code": "Abc"}, {"code": "Def"}, {"code": "Ghi"}])
            connection.execute(insert(Pair), [{"number": 1, "code": "Abc"}, {"number": 2, "code": "Abc"}])
            connection.execute(insert(Token), [{"id": uuid.UUID(int=7)}])
            connection.execute(insert(Price), [{"id": 5}])
        self.engine = engine
        self.cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
        self.session = sessionmaker(engine)
        self.cache.listen_on_session(self.session)
        self.plain = sessionmaker(engine)


@pytest.fixture
def store(engine: Engine) -> Generator[Store, None, None]:
    store = Store(engine)
    yield store
    store.cache.detach()


def _key(instance: Any) -> Any:
    from sqlalchemy import inspect

    return None if instance is None else inspect(instance).identity


KEYS: dict[str, tuple[Any, Any]] = {
    "as it is": (Person, 1),
    "text": (Person, "1"),
    "text without a row": (Person, "99"),
    "boolean": (Person, True),
    "other case": (Code, "ABC"),
    "same case": (Code, "Abc"),
    "text for a text": (Code, "xyz"),
    "tuple": (Pair, (1, "ABC")),
    "dictionary": (Pair, {"number": 2, "code": "aBC"}),
    "uuid": (Token, uuid.UUID(int=7)),
    "whole number for a decimal": (Price, 5),
}


@pytest.mark.parametrize("name", KEYS)
def test_get_is_what_session_get_is(store: Store, name: str) -> None:
    model, key = KEYS[name]
    with store.plain() as session:
        expected = _key(session.get(model, key))
    found: list[Any] = []
    for _ in range(3):
        with store.session() as session:
            found.append(_key(store.cache.get(session, model, key)))
    assert found == [expected] * 3


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (Person, [1, "2", "99"]),
        (Person, ["1", "2"]),
        (Person, [1, "1"]),
        (Code, ["ABC", "def", "nope"]),
        (Code, ["Abc", "ABC", "Def"]),
        (Code, ["ABC"]),
        (Pair, [(1, "ABC"), (2, "Abc"), (3, "x")]),
    ],
    ids=str,
)
def test_get_many_is_what_session_get_is_for_each(store: Store, model: Any, keys: list[Any]) -> None:
    with store.plain() as session:
        one_by_one = {key: _key(session.get(model, key)) for key in keys}
    expected = {key: identity for key, identity in one_by_one.items() if identity is not None}
    found: list[Any] = []
    for _ in range(3):
        with store.session() as session:
            many = store.cache.get_many(session, model, keys)
            found.append({key: _key(instance) for key, instance in many.items()})
    assert found == [expected] * 3


@pytest.mark.parametrize("attached", [True, False], ids=["with the cache", "without"])
def test_a_session_without_the_cache_gets_the_same(store: Store, attached: bool) -> None:
    factory: Callable[[], Session] = store.session if attached else store.plain
    with factory() as session:
        found = store.cache.get_many(session, Person, ["1", 2])
        assert {key: person.name for key, person in found.items()} == {"1": "one", 2: "two"}


@pytest.mark.only_on("sqlite", "mariadb")
def test_the_object_itself_comes_back_for_another_spelling(store: Store) -> None:
    with store.session() as session:
        assert store.cache.get(session, Code, "ABC") is store.cache.get(session, Code, "Abc")


@pytest.mark.parametrize(("model", "key"), [(Person, "1"), (Code, "ABC"), (Code, "xyz")], ids=str)
def test_no_absence_is_kept_for_a_key_that_may_be_spelled_otherwise(store: Store, model: Any, key: Any) -> None:
    with store.session() as session:
        session.execute(delete(model))
        session.commit()
    with store.session() as session:
        store.cache.get(session, model, key)
    assert store.cache.stats.puts == 0


def test_the_absence_of_a_number_is_kept(store: Store, statements: Callable[..., Any]) -> None:
    with store.session() as session:
        assert store.cache.get(session, Person, 99) is None
    with store.session() as session, statements(store.engine) as log:
        assert store.cache.get(session, Person, 99) is None
    assert log == []


def test_an_object_found_by_another_spelling_is_invalidated_with_it(store: Store) -> None:
    with store.session() as session:
        person = store.cache.get(session, Person, "1")
        # A writer that the cache does not see.
        cursor = session.connection().connection.cursor()
        cursor.execute("UPDATE get_person SET name = 'new' WHERE id = 1")
        cursor.close()
        session.commit()
        store.cache.invalidate_object(person)
    with store.session() as session:
        assert store.cache.get(session, Person, "1").name == "new"


def test_keys_without_another_spelling_take_one_statement(store: Store, statements: Callable[..., Any]) -> None:
    with store.session() as session, statements(store.engine) as log:
        store.cache.get_many(session, Code, ["Abc", "Def", "nope", "neither"])
    assert len(log) == 1
