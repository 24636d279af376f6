"""Query caching."""

try:
    import dogpile.cache  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "sqla_patterns.caching needs dogpile.cache: pip install 'sqla-patterns[caching]'"
    ) from error

from ._cache import ORMCache as ORMCache
from ._codec import Codec as Codec
from ._codec import PickleCodec as PickleCodec
from ._codec import TypedCodec as TypedCodec
from ._errors import CacheMiss as CacheMiss
from ._options import FromCache as FromCache
from ._options import RelationshipCache as RelationshipCache
