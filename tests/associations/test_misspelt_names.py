"""The error names an attribute that is misspelt in a user's function, whichever access raises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, Integer, String
from sqlalchemy.orm import mapped_column, relationship

from sqla_patterns.associations import gen_default_collection, proxied_dict, proxied_list
from sqla_patterns.exceptions import InvalidArgumentError


def mapped(Base: Any) -> Any:
    class Row(Base):
        __tablename__ = "row"
        id = mapped_column(Integer, primary_key=True)
        order_id = mapped_column(ForeignKey("order.id"))
        item = mapped_column(String(20))

    class Order(Base):
        __tablename__ = "order"
        id = mapped_column(Integer, primary_key=True)
        rows = relationship(Row)
        items = proxied_list("rows", lambda: Row.itm)
        notes = proxied_dict("rows", lambda: Row.itm, lambda: Row.item)

    return Order


WAYS: dict[str, Callable[[Any], object]] = {
    "the constructor": lambda Order: Order(items=["x"]),
    "the class": lambda Order: Order.items,
    "hasattr": lambda Order: hasattr(Order, "items"),
    "the object": lambda Order: Order().items,
    "an assignment": lambda Order: setattr(Order(), "items", []),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_misspelt_member_is_named(plain_bases: Any, way: str) -> None:
    Order = mapped(plain_bases())
    with pytest.raises(InvalidArgumentError, match=r"^Order\.items was given a function .*'itm'"):
        WAYS[way](Order)


@pytest.mark.parametrize("way", WAYS)
def test_a_misspelt_relationship_is_named(plain_bases: Any, way: str) -> None:
    Base = plain_bases()

    class Row(Base):
        __tablename__ = "row"
        id = mapped_column(Integer, primary_key=True)
        item = mapped_column(String(20))
        items = proxied_list("rowz", lambda: Row.item)

    with pytest.raises(InvalidArgumentError, match=r"^Row\.items goes through 'rowz', which is no relationship of Row"):
        WAYS[way](Row)


def test_a_misspelt_key_is_named(plain_bases: Any) -> None:
    Order = mapped(plain_bases())
    with pytest.raises(InvalidArgumentError, match=r"^Order\.notes was given a function .*'itm'"):
        _ = Order().notes


def test_a_misspelt_key_of_a_collection_with_a_default_is_named(plain_bases: Any) -> None:
    Base = plain_bases()

    class Keyed(Base):
        __tablename__ = "keyed"
        id = mapped_column(Integer, primary_key=True)
        rows = relationship(
            lambda: Text, collection_class=gen_default_collection(lambda: Text.keey, lambda key: Text(key=key))
        )

    class Text(Base):
        __tablename__ = "text"
        id = mapped_column(Integer, primary_key=True)
        keyed_id = mapped_column(ForeignKey("keyed.id"))
        key = mapped_column(String(20))

    with pytest.raises(InvalidArgumentError, match=r"^gen_default_collection\(\) was given a function .*'keey'"):
        _ = Keyed().rows
