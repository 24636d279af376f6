"""Nodes that are gone, replaced under their key, or falsy."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, String, event
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.exceptions import StateError
from sqla_patterns.trees import (
    ClosureTable,
    InvalidMoveError,
    KeyedTreeNode,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
    verify_tree,
)
from tests.trees._shapes import Tree, positioned

KINDS: dict[str, tuple[type[Any], ...]] = {
    "list": (TreeNode,),
    "keyed": (KeyedTreeNode,),
    "nested": (NestedSets, TreeNode),
    "paths": (MaterializedPath, TreeNode),
    "closure": (ClosureTable, KeyedTreeNode),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, engine: Engine, plain_bases: Any) -> Any:
    """Make a class of pages whose slug is their key."""

    def make(on_delete: Any = "cascade") -> Any:
        Base = plain_bases()
        keyed = KeyedTreeNode in KINDS[request.param]
        body: dict[str, Any] = {
            "__tablename__": "page",
            "__module__": __name__,
            "__tree__": TreeOptions(key="slug" if keyed else None, on_delete=on_delete),
            "slug": mapped_column(String(20), primary_key=True),
            "title": mapped_column(String(20)),
            "__annotations__": {"slug": Mapped[str], "title": Mapped[str]},
        }
        Page = type("Page", (*KINDS[request.param], Base), body)
        Base.metadata.create_all(engine)
        return Page

    return make


def grow(session: Session, Page: Any, *, deep: bool) -> dict[str, Any]:
    pages = {slug: Page(slug=slug, title="old") for slug in ("root", "about", "news", *(["team"] if deep else []))}
    pages["about"].parent = pages["news"].parent = pages["root"]
    if deep:
        pages["team"].parent = pages["about"]
    session.add(pages["root"])
    session.commit()
    return pages


def found(session: Session, Page: Any) -> dict[str, tuple[str, str | None]]:
    table = Page.__table__
    rows = session.connection().execute(table.select())
    return {row.slug: (row.title, row.parent_id) for row in rows}


@pytest.mark.parametrize("deep", [False, True], ids=["leaf", "with children"])
@pytest.mark.parametrize("way", ["delete", "remove"])
def test_a_node_is_replaced_under_its_key(make: Any, session: Session, deep: bool, way: str) -> None:
    """A new node takes the key of one that is deleted in the same flush; what lay below the old one is deleted."""
    Page = make()
    pages = grow(session, Page, deep=deep)
    new = Page(slug="about", title="new")
    if way == "delete":
        session.delete(pages["about"])
        new.parent_id = "root"
        session.add(new)
    elif isinstance(pages["root"].children, dict):
        del pages["root"].children["about"]
        pages["root"].children["about"] = new
    else:
        pages["root"].children.remove(pages["about"])
        pages["root"].children.append(new)
    session.commit()
    assert found(session, Page) == {"root": ("old", None), "about": ("new", "root"), "news": ("old", "root")}
    assert not verify_tree(session, Page)


@pytest.mark.parametrize(("on_delete", "parent"), [("adopt", "root"), ("root", None)])
def test_children_of_a_replaced_node(make: Any, session: Session, on_delete: str, parent: str | None) -> None:
    """The policy holds for the children of the old node."""
    Page = make(on_delete)
    pages = grow(session, Page, deep=True)
    session.delete(pages["about"])
    session.add(Page(slug="about", title="new", parent_id="root"))
    session.commit()
    assert found(session, Page)["about"] == ("new", "root")
    assert found(session, Page)["team"] == ("old", parent)
    assert not verify_tree(session, Page)


def test_a_replacement_has_children_of_its_own(make: Any, session: Session) -> None:
    """New nodes below the new node are no nodes below the deleted one."""
    Page = make()
    pages = grow(session, Page, deep=True)
    session.delete(pages["about"])
    new = Page(slug="about", title="new", parent_id="root")
    child = Page(slug="jobs", title="new")
    child.parent = new
    session.add_all([new, child])
    session.commit()
    assert found(session, Page)["jobs"] == ("new", "about")
    assert "team" not in found(session, Page)
    assert not verify_tree(session, Page)


def test_a_replacement_beside_listeners_is_refused(make: Any, session: Session) -> None:
    """Where deletions have to go through the unit of work, which would delete the new row, the flush says so."""
    Page = make()
    event.listen(Page, "before_delete", lambda *_: None)
    pages = grow(session, Page, deep=False)
    session.delete(pages["about"])
    session.add(Page(slug="about", title="new", parent_id="root"))
    with pytest.raises(StateError, match=r"flush it first: session.flush\(\)"):
        session.commit()
    session.rollback()
    assert found(session, Page)["about"] == ("old", "root")


@positioned
@pytest.mark.parametrize("way", ["move_to", "insert", "position"])
def test_a_node_that_another_session_deleted_cannot_be_put_elsewhere(tree: Tree, session: Session, way: str) -> None:
    """A node that is gone and is put beside a sibling is refused by name."""
    t = tree.make(session, "a(b c d)")
    assert [child.name for child in t.a.children] == ["b", "c", "d"]
    key = tree.pk(t.d)
    if way == "move_to":
        t.d.move_to(t.b, "before")
    elif way == "insert":
        t.a.children.insert(0, t.d)
    else:
        t.d.position = 0
    session.connection().execute(tree.table.delete().where(_pk(tree) == key))
    with pytest.raises(InvalidMoveError, match="does not exist"):
        session.flush()


def _pk(tree: Tree) -> Any:
    return next(iter(tree.table.primary_key))


def test_falsy_nodes_are_nodes(engine: Engine, plain_bases: Any, session: Session) -> None:
    """A class whose objects are empty, and so false, works like any other."""
    Base = plain_bases()

    class Folder(NestedSets, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "folder"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

        def __len__(self) -> int:
            return 0

    Base.metadata.create_all(engine)
    top = Folder(id=1, name="top")
    session.add_all([top, Folder(id=2, name="a", parent_id=1)])
    session.flush()
    b = Folder(id=3, name="b", parent_id=1)
    session.add(b)
    session.flush()
    b.parent_id = 2
    session.commit()
    b.move_to(top, "first_child")
    session.commit()
    assert [child.name for child in top.children] == ["b", "a"]
    assert not verify_tree(session, Folder)
    session.delete(top)
    session.commit()
    assert not session.connection().execute(Folder.__table__.select()).all()
