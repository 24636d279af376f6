"""The demos map upstream's models and do not repeat upstream's mistakes."""

from __future__ import annotations

from sqla_patterns.demos.associations import basic_association, dict_of_sets_with_default, proxied_association


def test_a_default_is_computed_for_each_order_not_on_import() -> None:
    default = basic_association.Order.__table__.c.placed.default
    assert default is not None
    assert default.is_callable


def test_a_given_price_of_zero_is_not_the_list_price() -> None:
    item = basic_association.Item(name="mug", cents=650)
    assert basic_association.OrderItem(item, 0).cents == 0
    assert basic_association.OrderItem(item).cents == 650


def test_rows_that_leave_their_owner_are_deleted() -> None:
    for relationship in (
        basic_association.Order.order_items,
        proxied_association.Order.order_items,
        dict_of_sets_with_default.A.associations,
        dict_of_sets_with_default.B.elements,
    ):
        assert relationship.property.cascade.delete_orphan
