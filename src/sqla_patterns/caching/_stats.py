"""What a cache did: counters, and events for whoever wants to know at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Literal, TypeAlias

__all__ = ("CacheEvent", "CacheEvents", "CacheStats", "EventKind", "EventListener", "RegionStats")

EventKind: TypeAlias = Literal["hit", "miss", "put", "refused", "bypass", "error", "invalidate"]


@dataclass(frozen=True, slots=True)
class CacheEvent:
    """One thing that a cache did."""

    kind: EventKind
    #: The region's name; empty for invalidations, which concern all.
    region: str = ""
    #: The key of the entry, if it came to that.
    key: str = ""
    #: SQL of the statement, without values.
    sql: str = ""
    #: Why a statement went past the cache, a result was not kept, or what failed.
    reason: str = ""
    #: What the event took: the look-up of a hit, the database's part of a put.
    seconds: float = 0.0
    rows: int = 0
    size: int = 0
    tags: frozenset[str] = frozenset()


EventListener: TypeAlias = Callable[[CacheEvent], object]


@dataclass(slots=True)
class RegionStats:
    """Counters of one region."""

    hits: int = 0
    misses: int = 0
    puts: int = 0
    errors: int = 0
    #: Statements that went to the database although they have a cache option, by reason.
    bypasses: Counter[str] = field(default_factory=Counter[str])
    #: Results that were not kept, by reason.
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
    """Counters since the cache was made or `reset()`, by region; the properties are sums over all."""

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
        """Statements looked up in vain."""
        return sum(each.misses for each in self._regions.values())

    @property
    def puts(self) -> int:
        """Results kept."""
        return sum(each.puts for each in self._regions.values())

    @property
    def errors(self) -> int:
        """Failures of backends and of the stamp store, and entries that were not what they should be."""
        return sum(each.errors for each in self._regions.values())

    @property
    def bypasses(self) -> Counter[str]:
        """Statements that went past the cache, by reason."""
        return sum((each.bypasses for each in self._regions.values()), Counter[str]())

    @property
    def refused(self) -> Counter[str]:
        """Results not kept, by reason."""
        return sum((each.refused for each in self._regions.values()), Counter[str]())

    def reset(self) -> None:
        """Start from zero."""
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
    """Whom to tell; listeners run where the statement runs, so they must be quick, and what they raise is raised."""

    def __init__(self) -> None:
        self._listeners: tuple[EventListener, ...] = ()

    def listen(self, listener: EventListener) -> EventListener:
        """Call ``listener`` with every `CacheEvent`; returns it, so that it can be used as a decorator."""
        if listener not in self._listeners:
            self._listeners += (listener,)
        return listener

    def remove(self, listener: EventListener) -> None:
        """Call ``listener`` no more."""
        self._listeners = tuple(each for each in self._listeners if each is not listener)

    def send(self, event: CacheEvent) -> None:
        """Tell all."""
        for listener in self._listeners:
            listener(event)
