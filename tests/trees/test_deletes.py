"""Deletion: the four policies, loaded and unloaded subtrees, moves in the same flush, dependants, statement counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, event, func, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sqla_patterns.trees import DeleteRestrictedError, InvalidMoveError, TreeNode, TreeOptions, load_tree
from tests._support import count_statements
from tests.trees._shapes import Tree, any_key, assert_in_step, positioned, writes

every_start = pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "expired"])
#: Ways to delete a node that has a parent.
WAYS: dict[str, Callable[[Tree, Session, Any], None]] = {
    "delete": lambda tree, session, node: session.delete(node),
    "removal": lambda tree, session, node: tree.detach(node.parent, node),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def start(tree: Tree, session: Session, outline: str, *, loaded: bool) -> Any:
    t = tree.make(session, outline)
    if loaded:
        load_tree(session, tree.cls)
    return t


# -- policies ------------------------------------------------------------------------------------


@every_start
@every_way
def test_cascade(tree: Tree, session: Session, way: Any, loaded: bool) -> None:
    """By default everything below goes too, whether anybody had loaded it or not."""
    t = start(tree, session, "r(a(b(d e) c) f) z", loaded=loaded)
    way(tree, session, t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "r(f) z"
    assert not {"a", "b", "c", "d", "e"} & {node.name for node in session.identity_map.values()}
    session.commit()
    assert inspect(t.d).detached


@every_start
@every_way
def test_restrict(trees: Any, session: Session, way: Any, loaded: bool) -> None:
    """``"restrict"`` refuses to delete a node with children before the first write, and deletes a leaf."""
    tree = trees(on_delete="restrict")
    t = start(tree, session, "r(a(b)) z", loaded=loaded)
    with count_statements() as log, pytest.raises(DeleteRestrictedError, match="children"):
        way(tree, session, t.a)
        session.flush()
    assert not writes(log)
    session.rollback()
    assert tree.outline(session) == "r(a(b)) z"
    way(tree, session, t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "r(a) z"


@every_start
def test_restrict_allows_whole_subtrees(trees: Any, session: Session, loaded: bool) -> None:
    """With ``"restrict"``, children that are deleted, or moved away, in the same flush do not count."""
    tree = trees(on_delete="restrict")
    t = start(tree, session, "r(a(b) c(d)) z", loaded=loaded)
    with session.no_autoflush:
        session.delete(t.b)
        session.delete(t.a)
        t.d.parent = t.z
        session.delete(t.c)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "r z(d)"


@every_start
@every_way
def test_adopt(trees: Any, session: Session, way: Any, loaded: bool) -> None:
    """``"adopt"`` gives the children to the parent of the deleted node, at its place and in their order."""
    tree = trees(on_delete="adopt")
    t = start(tree, session, "r(a b(d(x) e) f) z", loaded=loaded)
    way(tree, session, t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "r(a d(x) e f) z"
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


@every_start
def test_adopt_below_the_roots(trees: Any, session: Session, loaded: bool) -> None:
    """With ``"adopt"``, children of a deleted root become roots at its place."""
    tree = trees(on_delete="adopt")
    t = start(tree, session, "a b(d e(x)) g", loaded=loaded)
    session.delete(t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a d e(x) g"


@every_start
def test_adopt_nested(trees: Any, session: Session, loaded: bool) -> None:
    """With ``"adopt"``, a node and its child deleted together leave the grandchildren to the node's parent."""
    tree = trees(on_delete="adopt")
    t = start(tree, session, "r(a b(c(d e) f) g)", loaded=loaded)
    with session.no_autoflush:
        session.delete(t.c)
        session.delete(t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "r(a d e f g)"


@every_start
@every_way
def test_root(trees: Any, session: Session, way: Any, loaded: bool) -> None:
    """``"root"`` makes the children roots, with what lies below them."""
    tree = trees(on_delete="root")
    t = start(tree, session, "a(b(d(x) e) c)", loaded=loaded)
    way(tree, session, t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(c) d(x) e"


@any_key
@pytest.mark.parametrize(
    ("policy", "expected"), [("cascade", "r"), ("adopt", "r(b c)"), ("root", "b c r"), ("restrict", None)]
)
def test_policies_with_every_kind_of_key(trees: Any, session: Session, policy: str, expected: str | None) -> None:
    """Policies take keys of every type, columns of other names and tables in a schema."""
    tree = trees(on_delete=policy)
    t = tree.make(session, "r(a(b c))")
    session.delete(t.a)
    if expected is None:
        with pytest.raises(DeleteRestrictedError):
            session.flush()
        return
    session.flush()
    assert_in_step(session, tree)
    assert sorted(tree.outline(session)) == sorted(expected)


# -- several things in one flush -----------------------------------------------------------------


@every_start
def test_nested_deletes(tree: Tree, session: Session, loaded: bool) -> None:
    """Deleting a node together with some of its descendants is deleting it."""
    t = start(tree, session, "r(a(b(c d) e)) f", loaded=loaded)
    with session.no_autoflush:
        session.delete(t.c)
        session.delete(t.a)
        session.delete(t.e)
        session.delete(t.f)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "r"


MOVES: dict[str, Callable[[Tree, Any, Any], None]] = {
    "parent": lambda tree, node, target: setattr(node, "parent", target),
    "parent_id": lambda tree, node, target: setattr(node, "parent_id", tree.pk(target)),
    "children": lambda tree, node, target: tree.attach(target, node),
    "move_to": lambda tree, node, target: node.move_to(target),
}


@every_start
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("first", ["move", "delete"])
def test_a_descendant_that_moves_out_is_kept(tree: Tree, session: Session, loaded: bool, move: Any, first: str) -> None:
    """What leaves a deleted subtree in the same flush stays, with what lies below it."""
    t = start(tree, session, "a(b(c(d(e)) x)) f", loaded=loaded)
    with session.no_autoflush:
        if first == "delete":
            session.delete(t.a)
        move(tree, t.c, t.f)
        if first == "move":
            session.delete(t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "f(c(d(e)))"
    session.commit()
    assert tree.outline(session) == "f(c(d(e)))"


@every_start
def test_a_child_that_becomes_a_root_is_kept(tree: Tree, session: Session, loaded: bool) -> None:
    """A child that is made a root in the same flush stays."""
    t = start(tree, session, "a(b(c)) f", loaded=loaded)
    with session.no_autoflush:
        t.b.parent = None
        session.delete(t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == ("f b(c)" if tree.positioned else "b(c) f")


@every_start
def test_moves_inside_a_deleted_subtree(tree: Tree, session: Session, loaded: bool) -> None:
    """A node that only moves within the deleted subtree goes with it, or the move is refused; nothing is orphaned."""
    t = start(tree, session, "a(b(c) d) f", loaded=loaded)
    with session.no_autoflush:
        t.c.parent = t.d
        session.delete(t.a)
    try:
        session.flush()
    except InvalidMoveError:
        session.rollback()
        assert tree.outline(session) == "a(b(c) d) f"
    else:
        assert_in_step(session, tree)
        assert tree.outline(session) == "f"


@pytest.mark.parametrize("target", ["a", "b", "c"])
def test_a_node_that_moves_in_is_refused(tree: Tree, session: Session, target: str) -> None:
    """Nothing can go below what is deleted in the same flush."""
    t = tree.make(session, "a(b(c)) f(g)")
    with count_statements() as log, pytest.raises(InvalidMoveError, match="deleted"), session.no_autoflush:
        t.g.parent_id = tree.pk(getattr(t, target))
        session.delete(t.a)
        session.flush()
    assert not writes(log)
    session.rollback()
    assert tree.outline(session) == "a(b(c)) f(g)"


@every_start
def test_a_new_node_below_a_kept_one(tree: Tree, session: Session, loaded: bool) -> None:
    """A new node below a descendant that moves out in the same flush stays with it."""
    t = start(tree, session, "a(b(c)) f", loaded=loaded)
    with session.no_autoflush:
        session.delete(t.a)
        t.c.parent = t.f
        session.add(tree.new("n", t.c))
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "f(c(n))"


@every_start
def test_removal_of_several(tree: Tree, session: Session, loaded: bool) -> None:
    """Clearing a collection deletes all that was in it."""
    t = start(tree, session, "a(b(c) d(e) f) g", loaded=loaded)
    t.a.children.clear()
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a g"


def test_a_pending_child_of_a_deleted_node(tree: Tree, session: Session) -> None:
    """A new node whose parent goes in the same flush is refused, not inserted as a root."""
    t = tree.make(session, "a(b)")
    with pytest.raises(InvalidMoveError), session.no_autoflush:
        session.add(tree.new("n", t.b))
        session.delete(t.a)
        session.flush()
    session.rollback()
    assert tree.outline(session) == "a(b)"


# -- rollback ------------------------------------------------------------------------------------


@every_start
@every_way
def test_rollback_restores(tree: Tree, session: Session, loaded: bool, way: Any) -> None:
    """After a rollback the deleted nodes are persistent again, and memory is right."""
    t = start(tree, session, "r(a(b(c) d) e)", loaded=loaded)
    way(tree, session, t.a)
    session.flush()
    session.rollback()
    assert tree.outline(session) == "r(a(b(c) d) e)"
    assert inspect(t.a).persistent
    assert tree.names(tree.members(t.r)) == "a e"
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


@every_start
@every_way
def test_savepoint_rollback_restores(tree: Tree, session: Session, loaded: bool, way: Any) -> None:
    """The same after the rollback of a savepoint."""
    t = start(tree, session, "r(a(b(c) d) e)", loaded=loaded)
    savepoint = session.begin_nested()
    way(tree, session, t.a)
    session.flush()
    savepoint.rollback()
    assert_in_step(session, tree, after_rollback=True)
    assert tree.outline(session) == "r(a(b(c) d) e)"
    assert tree.names(tree.members(t.r)) == "a e"
    assert tree.names(tree.members(t.b)) == "c"
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


# -- dependants ----------------------------------------------------------------------------------


def _with_items(
    bases: Any, *, cascade: str, nullable: bool, ondelete: str | None, passive: bool
) -> tuple[Any, Any, Any]:
    Base = bases()

    class Folder(TreeNode, Base):
        __tablename__ = "folder"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        items: Mapped[list[Any]] = relationship(lambda: Item, cascade=cascade, passive_deletes=passive)

    class Item(Base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        folder_id: Mapped[int | None] = mapped_column(ForeignKey("folder.id", ondelete=ondelete), nullable=nullable)

    return Base, Folder, Item


def _folders(session: Session, Folder: Any, Item: Any) -> Any:
    a, b, c = (Folder(name=name) for name in "abc")
    a.children.append(b)
    b.children.append(c)
    for folder in (a, b, c):
        folder.items.append(Item())
    session.add(a)
    session.commit()
    return a


@every_start
@pytest.mark.parametrize(
    ("cascade", "nullable", "ondelete", "passive", "left"),
    [
        ("all, delete-orphan", False, None, False, 0),
        ("all", False, None, False, 0),
        ("save-update, merge", True, None, False, 3),
        ("all, delete-orphan", False, "CASCADE", True, 0),
    ],
    ids=["delete-orphan", "delete", "nullify", "by the database"],
)
def test_rows_that_hang_on_deleted_nodes(
    engine: Engine,
    session: Session,
    plain_bases: Any,
    loaded: bool,
    cascade: str,
    nullable: bool,
    ondelete: str | None,
    passive: bool,
    left: int,
) -> None:
    """A relationship of the user's is honoured for every node of a deleted subtree, loaded or not."""
    Base, Folder, Item = _with_items(
        plain_bases, cascade=cascade, nullable=nullable, ondelete=ondelete, passive=passive
    )
    Base.metadata.create_all(engine)
    a = _folders(session, Folder, Item)
    if loaded:
        load_tree(session, Folder)
    session.delete(a)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Folder)) == 0
    assert session.scalar(select(func.count()).select_from(Item)) == left
    assert session.scalar(select(func.count()).select_from(Item).where(Item.folder_id.is_not(None))) == 0


@every_start
@pytest.mark.parametrize("name", ["before_delete", "after_delete"])
def test_listeners_hear_of_each_node(trees: Any, session: Session, name: str, loaded: bool) -> None:
    """Who listens for deletions of nodes hears of those that go with their parent."""
    tree = trees(fresh=True)
    heard: list[str] = []
    event.listen(tree.cls, name, lambda mapper, connection, node: heard.append(node.name))
    t = start(tree, session, "r(a(b(c) d) e)", loaded=loaded)
    session.delete(t.a)
    session.flush()
    assert sorted(heard) == ["a", "b", "c", "d"]
    assert_in_step(session, tree)
    assert tree.outline(session) == "r(e)"


# -- cost ----------------------------------------------------------------------------------------


def wide(tree: Tree, session: Session) -> Any:
    """Insert 1,111 nodes below a root, each inner one with ten children."""
    root = tree.new("root")
    session.add(root)
    top = level = [tree.new("0", root)]
    for _ in range(3):
        level = [tree.new(f"{node.name}.{i}", node) for node in level for i in range(10)]
        top = [*top, *level]
    session.add_all(top)
    session.commit()
    return top[0]


@every_start
@every_way
def test_deleting_1111_nodes(tree: Tree, session: Session, way: Any, loaded: bool) -> None:
    """A subtree of 1,111 nodes goes in three statements, besides those that load its top."""
    top = wide(tree, session)
    if loaded:
        load_tree(session, tree.cls)
    assert top.parent.name == "root"
    assert len(top.parent.children) == 1
    with session.no_autoflush, count_statements() as log:
        way(tree, session, top)
        session.flush()
    assert len(log) <= 3 + tree.shape.index.allowance, log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "root"


@positioned
def test_deleting_a_leaf(tree: Tree, session: Session) -> None:
    """A leaf goes in one DELETE after the lock and a look for children, and its siblings are left alone."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    with count_statements() as log:
        session.delete(t.c)
        session.flush()
    assert len(log) <= 3 + tree.shape.index.allowance, log.text
    assert len(writes(log)) <= 1 + tree.shape.index.allowance, log.text
    assert_in_step(session, tree)


def test_policies_in_the_database(plain_bases: Any) -> None:
    """The foreign key says what the policy says, for rows that are deleted without the ORM."""
    Base = plain_bases()
    for policy, expected in (("cascade", "CASCADE"), ("root", "SET NULL"), ("restrict", None), ("adopt", None)):
        cls: Any = type(
            f"Node{policy}",
            (TreeNode, Base),
            {
                "__tablename__": policy,
                "__tree__": TreeOptions(on_delete=policy),  # type: ignore[arg-type]
                "id": mapped_column(String(5), primary_key=True),
            },
        )
        (foreign_key,) = cls.__table__.c.parent_id.foreign_keys
        assert foreign_key.ondelete == expected
