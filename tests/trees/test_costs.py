"""Cost in statements: of inserts, appends, moves, and of sessions in which there is no tree."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.trees import TreeNode, load_tree
from tests._support import StatementLog, count_statements
from tests.trees._shapes import Tree, any_key, assert_in_step, inserts_into, sorts_itself, unclaimed, writes


def within(log: StatementLog, tree: Tree, most: int) -> None:
    assert unclaimed(log) <= most + tree.shape.index.allowance, log.text


def grow(tree: Tree, session: Session, *, levels: int, width: int) -> int:
    """Add a tree of new nodes; return how many."""
    level = [tree.new("0")]
    session.add(level[0])
    count = 1
    for _ in range(levels):
        level = [tree.new(f"{node.name}.{i}", node) for node in level for i in range(width)]
        session.add_all(level)
        count += len(level)
    return count


@pytest.mark.parametrize("width", [2, 12])
def test_inserts_are_batched_by_level(tree: Tree, session: Session, engine: Engine, width: int) -> None:
    """A new tree costs one INSERT for each level, however many nodes there are.

    The unit of work inserts a level when it knows the keys of the one above. On SQLite it asks for each key by itself.
    """
    count = grow(tree, session, levels=3, width=width)
    with count_statements() as log:
        session.flush()
    inserts = len(inserts_into(log, tree))
    batches = sum(-(-(width**level) // 1000) for level in range(4))
    assert inserts == (count if engine.dialect.name == "sqlite" else batches), log.text
    within(log, tree, inserts + 3)
    assert_in_step(session, tree)


@any_key
def test_inserts_with_known_keys_are_batched_on_every_database(tree: Tree, session: Session) -> None:
    """Where the database makes no key, a level is one INSERT on SQLite too."""
    if tree.shape.key not in ("uuid", "string"):
        return
    grow(tree, session, levels=3, width=5)
    with count_statements() as log:
        session.flush()
    assert len(inserts_into(log, tree)) == 4, log.text
    within(log, tree, 7)
    assert_in_step(session, tree)


def test_one_child_more(tree: Tree, session: Session) -> None:
    """Appending to a loaded list costs its INSERT, the lock and one look at the siblings, whatever their number."""
    t = tree.make(session, "a(b(c))")
    session.add_all([tree.new(f"n{i}", t.b) for i in range(50)])
    session.commit()
    load_tree(session, tree.cls)
    tree.attach(t.b, tree.new("z"))
    with count_statements() as log:
        session.flush()
    assert len(writes(log)) <= 1 + tree.shape.index.allowance, log.text
    within(log, tree, 4)


@sorts_itself
def test_no_extra_statement_where_siblings_sort_themselves(tree: Tree, session: Session) -> None:
    """Without positions and keys there is nothing to look at: an insert is an INSERT.

    A list that is loaded is put in order afterwards, by one SELECT for all.
    """
    if tree.keyed or tree.indexed:
        return
    t = tree.make(session, "a(b c)")
    load_tree(session, tree.cls)
    session.expire(t.b, ["children"])
    session.add_all([tree.new(f"n{i}", t.b) for i in range(10)])
    with count_statements() as log:
        session.flush()
    assert not log.starting("SELECT", "WITH", "UPDATE"), log.text
    load_tree(session, tree.cls)
    session.add_all([tree.new(f"m{i}", parent) for i in range(10) for parent in (t.b, t.c)])
    with count_statements() as log:
        session.flush()
    assert len(log.starting("SELECT", "WITH", "UPDATE")) == 1, log.text
    assert_in_step(session, tree)


def test_a_move(tree: Tree, session: Session) -> None:
    """A move of a subtree of a hundred nodes, all loaded, is one UPDATE of one row, after the locks."""
    t = tree.make(session, "a(b) c(d)")
    session.add_all([tree.new(f"n{i}", t.b) for i in range(100)])
    session.commit()
    load_tree(session, tree.cls)
    t.b.parent = t.d
    with count_statements() as log:
        session.flush()
    assert len(writes(log)) <= 1 + tree.shape.index.allowance, log.text
    within(log, tree, 5)
    assert_in_step(session, tree)


def test_many_moves_in_one_flush(tree: Tree, session: Session) -> None:
    """A hundred moves to one place cost as many looks and locks as one, and UPDATEs in batches."""
    t = tree.make(session, "a b")
    moving = [tree.new(f"n{i:03}", t.a) for i in range(100)]
    session.add_all(moving)
    session.commit()
    load_tree(session, tree.cls)
    for node in moving:
        node.parent = t.b
    with count_statements() as log:
        session.flush()
    within(log, tree, 6)
    assert_in_step(session, tree)


def test_other_changes_of_a_node_cost_nothing_more(tree: Tree, session: Session) -> None:
    """A node that only changes a column of the user's is one UPDATE."""
    t = tree.make(session, "a(b)")
    load_tree(session, tree.cls)
    t.b.label = "new"
    with count_statements() as log:
        session.flush()
    assert len(log) == 1, log.text
    assert_in_step(session, tree)


def test_an_idle_flush(tree: Tree, session: Session) -> None:
    """A flush with nothing to do emits nothing, also right after a load or a move."""
    t = tree.make(session, "a(b) c")
    load_tree(session, tree.cls)
    t.b.parent = t.c
    session.flush()
    with count_statements() as log:
        session.flush()
        session.flush()
    assert not log


def test_sessions_without_trees(engine: Engine, plain_bases: Any, session: Session) -> None:
    """Once a tree class exists, other classes' flushes stay as they were."""
    Base = plain_bases()

    class Page(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Other(Base):  # type: ignore[misc]
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    assert Page.__table__ is not None
    with count_statements() as log:
        other = Other(name="a")
        session.add(other)
        session.flush()
        other.name = "b"
        session.flush()
        session.delete(other)
        session.flush()
    assert [text.split()[0] for text in log] == ["INSERT", "UPDATE", "DELETE"]
