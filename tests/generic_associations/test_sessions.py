"""Sessions of every kind, and bases that refuse ``setattr``."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from ._models import Models, map_models


@pytest.fixture
def models(strategy: str, plain_bases: Any, file_engine: Engine) -> Models:
    made = map_models(strategy, plain_bases())
    made.metadata.create_all(file_engine)
    return made


def test_a_scoped_session_does(models: Models, file_engine: Engine) -> None:
    session = scoped_session(sessionmaker(file_engine))
    first, second = models.Customer(), models.Customer()
    first.addresses.extend([models.child(first, "Elm"), models.child(first, "Oak")])
    session.add_all([first, second])
    session.commit()
    elm, oak = first.addresses
    elm.parent = second
    oak.parent = None
    session.commit()
    assert (first.addresses, second.addresses) == ([], [elm])
    session.remove()


def test_deleting_the_attribute_takes_the_child_away(models: Models, file_engine: Engine) -> None:
    with Session(file_engine) as session:
        customer = models.Customer()
        customer.addresses.append(models.child(customer, "Elm"))
        session.add(customer)
        session.commit()
        del customer.addresses[0].parent
        session.commit()
        assert customer.addresses == []


async def test_the_parent_of_one_child_is_awaited(models: Models, async_session: AsyncSession) -> None:
    customer = models.Customer()
    customer.addresses.append(models.child(customer, "Elm"))
    async_session.add(customer)
    await async_session.commit()
    async_session.expunge_all()
    child = (await async_session.scalars(select(models.child_class(models.Customer)))).one()
    assert (await async_session.run_sync(lambda _: child.parent)).id == customer.id
