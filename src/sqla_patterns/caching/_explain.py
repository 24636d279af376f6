"""What the cache makes of one statement, and whether it is worth it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("CachePlan",)


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What `ORMCache.explain()` found out about a statement in a session; ``print()`` it."""

    #: The region's name; empty without a cache option.
    region: str
    #: Why the statement goes to the database; None if the cache answers it.
    reason: str | None
    key: str = ""
    sql: str = ""
    #: The tags whose writes end the entry; those of tables begin with ``t:``.
    tags: frozenset[str] = frozenset()
    #: Whether there was an entry before `ORMCache.explain()` ran the statement.
    cached: bool = False
    #: Seconds since that entry was made.
    age: float | None = None
    rows: int = 0
    size: int = 0
    #: Seconds that the database took for the rows when the entry was made.
    fill_seconds: float | None = None
    #: Seconds that looking the rows up takes: key, stamps, entry, decoding.
    hit_seconds: float | None = None

    @property
    def worthwhile(self) -> bool | None:
        """Whether a hit costs less than the database; None where nothing was measured.

        Making objects from rows costs the same either way, and is in neither figure.
        """
        if self.fill_seconds is None or self.hit_seconds is None:
            return None
        return self.hit_seconds < self.fill_seconds

    @property
    def advice(self) -> str:
        """One sentence."""
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
