"""Each mixin on each base class that users have: mapped, written, moved and read."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sqla_patterns.generic_associations import DiscriminatorAssociation, TablePerAssociation
from sqla_patterns.graphs import GraphEdge, GraphNode, GraphOptions
from sqla_patterns.trees import (
    ClosureTable,
    KeyedTreeNode,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
    insert_tree,
    load_tree,
    verify_tree,
)
from sqla_patterns.versioning import CopiedRow, TemporalOptions, Versioned, revert, valid_at, versions

from ._bases import BASES, Build


@pytest.fixture(params=BASES)
def build(request: pytest.FixtureRequest) -> Generator[Build, None, None]:
    builder = BASES[request.param]()
    yield builder
    builder.dispose()


@pytest.mark.parametrize(
    "mixins",
    [(TreeNode,), (NestedSets, TreeNode), (MaterializedPath, TreeNode), (ClosureTable, TreeNode)],
    ids=lambda mixins: mixins[0].__name__,
)
def test_a_tree_works_on_each_base(engine: Engine, build: Build, mixins: tuple[type[Any], ...]) -> None:
    Node = build("Node", mixins, {})
    Node.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        root, a, b = (Node(name=name) for name in ("root", "a", "b"))
        root.children.append(a)
        b.parent = root
        session.add(root)
        session.commit()
        b.move_to(a, "first_child")
        session.commit()
        assert session.scalars(select(Node.name).where(Node.descendant_of(a))).all() == ["b"]
        assert [child.name for child in root.children] == ["a"]
        a.parent_id = None
        session.commit()
        assert [node.name for node in load_tree(session, Node)] == ["root", "a"]
        assert verify_tree(session, Node) == []


def test_a_keyed_tree_works_on_each_base(engine: Engine, build: Build) -> None:
    Node = build("Node", (KeyedTreeNode,), {"__tree__": TreeOptions(key="name")})
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        (root,) = insert_tree(session, Node, {"root": {"children": {"a": {}, "b": {}}}})
        session.commit()
        root.children["b"].parent = root.children["a"]
        session.commit()
        assert sorted(root.children["a"].children) == ["b"]
        assert verify_tree(session, Node) == []


def test_a_graph_works_on_each_base(engine: Engine, build: Build) -> None:
    Node = build("Node", (GraphNode,), {})
    # Each of these classes has a key of its own, and some bases bring one.
    Edge = build("Edge", (GraphEdge[Node],), {"__graph__": GraphOptions(surrogate_key=True)})
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        a, b = Node(name="a"), Node(name="b")
        session.add_all([a, b])
        a.add_neighbor(b, name="ab")
        session.commit()
        assert [node.name for node in a.higher_neighbors()] == ["b"]
        assert session.scalars(select(Edge.name)).all() == ["ab"]
        session.delete(b)
        session.commit()
        assert session.scalars(select(Edge.name)).all() == []


def test_a_history_works_on_each_base(engine: Engine, build: Build) -> None:
    Doc = build("Doc", (Versioned,), {})
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        doc = Doc(name="one")
        session.add(doc)
        session.commit()
        doc.name = "two"
        session.commit()
        assert [version.object.name for version in versions(session, doc)] == ["one", "two"]
        revert(session, doc, to=1)
        session.commit()
        assert (doc.name, doc.version) == ("one", 3)


def test_temporal_rows_work_on_each_base(engine: Engine, build: Build) -> None:
    Doc = build("Doc", (CopiedRow,), {"__temporal__": TemporalOptions(period=True)})
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        doc = Doc(name="one")
        session.add(doc)
        session.commit()
        begun, first = doc.valid_from, doc.object_id
        doc.name = "two"
        session.commit()
        assert (doc.name, doc.is_current, doc.object_id, doc.id == first) == ("two", True, first, False)
        assert session.scalars(select(Doc.name).options(valid_at(begun))).all() == ["one"]
        session.delete(doc)
        session.commit()
        history = select(Doc.name, Doc.is_current).order_by(Doc.name).execution_options(include_history=True)
        assert session.execute(history).all() == [("one", False), ("two", False)]


@pytest.mark.parametrize("strategy", [TablePerAssociation, DiscriminatorAssociation])
def test_generic_children_work_on_each_base(engine: Engine, build: Build, strategy: Any) -> None:
    Comment = build("Comment", (), {})

    class HasComments:
        comments = strategy(Comment)

    Post = build("Post", (HasComments,), {})
    Photo = build("Photo", (HasComments,), {})
    Post.metadata.create_all(engine)
    with Session(engine) as session:
        post, photo, comment = Post(name="post"), Photo(name="photo"), Comment(name="nice")
        post.comments.append(comment)
        session.add_all([post, photo])
        session.commit()
        assert comment.parent is post
        # Not by `comment.parent = photo`: SQLModel refuses to assign what is no field and no relationship.
        photo.comments.append(comment)
        session.commit()
        assert comment.parent is photo
        assert (len(post.comments), len(photo.comments)) == (0, 1)
        session.delete(photo)
        session.commit()
        assert session.scalars(select(Comment)).all() == []


@pytest.mark.parametrize("order", [(NestedSets, TreeNode, Versioned), (Versioned, NestedSets, TreeNode)])
def test_a_versioned_tree_works_on_each_base(engine: Engine, build: Build, order: tuple[type[Any], ...]) -> None:
    Node = build("Node", order, {})
    Node.metadata.create_all(engine)
    with Session(engine) as session:
        root, a, b = (Node(name=name) for name in ("root", "a", "b"))
        root.children.extend([a, b])
        session.add(root)
        session.commit()
        b.move_to(a)
        session.commit()
        assert [version.object.parent_id for version in versions(session, b)] == [root.id, a.id]
        assert [version.number for version in versions(session, a)] == [1]
        assert verify_tree(session, Node) == []
