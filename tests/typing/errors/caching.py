"""What the checkers must refuse about the cache."""

from __future__ import annotations

from dogpile.cache import make_region
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.caching import FromCache, ORMCache, RelationshipCache


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    friends: Mapped[list[Person]] = relationship()


cache = ORMCache({"default": make_region()})
ORMCache({"default": make_region()}, on_error="ignore")  # E: 'ignore'
ORMCache({"default": make_region()}, raw_dml=True)  # E: raw_dml
ORMCache({"default": make_region()}, codec=object())  # E: "object"
FromCache(5)  # E: "int"
FromCache("default", expiration_time="soon")  # E: "str"
RelationshipCache("friends")  # E: "str"
RelationshipCache(Person.friends).and_(FromCache())  # E: "FromCache"


def wrong(session: Session) -> None:
    name: str = cache.get(session, Person, 1)  # E: "Person
    cache.invalidate("SELECT 1")  # E: "str"
    cache.listen_on_session(cache)  # E: "ORMCache"
