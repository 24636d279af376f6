"""`load_tree`, `walk_tree` and `lowest_common_ancestor`, on each shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, raiseload

from sqla_patterns.exceptions import InvalidArgumentError, StateError
from sqla_patterns.trees import TreeNode, TreeRow, load_tree, lowest_common_ancestor, walk_tree
from tests.trees._shapes import Tree, any_key, assert_in_step, in_lists, keyed, no_sql, positioned

OUTLINE = "a(b(d e(h)) c) f(g)"


@pytest.fixture
def keys(tree: Tree, session: Session) -> Any:
    """Return the primary keys of the nodes by name, and empty the session."""
    nodes = tree.make(session, OUTLINE)
    for name, node in vars(nodes).items():
        setattr(nodes, name, tree.pk(node))
    session.expunge_all()
    return nodes


def outline_of(tree: Tree, nodes: Any) -> str:
    """Return loaded nodes as an outline, by walking ``children``, without SQL."""

    def text(node: Any) -> str:
        inner = " ".join(map(text, tree.members(node)))
        return f"{node.name}({inner})" if inner else str(node.name)

    with no_sql():
        return " ".join(map(text, nodes))


def test_all_trees_in_one_select(tree: Tree, session: Session, keys: Any, statements: Any) -> None:
    """Without a root all trees of the table come back, in order, and walking them emits nothing."""
    with statements() as log:
        roots = load_tree(session, tree.cls)
        assert outline_of(tree, roots) == OUTLINE
    assert len(log) == 1
    assert len(log.starting("SELECT", "WITH")) == 1
    assert_in_step(session, tree)


def test_links_in_both_directions(tree: Tree, session: Session, keys: Any) -> None:
    """``parent`` and ``children`` of all nodes are loaded: a root has the parent None, a leaf has no children."""
    rows = walk_tree(session, tree.cls)
    with no_sql():
        for node, depth in rows:
            assert (node.parent is None) == (depth == 0)
            assert all(child.parent is node for child in tree.members(node))
        assert not tree.members(rows[2].node)


def test_walk_is_depth_first(tree: Tree, session: Session, keys: Any, statements: Any) -> None:
    """`walk_tree` returns rows of node and depth, depth first, in one SELECT."""
    with statements() as log:
        rows = walk_tree(session, tree.cls)
    assert len(log) == 1
    assert isinstance(rows[0], TreeRow)
    assert [(row.node.name, row.depth) for row in rows] == [
        ("a", 0), ("b", 1), ("d", 2), ("e", 2), ("h", 3), ("c", 1), ("f", 0), ("g", 1),
    ]  # fmt: skip


def test_below_a_root(tree: Tree, session: Session, keys: Any, statements: Any) -> None:
    """A root by key or by instance loads what lies below it, itself included, counted from depth 0."""
    with statements() as log:
        assert outline_of(tree, load_tree(session, tree.cls, keys.b)) == "b(d e(h))"
    assert len(log) == 1
    node = session.get(tree.cls, keys.b)
    session.expunge_all()
    session.add(node)
    assert outline_of(tree, load_tree(session, tree.cls, node)) == "b(d e(h))"
    assert [(row.node.name, row.depth) for row in walk_tree(session, tree.cls, node)] == [
        ("b", 0), ("d", 1), ("e", 1), ("h", 2),
    ]  # fmt: skip


def test_several_roots(tree: Tree, session: Session, keys: Any, statements: Any) -> None:
    """A sequence of roots loads each once, in one SELECT; a root below another is no root of the result."""
    with statements() as log:
        assert outline_of(tree, load_tree(session, tree.cls, [keys.f, keys.b])) in ("b(d e(h)) f(g)", "f(g) b(d e(h))")
        assert outline_of(tree, load_tree(session, tree.cls, [keys.e, keys.a, keys.a])) == "a(b(d e(h)) c)"
        assert load_tree(session, tree.cls, []) == []
    assert len(log) <= 3
    assert len(walk_tree(session, tree.cls, [keys.a, keys.b])) == 6


@any_key
def test_every_kind_of_key(tree: Tree, session: Session, statements: Any) -> None:
    """Loading takes keys of every type, columns of other names and tables in a schema."""
    nodes = tree.make(session, OUTLINE)
    key = tree.pk(nodes.b)
    session.expunge_all()
    with statements() as log:
        assert outline_of(tree, load_tree(session, tree.cls)) == OUTLINE
        assert outline_of(tree, load_tree(session, tree.cls, key)) == "b(d e(h))"
    assert len(log) == 2


@pytest.mark.parametrize(
    ("root", "max_depth", "expected"),
    [
        (None, 0, "a f"),
        (None, 1, "a b c f g"),
        (None, 2, "a b d e c f g"),
        ("a", 0, "a"),
        ("a", 1, "a b c"),
        ("b", 9, "b d e h"),
    ],
)
def test_max_depth(tree: Tree, session: Session, keys: Any, root: str | None, max_depth: int, expected: str) -> None:
    """``max_depth`` counts edges; what lies at it has its children left unloaded, what lies above has them."""
    rows = walk_tree(session, tree.cls, None if root is None else getattr(keys, root), max_depth=max_depth)
    assert tree.names(row.node for row in rows) == expected
    for node, depth in rows:
        assert ("children" in inspect(node).unloaded) == (depth == max_depth)
        assert ("parent" in inspect(node).unloaded) == (depth == 0 and root == "b")
    assert [tree.names(tree.members(node)) for node, _ in rows[:1]] == ["b c" if root != "b" else "d e"]


def test_load_tree_with_max_depth_loads_below_on_demand(tree: Tree, session: Session, keys: Any) -> None:
    """Below ``max_depth`` lazy loading goes on, to the very objects."""
    (a,) = load_tree(session, tree.cls, keys.a, max_depth=1)
    b = tree.members(a)[0]
    assert tree.names(tree.members(b)) == "d e"
    assert tree.members(b)[0].parent is b


def test_unknown_key_is_empty(tree: Tree, session: Session, keys: Any) -> None:
    """A key that does not exist loads nothing, alone or beside others."""
    session.delete(session.get(tree.cls, keys.g))
    session.flush()
    assert load_tree(session, tree.cls, keys.g) == []
    assert walk_tree(session, tree.cls, keys.g) == []
    assert tree.names(load_tree(session, tree.cls, [keys.g, keys.c])) == "c"


def test_an_empty_table(tree: Tree, session: Session) -> None:
    """An empty table has no roots."""
    assert load_tree(session, tree.cls) == []
    assert walk_tree(session, tree.cls, max_depth=3) == []


def test_bad_arguments(tree: Tree, session: Session, keys: Any) -> None:
    """A transient root, a negative depth and a class that is no tree are clear errors."""
    with pytest.raises(StateError):
        load_tree(session, tree.cls, tree.new("x"))
    with pytest.raises(InvalidArgumentError):
        load_tree(session, tree.cls, max_depth=-1)
    with pytest.raises(InvalidArgumentError):
        load_tree(session, Session)  # type: ignore[type-var]


def test_the_roots_own_parent_stays_as_it_is(tree: Tree, session: Session, keys: Any) -> None:
    """The parent of an inner root is not made None: it is loaded on demand."""
    (b,) = load_tree(session, tree.cls, keys.b)
    assert b.parent.name == "a"


def test_raiseload_as_a_session_option(tree: Tree, session: Session, keys: Any) -> None:
    """Nodes that were loaded under ``raiseload('*')`` get their links, and walking raises nothing."""
    held = session.scalars(select(tree.cls).options(raiseload("*"))).all()
    assert len(held) == 8
    assert outline_of(tree, load_tree(session, tree.cls)) == OUTLINE


@pytest.mark.parametrize("root", [None, "a"])
def test_relationships_that_raise_on_the_class(engine: Engine, plain_bases: Any, root: str | None) -> None:
    """``lazy="raise"`` on the class's own relationships does not keep `load_tree` from loading them."""
    Base = plain_bases()

    class Page(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    Page.parent.property.lazy = "raise"
    Page.children.property.lazy = "raise"
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        top = Page()
        below = Page()
        below.parent = top
        session.add_all([top, below])
        session.flush()
        key = top.id
        session.expunge_all()
        (found,) = load_tree(session, Page, key if root else None)
        with no_sql():
            assert len(found.children) == 1
            assert found.children[0].parent is found
            assert found.children[0].children == []


def test_pending_changes_survive(tree: Tree, session: Session, keys: Any) -> None:
    """With autoflush off, what was changed and not flushed stays: a move, a new node, a removal, a new name."""
    a, f = load_tree(session, tree.cls)
    b, c = tree.members(a)
    d = tree.members(b)[0]
    with session.no_autoflush:
        d.parent = c
        new = tree.new("n")
        tree.attach(f, new)
        c.label = "changed"
        load_tree(session, tree.cls)
        load_tree(session, tree.cls, keys.b)
        assert d.parent is c
        assert d in tree.members(c)
        assert d not in tree.members(b)
        assert new.parent is f
        assert new in tree.members(f)
        assert c.label == "changed"
    session.commit()
    assert tree.outline(session) == "a(b(e(h)) c(d)) f(g n)"
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


def test_a_pending_parent_id_survives(tree: Tree, session: Session, keys: Any) -> None:
    """A move by ``parent_id`` that is not flushed survives a load of the tree."""
    load_tree(session, tree.cls)
    d = session.get(tree.cls, keys.d)
    with session.no_autoflush:
        d.parent_id = keys.c
        load_tree(session, tree.cls)
        assert d.parent_id == keys.c
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b(e(h)) c(d)) f(g)"


