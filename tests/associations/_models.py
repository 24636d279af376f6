"""Mappings for the tests, on any declarative base. No postponed annotations: these classes are local to functions."""

from types import SimpleNamespace
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.ext.associationproxy import AssociationProxy
from sqlalchemy.ext.orderinglist import ordering_list
from sqlalchemy.orm import Mapped, attribute_keyed_dict, mapped_column, relationship

from sqla_patterns.associations import (
    GenDefaultCollection,
    gen_default_collection,
    proxied_dict,
    proxied_list,
    proxied_set,
)


def fields(bases: Any) -> tuple[Any, Any]:
    """Return ``mapped_column`` and ``relationship`` that drop, on a plain base, what only a dataclass base takes."""

    def fitting(function: Any) -> Any:
        def make(*args: Any, **kw: Any) -> Any:
            if bases.kind != "dataclass":
                kw = {key: value for key, value in kw.items() if key not in {"init", "kw_only"}}
            return function(*args, **kw)

        return make

    return fitting(mapped_column), fitting(relationship)


def shop(bases: Any, *, surrogate: bool = False, **proxy: Any) -> Any:
    """Map orders with items at a price; the key is (order, item), or with `surrogate` an item may come twice."""
    Base = bases()
    column, related = fields(bases)

    class Order(Base):
        __tablename__ = "shop_order"
        id: Mapped[int] = column(primary_key=True, init=False)
        order_items: Mapped[list["OrderItem"]] = related(
            back_populates="order", cascade="all, delete-orphan", order_by="OrderItem.position", init=False
        )
        items = proxied_list("order_items", lambda: OrderItem.item, **proxy)

    class Item(Base):
        __tablename__ = "shop_item"
        id: Mapped[int] = column(primary_key=True, init=False)
        name: Mapped[str] = column(String(20))
        order_items: Mapped[list["OrderItem"]] = related(back_populates="item", init=False)

    class OrderItem(Base):
        __tablename__ = "shop_order_item"
        if surrogate:
            id: Mapped[int] = column(primary_key=True, init=False)
        order_id: Mapped[int] = column(ForeignKey("shop_order.id"), primary_key=not surrogate, init=False)
        item_id: Mapped[int] = column(ForeignKey("shop_item.id"), primary_key=not surrogate, init=False)
        order: Mapped[Order] = related(back_populates="order_items", init=False)
        item: Mapped[Item] = related(back_populates="order_items", kw_only=True)
        price: Mapped[int] = column(default=1, kw_only=True)
        position: Mapped[int] = column(default=0, kw_only=True)

    return SimpleNamespace(Base=Base, Order=Order, Item=Item, OrderItem=OrderItem)


def tagged(bases: Any, **proxy: Any) -> Any:
    """Map posts with a set of words, which are columns of the association object."""
    Base = bases()
    column, related = fields(bases)

    class Post(Base):
        __tablename__ = "post"
        id: Mapped[int] = column(primary_key=True, init=False)
        tags: Mapped[set["Tag"]] = related(cascade="all, delete-orphan", init=False)
        words = proxied_set("tags", lambda: Tag.word, **proxy)

    class Tag(Base, **({"unsafe_hash": True} if bases.kind == "dataclass" else {})):
        __tablename__ = "tag"
        __table_args__ = (UniqueConstraint("post_id", "word"),)
        id: Mapped[int] = column(primary_key=True, init=False)
        post_id: Mapped[int] = column(ForeignKey("post.id"), init=False)
        word: Mapped[str] = column(String(20), kw_only=True)
        votes: Mapped[int] = column(default=0, kw_only=True)

    return SimpleNamespace(Base=Base, Post=Post, Tag=Tag)


