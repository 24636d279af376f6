"""Objects by primary key: one look-up in the cache for all of them, one statement for those that are not in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from sqlalchemy import bindparam, inspect, select, tuple_
from sqlalchemy.orm import InstanceState, Mapper, Session

from ..exceptions import InvalidArgumentError
from . import _replay
from ._session_backend import CURRENT_SESSION
from ._stats import CacheEvent

if TYPE_CHECKING:
    from sqlalchemy import Result
    from sqlalchemy.orm import ORMExecuteState

    from ._options import FromCache
    from ._reader import Lookup, Reader
    from ._replay import RawRows

__all__ = ("MANY", "Request", "answer_many", "get_many", "identity_of")

M = TypeVar("M")

#: The execution option that carries the request to where the statement is answered.
MANY: Final = "_sqla_patterns_many"
_KEYS: Final = "sqla_patterns_keys"
#: Keys in one statement; databases limit parameters.
_MOST: Final = 500


@dataclass(slots=True)
class Request:
    """The objects that are wanted, and the tag that each one's entry has beside those of its tables."""

    mapper: Mapper[Any]
    tags: dict[tuple[Any, ...], str]
    pending: bool = field(default=True)


def identity_of(mapper: Mapper[Any], key: Any) -> tuple[Any, ...]:
    """A key as ``session.get()`` takes it (a value, a tuple, a dictionary by attribute), as a tuple.

    Raises:
        InvalidArgumentError: it is no key of that class.
    """
    columns = mapper.primary_key
    if isinstance(key, Mapping):
        given = cast("Mapping[str, Any]", key)
        names = [str(mapper.get_property_by_column(column).key) for column in columns]
        if set(given) != set(names):
            raise InvalidArgumentError(f"{key!r} is no primary key of {mapper.class_.__name__}, which has {names}")
        return tuple(given[name] for name in names)
    values: tuple[Any, ...] = tuple(cast("Sequence[Any]", key)) if isinstance(key, (tuple, list)) else (key,)
    if len(values) != len(columns):
        raise InvalidArgumentError(
            f"{key!r} is no primary key of {mapper.class_.__name__}, which has {len(columns)} columns"
        )
    return values


def get_many(
    session: Session,
    model: type[M],
    keys: Collection[Any],
    option: FromCache,
    tag: Callable[[Mapper[Any], tuple[Any, ...]], str],
) -> dict[Any, M]:
    """Return the objects by the keys that were given, those of the session first."""
    mapper: Mapper[Any] = inspect(model)  # type: ignore[assignment,unused-ignore]
    identities: dict[Any, tuple[Any, ...]] = {}
    for key in keys:
        identity = identity_of(mapper, key)
        identities[identity if isinstance(key, (list, Mapping)) else key] = identity
    found: dict[tuple[Any, ...], M] = {}
    missing: list[tuple[Any, ...]] = []
    for identity in dict.fromkeys(identities.values()):
        present: Any = session.identity_map.get(mapper.identity_key_from_primary_key(identity))
        if present is None or cast("InstanceState[Any]", inspect(present)).expired:
            missing.append(identity)
        elif isinstance(present, model):
            found[identity] = present
    for start in range(0, len(missing), _MOST):
        some = missing[start : start + _MOST]
        for instance in _load(session, mapper, some, option, tag):
            state = cast("InstanceState[Any]", inspect(instance))
            found[tuple(state.identity or ())] = instance
    return {key: found[identity] for key, identity in identities.items() if identity in found}


def _load(
    session: Session,
    mapper: Mapper[Any],
    identities: Sequence[tuple[Any, ...]],
    option: FromCache,
    tag: Callable[[Mapper[Any], tuple[Any, ...]], str],
) -> Sequence[Any]:
    columns = mapper.primary_key
    criterion: Any = columns[0] if len(columns) == 1 else tuple_(*columns)
    # One statement for one key and for many: rows of one are rows of the other.
    statement = select(mapper).where(criterion.in_(bindparam(_KEYS, expanding=True))).options(option)
    request = Request(mapper, {identity: tag(mapper, identity) for identity in identities})
    result: Any = session.execute(statement, _parameters(identities), execution_options={MANY: request})
    return cast("Sequence[Any]", result.unique().scalars().all())


