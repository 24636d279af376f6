"""`run_jobs`: run coroutines a few at a time, and leave nothing running; `finish`: run one to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

Job = Callable[[], Awaitable[T]]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a job has returned, or the error that it has ended with."""

    value: T | None = None
    error: Exception | None = None


async def run_jobs(jobs: Sequence[Job[T]], *, limit: int, timeout: float | None, keep_errors: bool) -> list[Outcome[T]]:
    """Run jobs, at most `limit` at once, and return their outcomes in order.

    Every task that this makes has ended when it returns or raises, whatever happens.

    Args:
        jobs: The jobs. They are started in order, each in the context of the caller.
        limit: How many run at once.
        timeout: Seconds after which the jobs are cancelled; None for no limit.
        keep_errors: Whether an error is an outcome. Otherwise the first one cancels the other jobs and is raised; of
            several at once, that of the job that comes first.

    Raises:
        TimeoutError: The jobs took longer than `timeout`.
    """
    outcomes: Final[list[Outcome[T] | None]] = [None] * len(jobs)
    failures: Final[dict[int, Exception]] = {}
    waiting = iter(enumerate(jobs))

    async def work() -> None:
        # The workers share the iterator: whoever is free takes the next job.
        for index, job in waiting:
            try:
                outcomes[index] = Outcome(await job())
            except Exception as error:
                if not keep_errors:
                    failures[index] = error
                    raise
                outcomes[index] = Outcome(error=error)

    try:
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(jobs))):
                group.create_task(work())
    except BaseExceptionGroup as group:
        failure: BaseException = failures[min(failures)] if failures else group.exceptions[0]
    else:
        ended = [each for each in outcomes if each is not None]
        if len(ended) < len(jobs):
            # A group does not report a task that cancels itself.
            raise asyncio.CancelledError("a task of the gather was cancelled")
        return ended
    # Not within the handler, which would make the group the context of one of its own members.
    raise failure


async def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also if the caller is cancelled meanwhile; the caller is cancelled after that.

    ``AsyncSession`` shields its ``close()`` as well, but does not wait for it: the task would outlive the caller.
    """
    task = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # is looked at, so that asyncio does not report it: the cancellation comes out
    raise cancelled
