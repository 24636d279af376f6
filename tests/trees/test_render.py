"""`render_tree`: what is loaded, as text or for rich, and no SQL."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, selectinload

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.trees import TreeNode, load_tree, render_tree, verify_tree
from tests.trees._shapes import Tree, keyed, no_sql, plain_list, positioned

DRAWN = """\
a
├── b
│   ├── d
│   │   └── h
│   └── e
└── c
    └── g"""


@pytest.fixture
def a(tree: Tree, session: Session) -> Any:
    """Return the root of a loaded tree."""
    nodes = tree.make(session, "a(b(d(h) e) c(g))")
    load_tree(session, tree.cls)
    return nodes.a


def test_a_loaded_tree(tree: Tree, a: Any) -> None:
    """Each node is a line below its parent, in the order of the siblings, and no SQL is emitted."""
    with no_sql():
        assert render_tree(a) == DRAWN


def test_a_transient_tree(tree: Tree) -> None:
    """Nodes that are in no session are drawn as they are."""
    assert render_tree(tree.pending("a(b(d(h) e) c(g))").a) == DRAWN
    assert render_tree(tree.new("alone")) == "alone"


def test_a_pending_tree(tree: Tree, session: Session) -> None:
    """Nodes that wait for a flush are drawn without one."""
    nodes = tree.pending("a(b(d(h) e) c(g))")
    session.add(nodes.a)
    with no_sql():
        assert render_tree(nodes.a) == DRAWN
    assert nodes.h in session.new


def test_changes_that_wait_for_a_flush(tree: Tree, session: Session, a: Any) -> None:
    """What is in memory is drawn, flushed or not."""
    (b, c) = tree.members(a)
    with session.no_autoflush, no_sql():
        (g,) = tree.members(c)
        g.name = "gg"
        tree.attach(b, tree.new("z"))
        tree.detach(a, c)
        assert render_tree(a) == "a\n└── b\n    ├── d\n    │   └── h\n    ├── e\n    └── z"
        assert render_tree(c) == "c\n└── gg"


@plain_list
def test_a_node_in_the_middle(tree: Tree, a: Any) -> None:
    """Any node can be the top."""
    with no_sql():
        assert render_tree(tree.members(a)[0]) == "b\n├── d\n│   └── h\n└── e"


def test_what_is_not_loaded(tree: Tree, session: Session, a: Any) -> None:
    """Below a depth that was not loaded stands an ellipsis, and a leaf that is loaded has none."""
    key = tree.pk(a)
    session.expunge_all()
    (a,) = load_tree(session, tree.cls, key, max_depth=1)
    with no_sql():
        assert render_tree(a) == "a\n├── b …\n└── c …"
        assert render_tree(a, label=lambda node: f"<{node.name}>\nx") == (
            "<a>\n│   x\n├── <b> …\n│       x\n└── <c> …\n        x"
        )
    load_tree(session, tree.cls, tree.pk(tree.members(a)[1]))
    with no_sql():
        assert render_tree(a) == "a\n├── b …\n└── c\n    └── g"


@plain_list
def test_what_is_not_loaded_and_detached(tree: Tree, session: Session, a: Any) -> None:
    """A node that left its session with its children unloaded does not pass for a leaf."""
    key = tree.pk(a)
    session.expunge_all()
    (a,) = load_tree(session, tree.cls, key, max_depth=1)
    session.expunge_all()
    assert render_tree(a) == "a\n├── b …\n└── c …"


@plain_list
def test_an_expired_node(tree: Tree, session: Session, a: Any) -> None:
    """An expired node is drawn without SQL too: by the label that is given, and its children are not loaded."""
    session.commit()
    with no_sql():
        assert render_tree(a, label=lambda node: "label") == "label …"


@plain_list
def test_the_default_label_of_an_expired_node(tree: Tree, session: Session, a: Any) -> None:
    """The name of an expired node is not fetched: no SQL means none."""
    session.commit()
    with no_sql():
        assert render_tree(a) == f"<Node {inspect(a).identity[0]}> …"


@positioned
def test_loaded_by_other_means(tree: Tree, session: Session, a: Any) -> None:
    """It does not matter how the children were loaded, and a list keeps its order whatever the names are."""
    key = tree.pk(a)
    tree.attach(a, tree.new("Z"))
    tree.members(a)[1].move_to(tree.members(a)[0], "before")
    session.commit()
    session.expunge_all()
    option = selectinload(tree.cls.children)
    a = session.scalars(select(tree.cls).where(tree.cls.id == key).options(option)).one()
    with no_sql():
        assert render_tree(a) == "a\n├── c …\n├── b …\n└── Z …"


@plain_list
def test_labels(tree: Tree) -> None:
    """A label may be any text: unicode, empty, several lines, of any length."""
    nodes = tree.pending("a(b(c) d)")
    nodes.a.name = "Bücher 本 🌳"
    nodes.b.name = "one\ntwo\n\nfour"
    nodes.c.name = "x\r\ny"
    nodes.d.name = ""
    assert render_tree(nodes.a).split("\n") == [
        "Bücher 本 🌳",
        "├── one",
        "│   │   two",
        "│   │   ",
        "│   │   four",
        "│   └── x",
        "│           y",
        "└── ",
    ]


@plain_list
def test_a_label_function(tree: Tree, a: Any) -> None:
    """The caller's function is asked once for each node, in any order, and its answer is drawn."""
    asked: list[str] = []

    def label(node: Any) -> str:
        asked.append(node.name)
        return str(node.name).upper()

    with no_sql():
        assert render_tree(a, label=label) == DRAWN.upper()
    assert sorted(asked) == list("abcdegh")


