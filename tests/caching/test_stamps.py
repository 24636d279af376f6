"""The contract of stamp stores, tested with all of them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from sqla_patterns.caching._memory_stamps import MemoryStamps
from sqla_patterns.caching._redis_stamps import RedisStamps
from sqla_patterns.caching._sql_stamps import SQLStamps
from sqla_patterns.caching._stamps import Epoch, StampStore, StampsUnavailableError
from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from tests._support import Database, assert_empty_diff

LEASE = 30.0


@pytest.fixture
def redis_stamps(redis_url: str) -> Generator[RedisStamps, None, None]:
    import redis

    prefix = f"test:{uuid.uuid4().hex}"
    yield RedisStamps.from_url(redis_url, prefix=prefix, timeout=5)
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(match=f"*{prefix}*"):
            client.delete(key)


@pytest.fixture
def sql_stamps(database: Database) -> SQLStamps:
    stamps = SQLStamps(database.create_engine())
    stamps.create_tables()
    return stamps


class StampContract:
    """The tests that every store passes."""

    def test_an_epoch_exists_from_the_start_and_stays_without_writes(self, store: StampStore) -> None:
        first = store.epoch()
        assert first == store.epoch()
        assert first.generation

    def test_a_tag_without_a_stamp_has_one_that_stays(self, store: StampStore) -> None:
        first = store.read(["t:person"])
        assert first.stamps["t:person"] <= first.epoch.number
        assert first.leased == frozenset()
        again = store.read(["t:person"])
        assert (again.epoch, again.stamps, again.leased) == (first.epoch, first.stamps, first.leased)

    def test_reading_writes_nothing(self, store: StampStore) -> None:
        store.read(["a"])
        before = store.epoch()
        assert store.read(["a", "b", "c"]).epoch == before == store.epoch()

    def test_reading_no_tag_returns_the_epoch(self, store: StampStore) -> None:
        snapshot = store.read([])
        assert snapshot.stamps == {}
        assert snapshot.epoch == store.epoch()

    def test_a_mark_stamps_and_leases_its_tags_and_no_others(self, store: StampStore) -> None:
        before = store.read(["a", "b", "c"])
        marked = store.mark("one", ["a", "b"], LEASE)
        assert marked.number > before.epoch.number
        after = store.read(["a", "b", "c"])
        assert after.stamps == {"a": marked.number, "b": marked.number, "c": before.stamps["c"]}
        assert after.leased == {"a", "b"}

    def test_done_stamps_again_and_ends_the_lease(self, store: StampStore) -> None:
        marked = store.mark("one", ["a"], LEASE)
        done = store.done("one", ["a"])
        assert done.number > marked.number
        after = store.read(["a"])
        assert after.stamps["a"] == done.number
        assert after.leased == frozenset()

    def test_done_knows_the_tags_of_the_lease(self, store: StampStore) -> None:
        store.mark("one", ["a", "b"], LEASE)
        done = store.done("one")
        assert store.read(["a", "b"]).stamps == {"a": done.number, "b": done.number}

    def test_done_stamps_its_tags_if_the_lease_is_lost(self, store: StampStore) -> None:
        store.read(["a"])
        done = store.done("never there", ["a"])
        assert store.read(["a"]).stamps["a"] == done.number

    def test_two_leases_of_one_tag_end_one_by_one(self, store: StampStore) -> None:
        store.mark("one", ["a"], LEASE)
        store.mark("two", ["a"], LEASE)
        store.done("one", ["a"])
        assert store.read(["a"]).leased == {"a"}
        store.done("two", ["a"])
        assert store.read(["a"]).leased == frozenset()

    def test_a_mark_that_is_sent_twice_is_one_lease(self, store: StampStore) -> None:
        store.mark("one", ["a"], LEASE)
        store.mark("one", ["a"], LEASE)
        store.done("one")
        assert store.read(["a"]).leased == frozenset()

    def test_touch_stamps_without_a_lease(self, store: StampStore) -> None:
        before = store.read(["a", "b"])
        touched = store.touch(["a"])
        after = store.read(["a", "b"])
        assert after.stamps == {"a": touched.number, "b": before.stamps["b"]}
        assert after.leased == frozenset()

    def test_an_expired_lease_is_ended_with_a_new_stamp_by_the_first_reader(self, store: StampStore) -> None:
        marked = store.mark("crashed", ["a"], 0.4)
        store.mark("alive", ["b"], LEASE)
        assert store.read(["a"]).leased == {"a"}
        time.sleep(0.5)
        after = store.read(["a", "b"])
        assert after.leased == {"b"}
        assert after.stamps["a"] > marked.number
        again = store.read(["a", "b"])
        assert (again.epoch, again.stamps, again.leased) == (after.epoch, after.stamps, after.leased)

    def test_a_reader_of_other_tags_ends_an_expired_lease_too(self, store: StampStore) -> None:
        store.read(["a", "b"])
        marked = store.mark("crashed", ["a"], 0.05)
        time.sleep(0.1)
        store.read(["b"])
        assert store.read(["a"]).stamps["a"] > marked.number

    def test_a_lease_without_end_waits_for_done(self, store: StampStore) -> None:
        store.mark("prepared", ["a"], None)
        time.sleep(0.05)
        assert store.read(["a"]).leased == {"a"}
        store.done("prepared")
        assert store.read(["a"]).leased == frozenset()

    def test_a_new_generation_compares_with_no_older_epoch_and_keeps_leases(self, store: StampStore) -> None:
        before = store.read(["a"])
        store.mark("one", ["a"], LEASE)
        started = store.new_generation()
        after = store.read(["a", "b"])
        assert started.generation == after.epoch.generation != before.epoch.generation
        assert after.leased == {"a"}
        assert store.done("one").generation == started.generation
        assert store.read(["a"]).leased == frozenset()

    def test_a_new_generation_drops_leases_on_request(self, store: StampStore) -> None:
        store.mark("prepared and forgotten", ["a"], None)
        store.new_generation(drop_leases=True)
        assert store.read(["a"]).leased == frozenset()

    @pytest.mark.parametrize(
        "tag", ["", "é λ", "a\nb", "x" * 1000, "CASE", "case", "case ", "it's {braces}", "%s", "*"]
    )
    def test_a_tag_is_any_string(self, store: StampStore, tag: str) -> None:
        before = store.read([tag, "CASE?"])
        marked = store.mark("one", [tag], LEASE)
        after = store.read([tag, "CASE?"])
        assert after.stamps == {tag: marked.number, "CASE?": before.stamps["CASE?"]}
        assert after.leased == {tag}

    def test_many_tags_are_one_step(self, store: StampStore) -> None:
        tags = [f"t:{number}" for number in range(300)]
        marked = store.mark("one", tags, LEASE)
        after = store.read(tags)
        assert set(after.stamps.values()) == {marked.number}
        assert after.leased == set(tags)

    def test_epochs_of_concurrent_writers_are_all_different(self, store: StampStore) -> None:
        def write(writer: int) -> list[Epoch]:
            epochs: list[Epoch] = []
            for number in range(8):
                lease = f"{writer}-{number}"
                epochs += [store.mark(lease, ["a", f"own {writer}"], LEASE), store.done(lease)]
            return epochs

        store.epoch()
        with ThreadPoolExecutor(4) as pool:
            epochs = [epoch for made in pool.map(write, range(4), timeout=60) for epoch in made]
        assert len({epoch.number for epoch in epochs}) == len(epochs)
        assert len({epoch.generation for epoch in epochs}) == 1
        after = store.read(["a"])
        assert after.stamps["a"] == max(epoch.number for epoch in epochs)
        assert after.leased == frozenset()

    def test_concurrent_first_readers_agree(self, store: StampStore) -> None:
        barrier = threading.Barrier(4)

        def read(_: int) -> Any:
            barrier.wait(30)
            return store.read(["a", "b"])

        with ThreadPoolExecutor(4) as pool:
            snapshots = list(pool.map(read, range(4), timeout=60))
        assert len({snapshot.epoch.generation for snapshot in snapshots}) == 1
        settled = store.read(["a", "b"]).stamps
        assert any(snapshot.stamps == settled for snapshot in snapshots)

    def test_every_store_is_a_stamp_store_by_type(self, store: StampStore) -> None:
        assert isinstance(store, StampStore)
        assert type(store).__name__ in repr(store)


class TestMemoryStamps(StampContract):
    @pytest.fixture
    def store(self) -> StampStore:
        return MemoryStamps()


class TestSQLStamps(StampContract):
    @pytest.fixture
    def store(self, sql_stamps: SQLStamps) -> StampStore:
        return sql_stamps


class TestRedisStamps(StampContract):
    @pytest.fixture
    def store(self, redis_stamps: RedisStamps) -> StampStore:
        return redis_stamps


# -- memory --------------------------------------------------------------------------------------


def test_memory_counts_what_it_has_forgotten_as_written_when_the_last_of_it_was() -> None:
    store = MemoryStamps(max_tags=2)
    assert store.read(["a"]).stamps["a"] == 0
    one, two = store.touch(["a"]), store.touch(["b"])
    store.touch(["a"])
    assert store.read(["a", "b", "never"]).stamps == {"a": 3, "b": two.number, "never": 0}
    store.touch(["c"])
    forgotten = store.read(["a", "b", "c", "never"]).stamps
    assert forgotten == {"a": 3, "b": two.number, "c": 4, "never": two.number}
    assert one.number < two.number
    started = store.new_generation()
    assert store.read(["a"]).stamps["a"] == started.number


def test_memory_refuses_to_keep_nothing() -> None:
    with pytest.raises(InvalidArgumentError, match="one tag at least"):
        MemoryStamps(max_tags=0)


# -- SQL -----------------------------------------------------------------------------------------


def test_sql_tables_leave_nothing_for_alembic(database: Database) -> None:
    stamps = SQLStamps(database.create_engine(), prefix="our_cache")
    stamps.create_tables()
    stamps.create_tables()
    assert set(stamps.metadata.tables) == {"our_cache_epoch", "our_cache_stamp", "our_cache_lease"}
    assert_empty_diff(stamps.engine, stamps.metadata)


def test_sql_reads_with_one_statement(sql_stamps: SQLStamps, statements: Callable[..., Any]) -> None:
    sql_stamps.read(["a", "b"])
    with statements(sql_stamps.engine) as log:
        sql_stamps.read(["a", "b"])
    assert len(log) == 1


def test_sql_prunes_what_was_not_written_for_long(sql_stamps: SQLStamps) -> None:
    sql_stamps.touch(["old"])
    for _ in range(5):
        sql_stamps.touch(["new"])
    assert sql_stamps.read(["never"]).stamps == {"never": 0}
    assert sql_stamps.prune(keep=3) == 1
    after = sql_stamps.read(["old", "new", "never"])
    assert after.stamps["old"] == after.stamps["never"] == after.epoch.number - 3 < after.stamps["new"]
    assert sql_stamps.prune(keep=100) == 0
    assert sql_stamps.read(["old"]).stamps["old"] == after.stamps["old"]


def test_sql_does_not_take_stamps_of_another_generation_for_its_own(sql_stamps: SQLStamps) -> None:
    sql_stamps.touch(["a"])
    with sql_stamps.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM cache_epoch")
    before = sql_stamps.epoch()
    after = sql_stamps.read(["a"])
    assert after.epoch.generation == before.generation
    assert after.stamps["a"] == after.epoch.number > before.number


def test_sql_without_tables_is_unavailable_and_says_how_to_create_them(database: Database) -> None:
    stamps = SQLStamps(database.create_engine())
    with pytest.raises(StampsUnavailableError, match=r"create_tables\(\)") as caught:
        stamps.read(["a"])
    assert isinstance(caught.value, PatternError)


def test_sql_refuses_a_database_in_memory() -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(InvalidArgumentError, match="MemoryStamps"):
        SQLStamps(engine)
    engine.dispose()


def test_sql_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}", poolclass=NullPool)
    with pytest.raises(StampsUnavailableError):
        SQLStamps(engine).mark("one", ["a"], LEASE)


# -- Redis ---------------------------------------------------------------------------------------


def test_redis_has_one_key(redis_stamps: RedisStamps, redis_url: str) -> None:
    import redis

    redis_stamps.mark("one", ["a"], LEASE)
    (name,) = repr(redis_stamps).split("'")[1::2]
    with redis.Redis.from_url(redis_url) as client:
        assert [key.decode() for key in client.scan_iter(match=f"*{name}*")] == [name]
        assert client.ttl(name) == -1


def test_redis_that_has_dropped_the_key_is_in_a_new_generation(redis_stamps: RedisStamps, redis_url: str) -> None:
    import redis

    touched = redis_stamps.touch(["a"])
    with redis.Redis.from_url(redis_url) as client:
        client.delete(repr(redis_stamps).split("'")[1])
    assert redis_stamps.read(["a"]).epoch.generation != touched.generation


def test_redis_counts_what_it_has_forgotten_as_written_then(redis_url: str) -> None:
    import redis

    prefix = f"test:{uuid.uuid4().hex}"
    store = RedisStamps.from_url(redis_url, prefix=prefix, max_tags=2, timeout=5)
    one = store.touch(["a", "b"])
    assert store.read(["a", "b", "c"]).stamps == {"a": one.number, "b": one.number, "c": one.number - 1}
    marked = store.mark("one", ["c"], LEASE)
    after = store.read(["a", "b", "c", "never"])
    assert set(after.stamps.values()) == {marked.number}
    assert after.leased == {"c"}
    assert after.epoch == marked
    done = store.done("one")
    assert store.read(["c", "never"]).stamps == {"c": done.number, "never": marked.number}
    with redis.Redis.from_url(redis_url) as client:
        client.delete(prefix)


def test_redis_refuses_to_keep_nothing() -> None:
    with pytest.raises(InvalidArgumentError, match="one tag at least"):
        RedisStamps.from_url("redis://127.0.0.1:1/0", max_tags=0)


def test_redis_like_a_client_shares_its_stamps_without_its_retries(redis_url: str) -> None:
    import redis

    prefix = f"test:{uuid.uuid4().hex}"
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        one, two = RedisStamps(client, prefix=prefix), RedisStamps.like(client, prefix=prefix)
        assert one.touch(["a"]) == two.read(["a"]).epoch
        client.delete(prefix)


def test_redis_that_is_not_there_is_unavailable_soon() -> None:
    store = RedisStamps.from_url("redis://127.0.0.1:1/0")
    started = time.monotonic()
    with pytest.raises(StampsUnavailableError, match="'read'"):
        store.read(["a"])
    assert time.monotonic() - started < 2
