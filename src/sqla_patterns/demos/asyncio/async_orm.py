"""Objects and their collections in an AsyncSession: SQLAlchemy's asyncio/async_orm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.ext.asyncio import AsyncAttrs, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from sqla_patterns.asyncio import gather_calls, gather_scalars
from sqla_patterns.demos._support import DemoOptions, demo_async_engine, demo_options


class Base(AsyncAttrs, DeclarativeBase):
    pass


class A(Base):
    __tablename__ = "demo_async_a"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str | None] = mapped_column(String(20))
    create_date: Mapped[datetime] = mapped_column(server_default=func.now())
    bs: Mapped[list[B]] = relationship(order_by="B.id")


class B(Base):
    __tablename__ = "demo_async_b"

    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("demo_async_a.id"))
    data: Mapped[str | None] = mapped_column(String(20))


async def demo(options: DemoOptions) -> None:
    async with demo_async_engine(options, Base.metadata) as engine:
        maker = async_sessionmaker(engine, expire_on_commit=False)
        async with maker() as session:
            async with session.begin():
                session.add_all([A(bs=[B(), B()], data="a1"), A(bs=[B()], data="a2"), A(bs=[B(), B()], data="a3")])

            # Collections are loaded with their objects, since there is no lazy load without await.
            statement = select(A).order_by(A.id).options(selectinload(A.bs))
            loaded = (await session.scalars(statement)).all()
            assert [(a.data, len(a.bs)) for a in loaded] == [("a1", 2), ("a2", 1), ("a3", 2)]
            options.say("created at:", [str(a.create_date) for a in loaded])

            streamed = [a.data async for a in await session.stream_scalars(statement)]
            assert streamed == ["a1", "a2", "a3"]

            first = (await session.scalars(select(A).order_by(A.id))).first()
            assert first is not None
            first.data = "new data"
            await session.commit()
            # One lazy load, awaited.
            assert len(await first.awaitable_attrs.bs) == 2

        # What the package adds: several reads at once, each on a connection of its own.
        async with maker() as session:
            changed = select(A).where(A.data == "new data")
            objects, others = await gather_scalars(maker, (statement, changed), into=session)
            assert others == [objects[0]]
            options.say("read at once:", [(a.data, len(a.bs)) for a in objects])
        counted = await gather_calls(
            maker, lambda s: s.scalar(select(func.count(A.id))), lambda s: s.scalar(select(func.count(B.id)))
        )
        options.say("counted at once:", counted)
        assert counted == (3, 5)


def main(argv: Sequence[str] | None = None) -> int:
    asyncio.run(demo(demo_options(__doc__, argv)))
    return 0
