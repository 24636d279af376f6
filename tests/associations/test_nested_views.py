"""Proxies of proxies, each kind in each: members outlive the row that they were read from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, String
from sqlalchemy.orm import Session, attribute_keyed_dict, mapped_column, relationship

from sqla_patterns.associations import proxied_dict, proxied_list, proxied_set
from sqla_patterns.exceptions import StateError

from ._models import tagged

KINDS = ("list", "set", "dict")
NESTED = list(itertools.product(KINDS, KINDS))
# A set is never asked for a member by its hash: the member is a collection, and has none.
VALUES: dict[str, tuple[Any, Any]] = {
    "list": ([1, 2], [3]),
    "set": ({1, 2}, {3}),
    "dict": ({"a": 1, "b": 2}, {"c": 3}),
}


def mapped(Base: Any, outer: str, inner: str) -> Any:
    """Map an object with a collection of collections of numbers."""
    collections: dict[str, Any] = {"list": list, "set": set, "dict": attribute_keyed_dict("key")}
    owned = {"cascade": "all, delete-orphan"}

    class C(Base):
        __tablename__ = "c"
        id = mapped_column(Integer, primary_key=True)
        b_id = mapped_column(ForeignKey("b.id"))
        key = mapped_column(String(20))
        value = mapped_column(Integer)

    def make_b(*arguments: Any) -> Any:
        return B(values=arguments[-1], key=arguments[0] if outer == "dict" else None)

    def make_c(*arguments: Any) -> Any:
        return C(value=arguments[-1], key=arguments[0] if inner == "dict" else None)

    def proxy(kind: str, row: Callable[[], Any], attribute: str, creator: Any) -> Any:
        def shown() -> Any:
            return getattr(row(), attribute)

        if kind == "dict":
            return proxied_dict("rows", lambda: row().key, shown, creator=creator)
        return (proxied_list if kind == "list" else proxied_set)("rows", shown, creator=creator)

    class B(Base):
        __tablename__ = "b"
        id = mapped_column(Integer, primary_key=True)
        a_id = mapped_column(ForeignKey("a.id"))
        key = mapped_column(String(20))
        rows = relationship(lambda: C, collection_class=collections[inner], order_by=lambda: C.id, **owned)
        values = proxy(inner, lambda: C, "value", make_c)

    class A(Base):
        __tablename__ = "a"
        id = mapped_column(Integer, primary_key=True)
        rows = relationship(lambda: B, collection_class=collections[outer], order_by=lambda: B.id, **owned)
        members = proxy(outer, lambda: B, "values", make_b)

    return SimpleNamespace(A=A, B=B, C=C, metadata=Base.metadata)


def plain(kind: str, members: Any) -> Any:
    return dict(members) if kind == "dict" else [*members] if kind == "list" else {*members}


def inside(outer: str, inner: str, a: Any) -> list[Any]:
    """Return the inner collections, in their order in a list, by key in a dictionary, and by size in a set."""
    values: Iterable[Any] = [a.members[key] for key in sorted(a.members)] if outer == "dict" else list(a.members)
    found = [plain(inner, value) for value in values]
    return sorted(found, key=len, reverse=True) if outer == "set" else found


@pytest.fixture(params=NESTED, ids="-".join)
def nested(request: pytest.FixtureRequest, plain_bases: Any, engine: Engine, session: Session) -> Any:
    """Add an object with two inner collections, with nothing loaded."""
    outer, inner = request.param
    m = mapped(plain_bases(), outer, inner)
    m.metadata.create_all(engine)
    one, two = VALUES[inner]
    session.add(m.A(members={"x": one, "y": two} if outer == "dict" else [one, two]))
    session.commit()
    session.expunge_all()
    return SimpleNamespace(outer=outer, inner=inner, a=session.get(m.A, 1), values=[one, two], m=m)


def take(nested: Any) -> Any:
    """Pop the first inner collection; of a set, the one that iteration yields first."""
    return nested.a.members.pop(*{"list": (0,), "set": (), "dict": ("x",)}[nested.outer])


def test_what_is_popped_keeps_its_members_after_the_flush(nested: Any, session: Session) -> None:
    popped = take(nested)
    session.commit()
    assert type(popped).__name__ == nested.inner
    assert popped in nested.values
    assert [*inside(nested.outer, nested.inner, nested.a), popped] in (nested.values, nested.values[::-1])


def test_what_is_popped_can_be_put_back_under_another_key(nested: Any, session: Session) -> None:
    a, popped = nested.a, take(nested)
    session.flush()
    if nested.outer == "dict":
        a.members["a new key"] = popped
    else:
        (a.members.append if nested.outer == "list" else a.members.add)(popped)
    session.commit()
    found = inside(nested.outer, nested.inner, a)
    assert found in (nested.values, nested.values[::-1])


def test_assigning_the_members_in_other_places_keeps_them(nested: Any, session: Session) -> None:
    a = nested.a
    if nested.outer == "dict":
        a.members = {"x": a.members["y"], "y": a.members["x"]}
    else:
        a.members = list(a.members)[::-1]
    # Not yet committed: the rows have no column for their order.
    session.flush()
    expected = nested.values if nested.outer == "set" else nested.values[::-1]
    assert inside(nested.outer, nested.inner, a) == expected


@pytest.mark.parametrize("flush", [False, True], ids=["", "flush between"])
def test_views_that_are_held_while_their_rows_change_are_the_former_members(
    nested: Any, session: Session, flush: bool
) -> None:
    a = nested.a
    if nested.outer == "set":
        first, second = a.members
        a.members.clear()
        session.flush()
        a.members.update([first, second])
    else:
        one, two = (0, 1) if nested.outer == "list" else ("x", "y")
        first, second = a.members[one], a.members[two]
        a.members[one] = second
        if flush:
            session.flush()
        a.members[two] = first
    session.commit()
    expected = nested.values if nested.outer == "set" else nested.values[::-1]
    assert inside(nested.outer, nested.inner, a) == expected


def test_a_view_of_a_removed_row_says_that_it_is_one(nested: Any) -> None:
    a = nested.a
    (view, *_) = [a.members["x"]] if nested.outer == "dict" else list(a.members)
    a.members.clear()
    with pytest.raises(StateError, match=r"This view of B\.values shows members that were replaced or removed"):
        len(view)


def test_members_of_another_object_are_copied(nested: Any, session: Session) -> None:
    other = nested.m.A(members=nested.a.members)
    session.add(other)
    session.commit()
    assert inside(nested.outer, nested.inner, other) == nested.values
    assert inside(nested.outer, nested.inner, nested.a) == nested.values


@pytest.mark.parametrize("operator", ["-=", "^=", "&=", "|="])
def test_a_set_operates_on_itself(plain_bases: Any, engine: Engine, session: Session, operator: str) -> None:
    m = tagged(plain_bases)
    m.Base.metadata.create_all(engine)
    post = m.Post()
    post.words = {"a", "b", "c"}
    session.add(post)
    session.commit()
    if operator == "-=":
        post.words -= post.words
    elif operator == "^=":
        post.words ^= post.words
    elif operator == "&=":
        post.words &= post.words
    else:
        post.words |= post.words
    session.commit()
    assert post.words == (set() if operator in ("-=", "^=") else {"a", "b", "c"})


@pytest.mark.parametrize(
    "method", ["difference_update", "symmetric_difference_update", "intersection_update", "update"]
)
def test_a_method_of_a_set_reads_its_argument_first(
    plain_bases: Any, engine: Engine, session: Session, method: str
) -> None:
    m = tagged(plain_bases)
    m.Base.metadata.create_all(engine)
    post, words = m.Post(), {"a", "b", "c"}
    post.words = words
    getattr(post.words, method)(word for word in post.words)
    getattr(expected := set(words), method)(list(words))
    assert post.words == expected
