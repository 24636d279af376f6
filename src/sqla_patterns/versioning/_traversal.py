"""Replace elements inside SQL expressions and statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from sqlalchemy import ClauseElement
from sqlalchemy.sql import visitors

ClauseT = TypeVar("ClauseT", bound=ClauseElement)


def replace_elements(clause: ClauseT, replacement: Callable[[object], ClauseElement | None]) -> ClauseT:
    """Return a copy of `clause` in which elements are replaced.

    Args:
        clause: The expression or statement.
        replacement: Called with each element; returns what takes its place, or None to keep it and to visit what is
            inside of it.
    """

    def replace(element: object, **_: object) -> ClauseElement | None:
        return replacement(element)

    # SQLAlchemy types it for expressions only, and it works for statements as well.
    traverse: Callable[..., Any] = visitors.replacement_traverse
    return cast("ClauseT", traverse(clause, {}, replace))
