"""What checkers infer of proxies of association objects, without an annotation by the user."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.associationproxy import AssociationProxy, AssociationProxyInstance
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, attribute_keyed_dict, mapped_column, relationship

from sqla_patterns.associations import (
    GenDefaultCollection,
    gen_default_collection,
    proxied_dict,
    proxied_list,
    proxied_set,
)


class Base(DeclarativeBase):
    pass


def make(order: Order, item: Item) -> OrderItem:
    return OrderItem(order_id=order.id, item=item)


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_items: Mapped[list[OrderItem]] = relationship()
    items = proxied_list("order_items", lambda: OrderItem.item)
    made = proxied_list(
        "order_items", lambda: OrderItem.item, creator=lambda item: OrderItem(item=item, price=item.price)
    )
    owned = proxied_list("order_items", lambda: OrderItem.item, owner_creator=lambda order, item: order.make(item))
    by_function = proxied_list("order_items", lambda: OrderItem.item, owner_creator=make)
    replaced = proxied_list("order_items", lambda: OrderItem.item, on_reassign="replace")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[float]
    note_rows: Mapped[dict[str, Note]] = relationship(collection_class=attribute_keyed_dict("keyword"))
    notes = proxied_dict("note_rows", lambda: Note.keyword, lambda: Note.text)
    notes_made = proxied_dict(
        "note_rows",
        lambda: Note.keyword,
        lambda: Note.text,
        creator=lambda key, text: Note(keyword=key, text=text.upper()),
    )


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    keyword: Mapped[str]
    text: Mapped[str]


class OrderItem(Base):
    __tablename__ = "order_item"
    order_id: Mapped[int] = mapped_column(ForeignKey("order.id"), primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    price: Mapped[float]
    item: Mapped[Item] = relationship()


# A proxy of a proxy: the inner one comes first, because mypy infers an attribute without an annotation in file order.
class C(Base):
    __tablename__ = "c"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class B(Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]
    elements: Mapped[set[C]] = relationship()
    values = proxied_set("elements", lambda: C.value)


class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
    associations: Mapped[GenDefaultCollection[str, B]] = relationship(
        collection_class=gen_default_collection(lambda: B.key, lambda key: B(key=key.lower()))
    )
    collections = proxied_dict("associations", lambda: B.key, lambda: B.values)


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Post(DataBase):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    tags: Mapped[set[Tag]] = relationship(init=False)
    words: AssociationProxy[set[str]] = proxied_set("tags", lambda: Tag.word, init=True, default_factory=set)
    unannotated = proxied_set("tags", lambda: Tag.word)


class Tag(DataBase):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    word: Mapped[str]


def lists(order: Order, item: Item) -> None:
    assert_type(order.items, list[Item])
    assert_type(order.made, list[Item])
    assert_type(order.owned, list[Item])
    assert_type(order.by_function, list[Item])
    assert_type(order.replaced[0].price, float)
    assert_type(Order.items, AssociationProxyInstance[list[Item]])
    order.items = [item]
    order.items += [item]
    order.items.append(item)
    select(Order).where(Order.items.contains(item), Order.items.any(Item.price > 3))


def dictionaries(item: Item, a: A) -> None:
    assert_type(item.notes, dict[str, str])
    assert_type(item.notes_made, dict[str, str])
    assert_type(Item.notes, AssociationProxyInstance[dict[str, str]])
    item.notes = {"use": "daily"}
    assert_type(a.associations, GenDefaultCollection[str, B])
    assert_type(a.associations["x"], B)
    assert_type(a.collections, dict[str, set[int]])
    assert_type(a.collections["x"], set[int])
    assert_type(A.collections, AssociationProxyInstance[dict[str, set[int]]])
    a.collections = {"x": {1, 2}}
    select(A).where(A.collections.contains(2))


def sets(b: B, post: Post) -> None:
    assert_type(b.values, set[int])
    assert_type(post.words, set[str])
    assert_type(post.unannotated, set[str])
    Post(words={"a"})
    b.values = {1}
    b.values |= {2}
