"""Several databases behind one session: rules route, merge and refuse.

`sharded_sessionmaker` makes sessions over `Shards`. A `ShardKey` says by which column, and by which router, the rows of
a class are distributed; `FollowsParent` has rows follow their parent. Statements go to the shards that their conditions
leave. What several shards answer is put together as one database would have answered, or refused by name.

**When not to use it.** One database with partitions and replicas serves nearly every application. Clusters that route
by themselves (Citus, Vitess, CockroachDB, YugabyteDB) are one database to SQLAlchemy: use a plain session with them.

>>> from sqlalchemy import create_engine, func, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
>>> from sqlalchemy.pool import StaticPool
>>> from sqla_patterns.sharding import LookupRouter, ShardKey, Shards, create_all, explain, sharded_sessionmaker
>>> class Base(DeclarativeBase): ...
>>> class Place(Base):
...     __tablename__ = "sharded_place"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     continent: Mapped[str]
...     city: Mapped[str]
>>> shards = Shards.from_engines({name: create_engine("sqlite://", poolclass=StaticPool) for name in ("a", "b")})
>>> create_all(shards, Base.metadata)
>>> Session = sharded_sessionmaker(shards, keys=[ShardKey(Place.continent, LookupRouter({"Asia": "a", "Europe": "b"}))])
>>> with Session() as session:
...     session.add_all([Place(continent="Asia", city="Tokyo"), Place(continent="Europe", city="Bern")])
...     session.commit()
...     print(session.scalars(select(Place.city).order_by(Place.city).limit(1)).all())
...     print(session.scalar(select(func.count()).select_from(Place)))
...     print(explain(session, select(Place).where(Place.continent == "Asia")).shards)
['Bern']
2
frozenset({'a'})

**How it holds.** A form of statement is compiled once more when it is first executed, to see what it joins and by what
it is conditioned; the plan is kept by the statement's cache key. A commit that fails half way says what has become of
each shard, and leaves no connection with an open transaction in a pool.

**Cost.** A statement for one shard takes up to 1.15 times that of a bare ``ShardedSession``
(``benchmarks/sharding.py``). Statements for several shards are sent one after the other.

.. seealso:: :mod:`sqlalchemy.ext.horizontal_shard`
"""

from ._errors import (
    AmbiguousIdentityError,
    ClockMovedBackError,
    CrossShardJoinError,
    CrossShardRelationshipError,
    PartialCommitError,
    ScatterForbiddenError,
    ScatterWarning,
    ShardingError,
    ShardKeyChangedError,
    ShardNotNamedError,
    TransactionFailedError,
    TwoPhaseUnavailableError,
    UnmergeableScatterError,
    UnroutableKeyError,
)
from ._explain import RoutingPlan, explain
from ._factories import async_sharded_sessionmaker, sharded_sessionmaker
from ._ids import BlockSequence, ShardId, SnowflakeId, uuid7
from ._keys import FollowsParent, ShardKey, ShardRule
from ._moves import move
from ._pin import pinned_to
from ._routers import (
    CallableRouter,
    ConsistentHashRouter,
    HashRouter,
    LookupRouter,
    ModuloRouter,
    RangeRouter,
    ShardRouter,
    TenantRouter,
)
from ._routing import Choosers
from ._shards import Shards, create_all, drop_all, for_each_shard

__all__ = (
    "AmbiguousIdentityError",
    "BlockSequence",
    "CallableRouter",
    "Choosers",
    "ClockMovedBackError",
    "ConsistentHashRouter",
    "CrossShardJoinError",
    "CrossShardRelationshipError",
    "FollowsParent",
    "HashRouter",
    "LookupRouter",
    "ModuloRouter",
    "PartialCommitError",
    "RangeRouter",
    "RoutingPlan",
    "ScatterForbiddenError",
    "ScatterWarning",
    "ShardId",
    "ShardKey",
    "ShardKeyChangedError",
    "ShardNotNamedError",
    "ShardRouter",
    "ShardRule",
    "ShardingError",
    "Shards",
    "SnowflakeId",
    "TenantRouter",
    "TransactionFailedError",
    "TwoPhaseUnavailableError",
    "UnmergeableScatterError",
    "UnroutableKeyError",
    "async_sharded_sessionmaker",
    "create_all",
    "drop_all",
    "explain",
    "for_each_shard",
    "move",
    "pinned_to",
    "sharded_sessionmaker",
    "uuid7",
)
