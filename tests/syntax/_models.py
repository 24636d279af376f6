from __future__ import annotations

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.id")


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    kind: Mapped[str] = mapped_column(String(20))
    title: Mapped[str] = mapped_column(String(20))
    score: Mapped[int | None]
    body: Mapped[str] = mapped_column(String(20), default="text", deferred=True)
    author: Mapped[Author] = relationship(back_populates="posts")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "post"}


class Review(Post):
    __mapper_args__ = {"polymorphic_identity": "review"}


Author.post_count = column_property(  # type: ignore[attr-defined]
    select(func.count(Post.id)).where(Post.author_id == Author.id).correlate_except(Post).scalar_subquery()
)


def fill(session: Session) -> None:
    """Make the tables, and three authors with four posts each, the last one a review."""
    Base.metadata.create_all(session.connection())
    for a in (1, 2, 3):
        session.add(Author(id=a, name=f"author{a}"))
        session.flush()
        for n in (1, 2, 3, 4):
            cls = Review if n == 4 else Post
            score = None if n == 1 else (a * 7 + n * 3) % 5
            session.add(cls(id=a * 10 + n, author_id=a, title=f"t{a}{n}", score=score))
    session.commit()
