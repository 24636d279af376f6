"""Criteria that the proxies make in SQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.associationproxy import AssociationProxyInstance, association_proxy
from sqlalchemy.orm import Session, aliased

from . import _models as models


@pytest.fixture
def numbers(bases: Any, engine: Engine, session: Session) -> Any:
    m = models.numbered(bases)
    m.Base.metadata.create_all(engine)
    for collections in ({"x": {2}}, {"x": {12, 20}}, {}):
        a = m.A()
        a.collections = collections
        session.add(a)
    session.commit()
    return m


def _ids(session: Session, statement: Any) -> list[int]:
    return sorted(each.id for each in session.scalars(statement))


def test_a_nested_contains_compares_by_equality(numbers: Any, session: Session) -> None:
    # Upstream's is a LIKE, which finds 12 and 20 as well, and on SQLAlchemy 2.1 a deprecation warning.
    m = numbers
    assert len(_ids(session, select(m.A).where(m.A.collections.contains(2)))) == 1
    assert len(_ids(session, select(m.A).where(~m.A.collections.contains(2)))) == 2
    assert len(_ids(session, select(m.B).where(m.B.values.contains(2)))) == 1
    assert "LIKE" not in str(select(m.A).where(m.A.collections.contains(2)))


def test_a_nested_contains_compares_by_equality_over_a_proxy_of_sqlalchemys_too(numbers: Any, session: Session) -> None:
    from sqla_patterns.associations import proxied_dict

    m = numbers
    m.B.stock = association_proxy("elements", "value")
    m.A.over_stock = proxied_dict("associations", lambda: m.B.key, lambda: m.B.stock)
    assert len(_ids(session, select(m.A).where(m.A.over_stock.contains(2)))) == 1
    m.A.stock = association_proxy("associations", "values")
    assert len(_ids(session, select(m.A).where(m.A.stock.contains(2)))) == 1


def test_the_other_operators_are_sqlalchemys(numbers: Any, session: Session) -> None:
    m = numbers
    assert len(_ids(session, select(m.B).where(m.B.values > 15))) == 1
    assert len(_ids(session, select(m.B).where(m.B.values.in_([2, 20])))) == 2
    assert len(_ids(session, select(m.A).where(m.A.collections.any()))) == 2
    assert len(_ids(session, select(m.A).where(m.A.collections.any(m.C.value > 15)))) == 1
    assert len(_ids(session, select(m.A).where(m.A.associations.any(m.B.values == 20)))) == 1


def test_an_object_is_contained_by_its_key(bases: Any, engine: Engine, session: Session) -> None:
    m = models.shop(bases)
    m.Base.metadata.create_all(engine)
    mug, hat = m.Item(name="mug"), m.Item(name="hat")
    order, empty = m.Order(), m.Order()
    order.items = [mug]
    session.add_all([order, empty, hat])
    session.commit()
    assert session.scalars(select(m.Order).where(m.Order.items.contains(mug))).all() == [order]
    assert session.scalars(select(m.Order).where(m.Order.items.contains(hat))).all() == []
    assert session.scalars(select(m.Order).where(m.Order.items.any(name="mug"))).all() == [order]
    assert session.scalars(select(m.Order).join(m.Order.items.local_attr).join(m.Order.items.remote_attr)).all() == [
        order
    ]


def test_an_alias_means_the_alias(numbers: Any, session: Session) -> None:
    # SQLAlchemy 2.0 compares the rows of the class itself here, 2.1 where members are columns.
    m = numbers
    for entity, criterion in (
        (one := aliased(m.A), one.collections.contains(2)),
        (one := aliased(m.B), one.values.contains(2)),
        (one := aliased(m.B), one.values == 2),
        (one := aliased(m.B), one.values.any(m.C.value == 2)),
        (one := aliased(m.B), one.values < 3),
    ):
        statement = select(entity).where(criterion)
        assert len(statement.get_final_froms()) == 1
        assert len(_ids(session, statement)) == 1, statement


def test_the_class_level_proxy_is_sqlalchemys_kind(plain_bases: Any) -> None:
    m = models.shop(plain_bases)
    assert isinstance(m.Order.items, AssociationProxyInstance)
    descriptor = m.Order.__mapper__.all_orm_descriptors["items"]
    assert descriptor.for_class(m.Order).target_class is m.OrderItem
    assert m.Order.items.remote_attr is m.OrderItem.item
