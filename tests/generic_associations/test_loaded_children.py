"""Children that came with their parent's collection hold their parent without a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, joinedload, lazyload, raiseload, selectinload, subqueryload

from ._models import STRATEGIES, Models, map_models

LOADERS: dict[str, Any] = {
    "lazy": lazyload, "selectin": selectinload, "joined": joinedload, "subquery": subqueryload
}  # fmt: skip


@pytest.fixture(params=STRATEGIES)
def made(request: pytest.FixtureRequest, plain_bases: Any, file_engine: Engine) -> Models:
    models = map_models(request.param, plain_bases())
    models.metadata.create_all(file_engine)
    with Session(file_engine) as session:
        for _ in range(3):
            customer = models.Customer()
            customer.addresses.extend([models.child(customer, "Elm"), models.child(customer, "Oak")])
            session.add(customer)
        session.commit()
    return models


@pytest.mark.parametrize("loader", LOADERS)
def test_children_know_the_parent_that_they_came_with(
    made: Models, file_engine: Engine, statements: Callable[..., Any], loader: str
) -> None:
    with Session(file_engine) as session:
        query = select(made.Customer).options(LOADERS[loader](made.Customer.addresses))
        customers = session.scalars(query).unique().all()
        assert [len(customer.addresses) for customer in customers] == [2, 2, 2]
        with statements() as log:
            assert all(child.parent is customer for customer in customers for child in customer.addresses)
        assert len(log) == 0


def test_children_know_their_parent_where_loading_is_forbidden(made: Models, file_engine: Engine) -> None:
    with Session(file_engine) as session:
        cls = made.child_class(made.Customer)
        option = selectinload(made.Customer.addresses).options(raiseload("*"))
        customers = session.scalars(select(made.Customer).options(option)).all()
        assert all(child.parent is customer for customer in customers for child in customer.addresses)
        assert isinstance(customers[0].addresses[0], cls)


async def test_children_know_their_parent_under_asyncio(made: Models, async_session: AsyncSession) -> None:
    query = select(made.Customer).options(selectinload(made.Customer.addresses))
    customers = (await async_session.scalars(query)).all()
    assert all(child.parent is customer for customer in customers for child in customer.addresses)


async def test_a_child_that_came_with_its_parent_can_be_given_away_under_asyncio(
    made: Models, async_session: AsyncSession
) -> None:
    query = select(made.Customer).options(selectinload(made.Customer.addresses))
    first, second, _ = (await async_session.scalars(query)).all()
    child = first.addresses[0]
    child.parent = second
    await async_session.commit()
    assert (len(first.addresses), len(second.addresses), child.parent) == (1, 3, second)


@pytest.mark.parametrize("how", ["expire", "refresh", "populate"])
def test_a_child_that_is_read_anew_has_the_parent_that_the_database_says(
    made: Models, file_engine: Engine, how: str
) -> None:
    with Session(file_engine, expire_on_commit=False) as session, Session(file_engine) as other:
        first, second, _ = session.scalars(select(made.Customer).options(selectinload(made.Customer.addresses))).all()
        child = first.addresses[0]
        session.commit()
        other.get(type(child), child.id).parent = other.get(made.Customer, second.id)
        other.commit()
        if how == "expire":
            session.expire(child)
        elif how == "refresh":
            session.refresh(child)
        else:
            query = select(type(child)).where(type(child).id == child.id)
            session.scalars(query.execution_options(populate_existing=True)).all()
        assert child.parent is second


def test_a_child_that_was_removed_does_not_know_the_parent(made: Models, file_engine: Engine) -> None:
    with Session(file_engine) as session:
        first, *_ = session.scalars(select(made.Customer).options(selectinload(made.Customer.addresses))).all()
        child = first.addresses[0]
        with session.no_autoflush:
            first.addresses.remove(child)
            assert child.parent is None
