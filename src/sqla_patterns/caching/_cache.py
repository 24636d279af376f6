"""`ORMCache`: it listens to sessions, and answers statements that have a cache option."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from dogpile.cache.region import CacheRegion
from sqlalchemy import Engine, inspect
from sqlalchemy.orm import InstanceState, Query, RelationshipProperty, Session

from .._attach import Attachment, SessionTarget, attach
from .._session import AnySession, SyncSession, resolve_any_session, resolve_session
from .._sqlalchemy import invoke
from ..exceptions import InvalidArgumentError, StateError
from . import _replay
from ._arguments import engines_of, regions_by_name, stamp_store, sync_engine
from ._codec import Codec, TypedCodec
from ._decoded import DecodedRows
from ._default_stamps import default_stamps
from ._errors import UncacheableStatementError, cache_miss
from ._explain import EXPLAIN, CachePlan, Explanation, explain
from ._fill_locks import FillLocks
from ._fork_detector import ForkDetector
from ._freshness import Freshness
from ._lazy_loads import collection_tags, keep_batch, relationship_tags
from ._options import FromCache, RelationshipCache, Tag
from ._primary_key_reads import (
    PRIMARY_KEY_REQUEST,
    PrimaryKeyRequest,
    answer_request,
    get_many,
    hashable_key,
    object_tag,
)
from ._reader import Bypass, Modes, Reader, user_tag
from ._regions import Regions, unknown_region
from ._side_tasks import SideTasks
from ._stamps import StampStore
from ._stats import CacheEvent, CacheEvents, CacheStats
from ._tags import tables_of

if TYPE_CHECKING:
    from sqlalchemy import Executable
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.orm import ORMExecuteState

    from .._typing import AnyAttribute, AnyResult, AnyState, PrimaryKey
    from ._compiled_plans import CompiledPlan

M = TypeVar("M")

#: Values of one statement for which its tag is remembered.
_STATEMENT_TAGS: Final = 200


class ORMCache:
    """A component that answers statements with a `FromCache` or `RelationshipCache` option from dogpile.cache regions.

    Args:
        regions: Regions by name; may be filled later. A region alone is the one with the name ``"default"``.
        namespace: A part of every cache key, for applications or releases that share a cache and must not share
            entries.
        vary: A value that every result depends on and that no statement shows, as for `FromCache`.
        depends: Tables by the view that reads them: ``{"active_person": ["person"]}``; mapped classes and tables work
            as well.
        on_error: What a commit does when the stamp store does not answer: ``"degrade"`` commits, and once the store
            answers again everything is invalidated; ``"raise"`` refuses to commit.
        raw_dml: What writes in ``text()`` do that do not declare their tables: ``"flush_all"`` invalidates everything,
            ``"raise"`` refuses them, ``"ignore"`` is for applications that never cache what they write.
        codec: Turns rows into bytes and back; `TypedCodec` unless given.
        stamps: Where it is kept when tables were last written: a store, or the URL of a Redis; chosen by the regions'
            backends unless given.
        lock_timeout: Seconds to wait for another reader that fills the same key.
        decoded: How many entries this process keeps decoded, beside the region. A hit among them costs one request to
            the stamp store and nothing else.

    Attributes:
        cache_regions: The regions by name.
        stats: Counters of hits, misses and the rest.
        events: Calls listeners for each hit, miss and the rest.
    """

    def __init__(
        self,
        regions: Mapping[str, CacheRegion] | CacheRegion,
        *,
        namespace: str = "",
        vary: Callable[[ORMExecuteState], object] | object = None,
        depends: Mapping[Any, Collection[object]] | None = None,
        on_error: Literal["degrade", "raise"] = "degrade",
        raw_dml: Literal["flush_all", "raise", "ignore"] = "flush_all",
        codec: Codec | None = None,
        stamps: StampStore | str | None = None,
        lock_timeout: float = 10.0,
        decoded: int = 0,
    ) -> None:
        if on_error not in {"degrade", "raise"}:
            raise InvalidArgumentError(f'on_error={on_error!r} must be "degrade" or "raise"')
        if raw_dml not in {"flush_all", "raise", "ignore"}:
            raise InvalidArgumentError(f'raw_dml={raw_dml!r} must be "flush_all", "raise" or "ignore"')
        self.cache_regions: Final = regions_by_name(regions)
        self.stats: Final = CacheStats()
        self.events: Final = CacheEvents()
        # The default store is made when it is first needed, which may be in another process.
        fork_detector = ForkDetector()
        self._freshness: Final = Freshness(
            stamp_store(stamps) if stamps is not None else lambda: default_stamps(self.cache_regions, fork_detector),
            on_error=on_error,
            raw_dml=raw_dml,
            depends=depends,
            observer=self._on_stamps_failure,
        )
        self._reader: Final = Reader(
            Regions(self.cache_regions, self._on_region_failure),
            self._freshness,
            TypedCodec() if codec is None else codec,
            namespace,
            vary,
            self._report,
            SideTasks(self._on_side_task_failure),
            FillLocks(lock_timeout),
            DecodedRows(decoded),
        )
        self._attachments: list[Attachment] = []

    # -- attaching -------------------------------------------------------------------------------

    def listen_on_session(self, target: SessionTarget) -> Attachment:
        """Attach the cache to sessions, and return the handle that detaches it.

        The engines that the sessions are bound to are watched for writes from now on, other engines from the first
        transaction of such a session. Where several caches are attached, the first one that has the region of a
        statement's option answers it.

        Args:
            target: A session, a session class or a session factory, of any kind.
        """
        listeners = {"do_orm_execute": self._on_execute, **self._freshness.session_listeners}
        attachment = attach(target, listeners, component=self)
        self._attachments.append(attachment)
        for engine in engines_of(target):
            self.track_engine(engine)
        return attachment

    attach = listen_on_session

    def track_engine(self, engine: Engine | AsyncEngine) -> None:
        """Watch an engine for writes that no attached session uses, such as one that is written through Core alone."""
        self._freshness.track_engine(sync_engine(engine))

    def detach(self) -> None:
        """Detach the cache from all sessions and engines."""
        for attachment in self._attachments:
            attachment.detach()
        self._attachments.clear()
        self._freshness.detach()
        self._reader.expire_listener.detach()

    # -- reading ---------------------------------------------------------------------------------

    def get(self, session: SyncSession, model: type[M], key: PrimaryKey, region: str = "default") -> M | None:
        """Return the object with that primary key from the session, the cache or the database, like ``session.get()``.

        A miss costs one SQL statement. A key that is spelled otherwise than in its row (``"1"`` for 1) is a miss each
        time. Under asyncio: ``await session.run_sync(cache.get, Person, 7)``.
        """
        session = resolve_session(session, "cache.get")
        found = get_many(self, session, model, [key], FromCache(region))
        return found.get(hashable_key(model, key))

    def get_many(
        self, session: SyncSession, model: type[M], keys: Collection[PrimaryKey], region: str = "default"
    ) -> dict[PrimaryKey, M]:
        """Return objects by primary key; keys without a row are left out.

        It costs one look-up of all keys in the cache, and one SQL statement for those that are not in it. Keys that may
        be other spellings of one that was found are asked for one by one.
        """
        session = resolve_session(session, "cache.get_many")
        return get_many(self, session, model, keys, FromCache(region))

    def explain(
        self, session: SyncSession, statement: Executable, parameters: Mapping[str, object] | None = None
    ) -> CachePlan:
        """Return what the cache does with a statement in this session, and what a hit and the database cost.

        The statement is executed twice. Under asyncio: ``await session.run_sync(cache.explain, statement)``.
        """
        return explain(self, resolve_session(session, "cache.explain"), statement, parameters)

    @contextmanager
    def bypass(self, session: AnySession) -> Generator[None]:
        """Send the statements of a session to the database, and store nothing of them."""
        mode = self._mode(resolve_any_session(session, "cache.bypass"))
        mode.bypass += 1
        try:
            yield
        finally:
            mode.bypass -= 1

    @contextmanager
    def refresh(self, session: AnySession) -> Generator[None]:
        """Send the statements of a session to the database, and replace their entries."""
        mode = self._mode(resolve_any_session(session, "cache.refresh"))
        mode.refresh += 1
        try:
            yield
        finally:
            mode.refresh -= 1

    # -- invalidating ----------------------------------------------------------------------------

    def invalidate(
        self,
        statement: Executable | Query[Any],
        parameters: Mapping[str, object] | None = None,
        opt: FromCache | None = None,
    ) -> None:
        """Invalidate the entries of one statement with these parameters, in every database, schema and tenant.

        It takes effect at once: call it after the commit of the write that it is for. Writes that the cache can see
        need no call at all.

        Args:
            statement: A ``Query`` and a ``select()`` of the same rows are one statement, whatever loader options they
                have.
            parameters: The parameters that it is executed with.
            opt: With a `RelationshipCache` the lazy loads of its relationships are invalidated instead, of all objects.
        """
        if isinstance(opt, RelationshipCache):
            self._touch({tag for cls, key in opt.relationships for tag in relationship_tags(cls, key)})
            return
        tag = self._reader.statement_tag(statement, parameters or {})
        if tag is None:
            raise UncacheableStatementError(
                f"{type(statement).__name__} has no SQL that is the same for every database, so that its entries "
                "cannot be found; call invalidate_tables() or give its option tags and call invalidate_tags()."
            )
        self._touch({tag})

    def invalidate_relationship(self, obj: object, attribute: AnyAttribute) -> None:
        """Invalidate the cached lazy load of one attribute of one object."""
        state = _persistent_state(obj)
        prop = attribute.property
        if not isinstance(prop, RelationshipProperty):
            raise InvalidArgumentError(f"{attribute!r} is no relationship, so that no lazy load of it is cached")
        self._touch(collection_tags(state, prop))

    def invalidate_object(self, obj: object) -> None:
        """Invalidate what `get()` and `get_many()` have cached of one object, not what statements have."""
        state = _persistent_state(obj)
        self._touch({object_tag(state.mapper, tuple(state.identity or ()))})

    def invalidate_tables(self, *tables: Tag) -> None:
        """Invalidate everything that depends on these tables, for writes that the cache cannot see.

        Args:
            tables: Mapped classes, tables or names of tables.
        """
        self._freshness.touch_tables(frozenset(name for table in tables for name in tables_of(table)))
        self._report(CacheEvent("invalidate", reason="tables"))

    def invalidate_tags(self, *tags: str) -> None:
        """Invalidate everything that has one of these words in its ``tags``."""
        self._touch({user_tag(tag) for tag in tags})

    def invalidate_all(self, *, drop_leases: bool = False) -> None:
        """Invalidate everything.

        Args:
            drop_leases: Forget prepared transactions too, if they will never be committed or rolled back.
        """
        self._freshness.touch_all(drop_leases=drop_leases)
        self._report(CacheEvent("invalidate", reason="all"))

    # -- listening -------------------------------------------------------------------------------

    def _on_execute(self, state: ORMExecuteState) -> AnyResult | None:
        if not (state.is_select or state.is_from_statement):
            return None
        if _chosen(state) is None:
            return None
        later = [each for each in _replay.later_listeners(state) if _cache_of(each) is not None]
        outcome = _replay.run_later_listeners(state, later)
        if outcome.result is not None:
            return outcome.result
        # The other listeners have been called, and may have changed the options.
        option = _chosen(state)
        cache = None if option is None else _responsible(state, option, [self, *map(_cache_of, later)])
        answer = None if option is None or cache is None else cache._answer(state, option)
        if answer is None and outcome.must_answer:
            return invoke(state)
        return answer

    def _answer(self, state: ORMExecuteState, option: FromCache) -> AnyResult | None:
        explanation: Explanation | None = state.execution_options.get(EXPLAIN)
        request: PrimaryKeyRequest | None = state.execution_options.get(PRIMARY_KEY_REQUEST)
        if request is not None and not request.pending:
            request = None
        started = time.perf_counter()
        lookup = self._reader.look_up(state, option, partial(self._tags_on_request, state, option, request))
        if isinstance(lookup, Bypass):
            self._report(CacheEvent("bypass", option.region, reason=lookup.reason))
            # The user may still allow the database on purpose, with `cache.bypass()`.
            if option.ignore_expiration and lookup.reason != "bypass":
                raise cache_miss(option.region, _sql_of(state.statement), lookup.reason)
            if explanation is not None:
                explanation.note(option.region, lookup.reason)
            return None
        if request is not None:
            return answer_request(self._reader, state, lookup, request)
        if explanation is not None:
            explanation.note(option.region, None, lookup, time.perf_counter() - started)
        if isinstance(option, RelationshipCache):
            self._reader.side_tasks.attempt(
                "look up a batch of lazy loads",
                option.region,
                lambda: keep_batch(self._reader, state, lookup),
                None,
            )
        return self._reader.answer(lookup)

    def _tags_on_request(
        self,
        state: ORMExecuteState,
        option: FromCache,
        request: PrimaryKeyRequest | None,
        plan: CompiledPlan,
        values: bytes,
    ) -> frozenset[str]:
        """Return the tags by which the statement is invalidated on request."""
        if request is not None:
            return frozenset(request.tags.values())
        if isinstance(option, RelationshipCache):
            prop = cast("Any", state.loader_strategy_path)[-1]
            return relationship_tags(prop.parent.class_, prop.key, state.lazy_loaded_from)
        statement, parameters = _replay.first_statement(state)
        if statement is not state.statement:
            tag = self._reader.statement_tag(statement, parameters)
        elif values in plan.statement_tags:
            tag = plan.statement_tags[values]
        else:
            if len(plan.statement_tags) >= _STATEMENT_TAGS:
                plan.statement_tags.clear()
            tag = plan.statement_tags[values] = self._reader.statement_tag(statement, parameters)
        return frozenset() if tag is None else frozenset({tag})

    # -- helpers ---------------------------------------------------------------------------------

    def _mode(self, session: Session) -> Modes:
        return self._reader.modes.setdefault(session, Modes())

    def _touch(self, tags: Collection[str]) -> None:
        self._freshness.touch(tags)
        self._report(CacheEvent("invalidate", reason="tags", tags=frozenset(tags)))

    def _report(self, event: CacheEvent) -> None:
        self.stats.count(event)
        self.events.send(event)

    def _on_region_failure(self, region: str, error: Exception) -> None:
        self._report(CacheEvent("error", region, reason=f"{type(error).__name__}: {error}"))

    def _on_side_task_failure(self, region: str, doing: str, error: Exception) -> None:
        self._report(CacheEvent("error", region, reason=f"{doing}: {type(error).__name__}: {error}"))

    def _on_stamps_failure(self, where: str, error: Exception) -> None:
        self._report(CacheEvent("error", "stamps", reason=f"{where}: {type(error).__name__}: {error}"))

    def __repr__(self) -> str:
        return f"<ORMCache of {sorted(self.cache_regions)}>"


def _sql_of(statement: Executable) -> str:
    """Return the SQL of a statement, for the text of an error."""
    try:
        return str(statement)
    except Exception:  # noqa: BLE001 - a construct without a form for the default dialect raises anything
        return type(statement).__name__


def _chosen(state: ORMExecuteState) -> FromCache | None:
    """Return the option for this statement: the first one that fits, a `RelationshipCache` before a `FromCache`.

    Loads that follow from a statement, as those of ``selectinload()``, have all of its options.
    """
    path: Any = state.loader_strategy_path
    chosen: FromCache | None = None
    for option in state.user_defined_options:
        if isinstance(option, RelationshipCache):
            fitting = option.for_path(path[-2].mapper, path[-1].key) if path else None
            if fitting is not None:
                return fitting
        elif isinstance(option, FromCache) and chosen is None:
            chosen = option
    return chosen


def _cache_of(listener: object) -> ORMCache | None:
    """Return the cache that a listener belongs to."""
    owner: object = getattr(listener, "__self__", None)
    return owner if isinstance(owner, ORMCache) else None


def _responsible(state: ORMExecuteState, option: FromCache, caches: Sequence[ORMCache | None]) -> ORMCache | None:
    """Return the cache that answers: the one that was asked, or the first that has the region.

    Raises:
        UnknownRegionError: None has it.
    """
    owner = _owner(state)
    if owner is not None:
        return owner if owner in caches else None
    attached = list(dict.fromkeys(cache for cache in caches if cache is not None))
    for cache in attached:
        if option.region in cache.cache_regions:
            return cache
    raise unknown_region(option.region, [name for cache in attached for name in cache.cache_regions])


def _owner(state: ORMExecuteState) -> ORMCache | None:
    """Return the cache of whose method the statement is a part."""
    asked: object = None
    request: PrimaryKeyRequest | None = state.execution_options.get(PRIMARY_KEY_REQUEST)
    explanation: Explanation | None = state.execution_options.get(EXPLAIN)
    if request is not None and request.pending:
        asked = request.owner
    elif explanation is not None and not explanation.noted:
        asked = explanation.owner
    return asked if isinstance(asked, ORMCache) else None


def _persistent_state(obj: object) -> AnyState:
    """Return the state of an object that has a row.

    Raises:
        StateError: It has none.
    """
    state: AnyState | None = inspect(obj, raiseerr=False)
    if not isinstance(state, InstanceState) or state.identity is None:
        raise StateError(
            f"{obj!r} has no identity in the database, so that nothing of it can be cached; flush it first."
        )
    return state
