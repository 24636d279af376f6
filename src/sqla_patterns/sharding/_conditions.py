"""Set algebra: which shards a condition leaves.

A node is evaluated with the values that are bound in one execution of a statement. AND intersects, OR unites, and what
is not known leaves all shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ._errors import UnroutableKeyError
from ._ids import ShardId
from ._keys import ShardKey
from ._routers import RangeRouter

#: Return the value that is bound at a position of the cache key.
Values: TypeAlias = Callable[[int], Any]
#: Shards; None stands for all of them.
Found: TypeAlias = "frozenset[str] | None"

NONE: frozenset[str] = frozenset()


class Node(Protocol):
    """A condition."""

    def shards(self, values: Values) -> Found:
        """Return the shards on which it may hold."""
        ...


class KeyOf(Protocol):
    """What tells the shard of a value of a column."""

    def find(self, value: object) -> Found:
        """Return the shards of the rows that have `value`."""
        ...

    def between(self, low: object, high: object) -> Found:
        """Return the shards of the rows from `low` to `high`; None is no bound."""
        ...


@dataclass(frozen=True)
class RuleKey:
    """The column of a `ShardKey`."""

    rule: ShardKey[Any]

    def find(self, value: object) -> Found:
        if value is None:
            return NONE  # = NULL is never true
        if not self.rule.fits(value):
            return None  # the database may convert it to a value of the column
        try:
            return frozenset((self.rule.shard_of(value),))
        except UnroutableKeyError:
            return NONE  # no row can have it

    def between(self, low: object, high: object) -> Found:
        router = self.rule.router
        # Databases may order strings by another collation than Python does.
        bounds = [each for each in (low, high) if each is not None]
        if not isinstance(router, RangeRouter) or any(isinstance(each, str) for each in bounds):
            return None
        if not all(self.rule.fits(each) for each in bounds):
            return None
        return router.shards_between(low, high)


@dataclass(frozen=True)
class IdKey:
    """A primary key that was made by `ShardId`."""

    ids: ShardId

    def find(self, value: object) -> Found:
        if not isinstance(value, int):
            return None
        shard = self.ids.shard_of(value)
        return NONE if shard is None else frozenset((shard,))

    def between(self, low: object, high: object) -> Found:
        return None


@dataclass(frozen=True)
class All:
    """Nothing is known."""

    def shards(self, values: Values) -> Found:
        return None


@dataclass(frozen=True)
class Nothing:
    """FALSE."""

    def shards(self, values: Values) -> Found:
        return NONE


@dataclass(frozen=True)
class Equals:
    """``key = value``."""

    key: KeyOf
    place: int

    def shards(self, values: Values) -> Found:
        return self.key.find(values(self.place))


@dataclass(frozen=True)
class OneOf:
    """``key IN (...)``."""

    key: KeyOf
    place: int

    def shards(self, values: Values) -> Found:
        given: Any = values(self.place)
        many: Any = (list, tuple, set, frozenset)
        return unite(map(self.key.find, given)) if isinstance(given, many) else None


@dataclass(frozen=True)
class Between:
    """``key >= low AND key <= high``; None is no bound, and bounds count as included."""

    key: KeyOf
    low: int | None
    high: int | None

    def shards(self, values: Values) -> Found:
        low, high = (None if place is None else values(place) for place in (self.low, self.high))
        if (low is None) is not (self.low is None) or (high is None) is not (self.high is None):
            return NONE  # < NULL is never true
        return self.key.between(low, high)


@dataclass(frozen=True)
class And:
    """All of the parts hold."""

    parts: tuple[Node, ...]

    def shards(self, values: Values) -> Found:
        found: Found = None
        for part in self.parts:
            more = part.shards(values)
            if more is not None:
                found = more if found is None else found & more
        return found


@dataclass(frozen=True)
class Or:
    """One of the parts holds."""

    parts: tuple[Node, ...]

    def shards(self, values: Values) -> Found:
        return unite(part.shards(values) for part in self.parts)


def unite(parts: Iterable[Found]) -> Found:
    """Return the shards of any of `parts`."""
    found: frozenset[str] = NONE
    for each in parts:
        if each is None:
            return None
        found |= each
    return found
