"""What results and pools do not tell by public means."""

from __future__ import annotations

from typing import Any

from sqlalchemy.pool import Pool, QueuePool

from .._typing import AnyResult
from . import _names as names


def all_scalars(result: AnyResult) -> list[Any]:
    """Return the first column of each row; of a statement that joins collections, each object once."""
    if names.RESULT_ATTRIBUTES.get(result, {}).get("filtered", False):
        result = result.unique()
    return list(result.scalars().all())


def capacity(pool: Pool) -> int | None:
    """Return how many connections a pool has at most, None if there is no limit."""
    if not isinstance(pool, QueuePool) or pool.size() == 0:
        return None
    overflow: int = names.MAX_OVERFLOW.get(pool, 0)
    return None if overflow == -1 else pool.size() + overflow


def unused_connections(pool: Pool, number: int) -> int:
    """Return how many connections to take from a pool, so that it has made `number` and all that it had before.

    Those that it had before count too: a pool does not tell which of them were invalidated, gives the one that came
    back first, and makes it again only when it is taken. What a pool does not keep does not count.
    """
    if not isinstance(pool, QueuePool) or pool.size() == 0:
        return 0
    return max(0, min(max(number, pool.checkedin()), pool.size() - pool.checkedout()))


def has_room(pool: Pool) -> bool:
    """Return whether a pool gives a connection without waiting for one that comes back."""
    limit = capacity(pool)
    return limit is None or not isinstance(pool, QueuePool) or pool.checkedout() < limit
