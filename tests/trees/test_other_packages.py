"""What a tree and other packages of a class tell each other: maintained columns, and rows that are about to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, String, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns._maintained import MaintainedColumn
from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.trees import (
    KeyedTreeNode,
    TreeNode,
    TreeOptions,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    rebuild_tree,
    verify_tree,
)
from tests.trees.test_eager_and_hidden import MIXINS, rows


class Recorder:
    """Stands for a package that copies rows: records for each named node what its row says at that moment."""

    def __init__(self) -> None:
        self.calls: list[dict[str, tuple[Any, ...]]] = []

    def __call__(self, session: Session, objects: Any) -> None:
        found: dict[str, tuple[Any, ...]] = {}
        for node in objects:
            table = type(node).__table__
            row = session.connection().execute(select(table).where(table.c.id == inspect(node).identity[0])).one()
            found[row.name] = (row.parent_id, row.position if "position" in table.c else None)
        self.calls.append(found)

    @property
    def names(self) -> list[str]:
        return sorted(name for call in self.calls for name in call)


@pytest.fixture(params=[*MIXINS, "keyed"])
def make(request: pytest.FixtureRequest, engine: Engine, plain_bases: Any) -> Callable[..., Any]:
    """Make a class of nodes with a recorder."""

    def make(on_delete: Any = "cascade") -> tuple[Any, Recorder]:
        Base = plain_bases()
        keyed = request.param == "keyed"
        mixin = None if keyed else MIXINS[request.param]
        recorder = Recorder()
        bases = (*((mixin,) if mixin is not None else ()), KeyedTreeNode if keyed else TreeNode, Base)
        body: dict[str, Any] = {
            "__tablename__": "node",
            "__module__": __name__,
            "__tree__": TreeOptions(on_delete=on_delete, key="name" if keyed else None),
            "__sqla_before_maintenance__": staticmethod(recorder),
            "id": mapped_column(primary_key=True),
            "name": mapped_column(String(20)),
            "label": mapped_column(String(20), default=None),
            "__annotations__": {"id": Mapped[int], "name": Mapped[str], "label": Mapped[str | None]},
        }
        Node = type("Node", bases, body)
        Base.metadata.create_all(engine)
        return Node, recorder

    return make


def grow(session: Session, Node: Any) -> dict[str, Any]:
    """Store a(b(c) d e)."""
    nodes = {name: Node(name=name) for name in "abcde"}
    for child, parent in (("b", "a"), ("d", "a"), ("e", "a"), ("c", "b")):
        nodes[child].parent = nodes[parent]
    session.add_all(nodes.values())
    session.commit()
    return nodes


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "expired"])
def test_a_moved_node_is_named_with_its_former_row(make: Any, session: Session, loaded: bool) -> None:
    """Before anything is written the moved node is named, but not siblings that are shifted nor what lies below it."""
    Node, recorder = make()
    t = grow(session, Node)
    if loaded:
        load_tree(session, Node)
    before = t["d"].parent_id, t["d"].__dict__.get("position")
    recorder.calls.clear()
    t["d"].move_to(t["b"], "first_child")
    session.commit()
    assert recorder.calls == [{"d": before}]
    assert not verify_tree(session, Node)


def test_new_nodes_are_not_named(make: Any, session: Session) -> None:
    """An insert between siblings names no node: the siblings are merely shifted."""
    Node, recorder = make()
    t = grow(session, Node)
    recorder.calls.clear()
    new = Node(name="x")
    new.parent = t["a"]
    session.add(new)
    session.commit()
    assert recorder.names == []


def test_a_repeated_parent_is_not_named(make: Any, session: Session) -> None:
    """A node whose parent is assigned once more is not changed."""
    Node, recorder = make()
    t = grow(session, Node)
    recorder.calls.clear()
    t["b"].parent_id = t["a"].id
    session.commit()
    assert recorder.names == []


def test_a_node_that_is_asked_to_stay_is_not_named(make: Any, session: Session) -> None:
    """A move to the place where a node is already changes no value of its row."""
    Node, recorder = make()
    t = grow(session, Node)
    recorder.calls.clear()
    t["b"].move_to(t["a"], "first_child")
    session.commit()
    assert "c" not in recorder.names
    assert "d" not in recorder.names


def test_an_edit_alone_is_left_to_the_unit_of_work(make: Any, session: Session) -> None:
    """A flush in which the tree writes nothing names no node."""
    Node, recorder = make()
    t = grow(session, Node)
    recorder.calls.clear()
    t["b"].label = "edited"
    session.commit()
    assert recorder.calls == []


def test_an_edit_beside_a_move_is_named(make: Any, session: Session) -> None:
    """An edited node, which the move shifts before the unit of work gets to it, is named with its former row."""
    Node, recorder = make()
    t = grow(session, Node)
    load_tree(session, Node)
    before = t["b"].parent_id, t["b"].__dict__.get("position")
    recorder.calls.clear()
    t["b"].label = "edited"
    t["e"].move_to(t["a"], "first_child")
    session.commit()
    (call,) = recorder.calls
    assert call["b"] == before


@pytest.mark.parametrize(("on_delete", "named"), [("cascade", ["b", "c"]), ("adopt", ["b", "c"]), ("root", ["b", "c"])])
def test_a_deletion_names_the_node_and_whom_it_moves(make: Any, session: Session, on_delete: str, named: Any) -> None:
    """Deleted nodes count as changed, and so do the children that a policy moves."""
    Node, recorder = make(on_delete)
    t = grow(session, Node)
    recorder.calls.clear()
    session.delete(t["b"])
    session.commit()
    assert recorder.names == named


def test_delete_subtree_names_the_loaded_nodes(make: Any, session: Session) -> None:
    """`delete_subtree` names what it deletes, as far as it is loaded, before it does."""
    Node, recorder = make()
    t = grow(session, Node)
    load_tree(session, Node)
    recorder.calls.clear()
    delete_subtree(session, t["b"])
    assert recorder.names == ["b", "c"]


def test_bulk_functions_name_nobody_they_only_shift(make: Any, session: Session) -> None:
    """`insert_tree` and `rebuild_tree` change nothing that a user has said."""
    Node, recorder = make()
    t = grow(session, Node)
    recorder.calls.clear()
    insert_tree(session, Node, [{"name": "x"}], t["a"])
    rebuild_tree(session, Node)
    assert recorder.names == []


# -- columns of other packages -------------------------------------------------------------------


@pytest.fixture
def stamped(engine: Engine, plain_bases: Any) -> Any:
    """Make a class with a column that another package writes, and a version counter of SQLAlchemy's."""
    Base = plain_bases()

    class Page(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "page"
        __sqla_maintained_columns__ = (
            MaintainedColumn("stamp", "Stamped"),
            MaintainedColumn("origin", "Stamped", in_dump=True),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        stamp: Mapped[str] = mapped_column(String(50), default="stamped")
        origin: Mapped[str] = mapped_column(String(50), default="here")
        counter: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": counter}

    Base.metadata.create_all(engine)
    return Page


def test_a_dump_leaves_out_what_packages_maintain(stamped: Any, session: Session) -> None:
    """Neither maintained columns nor a version counter are dumped, unless their package says that they may be."""
    insert_tree(session, stamped, {"name": "a", "children": [{"name": "b"}]})
    assert dump_tree(session, stamped) == [
        {"name": "a", "origin": "here", "children": [{"name": "b", "origin": "here"}]}
    ]


def test_a_dump_can_be_inserted_again(stamped: Any, session: Session) -> None:
    """What was dumped is inserted with a stamp and a first version of its own."""
    insert_tree(session, stamped, {"name": "a", "children": [{"name": "b"}]})
    insert_tree(session, stamped, dump_tree(session, stamped))
    session.commit()
    assert [(page.stamp, page.counter) for page in session.scalars(select(stamped))] == [("stamped", 1)] * 4


@pytest.mark.parametrize("name", ["stamp", "counter"])
def test_data_cannot_set_what_packages_maintain(stamped: Any, session: Session, name: str) -> None:
    """Data that give a maintained column are refused."""
    with pytest.raises(InvalidArgumentError, match=f"no attribute '{name}' that data can set"):
        insert_tree(session, stamped, {"name": "a", name: 7})


def test_rows_are_whole_after_all(make: Any, session: Session) -> None:
    """The recorder does not disturb: deletions go by the policy."""
    Node, _ = make("adopt")
    t = grow(session, Node)
    session.delete(t["b"])
    session.commit()
    assert rows(session, Node) == "a< c<a d<a e<a"