@in_lists
def test_a_held_list_stays_the_list(tree: Tree, session: Session, keys: Any) -> None:
    """The list that the caller holds stays the node's list when nothing changed in it."""
    (a,) = load_tree(session, tree.cls, keys.a)
    held = a.children
    load_tree(session, tree.cls)
    assert a.children is held
    held.append(tree.new("z"))
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b(d e(h)) c z) f(g)"


@keyed
def test_a_held_dictionary_stays_the_dictionary(tree: Tree, session: Session, keys: Any) -> None:
    """The dictionary that the caller holds stays the node's when nothing changed in it."""
    (a,) = load_tree(session, tree.cls, keys.a)
    held = a.children
    load_tree(session, tree.cls)
    assert a.children is held


def test_a_reload_sees_what_others_did(tree: Tree, file_engine: Engine, statements: Callable[..., Any]) -> None:
    """After a commit a second load shows another session's changes in collections that were loaded before."""
    tree.create(file_engine)
    with Session(file_engine) as session, Session(file_engine) as other:
        nodes = tree.make(session, OUTLINE)
        load_tree(session, tree.cls)
        session.commit()
        moved = other.get(tree.cls, tree.pk(nodes.d))
        moved.parent = other.get(tree.cls, tree.pk(nodes.c))
        session.rollback()
        other.commit()
        assert outline_of(tree, load_tree(session, tree.cls)) == "a(b(e(h)) c(d)) f(g)"


