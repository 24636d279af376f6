"""What the room knows about one session: its transaction's timestamp and revision, and what a block asked for."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.orm import Session

from .._attach import Attachment, SessionTarget

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("SessionScope", "revision", "versioned_session", "versioning_disabled")


class SessionScope:
    """A block of `revision` or `versioning_disabled`; ``with`` for a session, ``async with`` for an ``AsyncSession`` too.

    What is pending when the block ends without an error is flushed, so that it counts as done inside.
    """

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError


def revision(
    session: Session | AsyncSession,
    *,
    actor: str | None = None,
    request_id: str | None = None,
    reason: str | None = None,
    meta: dict[str, Any] | None = None,
    **columns: Any,
) -> SessionScope:
    """Say who changes what the block changes, and why: a context manager.

    Args:
        session: a session; for an ``AsyncSession`` write ``async with``.
        columns: values for columns that the user's revision class adds.

    A block is one revision in each transaction, made when something versioned changes. An inner block is a revision of its own, and takes
    from the outer one what it does not say.
    """
    raise NotImplementedError


def versioning_disabled(session: Session | AsyncSession) -> SessionScope:
    """Write without history while the block lasts: for imports and repairs. A context manager; ``async with`` for an ``AsyncSession``.

    ``version`` and what else the room maintains stay as they are.
    """
    raise NotImplementedError


def versioned_session(target: SessionTarget) -> Attachment:
    """Upstream's switch, for those who come from the recipe; history is written without it.

    `target` is every kind of session, factory or class, async ones too, but the bare ``AsyncSession`` class.
    """
    raise NotImplementedError
