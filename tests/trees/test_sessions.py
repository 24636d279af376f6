"""Every function that takes a session takes a scoped one, and says of an async one what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.trees import (
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    rebuild_tree,
    verify_tree,
    walk_tree,
)
from tests.trees._shapes import Tree, plain_list

CALLS: dict[str, Callable[[Any, Tree, Any], Any]] = {
    "load_tree": lambda session, tree, node: load_tree(session, tree.cls),
    "walk_tree": lambda session, tree, node: walk_tree(session, tree.cls),
    "dump_tree": lambda session, tree, node: dump_tree(session, tree.cls),
    "insert_tree": lambda session, tree, node: insert_tree(session, tree.cls, {"name": "x"}, node),
    "delete_subtree": lambda session, tree, node: delete_subtree(session, node),
    "verify_tree": lambda session, tree, node: verify_tree(session, tree.cls),
    "rebuild_tree": lambda session, tree, node: rebuild_tree(session, tree.cls),
    "lowest_common_ancestor": lambda session, tree, node: lowest_common_ancestor(session, node, node),
}
called = pytest.mark.parametrize("name", CALLS)


@pytest.fixture
def scoped(engine: Engine) -> Any:
    scoped = scoped_session(sessionmaker(engine))
    yield scoped
    scoped.remove()


@plain_list
@called
def test_a_scoped_session_will_do(tree: Tree, scoped: Any, name: str) -> None:
    """A scoped session gives what its plain session gives, and leaves a sound tree."""
    t = tree.make(scoped(), "a(b(c) d)")
    CALLS[name](scoped, tree, t.b)
    scoped.commit()
    assert not verify_tree(scoped, tree.cls)


@plain_list
def test_insert_tree_on_a_scoped_session_can_be_rolled_back(tree: Tree, scoped: Any) -> None:
    """The new nodes leave the session when a savepoint of the scoped session is rolled back."""
    tree.make(scoped(), "a")
    savepoint = scoped.begin_nested()
    (node,) = insert_tree(scoped, tree.cls, {"name": "x"})
    savepoint.rollback()
    assert node not in scoped()
    assert tree.outline(scoped()) == "a"


@plain_list
@called
def test_an_async_session_is_told_to_run_sync(tree: Tree, session: Session, name: str) -> None:
    """An async session is refused before any SQL, with the line to write."""
    t = tree.make(session, "a(b(c) d)")
    with pytest.raises(InvalidArgumentError, match=rf"await session.run_sync\({name}, ...\)"):
        CALLS[name](AsyncSession(), tree, t.b)
