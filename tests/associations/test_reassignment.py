"""Reassigning a proxied collection keeps the rows of the members that stay."""

from __future__ import annotations

from collections import UserList
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, Engine, ForeignKey, String, create_engine, event, select
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import Mapped, Session, attribute_keyed_dict, mapped_column, relationship

from sqla_patterns.associations import proxied_dict, proxied_list
from sqla_patterns.exceptions import DuplicateKeyError, InvalidArgumentError, PatternError

from . import _models as models


def _order(models_: Any, session: Session, *names: str, prices: tuple[int, ...] = ()) -> tuple[Any, list[Any]]:
    models_.Base.metadata.create_all(session.get_bind())
    items = [models_.Item(name=name) for name in names]
    order = models_.Order()
    order.items = items
    for position, (row, price) in enumerate(zip(order.order_items, prices, strict=True)):
        row.price, row.position = price, position
    session.add(order)
    session.commit()
    return order, items


def _prices(order: Any) -> list[tuple[str, int]]:
    return [(row.item.name, row.price) for row in order.order_items]


# -- lists ---------------------------------------------------------------------------------------


def test_assigning_the_same_list_keeps_every_price_and_writes_nothing(
    bases: Any, session: Session, statements: Any
) -> None:
    m = models.shop(bases)
    order, _ = _order(m, session, "mug", "hat", prices=(9, 7))
    order.items = list(order.items)
    with statements() as log:
        session.commit()
    assert list(log) == []
    assert _prices(order) == [("mug", 9), ("hat", 7)]


def test_sqlalchemys_own_proxy_loses_the_prices(bases: Any, session: Session) -> None:
    from sqlalchemy.ext.associationproxy import association_proxy

    m = models.shop(bases, surrogate=True)
    m.Order.stock = association_proxy("order_items", "item", creator=lambda item: m.OrderItem(item=item))
    order, _ = _order(m, session, "mug", "hat", prices=(9, 7))
    order.stock = list(order.stock)
    session.commit()
    assert sorted(_prices(order)) == [("hat", 1), ("mug", 1)]


def test_members_that_stay_keep_their_rows_in_the_new_order(bases: Any, session: Session, statements: Any) -> None:
    m = models.shop(bases)
    order, (mug, hat, cap) = _order(m, session, "mug", "hat", "cap", prices=(9, 7, 5))
    shirt = m.Item(name="shirt")
    kept = {row.item.name: row for row in order.order_items}
    collection = order.order_items
    order.items = [cap, shirt, mug]
    assert [row.item.name for row in order.order_items] == ["cap", "shirt", "mug"]
    assert order.order_items is collection  # in place: a reference that somebody holds stays valid
    assert order.order_items[0] is kept["cap"]
    assert order.order_items[2] is kept["mug"]
    with statements() as log:
        session.flush()
    assert len(log.starting("INSERT")) == 2  # the shirt and its row
    assert len(log.starting("DELETE")) == 1
    assert log.starting("UPDATE") == []
    session.commit()
    assert sorted(_prices(order)) == [("cap", 5), ("mug", 9), ("shirt", 1)]
    assert hat not in order.items


def test_rows_whose_members_are_not_in_the_session_cost_no_statement_each(
    bases: Any, session: Session, statements: Any
) -> None:
    m = models.shop(bases)
    names = [f"item {number}" for number in range(30)]
    order, items = _order(m, session, *names, prices=tuple(range(30)))
    order_id, first = order.id, items[0].id
    session.expunge_all()
    order, mug = session.get(m.Order, order_id), session.get(m.Item, first)
    with statements() as log:
        order.items = [mug]
    assert len(log) == 1, log.text  # the collection
    session.commit()
    assert _prices(order) == [("item 0", 0)]


def test_expired_members_are_known_without_loading_them(bases: Any, session: Session, statements: Any) -> None:
    m = models.shop(bases)
    order, items = _order(m, session, "mug", "hat", prices=(9, 7))
    session.expire_all()
    with statements() as log:
        order.items = items[::-1]
    assert len(log.starting("SELECT")) <= 2, log.text  # the order and its collection
    session.commit()
    assert sorted(_prices(order)) == [("hat", 7), ("mug", 9)]


def test_replace_makes_all_rows_anew(bases: Any, session: Session) -> None:
    m = models.shop(bases, surrogate=True, on_reassign="replace")
    order, _ = _order(m, session, "mug", "hat", prices=(9, 7))
    before = list(order.order_items)
    order.items = list(order.items)
    assert not {*map(id, before)} & {*map(id, order.order_items)}
    session.commit()
    assert sorted(_prices(order)) == [("hat", 1), ("mug", 1)]


