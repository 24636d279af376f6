"""The session component."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from sqlalchemy import Engine, inspect
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    Query,
    QueryableAttribute,
    RelationshipProperty,
    Session,
    scoped_session,
    sessionmaker,
)

from .._attach import Attachment, SessionTarget, attach
from ..exceptions import InvalidArgumentError, StateError
from . import _replay
from ._codec import Codec, TypedCodec
from ._decoded import DecodedRows
from ._errors import UncacheableStatementError
from ._explain import CachePlan
from ._guard import Guard
from ._keys import bucket, encode
from ._many import MANY, Request, answer_many, get_many, identity_of
from ._options import FromCache, RelationshipCache, Tag
from ._reader import Lookup, Modes, Reader, user_tag
from ._regions import Regions
from ._relationships import answer_siblings, collection_tag, relationship_tags
from ._stampede import FillLocks
from ._stats import CacheEvent, CacheEvents, CacheStats
from ._tags import tables_of

if TYPE_CHECKING:
    from dogpile.cache.region import CacheRegion
    from sqlalchemy import Executable, Result
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import ORMExecuteState

    from ._plans import Plan
    from ._stamps import StampStore

__all__ = ("ORMCache",)

M = TypeVar("M")

_EXPLAIN: Final = "_sqla_patterns_explain"
#: Values of one statement for which its tag is remembered.
_OWN_TAGS: Final = 200


class ORMCache:
    """Answers statements that have a `FromCache` or `RelationshipCache` option from dogpile.cache regions.

    :param regions: regions by name; may be filled later.
    :param namespace: part of every key, for applications or releases that share a cache and must not share entries.
    :param vary: what every result depends on and no statement shows, as for `FromCache`.
    :param depends: tables by the view that reads them: ``{"active_person": ["person"]}``; mapped classes and tables will do as well.
    :param on_error: what a commit does when the stamp store does not answer: ``"degrade"`` commits, and the first contact afterwards
        invalidates everything; ``"raise"`` refuses to commit.
    :param raw_dml: what writes in ``text()`` do that do not declare their tables: ``"flush_all"`` invalidates everything,
        ``"raise"`` refuses them, ``"ignore"`` trusts that nobody caches what they write.
    :param codec: how rows become bytes; `TypedCodec` unless given.
    :param stamps: where it is kept when tables were last written; chosen from the regions' backends unless given.
    :param lock_timeout: seconds to wait for another's fill of the same key.
    :param decoded: how many entries this process keeps decoded, beside the region. A hit among them asks the stamps and nothing else.
    """

    def __init__(
        self,
        regions: Mapping[str, CacheRegion],
        *,
        namespace: str = "",
        vary: Callable[[ORMExecuteState], object] | object = None,
        depends: Mapping[Any, Collection[Any]] | None = None,
        on_error: Literal["degrade", "raise"] = "degrade",
        raw_dml: Literal["flush_all", "raise", "ignore"] = "flush_all",
        codec: Codec | None = None,
        stamps: StampStore | None = None,
        lock_timeout: float = 10.0,
        decoded: int = 0,
    ) -> None:
        if on_error not in {"degrade", "raise"}:
            raise InvalidArgumentError(f'on_error={on_error!r} must be "degrade" or "raise"')
        if raw_dml not in {"flush_all", "raise", "ignore"}:
            raise InvalidArgumentError(f'raw_dml={raw_dml!r} must be "flush_all", "raise" or "ignore"')
        self.cache_regions: Final = regions
        self.stats: Final = CacheStats()
        self.events: Final = CacheEvents()
        self._guard: Final = Guard(
            stamps if stamps is not None else self._default_stamps,
            on_error=on_error,
            raw_dml=raw_dml,
            depends=depends,
            observer=self._on_stamps_failure,
        )
        self._reader: Final = Reader(
            Regions(regions, self._on_region_failure),
            self._guard,
            TypedCodec() if codec is None else codec,
            namespace,
            vary,
            self._report,
            FillLocks(lock_timeout),
            DecodedRows(decoded),
        )
        self._attachments: list[Attachment] = []

    # -- attaching -------------------------------------------------------------------------------

    def listen_on_session(self, target: SessionTarget) -> Attachment:
        """Attach the cache to whatever makes sessions, and return the handle that detaches it; see `sqla_patterns._attach`.

        The engines of these sessions are watched for writes from now on, as far as they can be seen, others from their first
        transaction.
        """
        listeners = {"do_orm_execute": self._on_execute, **self._guard.session_listeners}
        attachment = attach(target, listeners, component=self)
        self._attachments.append(attachment)
        for engine in _engines_of(target):
            self.track_engine(engine)
        return attachment

    attach = listen_on_session

    def track_engine(self, engine: Engine | AsyncEngine) -> None:
        """Watch an engine for writes, for one that is written through Core alone; the engines of attached sessions are watched anyway."""
        self._guard.track_engine(_sync_engine(engine))

    def detach(self) -> None:
        """Take the cache off all sessions and engines."""
        for attachment in self._attachments:
            attachment.detach()
        self._attachments.clear()
        self._guard.detach()

    # -- reading ---------------------------------------------------------------------------------

    def get(self, session: Session, model: type[M], key: Any, region: str = "default") -> M | None:
        """Return the object with that primary key, as ``session.get()``, from the session, the cache or the database.

        One SQL statement on a miss. Under asyncio: ``await session.run_sync(cache.get, Person, 7)``.
        """
        return get_many(session, model, [key], FromCache(region), _object_tag).get(_hashable(model, key))

    def get_many(
        self, session: Session, model: type[M], keys: Collection[Any], region: str = "default"
    ) -> dict[Any, M]:
        """Return objects by primary key; keys without a row are left out.

        One look-up of all keys in the cache, and one SQL statement for those that are not in it.
        """
        return get_many(session, model, keys, FromCache(region), _object_tag)

    def explain(
        self, session: Session | AsyncSession, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> CachePlan:
        """Say what the cache makes of a statement in this session, and what a hit and the database cost.

        The statement is run twice. Under asyncio: ``await session.run_sync(cache.explain, statement)``.
        """
        sync = _sync_session(session)
        first = _Explanation()
        _run(sync, statement, parameters, first)
        lookup = first.lookup
        if lookup is None:
            return CachePlan(
                first.region, first.reason or "no cache option, or the cache is not attached to this session"
            )
        cached = lookup.outcome == "hit"
        age = time.time() - lookup.created if cached else None
        # The first run may have compiled the statement and asked the database for its name.
        again = _Explanation()
        _run(sync, statement, parameters, again)
        seen = again.lookup
        return CachePlan(
            lookup.region.name,
            None,
            lookup.key,
            lookup.plan.sql,
            lookup.tags,
            cached,
            age,
            again.rows,
            lookup.size,
            lookup.fill_seconds,
            again.look_seconds + seen.hit_seconds if seen is not None and seen.outcome == "hit" else None,
        )

    @contextmanager
    def bypass(self, session: Session | AsyncSession) -> Generator[None]:
        """Let the statements of a session go to the database, and keep nothing of them."""
        mode = self._mode(session)
        mode.bypass += 1
        try:
            yield
        finally:
            mode.bypass -= 1

    @contextmanager
    def refresh(self, session: Session | AsyncSession) -> Generator[None]:
        """Let the statements of a session go to the database, and replace their entries."""
        mode = self._mode(session)
        mode.refresh += 1
        try:
            yield
        finally:
            mode.refresh -= 1

    # -- invalidating ----------------------------------------------------------------------------

    def invalidate(
        self,
        statement: Executable | Query[Any],
        parameters: Mapping[str, Any] | None = None,
        opt: FromCache | None = None,
    ) -> None:
        """End the entries of one statement with these parameters: on every database, in every schema, for every tenant.

        A ``Query`` and a ``select()`` of the same rows are one statement, whatever loader options they have. With a `RelationshipCache` the
        lazy loads of its relationships are ended instead, of all objects. It takes effect at once: call it after the commit
        of what it is for. Writes that the cache can see need no call at all.
        """
        if isinstance(opt, RelationshipCache):
            self._touch({tag for cls, key in opt.relationships for tag in relationship_tags(cls, key)})
            return
        tag = self._reader.statement_tag(statement, parameters or {})
        if tag is None:
            raise UncacheableStatementError(
                f"{type(statement).__name__} has no SQL that is the same for every database, so that its entries cannot be told; "
                "call invalidate_tables() or give its option tags and call invalidate_tags()."
            )
        self._touch({tag})

    def invalidate_relationship(self, obj: object, attribute: QueryableAttribute[Any]) -> None:
        """End the cached lazy load of one attribute of one object."""
        state = _persistent_state(obj)
        prop = attribute.property
        if not isinstance(prop, RelationshipProperty):
            raise InvalidArgumentError(f"{attribute!r} is no relationship, so that no lazy load of it is cached")
        self._touch(collection_tag(state, prop))

    def invalidate_object(self, obj: object) -> None:
        """End what `get()` and `get_many()` have cached of one object; statements are ended by `invalidate_tables()`."""
        state = _persistent_state(obj)
        self._touch({_object_tag(state.mapper, tuple(state.identity or ()))})

    def invalidate_tables(self, *tables: Tag) -> None:
        """End whatever depends on the tables: mapped classes, tables or names; for writes that the cache cannot see."""
        self._guard.touch_tables(frozenset(name for table in tables for name in tables_of(table)))
        self._report(CacheEvent("invalidate", reason="tables"))

    def invalidate_tags(self, *tags: str) -> None:
        """End whatever has one of these words in its ``tags``."""
        self._touch({user_tag(tag) for tag in tags})

    def invalidate_all(self, *, drop_leases: bool = False) -> None:
        """End everything.

        :param drop_leases: forget prepared transactions too, of which nobody has heard and nobody ever will.
        """
        self._guard.touch_all(drop_leases=drop_leases)
        self._report(CacheEvent("invalidate", reason="all"))

    # -- listening -------------------------------------------------------------------------------

    def _on_execute(self, state: ORMExecuteState) -> Result[Any] | None:
        if not (state.is_select or state.is_from_statement):
            return None
        if _chosen(state) is None:
            return None
        turn = _replay.last_turn(state)
        if not isinstance(turn, bool):
            return turn
        # Others have had their say, and may have changed the options.
        option = _chosen(state)
        answer = None if option is None else self._answer(state, option)
        if answer is None and turn:
            return state.invoke_statement()
        return answer

    def _answer(self, state: ORMExecuteState, option: FromCache) -> Result[Any] | None:
        explanation: _Explanation | None = state.execution_options.get(_EXPLAIN)
        request: Request | None = state.execution_options.get(MANY)
        if request is not None and not request.pending:
            request = None
        started = time.perf_counter()
        reason = self._reader.bypass_reason(state)
        found = (
            reason
            if reason is not None
            else self._reader.look(state, option, partial(self._own_tags, state, option, request))
        )
        if isinstance(found, str):
            self._report(CacheEvent("bypass", option.region, reason=found))
            if explanation is not None:
                explanation.note(option.region, found)
            return None
        if request is not None:
            return answer_many(self._reader, state, found, request)
        if explanation is not None:
            explanation.note(option.region, None, found, time.perf_counter() - started)
        if isinstance(option, RelationshipCache):
            answer_siblings(self._reader, state, found)
        return self._reader.answer(found)

    def _own_tags(
        self, state: ORMExecuteState, option: FromCache, request: Request | None, plan: Plan, values: bytes
    ) -> frozenset[str]:
        """The tags by which the statement is invalidated on demand."""
        if request is not None:
            return frozenset(request.tags.values())
        if isinstance(option, RelationshipCache):
            prop = cast("Any", state.loader_strategy_path)[-1]
            return relationship_tags(prop.parent.class_, prop.key, state.lazy_loaded_from)
        statement, parameters = _replay.first_statement(state)
        if statement is not state.statement:
            tag = self._reader.statement_tag(statement, parameters)
        elif values in plan.own_tags:
            tag = plan.own_tags[values]
        else:
            if len(plan.own_tags) >= _OWN_TAGS:
                plan.own_tags.clear()
            tag = plan.own_tags[values] = self._reader.statement_tag(statement, parameters)
        return frozenset() if tag is None else frozenset({tag})

    # -- small things ----------------------------------------------------------------------------

    def _mode(self, session: Session | AsyncSession) -> Modes:
        return self._reader.modes.setdefault(_sync_session(session), Modes())

    def _touch(self, tags: Collection[str]) -> None:
        self._guard.touch(tags)
        self._report(CacheEvent("invalidate", reason="tags", tags=frozenset(tags)))

    def _report(self, event: CacheEvent) -> None:
        self.stats.count(event)
        self.events.send(event)

    def _on_region_failure(self, region: str, error: Exception) -> None:
        self._report(CacheEvent("error", region, reason=f"{type(error).__name__}: {error}"))

    def _on_stamps_failure(self, where: str, error: Exception) -> None:
        self._report(CacheEvent("error", "stamps", reason=f"{where}: {type(error).__name__}: {error}"))

    def _default_stamps(self) -> StampStore:
        from ._default_stamps import default_stamps

        return default_stamps(self.cache_regions)

    def __repr__(self) -> str:
        return f"<ORMCache of {sorted(self.cache_regions)}>"


def _chosen(state: ORMExecuteState) -> FromCache | None:
    """The option that is for this statement; of each kind the first one that fits.

    Loads that follow from a statement, as those of ``selectinload()``, have all of its options.
    """
    path: Any = state.loader_strategy_path
    chosen: FromCache | None = None
    for option in state.user_defined_options:
        if isinstance(option, RelationshipCache):
            own = option.for_path(path[-2].mapper, path[-1].key) if path else None
            if own is not None:
                return own
        elif isinstance(option, FromCache) and chosen is None:
            chosen = option
    return chosen


class _Explanation:
    """What `ORMCache.explain()` wants to know of the statement that it runs; statements that follow from it are not asked for."""

    def __init__(self) -> None:
        self.noted = False
        self.region = ""
        self.reason: str | None = None
        self.lookup: Lookup | None = None
        self.look_seconds = 0.0
        self.rows = 0

    def note(self, region: str, reason: str | None, lookup: Lookup | None = None, seconds: float = 0.0) -> None:
        if not self.noted:
            self.noted = True
            self.region, self.reason, self.lookup, self.look_seconds = region, reason, lookup, seconds


def _run(session: Session, statement: Executable, parameters: Mapping[str, Any] | None, note: _Explanation) -> None:
    result: Any = session.execute(statement, cast("Any", parameters), execution_options={_EXPLAIN: note})
    if getattr(result, "_attributes", {}).get("filtered", False):
        result = result.unique()
    note.rows = len(result.all())


def _sync_session(session: Session | AsyncSession) -> Session:
    return session if isinstance(session, Session) else session.sync_session


def _sync_engine(engine: Any) -> Engine:
    return engine if isinstance(engine, Engine) else cast("Engine", engine.sync_engine)


def _engines_of(target: object) -> list[Engine]:
    """The engines that a session or its factory names."""
    if isinstance(target, scoped_session):
        target = cast("Any", target).session_factory
    settings: Mapping[str, Any] = {}
    if isinstance(target, sessionmaker) or hasattr(target, "kw"):
        settings = cast("Any", target).kw
    elif not isinstance(target, type):
        settings = {"bind": getattr(target, "bind", None)}
    found: list[object] = [settings.get("bind"), *(settings.get("binds") or {}).values()]
    engines = [getattr(each, "sync_engine", each) for each in found if each is not None]
    return [cast("Any", each).engine for each in engines]


def _persistent_state(obj: object) -> InstanceState[Any]:
    state: InstanceState[Any] | None = inspect(obj, raiseerr=False)
    if not isinstance(state, InstanceState) or state.identity is None:
        raise StateError(
            f"{obj!r} has no identity in the database, so that nothing of it can be cached; flush it first."
        )
    return state


def _hashable(model: type[Any], key: Any) -> Any:
    return identity_of(inspect(model), key) if isinstance(key, (list, Mapping)) else key


def _object_tag(mapper: Mapper[Any], identity: tuple[Any, ...]) -> str:
    base = mapper.base_mapper.class_
    words = [encode(f"{base.__module__}.{base.__qualname__}", "the class")]
    return bucket("o", [*words, *(encode(each, f"the key of {mapper.class_.__name__}") for each in identity)])
