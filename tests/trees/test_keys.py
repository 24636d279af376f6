"""Keys among siblings of a `KeyedTreeNode`: unique, never evicting anybody, in step with the loaded dictionaries."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sqla_patterns.exceptions import DuplicateKeyError, InvalidArgumentError, PatternError
from sqla_patterns.trees import load_tree
from tests._support import count_statements
from tests.trees._shapes import Tree, assert_in_step, keyed, no_sql, writes

pytestmark = keyed
OUTLINE = "a(x y) b(x z)"


@pytest.fixture(params=[True, False], ids=["loaded", "expired"])
def t(request: pytest.FixtureRequest, tree: Tree, session: Session) -> Any:
    """Make a tree with a key that occurs twice, below two parents."""
    made = tree.pending("a(y) b(z)")
    for name, parent in (("ax", made.a), ("bx", made.b)):
        setattr(made, name, tree.new("x", parent))
        session.add(getattr(made, name))
    session.add_all([made.a, made.b])
    session.commit()
    if request.param:
        load_tree(session, tree.cls)
    return made


def refused(tree: Tree, session: Session, change: Any) -> None:
    """Assert that `change` or the flush after it is refused before the first write, with nothing lost."""
    with count_statements() as log, session.no_autoflush, pytest.raises(DuplicateKeyError) as caught:
        change()
        session.flush()
    assert isinstance(caught.value, PatternError)
    assert not writes(log), log.text
    session.rollback()
    assert tree.outline(session) == OUTLINE
    load_tree(session, tree.cls)
    assert_in_step(session, tree)
    session.add(tree.new("zz"))
    session.commit()
    assert tree.outline(session) == f"{OUTLINE} zz"


def test_by_assignment(tree: Tree, session: Session, t: Any) -> None:
    """Assigning to a key that is taken replaces no child."""
    refused(tree, session, lambda: t.a.children.__setitem__("x", t.bx))


def test_by_assignment_of_a_new_node(tree: Tree, session: Session, t: Any) -> None:
    """Nor does a new node."""
    refused(tree, session, lambda: t.a.children.__setitem__("x", tree.new("x")))


def test_by_update(tree: Tree, session: Session, t: Any) -> None:
    """``update`` is assignment."""
    refused(tree, session, lambda: t.a.children.update({"n": tree.new("n"), "x": t.bx}))


def test_by_parent(tree: Tree, session: Session, t: Any) -> None:
    """A move by ``parent`` into a taken key is refused."""
    refused(tree, session, lambda: setattr(t.bx, "parent", t.a))


def test_by_parent_id(tree: Tree, session: Session, t: Any) -> None:
    """A move by ``parent_id`` into a taken key is refused."""
    refused(tree, session, lambda: setattr(t.bx, "parent_id", t.a.id))


def test_by_move_to(tree: Tree, session: Session, t: Any) -> None:
    """A move by `move_to` into a taken key is refused."""
    refused(tree, session, lambda: t.bx.move_to(t.a))


def test_by_rename(tree: Tree, session: Session, t: Any) -> None:
    """A new name that a sibling has is refused."""
    refused(tree, session, lambda: setattr(t.ax, "name", "y"))


def test_by_a_name_among_the_roots(tree: Tree, session: Session, t: Any) -> None:
    """Roots are siblings: by a new root, by a rename and by a move to the roots."""

    def moved() -> None:
        t.ax.name = "b"
        t.ax.parent = None

    refused(tree, session, lambda: session.add(tree.new("a")))
    session.delete(session.query(tree.cls).filter_by(name="zz").one())
    session.commit()
    refused(tree, session, lambda: setattr(t.a, "name", "b"))
    session.delete(session.query(tree.cls).filter_by(name="zz").one())
    session.commit()
    refused(tree, session, moved)


@pytest.mark.parametrize("how", ["parent", "parent_id", "roots"])
def test_two_new_nodes(tree: Tree, session: Session, t: Any, how: str) -> None:
    """Two new nodes cannot share a key either."""

    def change() -> None:
        for new in (tree.new("n"), tree.new("n")):
            if how == "parent":
                new.parent = t.a
            elif how == "parent_id":
                new.parent_id = t.a.id
            session.add(new)

    refused(tree, session, change)


def test_two_new_nodes_below_a_new_one(tree: Tree, session: Session, t: Any) -> None:
    """Nor below a node that is new itself."""

    def change() -> None:
        top = tree.new("n")
        session.add(top)
        session.add_all([tree.new("m", top), tree.new("m", top)])

    refused(tree, session, change)


def test_a_key_that_another_session_took(tree: Tree, file_engine: Engine) -> None:
    """A key that was free when the dictionary was loaded is checked again in the table."""
    tree.create(file_engine)
    with Session(file_engine, expire_on_commit=False) as one, Session(file_engine) as two:
        t = tree.make(one, "a(b)")
        load_tree(one, tree.cls)
        one.commit()
        two.add(tree.new("n", two.get(tree.cls, t.a.id)))
        two.commit()
        with pytest.raises(DuplicateKeyError):
            t.a.children["n"] = tree.new("n")
            one.flush()
        one.rollback()
        assert tree.outline(one) == "a(b n)"


# -- keys in memory ------------------------------------------------------------------------------


def test_a_rename_moves_the_key(tree: Tree, session: Session, t: Any) -> None:
    """The loaded dictionary follows a rename at once, without SQL."""
    held = t.a.children
    with session.no_autoflush:
        t.ax.name = "w"
        assert set(held) == {"w", "y"}
        assert held["w"] is t.ax
    session.flush()
    assert t.a.children is held
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(w y) b(x z)"


def test_a_rename_of_an_unloaded_name(tree: Tree, session: Session, t: Any) -> None:
    """The key moves also where the old name had not been loaded."""
    held = t.a.children
    session.expire(t.ax, ["name"])
    t.ax.name = "w"
    session.flush()
    assert set(held) == {"w", "y"}
    assert_in_step(session, tree)


def test_names_change_places(tree: Tree, session: Session, t: Any) -> None:
    """Two siblings exchange their names in one flush, by way of a third."""
    y = t.a.children["y"]
    with session.no_autoflush:
        t.ax.name = "tmp"
        y.name = "x"
        t.ax.name = "y"
    session.flush()
    assert_in_step(session, tree)
    assert t.a.children == {"x": y, "y": t.ax}
    assert tree.outline(session) == "a(x y) b(x z)"


def test_a_rename_and_a_move_together(tree: Tree, session: Session, t: Any) -> None:
    """A node that cannot move under its name moves under another, in either order."""
    with session.no_autoflush:
        t.bx.name = "w"
        t.bx.parent = t.a
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(w x y) b(z)"


def test_a_free_key_by_a_rename_in_the_same_flush(tree: Tree, session: Session, t: Any) -> None:
    """A key that a sibling gives up is free in the same flush."""
    with session.no_autoflush:
        t.ax.name = "w"
        t.bx.parent = t.a
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(w x y) b(z)"


def test_a_free_key_by_a_move_in_the_same_flush(tree: Tree, session: Session, t: Any) -> None:
    """Two children of the same name change places between their parents."""
    load_tree(session, tree.cls)
    with session.no_autoflush:
        t.ax.parent = None
        t.bx.parent = t.a
        t.ax.parent = t.b
    session.flush()
    assert_in_step(session, tree)
    assert t.a.children["x"] is t.bx
    assert t.b.children["x"] is t.ax


def test_replacement_in_one_flush(tree: Tree, session: Session, t: Any) -> None:
    """``del`` frees the key for a new node, and the old one is deleted."""
    with session.no_autoflush:
        del t.a.children["x"]
        t.a.children["x"] = tree.new("x")
    session.flush()
    assert_in_step(session, tree)
    assert t.a.children["x"] is not t.ax
    assert tree.outline(session) == OUTLINE


def test_replacement_of_a_deleted_node(tree: Tree, session: Session, t: Any) -> None:
    """A key of a node that ``session.delete`` takes away is free in the same flush."""
    with session.no_autoflush:
        session.delete(t.ax)
        new = tree.new("x")
        new.parent_id = t.a.id
        session.add(new)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == OUTLINE


def test_a_key_that_does_not_fit(tree: Tree, session: Session, t: Any) -> None:
    """A node can be assigned only under its own key."""
    with pytest.raises(InvalidArgumentError, match="w"), session.no_autoflush:
        t.a.children["w"] = t.bx
    assert "w" not in t.a.children
    session.rollback()
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


def test_a_nameless_node_takes_the_key(tree: Tree, session: Session, t: Any) -> None:
    """A node without a name is named by the key that it is put under."""
    new = tree.new("n")
    new.name = None
    t.a.children["w"] = new
    assert new.name == "w"
    session.flush()
    assert_in_step(session, tree)


def test_the_same_node_again(tree: Tree, session: Session, t: Any) -> None:
    """Assigning the node that is there already changes nothing."""
    held = t.a.children
    held["x"] = t.ax
    with count_statements() as log:
        session.flush()
    assert not writes(log)
    assert_in_step(session, tree)


def test_equal_keys_below_different_parents(tree: Tree, session: Session, t: Any) -> None:
    """A key is unique among siblings only."""
    session.add(tree.new("a", t.a))
    session.commit()
    load_tree(session, tree.cls)
    with no_sql():
        assert t.a.children["a"] is not t.a
    assert_in_step(session, tree)
