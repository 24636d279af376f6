"""Lazy loads under `RelationshipCache`: their tags, and looking them up together.

A cache that is asked once for each collection costs more than the lazy loads that it replaces, and much more than ``selectinload()``. So the
first lazy load looks up the same attribute of every object that came with the first one: one question to the stamp store, one to
the backend, and one replay of all rows. What is not cached is loaded lazily, object by object, as ever.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy.orm.attributes import set_committed_value

from . import _replay
from ._keys import bucket, encode
from ._session_backend import CURRENT_SESSION
from ._stats import CacheEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import InstanceState, ORMExecuteState, RelationshipProperty

    from ._reader import Found, Lookup, Reader
    from ._replay import Prepared

__all__ = ("answer_siblings", "collection_tag", "relationship_tags")

#: Objects whose attribute is looked up at a time.
_MOST: Final = 1000


def relationship_tags(owner: type[Any], key: str, lazy: InstanceState[Any] | None = None) -> frozenset[str]:
    """The tags of the loads of a relationship, and of the lazy load of one object."""
    name = f"{owner.__module__}.{owner.__qualname__}.{key}"
    tags = {f"r:{name}"}
    if lazy is not None and lazy.identity is not None:
        words = [encode(name, "the relationship"), *(encode(each, "the identity") for each in lazy.identity)]
        tags.add(bucket("c", words))
    elif lazy is None:
        tags.add(f"b:{name}")  # loads for several objects at once, as those of selectinload()
    return frozenset(tags)


def collection_tag(state: InstanceState[Any], prop: RelationshipProperty[Any]) -> frozenset[str]:
    """The tags to stamp for the attribute of one object: of its lazy load, and of loads of which it may be a part."""
    owner, key = prop.parent.class_, str(prop.key)
    both = relationship_tags(owner, key, state) | relationship_tags(owner, key)
    return both - {f"r:{owner.__module__}.{owner.__qualname__}.{key}"}


@dataclass(frozen=True, slots=True)
class _Sibling:
    state: InstanceState[Any]
    prepared: Prepared
    key: str
    tags: frozenset[str]


def answer_siblings(reader: Reader, state: ORMExecuteState, lookup: Lookup) -> None:
    """Set the attribute that is being loaded on the other objects that the cache has it for."""
    lazy = state.lazy_loaded_from
    path: Any = state.loader_strategy_path
    mode = reader.modes.get(state.session)
    if lazy is None or not path or not lookup.ticket.may_serve or (mode is not None and mode.refresh):
        return
    prop = cast("RelationshipProperty[Any]", path[-1])
    if _replay.multiplies_rows(lookup.prepared):
        return  # rows of one object could not be told from those of the next
    siblings = _siblings(reader, state, lookup, prop, lazy)
    if not siblings:
        return
    started = time.perf_counter()
    token = CURRENT_SESSION.set(state.session)
    try:
        found = _look_up(reader, lookup, siblings)
    finally:
        CURRENT_SESSION.reset(token)
    if found:
        _apply(reader, lookup, prop, found, time.perf_counter() - started)


def _siblings(
    reader: Reader, state: ORMExecuteState, lookup: Lookup, prop: RelationshipProperty[Any], lazy: InstanceState[Any]
) -> list[_Sibling]:
    own = relationship_tags(prop.parent.class_, prop.key, lazy)
    shared = lookup.tags - own
    siblings: list[_Sibling] = []
    for sibling in _replay.loaded_together(state.session, lazy, prop.key)[:_MOST]:
        parameters = _replay.lazy_parameters(prop, sibling)
        if parameters is None or parameters.keys() != lookup.prepared.parameters.keys():
            continue
        prepared = _replay.with_parameters(lookup.prepared, parameters)
        key = reader.sibling_key(lookup, prepared, state)
        tags = shared | relationship_tags(prop.parent.class_, prop.key, sibling)
        siblings.append(_Sibling(sibling, prepared, key, tags))
    return siblings


def _look_up(reader: Reader, lookup: Lookup, siblings: Sequence[_Sibling]) -> list[tuple[_Sibling, Found]]:
    union = frozenset[str]().union(*(sibling.tags for sibling in siblings))
    prepared = lookup.prepared
    ticket = reader.guard.ticket(prepared.session, union, prepared.bind_arguments)
    if ticket.bypass is not None or not ticket.may_serve:
        return []
    started = time.perf_counter()
    keys = list(dict.fromkeys(sibling.key for sibling in siblings))
    entries = dict(zip(keys, lookup.region.get_many(keys), strict=True))
    found: list[tuple[_Sibling, Found]] = []
    decoded: dict[str, Found] = {}
    for sibling in siblings:
        data = entries[sibling.key]
        narrow = ticket.narrow(sibling.tags)
        entry = None if data is None else decoded.get(sibling.key)
        if entry is None and data is not None:
            entry = reader.decode(lookup, sibling.key, data, narrow, started)
        if entry is not None and narrow.serves(entry.header.epoch):
            decoded[sibling.key] = entry
            found.append((sibling, entry))
    return found


def _apply(
    reader: Reader,
    lookup: Lookup,
    prop: RelationshipProperty[Any],
    found: Sequence[tuple[_Sibling, Found]],
    seconds: float,
) -> None:
    """Replay the rows of all at once, and give each object its part."""
    description = found[0][1].header.description
    same = [(sibling, entry) for sibling, entry in found if entry.header.description == description]
    rows = [row for _, entry in same for row in entry.raw.rows]
    result = _replay.replay(lookup.prepared, _replay.RawRows(description, rows))
    loaded: Sequence[Any] = result.scalars().all()
    start = 0
    for sibling, entry in same:
        end = start + len(entry.raw.rows)
        part = list({id(each): each for each in loaded[start:end]}.values())
        start = end
        instance = sibling.state.obj()
        if instance is None or prop.key in sibling.state.dict:
            continue
        set_committed_value(instance, prop.key, part if prop.uselist else (part[0] if part else None))
        reader.report(
            CacheEvent(
                "hit",
                lookup.region.name,
                sibling.key,
                lookup.plan.sql,
                seconds=seconds / len(same),
                rows=len(entry.raw.rows),
                size=entry.size,
            )
        )
