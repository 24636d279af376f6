"""Trees with a history: the past can be asked by parents; what takes an index or a position is refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, String, select
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from sqla_patterns.trees import ClosureTable, MaterializedPath, NestedSets, TreeNode, verify_tree
from sqla_patterns.versioning import NotVersionedError, Versioned, VersionOptions, as_of, revert, version_at, versions
from tests.versioning._models import history, history_table, tick

#: The columns that each index adds to the table of the nodes.
DERIVED = {
    "NestedSets": {"lft", "rgt", "depth", "tree_id"},
    "MaterializedPath": {"path"},
    "ClosureTable": set[str](),
}
INDEXES = {index.__name__: index for index in (NestedSets, MaterializedPath, ClosureTable)}


def make(base: Any, index: str | None = None) -> Any:
    bases = (*((INDEXES[index],) if index else ()), TreeNode, Versioned, base)
    namespace = {
        "__tablename__": "node",
        "__versioned__": VersionOptions(period=True),
        "__annotations__": {"id": Mapped[int], "name": Mapped[str]},
        "id": mapped_column(primary_key=True),
        "name": mapped_column(String(20)),
    }
    return type("Node", bases, namespace)


class Tree:
    """The tree ``root(a(x), b, c)``, in which ``a`` is moved below ``c`` after `then`."""

    def __init__(self, cls: Any, session: Session) -> None:
        self.cls = cls
        root = cls(name="root")
        self.a, self.b, self.c = (cls(name=name, parent=root) for name in "abc")
        self.x = cls(name="x", parent=self.a)
        session.add(root)
        session.commit()
        self.root = root
        self.then = tick()
        self.a.parent = self.c
        session.commit()
        self.now = tick()


@pytest.fixture(name="tree")
def _tree(plain_bases: Any, engine: Engine, session: Session) -> Tree:
    Node = make(plain_bases())
    Node.metadata.create_all(engine)
    return Tree(Node, session)


def names(found: Any) -> str:
    return "".join(sorted(node.name[0] for node in found))


def test_children_of_then(tree: Tree, session: Session) -> None:
    below = select(tree.cls).where(tree.cls.child_of(tree.root))
    assert (names(as_of(session, below, tree.then)), names(as_of(session, below, tree.now))) == ("abc", "bc")


def test_descendants_of_then(tree: Tree, session: Session) -> None:
    below = select(tree.cls).where(tree.cls.descendant_of(tree.c))
    assert (names(as_of(session, below, tree.then)), names(as_of(session, below, tree.now))) == ("", "ax")


def test_leaves_of_then(tree: Tree, session: Session) -> None:
    leaves = select(tree.cls).where(tree.cls.is_leaf())
    assert (names(as_of(session, leaves, tree.then)), names(as_of(session, leaves, tree.now))) == ("bcx", "bx")


def test_siblings_of_then(tree: Tree, session: Session) -> None:
    beside = select(tree.cls).where(tree.cls.sibling_of(tree.b))
    assert (names(as_of(session, beside, tree.then)), names(as_of(session, beside, tree.now))) == ("ac", "c")


def test_two_aliases_of_one_table_are_two(tree: Tree, session: Session) -> None:
    one, two = aliased(tree.cls), aliased(tree.cls)
    statement = (
        select(tree.cls)
        .join(one, one.parent_id == tree.cls.id)
        .join(two, two.parent_id == one.id)
        .where(one.name == "a", two.name == "x")
    )
    found = (names(as_of(session, statement, tree.then)), names(as_of(session, statement, tree.now)))
    assert found == ("r", "c")


def test_a_named_alias_of_a_subquery_and_of_the_statement_are_two(tree: Tree, session: Session) -> None:
    above = aliased(tree.cls, name="above")
    inner = aliased(tree.cls, name="node_then")
    statement = (
        select(tree.cls)
        .join(above, above.id == tree.cls.parent_id)
        .where(above.name == "root", select(inner.id).where(inner.parent_id == tree.cls.id).exists())
    )
    assert (names(as_of(session, statement, tree.then)), names(as_of(session, statement, tree.now))) == ("a", "c")


def test_the_order_of_siblings_of_then_is_refused(tree: Tree, session: Session) -> None:
    # Siblings that were shifted have no version, so that their positions come from different moments.
    with pytest.raises(NotVersionedError, match=r"Node\.position: TreeNode also changes it"):
        as_of(session, select(tree.cls).order_by(tree.cls.position), tree.then)


@pytest.mark.parametrize("index", INDEXES)
def test_the_history_has_no_columns_of_the_index(plain_bases: Any, index: str) -> None:
    Node = make(plain_bases(), index)
    assert DERIVED[index] <= set(Node.__table__.c.keys())
    assert not DERIVED[index] & set(history_table(Node).c.keys())


@pytest.mark.parametrize("index", INDEXES)
def test_a_move_makes_a_version_of_the_moved_node_alone(
    plain_bases: Any, engine: Engine, session: Session, index: str
) -> None:
    Node = make(plain_bases(), index)
    Node.metadata.create_all(engine)
    tree = Tree(Node, session)
    assert history(session, Node, "name", "parent_id") == [("a", tree.root.id)]
    assert [version.object.parent_id for version in versions(session, tree.a)] == [tree.root.id, tree.c.id]


@pytest.mark.parametrize("index", INDEXES)
def test_a_predicate_of_an_index_is_refused(plain_bases: Any, engine: Engine, session: Session, index: str) -> None:
    Node = make(plain_bases(), index)
    Node.metadata.create_all(engine)
    tree = Tree(Node, session)
    with pytest.raises(NotVersionedError, match="by its parents"):
        as_of(session, select(Node).where(Node.descendant_of(tree.c)), tree.then)


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_does_not_hinder_what_parents_answer(
    plain_bases: Any, engine: Engine, session: Session, index: str
) -> None:
    Node = make(plain_bases(), index)
    Node.metadata.create_all(engine)
    tree = Tree(Node, session)
    found = as_of(session, select(Node).where(Node.parent_id == tree.root.id), tree.then)
    past = version_at(session, Node, tree.a.id, tree.then)
    assert (names(found), past is not None and past.parent_id) == ("abc", tree.root.id)


@pytest.mark.parametrize("index", [None, *INDEXES])
def test_reverting_a_move_brings_a_node_back_to_its_place_among_its_siblings(
    plain_bases: Any, engine: Engine, session: Session, index: str | None
) -> None:
    Node = make(plain_bases(), index)
    Node.metadata.create_all(engine)
    root = Node(name="root", children=[Node(name=name) for name in "abc"])
    session.add(root)
    session.commit()
    a, b, _ = root.children
    a.move_to(b)  # the first child of b, so that its position does not change
    session.commit()

    revert(session, a, to=1)
    session.commit()

    assert [child.name for child in root.children] == ["a", "b", "c"]
    assert verify_tree(session, Node) == []


def test_reverting_a_move_after_others_took_the_place_puts_the_node_before_them(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Node = make(plain_bases())
    Node.metadata.create_all(engine)
    root = Node(name="root", children=[Node(name=name) for name in "abc"])
    session.add(root)
    session.commit()
    b = root.children[1]
    b.move_to(None)
    root.children.insert(1, Node(name="new"))
    session.commit()

    revert(session, b, to=1)
    session.commit()

    assert [child.name for child in root.children] == ["a", "b", "new", "c"]


def test_a_node_that_keeps_its_position_while_others_make_room_gets_no_version(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Node = make(plain_bases())
    Node.metadata.create_all(engine)
    root = Node(name="root", children=[Node(name=name) for name in "ab"])
    session.add(root)
    session.commit()
    b = root.children[1]
    b.position = 0
    root.children.insert(0, Node(name="new"))  # it takes position 0, so that b stays at 1
    session.commit()

    assert [(child.name, child.version) for child in root.children] == [("new", 1), ("b", 1), ("a", 1)]
    assert history(session, Node, "name", "position") == []
