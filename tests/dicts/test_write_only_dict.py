"""`WriteOnlyDict`: what it answers, what it writes, and in how many statements."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event, func, insert, select
from sqlalchemy.exc import ArgumentError, IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session

from sqla_patterns.dicts import write_only_dict
from sqla_patterns.exceptions import (
    DuplicateKeyError,
    InvalidArgumentError,
    KeyMismatchError,
    PatternError,
    StateError,
)
from tests._support import assert_empty_diff

from . import _models as models


def _parent(m: Any, engine: Engine, session: Session, *keys: str) -> Any:
    m.Base.metadata.create_all(engine)
    parent, other = m.Parent(), m.Parent()
    session.add_all([parent, other])
    parent.by_key.update((key, m.Child(key=key)) for key in keys)
    other.by_key["x"] = m.Child(key="x")  # of another parent, and never changed
    session.commit()
    session.refresh(parent)
    return parent


def _rows(m: Any, session: Session, parent: Any) -> list[str]:
    return sorted(session.scalars(select(m.Child.key).where(m.Child.parent_id == parent.id)))


# -- reading -------------------------------------------------------------------------------------


def test_it_reads_like_a_dictionary(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "b", "a", "c")
    children = parent.by_key
    assert isinstance(children, MutableMapping)
    assert children["a"].key == "a"
    assert children["a"] is children.get("a")
    assert (children.get("x"), children.get("x", 5)) == (None, 5)
    assert ("a" in children, "x" in children, len(children), bool(children)) == (True, False, 3, True)
    # In the order of the keys, whatever the order in which they came.
    assert list(children) == list(children.keys()) == ["a", "b", "c"]
    assert [child.key for child in children.values()] == ["a", "b", "c"]
    assert [(key, child.key) for key, child in children.items()] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert children == dict(children.items())
    assert children["a"] in children.values()
    assert m.Child(key="a") not in children.values()
    assert 5 not in children.values()
    assert ("a", children["a"]) in children.items()
    assert {"a", "q"} & children.keys() == {"a"}
    with pytest.raises(KeyError, match="x"):
        children["x"]
    assert repr(children).startswith("<WriteOnlyDict Parent.by_key of ")
    empty = m.Parent()
    session.add(empty)
    session.flush()
    assert (len(empty.by_key), bool(empty.by_key), list(empty.by_key)) == (0, False, [])


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        (lambda d: d["a"], 1),
        (lambda d: d.get("a"), 1),
        (lambda d: d.get("zz"), 1),
        (lambda d: "a" in d, 1),
        (lambda d: "zz" in d, 1),
        (lambda d: len(d), 1),  # noqa: PLW0108
        (lambda d: bool(d), 1),  # noqa: PLW0108
        (lambda d: [key for key in d], 1),  # noqa: C416
        (lambda d: [child for child in d.values()], 1),  # noqa: C416
        (lambda d: [pair for pair in d.items()], 1),  # noqa: C416
        (lambda d: d.__delitem__("a"), 1),
        (lambda d: d.pop("a"), 1),
        (lambda d: d.pop("zz", None), 1),
        (lambda d: d.popitem(), 1),
    ],
)
def test_an_operation_is_one_statement(
    bases: Any, engine: Engine, session: Session, statements: Any, operation: Callable[[Any], object], wanted: int
) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a", "b")
    with statements() as log:
        operation(parent.by_key)
    assert len(log.starting("SELECT")) == len(log) == wanted, log.text


def test_adding_a_key_is_one_select_and_one_insert(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    with statements() as log:
        parent.by_key["b"] = m.Child(key="b")
        parent.by_key.setdefault("a", m.Child(key="a"))
    assert len(log.starting("SELECT")) == 2
    session.commit()
    assert _rows(m, session, parent) == ["a", "b"]


def test_a_hundred_thousand_children_are_not_loaded(
    plain_bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.family(plain_bases)
    parent = _parent(m, engine, session)
    rows = [{"parent_id": parent.id, "child_key": f"key {number:06}", "size": number} for number in range(100_000)]
    for start in range(0, len(rows), 20_000):
        session.connection().execute(insert(m.Child.__table__), rows[start : start + 20_000])
    session.commit()
    session.refresh(parent)
    children = parent.by_key
    for operation, answer in (
        (lambda: len(children), 100_000),
        (lambda: "key 054321" in children, True),
        (lambda: "key x" in children, False),
        (lambda: children["key 054321"].size, 54_321),
        (lambda: children.get("key x"), None),
        (lambda: children.pop("key 099999").size, 99_999),
        (lambda: children.setdefault("key 000001", m.Child(key="key 000001")).size, 1),
    ):
        session.flush()
        with statements() as log:
            assert operation() == answer
        assert len(log) == 1, log.text
        assert len([each for each in session.identity_map.values() if isinstance(each, m.Child)]) <= 1
    with statements() as log:
        assert sum(1 for _ in children) == 99_999
    assert len(log.starting("SELECT")) <= 102


# -- writing -------------------------------------------------------------------------------------


def test_it_writes_like_a_dictionary(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a", "b", "c", "d")
    children = parent.by_key
    children["e"] = e = m.Child(key="e")
    assert children["e"] is e
    assert children.setdefault("f", f := m.Child(key="f")) is f
    assert children.setdefault("a", m.Child(key="a")) is children["a"]
    del children["a"]
    assert "a" not in children
    assert children.pop("b").key == "b"
    assert children.pop("b", 5) == 5
    assert children.popitem() == ("f", f)
    session.commit()
    assert _rows(m, session, parent) == ["c", "d", "e"]
    with pytest.raises(KeyError):
        del children["a"]
    with pytest.raises(KeyError):
        children.pop("a")
    children.clear()
    session.commit()
    assert _rows(m, session, parent) == []
    assert session.scalar(select(func.count()).select_from(m.Child)) == 1
    with pytest.raises(KeyError, match=r"Parent\.by_key is empty"):
        children.popitem()


@pytest.mark.parametrize("autoflush", [True, False])
@pytest.mark.parametrize("composite", [True, False])
def test_replacing_a_key_under_a_unique_constraint_deletes_before_it_inserts(
    bases: Any, engine: Engine, autoflush: bool, composite: bool, statements: Any
) -> None:
    m = models.family(bases, composite=composite)
    with Session(engine, autoflush=autoflush) as session:
        parent = _parent(m, engine, session, "a", "b")
        with statements() as log:
            parent.by_key["a"] = new = m.Child(key="a", size=5)
        assert (len(log.starting("SELECT")), len(log.starting("DELETE")), len(log)) == (1, 1, 2), log.text
        assert parent.by_key["a"] is new
        session.commit()
        assert _rows(m, session, parent) == ["a", "b"]
        assert parent.by_key["a"].size == 5


@pytest.mark.parametrize("autoflush", [True, False])
def test_a_key_can_be_removed_and_set_in_one_flush(bases: Any, engine: Engine, autoflush: bool) -> None:
    m = models.family(bases)
    with Session(engine, autoflush=autoflush) as session:
        parent = _parent(m, engine, session, "a", "b", "c", "d")
        del parent.by_key["a"]
        parent.by_key["a"] = m.Child(key="a", size=5)
        parent.by_key.pop("b")
        parent.by_key.setdefault("b", m.Child(key="b", size=6))
        session.delete(parent.by_key["c"])
        parent.by_key["c"] = m.Child(key="c", size=7)
        parent.by_key.clear()
        parent.by_key.update({"d": m.Child(key="d", size=8)})
        session.commit()
        assert {key: child.size for key, child in parent.by_key.items()} == {"d": 8}


def test_a_replaced_child_that_may_outlive_its_parent_does(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases, orphans=True)
    parent = _parent(m, engine, session, "a")
    old = parent.by_key["a"]
    parent.by_key["a"] = m.Child(key="a", size=5)
    session.commit()
    assert old.parent_id is None
    assert parent.by_key["a"].size == 5


def test_a_new_child_of_a_back_reference_can_replace(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    child = m.Child(key="a", size=5)
    child.parent = parent
    parent.by_key["a"] = child
    session.commit()
    assert parent.by_key["a"].size == 5
    assert len(parent.by_key) == 1


def test_setting_the_child_that_is_there_changes_nothing(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    child = parent.by_key["a"]
    with statements() as log:
        parent.by_key["a"] = child
        session.commit()
    assert len(log) == 1, log.text


def test_update_is_one_select_and_one_flush(bases: Any, engine: Engine, session: Session, statements: Any) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, *(f"key {number}" for number in range(500)))
    new = {f"key {number}": m.Child(key=f"key {number}", size=5) for number in range(400, 1400)}
    with statements() as log:
        parent.by_key.update(new)
    assert (len(log.starting("SELECT")), len(log.starting("DELETE")), len(log)) == (1, 1, 2)
    with statements() as log:
        session.flush()
    assert not log.starting("SELECT", "UPDATE", "DELETE")
    session.commit()
    assert len(parent.by_key) == 1400
    assert session.scalar(select(func.sum(m.Child.size))) == 5000


def test_update_takes_pairs_and_other_dictionaries_of_its_kind(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    other = m.Parent()
    session.add(other)
    other.by_key.update([("b", m.Child(key="b")), ("c", m.Child(key="c"))])
    session.commit()
    session.refresh(parent)
    session.refresh(other)
    with statements() as log:
        parent.by_key.update(other.by_key)  # their children move here
    assert len(log.starting("SELECT")) == 2
    session.commit()
    assert _rows(m, session, parent) == ["a", "b", "c"]
    assert len(other.by_key) == 0
    parent.by_key.update()


# -- what is not in the database yet -------------------------------------------------------------


def test_a_transient_parent_shows_its_pending_children(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.family(bases)
    m.Base.metadata.create_all(engine)
    parent = m.Parent()
    with statements() as log:
        children = parent.by_key
        children.update({"a": m.Child(key="a"), "b": m.Child(key="b")})
        children["b"] = m.Child(key="b", size=5)
        assert children.setdefault("c", m.Child(key="c")).key == "c"
        assert (len(children), bool(children), "b" in children, "x" in children) == (3, True, True, False)
        assert (children["b"].size, children.get("x")) == (5, None)
        assert {key: child.size for key, child in children.items()}["b"] == 5
        assert sorted(children) == ["a", "b", "c"]
        assert children.popitem()[0] == "c"
        del children["a"]
        assert children["b"] in children.values()
        session.add(parent)
        assert len(children) == 1  # pending now, and still without SQL
    assert list(log) == []
    session.commit()
    assert _rows(m, session, parent) == ["b"]
    empty = m.Parent()
    assert not empty.by_key
    with pytest.raises(KeyError, match="is empty"):
        empty.by_key.popitem()


@pytest.mark.parametrize("autoflush", [True, False])
def test_unflushed_changes_count(bases: Any, engine: Engine, autoflush: bool) -> None:
    m = models.family(bases)
    with Session(engine, autoflush=autoflush) as session:
        parent = _parent(m, engine, session, "a", "b", "c")
        children = parent.by_key
        children["d"] = d = m.Child(key="d")
        parent.children.add(b := children["b"])  # it is there already
        del children["a"]
        session.delete(children["c"])
        assert (len(children), "a" in children, "b" in children, "c" in children, "d" in children) == (
            2, False, True, False, True,
        )  # fmt: skip
        assert (children.get("a"), children["b"], children.get("c"), children["d"]) == (None, b, None, d)
        assert dict(children.items()) == {"b": b, "d": d}
        assert sorted(children) == ["b", "d"]
        assert children.popitem() in [("d", d), ("b", b)]
        assert bool(children)
        session.commit()
        assert len(_rows(m, session, parent)) == 1


def test_reading_without_autoflush_writes_nothing(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    with session.no_autoflush, statements() as log:
        parent.by_key["b"] = m.Child(key="b")
        assert (len(parent.by_key), "b" in parent.by_key) == (2, True)
        list(parent.by_key.items())
    assert log.starting("INSERT") == []


def test_rollback_and_savepoint_rollback_bring_the_children_back(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    savepoint = session.begin_nested()
    parent.by_key["a"] = m.Child(key="a", size=5)
    parent.by_key["b"] = m.Child(key="b")
    session.flush()
    savepoint.rollback()
    assert {key: child.size for key, child in parent.by_key.items()} == {"a": 0}
    del parent.by_key["a"]
    session.rollback()
    assert list(parent.by_key) == ["a"]


# -- iteration -------------------------------------------------------------------------------------


def test_other_statements_and_commits_in_a_loop_do_not_cut_it_off(bases: Any, engine: Engine, session: Session) -> None:
    # A server-side cursor would lose rows here: MariaDB's at the statement, PostgreSQL's at the commit.
    m = models.family(bases)
    parent = _parent(m, engine, session, *(f"key {number:04}" for number in range(2100)))
    seen = 0
    for number, (key, child) in enumerate(parent.by_key.items()):
        assert child.key == key
        seen += 1
        if number in (10, 1500):
            assert key in parent.by_key
            child.size = 1
            session.commit()
    assert seen == 2100


def test_a_composite_key_is_paged(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases, composite=True)
    keys = [f"key {number:04}" for number in range(1500)]
    parent = _parent(m, engine, session, *keys)
    assert list(parent.by_key) == keys
    assert parent.by_key.popitem()[0] == keys[-1]


def test_duplicates_are_found_on_any_page(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(plain_bases, unique=False)
    keys = [f"key {number:04}" for number in range(1100)]
    for twice in ("key 0500", "key 0999", "key 1099"):  # within a page, across two, on the last
        parent = _parent(m, engine, session, *keys)
        parent.children.add(m.Child(key=twice))
        session.commit()
        with pytest.raises(DuplicateKeyError, match=f"with the key '{twice}'"):
            dict(parent.by_key.items())


def test_rows_without_a_key_are_not_in_the_dictionary(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(plain_bases)
    m.Child.__table__.c.child_key.nullable = True
    parent = _parent(m, engine, session, "a")
    parent.children.add_all([m.Child(key=None), m.Child(key=None)])
    session.commit()
    assert (len(parent.by_key), list(parent.by_key), None in parent.by_key) == (1, ["a"], False)


def test_many_to_many_and_inheritance(plain_bases: Any, engine: Engine, session: Session, statements: Any) -> None:
    m = models.groups(plain_bases)
    m.Base.metadata.create_all(engine)
    group, other = m.Group(), m.Group()
    session.add_all([group, other])
    group.by_name["ann"] = ann = m.Admin(name="ann")
    group.by_name["bob"] = m.Member(name="bob")
    other.by_name["ann"] = ann
    session.commit()
    session.refresh(group)
    session.refresh(other)
    with statements() as log:
        assert len(group.by_name) == 2
        assert "bob" in group.by_name
        assert "bob" not in other.by_name
    assert len(log) == 3
    assert group.by_name["ann"] is other.by_name["ann"] is ann
    assert [type(each).__name__ for each in group.by_name.values()] == ["Admin", "Member"]
    del group.by_name["ann"]
    session.commit()
    assert (list(group.by_name), list(other.by_name)) == (["bob"], ["ann"])


# -- bad input -------------------------------------------------------------------------------------


def _refuses(
    parent: Any, session: Session, error: type[Exception], message: str, *attempts: Callable[[], object]
) -> None:
    for attempt in attempts:
        with pytest.raises(error, match=message) as caught:
            attempt()
        assert isinstance(caught.value, PatternError)
        assert not session.new
        assert not session.dirty
        assert not session.deleted
    session.commit()
    assert list(parent.by_key) == ["a"]


def test_a_key_that_is_not_that_of_its_child_is_refused(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    wrong = m.Child(key="other")
    children = parent.by_key
    _refuses(
        parent,
        session,
        ValueError,
        r"Parent\.by_key cannot hold .* under 'zz': its own key, 'key', is 'other'; use that, or set it first",
        lambda: children.__setitem__("zz", wrong),
        lambda: children.update({"a": m.Child(key="a"), "zz": wrong}),
        lambda: children.setdefault("zz", wrong),
    )
    assert issubclass(KeyMismatchError, ArgumentError)
    assert wrong.parent is None


def test_a_child_of_the_wrong_type_is_refused(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    children = parent.by_key
    _refuses(
        parent,
        session,
        InvalidArgumentError,
        r"Parent\.by_key has members of Child, and .* is none",
        lambda: children.__setitem__("b", "b"),
        lambda: children.__setitem__("b", None),
        lambda: children.setdefault("b", m.Parent()),
        lambda: children.update({"b": m.Child(key="b"), "c": 5}),
    )


def test_a_child_of_another_session_is_refused(bases: Any, engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    m = models.family(bases)
    with Session(engine) as session, Session(engine) as other:
        parent = _parent(m, engine, session, "a")
        session.commit()
        child = m.Child(key="b")
        other.add(child)
        with other.no_autoflush:
            _refuses(
                parent, session, StateError, "which is in another session; merge it first",
                lambda: parent.by_key.__setitem__("b", child),
            )  # fmt: skip


def test_several_children_of_one_key_are_not_one(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases, unique=False)
    parent = _parent(m, engine, session, "a", "b")
    parent.children.add(m.Child(key="a"))
    session.commit()
    message = r"Parent\.by_key has several members with the key 'a'; remove all but one, and put a unique constraint"
    for attempt in (
        lambda: parent.by_key["a"],
        lambda: parent.by_key.get("a"),
        lambda: parent.by_key.pop("a"),
        lambda: parent.by_key.__setitem__("a", m.Child(key="a")),
        lambda: list(parent.by_key),
        lambda: dict(parent.by_key.items()),
    ):
        with pytest.raises(DuplicateKeyError, match=message) as caught:
            attempt()
        assert isinstance(caught.value, InvalidRequestError)
    session.commit()
    assert parent.by_key["b"].key == "b"
    with session.no_autoflush:
        parent.children.add_all([m.Child(key="c"), m.Child(key="c")])
        with pytest.raises(DuplicateKeyError, match="was given two members with the key 'c'"):
            len(parent.by_key)


def test_a_detached_parent_says_so(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    session.close()
    for attempt in (lambda: len(parent.by_key), lambda: parent.by_key.__setitem__("b", m.Child(key="b"))):
        with pytest.raises(StateError, match=r"Parent\.by_key cannot be read: .* is detached; add it to a session"):
            attempt()


def test_the_attribute_cannot_be_assigned(plain_bases: Any) -> None:
    parent = models.family(plain_bases).Parent()
    with pytest.raises(AttributeError, match=r"Parent\.by_key cannot be assigned, .* use update\(\), and clear\(\)"):
        parent.by_key = {}


def test_a_dictionary_over_something_else_is_refused_on_use(plain_bases: Any) -> None:
    m = models.family(plain_bases)
    for name, attribute, message in (
        (
            "no_such",
            write_only_dict("no_such", lambda: m.Child, lambda: m.Child.key),
            "needs a write-only relationship",
        ),
        (
            "loaded",
            write_only_dict("parent", lambda: m.Parent, lambda: m.Parent.name),
            "map it as parent: WriteOnlyMapped",
        ),
        ("of_other", write_only_dict("children", lambda: m.Parent, lambda: m.Child.key), "holds Child; return that"),
        (
            "by_row",
            write_only_dict("children", lambda: m.Child, lambda: m.Child.parent),
            "return a column attribute of Child",
        ),
        (
            "by_text",
            write_only_dict("children", lambda: m.Child, lambda: "key"),  # type: ignore[arg-type, return-value]
            "has 'key' as its key",
        ),
    ):
        owner: Any = m.Child if name == "loaded" else m.Parent
        attribute.__set_name__(owner, name)
        setattr(owner, name, attribute)
        with pytest.raises(InvalidArgumentError, match=rf"{owner.__name__}\.{name} .*{message}"):
            getattr(owner(), name)


# -- sessions ------------------------------------------------------------------------------------


def test_a_listener_may_read_during_a_flush(bases: Any, engine: Engine, session: Session) -> None:
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    seen: list[Any] = []

    def listener(session: Session, context: Any, instances: Any) -> None:
        seen.append((len(parent.by_key), "a" in parent.by_key, "b" in parent.by_key, parent.by_key.get("x")))

    event.listen(session, "before_flush", listener)
    parent.by_key["b"] = m.Child(key="b")
    session.flush()
    assert seen[-1] == (2, True, True, None)


def test_the_constraint_refuses_the_second_of_two_sessions_that_add_one_key(
    bases: Any, engine_factory: Callable[..., Engine]
) -> None:
    engine = engine_factory()
    m = models.family(bases)
    with Session(engine) as one, Session(engine) as other:
        parent = _parent(m, engine, one)
        same = other.get(m.Parent, parent.id)
        assert "a" not in parent.by_key
        assert "a" not in same.by_key
        one.rollback()
        other.rollback()
        parent.by_key["a"] = m.Child(key="a", size=1)
        one.commit()
        with other.no_autoflush:
            same.children.add(m.Child(key="a", size=2))
        with pytest.raises(IntegrityError):
            other.commit()
        other.rollback()
        same.by_key["a"] = m.Child(key="a", size=3)
        other.commit()
        one.expire_all()
        assert parent.by_key["a"].size == 3


_KEYS = st.sampled_from("abcd")
_STEPS = st.one_of(
    st.tuples(st.just("set"), _KEYS),
    st.tuples(st.just("add"), _KEYS),
    st.tuples(st.just("setdefault"), _KEYS),
    st.tuples(st.just("pop"), _KEYS),
    st.tuples(st.just("update"), st.text("abcd", max_size=4)),
    st.tuples(st.sampled_from(["flush", "commit", "rollback", "clear"]), st.just("")),
)


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(st.lists(_STEPS, max_size=12), st.booleans(), st.booleans())
def test_any_steps_change_it_as_they_change_a_python_dictionary(
    steps: list[tuple[str, str]], autoflush: bool, persistent: bool
) -> None:
    m = _HYPOTHESIS_MODELS
    engine = create_engine("sqlite://")
    m.Base.metadata.create_all(engine)
    with Session(engine, autoflush=autoflush) as session:
        parent = m.Parent()
        session.add(parent)
        committed: dict[str, int] | None = None
        if persistent:
            session.commit()
            committed = {}
        mirror: dict[str, int] = {}
        for size, (step, key) in enumerate(steps):
            new = m.Child(key=key, size=size)
            if step == "set" or (step == "add" and key not in mirror):
                if step == "add":
                    parent.children.add(new)
                else:
                    parent.by_key[key] = new
                mirror[key] = size
            elif step == "setdefault":
                assert parent.by_key.setdefault(key, new).size == mirror.setdefault(key, size)
            elif step == "pop":
                found = parent.by_key.pop(key, None)
                assert (found and found.size) == mirror.pop(key, None)
            elif step == "update":
                parent.by_key.update({each: m.Child(key=each, size=size) for each in key})
                mirror.update(dict.fromkeys(key, size))
            elif step == "clear":
                parent.by_key.clear()
                mirror.clear()
            elif step == "rollback" and committed is not None:
                session.rollback()
                mirror = dict(committed)
            elif step in ("flush", "commit"):
                getattr(session, step)()
                if step == "commit":
                    committed = dict(mirror)
            assert {key: child.size for key, child in parent.by_key.items()} == mirror
            assert len(parent.by_key) == len(mirror)
            assert {each for each in "abcd" if each in parent.by_key} == mirror.keys()
        session.commit()
        assert {child.key: child.size for child in session.scalars(select(m.Child))} == mirror
    engine.dispose()


def _make_models() -> Any:
    from tests.conftest import BaseFactory

    return models.family(BaseFactory("plain"))


_HYPOTHESIS_MODELS = _make_models()


# -- databases -------------------------------------------------------------------------------------


def test_keys_are_compared_as_python_does_whatever_the_collation(bases: Any, engine: Engine, session: Session) -> None:
    # MariaDB finds "a" for "A" and for "a ".
    m = models.family(bases)
    parent = _parent(m, engine, session, "a")
    children = parent.by_key
    assert (children.get("A"), "A" in children, "a " in children) == (None, False, False)
    assert children.pop("A", None) is None


def test_autogenerate_finds_nothing_to_change(bases: Any, engine: Engine) -> None:
    m = models.family(bases)
    m.Base.metadata.create_all(engine)
    assert_empty_diff(engine, m.Base.metadata)
