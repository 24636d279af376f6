"""Positions of a `TreeNode`: order, gaps, and siblings that are shifted in one statement and not changed otherwise."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import inspect, select, update
from sqlalchemy.orm import Session

from sqla_patterns.trees import load_tree
from tests._support import count_statements
from tests.trees._shapes import Tree, assert_in_step, no_sql, positioned, writes

pytestmark = positioned


def positions(tree: Tree, session: Session) -> dict[str, int]:
    rows = session.connection().execute(select(tree.table.c.name, tree.table.c.position))
    return {name: position for name, position in rows}  # noqa: C416  rows are no tuples to dict() in typing


def test_order_of_appending_is_kept(tree: Tree, session: Session) -> None:
    """Children and roots come back in the order in which they were put, whatever their names."""
    tree.make(session, "z(c a b) y x")
    session.expunge_all()
    assert tree.outline(session) == "z(c a b) y x"
    roots = session.scalars(select(tree.cls).where(tree.cls.is_root()).order_by(tree.cls.position)).all()
    assert tree.names(roots) == "z y x"
    assert tree.names(roots[0].children) == "c a b"


def test_positions_count_from_zero(tree: Tree, session: Session) -> None:
    """The first of a family has position 0, each newcomer the next."""
    t = tree.make(session, "a(b c) d")
    assert positions(tree, session) == {"a": 0, "b": 0, "c": 1, "d": 1}
    session.add_all([tree.new("e", t.a), tree.new("f")])
    session.flush()
    assert positions(tree, session)["e"] == 2
    assert positions(tree, session)["f"] == 2
    assert_in_step(session, tree)


def test_positions_are_loaded_after_a_flush(tree: Tree, session: Session) -> None:
    """The position of a new node is there without SQL."""
    new = tree.new("n")
    session.add(new)
    session.flush()
    with no_sql():
        assert new.position == 0


def test_a_position_that_the_flush_makes_what_it_was_is_written_all_the_same(tree: Tree, session: Session) -> None:
    """The newcomer before it takes the position that was set, and the row is shifted to another position."""
    t = tree.make(session, "a(b c)")
    list(t.a.children)
    t.c.position = 0
    t.a.children.insert(0, tree.new("n"))
    session.flush()
    assert positions(tree, session) == {"a": 0, "n": 0, "c": 1, "b": 2}
    assert_in_step(session, tree)


def test_gaps_stay(tree: Tree, session: Session) -> None:
    """A deleted or moved node leaves a gap, and no sibling is renumbered for it."""
    t = tree.make(session, "a(b c d e) f")
    with count_statements() as log:
        session.delete(t.b)
        t.d.parent = t.f
        session.flush()
    assert positions(tree, session) == {"a": 0, "c": 1, "e": 3, "d": 0, "f": 1}
    assert not [text for text in writes(log) if "SET position" in text and "CASE" in text]
    assert_in_step(session, tree)


def test_a_newcomer_goes_behind_a_gap(tree: Tree, session: Session) -> None:
    """Last is behind the highest position that is left."""
    t = tree.make(session, "a(b c d)")
    session.delete(t.c)
    session.flush()
    session.add(tree.new("n", t.a))
    session.flush()
    assert tree.outline(session) == "a(b d n)"
    assert_in_step(session, tree)


@pytest.mark.parametrize("newcomers", [1, 3])
def test_room_in_the_middle_is_one_update(tree: Tree, session: Session, newcomers: int) -> None:
    """Any number of newcomers between two siblings costs one UPDATE of those behind."""
    t = tree.make(session, "a(b c d e f)")
    load_tree(session, tree.cls)
    for i in range(newcomers):
        t.a.children.insert(1 + i, tree.new(f"n{i}"))
    with count_statements() as log:
        session.flush()
    gaps = [text for text in writes(log) if text.startswith("UPDATE")]
    assert len(gaps) <= 1 + tree.shape.index.allowance, log.text
    names = " ".join(f"n{i}" for i in range(newcomers))
    assert tree.outline(session) == f"a(b {names} c d e f)"
    assert_in_step(session, tree)


def test_several_gaps_of_one_parent_are_one_update(tree: Tree, session: Session) -> None:
    """Newcomers at several places of one list still cost one UPDATE."""
    t = tree.make(session, "a(b c d e)")
    load_tree(session, tree.cls)
    children = t.a.children
    children.insert(4, tree.new("z"))
    children.insert(3, tree.new("y"))
    children.insert(1, tree.new("x"))
    children.insert(0, tree.new("w"))
    with count_statements() as log:
        session.flush()
    assert len([text for text in writes(log) if text.startswith("UPDATE")]) <= 1 + tree.shape.index.allowance, log.text
    assert tree.outline(session) == "a(w b x c d y e z)"
    assert_in_step(session, tree)


def test_a_position_that_the_user_sets(tree: Tree, session: Session) -> None:
    """A position on a new node is taken, and siblings from there on are shifted."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    new = tree.new("n", t.a)
    new.position = 1
    session.add(new)
    session.flush()
    assert tree.outline(session) == "a(b n c d)"
    assert_in_step(session, tree)


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "a(d b c e) f"), (1, "a(b d c e) f"), (3, "a(b c d e) f"), (99, "a(b c e d) f")]
)
def test_a_position_set_on_an_old_node(tree: Tree, session: Session, value: int, expected: str) -> None:
    """Setting ``position`` moves a node among its siblings; beyond the end it is last."""
    t = tree.make(session, "a(b c d e) f")
    load_tree(session, tree.cls)
    t.d.position = value
    session.flush()
    assert tree.outline(session) == expected
    assert_in_step(session, tree)
    assert len({row.position for row in t.a.children}) == 4


