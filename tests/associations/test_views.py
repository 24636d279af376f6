"""The views behave as a list, a set and a dictionary of members."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from sqla_patterns.associations import proxied_dict, proxied_list, proxied_set
from sqla_patterns.exceptions import InvalidArgumentError

from . import _models as models


def _playlist(plain_bases: Any, *songs: str) -> Any:
    return models.playlist(plain_bases).Playlist(songs=list(songs))


def _post(bases: Any, *words: str) -> Any:
    post = models.tagged(bases).Post()
    post.words = set(words)
    return post


def _item(bases: Any, **notes: str) -> Any:
    item = models.noted(bases).Item()
    item.notes = notes
    return item


# -- lists ---------------------------------------------------------------------------------------


def test_a_list_reads_like_a_list(plain_bases: Any) -> None:
    songs = _playlist(plain_bases, "b", "a", "c", "a").songs
    assert songs == ["b", "a", "c", "a"]
    assert list(songs) == ["b", "a", "c", "a"] == songs.copy()
    assert songs != ["b"]
    assert (len(songs), bool(songs)) == (4, True)
    assert (songs[0], songs[-1], songs[1:3]) == ("b", "a", ["a", "c"])
    assert ("a" in songs, "z" in songs) == (True, False)
    assert (songs.index("a"), songs.index("a", 2), songs.count("a")) == (1, 3, 2)
    assert list(reversed(songs)) == ["a", "c", "a", "b"]
    assert operator.add(songs, ["d"])[-1] == "d"
    assert (operator.add(["d"], songs)[0], len(songs * 2), len(2 * songs)) == ("d", 8, 8)
    assert songs < ["c"]
    assert songs <= ["b", "a", "c", "a"]
    assert songs > ["a"]
    assert songs >= ["a"]
    assert repr(songs) == "['b', 'a', 'c', 'a']"
    with pytest.raises(ValueError, match=r"'z' is not in Playlist\.songs"):
        songs.index("z")
    with pytest.raises(IndexError):
        songs[9]
    with pytest.raises(TypeError, match="unhashable"):
        hash(songs)


def test_a_list_writes_like_a_list(plain_bases: Any) -> None:
    playlist = _playlist(plain_bases)
    mirror: list[str] = []
    for songs in (playlist.songs, mirror):
        songs.append("a")
        songs.extend(["b", "c"])
        songs.insert(0, "z")
        songs.insert(-1, "y")
        songs.insert(99, "last")
        songs[0] = "first"
        songs[1:2] = ["A", "AA"]
        songs[::2] = ["1", "2", "3", "4"]
        del songs[1]
        del songs[:1]
        songs.remove("4")
    assert playlist.songs == mirror
    assert playlist.songs.pop() == mirror.pop()
    assert playlist.songs.pop(0) == mirror.pop(0)
    playlist.songs += ["x"]
    playlist.songs *= 2
    assert playlist.songs == ([*mirror, "x"]) * 2
    playlist.songs.sort(reverse=True)
    assert playlist.songs == sorted(([*mirror, "x"]) * 2, reverse=True)
    playlist.songs.sort(key=lambda song: song == "x")
    assert playlist.songs[-1] == "x"
    playlist.songs.clear()
    assert playlist.songs == []
    with pytest.raises(ValueError, match="extended slice"):
        playlist.songs[::2] = ["too", "many"]
    with pytest.raises(IndexError):
        playlist.songs[3] = "x"
    assert playlist.entries == []


def test_members_are_found_by_identity_where_they_are_objects(bases: Any) -> None:
    m = models.shop(bases)
    mug, other = m.Item(name="mug"), m.Item(name="mug")
    order = m.Order()
    order.items = [other, mug]
    assert order.items.index(mug) == 1
    order.items.remove(mug)
    assert order.items[0] is other
    assert mug not in order.items
    with pytest.raises(ValueError, match="is not in"):
        order.items.remove(mug)


# -- sets ----------------------------------------------------------------------------------------


def test_a_set_reads_like_a_set(bases: Any) -> None:
    words = _post(bases, "a", "b").words
    assert words == {"a", "b"}
    assert words != {"a"}
    assert set(words) == words.copy() == {"a", "b"}
    assert (len(words), "a" in words, "z" in words) == (2, True, False)
    assert words | {"c"} == words.union(["c"]) == {"a", "b", "c"}
    assert words & {"a"} == words.intersection(["a"]) == {"a"}
    assert words - {"a"} == words.difference(["a"]) == {"b"}
    assert words ^ {"a", "c"} == words.symmetric_difference(["a", "c"]) == {"b", "c"}
    assert words <= {"a", "b", "c"}
    assert words.issubset(["a", "b", "c"])
    assert words > {"a"}
    assert words.issuperset(["a"])
    assert words.isdisjoint({"z"})
    assert type(words | {"c"}) is set
    assert repr(_post(bases, "a").words) == "{'a'}"
    with pytest.raises(TypeError, match="unhashable"):
        hash(words)


def test_a_set_writes_like_a_set(bases: Any) -> None:
    post = _post(bases)
    mirror: set[str] = set()
    for words in (post.words, mirror):
        words.add("a")
        words.add("a")
        words.update(["b", "c"], ["c", "d"])
        words.discard("z")
        words.discard("d")
        words.remove("c")
        words |= {"e", "f", "g", "h"}
        words -= {"e"}
        words &= {"a", "f", "g", "h"}
        words ^= {"h", "i"}
        words.difference_update(["g"], ["nothing"])
        words.symmetric_difference_update(["i", "j"])
    assert post.words == mirror == {"a", "f", "j"}
    post.words.intersection_update({"a"}, ["a", "j"])
    post.words |= {"k"}
    assert post.words == {"a", "k"}
    assert len(post.tags) == 2
    with pytest.raises(KeyError):
        post.words.remove("z")
    assert {post.words.pop(), post.words.pop()} == {"a", "k"}
    with pytest.raises(KeyError):
        post.words.pop()
    post.words = ["x"]
    post.words.clear()
    assert post.words == set()


# -- dictionaries --------------------------------------------------------------------------------


def test_a_dictionary_reads_like_a_dictionary(bases: Any) -> None:
    notes = _item(bases, a="1", b="2").notes
    assert notes == {"a": "1", "b": "2"}
    assert notes != {"a": "1"}
    assert dict(notes) == notes.copy() == {"a": "1", "b": "2"}
    assert (len(notes), "a" in notes, notes["a"], notes.get("z"), notes.get("z", "?")) == (2, True, "1", None, "?")
    assert (list(notes), list(reversed(notes))) == (["a", "b"], ["b", "a"])
    assert (list(notes.keys()), list(notes.values()), list(notes.items())) == (
        ["a", "b"], ["1", "2"], [("a", "1"), ("b", "2")],
    )  # fmt: skip
    assert notes | {"c": "3"} == {"a": "1", "b": "2", "c": "3"}
    assert {"a": "0", "c": "3"} | notes == {"a": "1", "b": "2", "c": "3"}
    assert repr(notes) == "{'a': '1', 'b': '2'}"
    with pytest.raises(KeyError):
        notes["z"]
    with pytest.raises(TypeError, match="unhashable"):
        hash(notes)


def test_a_dictionary_writes_like_a_dictionary(bases: Any) -> None:
    item = _item(bases)
    mirror: dict[str, str] = {}
    for notes in (item.notes, mirror):
        notes["a"] = "1"
        notes["a"] = "one"
        notes.update({"b": "2"}, c="3")
        notes.update([("d", "4")])
        notes |= {"e": "5"}
        notes.setdefault("a", "other")
        notes.setdefault("f", "6")
        del notes["b"]
    assert item.notes == mirror
    assert item.notes.pop("c") == mirror.pop("c")
    assert item.notes.pop("nothing", None) is None
    assert item.notes.popitem() == mirror.popitem()
    item.notes |= {"g": "7"}
    assert item.notes == mirror | {"g": "7"}
    assert item.note_rows["a"].text == "one"
    with pytest.raises(KeyError):
        del item.notes["nothing"]
    with pytest.raises(KeyError):
        item.notes.pop("nothing")
    item.notes.clear()
    assert item.notes == {}


# -- views -----------------------------------------------------------------------------------------


def test_a_view_stays_valid_when_the_collection_is_assigned_anew(bases: Any) -> None:
    post = _post(bases, "a")
    words = post.words
    post.words = {"b"}
    words.add("c")
    assert words == post.words == {"b", "c"}


def test_deleting_the_attribute_empties_the_collection(bases: Any) -> None:
    post = _post(bases, "a")
    del post.words
    assert post.words == set()


def test_objects_can_be_pickled_after_use_creators_and_all(bases: Any, engine: Engine, session: Session) -> None:
    m = models.shop(bases, creator=lambda item: m.OrderItem(item=item, price=3))
    for made in (m.Order, m.Item, m.OrderItem):
        made.__module__, made.__qualname__ = __name__, made.__name__
        globals()[made.__name__] = made
    m.Base.metadata.create_all(engine)
    order = m.Order()
    order.items = [m.Item(name="mug")]
    session.add(order)
    session.commit()
    assert [item.name for item in order.items] == ["mug"]
    again = pickle.loads(pickle.dumps(order))
    assert [item.name for item in again.items] == ["mug"]
    again.items.append(m.Item(name="hat"))
    assert [row.price for row in again.order_items] == [3, 3]
    view = pickle.loads(pickle.dumps(order.items))
    assert [item.name for item in view] == ["mug"]
    assert copy.copy(order.items)[0] is order.items[0]


# -- bad input -------------------------------------------------------------------------------------


def test_what_is_no_collection_is_refused(bases: Any) -> None:
    post, item = _post(bases, "a"), _item(bases, a="1")
    for bad in ("abc", b"abc", 5, None, {"a": 1}):
        with pytest.raises(InvalidArgumentError, match=r"Post\.words takes a collection of members") as caught:
            post.words = bad
        assert isinstance(caught.value, ArgumentError)
        with pytest.raises(InvalidArgumentError, match=r"Item\.notes takes a mapping"):
            item.notes = bad if bad != {"a": 1} else [1, 2]
    assert (post.words, item.notes) == ({"a"}, {"a": "1"})


def test_a_member_of_the_wrong_type_is_refused_and_nothing_is_pending(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.shop(bases)
    m.Base.metadata.create_all(engine)
    mug, hat = m.Item(name="mug"), m.Item(name="hat")
    order = m.Order()
    order.items = [mug]
    session.add_all([order, hat])
    session.commit()
    row = order.order_items[0]
    for attempt in (
        lambda: order.items.append("mug"),
        lambda: order.items.append(None),
        lambda: order.items.extend([hat, 3]),
        lambda: order.items.insert(0, row),
        lambda: setattr(order, "items", [hat, order]),
        lambda: order.items.__setitem__(0, "mug"),
    ):
        with pytest.raises(InvalidArgumentError, match=r"Order\.items has members of Item, and .* is none"):
            attempt()
    assert order.order_items == [row]
    assert hat.order_items == []
    assert not session.new
    assert not session.dirty
    order.items.append(hat)
    session.commit()
    assert len(order.items) == 2


def test_a_nested_member_of_the_wrong_type_changes_nothing(bases: Any) -> None:
    m = models.numbered(bases)
    a = m.A()
    a.collections = {"x": {1}}
    for bad in ({"y": {2}, "x": 5}, {"y": 5}):
        with pytest.raises(InvalidArgumentError, match=r"B\.values takes a collection"):
            a.collections = bad
    assert a.collections == {"x": {1}}


def test_a_view_of_another_kind_of_collection_is_refused(plain_bases: Any) -> None:
    m = models.noted(plain_bases)
    m.Item.as_list = proxied_list("note_rows", lambda: m.Note.text)
    m.Item.as_set = proxied_set("note_rows", lambda: m.Note.text)
    item = m.Item()
    for name, kind in (("as_list", "sequence"), ("as_set", "set")):
        with pytest.raises(InvalidArgumentError, match=rf"Item\.{name} shows a {kind}, and 'note_rows' holds a"):
            len(getattr(item, name))


def test_a_proxy_of_what_is_not_there_is_refused_on_use(plain_bases: Any) -> None:
    m = models.shop(plain_bases)
    m.Order.wrong_target = proxied_list("no_such", lambda: m.OrderItem.item)
    m.Order.wrong_class = proxied_list("order_items", lambda: m.Item.name)
    m.Order.wrong_value = proxied_list("order_items", lambda: 5)  # type: ignore[arg-type, return-value]
    m.OrderItem.wrong_scalar = proxied_list("item", lambda: m.Item.name)
    order, row = m.Order(), m.OrderItem(item=m.Item(name="mug"))
    for owner, name, message in (
        (order, "wrong_target", "goes through 'no_such', which is no relationship of Order to a collection"),
        (order, "wrong_class", "shows Item.name, which is no attribute of OrderItem"),
        (order, "wrong_value", "was given 5 as an attribute"),
        (row, "wrong_scalar", "goes through 'item', which is no relationship of OrderItem to a collection"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            getattr(owner, name)


def test_contradictory_arguments_are_refused_at_once() -> None:
    create: Any = lambda *arguments: None  # noqa: E731
    with pytest.raises(InvalidArgumentError, match="has creator and owner_creator"):
        proxied_list("rows", create, creator=create, owner_creator=create)
    with pytest.raises(InvalidArgumentError, match="on_reassign='maybe'; give 'diff' or 'replace'"):
        proxied_set("rows", create, on_reassign="maybe")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="give a function that returns the attribute"):
        proxied_dict("rows", create, "text")  # type: ignore[arg-type]
