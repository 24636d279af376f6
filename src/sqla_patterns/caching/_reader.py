"""Answer one statement: from the cache if the entry is certain to be up to date, from the database otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from sqlalchemy.exc import CompileError

from . import _replay
from ._codec import CorruptEntryError, UnencodableValueError
from ._compiled_plans import CompiledPlans, require_tables
from ._database_names import DatabaseNames
from ._decoded import DecodedRows
from ._entries import pack, unpack_header, unpack_rows
from ._errors import UncacheableParameterError, cache_miss
from ._expire_listener import ExpireListener
from ._fill_locks import FillHistory, FillLocks
from ._keys import bucket, encode, encode_for_tag, make_cache_key
from ._read_epoch import ReadEpoch
from ._session_backend import CURRENT_SESSION
from ._stats import CacheEvent
from ._tags import tables_of

if TYPE_CHECKING:
    from sqlalchemy.orm import ORMExecuteState, Session
    from sqlalchemy.sql.compiler import SQLCompiler

    from .._typing import AnyResult
    from ._codec import Codec
    from ._compiled_plans import CompiledPlan
    from ._entries import Header
    from ._freshness import Freshness
    from ._options import FromCache
    from ._regions import Region, Regions
    from ._replay import BoundValue, Prepared, RawRows
    from ._side_tasks import SideTasks

#: Statements whose neutral SQL is remembered for invalidation.
_STATEMENTS: Final = 500


@dataclass(frozen=True, slots=True)
class Bypass:
    """The reason why a statement bypasses the cache."""

    reason: str


@dataclass(slots=True)
class Lookup:
    """One statement and its place in the cache; what happened to it is added as it happens."""

    option: FromCache
    region: Region
    prepared: Prepared
    plan: CompiledPlan
    tags: frozenset[str]
    key: str
    read_epoch: ReadEpoch
    outcome: str = ""
    fill_seconds: float = 0.0
    hit_seconds: float = 0.0
    size: int = 0
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class ServableEntry:
    """An entry that may be served, with its size in bytes and the seconds that finding it took."""

    header: Header
    raw: RawRows
    size: int
    seconds: float


@dataclass(slots=True)
class Modes:
    """How many ``bypass()`` and ``refresh()`` contexts of the cache a session is in."""

    bypass: int = 0
    refresh: int = 0


@dataclass(slots=True)
class Reader:
    """Everything that answering a statement needs."""

    regions: Regions
    freshness: Freshness
    codec: Codec
    namespace: str
    vary: Callable[[ORMExecuteState], object] | object
    report: Callable[[CacheEvent], None]
    side_tasks: SideTasks
    locks: FillLocks = field(default_factory=FillLocks)
    decoded: DecodedRows = field(default_factory=lambda: DecodedRows(0))
    database_names: DatabaseNames = field(default_factory=DatabaseNames)
    fill_history: FillHistory = field(default_factory=FillHistory)
    plans: CompiledPlans = field(default_factory=CompiledPlans)
    expire_listener: ExpireListener = field(default_factory=ExpireListener)
    modes: MutableMapping[Session, Modes] = field(default_factory=WeakKeyDictionary["Session", Modes])
    statements: _replay.CompiledCache = field(default_factory=lambda: _replay.new_lru_cache(_STATEMENTS))

    # -- deciding --------------------------------------------------------------------------------

    def look_up(
        self, state: ORMExecuteState, option: FromCache, extra_tags: Callable[[CompiledPlan, bytes], frozenset[str]]
    ) -> Lookup | Bypass:
        """Prepare a statement and find its place in the cache, or the reason why it has none.

        Args:
            state: The statement.
            option: Its cache option.
            extra_tags: Returns the tags by which the statement is invalidated on request, from its plan and the encoded
                values of its parameters.
        """
        reason = self._bypass_reason(state)
        if reason is not None:
            return Bypass(reason)
        # What this raises, a statement without cache option raises as well.
        prepared = _replay.prepare(state)
        return self.side_tasks.attempt(
            "look up", option.region, lambda: self._place(state, option, prepared, extra_tags), Bypass("error")
        )

    def _bypass_reason(self, state: ORMExecuteState) -> str | None:
        """Return why a statement bypasses the cache, as far as that shows before it is compiled."""
        mode = self.modes.get(state.session)
        if mode is not None and mode.bypass:
            return "bypass"
        if _replay.probe() is not None:
            return "unsupported_sqlalchemy"
        if state.is_executemany:
            return "executemany"
        if _replay.is_refresh(state):
            return "refresh"
        return None

    def _place(
        self,
        state: ORMExecuteState,
        option: FromCache,
        prepared: Prepared,
        extra_tags: Callable[[CompiledPlan, bytes], frozenset[str]],
    ) -> Lookup | Bypass:
        plan = self.plans.plan_of(prepared)
        region = self.regions[option.region]
        reason = plan.bypass_reason(option, prepared.values)
        if reason is not None:
            return Bypass(reason)
        require_tables(plan, option)
        # Asking for the name of the database may take the connection, whose transaction must not begin unwatched.
        self.freshness.watch(prepared.bind)
        database = self.database_names.name_of(prepared)
        try:
            values = _encoded_values(prepared.compiled, prepared.values)
        except Exception:  # noqa: BLE001 - a type that refuses a value will do so again where the statement is executed
            return Bypass("parameter")
        key = self._cache_key(state, option, prepared, plan, database, values)
        tags = self._tags(option, prepared, plan, extra_tags(plan, values))
        read_epoch = self.freshness.take_read_epoch(prepared.session, tags, prepared.bind)
        if read_epoch.bypass is not None:
            return Bypass(read_epoch.bypass)
        return Lookup(option, region, prepared, plan, tags, key, read_epoch)

    def _cache_key(
        self,
        state: ORMExecuteState,
        option: FromCache,
        prepared: Prepared,
        plan: CompiledPlan,
        database: str,
        values: bytes,
    ) -> str:
        """Return the cache key of the statement: a digest of all that its rows depend on beside the tables."""
        words: list[object] = [self.namespace, self.codec.name, database, option.cache_key]
        words += [prepared.dialect.name, prepared.dialect.driver, plan.sql, dict(prepared.schema_translate_map)]
        parts = [encode(word, "the key") for word in words]
        parts.append(encode(_replay.identity_token(prepared), "the identity token"))
        parts += [encode(_evaluate(vary, state), "the vary value") for vary in (self.vary, option.vary)]
        return make_cache_key([*parts, values])

    def key_of_part(self, lookup: Lookup, prepared: Prepared, state: ORMExecuteState) -> str:
        """Return the cache key of the same statement with other parameters."""
        values = _encoded_values(prepared.compiled, prepared.values)
        database = self.database_names.name_of(prepared)
        return self._cache_key(state, lookup.option, prepared, lookup.plan, database, values)

    def _tags(self, option: FromCache, prepared: Prepared, plan: CompiledPlan, extra: frozenset[str]) -> frozenset[str]:
        """Return all tags whose writes end the entry."""
        tables = set(plan.depends.tables)
        words: set[str] = set()
        for tag in option.tags:
            if isinstance(tag, str):
                words.add(user_tag(tag))
            else:
                tables |= tables_of(tag)
        return self.freshness.tags(prepared.bind, frozenset(tables), prepared.schema_translate_map, extra | words)

    def statement_tag(self, statement: object, parameters: Mapping[str, object]) -> str | None:
        """Return the tag of a statement in every database, schema and tenant; None if it has no neutral SQL."""
        try:
            compiled, values = _replay.compile_neutrally(statement, parameters, self.statements)
        except CompileError:
            return None
        given = sorted(_replay.given_values(compiled, values), key=lambda each: each[0])
        words = [encode_for_tag(part) for pair in given for part in pair]
        return bucket("s", [str(compiled.string).encode(), *words])

    # -- answering -------------------------------------------------------------------------------

    def answer(self, lookup: Lookup) -> AnyResult:
        """Answer the statement from the cache, or from the database and keep the rows."""
        token = CURRENT_SESSION.set(lookup.prepared.session)
        try:
            raw = self._rows(lookup)
        finally:
            CURRENT_SESSION.reset(token)
        return _replay.replay(lookup.prepared, raw)

    def _rows(self, lookup: Lookup) -> RawRows:
        mode = self.modes.get(lookup.prepared.session)
        refresh = mode is not None and bool(mode.refresh)
        moment = self.fill_history.moment()
        if not refresh:
            found = self._find(lookup)
            if found is not None:
                return self._hit(lookup, found)
            if lookup.option.ignore_expiration:
                self._miss(lookup)
                raise cache_miss(lookup.region.name, lookup.plan.sql, "no entry")
        # The connection is taken before the lock: see the module `_fill_locks`.
        lookup.prepared.connection()
        if not self._waiting_is_useless(lookup):
            with self.locks.hold(lookup.region, lookup.key) as waited:
                again = waited or self.fill_history.may_have_ended_since(lookup.region, lookup.key, moment)
                if again and not refresh:
                    # Time has passed: what may be served now, only a new read epoch tells.
                    lookup.read_epoch = self.current_read_epoch(lookup)
                    found = self._find(lookup) if lookup.read_epoch.bypass is None else None
                    if found is not None:
                        return self._hit(lookup, found)
                if not (waited and self._waiting_is_useless(lookup)):
                    self._miss(lookup)
                    return self._fill(lookup)
        self._miss(lookup)
        return self._fill(lookup)

    def _waiting_is_useless(self, lookup: Lookup) -> bool:
        """Return whether it is known that what is read now will not be kept, so that waiting for it is useless."""
        return lookup.read_epoch.entry_epoch is None or self.fill_history.was_not_kept(lookup.region, lookup.key)

    def current_read_epoch(self, lookup: Lookup) -> ReadEpoch:
        """Ask for the stamps again, and return the read epoch of this moment."""
        prepared = lookup.prepared
        return self.side_tasks.attempt(
            "ask for the stamps",
            lookup.region.name,
            lambda: self.freshness.take_read_epoch(prepared.session, lookup.tags, prepared.bind),
            ReadEpoch("error"),
        )

    def _find(self, lookup: Lookup) -> ServableEntry | None:
        return self.side_tasks.attempt("find an entry", lookup.region.name, lambda: self._look_for_entry(lookup), None)

    def _look_for_entry(self, lookup: Lookup) -> ServableEntry | None:
        """Return an entry that may be served to this session now."""
        if not lookup.read_epoch.may_serve:
            return None
        started = time.perf_counter()
        known = self.decoded.get(lookup.region, lookup.key)
        if known is not None:
            header, raw, size = known
            if self._may_serve(lookup, header, lookup.read_epoch):
                return ServableEntry(header, raw, size, time.perf_counter() - started)
        data = lookup.region.get(lookup.key)
        found = None if data is None else self.decode(lookup, lookup.key, data, lookup.read_epoch, started)
        if found is not None:
            self.decoded.keep(lookup.region, lookup.key, found.header, found.raw, found.size)
        return found

    def _may_serve(self, lookup: Lookup, header: Header, read_epoch: ReadEpoch) -> bool:
        return read_epoch.serves(header.epoch) and not lookup.region.is_too_old(lookup.option, header.created)

    def decode(
        self, lookup: Lookup, key: str, data: bytes, read_epoch: ReadEpoch, started: float
    ) -> ServableEntry | None:
        """Return the entry that was found under a key, if it is intact and may be served."""
        try:
            header = unpack_header(data)
            if not self._may_serve(lookup, header, read_epoch):
                return None
            raw = unpack_rows(header, data, self.codec)
        except CorruptEntryError as error:
            self.report(CacheEvent("error", lookup.region.name, key, lookup.plan.sql, f"corrupt entry: {error}"))
            return None
        return ServableEntry(header, raw, len(data), time.perf_counter() - started)

    def _hit(self, lookup: Lookup, found: ServableEntry) -> RawRows:
        """Count a hit, and return its rows."""
        lookup.outcome, lookup.hit_seconds, lookup.size = "hit", found.seconds, found.size
        lookup.fill_seconds, lookup.created = found.header.fill_seconds, found.header.created
        self.report(
            CacheEvent(
                "hit",
                lookup.region.name,
                lookup.key,
                lookup.plan.sql,
                seconds=found.seconds,
                rows=len(found.raw.rows),
                size=found.size,
            )
        )
        return found.raw

    def _miss(self, lookup: Lookup) -> None:
        lookup.outcome = "miss"
        self.report(CacheEvent("miss", lookup.region.name, lookup.key, lookup.plan.sql))

    def _fill(self, lookup: Lookup) -> RawRows:
        started = time.perf_counter()
        raw = _replay.fetch(lookup.prepared)
        lookup.fill_seconds = time.perf_counter() - started
        self.keep(lookup, {lookup.key: raw}, lookup.read_epoch, lookup.fill_seconds)
        return raw

    def keep(self, lookup: Lookup, entries: Mapping[str, RawRows], read_epoch: ReadEpoch, seconds: float) -> None:
        """Store rows that were read after the read epoch was taken."""
        kept = self.side_tasks.attempt(
            "keep an entry", lookup.region.name, lambda: self._keep(lookup, entries, read_epoch, seconds), False
        )
        if read_epoch.entry_epoch is not None:
            for key in entries:
                self.fill_history.note(lookup.region, key, kept=kept)

    def _keep(self, lookup: Lookup, entries: Mapping[str, RawRows], read_epoch: ReadEpoch, seconds: float) -> bool:
        name, sql = lookup.region.name, lookup.plan.sql
        epoch = read_epoch.entry_epoch
        if epoch is None or read_epoch.bypass is not None:
            self.report(CacheEvent("refused", name, lookup.key, sql, read_epoch.bypass or "written_meanwhile"))
            return False
        packed: dict[str, bytes] = {}
        try:
            for key, raw in entries.items():
                packed[key] = pack(epoch, time.time(), seconds, raw, self.codec)
        except UnencodableValueError as error:
            self.report(CacheEvent("refused", name, lookup.key, sql, f"unencodable: {error}"))
            return False
        kept = (
            lookup.region.put_many(packed)
            if len(packed) > 1
            else all(lookup.region.put(key, data) for key, data in packed.items())
        )
        if kept:
            lookup.size = sum(map(len, packed.values()))
            for key, data in packed.items():
                rows = len(entries[key].rows)
                self.report(CacheEvent("put", name, key, sql, seconds=seconds, rows=rows, size=len(data)))
        return kept


def user_tag(word: str) -> str:
    """Return the tag of a word of the user's."""
    return f"u:{word}"


def _encoded_values(compiled: SQLCompiler, values: Mapping[str, object]) -> bytes:
    bound = sorted(_replay.bound_values(compiled, values), key=lambda each: each.name)
    return b"".join(encode(each.name, "a name") + _encoded_value(each) for each in bound)


def _encoded_value(bound: BoundValue) -> bytes:
    where = f"parameter {bound.name!r}"
    try:
        return encode(bound.sent, where)
    except UncacheableParameterError:
        # An object of the driver's: what went into it, and the type that made it, identify it as well.
        type_ = _replay.form_of_type(bound.type_)
        if type_ is None:
            raise
        return b"given" + encode([type_, bound.given], where)


def _evaluate(vary: object, state: ORMExecuteState) -> object:
    return vary(state) if callable(vary) else vary