@keyed
def test_the_key_is_the_label(tree: Tree, session: Session, a: Any) -> None:
    """A keyed tree shows its keys, in the order of the dictionary, and follows a rename."""
    with session.no_autoflush:
        a.children["b"].name = "w"
        with no_sql():
            assert render_tree(a.children["w"]).startswith("w\n├── d")


@plain_list
def test_a_label_without_text(tree: Tree) -> None:
    """A name that is no text is shown as text, and a node without one by its class."""
    node = tree.new("x")
    node.name = 7
    assert render_tree(node) == "7"
    node.name = None
    assert render_tree(node) == "<new Node>"


def test_a_tree_without_names(engine: Engine, plain_bases: Any, session: Session) -> None:
    """Without key and name a node is shown by its class and primary key."""
    Base = plain_bases()

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)
    session.add(top := Node(id=1, children=[Node(id=2), Node(id=3)]))
    session.flush()
    with no_sql():
        assert render_tree(top) == "<Node 1>\n├── <Node 2>\n└── <Node 3>"


@plain_list
def test_deep_trees(tree: Tree) -> None:
    """A chain of 3,000 nodes is drawn without recursion, for rich too."""
    top = node = tree.new("0")
    for i in range(1, 3_001):
        child = tree.new(str(i))
        node.children = [child]
        node = child
    lines = render_tree(top).split("\n")
    assert len(lines) == 3_001
    assert lines[3_000] == "    " * 2_999 + "└── 3000"
    branch = render_tree(top, rich=True)
    depth = 0
    while branch.children:
        (branch,) = branch.children
        depth += 1
    assert depth == 3_000


@plain_list
def test_a_cycle_ends(tree: Tree, session: Session) -> None:
    """Links that form a cycle, in memory or in damaged data, are drawn once."""

    def label(node: Any) -> str:
        asked.append(node.name)
        assert len(asked) < 50, "follows the cycle"
        return str(node.name)

    asked: list[str] = []
    t = tree.make(session, "a(b)")
    session.connection().execute(tree.table.update().where(tree.table.c.id == t.a.id).values(parent_id=t.b.id))
    session.expire_all()
    assert {problem.kind for problem in verify_tree(session, tree.cls)} == {"cycle"}
    (b,) = t.a.children
    assert list(b.children) == [t.a]
    assert render_tree(t.a, label=label).startswith("a\n└── b")
    asked.clear()
    render_tree(t.a, label=label, rich=True)
    assert set(asked) == {"a", "b"}


@pytest.mark.parametrize("thing", [pytest.param(object(), id="object"), 7, None], ids=repr)
def test_no_node(thing: Any) -> None:
    """What is no node of a tree is refused by name."""
    with pytest.raises(InvalidArgumentError, match="no tree"):
        render_tree(thing)


# -- rich ----------------------------------------------------------------------------------------


def printed(tree: Any) -> list[str]:
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=60, color_system=None).print(tree)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_tree_for_rich(tree: Tree, session: Session, a: Any) -> None:
    """A rich tree prints the same lines as the text, ellipses included."""
    from rich.tree import Tree as RichTree

    key = tree.pk(a)
    with no_sql():
        found = render_tree(a, rich=True)
        assert isinstance(found, RichTree)
        assert printed(found) == DRAWN.split("\n")
    session.expunge_all()
    (a,) = load_tree(session, tree.cls, key, max_depth=1)
    with no_sql():
        assert printed(render_tree(a, rich=True)) == ["a", "├── b …", "└── c …"]


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]", "a\\", "\\[b]", "[link=x]", ":warning: :smile:"])
@plain_list
def test_labels_are_no_markup(tree: Tree, name: str) -> None:
    """What looks like markup or an emoji code is a name like any other."""
    node = tree.pending("a(b)").a
    node.name = node.children[0].name = name
    assert printed(render_tree(node, rich=True)) == [name, f"└── {name}"]


@plain_list
def test_without_rich(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rich is not installed, the error says how to install it, and text needs none."""
    for module in [name for name in sys.modules if name == "rich" or name.startswith("rich.")]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("rich", "rich.tree", "rich.markup", "rich.text"):
        monkeypatch.setitem(sys.modules, module, None)
    node = tree.pending("a(b)").a
    with pytest.raises(ImportError, match=r"pip install 'sqla-patterns\[cli\]'"):
        render_tree(node, rich=True)
    assert render_tree(node) == "a\n└── b"
