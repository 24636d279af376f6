"""Read objects by primary key: one look-up in the cache, and one statement for those that are not in it."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast
from uuid import UUID

from sqlalchemy import Integer, Uuid, bindparam, inspect, select, tuple_
from sqlalchemy.orm import Session

from .._sql import chunks
from .._sqlalchemy import mapper_of, object_in_session
from .._typing import AnyMapper, AnyResult, AnyState, MappedClass, PrimaryKey
from ..exceptions import InvalidArgumentError
from . import _replay
from ._keys import bucket, encode_for_tag
from ._session_backend import CURRENT_SESSION
from ._stats import CacheEvent

if TYPE_CHECKING:
    from sqlalchemy.orm import ORMExecuteState

    from ._options import FromCache
    from ._reader import Lookup, Reader
    from ._replay import RawRows

M = TypeVar("M")
#: A primary key with a value for each of its columns, also where there is one column only.
KeyTuple: TypeAlias = tuple[object, ...]

#: The execution option that carries the request to where the statement is answered.
PRIMARY_KEY_REQUEST: Final = "_sqla_patterns_many"
#: The name of the bound parameter.
_KEYS: Final = "sqla_patterns_keys"
#: Keys in one statement; databases limit parameters.
_MAX_KEYS: Final = 500
#: Types of keys that databases and Python compare alike, in columns of these types.
_EXACT_TYPES: Final[Mapping[type, type]] = {int: Integer, UUID: Uuid}


@dataclass(slots=True)
class PrimaryKeyRequest:
    """The objects that one call asks for.

    Attributes:
        owner: The cache that was asked; another one of the same session leaves the statement to it.
        mapper: The mapper of the objects.
        tags: For each primary key the tag that its entry has beside those of the tables.
        pending: Whether no statement has answered the request so far.
    """

    owner: object
    mapper: AnyMapper
    tags: dict[KeyTuple, str]
    pending: bool = field(default=True)


def primary_key_tuple(mapper: AnyMapper, key: PrimaryKey) -> KeyTuple:
    """Return a key as ``session.get()`` takes it (a value, a tuple, a dictionary by attribute) as a tuple.

    Raises:
        InvalidArgumentError: It is no key of that class.
    """
    columns = mapper.primary_key
    if isinstance(key, Mapping):
        given = cast("Mapping[str, object]", key)
        names = [str(mapper.get_property_by_column(column).key) for column in columns]
        if set(given) != set(names):
            raise InvalidArgumentError(f"{key!r} is no primary key of {mapper.class_.__name__}, which has {names}")
        return tuple(given[name] for name in names)
    values: KeyTuple = tuple(cast("Sequence[object]", key)) if isinstance(key, (tuple, list)) else (key,)
    if len(values) != len(columns):
        raise InvalidArgumentError(
            f"{key!r} is no primary key of {mapper.class_.__name__}, which has {len(columns)} columns"
        )
    return values


def hashable_key(model: MappedClass, key: PrimaryKey) -> PrimaryKey:
    """Return the key under which `get_many()` returns an object: a list or dictionary is returned as a tuple."""
    return primary_key_tuple(mapper_of(model), key) if isinstance(key, (list, Mapping)) else key


def object_tag(mapper: AnyMapper, primary_key: KeyTuple) -> str:
    """Return the tag by which the entry of one object is invalidated."""
    base = mapper.base_mapper.class_
    words = [encode_for_tag(f"{base.__module__}.{base.__qualname__}"), *map(encode_for_tag, primary_key)]
    return bucket("o", words)


def get_many(
    owner: object, session: Session, model: type[M], keys: Collection[PrimaryKey], option: FromCache
) -> dict[PrimaryKey, M]:
    """Return objects by the keys that were given; those that the session has need no look-up."""
    mapper = mapper_of(model)
    primary_keys = {hashable_key(model, key): primary_key_tuple(mapper, key) for key in keys}
    found: dict[KeyTuple, M] = {}
    missing: list[KeyTuple] = []
    for primary_key in dict.fromkeys(primary_keys.values()):
        present: object = object_in_session(session, mapper, primary_key)
        if present is None or _state_of(present).expired:
            missing.append(primary_key)
        elif isinstance(present, model):
            found[primary_key] = present
    for some in chunks(missing, _MAX_KEYS):
        found.update(_by_primary_key(session, model, some, _load(owner, session, mapper, some, option)))
    return {key: found[primary_key] for key, primary_key in primary_keys.items() if primary_key in found}


def _state_of(instance: object) -> AnyState:
    return cast("AnyState", inspect(instance))


def _load(
    owner: object, session: Session, mapper: AnyMapper, primary_keys: Sequence[KeyTuple], option: FromCache
) -> Sequence[Any]:
    columns = mapper.primary_key
    criterion = columns[0] if len(columns) == 1 else tuple_(*columns)
    # One statement for one key and for many: rows of one are rows of the other.
    statement = select(mapper).where(criterion.in_(bindparam(_KEYS, expanding=True))).options(option)
    tags = {primary_key: object_tag(mapper, primary_key) for primary_key in primary_keys}
    result: AnyResult = session.execute(
        statement,
        _parameters(primary_keys),
        execution_options={PRIMARY_KEY_REQUEST: PrimaryKeyRequest(owner, mapper, tags)},
    )
    return result.unique().scalars().all()


def _by_primary_key(
    session: Session, model: type[M], primary_keys: Sequence[KeyTuple], instances: Sequence[M]
) -> dict[KeyTuple, M]:
    """Return the objects by the keys that they were asked for with.

    The database compares by rules of its own: ``"1"`` finds 1, and under most collations of MariaDB ``"ABC"`` finds
    ``"Abc"``. These rules are not repeated here. Where a key may be another spelling of one that was found,
    ``session.get()`` is asked.
    """
    by_primary_key: dict[KeyTuple, M] = {tuple(_state_of(each).identity or ()): each for each in instances}
    found = {primary_key: by_primary_key[primary_key] for primary_key in primary_keys if primary_key in by_primary_key}
    rest = [primary_key for primary_key in primary_keys if primary_key not in found]
    unmatched = [instance for primary_key, instance in by_primary_key.items() if primary_key not in found]
    if len(rest) == len(unmatched) == 1:
        found[rest[0]] = unmatched[0]
    elif rest and by_primary_key:
        spellings = {_spelling(primary_key) for primary_key in by_primary_key}
        for primary_key in rest:
            if unmatched or _spelling(primary_key) in spellings:
                instance = session.get(model, primary_key)
                if instance is not None:
                    found[primary_key] = instance
    return found


def _spelling(primary_key: KeyTuple) -> tuple[str, ...]:
    """Return a form that is the same for all keys that a database may consider equal."""
    return tuple(
        "".join(
            each
            for each in unicodedata.normalize("NFKD", str(value)).casefold()
            if each.isalnum() and not unicodedata.combining(each)
        )
        for value in primary_key
    )


def _are_identical(one: KeyTuple, two: KeyTuple) -> bool:
    """Return whether two keys are equal and have the same tag: 1, 1.0 and True are equal, and have different tags."""
    return one == two and all(type(value) is type(other) for value, other in zip(one, two, strict=True))


def _has_one_spelling(primary_key: KeyTuple, mapper: AnyMapper) -> bool:
    """Return whether a key has no other spelling in the database, so that it may be remembered that it has no row."""
    return all(
        type(value) in _EXACT_TYPES and isinstance(column.type, _EXACT_TYPES[type(value)])
        for value, column in zip(primary_key, mapper.primary_key, strict=True)
    )


def _parameters(primary_keys: Collection[KeyTuple]) -> dict[str, object]:
    return {_KEYS: [each[0] if len(each) == 1 else each for each in primary_keys]}


def answer_request(reader: Reader, state: ORMExecuteState, lookup: Lookup, request: PrimaryKeyRequest) -> AnyResult:
    """Answer the statement from an entry for each key, and from the database for those that have none."""
    # Loads that follow from this one inherit its execution options.
    request.pending = False
    token = CURRENT_SESSION.set(state.session)
    try:
        looked = reader.side_tasks.attempt(
            "look up keys", lookup.region.name, lambda: _look_up(reader, state, lookup, request), None
        )
        if looked is None:
            return _replay.replay(lookup.prepared, _replay.fetch(lookup.prepared))
        found, cached, missing = looked
        if missing:
            filled = _fill(reader, lookup, request, missing)
            # What is cached belongs to the moment of the read epoch, what was read to a later one: together they may
            # belong to no moment at all.
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
    reader: Reader, state: ORMExecuteState, lookup: Lookup, request: PrimaryKeyRequest
) -> tuple[list[RawRows], dict[KeyTuple, str], dict[KeyTuple, str]]:
    """Return the rows that are cached, and the cache keys of the entries that exist and of those that do not."""
    started = time.perf_counter()
    prepared = lookup.prepared
    keys = {
        primary_key: reader.key_of_part(lookup, _replay.with_parameters(prepared, _parameters([primary_key])), state)
        for primary_key in request.tags
    }
    mode = reader.modes.get(state.session)
    if not lookup.read_epoch.may_serve or (mode is not None and mode.refresh):
        return [], {}, keys
    shared = lookup.tags - frozenset(request.tags.values())
    found: list[RawRows] = []
    cached: dict[KeyTuple, str] = {}
    missing: dict[KeyTuple, str] = {}
    for (primary_key, key), data in zip(keys.items(), lookup.region.get_many(list(keys.values())), strict=True):
        read_epoch = lookup.read_epoch.narrow(shared | {request.tags[primary_key]})
        entry = None if data is None else reader.decode(lookup, key, data, read_epoch, started)
        if entry is None or (found and entry.raw.description != found[0].description):
            missing[primary_key] = key
            continue
        found.append(entry.raw)
        cached[primary_key] = key
        reader.report(
            CacheEvent("hit", lookup.region.name, key, lookup.plan.sql, rows=len(entry.raw.rows), size=entry.size)
        )
    return found, cached, missing


def _same_moment(reader: Reader, lookup: Lookup) -> bool:
    """Return whether nothing has been written to the tables since the read epoch was taken."""
    return lookup.read_epoch.agrees_with(reader.current_read_epoch(lookup))


def _fill(reader: Reader, lookup: Lookup, request: PrimaryKeyRequest, missing: Mapping[KeyTuple, str]) -> RawRows:
    for key in missing.values():
        reader.report(CacheEvent("miss", lookup.region.name, key, lookup.plan.sql))
    started = time.perf_counter()
    raw = _replay.fetch(_replay.with_parameters(lookup.prepared, _parameters(missing)))
    seconds = time.perf_counter() - started
    entries = reader.side_tasks.attempt(
        "tell rows by their keys", lookup.region.name, lambda: _entries(lookup, request, missing, raw), None
    )
    if entries:
        reader.keep(lookup, entries, lookup.read_epoch, seconds)
    return raw


def _entries(
    lookup: Lookup, request: PrimaryKeyRequest, missing: Mapping[KeyTuple, str], raw: RawRows
) -> dict[str, RawRows]:
    """Return an entry for each key that is spelled as in its row, and for each that certainly has no row."""
    parts: dict[KeyTuple, list[Sequence[object]]] = {}
    given = {primary_key: primary_key for primary_key in missing}
    for primary_key, row in zip(_replay.primary_keys(lookup.prepared, raw, request.mapper), raw.rows, strict=True):
        if primary_key in given and _are_identical(given[primary_key], primary_key):
            parts.setdefault(primary_key, []).append(row)
    absent = [
        primary_key
        for primary_key in missing
        if primary_key not in parts and _has_one_spelling(primary_key, request.mapper)
    ]
    return {
        missing[primary_key]: _replay.RawRows(raw.description, parts.get(primary_key, []))
        for primary_key in [*parts, *absent]
    }
