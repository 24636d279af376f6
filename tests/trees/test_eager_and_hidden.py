"""Eager joins, criteria and cascades of the user's classes and sessions do not change what the tree itself reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, event, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, sessionmaker, with_loader_criteria

from sqla_patterns.trees import (
    ClosureTable,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    rebuild_tree,
    verify_tree,
    walk_tree,
)

MIXINS = {"adjacency": None, "nested": NestedSets, "paths": MaterializedPath, "closure": ClosureTable}
POLICIES = ("cascade", "restrict", "adopt", "root")

Make = Callable[..., Any]


@pytest.fixture(params=MIXINS)
def make(request: pytest.FixtureRequest, engine: Engine, plain_bases: Any) -> Make:
    """Make a class of nodes with files, which are loaded as `lazy` says and cascade."""

    def make(*, lazy: str = "select", cascade: str = "all, delete-orphan", on_delete: Any = "cascade") -> Any:
        Base = plain_bases()
        mixin = MIXINS[request.param]
        bases: tuple[Any, ...] = (*((mixin,) if mixin is not None else ()), TreeNode, Base)

        class File(Base):  # type: ignore[misc]
            __tablename__ = "file"
            id: Mapped[int] = mapped_column(primary_key=True)
            node_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))

        body: dict[str, Any] = {
            "__tablename__": "node",
            "__module__": __name__,
            "__tree__": TreeOptions(on_delete=on_delete),
            "id": mapped_column(primary_key=True),
            "name": mapped_column(String(20)),
            "hidden": mapped_column(default=False),
            "files": relationship(File, lazy=lazy, cascade=cascade),
            "__annotations__": {
                "id": Mapped[int],
                "name": Mapped[str],
                "hidden": Mapped[bool],
                "files": Mapped[list[File]],
            },
        }
        Node = type("Node", bases, body)
        Node.File = File  # type: ignore[attr-defined]
        Base.metadata.create_all(engine)
        return Node

    return make


def grow(session: Session, Node: Any) -> dict[str, Any]:
    """Store a(b(c) d), each with two files."""
    nodes = {name: Node(name=name, files=[Node.File(), Node.File()]) for name in "abcd"}
    nodes["a"].children = [nodes["b"], nodes["d"]]
    nodes["b"].children = [nodes["c"]]
    session.add(nodes["a"])
    session.commit()
    return nodes


def rows(session: Session, Node: Any) -> str:
    """Return the names of the rows and of their parents, read by Core."""
    session.rollback()  # MariaDB would show the snapshot of a transaction that has begun before another session's.
    table = Node.__table__
    parent = table.alias()
    found = session.connection().execute(
        select(table.c.name, parent.c.name).outerjoin(parent, parent.c.id == table.c.parent_id).order_by(table.c.name)
    )
    lost = session.connection().execute(
        select(table.c.name).where(table.c.parent_id.is_not(None), table.c.parent_id.not_in(select(parent.c.id)))
    )
    assert not lost.all()
    return " ".join(f"{name}<{above or ''}" for name, above in found)


# -- collections that are eager loaded by a join -------------------------------------------------


def test_loading_with_a_joined_collection(make: Make, session: Session) -> None:
    """The loaders return each node once, with its eager collection."""
    Node = make(lazy="joined")
    grow(session, Node)
    session.expunge_all()
    (root,) = load_tree(session, Node)
    assert [len(row.node.__dict__["files"]) for row in walk_tree(session, Node)] == [2, 2, 2, 2]
    assert [child.name for child in root.children] == ["b", "d"]
    assert dump_tree(session, Node, root)[0]["name"] == "a"


def test_a_common_ancestor_with_a_joined_collection(make: Make, session: Session) -> None:
    """`lowest_common_ancestor` finds it."""
    Node = make(lazy="joined")
    nodes = grow(session, Node)
    assert lowest_common_ancestor(session, nodes["c"], nodes["d"]) is nodes["a"]


def test_inserting_with_a_joined_collection(make: Make, session: Session) -> None:
    """`insert_tree` returns the new top nodes."""
    Node = make(lazy="joined")
    nodes = grow(session, Node)
    (new,) = insert_tree(session, Node, {"name": "x", "children": [{"name": "y"}]}, nodes["b"])
    assert new.parent is nodes["b"]
    assert not verify_tree(session, Node)


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "unloaded"])
@pytest.mark.parametrize("on_delete", ["cascade", "adopt", "root"])
def test_deleting_with_a_joined_collection(make: Make, session: Session, on_delete: str, loaded: bool) -> None:
    """A deletion goes by its policy."""
    Node = make(lazy="joined", on_delete=on_delete)
    key = grow(session, Node)["b"].id
    session.expunge_all()
    if loaded:
        load_tree(session, Node)
    session.delete(session.get(Node, key))
    session.commit()
    wanted = {"cascade": "a< d<a", "adopt": "a< c<a d<a", "root": "a< c< d<a"}
    assert rows(session, Node) == wanted[on_delete]
    assert not verify_tree(session, Node)


def test_moving_below_an_unloaded_parent_with_a_joined_collection(make: Make, session: Session) -> None:
    """A parent given by key is loaded where the node shows the old one."""
    Node = make(lazy="joined")
    nodes = grow(session, Node)
    key = nodes["d"].id
    session.expunge_all()
    b = session.scalars(select(Node).where(Node.name == "b")).unique().one()
    assert b.parent.name == "a"
    b.parent_id = key
    session.commit()
    assert b.parent.name == "d"


# -- cascades ------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_delete", POLICIES)
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "unloaded"])
def test_delete_subtree_beside_a_cascade(make: Make, session: Session, on_delete: str, loaded: bool) -> None:
    """`delete_subtree` deletes the subtree and its dependents, whatever the policy is and whatever is loaded."""
    Node = make(on_delete=on_delete)
    nodes = grow(session, Node)
    if loaded:
        load_tree(session, Node)
        assert all(len(node.files) == 2 for node in nodes.values())
    assert delete_subtree(session, nodes["b"]) == 2
    session.commit()
    assert rows(session, Node) == "a< d<a"
    assert len(session.scalars(select(Node.File)).all()) == 4
    assert not verify_tree(session, Node)
    assert [child.name for child in nodes["a"].children] == ["d"]


def test_delete_subtree_beside_a_collection_that_is_cleared(make: Make, session: Session) -> None:
    """A relationship without a cascade has its foreign keys set to NULL."""
    Node = make(cascade="save-update, merge")
    nodes = grow(session, Node)
    assert delete_subtree(session, nodes["b"]) == 2
    session.commit()
    assert sorted(file.node_id is None for file in session.scalars(select(Node.File))) == [False] * 4 + [True] * 4


# -- criteria of the user's ----------------------------------------------------------------------


@pytest.fixture
def hiding(engine: Engine) -> Callable[[Any], Session]:
    """Make a session in which the soft-delete recipe of SQLAlchemy's documentation hides nodes."""

    def session(Node: Any) -> Session:
        maker = sessionmaker(engine)

        @event.listens_for(maker, "do_orm_execute")
        def visible(state: Any) -> None:
            if state.is_select and not state.is_column_load and not state.is_relationship_load:
                state.statement = state.statement.options(
                    with_loader_criteria(Node, Node.hidden.is_(False), include_aliases=True)
                )

        return maker()

    return session


