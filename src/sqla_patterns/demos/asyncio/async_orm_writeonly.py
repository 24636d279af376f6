"""Collections that are never loaded as a whole: SQLAlchemy's asyncio/async_orm_writeonly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, WriteOnlyMapped, mapped_column, relationship

from sqla_patterns.asyncio import add_all, count, delete_where, exists, page, stream_batches
from sqla_patterns.demos._support import DemoOptions, demo_async_engine, demo_options


class Base(DeclarativeBase):
    pass


class A(Base):
    __tablename__ = "demo_writeonly_a"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str] = mapped_column(String(20))
    bs: WriteOnlyMapped[B] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class B(Base):
    __tablename__ = "demo_writeonly_b"

    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("demo_writeonly_a.id", ondelete="CASCADE"))
    data: Mapped[str] = mapped_column(String(20))


async def demo(options: DemoOptions) -> None:
    async with (
        demo_async_engine(options, Base.metadata) as engine,
        async_sessionmaker(engine, expire_on_commit=False)() as session,
    ):
        a1 = A(id=1, bs=[B(data="b1"), B(data="b2")], data="a1")
        session.add_all([a1, A(id=2, bs=[B(data="b3")], data="a2")])
        await session.commit()

        # What SQLAlchemy has: a statement for the collection.
        assert {b.data for b in await session.scalars(a1.bs.select())} == {"b1", "b2"}
        assert {b.data async for b in await session.stream_scalars(a1.bs.select())} == {"b1", "b2"}

        # What the package adds.
        await session.run_sync(add_all, a1.bs, [B(data=f"more {n:04}") for n in range(1000)])
        assert await session.run_sync(count, a1.bs) == 1002
        assert await session.run_sync(count, a1.bs, B.data < "c") == 2
        assert not await session.run_sync(exists, a1.bs, B.data == "b3")
        third = await session.run_sync(page, a1.bs, size=10, number=3, order_by=B.data.desc())
        options.say("the third page:", [b.data for b in third])
        assert third[0].data == "more 0979"

        sizes: list[int] = []
        async for batch in stream_batches(session, a1.bs, 400):
            sizes.append(len(batch))
            await session.commit()  # no cursor is open
        options.say("batches of", sizes)
        assert sizes == [400, 400, 202]

        assert await session.run_sync(delete_where, a1.bs, B.data > "c") == 1000
        await session.commit()
        assert len((await session.scalars(select(B))).all()) == 3


def main(argv: Sequence[str] | None = None) -> int:
    asyncio.run(demo(demo_options(__doc__, argv)))
    return 0
