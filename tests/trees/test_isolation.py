"""PostgreSQL: writers at mixed isolation levels, one of which has taken its snapshot before the other has written.

The later one is refused by the database, SQLSTATE 40001, or both are right; never is the tree damaged without an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.trees import (
    ClosureTable,
    MaterializedPath,
    NestedSets,
    TreeNode,
    delete_subtree,
    insert_tree,
    rebuild_tree,
    verify_tree,
)
from tests._support import count_statements, together
from tests.trees._shapes import claims

pytestmark = pytest.mark.only_on("postgresql")

INDEXES: dict[str, tuple[type[Any], ...]] = {
    "none": (),
    "nested sets": (NestedSets,),
    "paths": (MaterializedPath,),
    "closure": (ClosureTable,),
}
indexes = pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
EARLIER = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
LATER = ["REPEATABLE READ", "SERIALIZABLE"]
Write = Callable[[Session, Any], object]


def nodes(base: Any, index: tuple[type[Any], ...]) -> Any:
    class Node(*index, TreeNode, base):  # type: ignore[misc]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    return Node


def _insert_below_3(session: Session, Node: Any) -> None:
    session.add(Node(id=7, parent_id=3))


#: What is there, and two writes that must not both be made from the state before.
STORIES: dict[str, tuple[list[tuple[int, int | None]], Write, Write]] = {
    "first roots": ([], lambda s, Node: s.add(Node(id=1)), lambda s, Node: s.add(Node(id=2))),
    "roots": ([(9, None)], lambda s, Node: s.add(Node(id=1)), lambda s, Node: s.add(Node(id=2))),
    "a root of lower key": (
        [(9, None)],
        lambda s, Node: s.add(Node(id=1)),
        lambda s, Node: insert_tree(s, Node, [{"id": 2}]),
    ),
    "first roots in bulk": (
        [],
        lambda s, Node: insert_tree(s, Node, [{"id": 1}]),
        lambda s, Node: insert_tree(s, Node, [{"id": 2}]),
    ),
    "siblings": (
        [(1, None)],
        lambda s, Node: s.add(Node(id=2, parent_id=1)),
        lambda s, Node: s.add(Node(id=3, parent_id=1)),
    ),
    "siblings in bulk": (
        [(1, None)],
        lambda s, Node: insert_tree(s, Node, [{"id": 2}], parent=1),
        lambda s, Node: insert_tree(s, Node, [{"id": 3}], parent=1),
    ),
    "an insert below and a move above": (
        [(1, None), (2, 1), (3, 2), (5, None)],
        _insert_below_3,
        lambda s, Node: s.get_one(Node, 2).move_to(s.get_one(Node, 5)),
    ),
    "a move above and an insert below": (
        [(1, None), (2, 1), (3, 2), (5, None)],
        lambda s, Node: s.get_one(Node, 2).move_to(s.get_one(Node, 5)),
        _insert_below_3,
    ),
    "an insert below and a deletion above": (
        [(1, None), (2, 1), (3, 2), (5, None)],
        _insert_below_3,
        lambda s, Node: delete_subtree(s, s.get_one(Node, 2)),
    ),
    "a deletion among siblings and an insert": (
        [(1, None), (2, 1), (3, 1)],
        lambda s, Node: s.delete(s.get_one(Node, 3)),
        lambda s, Node: s.add(Node(id=4, parent_id=1)),
    ),
}


@indexes
@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("earlier", EARLIER)
@pytest.mark.parametrize("story", STORIES)
def test_the_later_writer_is_refused_or_both_are_right(
    story: str,
    earlier: str,
    later: str,
    index: tuple[type[Any], ...],
    plain_bases: Any,
    engine_factory: Callable[..., Engine],
) -> None:
    engine = engine_factory(pool_size=3)
    Node = nodes(plain_bases(), index)
    Node.metadata.create_all(engine)
    stored, write_first, write_later = STORIES[story]
    with Session(engine) as session:
        for key, parent in stored:
            session.add(Node(id=key, parent_id=parent))
            session.flush()
        session.commit()
    first = Session(engine.execution_options(isolation_level=earlier))
    second = Session(engine.execution_options(isolation_level=later))
    with first, second:
        second.scalars(select(Node)).all()  # takes the snapshot
        second.expunge_all()
        write_first(first, Node)
        first.flush()

        def commit_later() -> None:
            write_later(second, Node)
            second.commit()

        def commit_first() -> None:
            _wait_until_somebody_waits(engine)
            first.commit()

        error, none = together(commit_later, commit_first)
    assert none is None
    assert error is None or _is_serialization_failure(error), error
    with Session(engine) as session:
        assert verify_tree(session, Node) == []
        # It is enough to try again.
        if error is not None and "deletion above" not in story:
            write_later(session, Node)
            session.commit()
        assert verify_tree(session, Node) == []


def _wait_until_somebody_waits(engine: Engine) -> None:
    """Wait until a connection waits for a lock, for a second at most: not every write needs the locks of the other."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(100):
            if connection.scalar(waiting):
                return
            connection.execute(text("SELECT pg_sleep(0.01)"))


