"""`SessionSource`: where gathered statements get their sessions, and how many connections may be used at once."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import Pool, StaticPool

from .. import _sqlalchemy
from .._maintained import CURRENT_TENANT
from .._session import SeveralDatabases
from .._typing import AnyExpression
from ..exceptions import InvalidArgumentError
from ._tasks import finish

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True)
class SessionSource:
    """Opens the sessions of one call.

    Attributes:
        open_session: Makes a session.
        limit: How many may be open at once.
        isolation_level: The isolation level of their connections; None for that of the engine.
        shares_connection: Whether they use a connection that others use, too.
        engine: The engine whose pool has their connections, None if that depends on the class.
    """

    open_session: Callable[[], AsyncSession]
    limit: int
    isolation_level: str | None
    shares_connection: bool = False
    engine: Engine | None = None


def check_maker(maker: object, function: str) -> None:
    """Make sure that sessions can be made.

    Raises:
        InvalidArgumentError: `maker` makes none, or always the same.
    """
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

    if isinstance(maker, async_scoped_session):
        raise InvalidArgumentError(
            f"{function}() cannot use {maker!r}, whose sessions stay in its registry; pass its session_factory"
        )
    if isinstance(maker, AsyncSession) or not callable(maker):
        raise InvalidArgumentError(
            f"{function}() needs a session for each task and was given {maker!r}; pass an async_sessionmaker"
        )


async def find_source(
    maker: Callable[[], AsyncSession],
    *,
    limit: int,
    isolation_level: str | None = None,
    into: AsyncSession | None = None,
) -> SessionSource:
    """Return where sessions come from.

    Where there is only one connection, one session at a time uses it, and its isolation level is left alone.

    Args:
        maker: Makes the sessions.
        limit: How many may be open at once.
        isolation_level: What the caller has asked for.
        into: The session that the objects are merged into.
    """
    if CURRENT_TENANT.get() is not None and isolation_level == "AUTOCOMMIT":
        # Row level security knows the tenant from a setting of the transaction.
        isolation_level = None
    source = SessionSource(maker, limit, isolation_level)
    shared = SessionSource(maker, limit=1, isolation_level=None, shares_connection=True)
    session = maker()
    several = session.sync_session
    if isinstance(several, SeveralDatabases):
        if into is not None and any(isinstance(each.pool, StaticPool) for each in several.engines):
            raise InvalidArgumentError(
                "a shard is a SQLite database in memory, whose one connection other sessions would roll back below the "
                "session in `into`; use a file, or leave `into` out"
            )
        return replace(source, limit=min(limit, _room(several.engines)))
    bind = _bind_of(session)
    if isinstance(bind, Connection):
        # A test that rolls back, for instance: the connection is in a transaction of its own.
        return shared
    if bind is None:
        return source
    if not isinstance(bind.pool, StaticPool):
        # More would wait for each other.
        room = _sqlalchemy.capacity(bind.pool)
        return replace(source, engine=bind, limit=limit if room is None else min(limit, room))
    if into is None or _bind_of(into) is not bind:
        return shared
    # SQLite in memory. A session of another transaction would roll back what `into` has flushed.
    connection = await into.connection()

    def join() -> AsyncSession:
        options: dict[str, Any] = {"bind": connection, "join_transaction_mode": "rollback_only"}
        return cast("Callable[..., AsyncSession]", maker)(**options)

    return replace(shared, open_session=join)


def _room(engines: Sequence[Engine]) -> int:
    """Return how many sessions may have a connection of each engine at once, so that none waits for another."""
    rooms = [
        limit // number for pool, number in Counter(each.pool for each in engines).items() if (limit := _limit(pool))
    ]
    return max(1, min(rooms, default=sys.maxsize))


def _limit(pool: Pool) -> int | None:
    return 1 if isinstance(pool, StaticPool) else _sqlalchemy.capacity(pool)


def _bind_of(session: AsyncSession) -> Engine | Connection | None:
    """Return what a session that has not been used is bound to, None if that depends on the class."""
    try:
        return session.get_bind()
    except Exception:  # noqa: BLE001 - `binds` by class; a get_bind() of the user's
        return None


async def connect(session: AsyncSession, source: SessionSource, statement: object) -> None:
    """Give a session its connection, with the isolation level of the source.

    A task that is cancelled meanwhile ends when the connection is there, and closes it: a driver that is cancelled
    while it connects may lose it. Only where the pool has no room, the wait for it is cancelled.
    """
    if source.shares_connection:
        return
    if isinstance(session.sync_session, SeveralDatabases):
        if source.isolation_level is not None:
            session.sync_session.use_isolation_level(source.isolation_level)
        return  # the statement chooses the connections
    options = {} if source.isolation_level is None else {"isolation_level": source.isolation_level}
    if source.engine is None and not options:
        return  # the statement chooses the connection
    connecting = session.connection(
        bind_arguments={"clause": cast("AnyExpression", statement)}, execution_options=options
    )
    if source.engine is not None and _sqlalchemy.has_room(source.engine.pool):
        await finish(connecting)
    else:
        await connecting


async def prepare_connections(source: SessionSource, number: int) -> None:
    """Have the pool make connections for functions that will ask for them; a caller that is cancelled waits for it.

    A function connects when it likes. A driver that is cancelled while it connects may lose the connection: aiosqlite
    leaves the file open, and asyncpg an error that nobody looks at.
    """
    if source.engine is not None:
        wanted = _sqlalchemy.unused_connections(source.engine.pool, min(number, source.limit))
        await finish(_connect_and_return(source.engine, wanted))


async def _connect_and_return(engine: Engine, number: int) -> None:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    async_engine = AsyncEngine(engine)
    found = await asyncio.gather(*(async_engine.connect() for _ in range(number)), return_exceptions=True)
    for connection in found:
        # What cannot connect is the error of the function that needs it.
        if isinstance(connection, AsyncConnection):
            await connection.close()


@asynccontextmanager
async def open_session(source: SessionSource) -> AsyncGenerator[AsyncSession, None]:
    """Open a session and close it at the end, which rolls back, also if the task is cancelled meanwhile."""
    session = source.open_session()
    try:
        yield session
    except Exception as error:
        try:
            await finish(session.close())
        except Exception as further:  # noqa: BLE001 - the first error says what has happened
            error.add_note(f"Closing the session has failed, too: {type(further).__name__}: {further}")
        raise
    except BaseException as error:
        # The driver may be in the middle of an answer, so that the connection is of no further use. SQLite keeps its
        # lock as long as there is a cursor, also on a connection that is closed, and these frames have it.
        clear_frames(error.__traceback__)
        await finish(session.close() if source.shares_connection else session.invalidate())
        raise
    else:
        await finish(session.close())
