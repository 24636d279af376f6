"""What a flush checks before it writes, and what it does for reference tables afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from sqlalchemy import Table, bindparam, delete, insert, inspect, select, update
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.schema import sort_tables

from .._sql import chunks, key_in, structural
from .._sqlalchemy import can_hide, hidden
from .._typing import AnyMapper, AnyState, MappedObject
from ._errors import (
    CrossShardRelationshipError,
    ShardingError,
    ShardKeyChangedError,
    ShardNotNamedError,
    UnroutableKeyError,
)
from ._keys import FollowsParent, ShardKey
from ._parents import shards_of_parents
from ._pin import pinned_shard
from ._reads import in_order
from ._session import RoutedSession


def flush_by_shard(session: RoutedSession, flush: Callable[[], None]) -> None:
    """Flush the objects of one shard after those of another, each time by `flush`.

    Whoever takes part in a flush and asks for the connection of a class (a history, a tree, SQLAlchemy for a
    many-to-many table) so gets that of the shard. All is one transaction: if one flush fails, all are rolled back.
    """
    if session.routing.choosers.shard_chooser is not None or not can_hide(session):
        flush()
        return
    groups = _groups(session)
    try:
        if len(groups) < 2:
            session.expect_flush_on(frozenset(shard for shard in groups if shard is not None))
            flush()
            return
        for obj in session.dirty:
            _check_key(session, obj)
        for states in groups.values():
            for state in states:
                _check_relationships(session, state)
        waiting = {state for states in groups.values() for state in states}
        for shard in (*in_order(session.routing, {each for each in groups if each is not None}), None):
            if shard in groups:
                waiting -= set(groups[shard])
                session.expect_flush_on(frozenset(() if shard is None else (shard,)))
                with hidden(session, waiting):
                    flush()
    finally:
        session.parent_shards.clear()
        session.expect_flush_on(frozenset())


def _groups(session: RoutedSession) -> dict[str | None, list[AnyState]]:
    """Return the objects of a flush by shard; None for new ones of which a listener may have to say it."""
    found: dict[str | None, list[AnyState]] = {}
    _place(session, list(session.new), all_of_them=False)
    for obj in (*session.new, *session.dirty, *session.deleted):
        state: AnyState = inspect(obj)
        found.setdefault(cast("str | None", state.identity_token), []).append(state)
    return found


def before_flush(session: RoutedSession) -> None:
    """Give each new object its shard, and refuse what would leave the shard of an object.

    No SQL, but one SELECT on each shard for objects that were given the foreign key of their parent and not the parent,
    unless the key holds the shard.

    Raises:
        UnroutableKeyError: A new object has no shard.
        ShardKeyChangedError: The shard key of an object has changed to that of another shard.
        CrossShardRelationshipError: Two objects on different shards refer to each other.
    """
    new, dirty = list(session.new), list(session.dirty)
    if session.routing.choosers.shard_chooser is None:
        _place(session, new)
        for obj in dirty:
            _check_key(session, obj)
    for obj in (*new, *dirty):
        _check_relationships(session, inspect(obj))
    session.expect_flush_on(
        frozenset(str(token) for obj in (*new, *dirty, *session.deleted) if (token := inspect(obj).identity_token))
    )
    _check_secondary(session, [*new, *dirty])


def shard_of_new(session: RoutedSession, obj: MappedObject) -> str:
    """Return the shard that a new object belongs to.

    Raises:
        UnroutableKeyError: It has none.
        ShardNotNamedError: Its class has no rule, and no shard is pinned.
        ShardingError: Another shard is pinned.
    """
    state: AnyState = inspect(obj)
    routing, pinned = session.routing, pinned_shard()
    rule = routing.rule_of(state.mapper)
    if rule is None and pinned is not None and not routing.is_reference(state.mapper):
        return pinned
    shard = routing.shard_of_object(obj)
    if shard is None and isinstance(rule, FollowsParent):
        (shard,) = shards_of_parents(session, rule, [_foreign_key(session, rule, obj)])
    if shard is None:  # the parent of its parent is referred to by value
        parent: MappedObject = getattr(obj, rule.relationship.key) if isinstance(rule, FollowsParent) else None
        shard = shard_of_new(session, parent)
    if pinned is not None and rule is not None and shard != pinned:
        raise ShardingError(
            f"{state.mapper.class_.__name__} belongs to the shard {shard!r} by {rule.name}, and this block is pinned "
            f"to {pinned!r}; a row elsewhere would not be found again. Flush it outside of pinned_to()"
        )
    return shard


def _foreign_key(session: RoutedSession, rule: FollowsParent, obj: MappedObject) -> tuple[Any, ...]:
    mapper: AnyMapper = inspect(obj).mapper
    pairs = session.routing.parent_of(rule).pairs
    return tuple(getattr(obj, mapper.get_property_by_column(local).key) for local, _ in pairs)


def _place(session: RoutedSession, new: Sequence[MappedObject], *, all_of_them: bool = True) -> None:
    """Mark new objects with their shards; SQLAlchemy writes them there.

    Args:
        session: The session.
        new: The objects.
        all_of_them: Whether one without a shard is an error.
    """
    routing = session.routing
    waiting: dict[FollowsParent, list[MappedObject]] = {}
    with session.no_autoflush:
        for obj in new:
            state: AnyState = inspect(obj)
            rule = routing.rule_of(state.mapper)
            try:
                has_key_only = isinstance(rule, FollowsParent) and getattr(obj, rule.relationship.key) is None
                if has_key_only and pinned_shard() is None and routing.shard_of_object(obj) is None:
                    waiting.setdefault(cast("FollowsParent", rule), []).append(obj)
                    continue
                state.identity_token = shard_of_new(session, obj)
            except (UnroutableKeyError, ShardNotNamedError):
                if all_of_them:
                    raise
                state.identity_token = None
        for rule, objects in waiting.items():
            keys = [_foreign_key(session, rule, obj) for obj in objects]
            for obj, shard in zip(objects, shards_of_parents(session, rule, keys), strict=True):
                inspect(obj).identity_token = shard


def _check_key(session: RoutedSession, obj: MappedObject) -> None:
    """Refuse a change by which a row would belong to another shard."""
    routing = session.routing
    state: AnyState = inspect(obj)
    rule = routing.rule_of(state.mapper)
    if isinstance(rule, ShardKey):
        history = state.attrs[rule.attribute.key].history
        if history.added and rule.shard_of(history.added[0]) != state.identity_token:
            raise ShardKeyChangedError(
                f"{rule.name} of {_text(state)} was set to {history.added[0]!r}, and the row is on the shard "
                f"{state.identity_token!r}; move(session, obj, {rule.attribute.key}=...) takes it to its new shard"
            )
    elif isinstance(rule, FollowsParent):
        changed = any(
            state.attrs[state.mapper.get_property_by_column(local).key].history.added
            for local, _ in routing.parent_of(rule).pairs
        )
        if changed and not state.attrs[rule.relationship.key].history.added:
            key = _foreign_key(session, rule, obj)
            with session.no_autoflush:
                (shard,) = shards_of_parents(session, rule, [key])
            if shard != state.identity_token:
                raise _apart(state, str(state.identity_token), rule.relationship.key, shard)


def _check_relationships(session: RoutedSession, state: AnyState) -> None:
    """Refuse a reference from an object to one on another shard."""
    routing = session.routing
    if routing.is_reference(state.mapper):
        return
    for prop, others in _added(state):
        if routing.is_reference(prop.mapper):
            continue
        for other in others:
            of_other: AnyState = inspect(other)
            here, there = state.identity_token, of_other.identity_token
            if here and there and here != there:
                raise _apart(state, str(state.identity_token), prop.key, str(of_other.identity_token))


def _added(state: AnyState) -> Iterator[tuple[RelationshipProperty[Any], Sequence[MappedObject]]]:
    """Yield the relationships of an object that were changed, with the objects that were added; nothing is loaded."""
    for prop in state.mapper.relationships:
        if not prop.viewonly and prop.key in state.dict:
            added = [each for each in state.attrs[prop.key].history.added or () if each is not None]
            if added:
                yield prop, added


def _check_secondary(session: RoutedSession, objects: Sequence[MappedObject]) -> None:
    """Refuse a flush of several shards that writes a many-to-many table, which SQLAlchemy does on one connection."""
    flushed = session.flushed_shards
    if len(flushed) < 2:
        return
    for obj in objects:
        state: AnyState = inspect(obj)
        for prop in state.mapper.relationships:
            if prop.secondary is not None and prop.key in state.dict and state.attrs[prop.key].history.has_changes():
                raise CrossShardRelationshipError(
                    f"{state.mapper.class_.__name__}.{prop.key} is many-to-many, and the flush writes to the shards "
                    f"{', '.join(sorted(flushed))}: SQLAlchemy writes such tables on one connection. Flush the objects "
                    "of each shard by themselves, or map the table as a class with a FollowsParent"
                )


def _apart(state: AnyState, shard: str, key: str, other: str) -> CrossShardRelationshipError:
    return CrossShardRelationshipError(
        f"{_text(state)} is on the shard {shard!r}, and {state.mapper.class_.__name__}.{key} refers to an object on "
        f"{other!r}; objects that refer to each other are on one shard. move() takes them there"
    )


def _text(state: AnyState) -> str:
    return (
        f"{state.mapper.class_.__name__} {state.identity!r}" if state.key else f"a new {state.mapper.class_.__name__}"
    )


# -- after the rows are written ----------------------------------------------------------------------------------------


def after_flush(session: RoutedSession) -> None:
    """Refuse keys that were changed too late, and copy rows of reference tables to all other shards.

    For each table and shard one statement, and one SELECT of the rows.

    Raises:
        ShardKeyChangedError: A listener has changed the key of an object when its shard was chosen already.
    """
    routing = session.routing
    if routing.choosers.shard_chooser is None:
        for obj in session.new:
            state: AnyState = inspect(obj)
            rule = routing.rule_of(state.mapper)
            if not isinstance(rule, ShardKey) or rule.attribute.key not in state.dict:
                continue
            if rule.shard_of(state.dict[rule.attribute.key]) != state.identity_token:
                raise ShardKeyChangedError(
                    f"{rule.name} of {_text(state)} was changed while it was written; set it before the flush"
                )
    _copy_reference_rows(session)


def _copy_reference_rows(session: RoutedSession) -> None:
    routing = session.routing
    found: dict[str, list[AnyState]] = {
        kind: [
            state
            for obj in objects
            if routing.is_reference((state := inspect(obj)).mapper) and (kind != "dirty" or session.is_modified(obj))
        ]
        for kind, objects in (("new", session.new), ("dirty", session.dirty), ("deleted", session.deleted))
    }
    if not any(found.values()):
        return
    for table in sort_tables({table for states in found.values() for state in states for table in state.mapper.tables}):
        for kind in ("new", "dirty"):
            _copy(session, table, [state for state in found[kind] if table in state.mapper.tables], kind == "new")
    for table in reversed(sort_tables({table for state in found["deleted"] for table in state.mapper.tables})):
        _delete(session, table, [state for state in found["deleted"] if table in state.mapper.tables])
    for state in (*found["dirty"], *found["deleted"]):
        _expire_copies(session, state)


def _copy(session: RoutedSession, table: Table, states: Sequence[AnyState], is_new: bool) -> None:
    keys = list(table.primary_key)
    for source, group in _by_shard(states).items():
        for batch in chunks(group, 500):
            wanted = [_key_of(state) for state in batch]
            rows = session.connection_to(source).execute(structural(select(table).where(key_in(keys, wanted))))
            values = [dict(row) for row in rows.mappings()]
            for shard in session.routing.shards.names:
                if shard == source or not values:
                    continue
                connection = session.connection_to(shard)
                if is_new:
                    connection.execute(structural(insert(table)), values)
                else:
                    others = [column for column in table.c if column not in keys]
                    if not others:
                        continue
                    statement = update(table).values({column: bindparam(f"new_{column.key}") for column in others})
                    for column in keys:
                        statement = statement.where(column == bindparam(f"key_{column.key}"))
                    rows_of_shard = [
                        {f"key_{column.key}": row[column.key] for column in keys}
                        | {f"new_{column.key}": row[column.key] for column in others}
                        for row in values
                    ]
                    connection.execute(structural(statement), rows_of_shard)


def _delete(session: RoutedSession, table: Table, states: Sequence[AnyState]) -> None:
    keys = list(table.primary_key)
    for source, group in _by_shard(states).items():
        for batch in chunks(group, 500):
            condition = key_in(keys, [_key_of(state) for state in batch])
            for shard in session.routing.shards.names:
                if shard != source:
                    session.connection_to(shard).execute(structural(delete(table).where(condition)))


def _expire_copies(session: RoutedSession, state: AnyState) -> None:
    """Expire the objects of the row that were loaded from other shards."""
    for shard in session.routing.shards.names:
        key = state.mapper.identity_key_from_primary_key(_key_of(state), identity_token=shard)
        other: MappedObject = session.identity_map.get(key)
        if other is not None and inspect(other) is not state:
            session.expire(other)


def _by_shard(states: Sequence[AnyState]) -> dict[str, list[AnyState]]:
    found: dict[str, list[AnyState]] = {}
    for state in states:
        found.setdefault(str(state.identity_token), []).append(state)
    return found


def _key_of(state: AnyState) -> tuple[Any, ...]:
    return tuple(state.mapper.primary_key_from_instance(state.obj()))
