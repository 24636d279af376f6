"""What checkers refuse of syntax."""

from __future__ import annotations

from sqlalchemy import select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.syntax import qualified, qualify, register_native


class Base(DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)


qualified(text("select 1"), Post.id == 1)  # E:
qualified(select(Post), Post.id)  # E: bool
qualify("id = 1")  # E: str
register_native(Post)  # E: str
