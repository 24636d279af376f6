"""The keyed collection with a default makes members when a missing key is subscripted, and at no other time."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, func, select
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import KeyFuncDict, Mapped, Session, mapped_column, relationship, selectinload

from sqla_patterns.associations import GenDefaultCollection, gen_default_collection
from sqla_patterns.exceptions import InvalidArgumentError, KeyMismatchError, StateError
from tests.conftest import BaseFactory

from . import _models as models


def _saved(m: Any, engine: Engine, session: Session, **collections: set[int]) -> Any:
    m.Base.metadata.create_all(engine)
    a = m.A()
    a.collections = collections
    session.add(a)
    session.commit()
    return a


def _keys(m: Any, session: Session) -> list[str]:
    return sorted(session.scalars(select(m.B.key)))


def test_subscripting_a_missing_key_makes_a_member(bases: Any, engine: Engine, session: Session) -> None:
    m = models.numbered(bases)
    a = _saved(m, engine, session, x={1, 2, 3})
    a.collections["x"].add(4)
    a.collections["y"].update([7, 8, 9])
    session.commit()
    assert a.collections == {"x": {1, 2, 3, 4}, "y": {7, 8, 9}}
    assert _keys(m, session) == ["x", "y"]


def test_reading_makes_no_member(bases: Any, engine: Engine, session: Session, statements: Any) -> None:
    # Upstream's proxy writes a row for each of these.
    m = models.numbered(bases)
    a = _saved(m, engine, session, x={1})
    for read in (a.collections, a.associations):
        assert read.get("zz") is None
        assert read.get("zz", 5) == 5
        assert "zz" not in read
        assert list(read) == ["x"]
        assert len(read.items()) == len(read.values()) == 1
        assert read.pop("zz", None) is None
        with pytest.raises(KeyError):
            read.pop("zz")
        with pytest.raises(KeyError):
            del read["zz"]
    assert not session.new
    with statements() as log:
        session.commit()
    assert list(log) == []
    assert _keys(m, session) == ["x"]


def test_setdefault_takes_the_given_default(bases: Any, engine: Engine, session: Session) -> None:
    m = models.numbered(bases)
    a = _saved(m, engine, session)
    assert a.collections.setdefault("x", {1}) == {1}
    b = m.B(key="y")
    assert a.associations.setdefault("y", b) is b
    assert _keys(m, session) == ["x", "y"]


def test_deleting_a_key_deletes_its_rows(bases: Any, engine: Engine, session: Session) -> None:
    m = models.numbered(bases)
    a = _saved(m, engine, session, x={1, 2}, y={3})
    del a.collections["x"]
    session.commit()
    assert a.collections == {"y": {3}}
    assert session.scalar(select(func.count(m.B.id))) == session.scalar(select(func.count(m.C.id))) == 1
    a.collections["y"].discard(3)
    session.commit()
    assert session.scalar(select(func.count(m.C.id))) == 0


def test_a_factory_of_another_key_is_refused_and_nothing_is_pending(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.numbered(bases, factory=lambda key: m.B(key=key.upper()))
    a = _saved(m, engine, session)
    for read in (a.collections, a.associations):
        with pytest.raises(
            KeyMismatchError, match=r"A\.associations cannot hold .* under 'x': its own key is 'X'"
        ) as caught:
            read["x"]
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, ArgumentError)
    assert not session.new
    assert a.associations == {}
    assert a.associations["OK"].key == "OK"
    session.commit()
    assert _keys(m, session) == ["OK"]


def test_a_factory_of_something_else_is_refused(bases: Any, engine: Engine, session: Session) -> None:
    m = models.numbered(bases, factory=lambda key: m.C(value=1))
    a = _saved(m, engine, session)
    with pytest.raises(InvalidArgumentError, match=r"factory of A\.associations returned .*; it must return a B"):
        a.associations["x"]
    assert not session.new


def test_a_member_under_a_key_that_is_not_its_own_is_refused(bases: Any, engine: Engine, session: Session) -> None:
    m = models.numbered(bases)
    a = _saved(m, engine, session, x={1})
    for attempt in (
        lambda: a.associations.__setitem__("x", m.B(key="y")),
        lambda: a.associations.update({"z": m.B(key="y")}),
        lambda: a.associations.setdefault("z", m.B(key="y")),
        lambda: a.associations.__ior__({"z": m.B(key="y")}),
    ):
        with pytest.raises(KeyMismatchError, match=r"under '[xz]': its own key is 'y'; use that, or set it before"):
            attempt()
    assert not session.new
    assert a.collections == {"x": {1}}


def test_or_equals_is_seen_by_the_session(bases: Any, engine: Engine, session: Session) -> None:
    m = models.numbered(bases)
    a = _saved(m, engine, session, x={1})
    a.associations |= {"y": m.B(key="y")}
    session.commit()
    assert _keys(m, session) == ["x", "y"]


def test_removing_a_member_whose_key_has_changed_makes_no_member_of_the_new_key(plain_bases: Any) -> None:
    m = models.numbered(plain_bases)
    a = m.A(collections={"x": {1}})
    b = a.associations["x"]
    b.key = "y"
    with pytest.raises(StateError, match=r"A\.associations has no key 'y' and cannot remove") as caught:
        a.associations.remove(b)
    assert isinstance(caught.value, InvalidRequestError)
    assert list(a.associations) == ["x"]
    b.key = "x"
    a.associations.remove(b)
    assert a.associations == {}


def test_pickling_keeps_members_adapter_and_the_default_even_of_a_lambda(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.numbered(bases)
    for made in (m.A, m.B, m.C):
        made.__module__, made.__qualname__ = __name__, made.__name__
        globals()[made.__name__] = made
    a = _saved(m, engine, session, x={1})
    assert a.collections == {"x": {1}}
    again = pickle.loads(pickle.dumps(a))
    assert type(again.associations) is GenDefaultCollection
    assert again.collections == {"x": {1}}
    merged = session.merge(again)
    merged.collections["y"].add(2)
    session.commit()
    assert a.collections == {"x": {1}, "y": {2}}
    again.collections["z"].add(3)
    assert again.associations["z"].key == "z"
    # A collection alone, and one that belongs to no object.
    assert list(pickle.loads(pickle.dumps(a.associations))) == ["x", "y"]


def test_a_collection_of_no_object_can_be_pickled_with_its_factory(plain_bases: Any) -> None:
    m = models.numbered(plain_bases)
    m.B.__module__, m.B.__qualname__ = __name__, "B"
    globals()["B"] = m.B
    collection: Any = gen_default_collection(_key, _make)()
    assert collection["x"].key == "x"
    assert pickle.loads(pickle.dumps(collection))["y"].key == "y"
    with pytest.raises(KeyMismatchError, match="The collection cannot hold"):
        collection["z"] = m.B(key="y")


def _key() -> Any:
    return globals()["B"].key


def _make(key: str) -> Any:
    return globals()["B"](key=key)


def test_sqlalchemys_own_collection_loses_its_class_when_pickled(plain_bases: Any) -> None:
    class Upstream(KeyFuncDict[str, Any]):
        def __missing__(self, key: str) -> Any:
            raise NotImplementedError

    assert type(pickle.loads(pickle.dumps(Upstream(_name)))) is KeyFuncDict


def _name(value: Any) -> Any:
    return value.key


def test_a_key_that_is_no_attribute_is_refused(plain_bases: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="was given 'key' as the key; return an attribute"):
        gen_default_collection(lambda: "key", lambda key: key)()  # type: ignore[arg-type, return-value]


async def test_it_works_under_asyncio_once_loaded(bases: Any, async_engine: AsyncEngine) -> None:
    m = models.numbered(bases)
    async with async_engine.begin() as connection:
        await connection.run_sync(m.Base.metadata.create_all)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        a = m.A()
        a.collections = {"x": {1}}
        session.add(a)
        await session.commit()
        a.collections["y"].add(2)
        a.collections = {"y": {2, 3}, "z": {4}}
        await session.commit()
        assert a.collections == {"y": {2, 3}, "z": {4}}
    async with AsyncSession(async_engine) as session:
        loaded = await session.scalar(select(m.A).options(selectinload(m.A.associations).selectinload(m.B.elements)))
        assert loaded.collections == {"y": {2, 3}, "z": {4}}
        assert loaded.collections.get("q") is None
        loaded.collections["q"].add(5)
        await session.commit()


def test_asdict_gives_the_members_of_a_mapped_dataclass() -> None:
    factory = BaseFactory("dataclass")
    Base = factory()

    class Item(Base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        notes: Mapped[dict[str, Note]] = relationship(
            collection_class=gen_default_collection(lambda: Note.key, lambda key: Note(key=key)), init=False
        )

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), init=False)
        key: Mapped[str]

    globals()["Note"] = Note
    item = Item()
    assert item.notes["x"].key == "x"
    found = dataclasses.asdict(item)["notes"]
    assert found == copy.copy(found) == copy.deepcopy(found) == pickle.loads(pickle.dumps(found))
    assert found == {"x": {"id": None, "item_id": None, "key": "x"}}
    assert "y" not in found
    with pytest.raises(KeyError):
        found["y"]
    del globals()["Note"]
    factory.dispose()
