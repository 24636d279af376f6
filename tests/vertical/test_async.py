"""Under asyncio: reading what is loaded and writing need no await, and a flush leaves nothing to load."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import selectinload

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.vertical import MissingKeyError, VerticalSchema, load_vertical
from tests.vertical import _models as models


@pytest.fixture(params=["typed", "plain"])
def m(request: pytest.FixtureRequest, bases: Any) -> models.Zoo:
    return models.zoo(bases, plain=request.param == "plain", lazy="selectin")


async def _animal(m: models.Zoo, engine: AsyncEngine, session: AsyncSession) -> Any:
    async with engine.begin() as connection:
        await connection.run_sync(m.Base.metadata.create_all)
    animal = m.Animal()
    animal.attrs = m.facts()
    session.add(animal)
    await session.commit()
    return animal


async def test_values_are_read_and_written_without_await(
    m: models.Zoo, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    animal = await _animal(m, async_engine, async_session)
    assert animal.attrs == m.facts()
    animal.attrs["a"] = m.values[3]
    animal.attrs["new"] = m.values[0]
    del animal.attrs["b"]
    await async_session.commit()
    expected = {"a": m.values[3], "c": m.values[2], "d": m.values[3], "new": m.values[0]}
    assert animal.attrs == expected
    async with AsyncSession(async_engine) as other:
        found = (await other.scalars(select(m.Animal))).one()
        assert found.attrs == expected


async def test_a_flush_leaves_nothing_expired(
    m: models.Zoo, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    animal = await _animal(m, async_engine, async_session)
    for value in m.values:
        animal.attrs.update(a=value, new=value)
        await async_session.flush()
        assert [inspect(row).unloaded for row in animal.facts.values()] == [set()] * 5
        assert animal.attrs["a"] == animal.attrs["new"] == value


async def test_conditions_are_as_ever(m: models.Zoo, async_engine: AsyncEngine, async_session: AsyncSession) -> None:
    animal = await _animal(m, async_engine, async_session)
    query = select(m.Animal).where(m.Animal.attrs["a"] == m.values[0], m.Animal.attrs["c"].is_(None))
    assert (await async_session.scalars(query)).all() == [animal]


async def test_load_vertical_goes_through_run_sync(
    m: models.Zoo, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    animal = await _animal(m, async_engine, async_session)
    found = await async_session.run_sync(load_vertical, m.Animal.attrs, [animal.id])
    assert found == {animal.id: m.facts()}


async def test_load_vertical_shows_what_to_write(plain_bases: Any, async_session: AsyncSession) -> None:
    attrs = models.zoo(plain_bases).Animal.attrs
    with pytest.raises(InvalidArgumentError, match=r"await session\.run_sync\(load_vertical, \.\.\.\)"):
        load_vertical(async_session, attrs, [1])  # type: ignore[arg-type]


async def test_values_are_loaded_by_an_option(
    plain_bases: Any, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    m = models.zoo(plain_bases)
    await _animal(m, async_engine, async_session)
    async with AsyncSession(async_engine) as other:
        found = (await other.scalars(select(m.Animal).options(selectinload(m.Animal.facts)))).one()
        assert found.attrs == m.facts()


async def test_required_keys_are_checked(
    plain_bases: Any, async_engine: AsyncEngine, async_session: AsyncSession
) -> None:
    m = models.zoo(plain_bases, schema=VerticalSchema(dict.fromkeys("abcd", int | str | bool | None), required=("a",)))
    animal = await _animal(m, async_engine, async_session)
    del animal.attrs["a"]
    with pytest.raises(MissingKeyError):
        await async_session.flush()
    await async_session.rollback()
