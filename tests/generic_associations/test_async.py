"""Under asyncio: what has been flushed can be read, and what is loaded eagerly asks for nothing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from ._models import Story, tell


@pytest.fixture
def story(strategy: str, bases: Any, file_engine: Engine) -> Story:
    made = tell(strategy, bases())
    made.metadata.create_all(file_engine)
    return made


async def test_nothing_is_left_to_load_after_a_flush(story: Story, async_session: AsyncSession) -> None:
    customer, fresh = story.Customer(), story.Supplier()
    first, second = story.child(customer, "Elm"), story.child(customer, "Oak")
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
    story = tell(strategy, plain_bases(), cascade="all")
    story.metadata.create_all(file_engine)
    child = story.child(story.Customer)
    async_session.add(child)
    await async_session.flush()
    assert child.parent is None


async def test_a_parent_can_be_given_after_the_children_are_loaded(story: Story, async_session: AsyncSession) -> None:
    customer = story.Customer()
    customer.addresses.append(story.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    async_session.expunge_all()
    cls = story.child_class(story.Customer)
    child = (await async_session.scalars(select(cls).options(cls.parent.selectinload()))).one()
    assert isinstance(child.parent, story.Customer)
    other = story.Customer()
    child.parent = other
    await async_session.commit()
    assert child.parent is other
    assert other.addresses == [child]


async def test_a_removed_child_is_deleted(story: Story, async_session: AsyncSession) -> None:
    customer = story.Customer()
    customer.addresses.append(story.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    customer.addresses.clear()
    await async_session.commit()
    cls = story.child_class(story.Customer)
    assert (await async_session.scalars(select(cls))).all() == []


async def test_a_deleted_parent_takes_its_children_along(story: Story, async_session: AsyncSession) -> None:
    customer = story.Customer()
    customer.addresses.append(story.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    async_session.expunge_all()
    loaded = (await async_session.scalars(select(story.Customer))).one()
    await async_session.delete(loaded)
    await async_session.commit()
    cls = story.child_class(story.Customer)
    assert (await async_session.scalars(select(cls))).all() == []


async def test_children_loaded_with_their_parent_know_it(story: Story, async_session: AsyncSession) -> None:
    customer = story.Customer()
    customer.addresses.append(story.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    async_session.expunge_all()
    cls = story.child_class(story.Customer)
    option = selectinload(story.Customer.addresses).options(cls.parent.selectinload())
    loaded = (await async_session.scalars(select(story.Customer).options(option))).one()
    assert loaded.addresses[0].parent is loaded
