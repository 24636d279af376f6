"""A parent that is assigned once more is no move: nothing is written, and the node keeps its place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, String, inspect, select
from sqlalchemy.orm import Mapped, Session, load_only, mapped_column

from sqla_patterns.trees import TreeNode, load_tree
from tests._support import count_statements
from tests.trees import _shapes
from tests.trees._shapes import Tree, any_key, plain_list, positioned, writes


def assert_in_step(session: Session, tree: Tree) -> None:
    """Assert the same as in `_shapes`, after loading what the start left unloaded."""
    for node in list(session.identity_map.values()):
        if "name" in node.__dict__:
            for attribute in inspect(tree.cls).column_attrs:
                getattr(node, attribute.key)
    _shapes.assert_in_step(session, tree)


def _by_parent(tree: Tree, node: Any, parent: Any) -> None:
    node.parent = parent


def _by_key(tree: Tree, node: Any, parent: Any) -> None:
    node.parent_id = None if parent is None else tree.pk(parent)


def _by_both(tree: Tree, node: Any, parent: Any) -> None:
    _by_parent(tree, node, parent)
    _by_key(tree, node, parent)


def _by_both_the_other_way(tree: Tree, node: Any, parent: Any) -> None:
    _by_key(tree, node, parent)
    _by_parent(tree, node, parent)


SPELLINGS = {"parent": _by_parent, "key": _by_key}
BOTH = {"both": _by_both, "key-first": _by_both_the_other_way}
spelled = pytest.mark.parametrize("repeat", SPELLINGS.values(), ids=SPELLINGS)
spelled_twice = pytest.mark.parametrize("repeat", BOTH.values(), ids=BOTH)


@pytest.fixture(params=["loaded", "expired", "columns", "deferred", "expired-key"])
def start(request: pytest.FixtureRequest, tree: Tree, session: Session) -> Callable[[str], Any]:
    """Make a tree and leave its nodes in one of the states in which an attribute may be unknown."""

    def make(outline: str) -> Any:
        nodes = tree.make(session, outline)
        every = list(vars(nodes).values())
        if request.param in ("loaded", "expired-key"):
            load_tree(session, tree.cls)
        elif request.param == "columns":
            for node in every:
                session.refresh(node, inspect(tree.cls).columns.keys())
        elif request.param == "deferred":
            session.scalars(
                select(tree.cls).options(load_only(tree.cls.name)).execution_options(populate_existing=True)
            ).all()
        if request.param == "expired-key":
            for node in every:
                session.expire(node, ["parent_id"])
        return nodes

    return make


@spelled
def test_the_same_parent_again_writes_nothing(tree: Tree, session: Session, start: Any, repeat: Any) -> None:
    """A node that is given the parent that it has stays at its place among its siblings, and no row is written."""
    t = start("a(b c d)")
    repeat(tree, t.b, t.a)
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d)"


@spelled
def test_none_again_on_a_root_writes_nothing(tree: Tree, session: Session, start: Any, repeat: Any) -> None:
    """A root whose parent is set to None stays at its place among the roots, and no row is written."""
    t = start("a(b) c d")
    repeat(tree, t.a, None)
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b) c d"


@spelled
def test_an_edit_beside_the_same_parent_writes_the_edit_only(
    tree: Tree, session: Session, start: Any, repeat: Any
) -> None:
    """A form that sets every field of a node is one UPDATE."""
    t = start("a(b c d)")
    repeat(tree, t.b, t.a)
    t.b.label = "edited"
    with count_statements() as log:
        session.flush()
    assert len(writes(log)) == 1, log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d)"


@spelled
def test_there_and_back_is_no_move(tree: Tree, session: Session, start: Any, repeat: Any) -> None:
    """A node that is given away and back before the flush keeps its place, in the loaded list too."""
    t = start("a(b c d) e")
    assert tree.pk(t.a) != tree.pk(t.e)  # Loaded by now: loading them in between would flush on SQLAlchemy 2.1.
    repeat(tree, t.b, t.e)
    repeat(tree, t.b, t.a)
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d) e"


@plain_list
@spelled_twice
def test_both_spellings_of_the_same_parent_write_nothing(tree: Tree, session: Session, start: Any, repeat: Any) -> None:
    """A node that is given its parent twice, as object and by key, keeps its place."""
    t = start("a(b c d)")
    repeat(tree, t.b, t.a)
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d)"


def test_taken_out_and_given_back_is_no_move(tree: Tree, session: Session) -> None:
    """A node that is taken out of the collection and given its old parent keeps its place."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    tree.detach(t.a, t.b)
    t.b.parent = t.a
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d)"