def test_a_position_and_a_parent_together(tree: Tree, session: Session) -> None:
    """A node moves to another parent and there to a position."""
    t = tree.make(session, "a(b) c(d e f)")
    load_tree(session, tree.cls)
    t.b.parent = t.c
    t.b.position = 1
    session.flush()
    assert tree.outline(session) == "a c(d b e f)"
    assert_in_step(session, tree)


def test_a_position_on_a_root(tree: Tree, session: Session) -> None:
    """Roots take positions too."""
    t = tree.make(session, "a b c")
    t.c.position = 0
    session.flush()
    assert tree.outline(session) == "c a b"
    assert_in_step(session, tree)


def test_shifted_siblings_in_memory(tree: Tree, session: Session) -> None:
    """Siblings that were shifted show their new positions at once, without SQL and without being dirty."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    t.a.children.insert(0, tree.new("n"))
    session.flush()
    with no_sql():
        assert [node.position for node in (t.b, t.c, t.d)] == [1, 2, 3]
    assert not session.dirty
    assert not any(inspect(node).modified for node in (t.b, t.c, t.d))


def test_shifted_siblings_after_a_savepoint_rollback(tree: Tree, session: Session) -> None:
    """The rollback of a savepoint takes shifted positions back, of siblings that were never dirty."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    savepoint = session.begin_nested()
    t.a.children.insert(0, tree.new("n"))
    session.flush()
    savepoint.rollback()
    assert [node.position for node in (t.b, t.c, t.d)] == [0, 1, 2]
    assert tree.names(t.a.children) == "b c d"
    assert_in_step(session, tree, after_rollback=True)


def test_all_orders_of_three(tree: Tree, session: Session) -> None:
    """Every permutation is reached from every other by assignment."""
    t = tree.make(session, "a(b c d)")
    for names in itertools.permutations("bcd"):
        t.a.children = [getattr(t, name) for name in names]
        session.flush()
        assert tree.outline(session) == f"a({' '.join(names)})"
        assert_in_step(session, tree)


def test_rows_written_past_the_orm(tree: Tree, session: Session) -> None:
    """Rows that share a position sort by their keys, and newcomers still find a place between them."""
    t = tree.make(session, "a(b c d)")
    session.execute(update(tree.table).values(position=0))
    session.expire_all()
    assert tree.names(t.a.children) == "b c d"
    t.a.children.append(tree.new("n"))
    session.flush()
    assert tree.outline(session) == "a(b c d n)"
