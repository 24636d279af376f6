"""`FromCache` and `RelationshipCache`, the options of statements whose results or lazy loads are cached."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.interfaces import UserDefinedOption

from ..exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from sqlalchemy.orm import ORMExecuteState

    from .._typing import AnyAttribute, AnyMapper, MappedClass

#: What a result depends on beside the tables that its statement names: a word, a mapped class or a table.
Tag: TypeAlias = object
#: A value that the result depends on, or a function that returns it.
Vary: TypeAlias = "Callable[[ORMExecuteState], object] | object"


def _seconds(value: object) -> float | None:
    """Return a duration in seconds.

    Raises:
        InvalidArgumentError: It is none.
    """
    if value is None:
        return None
    seconds: object = value.total_seconds() if isinstance(value, timedelta) else value
    # dogpile's -1 is without end; True is an int.
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and (seconds >= 0 or seconds == -1):
        return seconds
    raise InvalidArgumentError(
        f"expiration_time={value!r} is no duration; give seconds that are not negative, or a timedelta"
    )


def _check_words(region: object, cache_key: object) -> None:
    """Raise if one of the first two arguments is no string, as when a duration is given for the second."""
    if not isinstance(region, str):
        raise InvalidArgumentError(
            f"region={region!r} is no name; give a key of the dictionary that ORMCache() was given"
        )
    if cache_key is not None and not isinstance(cache_key, str):
        raise InvalidArgumentError(
            f"cache_key={cache_key!r} is no string; for seconds after which an entry is too old write "
            f"expiration_time={cache_key!r}"
        )


class FromCache(UserDefinedOption):
    """A statement option: the statement is answered from the cache.

    >>> FromCache("default", expiration_time=60)
    FromCache('default', expiration_time=60)

    Args:
        region: A key of the dictionary of regions that `ORMCache` was given.
        cache_key: A word that is added to the cache key of the statement. It distinguishes what the statement does not
            show, and never makes two statements share an entry.
        expiration_time: After how long an entry is too old, whatever the region says: seconds, or a
            `~datetime.timedelta`; -1 is never, as for dogpile.
        ignore_expiration: Take an entry however old it is, and never ask the database: without an entry `CacheMiss` is
            raised. Writes to the tables end an entry all the same.
        tags: What the result depends on beside the tables in the statement: mapped classes or tables (which a view or
            ``text()`` hides), or words for `ORMCache.invalidate_tags()`.
        vary: A value that the result depends on and that neither SQL nor parameters show, such as the role of row level
            security; or a callable that takes the :class:`~sqlalchemy.orm.ORMExecuteState` and returns it. With it,
            statements that show the session or the time are cached too.
    """

    propagate_to_loaders = False
    # SQLAlchemy leaves user-defined options out of statement keys, and pairs those of a cached statement with those of
    # the statement at hand by position: without a key an option could end up as another one, or be lost.
    _is_has_cache_key = True

    def __init__(
        self,
        region: str = "default",
        cache_key: str | None = None,
        expiration_time: float | timedelta | None = None,
        ignore_expiration: bool = False,
        *,
        tags: Collection[Tag] = (),
        vary: Vary = None,
    ) -> None:
        super().__init__()
        _check_words(region, cache_key)
        if isinstance(tags, str):
            raise InvalidArgumentError(f"tags={tags!r} is one word; give a collection of tags: tags=({tags!r},)")
        self.region: Final = region
        self.cache_key: Final = cache_key
        self.expiration_time: Final = _seconds(expiration_time)
        self.ignore_expiration: Final = ignore_expiration
        self.tags: Final = tuple(tags)
        self.vary: Final = vary

    def _gen_cache_key(self, anon_map: object, bindparams: object) -> tuple[object, ...]:
        return (type(self), self.propagate_to_loaders)

    def __repr__(self) -> str:
        words = [repr(self.region)]
        for name, default in (
            ("cache_key", None),
            ("expiration_time", None),
            ("ignore_expiration", False),
            ("tags", ()),
            ("vary", None),
        ):
            value = getattr(self, name)
            if value != default:
                words.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(words)})"


class RelationshipCache(FromCache):
    """A statement option: the lazy loads of one relationship are answered from the cache.

    The option is kept with the objects that the statement loads, and takes effect when the attribute is read for the
    first time. Lazy loads of the same attribute on objects that one statement loaded are looked up together.

    Args:
        attribute: ``Person.addresses``; subclasses of ``Person`` are included.
        region: As for `FromCache`, and so are the other arguments.
        cache_key: See `FromCache`.
        expiration_time: See `FromCache`.
        ignore_expiration: See `FromCache`.
        tags: See `FromCache`.
        vary: See `FromCache`.
    """

    propagate_to_loaders = True

    def __init__(
        self,
        attribute: AnyAttribute,
        region: str = "default",
        cache_key: str | None = None,
        expiration_time: float | timedelta | None = None,
        ignore_expiration: bool = False,
        *,
        tags: Collection[Tag] = (),
        vary: Vary = None,
    ) -> None:
        super().__init__(region, cache_key, expiration_time, ignore_expiration, tags=tags, vary=vary)
        prop = getattr(attribute, "property", None)
        if not isinstance(prop, RelationshipProperty):
            raise InvalidArgumentError(
                f"RelationshipCache() needs a relationship such as Person.addresses, not {attribute!r}"
            )
        owner: MappedClass = prop.parent.class_
        self._relationships: Mapping[tuple[MappedClass, str], RelationshipCache] = {(owner, str(prop.key)): self}

    def and_(self, option: RelationshipCache) -> RelationshipCache:
        """Return an option for the relationships of both; neither of the two is changed."""
        both = self._copy()
        # Where both name one relationship, the one given last wins, as it does with statement options.
        both._relationships = {**self._relationships, **option._relationships}
        return both

    def for_path(self, mapper: AnyMapper, key: str) -> RelationshipCache | None:
        """Return the option for the relationship ``key`` of ``mapper``, if this one includes it."""
        for cls in mapper.class_.__mro__:
            found = self._relationships.get((cls, key))
            if found is not None:
                return found
        return None

    @property
    def relationships(self) -> Collection[tuple[MappedClass, str]]:
        """The relationships that the option is for, as class and attribute name."""
        return self._relationships.keys()

    def _copy(self) -> RelationshipCache:
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def __repr__(self) -> str:
        names = " & ".join(f"{cls.__name__}.{key}" for cls, key in self._relationships)
        return f"RelationshipCache({names}, {super().__repr__().partition('(')[2]}"
