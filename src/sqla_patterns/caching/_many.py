"""Many objects by primary key: one look-up in the cache, one statement for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from ._options import FromCache
    from ._reader import Reader

__all__ = ("get_many",)

M = TypeVar("M")


def get_many(
    reader: Reader,
    session: Session,
    model: type[M],
    keys: Sequence[Any],
    option: FromCache,
    tag: Callable[[type[Any], tuple[Any, ...]], str],
) -> dict[Any, M]:
    """Return the objects by key."""
    raise LookupError
