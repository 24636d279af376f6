"""The statement options that ask for the cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy.orm import QueryableAttribute, RelationshipProperty
from sqlalchemy.orm.interfaces import UserDefinedOption

from ..exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper, ORMExecuteState

__all__ = ("FromCache", "RelationshipCache", "Tag", "Vary")

#: What a result depends on beside the tables that its statement names: a free word, or a mapped class or table.
Tag: TypeAlias = object
Vary: TypeAlias = "Callable[[ORMExecuteState], object] | object"


class FromCache(UserDefinedOption):
    """Answer this statement from the cache.

    :param region: a key of the dictionary of regions that `ORMCache` was given.
    :param cache_key: a word that adds to the key of the statement. It tells apart what the statement does not, and never makes two
        statements share an entry.
    :param expiration_time: seconds after which an entry is too old, whatever the region says.
    :param ignore_expiration: take an entry however old it is, and never ask the database: without an entry
        `CacheMiss` is raised. Writes to the tables end an entry all the same.
    :param tags: what the result depends on beside the tables in the statement: mapped classes or tables (which a view or
        ``text()`` hides), or words of your own for `ORMCache.invalidate_tags()`.
    :param vary: a value that the result depends on and that neither SQL nor parameters show, such as the role of row
        level security; or a callable that takes the :class:`~sqlalchemy.orm.ORMExecuteState` and returns it.

    >>> FromCache("default", expiration_time=60)
    FromCache('default', expiration_time=60)
    """

    propagate_to_loaders = False
    # SQLAlchemy leaves user-defined options out of statement keys, and pairs those of a cached statement with those of the
    # statement at hand by position: without a key of its own an option can end up as another one, or nowhere.
    _is_has_cache_key = True

    def __init__(
        self,
        region: str = "default",
        cache_key: str | None = None,
        expiration_time: float | None = None,
        ignore_expiration: bool = False,
        *,
        tags: Collection[Tag] = (),
        vary: Vary = None,
    ) -> None:
        super().__init__()
        if isinstance(tags, str):
            raise InvalidArgumentError(f"tags={tags!r} is one word; give a collection of tags: tags=({tags!r},)")
        self.region: Final = region
        self.cache_key: Final = cache_key
        self.expiration_time: Final = expiration_time
        self.ignore_expiration: Final = ignore_expiration
        self.tags: Final = tuple(tags)
        self.vary: Final = vary

    def _gen_cache_key(self, anon_map: Any, bindparams: list[Any]) -> tuple[Any, ...]:
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
    """Answer the lazy loads of one relationship from the cache.

    The option travels with the objects that the statement loads, and acts when the attribute is read for the first time. Lazy
    loads of the same attribute on objects that one statement loaded are looked up together.

    :param attribute: ``Person.addresses``; subclasses of ``Person`` are included.

    The other parameters are those of `FromCache`.
    """

    propagate_to_loaders = True

    def __init__(
        self,
        attribute: QueryableAttribute[Any],
        region: str = "default",
        cache_key: str | None = None,
        expiration_time: float | None = None,
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
        owner: type[Any] = prop.parent.class_
        self._relationships: Mapping[tuple[type[Any], str], RelationshipCache] = {(owner, str(prop.key)): self}

    def and_(self, option: RelationshipCache) -> RelationshipCache:
        """Return an option that acts for the relationships of both; neither of the two is changed."""
        both = self._copy()
        # Where both name one relationship, the one given last wins, as it does with statement options.
        both._relationships = {**self._relationships, **option._relationships}
        return both

    def for_path(self, mapper: Mapper[Any], key: str) -> RelationshipCache | None:
        """Return the option for the relationship ``key`` of ``mapper``, if this one has it."""
        for cls in mapper.class_.__mro__:
            found = self._relationships.get((cls, key))
            if found is not None:
                return found
        return None

    @property
    def relationships(self) -> Collection[tuple[type[Any], str]]:
        """The relationships that the option acts for, as class and attribute name."""
        return self._relationships.keys()

    def _copy(self) -> RelationshipCache:
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def __repr__(self) -> str:
        names = " & ".join(f"{cls.__name__}.{key}" for cls, key in self._relationships)
        return f"RelationshipCache({names}, {super().__repr__().partition('(')[2]}"
