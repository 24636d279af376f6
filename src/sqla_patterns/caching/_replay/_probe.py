"""Find out whether SQLAlchemy has the private names that replaying rows needs, and whether it runs under asyncio."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cache
from typing import Final, TypeVar

from sqlalchemy import ClauseElement, util
from sqlalchemy.engine import CursorResult, cursor, default
from sqlalchemy.orm import Query, context, strategies
from sqlalchemy.orm import session as orm_session
from sqlalchemy.sql import compiler

T = TypeVar("T")

_NEEDED: Final[tuple[tuple[object, str], ...]] = (
    (orm_session.ORMExecuteState, "_remaining_events"),
    (ClauseElement, "_compile_w_cache"),
    (compiler.SQLCompiler, "_bind_processors"),
    (compiler.SQLCompiler, "construct_params"),
    (CursorResult, "_fetchall_impl"),
    (cursor, "FullyBufferedCursorFetchStrategy"),
    (default.DefaultExecutionContext, "result_column_struct"),
    (default.DefaultExecutionContext, "_is_server_side"),
    (default, "CACHE_HIT"),
    (context.QueryContext, "default_load_options"),
    (Query, "_statement_20"),
    (getattr(strategies, "LazyLoader", None) or getattr(strategies, "_LazyLoader", None), "_generate_lazy_clause"),
    (orm_session.SessionTransaction, "_connection_for_bind"),
    (util.concurrency, "in_greenlet"),
    (util, "await_only"),
    (util, "LRUCache"),
)


@cache
def probe() -> str | None:
    """Return what this SQLAlchemy lacks for replaying rows, or None; looked up once."""
    for owner, name in _NEEDED:
        if not hasattr(owner, name):
            return f"{getattr(owner, '__name__', owner)}.{name}"
    return None


def in_event_loop() -> bool:
    """Return whether this runs for an ``AsyncSession``, where nothing may block."""
    return util.concurrency.in_greenlet()


def await_here(awaitable: Awaitable[T]) -> T:
    """Wait for something of asyncio from within a session."""
    return util.await_only(awaitable)
