"""Members that are removed and put back, renamed or given to another object, before the removal is flushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from sqla_patterns.exceptions import StateError

from . import _models as models


@pytest.fixture(params=[True, False], ids=["autoflush", "no autoflush"])
def made(request: pytest.FixtureRequest, bases: Any, engine: Engine, session: Session) -> Any:
    """Return models with two parents in the database, the first with children a, b and c of sizes 1, 2 and 3."""
    m = models.family(bases)
    m.Base.metadata.create_all(engine)
    m.parent, m.other = m.Parent(), m.Parent()
    session.add_all([m.parent, m.other])
    m.parent.by_key.update({key: m.Child(key=key, size=size) for size, key in enumerate("abc", 1)})
    session.commit()
    session.autoflush = request.param
    return m


def stored(session: Session, m: Any, parent: Any = None) -> dict[str, int]:
    """Return the sizes of the children in the database, by key; the size tells which row it is."""
    session.commit()
    owner = m.parent if parent is None else parent
    rows = session.execute(select(m.Child.key, m.Child.size).where(m.Child.parent_id == owner.id))
    return {row[0]: row[1] for row in rows}


def test_a_popped_member_can_be_put_back(made: Any, session: Session) -> None:
    identity = made.parent.by_key["a"].id
    made.parent.by_key["a"] = made.parent.by_key.pop("a")
    assert stored(session, made) == {"a": 1, "b": 2, "c": 3}
    assert made.parent.by_key["a"].id == identity


def test_a_popped_member_can_be_put_back_under_another_key(made: Any, session: Session) -> None:
    child = made.parent.by_key.pop("a")
    identity, child.key = child.id, "z"
    made.parent.by_key["z"] = child
    assert made.parent.by_key["z"] is child
    assert stored(session, made) == {"z": 1, "b": 2, "c": 3}
    assert made.parent.by_key["z"].id == identity


def test_a_popped_member_can_take_the_place_of_another(made: Any, session: Session) -> None:
    child = made.parent.by_key.pop("a")
    child.key = "b"
    made.parent.by_key["b"] = child
    assert stored(session, made) == {"b": 1, "c": 3}


def test_a_renamed_member_can_take_the_place_of_another(made: Any, session: Session) -> None:
    with session.no_autoflush:
        child = made.parent.by_key["a"]
        child.key = "b"
        made.parent.by_key["b"] = child
    assert stored(session, made) == {"b": 1, "c": 3}


def test_the_key_of_a_popped_member_can_be_taken_in_the_same_call(made: Any, session: Session) -> None:
    child = made.parent.by_key.pop("a")
    child.key = "z"
    made.parent.by_key.update({"z": child, "a": made.Child(key="a", size=7)})
    assert stored(session, made) == {"a": 7, "z": 1, "b": 2, "c": 3}


def test_a_popped_member_can_be_given_to_another_object(made: Any, session: Session) -> None:
    made.other.by_key["a"] = made.parent.by_key.pop("a")
    assert stored(session, made, made.other) == {"a": 1}
    assert stored(session, made) == {"b": 2, "c": 3}


def test_a_popped_member_can_take_the_place_of_another_objects(made: Any, session: Session) -> None:
    made.other.by_key.update({key: made.Child(key=key, size=9) for key in "az"})
    session.commit()
    child = made.parent.by_key.pop("a")
    child.key = "z"
    made.other.by_key["z"] = child
    assert stored(session, made, made.other) == {"a": 9, "z": 1}
    assert stored(session, made) == {"b": 2, "c": 3}


def test_a_popped_member_can_be_the_default(made: Any, session: Session) -> None:
    child = made.parent.by_key.pop("a")
    assert made.parent.by_key.setdefault("a", child) is child
    assert stored(session, made) == {"a": 1, "b": 2, "c": 3}


def test_a_popped_member_that_is_not_needed_as_default_is_deleted(made: Any, session: Session) -> None:
    child = made.parent.by_key.pop("a")
    child.key = "b"
    assert made.parent.by_key.setdefault("b", child).size == 2
    assert stored(session, made) == {"b": 2, "c": 3}


def test_all_members_can_be_put_back_after_clear(made: Any, session: Session) -> None:
    members = dict(made.parent.by_key.items())
    with session.no_autoflush:
        made.parent.by_key.clear()
        made.parent.by_key.update(members)
    assert stored(session, made) == {"a": 1, "b": 2, "c": 3}


def test_a_key_of_a_member_that_was_renamed_and_popped_is_free(made: Any, session: Session) -> None:
    with session.no_autoflush:
        made.parent.by_key.pop("a").key = "gone"
        made.parent.by_key["a"] = made.Child(key="a", size=7)
    assert stored(session, made) == {"a": 7, "b": 2, "c": 3}


def test_putting_back_costs_one_select_each(made: Any, session: Session, statements: Callable[..., Any]) -> None:
    assert made.parent.id
    with statements() as log:
        made.parent.by_key["a"] = made.parent.by_key.pop("a")
        session.flush()
    assert len(log) == len(log.starting("SELECT")) == 2


def test_a_member_whose_row_is_deleted_cannot_be_put_back(made: Any, session: Session) -> None:
    child = made.parent.by_key.pop("a")
    session.flush()
    with pytest.raises(StateError, match=r"Parent\.by_key cannot hold .* its row was deleted .*make_transient"):
        made.parent.by_key["a"] = child


def test_members_of_a_many_to_many_relationship_can_be_put_back(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    m = models.groups(plain_bases)
    m.Base.metadata.create_all(engine)
    group, other = m.Group(), m.Group()
    session.add_all([group, other])
    group.by_name.update({name: m.Member(name=name) for name in "ab"})
    session.commit()
    member = group.by_name.pop("a")
    member.name = "z"
    group.by_name["z"] = member
    session.commit()
    other.by_name["b"] = group.by_name.pop("b")
    session.commit()
    assert (list(group.by_name), list(other.by_name)) == (["z"], ["b"])


async def test_the_async_dictionary_takes_a_popped_member_back(bases: Any, async_session: AsyncSession) -> None:
    m = models.family(bases)
    async with async_session.bind.begin() as connection:  # type: ignore[union-attr]
        await connection.run_sync(m.Base.metadata.create_all)
    parent = m.Parent()
    async_session.add(parent)
    await parent.by_key_async.update({key: m.Child(key=key, size=size) for size, key in enumerate("ab", 1)})
    await async_session.commit()
    child = await parent.by_key_async.pop("a")
    child.key = "z"
    await parent.by_key_async.set("z", child)
    await parent.by_key_async.set("b", await parent.by_key_async.pop("b"))
    await async_session.commit()
    rows = await async_session.execute(select(m.Child.key, m.Child.size).order_by(m.Child.key))
    assert [tuple(row) for row in rows] == [("b", 2), ("z", 1)]