def _parameters(identities: Collection[tuple[Any, ...]]) -> dict[str, Any]:
    return {_KEYS: [each[0] if len(each) == 1 else each for each in identities]}


def answer_many(reader: Reader, state: ORMExecuteState, lookup: Lookup, request: Request) -> Result[Any]:
    """Answer the statement from an entry for each key, and the database for those that have none."""
    # Loads that follow from this one inherit its execution options.
    request.pending = False
    token = CURRENT_SESSION.set(state.session)
    try:
        found, cached, missing = _look_up(reader, state, lookup, request)
        if missing:
            filled = _fill(reader, lookup, request, missing)
            # What is cached was right when the ticket was taken, what was read is of later: together they may be of no moment.
            if found and not _same_moment(reader, lookup):
                found.clear()
                filled = _fill(reader, lookup, request, {**missing, **cached})
            found.append(filled)
    finally:
        CURRENT_SESSION.reset(token)
    description = found[-1].description
    rows = [row for raw in found for row in raw.rows]
    return _replay.replay(lookup.prepared, _replay.RawRows(description, rows))


def _look_up(
    reader: Reader, state: ORMExecuteState, lookup: Lookup, request: Request
) -> tuple[list[RawRows], dict[tuple[Any, ...], str], dict[tuple[Any, ...], str]]:
    """The rows that are cached, and the keys of the entries that are there and that are not."""
    started = time.perf_counter()
    prepared = lookup.prepared
    keys = {
        identity: reader.sibling_key(lookup, _replay.with_parameters(prepared, _parameters([identity])), state)
        for identity in request.tags
    }
    mode = reader.modes.get(state.session)
    if not lookup.ticket.may_serve or (mode is not None and mode.refresh):
        return [], {}, keys
    shared = lookup.tags - frozenset(request.tags.values())
    found: list[RawRows] = []
    cached: dict[tuple[Any, ...], str] = {}
    missing: dict[tuple[Any, ...], str] = {}
    for (identity, key), data in zip(keys.items(), lookup.region.get_many(list(keys.values())), strict=True):
        ticket = lookup.ticket.narrow(shared | {request.tags[identity]})
        entry = None if data is None else reader.decode(lookup, key, data, ticket, started)
        if entry is None or (found and entry.raw.description != found[0].description):
            missing[identity] = key
            continue
        found.append(entry.raw)
        cached[identity] = key
        reader.report(
            CacheEvent("hit", lookup.region.name, key, lookup.plan.sql, rows=len(entry.raw.rows), size=entry.size)
        )
    return found, cached, missing


def _same_moment(reader: Reader, lookup: Lookup) -> bool:
    """Whether nothing has been written to the tables since the ticket was taken."""
    prepared = lookup.prepared
    return lookup.ticket.agrees_with(reader.guard.ticket(prepared.session, lookup.tags, prepared.bind_arguments))


def _fill(reader: Reader, lookup: Lookup, request: Request, missing: Mapping[tuple[Any, ...], str]) -> RawRows:
    for key in missing.values():
        reader.report(CacheEvent("miss", lookup.region.name, key, lookup.plan.sql))
    started = time.perf_counter()
    raw = _replay.fetch(_replay.with_parameters(lookup.prepared, _parameters(missing)))
    seconds = time.perf_counter() - started
    parts: dict[tuple[Any, ...], list[Any]] = {identity: [] for identity in missing}
    for identity, row in zip(_replay.identities(lookup.prepared, raw, request.mapper), raw.rows, strict=True):
        if identity in parts:
            parts[identity].append(row)
    entries = {missing[identity]: _replay.RawRows(raw.description, rows) for identity, rows in parts.items()}
    reader.keep(lookup, entries, lookup.ticket, seconds)
    return raw
