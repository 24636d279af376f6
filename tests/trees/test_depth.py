"""Trees of depth 5,000: nothing recurses in Python, and no database cuts a recursive query off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sqla_patterns.trees import (
    InvalidMoveError,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    rebuild_tree,
    render_tree,
    verify_tree,
    walk_tree,
)
from tests._support import count_statements
from tests.trees._shapes import CONTRACT, Tree

DEPTH = 5_000

pytestmark = pytest.mark.parametrize(
    "shape",
    [
        param
        for param in CONTRACT
        if param.values[0].base == "plain" and param.values[0].index.deep and param.values[0].collection != "sorted"
    ],
)


@pytest.fixture
def chain(tree: Tree, session: Session) -> Iterator[Any]:
    """Insert a chain of `DEPTH` nodes named 0, 1, 2 ... in bulk, load it, and return the list of its nodes."""
    data: dict[str, Any] = {"name": str(DEPTH - 1)}
    for number in reversed(range(DEPTH - 1)):
        data = {"name": str(number), "children": [data]}
    insert_tree(session, tree.cls, data)
    session.commit()
    nodes = [node for node, _ in walk_tree(session, tree.cls)]
    yield nodes
    # Python itself recurses when it frees a chain of dictionaries and lists that nothing else holds.
    session.close()
    for node in nodes:
        node.__dict__.clear()


def test_it_is_read_whole(tree: Tree, session: Session, chain: Any) -> None:
    """Loaders, predicates and renderers see the last node."""
    assert len(chain) == DEPTH
    assert [node.name for node in chain[:3]] == ["0", "1", "2"]
    session.expire_all()
    (root,) = load_tree(session, tree.cls)
    assert len(render_tree(root).splitlines()) == DEPTH
    count = select(func.count()).select_from(tree.cls)
    assert session.scalar(count.where(tree.cls.descendant_of(root))) == DEPTH - 1
    assert session.scalar(count.where(tree.cls.ancestor_of(chain[-1]))) == DEPTH - 1
    assert lowest_common_ancestor(session, chain[-1], chain[2_000]) is chain[2_000]
    dumped = dump_tree(session, tree.cls)
    depth = 0
    level: Any = list(dumped.values()) if isinstance(dumped, dict) else dumped
    while level:
        depth += 1
        below = level[0].get("children", [])
        level = list(below.values()) if isinstance(below, dict) else below
    assert depth == DEPTH
    assert verify_tree(session, tree.cls) == []
    assert rebuild_tree(session, tree.cls) == 0


def test_a_new_connection_sees_all_of_it(tree: Tree, session: Session, chain: Any) -> None:
    """A predicate in a statement of the user's is not cut off on a connection that has done nothing else."""
    session.commit()
    engine = session.get_bind()
    engine.dispose() if engine.dialect.name != "sqlite" else None  # type: ignore[union-attr]
    with Session(engine) as other:
        count = select(func.count()).select_from(tree.cls).where(tree.cls.descendant_of(tree.pk(chain[0])))
        assert other.scalar(count) == DEPTH - 1


def test_it_is_changed_anywhere(tree: Tree, session: Session, chain: Any) -> None:
    """Moves deep down work, and a cycle of 5,000 nodes is seen."""
    chain[-1].parent = chain[0]
    session.flush()
    assert session.scalar(select(tree.cls.parent_id).where(tree.cls.name == str(DEPTH - 1))) == tree.pk(chain[0])
    with session.no_autoflush:
        chain[1].parent_id = tree.pk(chain[-2])
        with pytest.raises(InvalidMoveError):
            session.flush()
    session.rollback()


@pytest.mark.parametrize("way", ["session", "function"])
def test_it_is_deleted(tree: Tree, session: Session, chain: Any, way: str) -> None:
    """One or two statements more than a flat tree, where the database limits cascades."""
    with count_statements() as log:
        if way == "session":
            session.delete(chain[0])
            session.flush()
        else:
            assert delete_subtree(session, chain[0]) == DEPTH
    assert session.scalar(select(func.count()).select_from(tree.cls)) == 0
    assert len(log) <= 6 + tree.shape.index.allowance, log.text
    session.commit()


def test_it_is_added_through_the_session(tree: Tree, session: Session) -> None:
    """A chain of 1,000 new nodes goes through the unit of work, whose own limit is further off."""
    nodes = [tree.new("0")]
    for number in range(1, 1_000):
        nodes.append(tree.new(str(number), nodes[-1]))
    session.add_all(nodes)
    session.commit()
    assert [depth for _, depth in walk_tree(session, tree.cls)] == list(range(1_000))
    for node in nodes:
        session.expunge(node) if node in session else None
        node.__dict__.clear()
