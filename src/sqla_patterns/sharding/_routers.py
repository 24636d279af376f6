"""Routers: which shard belongs to a value of a shard key.

A router is any object with `shard_ids` and `shard_for()`; those here cover the usual ways. All of them are frozen, and
none does SQL.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar, cast

from ..exceptions import InvalidArgumentError
from ._errors import UnroutableKeyError

K = TypeVar("K")
H = TypeVar("H", bound=Hashable)
K_contra = TypeVar("K_contra", contravariant=True)


class ShardRouter(Protocol[K_contra]):
    """What tells the shard of a key."""

    @property
    def shard_ids(self) -> Collection[str]:
        """Return all shards that it may name."""
        ...

    def shard_for(self, key: K_contra, /) -> str:
        """Return the shard of `key`.

        Raises:
            UnroutableKeyError: No shard belongs to it. `LookupError` means the same.
        """
        ...


class LookupRouter(Generic[H]):
    """A shard for each value, such as ``LookupRouter({"Asia": "asia", "Europe": "europe"})``.

    The lookup is closed: writing another value is refused, and a read for one finds nothing, without SQL.
    """

    def __init__(self, shards: Mapping[H, str]) -> None:
        self._shards = dict(shards)
        self.shard_ids = _checked(self._shards.values())

    def shard_for(self, key: H, /) -> str:
        """Return the shard of `key`."""
        return self._shards[key]


class TenantRouter(Generic[H]):
    """A shard for each tenant that has one to itself, and a hash for all others.

    Args:
        placed: Tenants that were given a shard.
        default: Shards among which the others are distributed, by `ConsistentHashRouter`.
    """

    def __init__(self, placed: Mapping[H, str], *, default: Sequence[str]) -> None:
        self._placed = dict(placed)
        self._others: ConsistentHashRouter = ConsistentHashRouter(default)
        self.shard_ids = _checked([*self._placed.values(), *default])

    def shard_for(self, key: H, /) -> str:
        """Return the shard of the tenant `key`."""
        found = self._placed.get(key)
        return self._others.shard_for(key) if found is None else found


class HashRouter:
    """A stable hash of the value, modulo the number of shards.

    Cheap and even; but a shard more moves nearly all keys. See `ConsistentHashRouter`.
    """

    def __init__(self, shard_ids: Sequence[str]) -> None:
        self.shard_ids = _checked(shard_ids, unique=True)

    def shard_for(self, key: object, /) -> str:
        """Return the shard of `key`."""
        return self.shard_ids[_hash(key) % len(self.shard_ids)]


class ConsistentHashRouter:
    """A hash ring: with one shard more, of n, only one key in n gets another shard.

    Args:
        shard_ids: The shards.
        virtual_nodes: Points of each shard on the ring. With 128, shards differ by about 10 % in size.
    """

    def __init__(self, shard_ids: Sequence[str], virtual_nodes: int = 128) -> None:
        self.shard_ids = _checked(shard_ids, unique=True)
        if virtual_nodes < 1:
            raise InvalidArgumentError(f"virtual_nodes={virtual_nodes} leaves no place on the ring; give at least 1")
        ring = sorted((_hash(f"{shard}#{node}"), shard) for shard in self.shard_ids for node in range(virtual_nodes))
        self._points = [point for point, _ in ring]
        self._owners = [shard for _, shard in ring]

    def shard_for(self, key: object, /) -> str:
        """Return the shard of `key`: the owner of the next point on the ring."""
        return self._owners[bisect_left(self._points, _hash(key)) % len(self._owners)]


class ModuloRouter:
    """An integer modulo the number of shards."""

    def __init__(self, shard_ids: Sequence[str]) -> None:
        self.shard_ids = _checked(shard_ids, unique=True)

    def shard_for(self, key: int, /) -> str:
        """Return the shard of `key`."""
        return self.shard_ids[key % len(self.shard_ids)]


class RangeRouter(Generic[K]):
    """Ranges of values, each with its shard: ``RangeRouter([(None, 1000, "old"), (1000, None, "new")])``.

    The lower bound belongs to a range, the upper one does not; None is no bound. What lies in no range has no shard.
    """

    def __init__(self, ranges: Iterable[tuple[K | None, K | None, str]]) -> None:
        self._ranges = list(ranges)
        self.shard_ids = _checked(shard for _, _, shard in self._ranges)
        pairs = zip(self._ranges, self._ranges[1:], strict=False)
        inner = any(high is None or low is None or _less(low, high) for (_, high, _), (low, _, _) in pairs)
        turned = any(low is not None and high is not None and not _less(low, high) for low, high, _ in self._ranges)
        if inner or turned:
            raise InvalidArgumentError(f"The ranges {self._ranges!r} overlap or are not in order; list them upwards")
        self._lows: list[Any] = [low for low, _, _ in self._ranges if low is not None]
        self._open = len(self._ranges) - len(self._lows)  # 1 if the first has no lower bound

    def shard_for(self, key: K, /) -> str:
        """Return the shard of `key`."""
        place = bisect_right(self._lows, key) + self._open - 1
        if place >= 0:
            _, high, shard = self._ranges[place]
            if high is None or _less(key, high):
                return shard
        raise LookupError(key)

    def shards_between(self, low: K | None, high: K | None) -> frozenset[str]:
        """Return the shards of the values from `low` to `high`, both included; None is no bound."""
        return frozenset(
            shard
            for start, end, shard in self._ranges
            if not (high is not None and start is not None and _less(high, start))
            and not (low is not None and end is not None and not _less(low, end))
        )


class CallableRouter(Generic[K]):
    """A function of the user's.

    Args:
        function: Takes a value of the key and returns a shard.
        shard_ids: All shards that it may return.
    """

    def __init__(self, function: Callable[[K], str], shard_ids: Iterable[str]) -> None:
        self._function = function
        self.shard_ids = _checked(shard_ids)

    def shard_for(self, key: K, /) -> str:
        """Return the shard of `key`."""
        return self._function(key)


def find_shard(router: ShardRouter[Any], value: object, key: str) -> str:
    """Return what `router` answers for `value`, after checking it.

    Raises:
        UnroutableKeyError: It has no answer.
        InvalidArgumentError: It answers a shard that it has not announced.
    """
    try:
        shard = router.shard_for(value)
    except (LookupError, TypeError) as error:
        raise UnroutableKeyError(value, key) from error
    if shard not in router.shard_ids:
        raise InvalidArgumentError(
            f"The router of {key} answers {shard!r} for {value!r}, which is not among its shard_ids "
            f"{tuple(router.shard_ids)}; announce all shards there"
        )
    return shard


def _less(one: Any, other: Any) -> bool:
    return bool(one < other)


def _checked(shard_ids: Iterable[str], *, unique: bool = False) -> tuple[str, ...]:
    given = list(shard_ids)
    found = tuple(dict.fromkeys(given))
    wrong = [each for each in cast("Iterable[object]", found) if not isinstance(each, str)]
    if wrong or not found:
        raise InvalidArgumentError(f"Shard ids are strings, at least one; given: {given!r}")
    if unique and len(found) < len(given):
        raise InvalidArgumentError(
            f"A shard is named twice in {given!r}; use virtual nodes or a lookup to weight shards"
        )
    return found


def _hash(key: object) -> int:
    """Return 64 bits that are the same in each process, for values that a database takes for equal."""
    if isinstance(key, Enum):
        key = str(key.name)
    if isinstance(key, (int, float, Decimal)):  # 1, 1.0, True and Decimal("1.00") are equal
        number = float(key)
        whole = number == number and abs(number) < 1e300 and key == int(key)
        key = f"n{int(key)}" if whole else f"n{number!r}"
    elif isinstance(key, str):
        key = "s" + str.__str__(key)
    else:
        key = f"{type(key).__name__}:{key}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
