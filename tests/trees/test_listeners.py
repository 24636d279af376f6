"""Structural changes by the user's listeners during a flush: planned, or refused before they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, select
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.attributes import set_committed_value

from sqla_patterns.exceptions import PatternError
from sqla_patterns.trees import InvalidMoveError, UnplannedChangeError, verify_tree
from tests._support import count_statements
from tests.trees._indexes import assert_index_sound
from tests.trees._shapes import (
    Tree,
    assert_in_step,
    claims,
    plain_list,
    positioned,
    writes,
)

Listen = Callable[[Callable[[Session], None]], Session]


@pytest.fixture
def once(engine: Engine, tree: Tree) -> Iterator[Listen]:
    """Make a session whose factory has a ``before_flush`` listener, which acts in the first flush after `make`."""
    made: list[Session] = []

    def once(act: Callable[[Session], None]) -> Session:
        maker = sessionmaker(engine)

        @event.listens_for(maker, "before_flush")
        def listener(session: Session, context: Any, instances: Any) -> None:
            if session.info.pop("act", False):
                act(session)

        made.append(maker())
        return made[-1]

    yield once
    for session in made:
        session.close()


@pytest.fixture
def late(engine: Engine, tree: Tree) -> Iterator[Listen]:
    """Make a session with a ``before_flush`` listener of its own, attached during its transaction."""
    made: list[Session] = []

    def late(act: Callable[[Session], None]) -> Session:
        session = Session(engine)
        session.connection()

        def listener(session: Session, context: Any, instances: Any) -> None:
            if session.info.pop("act", False):
                act(session)

        session.info["listen"] = lambda: event.listen(session, "before_flush", listener)
        made.append(session)
        return session

    yield late
    for session in made:
        session.close()


def start(session: Session, tree: Tree, outline: str) -> Any:
    """Store `outline`, and have the listener act in the next flush."""
    t = tree.make(session, outline)
    session.connection()
    if "listen" in session.info:
        session.info.pop("listen")()
    session.info["act"] = True
    return t


def by_name(session: Session, tree: Tree, name: str) -> Any:
    return session.scalars(select(tree.cls).where(tree.cls.name == name)).one()


# -- before_flush listeners of a factory, which run after the tree's -----------------------------


def test_a_move_by_a_listener_is_planned(tree: Tree, once: Listen) -> None:
    """A node that a later listener moves is moved like any other."""

    def act(session: Session) -> None:
        by_name(session, tree, "b").parent_id = tree.pk(by_name(session, tree, "d"))

    session = once(act)
    t = start(session, tree, "a(b(c)) d(e)")
    t.e.label = "edited"
    session.flush()
    assert tree.outline(session) == ("a d(e b(c))" if tree.positioned else "a d(b(c) e)")
    assert_in_step(session, tree)


def test_a_cycle_by_a_listener_is_refused(tree: Tree, once: Listen) -> None:
    """A later listener cannot put a node below itself."""

    def act(session: Session) -> None:
        by_name(session, tree, "a").parent_id = tree.pk(by_name(session, tree, "c"))

    session = once(act)
    t = start(session, tree, "a(b(c)) d")
    t.d.label = "edited"
    with count_statements() as log, pytest.raises(InvalidMoveError):
        session.flush()
    assert not writes(log)
    session.rollback()
    assert tree.outline(session) == "a(b(c)) d"


def test_a_node_that_a_listener_adds_is_planned(tree: Tree, once: Listen) -> None:
    """A child that a later listener adds gets its place and what the index keeps."""

    def act(session: Session) -> None:
        child = tree.new("x")
        child.parent_id = tree.pk(by_name(session, tree, "b"))
        session.add(child)

    session = once(act)
    t = start(session, tree, "a(b(c)) d")
    t.d.label = "edited"
    session.flush()
    assert tree.outline(session) == "a(b(c x)) d"
    assert_in_step(session, tree)


def test_a_node_that_a_listener_deletes_takes_its_children_along(tree: Tree, once: Listen) -> None:
    """A node that a later listener deletes is deleted by the policy."""

    def act(session: Session) -> None:
        session.delete(by_name(session, tree, "b"))

    session = once(act)
    t = start(session, tree, "a(b(c)) d")
    t.d.label = "edited"
    session.flush()
    assert tree.outline(session) == "a d"
    assert_in_step(session, tree)


def test_the_first_tree_object_may_come_from_a_listener(tree: Tree, once: Listen) -> None:
    """A flush that a listener gives its first node is planned too."""

    def act(session: Session) -> None:
        session.add(tree.new("y", by_name(session, tree, "a")))

    session = once(act)
    start(session, tree, "a(b)")
    session.add(tree.new("z"))
    session.flush()
    assert tree.outline(session) == "a(b y) z"
    assert_index_sound(session.connection(), tree.cls)


def test_a_listener_that_changes_nothing_structural(tree: Tree, once: Listen) -> None:
    """A later listener may edit nodes, and repeat their parents."""

    def act(session: Session) -> None:
        for node in session.dirty:
            node.label = "stamped"
            node.parent = node.parent

    session = once(act)
    t = start(session, tree, "a(b(c)) d")
    t.b.label = "edited"
    t.c.parent = t.d
    session.flush()
    assert tree.outline(session) == "a(b) d(c)"
    assert {node.label for node in (t.b, t.c)} == {"stamped"}
    assert_in_step(session, tree)


# -- listeners that come too late ----------------------------------------------------------------


def _move(session: Session, tree: Tree) -> None:
    by_name(session, tree, "b").parent_id = tree.pk(by_name(session, tree, "d"))


def _move_by_parent(session: Session, tree: Tree) -> None:
    by_name(session, tree, "b").parent = by_name(session, tree, "d")


def _take_out(session: Session, tree: Tree) -> None:
    tree.detach(by_name(session, tree, "a"), by_name(session, tree, "b"))


def _make_root(session: Session, tree: Tree) -> None:
    by_name(session, tree, "b").move_to(None)


def _add(session: Session, tree: Tree) -> None:
    session.add(tree.new("x", by_name(session, tree, "b")))


def _delete(session: Session, tree: Tree) -> None:
    session.delete(by_name(session, tree, "b"))


LATE = {
    "key": _move,
    "parent": _move_by_parent,
    "children": _take_out,
    "move_to": _make_root,
    "add": _add,
    "delete": _delete,
}


@pytest.mark.parametrize("act", LATE.values(), ids=LATE)
def test_what_comes_too_late_is_refused(tree: Tree, late: Listen, act: Any) -> None:
    """A structural change by a listener that was attached during the transaction is refused, and nothing is written."""
    session = late(lambda session: act(session, tree))
    t = start(session, tree, "a(b(c)) d")
    t.d.label = "edited"
    with count_statements() as log, pytest.raises(UnplannedChangeError):
        session.flush()
    assert not writes(log), log.text
    session.rollback()
    assert tree.outline(session) == "a(b(c)) d"
    assert not verify_tree(session, tree.cls)


@pytest.mark.parametrize("act", [_move, _add, _delete], ids=["key", "add", "delete"])
def test_such_a_listener_is_heard_in_the_next_transaction(tree: Tree, late: Listen, act: Any) -> None:
    """From the next transaction on the tree plans behind it."""
    session = late(lambda session: act(session, tree))
    t = start(session, tree, "a(b(c)) d")
    session.info["act"] = False
    session.commit()
    session.info["act"] = True
    t.d.label = "edited"
    session.flush()
    assert not verify_tree(session, tree.cls)
    assert_in_step(session, tree)
    assert tree.outline(session) == {_move: "a d(b(c))", _add: "a(b(c x)) d", _delete: "a d"}[act]


def test_a_late_listener_that_changes_nothing_structural(tree: Tree, late: Listen) -> None:
    """It may edit, and repeat what is there."""

    def act(session: Session) -> None:
        for node in session.dirty:
            node.label = "stamped"
            node.parent = node.parent
            node.parent_id = node.parent_id

    session = late(act)
    t = start(session, tree, "a(b(c)) d")
    t.b.label = "edited"
    t.c.parent = t.d
    session.flush()
    assert tree.outline(session) == "a(b) d(c)"
    assert_in_step(session, tree)


@positioned
def test_a_late_listener_that_sorts_is_refused(tree: Tree, late: Listen) -> None:
    """A list of children that is put into another order too late is refused."""
    session = late(lambda session: by_name(session, tree, "a").children.reverse())
    t = start(session, tree, "a(b c) d")
    t.d.label = "edited"
    with pytest.raises(UnplannedChangeError):
        session.flush()


# -- mapper events -------------------------------------------------------------------------------


@pytest.fixture
def on(trees: Any) -> Any:
    """Return a tree class of its own, with a function to listen to its mapper events."""
    tree = trees(fresh=True)
    return tree, lambda identifier, fn: event.listen(tree.cls, identifier, lambda mapper, connection, node: fn(node))


def _refused(session: Session, tree: Tree, outline: str) -> None:
    with count_statements() as log, pytest.raises(UnplannedChangeError) as caught:
        session.flush()
    assert isinstance(caught.value, PatternError)
    written = log.starting("INSERT INTO node ", "UPDATE node SET parent_id", "UPDATE node SET label")
    assert not set(written).difference(claims(log))
    session.rollback()
    assert tree.outline(session) == outline
    assert not verify_tree(session, tree.cls)


@pytest.mark.parametrize("name", ["parent_id", "parent"])
def test_a_cycle_by_before_update_is_refused(on: Any, session: Session, name: str) -> None:
    """``before_update`` cannot move the node that is being written."""
    tree, listen = on
    t = tree.make(session, "a(b(c)) d")
    key = tree.pk(t.c)
    assert t.a.name == "a"
    listen("before_update", lambda node: setattr(node, name, key if name == "parent_id" else t.c))
    t.a.label = "edited"
    _refused(session, tree, "a(b(c)) d")


@pytest.mark.parametrize("name", ["parent_id", "parent"])
def test_another_parent_by_before_insert_is_refused(on: Any, session: Session, name: str) -> None:
    """``before_insert`` cannot give a new node another parent."""
    tree, listen = on
    t = tree.make(session, "a(b) d")
    key = tree.pk(t.d)
    listen("before_insert", lambda node: setattr(node, name, key if name == "parent_id" else t.d))
    session.add(tree.new("x", t.a))
    _refused(session, tree, "a(b) d")


def test_another_node_by_a_mapper_event_is_refused(on: Any, session: Session) -> None:
    """A mapper event cannot move a node that the flush does not write."""
    tree, listen = on
    t = tree.make(session, "a(b(c)) d")
    key = tree.pk(t.d)
    listen("before_update", lambda node: setattr(t.b, "parent_id", key))
    t.a.label = "edited"
    _refused(session, tree, "a(b(c)) d")


@positioned
def test_another_position_by_a_mapper_event_is_refused(on: Any, session: Session) -> None:
    """A mapper event cannot change a position."""
    tree, listen = on
    t = tree.make(session, "a(b c)")
    listen("before_insert", lambda node: setattr(node, "position", 0))
    session.add(tree.new("x", t.a))
    _refused(session, tree, "a(b c)")


@pytest.mark.parametrize("identifier", ["before_insert", "before_update"])
def test_a_mapper_event_may_repeat_and_edit(on: Any, session: Session, identifier: str) -> None:
    """A mapper event that repeats the parent and edits a column is none of the tree's business."""
    tree, listen = on
    t = tree.make(session, "a(b(c)) d")

    def act(node: Any) -> None:
        node.parent_id = node.parent_id
        node.label = "stamped"

    listen(identifier, act)
    new = tree.new("x", t.d)
    session.add(new)
    t.b.parent = t.d
    session.flush()
    assert (new if identifier == "before_insert" else t.b).label == "stamped"
    assert_in_step(session, tree)