def test_taken_out_and_given_back_by_key_is_no_move(tree: Tree, session: Session) -> None:
    """A node that is taken out of the collection and given the key of its old parent keeps its place."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    tree.detach(t.a, t.b)
    t.b.parent_id = tree.pk(t.a)
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert tree.outline(session) == "a(b c d)"
    assert t.b.parent is t.a


def test_merge_of_what_is_there_writes_nothing(tree: Tree, session: Session, engine: Engine) -> None:
    """Merging a detached copy that says the same as the row leaves the row and its place alone."""
    t = tree.make(session, "a(b c d)")
    session.refresh(t.b)
    key = tree.pk(t.b)
    session.expunge(t.b)
    with count_statements() as log:
        merged = session.merge(t.b)
        session.flush()
    assert not writes(log), log.text
    assert tree.pk(merged) == key
    assert tree.outline(session) == "a(b c d)"


@any_key
@spelled
def test_with_every_kind_of_key(tree: Tree, session: Session, repeat: Any) -> None:
    """The same holds for keys of every type, and columns of other names."""
    t = tree.make(session, "a(b c d)")
    repeat(tree, t.b, t.a)
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert tree.outline(session) == "a(b c d)"


@positioned
def test_the_same_position_again_writes_nothing(tree: Tree, session: Session, start: Any) -> None:
    """A position that repeats the stored one is no move."""
    t = start("a(b c d)")
    t.c.position = 1
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d)"


@positioned
@spelled
def test_a_new_position_beside_the_same_parent_counts(tree: Tree, session: Session, start: Any, repeat: Any) -> None:
    """A form that changes the position and repeats the parent, in this order, moves the node among its siblings."""
    t = start("a(b c d)")
    t.d.position = 0
    repeat(tree, t.d, t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(d b c)"


@positioned
@spelled
def test_a_place_beside_the_same_parent_counts(tree: Tree, session: Session, start: Any, repeat: Any) -> None:
    """A place that was asked for by `move_to` survives a repeated parent."""
    t = start("a(b c d)")
    t.d.move_to(t.a, "first_child")
    repeat(tree, t.d, t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(d b c)"


@positioned
def test_the_end_can_still_be_asked_for(tree: Tree, session: Session, start: Any) -> None:
    """`move_to` with the parent that a node has makes it the last child."""
    t = start("a(b c d)")
    t.b.move_to(t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(c d b)"


@positioned
def test_a_node_that_moves_beside_one_that_stays(tree: Tree, session: Session, start: Any) -> None:
    """A real move beside a repeated parent is carried out, and the other node stays."""
    t = start("a(b c d)")
    t.b.parent = t.a
    t.c.parent = t.d
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b d(c))"


@spelled
def test_a_child_of_a_deleted_node_that_repeats_it(tree: Tree, session: Session, start: Any, repeat: Any) -> None:
    """A child whose parent is assigned once more and deleted is deleted with it, as if nothing had been assigned."""
    t = start("a(b(c)) d")
    repeat(tree, t.c, t.b)
    session.delete(t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a d"


@spelled
def test_onupdate_does_not_fire(engine: Engine, plain_bases: Any, session: Session, repeat: Any) -> None:
    """Neither ``onupdate`` nor ``version_id_col`` takes a repeated parent for an edit."""
    Base = plain_bases()
    counter = itertools.count(1)

    class Page(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        edits: Mapped[int] = mapped_column(default=0, onupdate=lambda: next(counter))
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    class ByKey:
        @staticmethod
        def pk(node: Any) -> Any:
            return node.id

    Base.metadata.create_all(engine)
    a, b, c = (Page(name=name) for name in "abc")
    a.children = [b, c]
    session.add(a)
    session.commit()
    repeat(ByKey, b, a)
    repeat(ByKey, a, None)
    session.commit()
    assert (b.edits, b.version, a.edits, a.version) == (0, 1, 0, 1)
