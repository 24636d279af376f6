"""ORM statements answered from dogpile.cache regions; after a commit, no read returns older data.

Attach an `ORMCache` to a session factory, and give the statements that are worth caching a `FromCache` option. The
relationships whose lazy loads are worth caching get a `RelationshipCache`.

.. code-block:: python

    from dogpile.cache import make_region
    from sqlalchemy import create_engine, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

    from sqla_patterns.caching import FromCache, ORMCache


    class Base(DeclarativeBase):
        pass


    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]


    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    Session = sessionmaker(engine)

    regions = {"default": make_region().configure("dogpile.cache.memory")}  # or dogpile.cache.redis
    cache = ORMCache(regions)
    cache.listen_on_session(Session)

    people = select(Person).order_by(Person.id).options(FromCache("default"))

    with Session() as session:
        session.add(Person(name="ed"))
        session.commit()
        assert [person.name for person in session.scalars(people)] == ["ed"]

    with Session() as session:
        assert [person.name for person in session.scalars(people)] == ["ed"]  # no SQL
        assert cache.stats.hits == 1
        session.scalars(people).one().name = "jack"
        session.commit()  # the entry is not served any more, in any process

    with Session() as session:
        assert [person.name for person in session.scalars(people)] == ["jack"]

    cache.detach()

**When to use it.** Statements that are read much more often than their tables are written, and that cost the database
something: joins, aggregates, a server that is a network away. `ORMCache.explain()` measures whether a statement is one
of them.

**When not to.** One row by primary key from a nearby server costs what the cache costs. Tables that are written all the
time invalidate their entries all the time. For a collection of each object of a result, ``selectinload()`` is one
statement and needs no cache. An HTTP cache saves making the objects too, and a materialised view may be all you need.

**What is promised.** A read whose transaction starts after a ``commit()`` has returned never sees older data, whichever
process wrote, by flush, bulk statement or Core. A hit has the same effect on a session as the query: it keeps pending
changes, does not bring back what was deleted, and applies the statement's loader options. Two statements share an entry
only if their answers cannot differ. The guide lists the writers that the cache cannot see.

**How.** Entries hold raw rows, from which the ORM makes objects as it does from those of a cursor. Each entry says when
its rows were read. A *stamp store* (in Redis, a database or memory) knows when each table was last written, which is
its *stamp*, and which commits are under way. A write deletes no entries: an entry that is older than the stamp of one
of its tables is not served.

**Cost.** A hit: one request to the stamp store, one to the region, no SQL, and under READ COMMITTED no database
connection, except for the first use of an engine, when the cache asks the database for its name. A miss: the same, the
statement, and one write to the region. A commit that wrote: two requests to the stamp store. A statement without a
cache option: one look at its options.

.. seealso:: `dogpile.cache <https://dogpilecache.sqlalchemy.org>`_ for regions and backends.
"""

try:
    import dogpile.cache as _dogpile  # noqa: F401 # pyright: ignore[reportUnusedImport]
except ModuleNotFoundError as error:
    raise ImportError("sqla_patterns.caching needs dogpile.cache: pip install 'sqla-patterns[caching]'") from error

from ._cache import ORMCache as ORMCache
from ._codec import Codec as Codec
from ._codec import PickleCodec as PickleCodec
from ._codec import TypedCodec as TypedCodec
from ._errors import CacheMiss as CacheMiss
from ._errors import UncacheableParameterError as UncacheableParameterError
from ._errors import UncacheableStatementError as UncacheableStatementError
from ._errors import UnknownRegionError as UnknownRegionError
from ._errors import UnsafeCodecError as UnsafeCodecError
from ._explain import CachePlan as CachePlan
from ._memory_stamps import MemoryStamps as MemoryStamps
from ._options import FromCache as FromCache
from ._options import RelationshipCache as RelationshipCache
from ._redis_stamps import RedisStamps as RedisStamps
from ._session_backend import SessionLocalBackend as SessionLocalBackend
from ._session_backend import register_session_backend as register_session_backend
from ._sql_stamps import SQLStamps as SQLStamps
from ._stamps import Epoch as Epoch
from ._stamps import Snapshot as Snapshot
from ._stamps import StampStore as StampStore
from ._stamps import StampsUnavailableError as StampsUnavailableError
from ._stats import CacheEvent as CacheEvent
from ._stats import CacheEvents as CacheEvents
from ._stats import CacheStats as CacheStats
from ._stats import RegionStats as RegionStats
from ._writes import RawWriteError as RawWriteError

__all__ = (
    "CacheEvent",
    "CacheEvents",
    "CacheMiss",
    "CachePlan",
    "CacheStats",
    "Codec",
    "Epoch",
    "FromCache",
    "MemoryStamps",
    "ORMCache",
    "PickleCodec",
    "RawWriteError",
    "RedisStamps",
    "RegionStats",
    "RelationshipCache",
    "SQLStamps",
    "SessionLocalBackend",
    "Snapshot",
    "StampStore",
    "StampsUnavailableError",
    "TypedCodec",
    "UncacheableParameterError",
    "UncacheableStatementError",
    "UnknownRegionError",
    "UnsafeCodecError",
    "register_session_backend",
)
