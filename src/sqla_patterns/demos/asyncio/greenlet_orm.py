"""Functions in synchronous style inside of an AsyncSession: SQLAlchemy's asyncio/greenlet_orm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.asyncio import gather_calls
from sqla_patterns.demos._support import DemoOptions, demo_async_engine, demo_options


class Base(DeclarativeBase):
    pass


class A(Base):
    __tablename__ = "demo_greenlet_a"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str] = mapped_column(String(20))
    bs: Mapped[list[B]] = relationship(order_by="B.id")


class B(Base):
    __tablename__ = "demo_greenlet_b"

    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("demo_greenlet_a.id"))
    data: Mapped[str | None] = mapped_column(String(20))


def read(session: Session) -> list[tuple[str, int]]:
    """Read with a plain session, which loads the collections lazily."""
    return [(a.data, len(a.bs)) for a in session.scalars(select(A).order_by(A.id))]


def read_and_change(session: Session) -> list[tuple[str, int]]:
    found = read(session)
    first = session.scalars(select(A).order_by(A.id)).first()
    assert first is not None
    first.data = "new data"
    return found


async def demo(options: DemoOptions) -> None:
    async with demo_async_engine(options, Base.metadata) as engine:
        maker = async_sessionmaker(engine)
        async with maker() as session:
            async with session.begin():
                session.add_all([A(bs=[B(), B()], data="a1"), A(bs=[B()], data="a2"), A(bs=[B(), B()], data="a3")])
            assert await session.run_sync(read_and_change) == [("a1", 2), ("a2", 1), ("a3", 2)]
            await session.commit()

        # What the package adds: several of these functions at once, each with a session of its own.
        async def call(session: AsyncSession) -> list[tuple[str, int]]:
            return await session.run_sync(read)

        first, second = await gather_calls(maker, call, call)
        options.say("twice at once:", first)
        assert first == second == [("new data", 2), ("a2", 1), ("a3", 2)]


def main(argv: Sequence[str] | None = None) -> int:
    asyncio.run(demo(demo_options(__doc__, argv)))
    return 0
