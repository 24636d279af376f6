"""Name a shard for a block of code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_PINNED: Final[ContextVar[str | None]] = ContextVar("sqla_patterns_pinned_shard", default=None)

#: Return the shard that this thread or task is pinned to, or None.
pinned_shard = _PINNED.get


@contextmanager
def pinned_to(shard: str) -> Generator[None, None, None]:
    """Send statements that name no shard to `shard`, within a block, in this thread or task.

    Reads see that shard only; ``text()`` and ``session.connection()`` go there. Objects are still written to the shard
    that their key says; one that belongs elsewhere is refused.
    """
    token = _PINNED.set(shard)
    try:
        yield
    finally:
        _PINNED.reset(token)
