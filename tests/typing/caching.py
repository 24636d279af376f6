"""The types that a user of the cache reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from dogpile.cache import make_region
from dogpile.cache.region import CacheRegion
from sqlalchemy import create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker

from sqla_patterns._attach import Attachment
from sqla_patterns.caching import (
    CacheEvent,
    CachePlan,
    CacheStats,
    Codec,
    FromCache,
    MemoryStamps,
    ORMCache,
    PickleCodec,
    RedisStamps,
    RelationshipCache,
    StampStore,
    TypedCodec,
)


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    addresses: Mapped[list[Address]] = relationship()


class Address(Base):
    __tablename__ = "address"
    id: Mapped[int] = mapped_column(primary_key=True)


regions: dict[str, CacheRegion] = {"default": make_region()}
cache = ORMCache(
    regions,
    namespace="app",
    vary=lambda state: state.session.info["tenant"],
    depends={"view": ["person"], Address: [Person, "city"]},
    on_error="raise",
    raw_dml="ignore",
    codec=PickleCodec(b"0123456789abcdef"),
    stamps=RedisStamps.from_url("redis://localhost"),
    lock_timeout=1,
)

codecs: Sequence[Codec] = [TypedCodec(), PickleCodec("a secret of sixteen")]
stores: Sequence[StampStore] = [MemoryStamps()]


def attaching() -> None:
    engine = create_engine("sqlite://")
    factory = sessionmaker(engine)
    assert_type(cache.listen_on_session(factory), Attachment)
    cache.listen_on_session(scoped_session(factory))
    cache.listen_on_session(Session)
    cache.listen_on_session(async_sessionmaker())
    cache.track_engine(engine)
    cache.track_engine(create_async_engine("sqlite+aiosqlite://"))
    cache.detach()


def statements_keep_their_types(session: Session) -> None:
    option = RelationshipCache(Person.addresses, "default", expiration_time=1.5)
    assert_type(option.and_(RelationshipCache(Person.addresses)), RelationshipCache)
    statement = select(Person).options(FromCache("default", tags=(Person, Address.__table__, "word")), option)
    assert_type(session.scalars(statement).all(), Sequence[Person])
    assert_type(session.scalars(select(Person.name).options(FromCache(vary=1))).one(), str)
    assert_type(session.query(Person).options(FromCache()).first(), Person | None)


def reading(session: Session) -> None:
    assert_type(cache.get(session, Person, 1), Person | None)
    assert_type(cache.get_many(session, Person, [1, 2])[1], Person)
    plan = cache.explain(session, select(Person).options(FromCache()), {"x": 1})
    assert_type(plan, CachePlan)
    assert_type(plan.worthwhile, bool | None)
    with cache.bypass(session), cache.refresh(session):
        cache.invalidate(session.query(Person), {}, FromCache())
    cache.invalidate(select(Person))
    cache.invalidate(text("SELECT 1"))
    cache.invalidate_relationship(Person(), Person.addresses)
    cache.invalidate_tables(Person, "address", Address.__table__)
    cache.invalidate_tags("word")
    assert_type(cache.stats, CacheStats)
    assert_type(cache.stats.regions["default"].hit_rate, float)


async def reading_async(session: AsyncSession) -> None:
    assert_type(await session.run_sync(cache.get, Person, 1), Person | None)
    assert_type(await session.run_sync(cache.explain, select(Person)), CachePlan)
    with cache.bypass(session):
        assert_type((await session.scalars(select(Person).options(FromCache()))).all(), Sequence[Person])


@cache.events.listen
def on_event(event: CacheEvent) -> None:
    assert_type(event.seconds, float)
    assert_type(event.tags, frozenset[str])