def noted(bases: Any, **proxy: Any) -> Any:
    """Map items with notes by keyword."""
    Base = bases()
    column, related = fields(bases)

    class Item(Base):
        __tablename__ = "noted_item"
        id: Mapped[int] = column(primary_key=True, init=False)
        note_rows: Mapped[dict[str, "Note"]] = related(
            collection_class=attribute_keyed_dict("keyword"), cascade="all, delete-orphan", init=False
        )
        notes = proxied_dict("note_rows", lambda: Note.keyword, lambda: Note.text, **proxy)

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = column(primary_key=True, init=False)
        item_id: Mapped[int] = column(ForeignKey("noted_item.id"), init=False)
        keyword: Mapped[str] = column(String(20), kw_only=True)
        text: Mapped[str] = column(String(50), kw_only=True)
        stars: Mapped[int] = column(default=0, kw_only=True)

    return SimpleNamespace(Base=Base, Item=Item, Note=Note)


def numbered(bases: Any, *, factory: Any = None) -> Any:
    """Map a dictionary of sets of numbers, with a default."""
    Base = bases()
    column, related = fields(bases)
    options: dict[str, Any] = {"unsafe_hash": True} if bases.kind == "dataclass" else {}

    class A(Base):
        __tablename__ = "a"
        id: Mapped[int] = column(primary_key=True, init=False)
        associations: Mapped[GenDefaultCollection[str, "B"]] = related(
            collection_class=gen_default_collection(lambda: B.key, factory or (lambda key: B(key=key))),
            cascade="all, delete-orphan",
            init=False,
        )
        collections = proxied_dict("associations", lambda: B.key, lambda: B.values)

    class B(Base):
        __tablename__ = "b"
        id: Mapped[int] = column(primary_key=True, init=False)
        a_id: Mapped[int] = column(ForeignKey("a.id"), init=False)
        key: Mapped[str] = column(String(20), kw_only=True)
        elements: Mapped[set["C"]] = related(cascade="all, delete-orphan", init=False)
        values = proxied_set("elements", lambda: C.value)
        if bases.kind == "dataclass":
            # A proxy without an annotation is no field of a dataclass.
            def __init__(self, *, key: str, values: Any = ()) -> None:
                self.key = key
                self.values = values

    class C(Base, **options):
        __tablename__ = "c"
        id: Mapped[int] = column(primary_key=True, init=False)
        b_id: Mapped[int] = column(ForeignKey("b.id"), init=False)
        value: Mapped[int] = column(kw_only=True)

    return SimpleNamespace(Base=Base, A=A, B=B, C=C)


def playlist(bases: Any) -> Any:
    """Map songs in an order that a column keeps."""
    Base = bases()

    class Playlist(Base):
        __tablename__ = "playlist"
        id: Mapped[int] = mapped_column(primary_key=True)
        entries: Mapped[list["Entry"]] = relationship(
            order_by="Entry.position", collection_class=ordering_list("position"), cascade="all, delete-orphan"
        )
        songs = proxied_list("entries", lambda: Entry.song)

    class Entry(Base):
        __tablename__ = "entry"
        id: Mapped[int] = mapped_column(primary_key=True)
        playlist_id: Mapped[int] = mapped_column(ForeignKey("playlist.id"))
        position: Mapped[int | None]
        song: Mapped[str] = mapped_column(String(20))

    return SimpleNamespace(Base=Base, Playlist=Playlist, Entry=Entry)


def annotated(bases: Any) -> Any:
    """Map a dataclass whose constructor takes the members, because the proxy is annotated."""
    Base = bases()

    class Post(Base):
        __tablename__ = "annotated_post"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        tags: Mapped[set["Tag"]] = relationship(cascade="all, delete-orphan", init=False)
        words: AssociationProxy[set[str]] = proxied_set("tags", lambda: Tag.word, init=True, default_factory=set)

    class Tag(Base, unsafe_hash=True):
        __tablename__ = "annotated_tag"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        post_id: Mapped[int] = mapped_column(ForeignKey("annotated_post.id"), init=False)
        word: Mapped[str] = mapped_column(String(20))

    return SimpleNamespace(Base=Base, Post=Post, Tag=Tag)