def test_a_slice_keeps_the_rows_of_members_that_it_moves(bases: Any, session: Session) -> None:
    m = models.shop(bases)
    order, (mug, hat, _cap) = _order(m, session, "mug", "hat", "cap", prices=(9, 7, 5))
    order.items[0:2] = [hat, mug]
    assert _prices(order) == [("hat", 7), ("mug", 9), ("cap", 5)]
    order.items[1:] = []
    assert _prices(order) == [("hat", 7)]


def test_another_member_at_an_index_is_another_row(bases: Any, session: Session) -> None:
    m = models.shop(bases)
    order, (mug,) = _order(m, session, "mug", prices=(9,))
    row = order.order_items[0]
    order.items[0] = mug
    assert order.order_items[0] is row
    order.items[0] = m.Item(name="hat")
    assert order.order_items[0] is not row
    session.commit()
    assert _prices(order) == [("hat", 1)]


def test_sorting_and_reversing_move_rows_and_make_none(bases: Any, session: Session) -> None:
    m = models.shop(bases)
    order, _ = _order(m, session, "mug", "hat", "cap", prices=(9, 7, 5))
    order.items.sort(key=lambda item: item.name)
    assert _prices(order) == [("cap", 5), ("hat", 7), ("mug", 9)]
    order.items.reverse()
    assert _prices(order) == [("mug", 9), ("hat", 7), ("cap", 5)]
    assert not session.new


