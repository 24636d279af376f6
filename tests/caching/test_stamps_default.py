"""The stamp store that is chosen for each backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE, CacheBackend
from dogpile.cache.proxy import ProxyBackend

from sqla_patterns.caching._default_stamps import default_stamps
from sqla_patterns.caching._memory_stamps import MemoryStamps
from sqla_patterns.caching._redis_stamps import RedisStamps
from sqla_patterns.caching._sql_stamps import SQLStamps
from sqla_patterns.exceptions import InvalidArgumentError


def test_memory_goes_with_memory() -> None:
    regions = {name: make_region().configure(f"dogpile.cache.{name}") for name in ("memory", "memory_pickle", "null")}
    assert isinstance(default_stamps(regions), MemoryStamps)


def test_a_region_that_is_not_configured_yet_does_not_matter() -> None:
    assert isinstance(default_stamps({"later": make_region()}), MemoryStamps)


def test_stamps_of_a_dbm_file_outlive_the_process(tmp_path: Path) -> None:
    def stamps() -> Any:
        arguments = {"filename": str(tmp_path / "cache.dbm")}
        return default_stamps({"default": make_region().configure("dogpile.cache.dbm", arguments=arguments)})

    first = stamps()
    assert isinstance(first, SQLStamps)
    touched = first.touch(["a"])
    assert stamps().read(["a"]).epoch == touched
    assert (tmp_path / "cache.dbm.stamps").exists()


def test_redis_goes_with_redis_whatever_else_there_is(redis_url: str) -> None:
    regions = {
        "near": make_region().configure("dogpile.cache.memory"),
        "far": make_region().configure("dogpile.cache.redis", arguments={"url": redis_url}),
    }
    assert isinstance(default_stamps(regions), RedisStamps)


def test_a_proxy_does_not_hide_the_backend(redis_url: str) -> None:
    class Loud(ProxyBackend):
        pass

    region = make_region().configure("dogpile.cache.redis", arguments={"url": redis_url}, wrap=[Loud])
    assert isinstance(default_stamps({"default": region}), RedisStamps)


def test_a_backend_of_another_kind_needs_a_store_of_the_users_choice() -> None:
    class Elsewhere(CacheBackend):
        def __init__(self, arguments: Any) -> None:
            self.arguments = arguments

        def get(self, key: str) -> Any:
            return NO_VALUE

        def set(self, key: str, value: Any) -> None:
            self.last = (key, value)

        def delete(self, key: str) -> None:
            self.last = (key, None)

    region = make_region()
    region.backend = Elsewhere({})
    with pytest.raises(InvalidArgumentError, match=r"'default' keeps its entries in Elsewhere.*stamps=RedisStamps"):
        default_stamps({"default": region})
