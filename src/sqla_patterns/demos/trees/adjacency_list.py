"""A tree as a dictionary of dictionaries: build it, change it, load it with one SELECT, and ask it questions.

It follows SQLAlchemy's example ``adjacency_list``, with `KeyedTreeNode`, and goes on where the example stops: a dump
brings the tree back, and what would lose a node or make a cycle is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pprint import pformat

from sqlalchemy import Engine, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, selectinload

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from sqla_patterns.demos.trees import sql_of
from sqla_patterns.trees import (
    DuplicateKeyError,
    InvalidMoveError,
    KeyedTreeNode,
    TreeOptions,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    render_tree,
    verify_tree,
)


class Base(DeclarativeBase):
    pass


class Node(KeyedTreeNode, Base):
    __tablename__ = "tree"
    __tree__ = TreeOptions(key="name")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine:
        with Session(engine) as session:
            root = _build(options, engine, session)
            _change(options, session, root)
            saved = dump_tree(session, Node)
        with Session(engine) as session:
            root = _load(options, engine, session)
            _delete(options, engine, session, root)
        with Session(engine) as session:
            root = _bring_back(options, session, saved)
            _refuse(options, session, root)
            _rename_and_move(options, engine, session, root)
            _ask(options, engine, session, root)
            assert verify_tree(session, Node) == []
    return 0


def _build(options: DemoOptions, engine: Engine, session: Session) -> Node:
    root = Node(name="rootnode")
    Node(name="node1", parent=root)
    Node(name="node3", parent=root)
    # Both sides say the same: a parent for the child, or a place in the dictionary of the parent.
    node2 = Node(name="node2")
    Node(name="subnode1", parent=node2)
    root.children["node2"] = node2
    Node(name="subnode2", parent=root.children["node2"])

    options.say("A tree, built in memory:\n")
    options.say(render_tree(root))
    session.add(root)
    with sql_of(engine) as log:
        session.commit()
    assert session.scalar(select(func.count()).select_from(Node)) == 6
    options.say(f"\nsaved with {len([line for line in log if line.startswith('INSERT')])} INSERTs")
    return root


def _change(options: DemoOptions, session: Session, root: Node) -> None:
    node4 = Node(name="node4", parent=root)
    subnode3 = Node(name="subnode3", parent=node4)
    Node(name="subnode4", parent=node4)
    Node(name="subsubnode1", parent=subnode3)
    session.add(node4)
    # Taking a node out of the dictionary deletes it, as delete-orphan does in the example.
    del root.children["node1"]
    session.commit()

    load_tree(session, Node)
    options.say("\nnode4 came with all that is below it; del root.children['node1'] deleted node1:\n")
    options.say(render_tree(root))
    assert session.scalar(select(Node).where(Node.name == "node1")) is None
    assert list(root.children) == ["node2", "node3", "node4"]
    options.say("\ndump_tree gives dictionaries, fit for JSON:\n")
    options.say(pformat(dump_tree(session, Node), width=100))


def _load(options: DemoOptions, engine: Engine, session: Session) -> Node:
    with Session(engine) as other, sql_of(engine) as guessing:
        # How the example does it: the depth has to be guessed, and each level is a SELECT.
        eager = selectinload(Node.children, recursion_depth=4)
        other.scalars(select(Node).options(eager).where(Node.name == "rootnode")).one()
    with sql_of(engine) as log:
        (root,) = load_tree(session, Node)
        text = render_tree(root)
    assert len(log) == 1
    assert "subsubnode1" in text
    options.say("\nThe whole tree in a new session, and the walk that draws it:")
    options.say(
        f"  selectinload(Node.children, recursion_depth=4)  {len(guessing)} SELECTs, and deeper trees are cut off"
    )
    options.say(f"  load_tree(session, Node)                        {len(log)} SELECT, whatever the depth")
    return root


def _delete(options: DemoOptions, engine: Engine, session: Session, root: Node) -> None:
    session.delete(root)
    with sql_of(engine) as log:
        session.commit()
    assert session.scalar(select(func.count()).select_from(Node)) == 0
    options.say(f"\nsession.delete(root) deleted the 8 nodes below it too, in {len(log)} statements")


def _bring_back(options: DemoOptions, session: Session, saved: dict[str, dict[str, object]]) -> Node:
    insert_tree(session, Node, saved)
    session.commit()
    (root,) = load_tree(session, Node)
    assert dump_tree(session, Node) == saved
    options.say("\ninsert_tree(session, Node, what_dump_tree_gave) brings them back:\n")
    options.say(render_tree(root))
    return root


def _refuse(options: DemoOptions, session: Session, root: Node) -> None:
    options.say("\nWhat would lose a node, or cut a part of the tree off from its root, is refused:")
    present = root.children["node3"]
    try:
        Node(name="node3", parent=root)
    except DuplicateKeyError as error:
        options.say(f"  a second node3 is a {type(error).__name__}:\n    {error}")
    else:
        raise AssertionError("a second child with that key was taken")
    assert root.children["node3"] is present  # The example would have deleted it here.

    node4 = root.children["node4"]
    below = node4.children["subnode3"].children["subsubnode1"]
    # The column is written and not the relationship: only the flush can notice.
    node4.parent_id = below.id
    try:
        session.commit()
    except InvalidMoveError as error:
        options.say(f"  a cycle is an {type(error).__name__}:\n    {error}")
        session.rollback()
    else:
        raise AssertionError("a node went below itself")
    assert node4.parent is root


def _rename_and_move(options: DemoOptions, engine: Engine, session: Session, root: Node) -> None:
    load_tree(session, Node)
    node2, node4 = root.children["node2"], root.children["node4"]
    node2.name = "second"
    assert set(root.children) == {"node3", "node4", "second"}
    assert root.children["second"] is node2  # At once: the dictionary does not wait for a flush.
    node2.parent = node4.children["subnode4"]
    with sql_of(engine) as log:
        session.commit()
    # Not one that sets parent_id to what it is: on PostgreSQL it stops writers whose snapshot is older.
    moving = [statement for statement in log if statement.startswith("UPDATE") and "parent_id=" in statement]
    updates = [statement for statement in moving if f"parent_id={Node.__tablename__}.parent_id" not in statement]
    load_tree(session, Node)
    assert node4.children["subnode4"].children["second"] is node2
    options.say("\nA new name is a new key, and all that is below a node moves with it:\n")
    options.say(render_tree(root))
    options.say(f"\nwritten with {len(updates)} UPDATE")
    assert len(updates) == 1


def _ask(options: DemoOptions, engine: Engine, session: Session, root: Node) -> None:
    node4 = root.children["node4"]
    subnode1 = node4.children["subnode4"].children["second"].children["subnode1"]
    with sql_of(engine) as log:
        below = session.scalars(select(Node.name).where(Node.descendant_of(node4)).order_by(Node.name)).all()
    above = session.scalars(select(Node.name).where(Node.ancestor_of(subnode1))).all()
    leaves = session.scalars(select(Node.name).where(Node.is_leaf()).order_by(Node.name)).all()
    common = lowest_common_ancestor(session, subnode1, node4.children["subnode3"])
    assert set(below) == {"second", "subnode1", "subnode2", "subnode3", "subnode4", "subsubnode1"}
    assert set(above) == {"rootnode", "node4", "subnode4", "second"}
    assert set(leaves) == {"node3", "subnode1", "subnode2", "subsubnode1"}
    assert common is node4
    options.say("\nQuestions are criteria for your own select():")
    options.say(f"  below node4      {', '.join(below)}")
    options.say(f"  above subnode1   {', '.join(sorted(above))}")
    options.say(f"  leaves           {', '.join(leaves)}")
    options.say(f"  subnode1 and subnode3 meet in {node4.name}")
    options.say("\nThe first of them as SQL, one recursive query at any depth:\n")
    options.say(log[-1])