def test_what_is_written_without_an_event_rolls_back(on: Any, session: Session) -> None:
    """A parent that is written without attribute events is noticed before the flush ends."""
    tree, listen = on
    t = tree.make(session, "a(b) d")
    key = tree.pk(t.d)
    listen("before_insert", lambda node: set_committed_value(node, "parent_id", key))
    new = tree.new("x")
    new.parent_id = tree.pk(t.a)
    session.add(new)
    with pytest.raises(UnplannedChangeError):
        session.flush()
    session.rollback()
    assert tree.outline(session) == "a(b) d"


@plain_list
def test_the_unit_of_work_carries_keys_over(on: Any, session: Session) -> None:
    """Keys that the database makes for new parents reach their children, whatever listens."""
    tree, listen = on
    listen("before_insert", lambda node: setattr(node, "label", "stamped"))
    t = tree.make(session, "a(b(c)) d")
    t.b.parent = top = tree.new("top", t.d)
    session.flush()
    assert tree.outline(session) == "a d(top(b(c)))"
    assert top.label == "stamped"
    assert_in_step(session, tree)


def test_a_refused_flush_leaves_a_usable_session(tree: Tree, late: Listen) -> None:
    """After the rollback the same changes can be made before the flush."""
    session = late(lambda session: _move(session, tree))
    t = start(session, tree, "a(b(c)) d")
    t.d.label = "edited"
    with pytest.raises(UnplannedChangeError):
        session.flush()
    session.rollback()
    t.b.parent = t.d
    session.commit()
    assert tree.outline(session) == "a d(b(c))"
    assert inspect(t.b).persistent
