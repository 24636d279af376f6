"""`gather_scalars` and `gather_calls`: execute SELECTs, or await functions, at the same time."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from sqlalchemy import Executable, Select
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.sql.dml import UpdateBase

from .. import _sqlalchemy
from ..exceptions import InvalidArgumentError
from ._adopt import adopt
from ._errors import SuppressedErrorWarning
from ._sources import SessionSource, check_maker, connect, find_source, open_session, prepare_connections
from ._tasks import Outcome, run_jobs

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

    AnyAsyncSession = AsyncSession | async_scoped_session[Any]

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")


# A tuple of statements has a tuple of results, so that each of them keeps its type; anything else has a list. A select
# of one class is a Select[tuple[T]] on SQLAlchemy 2.0, a Select[T] on 2.1. A statement without a type has results of
# Any, as in session.scalars().
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[tuple[T1]], Select[tuple[T2]]],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T1], Sequence[T2]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[T1], Select[T2]],  # type: ignore[type-var,unused-ignore]
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T1], Sequence[T2]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[tuple[T1]], Select[tuple[T2]], Select[tuple[T3]]],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T1], Sequence[T2], Sequence[T3]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[T1], Select[T2], Select[T3]],  # type: ignore[type-var,unused-ignore]
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T1], Sequence[T2], Sequence[T3]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[tuple[T1]], Select[tuple[T2]], Select[tuple[T3]], Select[tuple[T4]]],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T1], Sequence[T2], Sequence[T3], Sequence[T4]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[T1], Select[T2], Select[T3], Select[T4]],  # type: ignore[type-var,unused-ignore]
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T1], Sequence[T2], Sequence[T3], Sequence[T4]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[tuple[T]], ...],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T], ...]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[T], ...],  # type: ignore[type-var,unused-ignore]
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[T], ...]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: Iterable[Select[tuple[T]]],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> list[Sequence[T]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: Iterable[Select[T]],  # type: ignore[type-var,unused-ignore]
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> list[Sequence[T]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[tuple[T]], ...],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[True],
) -> tuple[Sequence[T] | Exception, ...]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Select[T], ...],  # type: ignore[type-var,unused-ignore]
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[True],
) -> tuple[Sequence[T] | Exception, ...]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: Iterable[Select[tuple[T]]],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[True],
) -> list[Sequence[T] | Exception]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: Iterable[Select[T]],  # type: ignore[type-var,unused-ignore]
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[True],
) -> list[Sequence[T] | Exception]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Executable, ...],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> tuple[Sequence[Any], ...]: ...
@overload
async def gather_scalars(
    maker: Callable[[], AsyncSession],
    statements: Iterable[Executable],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[False] = False,
) -> list[Sequence[Any]]: ...
@overload
async def gather_scalars(  # type: ignore[overload-overlap,unused-ignore]
    maker: Callable[[], AsyncSession],
    statements: tuple[Executable, ...],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[True],
) -> tuple[Sequence[Any] | Exception, ...]: ...
@overload
async def gather_scalars(
    maker: Callable[[], AsyncSession],
    statements: Iterable[Executable],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: Literal[True],
) -> list[Sequence[Any] | Exception]: ...
async def gather_scalars(
    maker: Callable[[], AsyncSession],
    statements: Iterable[Any],
    *,
    into: AnyAsyncSession | None = None,
    limit: int = 8,
    timeout: float | None = None,
    isolation_level: str | None = "AUTOCOMMIT",
    return_exceptions: bool = False,
) -> Any:
    """Execute SELECTs at the same time, each in a session and on a connection of its own; return their first columns.

    One SELECT for each statement, and those of its eager loads; merging takes none. The statements see what is
    committed, each at its own moment, and not what `into` has not committed. Joined collections need no ``unique()``.

    Args:
        maker: An ``async_sessionmaker``, or another function that makes sessions.
        statements: The SELECTs. Those in a tuple may be of different types.
        into: The session that the objects move to. An object that it holds already stays the same, and keeps its values
            and pending changes unless the statement has ``populate_existing``. Without a session the objects are
            detached: what is not loaded cannot be.
        limit: How many statements run at once; at most as many as the pool has connections.
        timeout: Seconds for all of them; None for no limit.
        isolation_level: That of the connections. None for the engine's, which costs a BEGIN and ROLLBACK each; this is
            also what a tenant makes of AUTOCOMMIT, since row level security needs a transaction.
        return_exceptions: Whether an error is returned in the place of its result, with a `SuppressedErrorWarning`.

    Returns:
        A result for each statement, in their order; a tuple if `statements` is one.

    Raises:
        InvalidArgumentError: Something else was passed than SELECTs, a factory and a positive limit.
        TimeoutError: The statements took longer than `timeout`.
        Exception: The first statement that fails has this error. The other ones are cancelled by then, and all
            connections are back in the pool.
    """
    check_maker(maker, "gather_scalars")
    _check_numbers(limit, timeout, "gather_scalars")
    selects = _checked_statements(statements)
    session = None if into is None else _plain_async(into)
    source = await find_source(maker, limit=limit, isolation_level=isolation_level, into=session)
    try:
        outcomes = await run_jobs(
            [partial(_fetch, source, statement, index) for index, statement in enumerate(selects)],
            limit=source.limit,
            timeout=timeout,
            keep_errors=return_exceptions,
        )
    except PoolTimeoutError as error:
        if session is not None and session.in_transaction():
            error.add_note(
                "gather_scalars(): the session in `into` holds a connection of the same pool unless its transaction "
                "ends; commit before, or give the pool room for one connection more"
            )
        raise
    found = [each.value if each.value is not None else [] for each in outcomes]
    if session is not None:
        overwritten = [bool(each.get_execution_options().get("populate_existing")) for each in selects]
        found = await session.run_sync(adopt, found, overwritten)
    results = _with_errors(found, outcomes, "statement")
    return tuple(results) if isinstance(statements, tuple) else results


async def _fetch(source: SessionSource, statement: Executable, index: int) -> list[Any]:
    try:
        async with open_session(source) as session:
            await connect(session, source, statement)
            return await session.run_sync(lambda plain: _sqlalchemy.all_scalars(plain.execute(statement)))
    except Exception as error:
        error.add_note(f"gather_scalars(): this is the error of statement {index}")
        raise


@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    f1: Callable[[AsyncSession], Awaitable[T1]],
    /,
    *,
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[T1]: ...
@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    f1: Callable[[AsyncSession], Awaitable[T1]],
    f2: Callable[[AsyncSession], Awaitable[T2]],
    /,
    *,
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2]: ...
@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    f1: Callable[[AsyncSession], Awaitable[T1]],
    f2: Callable[[AsyncSession], Awaitable[T2]],
    f3: Callable[[AsyncSession], Awaitable[T3]],
    /,
    *,
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3]: ...
@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    f1: Callable[[AsyncSession], Awaitable[T1]],
    f2: Callable[[AsyncSession], Awaitable[T2]],
    f3: Callable[[AsyncSession], Awaitable[T3]],
    f4: Callable[[AsyncSession], Awaitable[T4]],
    /,
    *,
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4]: ...
@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    f1: Callable[[AsyncSession], Awaitable[T1]],
    f2: Callable[[AsyncSession], Awaitable[T2]],
    f3: Callable[[AsyncSession], Awaitable[T3]],
    f4: Callable[[AsyncSession], Awaitable[T4]],
    f5: Callable[[AsyncSession], Awaitable[T5]],
    /,
    *,
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    f1: Callable[[AsyncSession], Awaitable[T1]],
    f2: Callable[[AsyncSession], Awaitable[T2]],
    f3: Callable[[AsyncSession], Awaitable[T3]],
    f4: Callable[[AsyncSession], Awaitable[T4]],
    f5: Callable[[AsyncSession], Awaitable[T5]],
    f6: Callable[[AsyncSession], Awaitable[T6]],
    /,
    *,
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4, T5, T6]: ...
@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    /,
    *functions: Callable[[AsyncSession], Awaitable[T]],
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[T, ...]: ...
@overload
async def gather_calls(
    maker: Callable[[], AsyncSession],
    /,
    *functions: Callable[[AsyncSession], Awaitable[T]],
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: Literal[True],
) -> tuple[T | Exception, ...]: ...
async def gather_calls(
    maker: Callable[[], AsyncSession],
    /,
    *functions: Callable[[AsyncSession], Awaitable[Any]],
    limit: int = 8,
    timeout: float | None = None,
    return_exceptions: bool = False,
) -> tuple[Any, ...]:
    """Await functions at the same time, each with a session of its own, and return what they return.

    A function that writes commits itself; what it has not committed is rolled back when it ends.

    Args:
        maker: An ``async_sessionmaker``, or another function that makes sessions.
        functions: Each is called with a session, which is closed when its result is there.
        limit: How many run at once; at most as many as the pool has connections.
        timeout: Seconds for all of them; None for no limit.
        return_exceptions: Whether an error is returned in the place of a result, with a `SuppressedErrorWarning`.

    Returns:
        A result for each function, in their order.

    Raises:
        InvalidArgumentError: Something else was passed than functions, a factory and a positive limit.
        TimeoutError: The functions took longer than `timeout`.
        Exception: The first function that fails has raised it. The other ones are cancelled and rolled back by then;
            what one of them has committed stays.
    """
    check_maker(maker, "gather_calls")
    _check_numbers(limit, timeout, "gather_calls")
    for function in functions:
        if not callable(cast("object", function)):
            raise InvalidArgumentError(
                f"gather_calls() needs functions that take a session and was given {function!r}; pass a function, such "
                "as lambda session: session.scalar(...)"
            )
    source = await find_source(maker, limit=limit)
    await prepare_connections(source, len(functions))
    outcomes = await run_jobs(
        [partial(_call, source, function) for function in functions],
        limit=source.limit,
        timeout=timeout,
        keep_errors=return_exceptions,
    )
    return tuple(_with_errors([each.value for each in outcomes], outcomes, "function"))


async def _call(source: SessionSource, function: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async with open_session(source) as session:
        return await function(session)


def _with_errors(values: Sequence[Any], outcomes: Sequence[Outcome[Any]], what: str) -> list[Any]:
    for index, outcome in enumerate(outcomes):
        if outcome.error is not None:
            # At the line that awaits: above are this function and the one that the user has called.
            warnings.warn(
                f"The error of {what} {index} is among the results: {type(outcome.error).__name__}: {outcome.error}",
                SuppressedErrorWarning,
                stacklevel=3,
            )
    return [value if each.error is None else each.error for value, each in zip(values, outcomes, strict=True)]


def _plain_async(session: AnyAsyncSession) -> AsyncSession:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

    if isinstance(session, AsyncSession):
        return session
    if isinstance(cast("object", session), async_scoped_session):
        return cast("AsyncSession", session.registry())
    raise InvalidArgumentError(
        f"gather_scalars(into=...) needs an AsyncSession and was given {session!r}; pass the session that awaits"
    )


def _check_numbers(limit: object, timeout: object, function: str) -> None:
    if not isinstance(limit, int) or limit < 1:
        raise InvalidArgumentError(f"{function}() needs a limit of at least 1 and was given {limit!r}; pass an integer")
    if timeout is not None and (not isinstance(timeout, (int, float)) or timeout <= 0):
        raise InvalidArgumentError(
            f"{function}() needs a timeout in seconds and was given {timeout!r}; pass a positive number, or None"
        )


def _checked_statements(statements: object) -> list[Executable]:
    if isinstance(statements, Executable) or not isinstance(statements, Iterable):
        raise InvalidArgumentError(
            f"gather_scalars() needs several SELECTs and was given {_short(statements)}; pass a list of statements"
        )
    checked = list(cast("Iterable[object]", statements))
    for each in checked:
        if not isinstance(each, Executable):
            raise InvalidArgumentError(
                f"gather_scalars() needs SELECTs and was given {_short(each)}; pass what session.scalars() takes"
            )
        if isinstance(each, UpdateBase) or isinstance(getattr(each, "element", None), UpdateBase):
            raise InvalidArgumentError(
                f"gather_scalars() reads, and was given {_short(each)}; write in gather_calls(), whose functions commit"
            )
    return cast("list[Executable]", checked)


def _short(value: object) -> str:
    text = " ".join((str(value) if isinstance(value, Executable) else repr(value)).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