@positioned
def test_order_of_siblings_and_roots(tree: Tree, session: Session) -> None:
    """Siblings and roots come in the order of their positions, whatever their names and keys."""
    tree.make(session, "z(y x w) a(c b)")
    session.expunge_all()
    assert outline_of(tree, load_tree(session, tree.cls)) == "z(y x w) a(c b)"


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("d", "h", "b"),
        ("d", "c", "a"),
        ("d", "b", "b"),
        ("h", "h", "h"),
        ("a", "h", "a"),
        ("d", "g", None),
        ("a", "f", None),
    ],
)
def test_lowest_common_ancestor(
    tree: Tree, session: Session, keys: Any, statements: Any, one: str, two: str, expected: str | None
) -> None:
    """The deepest node that both lie below or are, in one SELECT; None in different trees."""
    a, b = (session.get(tree.cls, getattr(keys, name)) for name in (one, two))
    with statements() as log:
        found = lowest_common_ancestor(session, a, b)
    assert len(log) == 1
    assert (None if found is None else found.name) == expected
    assert getattr(lowest_common_ancestor(session, b, a), "name", None) == expected


def test_lowest_common_ancestor_of_a_new_node(tree: Tree, session: Session, keys: Any) -> None:
    """A node without identity has no place in the table yet."""
    with pytest.raises(StateError):
        lowest_common_ancestor(session, session.get(tree.cls, keys.a), tree.new("x"))
