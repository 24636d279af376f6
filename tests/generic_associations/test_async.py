"""Under asyncio: what has been flushed or loaded eagerly is read without a statement."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from ._models import Models, map_models


@pytest.fixture
def models(strategy: str, bases: Any, file_engine: Engine) -> Models:
    made = map_models(strategy, bases())
    made.metadata.create_all(file_engine)
    return made


async def test_nothing_is_left_to_load_after_a_flush(models: Models, async_session: AsyncSession) -> None:
    customer, fresh = models.Customer(), models.Supplier()
    first, second = models.child(customer, "Elm"), models.child(customer, "Oak")
    customer.addresses.append(first)
    second.parent = customer
    async_session.add_all([customer, fresh])
    await async_session.flush()
    assert first.parent is second.parent is customer
    assert customer.addresses == [first, second]
    assert fresh.addresses == []
    await async_session.commit()
    assert (first.parent, second.parent, len(customer.addresses)) == (customer, customer, 2)


async def test_a_child_without_a_parent_reads_none_after_a_flush(
    strategy: str, plain_bases: Any, file_engine: Engine, async_session: AsyncSession
) -> None:
    models = map_models(strategy, plain_bases(), cascade="all")
    models.metadata.create_all(file_engine)
    child = models.child(models.Customer)
    async_session.add(child)
    await async_session.flush()
    assert child.parent is None


async def test_a_parent_can_be_given_after_the_children_are_loaded(models: Models, async_session: AsyncSession) -> None:
    customer = models.Customer()
    customer.addresses.append(models.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    async_session.expunge_all()
    cls = models.child_class(models.Customer)
    child = (await async_session.scalars(select(cls).options(cls.parent.selectinload()))).one()
    assert isinstance(child.parent, models.Customer)
    other = models.Customer()
    child.parent = other
    await async_session.commit()
    assert child.parent is other
    assert other.addresses == [child]


async def test_a_removed_child_is_deleted(models: Models, async_session: AsyncSession) -> None:
    customer = models.Customer()
    customer.addresses.append(models.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    customer.addresses.clear()
    await async_session.commit()
    cls = models.child_class(models.Customer)
    assert (await async_session.scalars(select(cls))).all() == []


async def test_a_deleted_parent_takes_its_children_along(models: Models, async_session: AsyncSession) -> None:
    customer = models.Customer()
    customer.addresses.append(models.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    async_session.expunge_all()
    loaded = (await async_session.scalars(select(models.Customer))).one()
    await async_session.delete(loaded)
    await async_session.commit()
    cls = models.child_class(models.Customer)
    assert (await async_session.scalars(select(cls))).all() == []


async def test_children_loaded_with_their_parent_know_it(models: Models, async_session: AsyncSession) -> None:
    customer = models.Customer()
    customer.addresses.append(models.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    async_session.expunge_all()
    cls = models.child_class(models.Customer)
    option = selectinload(models.Customer.addresses).options(cls.parent.selectinload())
    loaded = (await async_session.scalars(select(models.Customer).options(option))).one()
    assert loaded.addresses[0].parent is loaded
