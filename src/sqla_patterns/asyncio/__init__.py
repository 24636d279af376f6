"""Statements that run at the same time, and collections too large to load, in an AsyncSession.

An ``AsyncSession`` has one connection and executes one statement after the other. `gather_scalars` executes several
SELECTs at the same time, each in a session and on a connection of its own, and merges the objects into one session;
`gather_calls` awaits functions in the same way. Both cancel what runs when one fails, and leave no task and no
connection behind. The other functions count, page, add and delete in a ``WriteOnlyMapped`` collection without loading
it.

**When to use it.** A page that needs the answers of several slow, independent SELECTs. Collections of thousands of
members.

**When not to, and the simpler choice.** Statements that the database answers at once are faster in one session: a
connection, a session and a task for each cost more than the wait that they save. Statements that must see the same
moment, or what the session has flushed, belong into its transaction. One statement with eager loads often does for
several. To run functions that need no session each, use ``asyncio.TaskGroup``. Collections that fit into memory are
plain relationships, loaded eagerly.

>>> import asyncio
>>> from sqlalchemy import func, select
>>> from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
>>> from sqlalchemy.pool import StaticPool
>>> from sqla_patterns.asyncio import gather_calls, gather_scalars
>>> class Base(DeclarativeBase):
...     pass
>>> class User(Base):
...     __tablename__ = "user"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     name: Mapped[str]
>>> async def main() -> None:
...     engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
...     async with engine.begin() as connection:
...         await connection.run_sync(Base.metadata.create_all)
...     maker = async_sessionmaker(engine, expire_on_commit=False)
...     async with maker() as session:
...         session.add_all([User(name="ann"), User(name="bob")])
...         await session.commit()
...         users, names = await gather_scalars(
...             maker, (select(User).order_by(User.id), select(User.name).where(User.id == 2)), into=session
...         )
...         print([user.name for user in users], names, users[0] in session)
...     print(await gather_calls(maker, lambda s: s.scalar(select(func.count(User.id))), lambda s: s.get(User, 7)))
...     await engine.dispose()
>>> asyncio.run(main())
['ann', 'bob'] ['bob'] True
(2, None)

**Cost.** A SELECT for each statement, and those of its eager loads. Merging takes no SQL. Connections are in
AUTOCOMMIT, so that there is no BEGIN and ROLLBACK around each statement; a tenant of `sqla_patterns.criteria` makes
them transactions. `count`, `exists` and `page` are one SELECT each, `stream_batches` one for each batch,
`delete_where` one DELETE.

**Failures.** The first error comes out, with a note of which statement it is; the other tasks are cancelled and awaited
before. Sessions are closed, which rolls back; a connection whose task was cancelled is not used again. A caller that is
cancelled, or the timeout, does the same. SQLite cannot be interrupted: a statement that is running ends first.

**Concurrency.** At most ``limit`` statements run at once, and no more than the pool has connections. Each task has the
context of the caller, and with it its tenant.

.. seealso:: :class:`asyncio.TaskGroup`, "Write Only Relationships" in SQLAlchemy's documentation, and
   :mod:`sqla_patterns.dicts` for write-only collections by key
"""

from ._errors import SuppressedErrorWarning
from ._gather import gather_calls, gather_scalars
from ._write_only import add_all, count, delete_where, exists, page, stream_batches

__all__ = (
    "SuppressedErrorWarning",
    "add_all",
    "count",
    "delete_where",
    "exists",
    "gather_calls",
    "gather_scalars",
    "page",
    "stream_batches",
)
