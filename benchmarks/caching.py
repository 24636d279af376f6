"""Measure cached reads beside plain loads: ``python benchmarks/caching.py [--url URL] [--redis URL] [--rounds 40]``.

The yardsticks are the plain ORM query, the upstream recipe (``examples/dogpile_caching``: whole instances, frozen and
pickled, merged into the session on a hit), written out here in its behaviour, and ``advanced_alchemy``'s repository
cache where it is installed (``pip install advanced-alchemy``). A hit that is slower than the query has not paid; the
last column says so.

Microseconds are the lower quartile of the rounds: of CPU time on SQLite, which works in this process, of wall time
where a server has a part. Without ``--redis`` there is no Redis; ``--redis redis://127.0.0.1:6379/0`` adds it, under
keys with a random prefix.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import importlib.util
import platform
import statistics
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy
from dogpile.cache import make_region
from sqlalchemy import Engine, ForeignKey, Numeric, String, create_engine, event, insert, select, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    loading,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)
from sqlalchemy.orm.interfaces import UserDefinedOption
from sqlalchemy.pool import StaticPool

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RedisStamps, RelationshipCache

SIZES = (1, 100, 1000)


class Base(DeclarativeBase):
    pass


class Item(Base):
    """Eight typed columns, as in the research."""

    __tablename__ = "bench_cache_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(80))
    score: Mapped[float]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2, asdecimal=True))
    created: Mapped[dt.datetime]
    day: Mapped[dt.date]
    active: Mapped[bool]
    notes: Mapped[list[Note]] = relationship()


class Note(Base):
    __tablename__ = "bench_cache_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("bench_cache_item.id"), index=True)
    text: Mapped[str] = mapped_column(String(50))


# -- the recipe ----------------------------------------------------------------------------------


class RecipeOption(UserDefinedOption):
    propagate_to_loaders = False


class RecipeRelationship(UserDefinedOption):
    propagate_to_loaders = True

    def __init__(self, attribute: Any) -> None:
        super().__init__()
        # Pickled with every instance, hence names and no attribute.
        self.cls, self.key = attribute.class_, attribute.key


class Recipe:
    """What the upstream recipe does: results keyed by SQL and parameters, frozen, and merged on a miss as on a hit."""

    def __init__(self, region: Any) -> None:
        self.region = region

    def listen(self, make: Any) -> None:
        event.listen(make, "do_orm_execute", self._execute)

    def _execute(self, state: Any) -> Any:
        for option in state.user_defined_options:
            if isinstance(option, RecipeOption) or (
                isinstance(option, RecipeRelationship)
                and state.is_relationship_load
                and state.loader_strategy_path[-1].key == option.key
                and issubclass(state.loader_strategy_path[-2].mapper.class_, option.cls)
            ):
                key = f"{state.statement} {state.parameters or state.statement.compile().params}"
                frozen = self.region.get_or_create(key, lambda: state.invoke_statement().freeze())
                return loading.merge_frozen_result(state.session, state.statement, frozen, load=False)()
        return None


# -- measuring -----------------------------------------------------------------------------------


def measure(jobs: list[Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the lower quartile of microseconds of each job.

    Jobs alternate, so that a slow moment of the machine hits all.
    """
    times: list[list[float]] = [[] for _ in jobs]
    for job in jobs:
        job()
        job()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for _ in range(rounds):
            for index, job in enumerate(jobs):
                started = clock()
                job()
                times[index].append((clock() - started) * 1_000_000)
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    return [statistics.quantiles(each, n=4)[0] for each in times]


