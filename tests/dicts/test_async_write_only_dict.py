"""`AsyncWriteOnlyDict`: the same answers and statements as `WriteOnlyDict`, on the async drivers."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from sqla_patterns.exceptions import DuplicateKeyError, InvalidArgumentError, KeyMismatchError, StateError

from . import _models as models


async def _parent(m: Any, session: AsyncSession, *keys: str) -> Any:
    async with session.bind.begin() as connection:  # type: ignore[union-attr]
        await connection.run_sync(m.Base.metadata.create_all)
    parent = m.Parent()
    session.add(parent)
    await parent.by_key_async.update((key, m.Child(key=key)) for key in keys)
    await session.commit()
    return parent


async def test_it_answers_like_a_dictionary(bases: Any, async_session: AsyncSession) -> None:
    m = models.family(bases)
    parent = await _parent(m, async_session, "b", "a")
    children = parent.by_key_async
    assert (await children.get("a")).key == "a"
    assert (await children.get("x"), await children.get("x", 5)) == (None, 5)
    assert (await children.contains("a"), await children.contains("x"), await children.count()) == (True, False, 2)
    assert [(key, child.key) async for key, child in children.items()] == [("a", "a"), ("b", "b")]
    assert [key async for key in children.keys()] == ["a", "b"]  # noqa: SIM118
    assert [child.key async for child in children.values()] == ["a", "b"]
    assert repr(children).startswith("<AsyncWriteOnlyDict Parent.by_key_async of ")


async def test_it_writes_like_a_dictionary_and_leaves_nothing_expired(
    bases: Any, async_session: AsyncSession, async_engine: AsyncEngine
) -> None:
    m = models.family(bases)
    parent = await _parent(m, async_session, "a", "b", "c")
    children = parent.by_key_async
    await children.set("a", new := m.Child(key="a", size=5))
    await children.set("d", m.Child(key="d"))
    assert await children.setdefault("a", m.Child(key="a")) is new
    assert (await children.pop("b")).key == "b"
    await children.delete("c")
    await async_session.commit()
    assert (new.size, new.key, new.parent is parent) == (5, "a", True)
    async with AsyncSession(async_engine) as other:
        query = select(m.Child.key).where(m.Child.parent_id == parent.id).order_by(m.Child.key)
        assert (await other.scalars(query)).all() == ["a", "d"]
    for attempt in (children.pop("x"), children.delete("x")):
        with pytest.raises(KeyError):
            await attempt
    await children.clear()
    assert await children.count() == 0


async def test_an_operation_is_one_statement(
    bases: Any, async_session: AsyncSession, async_engine: AsyncEngine, statements: Any
) -> None:
    m = models.family(bases)
    parent = await _parent(m, async_session, "a", "b")
    children = parent.by_key_async
    for operation in (children.get("a"), children.contains("a"), children.count(), children.delete("a")):
        with statements(async_engine) as log:
            await operation
        assert len(log.starting("SELECT")) == len(log) == 1, log.text


async def test_the_parent_may_be_expired(bases: Any, async_engine: AsyncEngine) -> None:
    m = models.family(bases)
    async with AsyncSession(async_engine) as session:  # which expires on commit
        parent = await _parent(m, session, "a")
        assert await parent.by_key_async.count() == 1


async def test_other_statements_in_a_loop_do_not_cut_it_off(bases: Any, async_session: AsyncSession) -> None:
    m = models.family(bases)
    parent = await _parent(m, async_session, *(f"key {number:04}" for number in range(1500)))
    seen = 0
    async for key in parent.by_key_async.keys():
        seen += 1
        if seen in (10, 1100):
            assert await parent.by_key_async.contains(key)
            await async_session.commit()
    assert seen == 1500
    async for _ in parent.by_key_async.values():
        break
    assert await parent.by_key_async.count() == 1500


async def test_a_transient_parent_shows_its_pending_children(bases: Any) -> None:
    m = models.family(bases)
    parent = m.Parent()
    await parent.by_key_async.set("a", m.Child(key="a"))
    assert await parent.by_key_async.count() == 1
    assert [key async for key, _ in parent.by_key_async.items()] == ["a"]


async def test_bad_input_is_refused_and_nothing_is_pending(bases: Any, async_session: AsyncSession) -> None:
    m = models.family(bases, unique=False)
    parent = await _parent(m, async_session, "a")
    children = parent.by_key_async
    with pytest.raises(KeyMismatchError, match=r"Parent\.by_key_async cannot hold .* under 'b'"):
        await children.set("b", m.Child(key="a"))
    with pytest.raises(InvalidArgumentError, match="has members of Child, and 5 is none"):
        await children.set("b", 5)
    assert not async_session.new
    parent.children.add(m.Child(key="a"))
    with pytest.raises(DuplicateKeyError):
        await children.get("a")
    await async_session.rollback()
    async_session.expunge_all()
    with pytest.raises(StateError, match="is detached"):
        await children.count()
