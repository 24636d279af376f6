"""Count what a cache does, and tell it to listeners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Literal, TypeAlias

from ._side_tasks import LOGGER

EventKind: TypeAlias = Literal["hit", "miss", "put", "refused", "bypass", "error", "invalidate"]


@dataclass(frozen=True, slots=True)
class CacheEvent:
    """One thing that a cache did, such as a hit.

    Attributes:
        kind: What it was.
        region: The region's name; empty for invalidations, which concern all.
        key: The cache key, if it is known.
        sql: The SQL of the statement, without values.
        reason: Why a statement bypassed the cache or a result was not kept, or what failed.
        seconds: The time of the look-up for a hit, of the database for a put.
        rows: The number of rows.
        size: The size of the entry, in bytes.
        tags: The tags that were invalidated.
    """

    kind: EventKind
    region: str = ""
    key: str = ""
    sql: str = ""
    reason: str = ""
    seconds: float = 0.0
    rows: int = 0
    size: int = 0
    tags: frozenset[str] = frozenset()


EventListener: TypeAlias = Callable[[CacheEvent], object]


@dataclass(slots=True)
class RegionStats:
    """Counters of one region.

    Attributes:
        hits: Statements answered from the cache.
        misses: Statements looked up without success.
        puts: Results stored.
        errors: Failures of the backend, and entries that were damaged.
        bypasses: Statements that went to the database although they have a cache option, by reason.
        refused: Results that were not stored, by reason.
        bytes_read: The size of the entries that were served.
        bytes_written: The size of the entries that were stored.
    """

    hits: int = 0
    misses: int = 0
    puts: int = 0
    errors: int = 0
    bypasses: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits among the look-ups, from 0 to 1."""
        return self.hits / max(1, self.hits + self.misses)

    def count(self, event: CacheEvent) -> None:
        """Add an event."""
        match event.kind:
            case "hit":
                self.hits += 1
                self.bytes_read += event.size
            case "miss":
                self.misses += 1
            case "put":
                self.puts += 1
                self.bytes_written += event.size
            case "refused":
                self.refused[event.reason] += 1
            case "bypass":
                self.bypasses[event.reason] += 1
            case "error":
                self.errors += 1
            case "invalidate":
                return  # concerns no region


class CacheStats:
    """Counters since the cache was made or `reset()`, by region; the properties are sums over all regions."""

    def __init__(self) -> None:
        self._lock: Final = Lock()
        self._regions: dict[str, RegionStats] = {}
        self.invalidations = 0

    @property
    def regions(self) -> Mapping[str, RegionStats]:
        """The counters of each region that was used; failures of the stamp store are under ``"stamps"``."""
        return self._regions

    @property
    def hits(self) -> int:
        """Statements answered from the cache."""
        return sum(each.hits for each in self._regions.values())

    @property
    def misses(self) -> int:
        """Statements looked up without success."""
        return sum(each.misses for each in self._regions.values())

    @property
    def puts(self) -> int:
        """Results stored."""
        return sum(each.puts for each in self._regions.values())

    @property
    def errors(self) -> int:
        """Failures of backends and of the stamp store, and entries that were damaged."""
        return sum(each.errors for each in self._regions.values())

    @property
    def bypasses(self) -> Counter[str]:
        """Statements that bypassed the cache, by reason."""
        return sum((each.bypasses for each in self._regions.values()), Counter[str]())

    @property
    def refused(self) -> Counter[str]:
        """Results that were not stored, by reason."""
        return sum((each.refused for each in self._regions.values()), Counter[str]())

    def reset(self) -> None:
        """Set all counters to zero."""
        with self._lock:
            self._regions = {}
            self.invalidations = 0

    def count(self, event: CacheEvent) -> None:
        """Add an event."""
        with self._lock:
            if event.kind == "invalidate":
                self.invalidations += 1
            else:
                self._regions.setdefault(event.region, RegionStats()).count(event)

    def __repr__(self) -> str:
        return (
            f"<CacheStats: {self.hits} hits, {self.misses} misses, {self.puts} puts, "
            f"{self.bypasses.total()} bypasses, {self.errors} errors>"
        )


class CacheEvents:
    """The listeners of a cache.

    Listeners run where the statement runs, so they must be quick. What one raises is logged to
    ``sqla_patterns.caching``, once for each listener, and is not passed on: a metric that fails stops no query and no
    commit.
    """

    def __init__(self) -> None:
        self._listeners: tuple[EventListener, ...] = ()
        #: Those that have raised, and of which that was logged.
        self._failed: tuple[EventListener, ...] = ()

    def listen(self, listener: EventListener) -> EventListener:
        """Call ``listener`` with every `CacheEvent`; return it, so that this method can be used as a decorator."""
        if listener not in self._listeners:
            self._listeners += (listener,)
        return listener

    def remove(self, listener: EventListener) -> None:
        """Call ``listener`` no more."""
        self._listeners = tuple(each for each in self._listeners if each != listener)
        self._failed = tuple(each for each in self._failed if each != listener)

    def send(self, event: CacheEvent) -> None:
        """Call all listeners with an event."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a function of the user's may raise anything
                if listener not in self._failed:
                    self._failed += (listener,)
                    LOGGER.exception(
                        "The listener %r failed at an event of kind %r; more failures of it are not logged.",
                        *(listener, event.kind),
                    )