def _is_serialization_failure(error: BaseException) -> bool:
    return isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) == "40001"


@pytest.mark.parametrize("write", ["insert", "move", "root"])
@indexes
def test_rebuilding_waits_for_a_writer_and_sees_what_it_has_written(
    index: tuple[type[Any], ...], write: str, plain_bases: Any, engine_factory: Callable[..., Engine]
) -> None:
    """At READ COMMITTED, where a statement that waits goes on with the rows that it saw before."""
    engine = engine_factory(pool_size=3)
    Node = nodes(plain_bases(), index)
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Node(id=1, children=[Node(id=2, children=[Node(id=3)])]), Node(id=5)])
        session.commit()
    with Session(engine) as writer:
        if write == "move":
            writer.get_one(Node, 2).move_to(writer.get_one(Node, 5))
        else:
            writer.add(Node(id=7, parent_id=3 if write == "insert" else None))
        writer.flush()

        def rebuild() -> None:
            with Session(engine) as other:
                rebuild_tree(other, Node)
                other.commit()

        def commit() -> None:
            _wait_until_somebody_waits(engine)
            writer.commit()

        assert together(rebuild, commit) == [None, None]
    with Session(engine) as session:
        assert verify_tree(session, Node) == []


@pytest.mark.parametrize("level", LATER)
def test_first_roots_after_all_have_gone(level: str, plain_bases: Any, engine: Engine) -> None:
    """Rows that were deleted, and still are in the file of the table, are no roots of others."""
    Node = nodes(plain_bases(), ())
    Node.metadata.create_all(engine)
    for number in range(3):
        with Session(engine) as session:
            session.add_all([Node(id=1), Node(id=2)])
            session.commit()
            session.execute(delete(Node))
            session.commit()
        with Session(engine.execution_options(isolation_level=level)) as session:
            assert session.scalars(select(Node)).all() == []
            with Session(engine) as other:
                other.execute(text("CREATE TABLE IF NOT EXISTS busy (id integer)"))
                other.execute(text("INSERT INTO busy VALUES (1)"))
                other.commit()
            session.add(Node(id=10 + number))
            session.commit()
            session.delete(session.get_one(Node, 10 + number))
            session.commit()


@indexes
def test_a_flush_claims_once_and_only_if_it_changes_a_list(
    index: tuple[type[Any], ...], plain_bases: Any, engine: Engine
) -> None:
    Node = nodes(plain_bases(), index)
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Node(id=1, children=[Node(id=2), Node(id=3)]), Node(id=4)])
        with count_statements(engine) as log:
            session.flush()
        assert len(claims(log)) == 1
        session.commit()
        second = session.get_one(Node, 2)
        second.parent_id = second.parent_id
        with count_statements(engine) as log:
            session.flush()
        assert claims(log) == []
        second.move_to(session.get_one(Node, 4))
        with count_statements(engine) as log:
            session.flush()
        assert len(claims(log)) == 1
