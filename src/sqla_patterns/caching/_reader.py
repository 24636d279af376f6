"""Answer one statement: from the cache where that is certain to be right, from the database otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy.exc import CompileError

from . import _replay
from ._binds import BindIdentities
from ._codec import CorruptEntryError, UnencodableValueError
from ._decoded import DecodedRows
from ._entries import pack, unpack_header, unpack_rows
from ._errors import CacheMiss
from ._keys import bucket, encode, key_of
from ._plans import Plans, require_tables
from ._session_backend import CURRENT_SESSION
from ._stampede import FillLocks
from ._stats import CacheEvent
from ._tags import tables_of

if TYPE_CHECKING:
    from sqlalchemy import Result
    from sqlalchemy.orm import ORMExecuteState, Session

    from ._codec import Codec
    from ._entries import Header
    from ._guard import Guard
    from ._options import FromCache
    from ._plans import Plan
    from ._regions import Region, Regions
    from ._replay import Prepared, RawRows
    from ._ticket import Ticket

__all__ = ("Found", "Lookup", "Reader")

#: Statements whose names are kept for invalidation.
_STATEMENTS: Final = 500


@dataclass(slots=True)
class Lookup:
    """One statement on its way: what it is, where it would be, and what became of it."""

    option: FromCache
    region: Region
    prepared: Prepared
    plan: Plan
    tags: frozenset[str]
    key: str
    ticket: Ticket
    outcome: str = ""
    fill_seconds: float = 0.0
    hit_seconds: float = 0.0
    size: int = 0
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that may be served."""

    header: Header
    raw: RawRows
    size: int
    seconds: float


@dataclass(slots=True)
class Modes:
    """What the contexts of the cache make of a session."""

    bypass: int = 0
    refresh: int = 0


