"""Check the arguments of `ORMCache`, and find the engines of the sessions that it listens to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from dogpile.cache.region import CacheRegion
from sqlalchemy import Engine
from sqlalchemy.orm import scoped_session, sessionmaker

from ..exceptions import InvalidArgumentError
from ._redis_stamps import RedisStamps
from ._stamps import StampStore

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def regions_by_name(regions: object) -> Mapping[str, CacheRegion]:
    """Return regions by name.

    Raises:
        InvalidArgumentError: They are no dictionary of regions.
    """
    if isinstance(regions, CacheRegion):
        return {"default": regions}
    if isinstance(regions, Mapping):
        return cast("Mapping[str, CacheRegion]", regions)
    raise InvalidArgumentError(
        f"ORMCache({regions!r}): give a dictionary of regions by name, as in "
        "ORMCache({'default': make_region().configure(...)})"
    )


def stamp_store(stamps: object) -> StampStore:
    """Return a stamp store, which may be given as the URL of a Redis.

    Raises:
        InvalidArgumentError: It is neither a store nor the URL of one.
    """
    if isinstance(stamps, str) and stamps.partition("://")[0] in {"redis", "rediss", "unix"}:
        return RedisStamps.from_url(stamps)
    if isinstance(stamps, StampStore) and not isinstance(stamps, type):
        return stamps
    raise InvalidArgumentError(
        f"stamps={stamps!r} is no store of stamps: give the URL of a Redis (redis://...), MemoryStamps(), "
        "RedisStamps.from_url(...) or SQLStamps(engine)"
    )


def sync_engine(engine: Engine | AsyncEngine) -> Engine:
    """Return the engine itself, or the one that an async engine wraps."""
    return engine if isinstance(engine, Engine) else engine.sync_engine


def engines_of(target: object) -> list[Engine]:
    """Return the engines that a session or its factory names."""
    if isinstance(target, scoped_session):
        target = cast("Any", target).session_factory
    settings: Mapping[str, Any] = {}
    if isinstance(target, sessionmaker) or hasattr(target, "kw"):
        settings = cast("Any", target).kw
    elif not isinstance(target, type):
        settings = {"bind": getattr(target, "bind", None)}
    found: list[object] = [settings.get("bind"), *(settings.get("binds") or {}).values()]
    engines = [getattr(each, "sync_engine", each) for each in found if each is not None]
    return [cast("Any", each).engine for each in engines]
