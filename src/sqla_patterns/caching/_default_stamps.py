"""Choose a stamp store where the user has given none: one in the same place as the entries of the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from dogpile.cache.region import CacheRegion
from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from ..exceptions import InvalidArgumentError
from ._fork_detector import ForkDetector
from ._memory_stamps import MemoryStamps
from ._redis_stamps import RedisStamps
from ._sql_stamps import SQLStamps
from ._stamps import StampStore

#: Modules of backends whose entries no other process sees.
_PRIVATE_BACKENDS: Final = frozenset({"dogpile.cache.backends.memory", "dogpile.cache.backends.null"})


def default_stamps(regions: Mapping[str, CacheRegion], fork_detector: ForkDetector | None = None) -> StampStore:
    """Choose a store in the same place as the entries, since those who share entries have to share stamps.

    Redis backends have their stamps in that Redis, a dbm file has them in a SQLite file whose name ends in ``.stamps``,
    backends in memory have them in memory.

    Args:
        regions: The regions of the cache.
        fork_detector: A note of the process in which the cache was made; this process unless given.

    Raises:
        InvalidArgumentError: A backend is shared by processes, and it is unknown where they could share stamps.
    """
    files: list[str] = []
    for name, region in regions.items():
        if not region.is_configured:
            continue
        backend = cast(Any, region).actual_backend
        kinds = {base.__module__ for base in type(backend).__mro__}
        client: object = getattr(backend, "writer_client", None)
        if "dogpile.cache.backends.redis" in kinds and client is not None:
            return RedisStamps.like(client)
        if "dogpile.cache.backends.file" in kinds:
            files.append(backend.filename)
        elif not (kinds & _PRIVATE_BACKENDS or any(kind.startswith("sqla_patterns.") for kind in kinds)):
            raise InvalidArgumentError(
                f"Region {name!r} keeps its entries in {type(backend).__name__}, where stamps cannot be kept: give the "
                "cache a store, as in stamps=RedisStamps.from_url(...) or stamps=SQLStamps(engine)."
            )
    if files:
        url = URL.create("sqlite", database=f"{min(files)}.stamps")
        stamps = SQLStamps(create_engine(url, poolclass=NullPool))
        stamps.create_tables()
        return stamps
    return MemoryStamps(_fork_detector=fork_detector)