def test_an_ordering_list_counts_anew(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.playlist(plain_bases)
    m.Base.metadata.create_all(engine)
    playlist = m.Playlist(songs=["one", "two", "three"])
    session.add(playlist)
    session.commit()
    rows = {row.song: row.id for row in playlist.entries}
    playlist.songs = ["three", "four", "one"]
    session.commit()
    assert playlist.songs == ["three", "four", "one"]
    assert [row.position for row in playlist.entries] == [0, 1, 2]
    assert [rows.get(row.song) == row.id for row in playlist.entries] == [True, False, True]
    playlist.songs.insert(0, "zero")
    playlist.songs.reverse()
    session.commit()
    assert playlist.songs == ["one", "four", "three", "zero"]


def test_augmented_assignment_appends(bases: Any, session: Session) -> None:
    m = models.shop(bases)
    order, _ = _order(m, session, "mug", prices=(9,))
    order.items += [m.Item(name="hat")]
    session.commit()
    assert sorted(_prices(order)) == [("hat", 1), ("mug", 9)]


def test_events_of_rows_that_stay_are_not_fired(bases: Any, session: Session) -> None:
    m = models.shop(bases)
    order, (mug, hat) = _order(m, session, "mug", "hat", prices=(9, 7))
    seen: list[Any] = []
    event.listen(m.Order.order_items, "append", lambda target, value, initiator: seen.append(("append", value)))
    event.listen(m.Order.order_items, "remove", lambda target, value, initiator: seen.append(("remove", value)))
    leaving, staying = order.order_items
    order.items = [hat, m.Item(name="cap")]
    assert seen == [("remove", leaving), ("append", order.order_items[1])]
    assert order.order_items[0] is staying
    assert mug not in order.items


# -- members several times -----------------------------------------------------------------------


def test_more_of_a_member_keep_the_rows_that_it_has(bases: Any, session: Session) -> None:
    m = models.shop(bases, surrogate=True)
    order, (mug,) = _order(m, session, "mug", prices=(9,))
    order.items = [mug, mug]
    assert _prices(order) == [("mug", 9), ("mug", order.order_items[1].price)]
    session.commit()
    assert sorted(row.price for row in order.order_items) == [1, 9]


def test_as_many_of_a_member_keep_their_rows_in_their_order(bases: Any, session: Session) -> None:
    m = models.shop(bases, surrogate=True)
    order, (mug, hat) = _order(m, session, "mug", "hat", prices=(9, 7))
    order.items.append(mug)
    order.order_items[2].price = 4
    order.items = [hat, mug, mug]
    assert _prices(order) == [("hat", 7), ("mug", 9), ("mug", 4)]
    order.items = [hat]
    assert _prices(order) == [("hat", 7)]


def test_fewer_of_a_member_do_not_say_which_row_goes(bases: Any, session: Session) -> None:
    m = models.shop(bases, surrogate=True)
    order, (mug, _hat) = _order(m, session, "mug", "hat", prices=(9, 7))
    order.items.append(mug)
    session.commit()
    before = list(order.order_items)
    with pytest.raises(
        InvalidArgumentError, match=r"Order\.items has .* 2 times and was assigned it 1 times"
    ) as caught:
        order.items = [mug, m.Item(name="cap")]
    assert isinstance(caught.value, ArgumentError)
    assert "remove that from 'order_items'" in str(caught.value)
    assert order.order_items == before
    assert not session.new
    assert not session.dirty
    del order.order_items[0]
    session.commit()
    assert order.items.count(mug) == 1


def test_a_member_twice_where_the_key_allows_it_once_is_refused_at_once(bases: Any, session: Session) -> None:
    m = models.shop(bases)
    order, (mug, hat) = _order(m, session, "mug", "hat", prices=(9, 7))
    shirt = m.Item(name="shirt")
    for attempt in (
        lambda: order.items.append(mug),
        lambda: order.items.extend([shirt, shirt]),
        lambda: order.items.insert(0, hat),
        lambda: setattr(order, "items", [shirt, shirt]),
        lambda: order.items.__setitem__(0, hat),
    ):
        with pytest.raises(DuplicateKeyError, match=r"Order\.items would hold .* 2 times") as caught:
            attempt()
        assert isinstance(caught.value, InvalidRequestError)
    assert order.items == [mug, hat]
    assert shirt.order_items == []
    assert not session.new
    session.commit()
    assert _prices(order) == [("mug", 9), ("hat", 7)]


# -- sets ----------------------------------------------------------------------------------------


def test_a_set_keeps_the_rows_of_members_that_stay(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.tagged(bases)
    m.Base.metadata.create_all(engine)
    post = m.Post()
    post.words = {"one", "two"}
    next(tag for tag in post.tags if tag.word == "one").votes = 5
    session.add(post)
    session.commit()
    post.words = ["one", "three", "three"]
    with statements() as log:
        session.commit()
    assert len(log.starting("INSERT")) == len(log.starting("DELETE")) == 1
    assert log.starting("UPDATE") == []
    assert {(tag.word, tag.votes) for tag in post.tags} == {("one", 5), ("three", 0)}


def test_a_set_can_be_replaced(bases: Any, engine: Engine, session: Session) -> None:
    m = models.tagged(bases, on_reassign="replace")
    m.Base.metadata.create_all(engine)
    post = m.Post()
    post.words = {"one"}
    (before,) = post.tags
    post.words = {"one"}
    (after,) = post.tags
    assert after is not before


# -- dictionaries --------------------------------------------------------------------------------


def test_a_key_keeps_its_row_whatever_its_value(bases: Any, engine: Engine, session: Session, statements: Any) -> None:
    m = models.noted(bases)
    m.Base.metadata.create_all(engine)
    item = m.Item()
    item.notes = {"use": "daily", "wash": "cold", "age": "new"}
    for row in item.note_rows.values():
        row.stars = 3
    session.add(item)
    session.commit()
    item.notes = {"use": "daily", "wash": "warm", "size": "big"}
    with statements() as log:
        session.commit()
    assert [len(log.starting(word)) for word in ("INSERT", "UPDATE", "DELETE")] == [1, 1, 1]
    assert {key: (row.text, row.stars) for key, row in item.note_rows.items()} == {
        "use": ("daily", 3),
        "wash": ("warm", 3),
        "size": ("big", 0),
    }


def test_a_dictionary_can_be_replaced(bases: Any, engine: Engine, session: Session) -> None:
    m = models.noted(bases, on_reassign="replace")
    m.Base.metadata.create_all(engine)
    item = m.Item()
    item.notes = {"use": "daily"}
    before = item.note_rows["use"]
    item.notes = {"use": "daily"}
    assert item.note_rows["use"] is not before
    session.add(item)
    session.commit()
    assert item.notes == {"use": "daily"}


def test_nested_collections_are_compared_down_to_their_rows(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.numbered(bases)
    m.Base.metadata.create_all(engine)
    a = m.A()
    a.collections = {"x": {1, 2, 3}, "y": {4}}
    session.add(a)
    session.commit()
    rows = {c.value: c.id for c in a.associations["x"].elements}
    a.collections = {"x": {2, 3, 5}}
    session.commit()
    assert a.collections == {"x": {2, 3, 5}}
    assert {c.value: c.id for c in a.associations["x"].elements if c.value != 5} == {2: rows[2], 3: rows[3]}
    assert sorted(session.scalars(select(m.C.value))) == [2, 3, 5]
    a.collections = {"x": {5, 3, 2}}
    with statements() as log:
        session.commit()
    assert list(log) == []


# -- any sequence of assignments -----------------------------------------------------------------


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(st.lists(st.lists(st.integers(0, 4), unique=True), min_size=1, max_size=5))
def test_any_assignments_keep_a_price_as_long_as_its_member_stays(assignments: list[list[int]]) -> None:
    m = _HYPOTHESIS_MODELS
    engine = create_engine("sqlite://")
    m.Base.metadata.create_all(engine)
    with Session(engine) as session:
        items = [m.Item(name=str(number)) for number in range(5)]
        order = m.Order()
        session.add_all([order, *items])
        expected: dict[int, int] = {}
        price = 10
        for numbers in assignments:
            order.items = [items[number] for number in numbers]
            assert [items.index(item) for item in order.items] == numbers
            expected = {number: expected[number] for number in numbers if number in expected}
            for number, row in zip(numbers, order.order_items, strict=True):
                if number not in expected:
                    price += 1
                    expected[number] = row.price = price
            session.commit()
            assert {items.index(row.item): row.price for row in order.order_items} == expected
    engine.dispose()


def _make_models() -> Any:
    from tests.conftest import BaseFactory

    return models.shop(BaseFactory("plain"))


_HYPOTHESIS_MODELS = _make_models()


def test_errors_are_the_librarys() -> None:
    assert issubclass(InvalidArgumentError, PatternError)
    assert issubclass(DuplicateKeyError, PatternError)


def test_members_that_cannot_be_hashed_keep_their_rows(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Drawing(Base):
        __tablename__ = "drawing"
        id: Mapped[int] = mapped_column(primary_key=True)
        shape_rows: Mapped[list[Any]] = relationship("Shape", cascade="all, delete-orphan", order_by="Shape.id")
        shapes = proxied_list("shape_rows", lambda: Shape.points)

    class Shape(Base):
        __tablename__ = "shape"
        id: Mapped[int] = mapped_column(primary_key=True)
        drawing_id: Mapped[int] = mapped_column(ForeignKey("drawing.id"))
        points: Mapped[Any] = mapped_column(JSON)

    Base.metadata.create_all(engine)
    drawing = Drawing(shapes=[[1, 2], [3]])
    session.add(drawing)
    session.commit()
    rows = {tuple(row.points): row for row in drawing.shape_rows}
    drawing.shapes = [[3], [4, 5], [1, 2]]
    assert drawing.shape_rows[0] is rows[3,]
    assert drawing.shape_rows[2] is rows[1, 2]
    assert drawing.shapes.index([4, 5]) == 1
    with pytest.raises(InvalidArgumentError, match=r"has \[3\] 2 times and was assigned it 1 times"):
        drawing.shapes = [[3], [3]]
        drawing.shapes = [[3]]


def test_a_dictionary_of_dictionaries_is_compared_down_to_its_rows(
    plain_bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    Base = plain_bases()

    class Book(Base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        page_rows: Mapped[dict[int, Any]] = relationship(
            "Page", collection_class=attribute_keyed_dict("number"), cascade="all, delete-orphan"
        )
        pages = proxied_dict("page_rows", lambda: Page.number, lambda: Page.words)

    class Page(Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))
        number: Mapped[int]
        word_rows: Mapped[dict[str, Any]] = relationship(
            "Word", collection_class=attribute_keyed_dict("word"), cascade="all, delete-orphan"
        )
        words = proxied_dict("word_rows", lambda: Word.word, lambda: Word.count)

    class Word(Base):
        __tablename__ = "word"
        id: Mapped[int] = mapped_column(primary_key=True)
        page_id: Mapped[int] = mapped_column(ForeignKey("page.id"))
        word: Mapped[str] = mapped_column(String(20))
        count: Mapped[int]

    Base.metadata.create_all(engine)
    book = Book(pages={1: {"the": 2}, 2: {"an": 1}})
    session.add(book)
    session.commit()
    book.pages = {1: {"the": 3, "a": 1}, 3: {}}
    session.commit()
    assert book.pages == {1: {"the": 3, "a": 1}, 3: {}}
    assert sorted(session.scalars(select(Word.id))) == [book.page_rows[1].word_rows[word].id for word in ("the", "a")]
    with pytest.raises(InvalidArgumentError, match=r"Page\.words takes a mapping"):
        book.pages = {1: {"the": 3}, 4: 5}
    assert list(book.pages) == [1, 3]
    book.pages = {1: {"the": 3, "a": 1}, 3: {}}
    with statements() as log:
        session.commit()
    assert list(log) == []


def test_a_sequence_that_is_no_list_is_assigned(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Row(UserList[Any]):
        __emulates__ = list
        sort = None  # so that it cannot be put in order in place

    class Train(Base):
        __tablename__ = "train"
        id: Mapped[int] = mapped_column(primary_key=True)
        cars: Mapped[Any] = relationship(
            "Car", collection_class=Row, cascade="all, delete-orphan", uselist=True, order_by="Car.id"
        )
        names = proxied_list("cars", lambda: Car.name)

    class Car(Base):
        __tablename__ = "car"
        id: Mapped[int] = mapped_column(primary_key=True)
        train_id: Mapped[int] = mapped_column(ForeignKey("train.id"))
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    train = Train(names=["a", "b"])
    session.add(train)
    session.commit()
    first = train.cars[0]
    train.names = ["c", "a"]
    assert train.names == ["c", "a"]
    assert train.cars[1] is first
    session.commit()
    assert sorted(train.names) == ["a", "c"]
