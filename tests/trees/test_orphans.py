"""Nodes that a flush deletes as orphans of another relationship are deleted as by ``session.delete``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sqla_patterns.trees import DeleteRestrictedError, KeyedTreeNode, TreeNode, TreeOptions, load_tree, verify_tree
from tests._support import count_statements
from tests.trees.test_eager_and_hidden import MIXINS, rows

Make = Callable[..., Any]
AFTER = {"cascade": "a< d<a", "adopt": "a< c<a d<a", "root": "a< c< d<a"}


@pytest.fixture(params=[*MIXINS, "keyed"])
def make(request: pytest.FixtureRequest, engine: Engine, plain_bases: Any) -> Make:
    """Make a class of comments that belong to posts, which belong to blogs."""

    def make(on_delete: Any = "cascade", *, back: bool = False) -> Any:
        Base = plain_bases()
        keyed = request.param == "keyed"
        mixin = None if keyed else MIXINS[request.param]
        bases: tuple[Any, ...] = (
            *((mixin,) if mixin is not None else ()),
            KeyedTreeNode if keyed else TreeNode,
            Base,
        )

        class Blog(Base):  # type: ignore[misc]
            __tablename__ = "blog"
            id: Mapped[int] = mapped_column(primary_key=True)
            posts: Mapped[list[Any]] = relationship("Post", cascade="all, delete-orphan")

        class Post(Base):  # type: ignore[misc]
            __tablename__ = "post"
            id: Mapped[int] = mapped_column(primary_key=True)
            blog_id: Mapped[int | None] = mapped_column(ForeignKey("blog.id"))
            comments: Mapped[list[Any]] = relationship(
                "Comment",
                cascade="all, delete-orphan",
                foreign_keys="Comment.post_id",
                **({"back_populates": "post"} if back else {}),
            )
            pinned_id: Mapped[int | None] = mapped_column(ForeignKey("comment.id", use_alter=True, name="pinned"))
            pinned: Mapped[Any] = relationship(
                "Comment",
                cascade="all, delete-orphan",
                single_parent=True,
                foreign_keys="Post.pinned_id",
                post_update=True,
            )

        body: dict[str, Any] = {
            "__tablename__": "comment",
            "__module__": __name__,
            "__tree__": TreeOptions(on_delete=on_delete, key="name" if keyed else None),
            "id": mapped_column(primary_key=True),
            "name": mapped_column(String(20)),
            "post_id": mapped_column(ForeignKey("post.id")),
            "__annotations__": {"id": Mapped[int], "name": Mapped[str], "post_id": Mapped[int | None]},
        }
        if back:
            body["post"] = relationship(Post, back_populates="comments", foreign_keys="Comment.post_id")
        Comment = type("Comment", bases, body)
        Comment.Post, Comment.Blog = Post, Blog  # type: ignore[attr-defined]
        Base.metadata.create_all(engine)
        return Comment

    return make


def grow(session: Session, Comment: Any) -> dict[str, Any]:
    """Store a(b(c) d) below one post of one blog."""
    nodes: dict[str, Any] = {name: Comment(name=name) for name in "abcd"}
    for child, parent in (("b", "a"), ("d", "a"), ("c", "b")):
        nodes[child].parent = nodes[parent]
    post = Comment.Post(comments=list(nodes.values()))
    blog = Comment.Blog(posts=[post])
    session.add(blog)
    session.commit()
    return {**nodes, "post": post, "blog": blog}


@pytest.mark.parametrize("on_delete", AFTER)
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "unloaded"])
def test_taken_out_of_the_owner(make: Make, session: Session, on_delete: str, loaded: bool) -> None:
    """A node that is removed from the collection of its owner is deleted by the policy."""
    Comment = make(on_delete)
    t = grow(session, Comment)
    if loaded:
        load_tree(session, Comment)
    t["post"].comments.remove(t["b"])
    session.commit()
    assert rows(session, Comment) == AFTER[on_delete]
    assert not verify_tree(session, Comment)


def test_restrict_refuses_an_orphan(make: Make, session: Session) -> None:
    """``restrict`` holds for orphans with children."""
    Comment = make("restrict")
    t = grow(session, Comment)
    t["post"].comments.remove(t["b"])
    with pytest.raises(DeleteRestrictedError):
        session.commit()
    session.rollback()
    assert rows(session, Comment) == "a< b<a c<b d<a"


@pytest.mark.parametrize("on_delete", AFTER)
def test_removed_by_the_other_side(make: Make, session: Session, on_delete: str) -> None:
    """A node whose many-to-one side is set to None is an orphan, also where the collection is not loaded."""
    Comment = make(on_delete, back=True)
    t = grow(session, Comment)
    assert t["b"].post is t["post"]  # SQLAlchemy takes it for an orphan only if it knows the owner.
    t["b"].post = None
    session.commit()
    assert rows(session, Comment) == AFTER[on_delete]
    assert not verify_tree(session, Comment)


@pytest.mark.parametrize("on_delete", AFTER)
def test_replaced_in_a_scalar(make: Make, session: Session, on_delete: str) -> None:
    """A node that a many-to-one relationship with ``delete-orphan`` lets go of is deleted by the policy."""
    Comment = make(on_delete)
    t = grow(session, Comment)
    t["post"].pinned = t["b"]
    session.commit()
    t["post"].pinned = None
    session.commit()
    assert rows(session, Comment) == AFTER[on_delete]
    assert not verify_tree(session, Comment)


def test_an_orphan_further_up(make: Make, session: Session) -> None:
    """A post that is removed from its blog takes its comments along."""
    Comment = make("cascade")
    t = grow(session, Comment)
    other = Comment.Post(comments=[Comment(name="x")])
    t["blog"].posts.append(other)
    session.commit()
    t["blog"].posts.remove(t["post"])
    session.commit()
    assert rows(session, Comment) == "x<"
    assert not verify_tree(session, Comment)


def test_given_to_another_owner(make: Make, session: Session) -> None:
    """A node that goes from one owner to another is no orphan."""
    Comment = make("cascade", back=True)
    t = grow(session, Comment)
    other = Comment.Post()
    t["blog"].posts.append(other)
    session.commit()
    new, old = other.comments, t["post"].comments  # Loaded first, since loading flushes.
    old.remove(t["b"])
    new.append(t["b"])
    session.commit()
    assert rows(session, Comment) == "a< b<a c<b d<a"
    assert t["b"].post is other


def test_loaded_children_leave_with_the_orphan(make: Make, session: Session) -> None:
    """After the flush no loaded collection holds the orphan."""
    Comment = make("cascade")
    t = grow(session, Comment)
    load_tree(session, Comment)
    assert len(t["a"].children) == 2
    t["post"].comments.remove(t["b"])
    session.flush()
    children = t["a"].__dict__["children"]
    assert [child.name for child in (children.values() if isinstance(children, dict) else children)] == ["d"]
    assert t["c"] not in session


def test_an_orphan_costs_what_a_deletion_costs(make: Make, session: Session) -> None:
    """Finding an orphan emits no statement beside those of ``session.delete``."""
    Comment = make("cascade")
    t = grow(session, Comment)
    load_tree(session, Comment)
    assert len(t["post"].comments) == 4
    t["post"].comments.remove(t["d"])
    with count_statements() as orphaned:
        session.flush()
    session.rollback()
    load_tree(session, Comment)
    assert len(t["post"].comments) == 4
    session.delete(t["d"])
    with count_statements() as deleted:
        session.flush()
    assert len(orphaned) == len(deleted), orphaned.text


def test_rows_that_let_go_of_a_deleted_node_are_written_first(make: Make, session: Session) -> None:
    """A node with children can be deleted in the flush that takes away the last reference to it from another table."""
    Comment = make("cascade")
    t = grow(session, Comment)
    t["post"].pinned = t["b"]
    session.commit()
    t["post"].pinned = None
    session.delete(t["b"])
    session.commit()
    assert rows(session, Comment) == AFTER["cascade"]
