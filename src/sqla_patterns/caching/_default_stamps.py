"""The stamp store that goes with the regions of a cache, where none was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from dogpile.cache.region import CacheRegion
from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from ..exceptions import InvalidArgumentError
from ._memory_stamps import MemoryStamps
from ._redis_stamps import RedisStamps
from ._sql_stamps import SQLStamps
from ._stamps import StampStore

__all__ = ("default_stamps",)

#: Modules of backends whose entries no other process sees.
_OWN: Final = frozenset({"dogpile.cache.backends.memory", "dogpile.cache.backends.null"})


def default_stamps(regions: Mapping[str, CacheRegion]) -> StampStore:
    """Choose a store that lives where the entries live: whoever shares entries has to share stamps.

    Redis backends have their stamps in that Redis, a dbm file has them in an SQLite file of the same name with ``.stamps`` behind, backends
    in memory in memory.

    Raises:
        InvalidArgumentError: a backend is shared in a way that shows no place for stamps.
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
        elif not (kinds & _OWN or any(kind.startswith("sqla_patterns.") for kind in kinds)):
            raise InvalidArgumentError(
                f"Region {name!r} keeps its entries in {type(backend).__name__}, where stamps cannot be kept: give the cache a store, "
                "as in stamps=RedisStamps.from_url(...) or stamps=SQLStamps(engine)."
            )
    if files:
        url = URL.create("sqlite", database=f"{min(files)}.stamps")
        stamps = SQLStamps(create_engine(url, poolclass=NullPool))
        stamps.create_tables()
        return stamps
    return MemoryStamps()
