"""``refresh`` and ``expire`` take back what was said about the place of a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from sqla_patterns.trees import load_tree
from tests.trees._shapes import Tree, assert_in_step, positioned

TAKE_BACK: dict[str, Callable[[Session, Any], None]] = {
    "refresh": lambda session, node: session.refresh(node),
    "expire": lambda session, node: session.expire(node),
    "expire_all": lambda session, node: session.expire_all(),
    "expire-links": lambda session, node: session.expire(node, ["parent", "parent_id", "position"]),
}


@positioned
@pytest.mark.parametrize("back", TAKE_BACK.values(), ids=TAKE_BACK)
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "unloaded"])
@pytest.mark.parametrize("target", ["d", "a"])
def test_a_move_is_taken_back(tree: Tree, session: Session, back: Any, loaded: bool, target: str) -> None:
    """A node that was sent elsewhere and refreshed stays where it is, and no list shows it where it is not."""
    t = tree.make(session, "a(b c) d(e)")
    if loaded:
        load_tree(session, tree.cls)
    with session.no_autoflush:
        t.c.move_to(getattr(t, target), "first_child")
        back(session, t.c)
    t.c.label = "edited"
    session.flush()
    assert tree.outline(session) == "a(b c) d(e)"
    for node in vars(t).values():
        session.refresh(node, ["name", "parent_id", "position"])
    assert [child.name for child in t.a.children] == ["b", "c"]
    assert [child.name for child in t.d.children] == ["e"]
    session.commit()
    load_tree(session, tree.cls)
    assert_in_step(session, tree)
