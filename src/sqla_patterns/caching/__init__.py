"""Query caching."""

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
