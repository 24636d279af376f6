"""What each strategy costs in statements: the table in docs/patterns/generic_associations.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, selectinload

from ._models import STRATEGIES, map_models

#: insert a parent with a child; read the children of a parent; read the parent of a child, lazily; give the child to
#: another parent of the class, both of them loaded; delete a parent, unloaded, with its child.
COSTS = {
    "table_per_association": (3, 1, (1, 2), 2, 4),
    "discriminator": (3, 1, (2, 2), 1, 5),
    "table_per_related": (2, 1, (1, 1), 1, 3),
    "generic_foreign_key": (2, 1, (1, 1), 1, 3),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_operation_costs_what_the_page_says(
    strategy: str, plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    models = map_models(strategy, plain_bases())
    models.metadata.create_all(engine)

    def cost(action: Callable[[], object]) -> int:
        with statements() as log:
            action()
        return len(log)

    customer, supplier, other = models.Customer(), models.Supplier(), models.Customer()
    for parent in (customer, supplier):
        parent.addresses.append(models.child(parent))
    session.add(customer)
    inserted = cost(session.flush)
    session.add_all([supplier, other])
    session.commit()
    keys = [(type(parent.addresses[0]), parent.addresses[0].id) for parent in (customer, supplier)]
    customer_id, other_id = customer.id, other.id

    session.expunge_all()
    customer = session.get(models.Customer, customer_id)
    children = cost(lambda: customer.addresses)

    lazily = list[int]()
    for cls, key in keys:
        session.expunge_all()
        child = session.get(cls, key)
        lazily.append(cost(lambda: child.parent))  # noqa: B023

    session.expunge_all()
    options = [selectinload(models.Customer.addresses)]
    customer, other = (session.get(models.Customer, key, options=options) for key in (customer_id, other_id))
    child = customer.addresses[0]
    assert child.parent is customer
    child.parent = other
    moved = cost(session.flush)
    child.parent = customer
    session.commit()

    session.expunge_all()
    customer = session.scalars(select(models.Customer).where(models.Customer.id == customer_id)).one()

    def delete() -> None:
        session.delete(customer)
        session.flush()

    assert (inserted, children, tuple(lazily), moved, cost(delete)) == COSTS[strategy]


def test_deleting_a_parent_costs_the_same_for_any_number_of_children(
    strategy: str, plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    models = map_models(strategy, plain_bases())
    models.metadata.create_all(engine)
    customer = models.Customer()
    customer.addresses = [models.child(customer) for _ in range(20)]
    session.add(customer)
    session.commit()
    session.expunge_all()
    customer = session.scalars(select(models.Customer)).one()
    with statements() as log:
        session.delete(customer)
        session.flush()
    assert len(log) == COSTS[strategy][-1]