class Bench:
    def __init__(self, engine: Engine, redis_url: str | None, rounds: int) -> None:
        self.engine = engine
        self.redis_url = redis_url
        self.rounds = rounds
        self.caches: list[ORMCache] = []
        self.prefix = f"bench:{uuid.uuid4().hex}"
        self.backends = ["memory", "memory_pickle", *(["redis"] if redis_url else [])]

    def clock(self, backend: str) -> Callable[[], float]:
        """Return CPU time where this process does all of the work: it hardly depends on what else the machine does."""
        alone = self.engine.dialect.name == "sqlite" and backend != "redis"
        return time.process_time if alone else time.perf_counter

    def region(self, backend: str, who: str) -> Any:
        region = make_region(key_mangler=lambda key: f"{self.prefix}:{who}:{uuid.uuid5(uuid.NAMESPACE_OID, key).hex}")
        return region.configure(f"dogpile.cache.{backend}", expiration_time=600, arguments=self.arguments(backend))

    def arguments(self, backend: str) -> dict[str, Any]:
        return {"url": self.redis_url} if backend == "redis" else {}

    def ours(self, backend: str, decoded: int = 0) -> tuple[ORMCache, Any]:
        redis_stamps = backend == "redis" and self.redis_url is not None
        stamps: Any = RedisStamps.from_url(str(self.redis_url), prefix=self.prefix) if redis_stamps else MemoryStamps()
        cache = ORMCache({"default": self.region(backend, "ours")}, stamps=stamps, decoded=decoded)
        make = sessionmaker(self.engine)
        cache.listen_on_session(make)
        self.caches.append(cache)
        return cache, make

    def recipe(self, backend: str) -> Any:
        make = sessionmaker(self.engine)
        Recipe(self.region(backend, "recipe")).listen(make)
        return make

    def peer(self, backend: str) -> Callable[[int], Any] | None:
        """List `n` items through advanced_alchemy's repository; it caches objects that it expunges from the session."""
        if importlib.util.find_spec("advanced_alchemy") is None or backend == "memory_pickle":
            return None
        from advanced_alchemy.cache import CacheConfig, CacheManager  # type: ignore[import-not-found,unused-ignore]
        from advanced_alchemy.filters import LimitOffset  # type: ignore[import-not-found,unused-ignore]
        from advanced_alchemy.repository import (  # type: ignore[import-not-found,unused-ignore]
            SQLAlchemySyncRepository,
        )

        config = CacheConfig(
            backend=f"dogpile.cache.{backend}", arguments=self.arguments(backend), key_prefix=f"{self.prefix}:peer:"
        )
        manager = CacheManager(config)

        class Items(SQLAlchemySyncRepository[Item]):  # type: ignore[misc,unused-ignore]
            model_type = Item

        def listing(rows: int) -> Any:
            with Session(self.engine) as session:
                items = Items(session=session, auto_expunge=True, cache_manager=manager)
                return items.list(LimitOffset(rows, 0), order_by=[("id", False)])

        return listing

    # -- results -----------------------------------------------------------------------------------

    def hits(self) -> None:
        header("a hit, microseconds", "plain", "recipe", "peer", "ours", "decoded", "recipe/ours", "ours/plain")
        for backend in self.backends:
            for rows in SIZES:
                self.hit(backend, rows)

    def hit(self, backend: str, rows: int) -> None:
        self.rest()
        _, ours = self.ours(backend)
        recipe = self.recipe(backend)
        peer = self.peer(backend)
        statement = select(Item).order_by(Item.id).limit(rows)

        def run(make: Any, *options: Any) -> None:
            with make() as session:
                found = session.scalars(statement.options(*options)).all()
                if len(found) != rows:
                    raise SystemExit(f"{len(found)} rows, not {rows}")

        jobs: list[Callable[[], Any]] = [
            lambda: run(sessionmaker(self.engine)),
            lambda: run(recipe, RecipeOption()),
            lambda: run(ours, FromCache("default")),
        ]
        if peer is not None:
            jobs.append(lambda: peer(rows))
        plain, theirs, mine, *others = measure(jobs, self.rounds, self.clock(backend))
        self.rest()
        _, decoded = self.ours(backend, decoded=100)
        (memo,) = measure([lambda: run(decoded, FromCache("default"))], self.rounds, self.clock(backend))
        row(f"{rows:,} rows, {backend}", plain, theirs, *(others or [None]), mine, memo, theirs / mine, mine / plain)

    def misses(self) -> None:
        header("a miss, microseconds", "plain", "recipe", "ours", "recipe/ours", "ours/plain")
        for backend in self.backends:
            for rows in SIZES:
                self.miss(backend, rows)

    def miss(self, backend: str, rows: int) -> None:
        self.rest()
        cache, ours = self.ours(backend)
        region = self.region(backend, "recipe")
        recipe = sessionmaker(self.engine)
        Recipe(region).listen(recipe)
        statement = select(Item).order_by(Item.id).limit(rows)

        def run(make: Any, *options: Any) -> None:
            with make() as session:
                session.scalars(statement.options(*options)).all()

        def theirs() -> None:
            region.invalidate(hard=True)
            run(recipe, RecipeOption())

        def mine() -> None:
            cache.invalidate_all()
            run(ours, FromCache("default"))

        bare, other, own = measure(
            [lambda: run(sessionmaker(self.engine)), theirs, mine], max(5, self.rounds // 2), self.clock(backend)
        )
        row(f"{rows:,} rows, {backend}", bare, other, own, other / own, own / bare)

    def collections(self, backend: str) -> None:
        self.rest()
        _, ours = self.ours(backend)
        recipe = self.recipe(backend)
        statement = select(Item).where(Item.id <= 100)

        def walk(make: Any, *options: Any) -> None:
            with make() as session:
                if sum(len(item.notes) for item in session.scalars(statement.options(*options)).all()) != 500:
                    raise SystemExit("wrong number of notes")

        jobs: list[Callable[[], Any]] = [
            lambda: walk(sessionmaker(self.engine)),
            lambda: walk(sessionmaker(self.engine), selectinload(Item.notes)),
            lambda: walk(recipe, RecipeRelationship(Item.notes)),
            lambda: walk(ours, RelationshipCache(Item.notes, "default")),
        ]
        lazy, eager, theirs, mine = measure(jobs, max(5, self.rounds // 4), self.clock(backend))
        row(backend, lazy, eager, theirs, mine, theirs / mine, mine / lazy)

    def keys(self, backend: str) -> None:
        self.rest()
        cache, ours = self.ours(backend)
        hundred = range(1, 101)

        def plain(keys: Any) -> None:
            with Session(self.engine) as session:
                for key in keys:
                    session.get_one(Item, key)

        def one() -> None:
            with ours() as session:
                cache.get(session, Item, 1)

        def many() -> None:
            with ours() as session:
                if len(cache.get_many(session, Item, hundred)) != 100:
                    raise SystemExit("not all found")

        get, mine, gets, all_ = measure(
            [lambda: plain([1]), one, lambda: plain(hundred), many], self.rounds, self.clock(backend)
        )
        row(backend, get, mine, gets, all_, mine / get, all_ / gets)

    def stamps(self, backend: str) -> None:
        self.rest()
        cache, guarded = self.ours(backend)
        store: Any = MemoryStamps()
        if backend == "redis":
            store = RedisStamps.from_url(str(self.redis_url), prefix=self.prefix)
        five = [f"t:{number}" for number in range(5)]

        def commit(make: Any) -> None:
            with make() as session:
                session.execute(update(Note).where(Note.id == 1).values(text="x"))
                session.commit()

        def pair() -> None:
            store.mark("lease", five[:1], 30)
            store.done("lease", five[:1])

        one, many, both = measure([lambda: store.read(five[:1]), lambda: store.read(five), pair], self.rounds * 4)
        again = sessionmaker(self.engine)
        (after,) = measure([lambda: commit(guarded)], self.rounds * 4, self.clock(backend))
        cache.detach()  # It watches the engine, whoever writes.
        (before,) = measure([lambda: commit(again)], self.rounds * 4, self.clock(backend))
        row(backend, one, many, both, before, after, after / before)

    def rest(self) -> None:
        """Let no cache watch the engine that is not measured."""
        while self.caches:
            self.caches.pop().detach()

    def clean(self) -> None:
        if self.redis_url:
            import redis

            with redis.Redis.from_url(self.redis_url) as client:
                for key in client.scan_iter(match=f"*{self.prefix}*", count=1000):
                    client.delete(key)


def header(title: str, *columns: str) -> None:
    print(f"\n| {title:<38} |" + "".join(f" {column:>14} |" for column in columns))
    print(f"| {'-' * 38} |" + f" {'-' * 13}: |" * len(columns))


def row(title: str, *cells: float | None) -> None:
    shown = ("-" if cell is None else f"{cell:,.0f}" if cell >= 100 else f"{cell:,.2f}" for cell in cells)
    print(f"| {title:<38} |" + "".join(f" {cell:>14} |" for cell in shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="sqlite://")
    parser.add_argument("--redis")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    pool: dict[str, Any] = {"poolclass": StaticPool} if options.url == "sqlite://" else {}
    engine = create_engine(options.url, **pool)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    moment = dt.datetime(2024, 5, 17, 12, 30)  # noqa: DTZ001 - a plain column
    with engine.begin() as connection:
        connection.execute(
            insert(Item),
            [
                {"id": key, "name": f"name {key}", "email": f"{key}@example.org", "score": key / 7,
                 "price": Decimal(key) / 100, "created": moment, "day": moment.date(), "active": key % 2 == 0}
                for key in range(1, 1001)
            ],
        )  # fmt: skip
        connection.execute(insert(Note), [{"item_id": key % 100 + 1, "text": f"note {key}"} for key in range(500)])
    print(
        f"{engine.dialect.name}; SQLAlchemy {sqlalchemy.__version__}, "
        f"Python {platform.python_version()}; {options.rounds} rounds"
    )
    bench = Bench(engine, options.redis, options.rounds)
    try:
        bench.hits()
        bench.misses()
        header("100 lazy collections of 5", "lazy", "selectinload", "recipe", "ours", "recipe/ours", "ours/lazy")
        for backend in bench.backends:
            bench.collections(backend)
        header("by primary key", "plain get", "cache.get", "100 gets", "get_many", "one/plain", "many/plain")
        for backend in bench.backends:
            bench.keys(backend)
        header("what stamps cost", "read, 1 tag", "read, 5 tags", "mark + done", "plain commit", "guarded", "ratio")
        for backend in bench.backends:
            if backend != "memory_pickle":
                bench.stamps(backend)
    finally:
        bench.rest()
        bench.clean()
        Base.metadata.drop_all(engine)
        engine.dispose()


if __name__ == "__main__":
    main()