def hide(session: Session, *nodes: Any) -> None:
    for node in nodes:
        node.hidden = True
    session.commit()


@pytest.mark.parametrize("on_delete", ["cascade", "adopt", "root"])
def test_a_hidden_child_of_a_deleted_node(make: Make, session: Session, hiding: Any, on_delete: str) -> None:
    """The policy holds for children that criteria of the session hide."""
    Node = make(on_delete=on_delete)
    nodes = grow(session, Node)
    hide(session, nodes["c"])
    with hiding(Node) as other:
        other.delete(other.get(Node, nodes["b"].id))
        other.commit()
    wanted = {"cascade": "a< d<a", "adopt": "a< c<a d<a", "root": "a< c< d<a"}
    assert rows(session, Node) == wanted[on_delete]
    assert not verify_tree(session, Node)


def test_a_hidden_child_restricts(make: Make, session: Session, hiding: Any) -> None:
    """A hidden child is a child: its parent cannot be deleted under ``restrict``."""
    from sqla_patterns.trees import DeleteRestrictedError

    Node = make(on_delete="restrict")
    nodes = grow(session, Node)
    hide(session, nodes["c"])
    with hiding(Node) as other:
        other.delete(other.get(Node, nodes["b"].id))
        with pytest.raises(DeleteRestrictedError):
            other.commit()


@pytest.mark.parametrize("cascade", ["all, delete-orphan", "save-update"])
def test_delete_subtree_with_hidden_nodes(make: Make, session: Session, hiding: Any, cascade: str) -> None:
    """`delete_subtree` deletes hidden nodes too."""
    Node = make(cascade=cascade)
    nodes = grow(session, Node)
    hide(session, nodes["c"])
    with hiding(Node) as other:
        assert delete_subtree(other, other.get(Node, nodes["b"].id)) == 2
        other.commit()
    assert rows(session, Node) == "a< d<a"


def test_moving_below_a_hidden_parent(make: Make, session: Session, hiding: Any) -> None:
    """A node that goes below a hidden one by key shows it as its parent."""
    Node = make()
    nodes = grow(session, Node)
    hide(session, nodes["d"])
    with hiding(Node) as other:
        b = other.get(Node, nodes["b"].id)
        assert b.parent.name == "a"
        b.parent_id = nodes["d"].id
        other.flush()
        assert b.parent.id == nodes["d"].id
        other.commit()
    assert rows(session, Node) == "a< b<d c<b d<a"


def test_inserting_hidden_nodes(make: Make, session: Session, hiding: Any) -> None:
    """`insert_tree` returns new nodes that criteria would hide."""
    Node = make()
    nodes = grow(session, Node)
    with hiding(Node) as other:
        (new,) = insert_tree(other, Node, {"name": "x", "hidden": True}, nodes["b"].id)
        assert new.hidden
        other.commit()
    assert rows(session, Node) == "a< b<a c<b d<a x<b"


def test_loaders_obey_criteria(make: Make, session: Session, hiding: Any) -> None:
    """What answers a user's question leaves out what the session hides."""
    Node = make()
    nodes = grow(session, Node)
    hide(session, nodes["c"])
    with hiding(Node) as other:
        assert [row.node.name for row in walk_tree(other, Node)] == ["a", "b", "d"]


def test_rebuilding_renumbers_hidden_nodes(make: Make, session: Session, hiding: Any) -> None:
    """`rebuild_tree` and `verify_tree` see all rows."""
    Node = make()
    nodes = grow(session, Node)
    hide(session, nodes["b"])
    with hiding(Node) as other:
        rebuild_tree(other, Node)
        other.commit()
        assert not verify_tree(other, Node)
