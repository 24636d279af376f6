"""Look up the lazy loads of a `RelationshipCache` in batches, and find their tags.

A cache that is asked once for each collection costs more than the lazy loads that it replaces, and much more than
``selectinload()``. So the first lazy load looks up the same attribute of every object that was loaded together with its
object: one request to the stamp store and one to the backend. What was found is kept beside each object, as rows, and
becomes its value when the attribute is read, unless by then the transaction has ended or has written one of the tables,
or the object has been expired. What is not cached is loaded lazily, object by object, as without a cache.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from . import _replay
from ._errors import UncacheableParameterError
from ._keys import bucket, encode_for_tag
from ._session_backend import CURRENT_SESSION
from ._stats import CacheEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import ORMExecuteState, PassiveFlag, Session, SessionTransaction

    from .._typing import AnyRelationship, AnyState, MappedClass
    from ._reader import Lookup, Reader, ServableEntry
    from ._replay import Prepared

#: Objects whose attribute is looked up at once.
_MAX_BATCH: Final = 1000


def relationship_tags(owner: MappedClass, key: str, lazy: AnyState | None = None) -> frozenset[str]:
    """Return the tags of a load of a relationship: of the lazy load of one object, or of a load for several objects."""
    name = f"{owner.__module__}.{owner.__qualname__}.{key}"
    tags = {f"r:{name}"}
    if lazy is not None and lazy.identity is not None:
        tags.add(bucket("c", [encode_for_tag(name), *map(encode_for_tag, lazy.identity)]))
    elif lazy is None:
        tags.add(f"b:{name}")  # loads for several objects at once, as those of selectinload()
    return frozenset(tags)


def collection_tags(state: AnyState, prop: AnyRelationship) -> frozenset[str]:
    """Return the tags to stamp for the attribute of one object: of its lazy load, and of loads that may include it."""
    owner, key = prop.parent.class_, str(prop.key)
    both = relationship_tags(owner, key, state) | relationship_tags(owner, key)
    return both - {f"r:{owner.__module__}.{owner.__qualname__}.{key}"}


@dataclass(frozen=True, slots=True)
class _LazyLoad:
    """The lazy load of one object of a batch."""

    state: AnyState
    parameters: Mapping[str, object]
    prepared: Prepared
    key: str
    tags: frozenset[str]


def keep_batch(reader: Reader, state: ORMExecuteState, lookup: Lookup) -> None:
    """Look up the attribute that is being loaded for the other objects too, and keep what the cache has."""
    lazy = state.lazy_loaded_from
    path = state.loader_strategy_path
    mode = reader.modes.get(state.session)
    if lazy is None or not path or not lookup.read_epoch.may_serve or (mode is not None and mode.refresh):
        return
    prop = cast("AnyRelationship", cast("object", path[-1]))
    if _replay.multiplies_rows(lookup.prepared):
        return  # it would be unknown where the rows of one object end
    loads = _other_loads(reader, state, lookup, prop, lazy)
    if not loads:
        return
    started = time.perf_counter()
    token = CURRENT_SESSION.set(state.session)
    try:
        found = _look_up(reader, lookup, loads)
    finally:
        CURRENT_SESSION.reset(token)
    if found:
        _keep(reader, lookup, prop, found, time.perf_counter() - started)


def _other_loads(
    reader: Reader, state: ORMExecuteState, lookup: Lookup, prop: AnyRelationship, lazy: AnyState
) -> list[_LazyLoad]:
    """Return the lazy loads of the same attribute for the objects that were loaded together with the one at hand."""
    shared = lookup.tags - relationship_tags(prop.parent.class_, prop.key, lazy)
    loads: list[_LazyLoad] = []
    for other in _replay.loaded_together(state.session, lazy, prop)[:_MAX_BATCH]:
        parameters = _replay.lazy_parameters(prop, other)
        if parameters is None or parameters.keys() != lookup.prepared.parameters.keys():
            continue
        prepared = _replay.with_parameters(lookup.prepared, parameters)
        try:
            key = reader.key_of_part(lookup, prepared, state)
        except UncacheableParameterError:
            continue
        tags = shared | relationship_tags(prop.parent.class_, prop.key, other)
        loads.append(_LazyLoad(other, parameters, _replay.in_session(prepared, None), key, tags))
    return loads


def _look_up(reader: Reader, lookup: Lookup, loads: Sequence[_LazyLoad]) -> list[tuple[_LazyLoad, ServableEntry]]:
    union = frozenset[str]().union(*(load.tags for load in loads))
    prepared = lookup.prepared
    read_epoch = reader.freshness.take_read_epoch(prepared.session, union, prepared.bind)
    if read_epoch.bypass is not None or not read_epoch.may_serve:
        return []
    started = time.perf_counter()
    keys = list(dict.fromkeys(load.key for load in loads))
    entries = dict(zip(keys, lookup.region.get_many(keys), strict=True))
    found: list[tuple[_LazyLoad, ServableEntry]] = []
    decoded: dict[str, ServableEntry] = {}
    for load in loads:
        data = entries[load.key]
        narrow = read_epoch.narrow(load.tags)
        entry = None if data is None else decoded.get(load.key)
        if entry is None and data is not None:
            entry = reader.decode(lookup, load.key, data, narrow, started)
        if entry is not None and narrow.serves(entry.header.epoch):
            decoded[load.key] = entry
            found.append((load, entry))
    return found


def _keep(
    reader: Reader,
    lookup: Lookup,
    prop: AnyRelationship,
    found: Sequence[tuple[_LazyLoad, ServableEntry]],
    seconds: float,
) -> None:
    """Keep what was found beside the objects, until their attributes are read.

    The rows are not turned into objects before: this transaction may write them, and an object that the session has
    already is not loaded again.
    """
    session, bind = lookup.prepared.session, lookup.prepared.bind
    # Reading without a cache begins a transaction too. The values hold for as long as it lasts.
    root = session.get_transaction() or session.begin()
    reader.expire_listener.watch(prop.parent.class_)
    kept: dict[tuple[AnyState, str], _KeptValue] = session.info.setdefault(_replay.KEPT, {})
    # Values of transactions that have ended are dropped.
    for name in [name for name, value in kept.items() if value.batch.transaction() is not root]:
        del kept[name]
    batch = _Batch(
        reader,
        weakref.ref(root),
        lookup.region.name,
        lookup.plan.sql,
        bind,
        prop,
        reader.freshness.writes,
        seconds / len(found),
    )
    key = str(prop.key)
    for load, entry in found:
        kept[load.state, key] = _KeptValue(batch, load, entry)
        _replay.KeptAttribute.put(load.state, key)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What the entries that were looked up together have in common.

    Attributes:
        reader: The reader that looked them up.
        transaction: The transaction that they hold for. The reference is weak, as the session has the values in its
            dictionary and must not be kept alive by them.
        region: The name of the region.
        sql: The SQL of the lazy load.
        bind: Where the lazy load would read.
        prop: The relationship.
        writes: How many writes had been seen at the look-up.
        seconds: What the look-up took, for each entry.
    """

    reader: Reader
    transaction: weakref.ref[SessionTransaction]
    region: str
    sql: str
    bind: Engine | Connection
    prop: AnyRelationship
    writes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _KeptValue:
    """A function that returns what was found for the attribute of one object; it is kept until that is read."""

    batch: _Batch
    load: _LazyLoad
    entry: ServableEntry

    def __call__(self, passive: PassiveFlag) -> object:
        """Return the value of the attribute, or `NOT_KEPT` if it does not hold any more and has to be loaded."""
        batch, state = self.batch, self.load.state
        session = state.session
        if session is None or not self._holds(session, passive):
            return _replay.NOT_KEPT
        loaded = batch.reader.side_tasks.attempt("load kept rows", batch.region, lambda: self._load(session), None)
        if loaded is None:
            return _replay.NOT_KEPT
        batch.reader.report(
            CacheEvent(
                "hit",
                batch.region,
                self.load.key,
                batch.sql,
                seconds=batch.seconds,
                rows=len(self.entry.raw.rows),
                size=self.entry.size,
            )
        )
        if batch.prop.uselist:
            return loaded
        return loaded[0] if loaded else None

    def _load(self, session: Session) -> list[object]:
        result = _replay.replay(_replay.in_session(self.load.prepared, session), self.entry.raw)
        # By identity, as Result.unique() does; that one costs as much as loading the objects.
        return list({id(each): each for each in result.scalars().all()}.values())

    def _holds(self, session: Session, passive: PassiveFlag) -> bool:
        """Return whether the value is still what a lazy load would find."""
        batch, state = self.batch, self.load.state
        freshness = batch.reader.freshness
        mode = batch.reader.modes.get(session)
        if mode is not None and (mode.bypass or mode.refresh):
            return False
        if _replay.in_identity_map(batch.prop, state):
            return False
        # A lazy load sees what is pending in the session.
        _replay.autoflush(session, passive)
        if session.get_transaction() is not batch.transaction():
            return False
        if not state.modified and not freshness.wrote_since(session, batch.bind, batch.writes):
            return True
        # The object's foreign key may have changed since.
        return _replay.lazy_parameters(batch.prop, state) == self.load.parameters and not freshness.wrote_since(
            session, batch.bind, batch.writes, self.load.tags
        )
