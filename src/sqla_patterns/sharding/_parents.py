"""Find the shards of rows that refer to others by value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import select

from .._sql import chunks, key_in, structural
from .._typing import AnyColumn, AnyMapper
from ._conditions import IdKey, RuleKey
from ._errors import AmbiguousIdentityError, UnroutableKeyError
from ._keys import FollowsParent
from ._session import RoutedSession

_CHUNK = 500

Key = tuple[Any, ...]


def _shown(key: Key) -> object:
    return key[0] if len(key) == 1 else key


def shards_of_parents(session: RoutedSession, rule: FollowsParent, keys: Sequence[Key]) -> list[str]:
    """Return the shard of the parent of each foreign key.

    Keys that hold the shard, and parents that are in the session, take no SQL; the others one SELECT on each shard for
    500 of them.

    Args:
        session: The session.
        rule: The rule of the child.
        keys: The values of the foreign key, in the order of the pairs of the rule.

    Raises:
        UnroutableKeyError: There is no such parent.
        AmbiguousIdentityError: Several shards have one.
    """
    parent = session.routing.parent_of(rule)
    columns = [remote for _, remote in parent.pairs]
    for key in keys:
        if any(value is None for value in key):
            raise UnroutableKeyError(None, rule.name, why="the row has no parent to follow")
    found = _known(session, parent.mapper, columns, set(keys))
    # A flush asks twice: to divide its objects, and when listeners have changed them.
    asked = session.parent_shards.setdefault(rule, {})
    missing = [key for key in dict.fromkeys(keys) if key not in found and key not in asked]
    asked |= _read(session, columns, missing, parent.mapper.class_.__name__)
    found |= asked
    for key in keys:
        if key not in found:
            value = _shown(key)
            raise UnroutableKeyError(value, rule.name, why="there is no such parent to follow")
    if not session.flushed_shards and not session.is_dividing:
        session.parent_shards.clear()
    return [found[key] for key in keys]


def shards_of_rows(session: RoutedSession, mapper: AnyMapper, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the shard of each row that is there, by its primary key.

    Args:
        session: The session.
        mapper: The class.
        rows: The rows, with the primary key by the names of attributes.

    Raises:
        UnroutableKeyError: There is no such row.
        AmbiguousIdentityError: Several shards have one.
    """
    columns = cast("list[AnyColumn]", list(mapper.primary_key))
    names = [mapper.get_property_by_column(column).key for column in columns]
    keys = [tuple(row.get(name) for name in names) for row in rows]
    found = _known(session, mapper, columns, set(keys))
    found |= _read(session, columns, [key for key in dict.fromkeys(keys) if key not in found], mapper.class_.__name__)
    for key in keys:
        if key not in found:
            raise UnroutableKeyError(_shown(key), mapper.class_.__name__, why="there is no such row")
    return [found[key] for key in keys]


def _known(session: RoutedSession, mapper: AnyMapper, columns: list[AnyColumn], keys: set[Key]) -> dict[Key, str]:
    """Return the shards that are known without SQL."""
    found: dict[Key, str] = {}
    routing = session.routing
    for place, column in enumerate(columns):
        source = routing.key_columns.get(column)
        if isinstance(source, (RuleKey, IdKey)):
            for key in keys:
                shards = source.find(key[place])
                if shards is not None and len(shards) == 1:
                    found[key] = next(iter(shards))
    if list(mapper.primary_key) == columns:
        for key in keys - set(found):
            there = [
                shard
                for shard in routing.shards.names
                if mapper.identity_key_from_primary_key(key, identity_token=shard) in session.identity_map
            ]
            if len(there) == 1:
                found[key] = there[0]
    names = [mapper.get_property_by_column(column).key for column in columns]
    for obj in session.new:
        if isinstance(obj, mapper.class_):
            key = tuple(getattr(obj, name) for name in names)
            if key in keys:
                shard = routing.shard_of_object(obj)
                if shard is not None:
                    found[key] = shard
    return found


def _read(session: RoutedSession, columns: list[AnyColumn], keys: list[Key], what: str) -> dict[Key, str]:
    found: dict[Key, str] = {}
    for batch in chunks(keys, _CHUNK):
        statement = structural(select(*columns).where(key_in(columns, batch)))
        for shard in session.routing.shards.names:
            for row in session.connection_to(shard).execute(statement):
                key = tuple(row)
                if found.setdefault(key, shard) != shard:
                    value = _shown(key)
                    raise AmbiguousIdentityError(f"{what} {value!r}", [found[key], shard])
    return found
