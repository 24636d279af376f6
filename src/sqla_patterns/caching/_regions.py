"""Bytes in and out of a dogpile region, past its serializer, with its expiration and invalidation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from dogpile.cache.api import NO_VALUE

from ._errors import UnknownRegionError

if TYPE_CHECKING:
    from dogpile.cache.region import CacheRegion

    from ._options import FromCache

__all__ = ("Region", "Regions")

T = TypeVar("T")

#: Seconds for which a backend that failed is left alone: a client that waits and retries would stall every query.
_REST: Final = 1.0


class Region:
    """One region, reading and writing entries as they are.

    A cache that is down costs the time of the query that it would have saved, never the answer: every failure of the backend is
    reported to ``on_failure`` and counts as a miss.
    """

    def __init__(self, name: str, region: CacheRegion, on_failure: Callable[[str, Exception], None]) -> None:
        self.name: Final = name
        self.region: Final = region
        self._on_failure: Final = on_failure
        self._rests_until = 0.0

    @property
    def backend(self) -> Any:
        """The backend with the proxies around it."""
        return cast("Any", self.region).backend

    @property
    def actual_backend(self) -> object:
        """The backend itself."""
        return cast("Any", self.region).actual_backend

    def get(self, key: str) -> bytes | None:
        """The bytes under a key. Whatever else is there is returned as it is: the reader checks."""
        found: object = self._try(lambda: self.backend.get_serialized(self._key(key)), NO_VALUE)
        return None if found is NO_VALUE else cast("bytes", found)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The bytes under each key, in one call of the backend."""
        none: list[object] = [NO_VALUE] * len(keys)
        found = self._try(lambda: list(self.backend.get_serialized_multi([self._key(key) for key in keys])), none)
        return [None if each is NO_VALUE else cast("bytes", each) for each in found]

    def put(self, key: str, data: bytes) -> bool:
        """Keep bytes under a key; return whether the backend took them."""
        return self._try(lambda: self.backend.set_serialized(self._key(key), data) is None, False)

    def put_many(self, entries: Mapping[str, bytes]) -> bool:
        """Keep many, in one call of the backend."""
        mangled = {self._key(key): data for key, data in entries.items()}
        return self._try(lambda: self.backend.set_serialized_multi(mangled) is None, False)

    def mutex(self, key: str) -> Any:
        """The lock that the backend has for all processes, if it has one."""
        return self._try(lambda: self.backend.get_mutex(self._key(key)), None)

    def is_too_old(self, option: FromCache, created: float) -> bool:
        """Whether the option, the region, or ``region.invalidate()`` ends an entry of that time."""
        if option.ignore_expiration:
            return False
        if self.region.region_invalidator.is_invalidated(created):
            return True
        seconds: float | None = option.expiration_time
        if seconds is None:
            seconds = self.region.expiration_time
        # dogpile's -1 is for ever, as None is.
        return seconds is not None and seconds != -1 and time.time() - created > seconds

    def _key(self, key: str) -> str:
        mangler: Callable[[str], str] | None = cast("Any", self.region).key_mangler
        return key if mangler is None else mangler(key)

    def _try(self, call: Callable[[], T], otherwise: T) -> T:
        if time.monotonic() < self._rests_until:
            return otherwise
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - backends raise what their clients raise, which has no base in common
            self._rests_until = time.monotonic() + _REST
            self._on_failure(self.name, error)
            return otherwise


class Regions:
    """The dictionary that the cache was given, which may be filled, and its regions replaced, at any time."""

    def __init__(self, regions: Mapping[str, CacheRegion], on_failure: Callable[[str, Exception], None]) -> None:
        self._given: Final = regions
        self._on_failure: Final = on_failure
        self._known: dict[str, Region] = {}

    def __getitem__(self, name: str) -> Region:
        region = self._given.get(name)
        if region is None:
            known = ", ".join(map(repr, self._given)) or "none"
            raise UnknownRegionError(
                f"The cache has no region {name!r} (it has: {known}); add it to the dictionary that ORMCache() was given."
            )
        found = self._known.get(name)
        if found is None or found.region is not region:
            found = self._known[name] = Region(name, region, self._on_failure)
        return found
