"""Siblings that a constraint of the table keeps unique, and rows that statements past the unit of work leave behind."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, Index, String, UniqueConstraint, create_engine, delete, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.trees import (
    ClosureTable,
    KeyedTreeNode,
    MaterializedPath,
    NestedSets,
    TreeDamagedError,
    TreeNode,
    TreeOptions,
    rebuild_tree,
    verify_tree,
)
from sqla_patterns.versioning import Versioned, versions
from tests._support import Database, count_statements
from tests.trees._shapes import writes

INDEXES: dict[str, tuple[type[Any], ...]] = {
    "none": (),
    "nested sets": (NestedSets,),
    "paths": (MaterializedPath,),
    "closure": (ClosureTable,),
}
indexes = pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())


def folders(base: Any, *mixins: type[Any], by_index: bool = False, on_delete: Any = "cascade") -> Any:
    """Map ``Folder``, keyed by its name, which is unique among siblings in the table as well."""
    unique = Index("uq_folder", "parent_id", "name", unique=True) if by_index else UniqueConstraint("parent_id", "name")

    class Folder(*mixins, KeyedTreeNode, base):  # type: ignore[misc]
        __tablename__ = "folder"
        __table_args__ = (unique,)
        __tree__ = TreeOptions(key="name", on_delete=on_delete)
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str] = mapped_column(String(20))

    return Folder


@indexes
@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize("on_delete", ["cascade", "adopt", "root"])
def test_a_child_is_replaced_by_one_of_its_key_in_one_flush(
    index: tuple[type[Any], ...], by_index: bool, on_delete: str, plain_bases: Any, engine: Engine
) -> None:
    Folder = folders(plain_bases(), *index, by_index=by_index, on_delete=on_delete)
    Folder.metadata.create_all(engine)
    with Session(engine) as session:
        home = Folder(id=1, name="home")
        home.children["a"] = Folder(id=2, name="a")
        home.children["b"] = Folder(id=3, name="b")
        home.children["a"].children["below"] = Folder(id=4, name="below")
        session.add(home)
        session.commit()
        old = home.children["a"]
        del home.children["a"]
        session.delete(old)
        home.children["a"] = Folder(id=5, name="a")
        session.commit()
        assert home.children["a"].id == 5
        assert inspect(old).detached
        assert session.get(Folder, 2) is None
        assert verify_tree(session, Folder) == []
        below = session.get(Folder, 4)
        where = {"cascade": "gone", "adopt": 1, "root": None}[on_delete]
        assert (below.parent_id if below is not None else "gone") == where


def test_a_sibling_moves_to_the_place_of_one_that_is_deleted(plain_bases: Any, engine: Engine) -> None:
    Folder = folders(plain_bases())
    Folder.metadata.create_all(engine)
    with Session(engine) as session:
        home = Folder(id=1, name="home")
        for number, name in ((2, "a"), (3, "b")):
            home.children[name] = Folder(id=number, name=name)
        session.add(home)
        session.commit()
        a, b = home.children["a"], home.children["b"]
        session.delete(a)
        session.flush()
        b.name = "a"
        session.commit()
        assert {key: child.id for key, child in home.children.items()} == {"a": 3}


def test_a_deletion_costs_no_update_without_such_a_constraint(plain_bases: Any, engine: Engine) -> None:
    """Without such a constraint a deletion takes no UPDATE."""
    base = plain_bases()

    class Node(TreeNode, base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Node(id=1, children=[Node(id=2), Node(id=3)]))
        session.commit()
        root, second = session.get_one(Node, 1), session.get_one(Node, 2)
        session.delete(second)
        session.add(Node(id=4, parent=root))
        with count_statements(engine) as log:
            session.flush()
        assert not [each for each in writes(log) if each.startswith("UPDATE")]


def test_the_history_of_a_replaced_child_has_it_where_it_was(plain_bases: Any, engine: Engine) -> None:
    Folder = folders(plain_bases(), Versioned)
    Folder.metadata.create_all(engine)
    with Session(engine) as session:
        home = Folder(id=1, name="home")
        home.children["a"] = Folder(id=2, name="a")
        session.add(home)
        session.commit()
        del home.children["a"]
        home.children["a"] = Folder(id=5, name="a")
        session.commit()
        assert [(each.object.name, each.object.parent_id) for each in versions(session, Folder, 2)] == [("a", 1)]
        assert session.scalars(select(Folder.id).order_by(Folder.id)).all() == [1, 5]


@pytest.mark.only_on("sqlite")
def test_pairs_that_a_statement_has_left_are_named_and_rebuilt(plain_bases: Any, database: Database) -> None:
    """SQLite cascades nothing unless it is told to."""
    base, engine = plain_bases(), create_engine("sqlite://")

    class Node(ClosureTable, TreeNode, base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Node(id=1, children=[Node(id=2)]))
        session.commit()
        session.execute(delete(Node).where(Node.id == 2))
        session.commit()
        session.add(Node(id=2))
        with pytest.raises(TreeDamagedError, match=r"roll back, and call rebuild_tree\(session, Node\)"):
            session.flush()
        session.rollback()
        assert verify_tree(session, Node) != []
        rebuild_tree(session, Node)
        session.add(Node(id=2))
        session.commit()
        assert verify_tree(session, Node) == []
    engine.dispose()
