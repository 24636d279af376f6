"""How association objects are made, and that nothing is left of them when that fails."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from sqla_patterns.exceptions import InvalidArgumentError, KeyMismatchError, PatternError

from . import _models as models


def _saved(m: Any, engine: Engine, session: Session, *names: str) -> list[Any]:
    m.Base.metadata.create_all(engine)
    items = [m.Item(name=name) for name in names]
    session.add_all(items)
    session.commit()
    return items


def test_the_association_class_is_called_by_keyword(bases: Any, engine: Engine, session: Session) -> None:
    m = models.shop(bases)  # whose dataclass takes item as a keyword only, which a call by position would not reach
    (mug,) = _saved(m, engine, session, "mug")
    order = m.Order()
    order.items.append(mug)
    session.add(order)
    session.commit()
    assert order.order_items[0].item is mug


def test_a_creator_takes_the_member(bases: Any, engine: Engine, session: Session) -> None:
    m = models.shop(bases, creator=lambda item: m.OrderItem(item=item, price=len(item.name)))
    items = _saved(m, engine, session, "mug", "shirt")
    order = m.Order()
    order.items = items
    assert [row.price for row in order.order_items] == [3, 5]


def test_a_price_of_zero_is_a_price(bases: Any, engine: Engine, session: Session) -> None:
    # Upstream's "price or item.price" makes the list price of it.
    m = models.shop(bases, creator=lambda item: m.OrderItem(item=item, price=0))
    (mug,) = _saved(m, engine, session, "mug")
    order = m.Order()
    order.items = [mug]
    session.add(order)
    session.commit()
    assert order.order_items[0].price == 0


def _attaching(m: Any) -> Any:
    def create(owner: Any, item: Any) -> Any:
        row = m().OrderItem(item=item, price=owner.id or 5)
        row.order = owner
        return row

    return create


@pytest.mark.parametrize("attaches", [False, True])
def test_an_owner_creator_takes_the_owner_and_may_attach_the_row(
    bases: Any, engine: Engine, session: Session, attaches: bool
) -> None:
    plain: Any = lambda owner, item: m.OrderItem(item=item, price=owner.id or 5)  # noqa: E731
    m = models.shop(bases, owner_creator=_attaching(lambda: m) if attaches else plain)
    mug, hat, cap, shirt = _saved(m, engine, session, "mug", "hat", "cap", "shirt")
    order = m.Order()
    order.items = [mug]
    order.items.append(hat)
    order.items.insert(0, cap)
    assert [row.item for row in order.order_items] == [cap, mug, hat]
    order.items.extend([shirt])
    order.items = [shirt, hat, cap, mug]
    assert [row.item for row in order.order_items] == [shirt, hat, cap, mug]
    assert {row.price for row in order.order_items} == {5}
    session.add(order)
    session.commit()
    assert len(order.items) == 4


def test_an_owner_creator_of_a_set_and_of_a_dictionary(bases: Any, engine: Engine, session: Session) -> None:
    tagged = models.tagged(bases, owner_creator=lambda post, word: tagged.Tag(word=word, votes=post.id))
    tagged.Base.metadata.create_all(engine)
    post = tagged.Post()
    session.add(post)
    session.flush()
    post.words = {"a"}
    assert {tag.votes for tag in post.tags} == {post.id}
    noted = models.noted(bases, owner_creator=lambda item, key, text: noted.Note(keyword=key, text=f"{key} {text}"))
    item = noted.Item()
    item.notes["a"] = "b"
    assert item.notes == {"a": "a b"}


def test_a_creator_that_fails_leaves_nothing_behind(bases: Any, engine: Engine, session: Session) -> None:
    def create(owner: Any, item: Any) -> Any:
        if item.name == "hat":
            raise ZeroDivisionError
        row = m.OrderItem(item=item)
        row.order = owner
        session.add(row)
        return row

    m = models.shop(bases, owner_creator=create)
    mug, hat, cap = _saved(m, engine, session, "mug", "hat", "cap")
    order = m.Order()
    session.add(order)
    order.items = [cap]
    session.commit()
    with session.no_autoflush:
        for attempt in (lambda: order.items.extend([mug, hat]), lambda: setattr(order, "items", [mug, cap, hat])):
            with pytest.raises(ZeroDivisionError):
                attempt()
            assert order.items == [cap]
            assert mug.order_items == []
            assert not session.new
    order.items.append(mug)
    session.commit()
    assert len(order.items) == 2


def test_a_creator_of_something_else_is_refused(bases: Any, engine: Engine, session: Session) -> None:
    m = models.shop(bases, creator=lambda item: item)
    (mug,) = _saved(m, engine, session, "mug")
    order = m.Order()
    session.add(order)
    with pytest.raises(InvalidArgumentError, match=r"creator of Order\.items returned .*; it must return a OrderItem"):
        order.items.append(mug)
    assert order.order_items == []
    assert mug in session


def test_a_creator_of_another_key_is_refused_and_nothing_is_pending(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.noted(bases, creator=lambda key, text: m.Note(keyword=key.upper(), text=text))
    m.Base.metadata.create_all(engine)
    item = m.Item()
    item.notes["A"] = "fine"
    session.add(item)
    session.commit()
    message = r"creator of Item\.notes was asked for key 'a' and made a Note whose 'keyword' is 'A'"
    for attempt in (
        lambda: item.notes.__setitem__("a", "x"),
        lambda: item.notes.update({"B": "fine", "a": "x"}),
        lambda: setattr(item, "notes", {"a": "x"}),
        lambda: item.notes.setdefault("a", "x"),
    ):
        with pytest.raises(KeyMismatchError, match=message) as caught:
            attempt()
        assert isinstance(caught.value, PatternError | ArgumentError)
        assert isinstance(caught.value, ValueError)
    assert item.notes == {"A": "fine"}
    assert not session.new
    assert not session.dirty


def test_a_dataclass_takes_the_members_in_its_constructor(engine: Engine, session: Session) -> None:
    from tests.conftest import BaseFactory

    factory = BaseFactory("dataclass")
    m = models.annotated(factory)
    m.Base.metadata.create_all(engine)
    assert m.Post().words == set()
    post = m.Post(words={"a", "b"})
    session.add(post)
    session.commit()
    assert post.words == {"a", "b"}
    factory.dispose()


def test_a_plain_class_takes_the_members_in_its_constructor(plain_bases: Any) -> None:
    post = models.tagged(plain_bases).Post(words={"a"})
    assert post.words == {"a"}
