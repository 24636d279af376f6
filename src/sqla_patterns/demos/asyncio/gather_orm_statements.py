"""Many statements at once, merged into one session: SQLAlchemy's asyncio/gather_orm_statements."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from sqlalchemy import String, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.asyncio import gather_scalars
from sqla_patterns.demos._support import DemoOptions, demo_async_engine, demo_options


class Base(DeclarativeBase):
    pass


class A(Base):
    __tablename__ = "demo_gather_a"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str] = mapped_column(String(30))


async def demo(options: DemoOptions) -> None:
    async with demo_async_engine(options, Base.metadata) as engine:
        maker = async_sessionmaker(engine, expire_on_commit=False)
        async with maker() as session, session.begin():
            session.add_all([A(data=f"a_{i}") for i in range(100)])

        chosen = [f"a_{random.choice(range(100))}" for _ in range(30)]
        statements = [select(A).where(A.data == data) for data in chosen]

        async with maker() as session:
            held = (await session.scalars(statements[0])).one()
            held.data = "changed, and not flushed"
            # Upstream opens 30 sessions at once; here eight connections serve all statements.
            results = await gather_scalars(maker, statements, into=session, limit=8)
            assert [len(result) for result in results] == [1] * 30
            assert all(result[0] in session for result in results)
            # What the session held stays, with its changes; a row is one object however often it was read.
            assert results[0][0] is held
            assert held.data == "changed, and not flushed"
            assert len({id(result[0]) for result in results}) == len(set(chosen))
            options.say("results:", [result[0].data for result in results[:6]], "...")
            await session.rollback()

        # The first failure cancels the rest, and says which statement it was.
        failing = [*statements, select(A).where(literal_column("no_such_column") == 1)]
        notes: list[str] = []
        try:
            await gather_scalars(maker, failing)
        except DBAPIError as error:
            notes = error.__notes__
        options.say(*notes)
        assert notes == ["gather_scalars(): this is the error of statement 30"]


def main(argv: Sequence[str] | None = None) -> int:
    asyncio.run(demo(demo_options(__doc__, argv)))
    return 0
