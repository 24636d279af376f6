"""Trees of SQLModel, whose objects refuse attributes that are no fields."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import Session, registry
from sqlmodel import Field, SQLModel

from sqla_patterns.trees import (
    ClosureTable,
    KeyedTreeNode,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
    delete_subtree,
    dump_tree,
    insert_tree,
    verify_tree,
)

MIXINS: dict[str, tuple[type[Any], ...]] = {
    "adjacency": (TreeNode,),
    "nested": (NestedSets, TreeNode),
    "paths": (MaterializedPath, TreeNode),
    "closure": (ClosureTable, TreeNode),
    "keyed": (KeyedTreeNode,),
    "keyed-nested": (NestedSets, KeyedTreeNode),
    "sorted": (TreeNode,),
}


@pytest.fixture(params=MIXINS)
def cat(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Any]:
    """Return a table class of SQLModel with a tree mixed in."""
    own = registry(metadata=MetaData())
    namespace = {"__module__": __name__, "__annotations__": {}, "metadata": own.metadata}
    base = types.new_class("Base", (SQLModel,), {"registry": own}, lambda body: body.update(namespace))
    options = {"keyed": {"key": "name"}, "sorted": {"order_by": ("name",)}}.get(request.param.split("-")[0], {})
    body: dict[str, Any] = {
        "__module__": __name__,
        "__tablename__": "cat",
        "__tree__": TreeOptions(**options),  # type: ignore[arg-type]
        "__annotations__": {"id": int | None, "name": str},
        "id": Field(default=None, primary_key=True),
        "name": Field(max_length=50),
    }
    cls: Any = types.new_class("Cat", (*MIXINS[request.param], base), {"table": True}, lambda space: space.update(body))
    own.metadata.create_all(engine)
    yield cls
    own.dispose(cascade=True)


def names(cat: Any) -> list[str]:
    children = cat.children
    return sorted(children) if isinstance(children, dict) else [child.name for child in children]


def test_the_constructor_takes_links(cat: Any, session: Session) -> None:
    """``parent`` and ``parent_id`` are arguments, though they are no fields."""
    top = cat(name="top")
    session.add_all([top, cat(name="a", parent=top)])
    session.commit()
    session.add(cat(name="b", parent_id=top.id))
    session.commit()
    assert names(top) == ["a", "b"]
    assert not verify_tree(session, cat)


@pytest.mark.parametrize("spelling", ["parent", "parent_id", "move_to"])
def test_moves(cat: Any, session: Session, spelling: str) -> None:
    """Every spelling of a move works."""
    top = cat(name="top")
    a, b = cat(name="a", parent=top), cat(name="b", parent=top)
    session.add(top)
    session.commit()
    if spelling == "parent":
        b.parent = a
    elif spelling == "parent_id":
        b.parent_id = a.id
    else:
        b.move_to(a)
    session.commit()
    assert b.parent is a
    assert (names(top), names(a)) == (["a"], ["b"])
    assert not verify_tree(session, cat)


def test_in_bulk(cat: Any, session: Session) -> None:
    """`insert_tree`, `dump_tree` and `delete_subtree` work."""
    (top,) = insert_tree(session, cat, [{"name": "top", "children": [{"name": "a"}, {"name": "b"}]}])
    dump = dump_tree(session, cat)
    assert "position" not in str(dump)
    assert delete_subtree(session, top) == 3
    insert_tree(session, cat, dump)
    session.commit()
    assert dump_tree(session, cat) == dump
    assert not verify_tree(session, cat)


def test_the_model_stays_a_model(cat: Any, session: Session) -> None:
    """What pydantic does with fields goes on working, and leaves out what the mixin adds."""
    top = cat.model_validate({"name": "top"})
    session.add(top)
    session.commit()
    session.refresh(top)
    assert top.model_dump() == {"id": top.id, "name": "top"}
    assert set(cat.model_json_schema()["properties"]) == {"id", "name"}
