"""`ORMCache.explain()`: tell what the cache does with a statement, and whether that saves time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .._sqlalchemy._names import RESULT_ATTRIBUTES

if TYPE_CHECKING:
    from sqlalchemy import Executable
    from sqlalchemy.orm import Session

    from .._typing import AnyResult
    from ._reader import Lookup

#: The execution option that carries the explanation to where the statement is answered.
EXPLAIN: Final = "_sqla_patterns_explain"


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What `ORMCache.explain()` found out about a statement in a session; ``print()`` shows it as text.

    Attributes:
        region: The region's name; empty without a cache option.
        reason: Why the statement goes to the database; None if the cache answers it.
        key: The cache key.
        sql: The SQL of the statement.
        tags: The tags whose writes end the entry; those of tables begin with ``t:``.
        cached: Whether there was an entry before `ORMCache.explain()` ran the statement.
        age: Seconds since that entry was made.
        rows: How many rows the statement returned.
        size: The size of the entry, in bytes.
        fill_seconds: Seconds that the database took for the rows when the entry was made.
        hit_seconds: Seconds that looking the rows up takes: key, stamps, entry, decoding.
    """

    region: str
    reason: str | None
    key: str = ""
    sql: str = ""
    tags: frozenset[str] = frozenset()
    cached: bool = False
    age: float | None = None
    rows: int = 0
    size: int = 0
    fill_seconds: float | None = None
    hit_seconds: float | None = None

    @property
    def worthwhile(self) -> bool | None:
        """True if a hit costs less than the database; None where nothing was measured.

        Making objects from rows costs the same either way, and is in neither figure.
        """
        if self.fill_seconds is None or self.hit_seconds is None:
            return None
        return self.hit_seconds < self.fill_seconds

    @property
    def advice(self) -> str:
        """The outcome in one sentence."""
        if self.reason is not None:
            return f"The statement goes to the database: {self.reason}."
        if self.worthwhile is None or self.fill_seconds is None or self.hit_seconds is None:
            return "The statement is cacheable; nothing was measured."
        figures = f"{self.hit_seconds * 1e3:.2f} ms against {self.fill_seconds * 1e3:.2f} ms"
        if self.worthwhile:
            return f"A hit is cheaper than the query: {figures}."
        return f"The cache costs more than the query: {figures}; remove the option, or cache a larger part."

    def __str__(self) -> str:
        lines = [self.advice, f"region  {self.region or '-'}", f"key     {self.key or '-'}"]
        lines.append(f"tags    {', '.join(sorted(self.tags)) or '-'}")
        state = "no entry" if not self.cached else f"entry of {self.age or 0:.1f} s ago"
        lines.append(f"entry   {state}, {self.rows} rows, {self.size} bytes")
        lines.append(f"sql     {' '.join(self.sql.split())}")
        return "\n".join(lines)


class Explanation:
    """What `ORMCache.explain()` wants to know of the statement that it runs, but not of statements that follow from it.

    Attributes:
        owner: The cache that was asked; another one of the same session leaves the statement to it.
    """

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.noted = False
        self.region = ""
        self.reason: str | None = None
        self.lookup: Lookup | None = None
        self.look_seconds = 0.0
        self.rows = 0

    def note(self, region: str, reason: str | None, lookup: Lookup | None = None, seconds: float = 0.0) -> None:
        """Take note of the first statement."""
        if not self.noted:
            self.noted = True
            self.region, self.reason, self.lookup, self.look_seconds = region, reason, lookup, seconds


def explain(
    owner: object, session: Session, statement: Executable, parameters: Mapping[str, object] | None
) -> CachePlan:
    """Run a statement twice and return what the cache does with it."""
    first = _explained(owner, session, statement, parameters)
    lookup = first.lookup
    if lookup is None:
        return CachePlan(first.region, first.reason or "no cache option, or the cache is not attached to this session")
    cached = lookup.outcome == "hit"
    age = time.time() - lookup.created if cached else None
    # The first run may have compiled the statement and asked the database for its name.
    again = _explained(owner, session, statement, parameters)
    seen = again.lookup
    return CachePlan(
        region=lookup.region.name,
        reason=None,
        key=lookup.key,
        sql=lookup.plan.sql,
        tags=lookup.tags,
        cached=cached,
        age=age,
        rows=again.rows,
        size=lookup.size,
        fill_seconds=lookup.fill_seconds,
        hit_seconds=again.look_seconds + seen.hit_seconds if seen is not None and seen.outcome == "hit" else None,
    )


def _explained(
    owner: object, session: Session, statement: Executable, parameters: Mapping[str, object] | None
) -> Explanation:
    explanation = Explanation(owner)
    result: AnyResult = session.execute(statement, parameters, execution_options={EXPLAIN: explanation})
    # A result with eager joins of collections demands it.
    if RESULT_ATTRIBUTES.get(result, {}).get("filtered", False):
        result = result.unique()
    explanation.rows = len(result.all())
    return explanation
