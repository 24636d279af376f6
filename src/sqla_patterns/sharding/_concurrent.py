"""Send a SELECT to several shards at once: by tasks under asyncio, by threads otherwise.

The statements are executed on the session's own connections, one for each shard, so that they see what the session has
written and not committed yet.

Nothing but one thread at a time may use a session. So the threads share a lock: each holds it while it works with the
session, and gives it up while it waits for its database. Under asyncio there is one thread, and a task gives way to
others where it waits for its database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.pool import SingletonThreadPool
from sqlalchemy.util import await_only, greenlet_spawn

from .._sqlalchemy import autoflush

if TYPE_CHECKING:
    from ._session import RoutedSession

T = TypeVar("T")

#: The lock that the present thread holds.
_TURN: Final[ContextVar[Lock | None]] = ContextVar("sqla_patterns_shard_turn", default=None)


def prepare(engine: Engine) -> None:
    """Have threads give up their lock while they wait for the databases of an engine."""
    if not engine.dialect.is_async:
        event.listen(engine, "do_execute", _do_execute)
        event.listen(engine, "do_execute_no_params", _do_execute_no_params)


def _do_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
    turn = _TURN.get()
    if turn is None:
        return None
    with _given_up(turn):
        context.dialect.do_execute(cursor, statement, parameters, context)
    return True  # the statement was executed


def _do_execute_no_params(cursor: Any, statement: str, context: Any) -> bool | None:
    turn = _TURN.get()
    if turn is None:
        return None
    with _given_up(turn):
        context.dialect.do_execute_no_params(cursor, statement, context)
    return True


@contextmanager
def _given_up(turn: Lock) -> Generator[None, None, None]:
    turn.release()
    try:
        yield
    finally:
        turn.acquire()


def execute_on(session: RoutedSession, shards: Sequence[str], execute: Callable[[str], T]) -> list[T]:
    """Call a function for each shard, several at a time if the factory says so, and return what it returns.

    Args:
        session: The session.
        shards: The names of the shards.
        execute: Executes a SELECT on a shard.

    Raises:
        Exception: The error of the first of the shards that has one, once all have answered.
    """
    most = min(session.routing.concurrency, len(shards))
    if most <= 1:
        return [execute(shard) for shard in shards]
    # Neither a flush nor the begin of a transaction can be left to one of several at once.
    autoflush(session)
    connections = {shard: session.connection_to(shard) for shard in shards}
    if len(set(connections.values())) < len(shards):
        return [execute(shard) for shard in shards]
    with session.no_autoflush:
        if session.routing.dialect.is_async:
            return _results(shards, await_only(_by_tasks(shards, execute, most)))
        if any(isinstance(each.engine.pool, SingletonThreadPool) for each in connections.values()):
            # A connection to a SQLite database in memory belongs to one thread.
            return [execute(shard) for shard in shards]
        return _results(shards, _by_threads(shards, execute, most))


async def _by_tasks(shards: Sequence[str], execute: Callable[[str], T], most: int) -> list[T | BaseException]:
    room = asyncio.Semaphore(most)

    async def run(shard: str) -> T:
        async with room:
            return await greenlet_spawn(execute, shard)

    return await asyncio.gather(*map(run, shards), return_exceptions=True)


def _by_threads(shards: Sequence[str], execute: Callable[[str], T], most: int) -> list[T | BaseException]:
    turn = Lock()

    def run(shard: str) -> T:
        _TURN.set(turn)
        with turn:
            return execute(shard)

    with ThreadPoolExecutor(most, thread_name_prefix="sqla_patterns_shard") as threads:
        # Each in a context of its own, which knows the tenant and gets the lock.
        futures: list[Future[T]] = [threads.submit(copy_context().run, run, shard) for shard in shards]
    return [future.exception() or future.result() for future in futures]


def _results(shards: Sequence[str], outcomes: Sequence[T | BaseException]) -> list[T]:
    errors = [(shard, each) for shard, each in zip(shards, outcomes, strict=True) if isinstance(each, BaseException)]
    if errors:
        (_, first), *others = errors
        for shard, error in others:
            first.add_note(f"Shard {shard!r} has failed as well: {error}")
        raise first
    return [each for each in outcomes if not isinstance(each, BaseException)]