@dataclass(slots=True)
class Reader:
    """Everything that answering a statement needs."""

    regions: Regions
    guard: Guard
    codec: Codec
    namespace: str
    vary: Callable[[ORMExecuteState], object] | object
    report: Callable[[CacheEvent], None]
    locks: FillLocks = field(default_factory=FillLocks)
    decoded: DecodedRows = field(default_factory=lambda: DecodedRows(0))
    binds: BindIdentities = field(default_factory=BindIdentities)
    plans: Plans = field(default_factory=Plans)
    modes: WeakKeyDictionary[Session, Modes] = field(default_factory=WeakKeyDictionary[Any, Any])
    statements: Any = field(default_factory=lambda: _replay.new_compiled_cache(_STATEMENTS))

    # -- deciding --------------------------------------------------------------------------------

    def bypass_reason(self, state: ORMExecuteState) -> str | None:
        """Why a statement goes past the cache, as far as that shows before it is compiled."""
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

    def look(
        self, state: ORMExecuteState, option: FromCache, extra: Callable[[Plan, bytes], frozenset[str]]
    ) -> Lookup | str:
        """Prepare a statement and its place in the cache; or say why it has none.

        ``extra`` gives the tags by which it is invalidated on demand, from its plan and the form of its values.
        """
        prepared = _replay.prepare(state)
        plan = self.plans.of(prepared)
        region = self.regions[option.region]
        reason = plan.bypass(option, prepared.values.values())
        if reason is not None:
            return reason
        require_tables(plan, option)
        identity = self.binds.of(prepared)
        values = _encoded_values(prepared.compiled, prepared.values)
        key = self.key(state, option, prepared, plan, identity, values)
        tags = self.tags(option, prepared, plan, extra(plan, values))
        ticket = self.guard.ticket(prepared.session, tags, prepared.bind_arguments)
        if ticket.bypass is not None:
            return ticket.bypass
        return Lookup(option, region, prepared, plan, tags, key, ticket)

    def key(
        self,
        state: ORMExecuteState,
        option: FromCache,
        prepared: Prepared,
        plan: Plan,
        identity: str,
        values: bytes,
    ) -> str:
        """The key of the statement: all that its rows depend on beside the tables' contents."""
        words: list[object] = [self.namespace, self.codec.name, identity, option.cache_key]
        words += [prepared.dialect.name, prepared.dialect.driver, plan.sql, dict(prepared.schema_translate_map)]
        parts = [encode(word, "the key") for word in words]
        parts.append(encode(_replay.identity_token(prepared), "the identity token"))
        parts += [encode(_evaluate(vary, state), "the vary value") for vary in (self.vary, option.vary)]
        return key_of([*parts, values])

    def sibling_key(self, lookup: Lookup, prepared: Prepared, state: ORMExecuteState) -> str:
        """The key of the same statement with other parameters."""
        values = _encoded_values(prepared.compiled, prepared.values)
        return self.key(state, lookup.option, prepared, lookup.plan, self.binds.of(prepared), values)

    def tags(self, option: FromCache, prepared: Prepared, plan: Plan, extra: frozenset[str]) -> frozenset[str]:
        """All whose writes end the entry."""
        tables = set(plan.depends.tables)
        words: set[str] = set()
        for tag in option.tags:
            if isinstance(tag, str):
                words.add(user_tag(tag))
            else:
                tables |= tables_of(tag)
        return self.guard.tags(prepared.bind, frozenset(tables), prepared.schema_translate_map, extra | words)

    def statement_tag(self, statement: object, parameters: Mapping[str, Any]) -> str | None:
        """The tag of a statement, whichever database, schema or tenant it goes to; None if it has no neutral SQL."""
        try:
            compiled, values = _replay.tag_of_statement(statement, parameters, self.statements)
        except CompileError:
            return None
        return bucket("s", [str(compiled.string).encode(), _encoded_values(compiled, values)])

    # -- answering -------------------------------------------------------------------------------

    def answer(self, lookup: Lookup) -> Result[Any]:
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
        if not refresh:
            found = self.find(lookup)
            if found is not None:
                return self.hit(lookup, found)
            if lookup.option.ignore_expiration:
                self._miss(lookup)
                raise CacheMiss(
                    f"There is no entry in region {lookup.region.name!r} for {lookup.plan.sql[:500]!r}, and "
                    "ignore_expiration=True forbids to ask the database; run the statement once without it, or catch "
                    "CacheMiss and do so then."
                )
        # The connection comes before the lock: see the module of the locks.
        lookup.prepared.session.connection(bind_arguments=lookup.prepared.bind_arguments)
        with self.locks.hold(lookup.region, lookup.key) as waited:
            if waited and not refresh:
                # Time has passed: what may be served now, only a new ticket can tell.
                self.renew(lookup)
                found = self.find(lookup) if lookup.ticket.bypass is None else None
                if found is not None:
                    return self.hit(lookup, found)
            self._miss(lookup)
            return self._fill(lookup)

    def renew(self, lookup: Lookup) -> None:
        """Ask for the stamps again."""
        prepared = lookup.prepared
        lookup.ticket = self.guard.ticket(prepared.session, lookup.tags, prepared.bind_arguments)

    def find(self, lookup: Lookup) -> Found | None:
        """Look for an entry that may be served to this session now."""
        if not lookup.ticket.may_serve:
            return None
        started = time.perf_counter()
        known = self.decoded.get(lookup.region, lookup.key)
        if known is not None:
            header, raw, size = known
            if self._may_serve(lookup, header, lookup.ticket):
                return Found(header, raw, size, time.perf_counter() - started)
        data = lookup.region.get(lookup.key)
        found = None if data is None else self.decode(lookup, lookup.key, data, lookup.ticket, started)
        if found is not None:
            self.decoded.keep(lookup.region, lookup.key, found.header, found.raw, found.size)
        return found

    def _may_serve(self, lookup: Lookup, header: Header, ticket: Ticket) -> bool:
        return ticket.serves(header.epoch) and not lookup.region.is_too_old(lookup.option, header.created)

    def decode(self, lookup: Lookup, key: str, data: bytes, ticket: Ticket, started: float) -> Found | None:
        """Check what was found under a key."""
        try:
            header = unpack_header(data)
            if not self._may_serve(lookup, header, ticket):
                return None
            raw = unpack_rows(header, data, self.codec)
        except CorruptEntryError as error:
            self.report(CacheEvent("error", lookup.region.name, key, lookup.plan.sql, f"corrupt entry: {error}"))
            return None
        return Found(header, raw, len(data), time.perf_counter() - started)

    def hit(self, lookup: Lookup, found: Found) -> RawRows:
        """Count a hit."""
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
        self.keep(lookup, {lookup.key: raw}, lookup.ticket, lookup.fill_seconds)
        return raw

    def keep(self, lookup: Lookup, entries: Mapping[str, RawRows], ticket: Ticket, seconds: float) -> None:
        """Put rows that were read after the ticket was taken."""
        name, sql = lookup.region.name, lookup.plan.sql
        epoch = ticket.horizon
        if epoch is None or ticket.bypass is not None:
            self.report(CacheEvent("refused", name, lookup.key, sql, ticket.bypass or "written_meanwhile"))
            return
        packed: dict[str, bytes] = {}
        try:
            for key, raw in entries.items():
                packed[key] = pack(epoch, time.time(), seconds, raw, self.codec)
        except UnencodableValueError as error:
            self.report(CacheEvent("refused", name, lookup.key, sql, f"unencodable: {error}"))
            return
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


def user_tag(word: str) -> str:
    """The tag of a word of the user's."""
    return f"u:{word}"


def _encoded_values(compiled: Any, values: Mapping[str, Any]) -> bytes:
    bound = sorted(_replay.bound_values(compiled, values), key=lambda each: each[0])
    return b"".join(encode(name, "a name") + encode(value, f"parameter {name!r}") for name, value in bound)


def _evaluate(vary: Any, state: ORMExecuteState) -> object:
    return vary(state) if callable(vary) else vary
