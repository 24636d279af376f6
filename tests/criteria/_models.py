"""Authors, whom everybody sees, and their posts with comments and tags, of which some are hidden in one of three
ways.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Engine, ForeignKey, String, Table, insert
from sqlalchemy.orm import (
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    mapped_column,
    relationship,
    sessionmaker,
)

from sqla_patterns.criteria import GlobalCriteria, HasPrivate, SoftDelete, TenantScoped, tenant_scope

MINE, THEIRS = "acme", "zeta"


@dataclass(frozen=True)
class Hider:
    """A way to hide rows.

    Attributes:
        name: Its name.
        mixin: The mixin of the classes whose rows are hidden.
        shown: Column values of a row that is seen.
        hidden: Those of one that is not.
        option: The execution option that shows everything.
        scope: What has to be entered to see anything.
    """

    name: str
    mixin: type[Any]
    shown: dict[str, Any]
    hidden: dict[str, Any]
    option: str
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def strict(self) -> bool:
        """Whether Core and texts are refused."""
        return self.name == "tenant"

    def __repr__(self) -> str:
        return self.name


PUBLIC = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
HIDERS = (
    Hider("private", HasPrivate, {"public": True}, {"public": False}, "include_private"),
    Hider(
        "deleted", SoftDelete, {"deleted_at": None}, {"deleted_at": datetime(2024, 1, 1, tzinfo=UTC)}, "include_deleted"
    ),
    Hider(
        "tenant", TenantScoped, {"tenant_id": MINE}, {"tenant_id": THEIRS}, "all_tenants", lambda: tenant_scope(MINE)
    ),
)


@dataclass(frozen=True)
class Blog:
    """The mapped classes."""

    hider: Hider
    base: Any
    author: Any
    post: Any
    comment: Any
    tag: Any
    post_tag: Table


def map_blog(base: Any, hider: Hider) -> Blog:
    """Map the classes on a plain base.

    Tables are named after the hider, since a text that names the table of a scoped class is refused whatever the
    session is for.
    """
    prefix = "crit" if hider.strict else f"crit_{hider}"
    post_tag = Table(
        f"{prefix}_post_tag",
        base.metadata,
        Column("post_id", ForeignKey(f"{prefix}_post.id"), primary_key=True),
        Column("tag_id", ForeignKey(f"{prefix}_tag.id"), primary_key=True),
    )

    class Author(base):
        __tablename__ = f"{prefix}_author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20), default="")
        posts: Mapped[list["Post"]] = relationship(
            back_populates="author", order_by="Post.id", cascade="all, delete-orphan"
        )
        written: WriteOnlyMapped["Post"] = relationship(viewonly=True, order_by="Post.id")
        flowing: DynamicMapped["Post"] = relationship(viewonly=True, order_by="Post.id")

    class Post(hider.mixin, base):
        __tablename__ = f"{prefix}_post"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20), default="")
        score: Mapped[int] = mapped_column(default=0)
        author_id: Mapped[int | None] = mapped_column(ForeignKey(f"{prefix}_author.id"))
        author: Mapped[Author | None] = relationship(back_populates="posts")
        comments: Mapped[list["Comment"]] = relationship(
            back_populates="post", order_by="Comment.id", cascade="all, delete-orphan"
        )
        tags: Mapped[list["Tag"]] = relationship(secondary=post_tag, order_by="Tag.id")

    class Comment(hider.mixin, base):
        __tablename__ = f"{prefix}_comment"
        id: Mapped[int] = mapped_column(primary_key=True)
        post_id: Mapped[int] = mapped_column(ForeignKey(f"{prefix}_post.id"))
        post: Mapped[Post | None] = relationship(back_populates="comments")

    class Tag(hider.mixin, base):
        __tablename__ = f"{prefix}_tag"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Blog(hider, base, Author, Post, Comment, Tag, post_tag)


def fill(engine: Engine, blog: Blog) -> None:
    """Create the tables with rows of which those with an even key are hidden.

    Author 1 has the post 1, author 2 the hidden post 2, and author 3 the posts 3 and 4. Each post has a comment with
    ten times its key that is seen and, one above that, one that is hidden; and the tags 1 and 2.
    """
    blog.base.metadata.create_all(engine)

    def values(hidden: bool) -> dict[str, Any]:
        return blog.hider.hidden if hidden else blog.hider.shown

    with engine.begin() as connection:
        connection.execute(insert(blog.author.__table__), [{"id": key, "name": f"a{key}"} for key in (1, 2, 3)])
        posts = [(1, 1), (2, 2), (3, 3), (4, 3)]
        for key, author in posts:
            row = {"id": key, "title": f"p{key}", "score": key, "author_id": author, **values(key % 2 == 0)}
            connection.execute(insert(blog.post.__table__), row)
        for key, _ in posts:
            connection.execute(insert(blog.comment.__table__), {"id": key * 10, "post_id": key, **values(False)})
            connection.execute(insert(blog.comment.__table__), {"id": key * 10 + 1, "post_id": key, **values(True)})
        for key in (1, 2):
            connection.execute(insert(blog.tag.__table__), {"id": key, **values(key == 2)})
        rows = [{"post_id": post, "tag_id": tag} for post, _ in posts for tag in (1, 2)]
        connection.execute(insert(blog.post_tag), rows)


@contextmanager
def reading(engine: Engine, blog: Blog) -> Iterator[Session]:
    """Yield a session that does not see what is hidden."""
    maker = sessionmaker(engine)
    if blog.hider.name == "private":
        PUBLIC.attach(maker)
    with blog.hider.scope(), maker() as session:
        yield session
