"""A tree that keeps the path to each node as a string: descendants are a range, and ten and more siblings sort right.

It follows SQLAlchemy's example ``materialized_paths``, with `MaterializedPath`: a tree, what lies below and above a
node, and a move. It goes on where the example stops: the application makes up no keys or paths, ancestors work on every
database, a subtree moves in one UPDATE, a move into itself is refused, a deletion includes what is below, and damage is
found and mended.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, String, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from sqla_patterns.demos.trees import sql_of
from sqla_patterns.trees import (
    InvalidMoveError,
    MaterializedPath,
    TreeNode,
    load_tree,
    rebuild_tree,
    render_tree,
    verify_tree,
)


class Base(DeclarativeBase):
    pass


class Node(MaterializedPath, TreeNode, Base):
    __tablename__ = "node"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        _build(options, session)
        _look_down_and_up(options, engine, session)
        _outgrow_ten_siblings(options, session)
        _move(options, engine, session)
        _refuse(options, session)
        _delete(options, engine, session)
        _damage_and_mend(options, session)
        assert verify_tree(session, Node) == []
    return 0


def _node(session: Session, name: str) -> Node:
    return session.scalars(select(Node).where(Node.name == name)).one()


def _names(session: Session, *criteria: object) -> list[str]:
    """Return the names of the nodes that match, depth first, as the paths sort."""
    return list(session.scalars(select(Node.name).where(*criteria).order_by(Node.path)))  # type: ignore[arg-type]


def _build(options: DemoOptions, session: Session) -> None:
    root = Node(name="1", children=[Node(name="2"), Node(name="3"), Node(name="7")])
    root.children[1].children = [Node(name="4"), Node(name="5"), Node(name="6")]
    root.children[2].children = [Node(name="8"), Node(name="9", children=[Node(name="10")]), Node(name="11")]
    session.add(root)
    # The example sets keys and paths by hand, and nothing checks that a path is that of the parent.
    session.commit()
    load_tree(session, Node)
    options.say("The tree, and the paths that the flush gave its nodes:\n")
    options.say(render_tree(root, label=lambda node: f"{node.name:<4} {node.path}"))


def _look_down_and_up(options: DemoOptions, engine: Engine, session: Session) -> None:
    seven, ten = _node(session, "7"), _node(session, "10")
    with sql_of(engine) as log:
        below = _names(session, Node.descendant_of(seven))
    assert below == ["8", "9", "10", "11"]
    options.say(f"\nBelow 7: {', '.join(below)}. One range of an index:\n")
    options.say(log[-1])
    above = _names(session, Node.ancestor_of(ten))
    assert above == ["1", "7", "9"]
    options.say(
        f"\nAbove 10: {', '.join(above)}. In the example that is PostgreSQL's unnest(); here any database does it."
    )
    depth = func.length(Node.path) / 6 - 1
    deepest = session.execute(select(Node.name, depth).order_by(depth.desc()).limit(1)).one()
    assert deepest[0] == "10"
    assert int(deepest[1]) == 3
    options.say(f"The deepest is {deepest[0]}, {int(deepest[1])} steps down: the length of its path says so.")
    # Joined: how much lies below each node, for all of them at once.
    other = aliased(Node)
    counts = select(Node.name, func.count()).join(other, other.descendant_of(Node)).group_by(Node.name)
    sizes = {row[0]: row[1] for row in session.execute(counts)}
    assert sizes == {"1": 10, "3": 3, "7": 4, "9": 1}
    options.say(f"Descendants of each, in one query: {sizes}")


def _outgrow_ten_siblings(options: DemoOptions, session: Session) -> None:
    two = _node(session, "2")
    two.children = [Node(name=f"2-{number}") for number in range(12)]
    session.commit()
    found = _names(session, Node.child_of(two))
    assert found == [f"2-{number}" for number in range(12)]
    first = Node(name="2-first")
    two.children.insert(0, first)
    session.commit()
    assert _names(session, Node.child_of(two))[:3] == ["2-first", "2-0", "2-1"]
    options.say("\nTwelve children of 2 are in their order, which '1.2.10' and '1.2.9' are not; one put first too.")


def _move(options: DemoOptions, engine: Engine, session: Session) -> None:
    (root,) = load_tree(session, Node)
    three, seven, ten = _node(session, "3"), _node(session, "7"), _node(session, "10")
    seven.parent = three
    with sql_of(engine) as log:
        session.flush()
    paths = [statement for statement in log if statement.startswith("UPDATE") and "path=" in statement]
    assert len(paths) == 1
    with sql_of(engine) as reading:
        assert ten.path == "".join(f"{step:06}" for step in (0, 1, 3, 1, 0))
    assert reading == []
    options.say(
        "\n7 moved below 3. The paths of all that is below it changed in one UPDATE, and so did loaded objects:\n"
    )
    options.say(render_tree(three, label=lambda node: f"{node.name:<4} {node.path}"))
    options.say("\n" + paths[0])
    session.commit()
    assert _names(session, Node.descendant_of(root))[-8:] == ["4", "5", "6", "7", "8", "9", "10", "11"]


def _refuse(options: DemoOptions, session: Session) -> None:
    three, nine = _node(session, "3"), _node(session, "9")
    three.parent_id = nine.id
    try:
        session.commit()
    except InvalidMoveError as error:
        options.say(
            f"\nA move into itself, which the example writes down as told, is an {type(error).__name__}:\n  {error}"
        )
        session.rollback()
    else:
        raise AssertionError("a node went below itself")


def _delete(options: DemoOptions, engine: Engine, session: Session) -> None:
    session.delete(_node(session, "3"))
    with sql_of(engine) as log:
        session.commit()
    assert _names(session, Node.is_leaf())[-1] == "2-11"
    left = session.scalar(select(func.count()).select_from(Node))
    options.say(f"\nDeleting 3 deleted the 8 nodes below it too, in {len(log)} statements; {left} nodes are left.")


def _damage_and_mend(options: DemoOptions, session: Session) -> None:
    two = _node(session, "2")
    # Without the ORM, the row gets no path.
    stray = {"name": "stray", "parent_id": two.id, "position": 99}
    session.execute(insert(Node.__table__).values(stray))  # type: ignore[arg-type]
    session.commit()
    (problem,) = verify_tree(session, Node)
    options.say(f"\nA row inserted without the ORM: verify_tree says {problem.kind!r}, {problem.detail}.")
    changed = rebuild_tree(session, Node)
    session.commit()
    assert _names(session, Node.child_of(two))[-1] == "stray"
    options.say(f"rebuild_tree derives the paths again from parent_id and changed {changed} row.")
