"""Siblings that sort by attributes of the user's: a loaded list has the order of the database after each flush."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

import pytest
from sqlalchemy import JSON, DateTime, Engine, Enum, ForeignKey, Integer, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.trees import (
    ClosureTable,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
    insert_tree,
    rebuild_tree,
    verify_tree,
)
from tests._support import count_statements

INDEXES: dict[str, tuple[type[Any], ...]] = {
    "none": (),
    "nested sets": (NestedSets,),
    "paths": (MaterializedPath,),
    "closure": (ClosureTable,),
}
indexes = pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())


class Size(enum.Enum):
    """Sorts by the order of its names in PostgreSQL and MariaDB, and by the names in SQLite."""

    SMALL = "s"
    LARGE = "l"
    MEDIUM = "m"


def nodes(base: Any, column_type: Any, index: tuple[type[Any], ...] = ()) -> Any:
    """Map ``Node``, whose siblings sort by ``rank``."""

    class Node(*index, TreeNode, base):  # type: ignore[misc]
        __tablename__ = "node"
        __tree__ = TreeOptions(order_by=("rank",))
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        rank: Mapped[Any] = mapped_column(column_type, nullable=True)

    return Node


def _at(hour: int, *, zone: bool = True) -> dt.datetime:
    return dt.datetime(2024, 1, 1, hour, tzinfo=dt.UTC if zone else None)


def _stored(session: Session, root: Any) -> list[int]:
    """Return the keys of the children as the database orders them."""
    cls = type(root)
    return list(session.scalars(select(cls.id).where(cls.parent_id == root.id).order_by(cls.rank, cls.id)))


COLLATED = String(10).with_variant(String(10, collation="en-x-icu"), "postgresql")
RANKS: dict[str, tuple[Any, list[Any], Any, Any]] = {
    "enum": (Enum(Size), [Size.MEDIUM, Size.SMALL], Size.LARGE, Size.SMALL),
    "times": (DateTime(timezone=True), [_at(3), _at(1)], _at(2), _at(0)),
    "numbers and NULL": (Integer, [2, None, 1, None], None, 3),
    "strings": (COLLATED, ["b", "A", "Z", "a"], "B", "aa"),
}


@indexes
@pytest.mark.parametrize("kind", RANKS)
def test_a_loaded_list_has_the_order_of_the_database(
    kind: str, index: tuple[type[Any], ...], plain_bases: Any, engine: Engine
) -> None:
    column, stored, new, changed = RANKS[kind]
    Node = nodes(plain_bases(), column, index)
    Node.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        root = Node(id=1, children=[Node(id=number, rank=rank) for number, rank in enumerate(stored, 2)])
        session.add(root)
        session.commit()
        assert [each.id for each in root.children] == _stored(session, root)
        root.children.append(Node(id=50, rank=new))
        session.commit()
        assert [each.id for each in root.children] == _stored(session, root)
        for each in (root.children[0], root.children[-1]):
            each.rank = changed
            session.commit()
            assert [child.id for child in root.children] == _stored(session, root)
        moved = root.children[1]
        root.children[2].children.append(moved)
        session.commit()
        assert [each.id for each in root.children] == _stored(session, root)
        moved.parent = root
        session.commit()
        assert [each.id for each in root.children] == _stored(session, root)
        insert_tree(session, Node, [{"id": 60, "rank": new}, {"id": 61, "rank": changed}], parent=root)
        assert [each.id for each in root.children] == _stored(session, root)
        assert verify_tree(session, Node) == []


@pytest.mark.only_on("sqlite")
def test_values_that_do_not_compare_in_python(plain_bases: Any, engine: Engine) -> None:
    Node = nodes(plain_bases(), JSON)
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        root = Node(id=1, children=[Node(id=2, rank={"a": 1}), Node(id=3, rank=[1])])
        session.add(root)
        session.flush()
        root.children.append(Node(id=4, rank={"a": 0}))
        session.flush()
        assert [each.id for each in root.children] == _stored(session, root)


def test_an_aware_time_beside_one_that_sqlite_has_made_naive(plain_bases: Any, engine: Engine) -> None:
    Node = nodes(plain_bases(), DateTime(timezone=True))
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Node(id=1, children=[Node(id=2, rank=_at(2))]))
        session.commit()
        root = session.get_one(Node, 1)
        root.children.append(Node(id=3, rank=_at(1)))
        session.flush()
        assert [each.id for each in root.children] == [3, 2]


@indexes
def test_a_rollback_takes_the_order_back(index: tuple[type[Any], ...], plain_bases: Any, engine: Engine) -> None:
    Node = nodes(plain_bases(), Integer, index)
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Node(id=1, children=[Node(id=number, rank=number) for number in (2, 3, 4)]))
        session.commit()
        root = session.get_one(Node, 1)
        assert [each.id for each in root.children] == [2, 3, 4]
        root.children[0].rank = 9
        session.flush()
        assert [each.id for each in root.children] == [3, 4, 2]
        session.rollback()
        assert [each.id for each in root.children] == [2, 3, 4]


def test_the_database_is_asked_once_in_a_flush_and_only_about_lists_that_are_loaded(
    plain_bases: Any, engine: Engine
) -> None:
    Node = nodes(plain_bases(), Integer)
    Node.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        roots = [Node(id=each, children=[Node(id=each + n, rank=n) for n in (1, 2, 3)]) for each in (100, 200, 300)]
        session.add_all(roots)
        session.commit()
        for root in roots:
            root.children[0].rank = 9
        with count_statements(engine) as log:
            session.flush()
        assert sum(each.startswith("SELECT") for each in log) == 1
        assert [[each.id for each in root.children] for root in roots] == [
            [each + 2, each + 3, each + 1] for each in (100, 200, 300)
        ]
        session.commit()
        session.expire(roots[0], ["children"])
        session.get_one(Node, 101).rank = 8
        with count_statements(engine) as log:
            session.flush()
        assert not [each for each in log if each.startswith("SELECT")]
        roots[1].rank = 5
        with count_statements(engine) as log:
            session.flush()
        assert not [each for each in log if each.startswith("SELECT")]


# -- a tree on a joined subclass -------------------------------------------------------------------


@indexes
@pytest.mark.parametrize("order_by", [(), ("rank",)])
def test_a_tree_on_a_joined_subclass_is_verified_and_rebuilt(
    index: tuple[type[Any], ...], order_by: tuple[str, ...], plain_bases: Any, engine: Engine
) -> None:
    """Its primary key has two columns, and that of the mapper is in the other table."""
    base = plain_bases()

    class Document(base):
        __tablename__ = "document"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "document"}
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        kind: Mapped[str] = mapped_column(String(20))

    class Page(*index, TreeNode, Document):  # type: ignore[misc]
        __tablename__ = "page"
        __tree__ = TreeOptions(order_by=order_by)
        __mapper_args__ = {"polymorphic_identity": "page"}
        id: Mapped[int] = mapped_column(ForeignKey("document.id"), primary_key=True)
        rank: Mapped[int]

    base.metadata.create_all(engine)
    with Session(engine) as session:
        root = Page(id=1, rank=0, children=[Page(id=number, rank=-number) for number in (2, 3, 4)])
        session.add(root)
        session.commit()
        order = [4, 3, 2] if order_by else [2, 3, 4]
        assert [each.id for each in root.children] == order
        assert verify_tree(session, Page) == []
        # Where siblings sort by an attribute, an index has them as they came; rebuilding puts them in order.
        assert rebuild_tree(session, Page) == (2 if order_by and index and index != (ClosureTable,) else 0)
        table: Any = Page.__table__
        for name in {"position", "lft", "path"}.intersection(table.c.keys()):
            session.execute(table.update().where(table.c.id == 4).values({name: 77}))
            session.commit()
            # A gap between positions is no damage, where no path holds them.
            assert (verify_tree(session, Page) == []) == (name == "position" and index != (MaterializedPath,))
            assert rebuild_tree(session, Page) > 0
            session.commit()
        assert verify_tree(session, Page) == []
        assert [each.id for each in root.children] == order
