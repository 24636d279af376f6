"""Keys that no member can have: absent when they are looked up, refused when a member is put under them."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Date, Enum, ForeignKey, Integer, Numeric, String, Uuid
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from sqla_patterns.dicts import async_write_only_dict, write_only_dict
from sqla_patterns.exceptions import InvalidArgumentError


class Color(enum.Enum):
    red = "r"
    blue = "b"


class Size(enum.StrEnum):
    small = "s"


class Reversed(TypeDecorator[str]):
    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value[::-1]

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value[::-1]


class Colors(TypeDecorator[Color]):
    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.value

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else Color(value)


def mapped(Base: Any) -> Any:
    class Parent(Base):
        __tablename__ = "parent"
        id = mapped_column(Integer, primary_key=True)
        kids = relationship(lambda: Kid, lazy="write_only", cascade="all, delete-orphan", passive_deletes=True)

    class Kid(Base):
        __tablename__ = "kid"
        id = mapped_column(Integer, primary_key=True)
        parent_id = mapped_column(ForeignKey("parent.id", ondelete="CASCADE"))
        num = mapped_column(Integer)
        name = mapped_column(String(20))
        code = mapped_column(Uuid)
        amount = mapped_column(Numeric(10, 2))
        day = mapped_column(Date)
        color = mapped_column(Enum(Color, native_enum=False))
        word = mapped_column(Reversed)
        paint = mapped_column(Colors)

    def dictionary(attribute: str, make: Any = write_only_dict) -> Any:
        return make("kids", lambda: Kid, lambda: getattr(Kid, attribute))

    for attribute in ("num", "name", "code", "amount", "day", "color", "word", "paint"):
        found = dictionary(attribute)
        found.__set_name__(Parent, f"by_{attribute}")
        setattr(Parent, f"by_{attribute}", found)
    Parent.by_num_async = dictionary("num", async_write_only_dict)
    return SimpleNamespace(Parent=Parent, Kid=Kid, metadata=Base.metadata)


CODE = uuid.UUID(int=1)
DAY = dt.date(2020, 1, 2)
VALUES: dict[str, Any] = {
    "num": 1,
    "name": "one",
    "code": CODE,
    "amount": decimal.Decimal("1.5"),
    "day": DAY,
    "color": Color.red,
    "word": "abc",
    "paint": Color.red,
}
ABSENT = [
    *(("num", key) for key in ("1", "x", 1.5, None, 2**70, float("nan"), float("inf"), CODE)),
    *(("name", key) for key in (1, None, b"one", CODE)),
    *(("code", key) for key in (str(CODE), 1, None)),
    *(("amount", key) for key in ("1.5", None, float("nan"))),
    *(("day", key) for key in (dt.datetime(2020, 1, 2), "2020-01-02", None)),  # noqa: DTZ001
    *(("color", key) for key in ("red", "r", 1, None, Size.small)),
    *(("word", key) for key in (None, "cba", 1)),
    *(("paint", key) for key in (None, "r", 1)),
]


@pytest.fixture
def made(plain_bases: Any, engine: Any, session: Session) -> Any:
    m = mapped(plain_bases())
    m.metadata.create_all(engine)
    m.parent = m.Parent()
    session.add(m.parent)
    m.parent.kids.add(m.Kid(**VALUES))
    session.commit()
    return m


@pytest.mark.parametrize(("attribute", "key"), ABSENT)
def test_a_key_that_no_member_can_have_is_absent(made: Any, session: Session, attribute: str, key: Any) -> None:
    members = getattr(made.parent, f"by_{attribute}")
    assert key not in members
    assert members.get(key, "nothing") == "nothing"
    assert members.pop(key, "nothing") == "nothing"
    with pytest.raises(KeyError):
        members[key]
    with pytest.raises(KeyError):
        del members[key]
    # The transaction goes on.
    assert len(members) == 1
    session.commit()


@pytest.mark.parametrize(
    ("attribute", "key"),
    [
        *VALUES.items(),
        ("num", True),
        ("num", 1.0),
        ("num", decimal.Decimal(1)),
        ("amount", 1.5),
        ("name", Size("s")),
    ],
)
def test_a_key_that_is_equal_is_found(made: Any, session: Session, attribute: str, key: Any) -> None:
    if isinstance(key, Size):
        made.parent.kids.add(made.Kid(name="s"))
        session.commit()
    members = getattr(made.parent, f"by_{attribute}")
    assert key in members
    assert members[key] is members.get(key)


def test_an_unhashable_key_is_a_type_error(made: Any) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        made.parent.by_name.get([])


@pytest.mark.parametrize(
    ("attribute", "key"), [("num", None), ("name", None), ("num", "x"), ("num", 1.5), ("code", "x")]
)
def test_a_member_with_a_key_that_cannot_be_stored_is_refused(
    made: Any, session: Session, attribute: str, key: Any
) -> None:
    members, kid = getattr(made.parent, f"by_{attribute}"), made.Kid(**{attribute: key})
    for put in (members.__setitem__, members.setdefault):
        with pytest.raises(InvalidArgumentError, match=rf"Parent\.by_{attribute} cannot hold .* under {key!r}"):
            put(key, kid)
    assert kid not in session
    assert not session.dirty
    assert len(members) == 1


def test_a_member_without_a_key_that_a_collection_got_is_not_in_the_dictionary(made: Any, session: Session) -> None:
    with session.no_autoflush:
        made.parent.kids.add_all([made.Kid(), made.Kid()])
        before = (list(made.parent.by_num), len(made.parent.by_num), None in made.parent.by_num)
        session.flush()
    assert before == (list(made.parent.by_num), len(made.parent.by_num), None in made.parent.by_num) == ([1], 1, False)


async def test_the_async_dictionary_gives_the_same_answers(
    plain_bases: Any, file_engine: Any, async_session: AsyncSession
) -> None:
    m = mapped(plain_bases())
    m.metadata.create_all(file_engine)
    parent = m.Parent()
    async_session.add(parent)
    await parent.by_num_async.set(1, m.Kid(num=1))
    await async_session.commit()
    assert not await parent.by_num_async.contains("x")
    assert await parent.by_num_async.get(None) is None
    with pytest.raises(InvalidArgumentError, match="under None"):
        await parent.by_num_async.set(None, m.Kid())
    assert await parent.by_num_async.count() == 1


@pytest.mark.parametrize("wrong", ["member", "key"])
def test_a_misspelt_name_is_named(plain_bases: Any, wrong: str) -> None:
    m = mapped(plain_bases())
    found = write_only_dict(
        "kids", lambda: m.Kit if wrong == "member" else m.Kid, lambda: m.Kid.num if wrong == "member" else m.Kid.nmu
    )
    found.__set_name__(m.Parent, "found")
    m.Parent.found = found
    name = "Kit" if wrong == "member" else "nmu"
    with pytest.raises(InvalidArgumentError, match=rf"^Parent\.found was given a function .*'{name}'"):
        hasattr(m.Parent(), "found")
