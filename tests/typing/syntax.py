"""What a user of syntax reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

from sqlalchemy import Select, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.syntax import Qualify, qualified, qualify, register_native


class Base(DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    author: Mapped[str]
    public: Mapped[bool]


number = func.row_number().over(partition_by=Post.author, order_by=Post.id)


def rows(session: Session) -> None:
    statement = qualified(select(Post).where(Post.id > 1), number == 1, Post.public)
    assert_type(session.scalars(statement).all(), Sequence[Post])
    assert_type(session.scalars(statement.order_by(Post.id).limit(3)).one(), Post)
    for post_id, author in session.execute(qualified(select(Post.id, Post.author), number > 1)).tuples():
        assert_type(post_id, int)
        assert_type(author, str)


def passed_on(statement: Select[Any]) -> Select[Any]:
    assert_type(qualify(number == 1), Qualify)
    register_native("redshift")
    return qualified(statement, number == 1)
