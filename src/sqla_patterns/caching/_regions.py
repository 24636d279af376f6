"""Read and write entries of dogpile regions as bytes, with their expiration and invalidation, not their serializer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from dogpile.cache.api import NO_VALUE, CacheMutex
from dogpile.cache.region import CacheRegion

from ..exceptions import InvalidArgumentError
from ._errors import UnknownRegionError

if TYPE_CHECKING:
    from ._options import FromCache

T = TypeVar("T")

#: Seconds for which a backend that failed is not called: a client that waits and retries would stall every query.
_PAUSE: Final = 1.0
#: A call that fails after so many seconds has waited for something.
_LONG_CALL: Final = 0.25
#: Each client has other errors for a server that does not answer, which have nothing in common but words in their
#: names.
_OUTAGES: Final = re.compile(
    r"connection|connect|timeout|timedout|unavailable|unreachable|server(?:down|dead)|hostlookup|noserver",
    re.IGNORECASE,
)


class Region:
    """One region, whose entries are read and written as bytes.

    A cache that is down costs the time of the query that it would have saved, never the answer: every failure of the
    backend is reported to ``on_failure`` and counts as a miss. Only a backend that cannot be reached, or that makes a
    call wait before it fails, is not called for a while: a value that it refuses is no outage.
    """

    def __init__(self, name: str, region: CacheRegion, on_failure: Callable[[str, Exception], None]) -> None:
        self.name: Final = name
        self.region: Final = region
        self._on_failure: Final = on_failure
        self._paused_until = 0.0

    @property
    def backend(self) -> Any:
        """The backend with the proxies around it."""
        return cast("Any", self.region).backend

    @property
    def actual_backend(self) -> object:
        """The backend itself."""
        return cast("Any", self.region).actual_backend

    def get(self, key: str) -> bytes | None:
        """Return the bytes under a key. Anything else that is there is returned as it is: the reader checks."""
        found: object = self._try(lambda: self.backend.get_serialized(self._key(key)), NO_VALUE)
        return None if found is NO_VALUE else cast("bytes", found)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes under each key, in one call of the backend."""
        none: list[object] = [NO_VALUE] * len(keys)
        found = self._try(lambda: list(self.backend.get_serialized_multi([self._key(key) for key in keys])), none)
        return [None if each is NO_VALUE else cast("bytes", each) for each in found]

    def put(self, key: str, data: bytes) -> bool:
        """Store bytes under a key; return whether the backend accepted them."""
        return self._try(lambda: self.backend.set_serialized(self._key(key), data) is None, False)

    def put_many(self, entries: Mapping[str, bytes]) -> bool:
        """Store several entries in one call of the backend; return whether it accepted them."""
        mangled = {self._key(key): data for key, data in entries.items()}
        return self._try(lambda: self.backend.set_serialized_multi(mangled) is None, False)

    def mutex(self, key: str) -> CacheMutex | None:
        """Return the lock that the backend has for all processes, if it has one."""
        found: CacheMutex | None = self._try(lambda: self.backend.get_mutex(self._key(key)), None)
        return found

    def is_too_old(self, option: FromCache, created: float) -> bool:
        """Return whether an entry of that time is too old for the option, the region, or ``region.invalidate()``."""
        if option.ignore_expiration:
            return False
        if self.region.region_invalidator.is_invalidated(created):
            return True
        seconds: float | None = option.expiration_time
        if seconds is None:
            seconds = self.region.expiration_time
        # dogpile's -1 is without end, as None is.
        return seconds is not None and seconds != -1 and time.time() - created > seconds

    def _key(self, key: str) -> str:
        mangler: Callable[[str], str] | None = cast("Any", self.region).key_mangler
        return key if mangler is None else mangler(key)

    def _try(self, call: Callable[[], T], otherwise: T) -> T:
        started = time.monotonic()
        if started < self._paused_until:
            return otherwise
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - clients of backends have no common base of errors
            now = time.monotonic()
            if _is_outage(error) or now - started > _LONG_CALL:
                self._paused_until = now + _PAUSE
            self._on_failure(self.name, error)
            return otherwise


def _is_outage(error: Exception) -> bool:
    """Return whether an error says that a backend cannot be reached, and not that it refuses a value or a key."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    return any(_OUTAGES.search(base.__name__) for base in type(error).__mro__)


def unknown_region(name: str, known: Iterable[str]) -> UnknownRegionError:
    """Return the error for a region that does not exist."""
    names = ", ".join(map(repr, known)) or "none"
    return UnknownRegionError(
        f"The cache has no region {name!r} (it has: {names}); add it to the dictionary that ORMCache() was given."
    )


class Regions:
    """The dictionary that the cache was given, which may be filled, and its regions replaced, at any time."""

    def __init__(self, regions: Mapping[str, CacheRegion], on_failure: Callable[[str, Exception], None]) -> None:
        self._given: Final = regions
        self._on_failure: Final = on_failure
        self._known: dict[str, Region] = {}

    def __getitem__(self, name: str) -> Region:
        region = cast("object", self._given.get(name))
        if region is None:
            raise unknown_region(name, self._given)
        if not isinstance(region, CacheRegion):
            raise InvalidArgumentError(
                f"The region {name!r} of the cache is {region!r}; give what make_region() returns."
            )
        if not region.is_configured:
            raise InvalidArgumentError(
                f"The region {name!r} of the cache was never configured, so that it can keep nothing; call "
                'its configure("dogpile.cache.memory") or one for another backend.'
            )
        found = self._known.get(name)
        if found is None or found.region is not region:
            found = self._known[name] = Region(name, region, self._on_failure)
        return found
