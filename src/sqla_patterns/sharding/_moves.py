"""Take an object, and what follows it, to another shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Table, delete, insert, inspect, select
from sqlalchemy.orm import Session, SessionTransaction, make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from .._maintained import BEFORE_MAINTENANCE
from .._session import SyncSession, resolve_session
from .._sql import key_in, structural
from .._typing import AnyMapper, AnyState, MappedObject
from ..exceptions import InvalidArgumentError, StateError
from ._errors import CrossShardRelationshipError
from ._keys import ShardKey
from ._session import Move, RoutedSession, routed


@dataclass(frozen=True)
class _Part:
    """Rows of one class that are moved together."""

    mapper: AnyMapper
    keys: list[tuple[Any, ...]]


def move(session: SyncSession, obj: MappedObject, *, with_children: bool = False, **key: Any) -> str:
    """Give an object another shard key, take its row to the shard of that, and return the shard.

    The row is inserted there and deleted here, in the transactions of the session: neither shows before both are
    committed. The object stays the same object. It takes an INSERT and a DELETE, and a SELECT, for each table, and a
    SELECT for each class that follows it.

    Args:
        session: A session of a sharded factory; it is flushed.
        obj: An object with a `ShardKey`.
        with_children: Whether objects that follow it move with it.
        **key: The new value of the shard key, by the name of the attribute.

    Raises:
        CrossShardRelationshipError: Other rows follow it, and `with_children` is not given.
        UnroutableKeyError: No shard belongs to the value.
    """
    sync = routed(resolve_session(session, "move"), "move")
    routing = sync.routing
    state: AnyState = inspect(obj)
    mapper = state.mapper
    rule = routing.rule_of(mapper)
    if not isinstance(rule, ShardKey):
        raise InvalidArgumentError(f"move() needs an object with a ShardKey; {mapper.class_.__name__} has none")
    if list(key) != [rule.attribute.key]:
        raise InvalidArgumentError(f"move() needs the new {rule.attribute.key}=... of {mapper.class_.__name__}")
    if not state.persistent or state.session is not sync:
        raise StateError("move() needs an object that is in the session and has a row; add() and flush() it")
    value = key[rule.attribute.key]
    target, source = rule.shard_of(value), str(state.identity_token)
    sync.flush()
    if target == source:
        setattr(obj, rule.attribute.key, value)
        sync.flush()
        return target
    parts = _parts(sync, mapper, [tuple(mapper.primary_key_from_instance(obj))], source)
    for part in parts:
        if hasattr(part.mapper.class_, BEFORE_MAINTENANCE):
            raise StateError(
                f"move() cannot take {part.mapper.class_.__name__} along, whose history or structure is in other rows; "
                "delete the object and add a new one"
            )
    if len(parts) > 1 and not with_children:
        names = ", ".join(part.mapper.class_.__name__ for part in parts[1:])
        raise CrossShardRelationshipError(
            f"{mapper.class_.__name__} {state.identity!r} has rows of {names} that follow it; move them with "
            "with_children=True"
        )
    for part in parts:
        _insert(sync, part, source, target, {rule.column.key: value} if part is parts[0] else {})
    for part in reversed(parts):
        _delete(sync, part, source)
    loaded = [each for each in sync.identity_map.values() if _is_moved(each, parts, source)]
    for each in loaded:
        sync.moves.append(Move(each, source, sync.get_nested_transaction() or sync.get_transaction()))
        _change_token(sync, each, target)
    set_committed_value(obj, rule.attribute.key, value)
    return target


def after_soft_rollback(session: RoutedSession, transaction: SessionTransaction) -> None:
    """Give objects whose move was rolled back to their former shard."""
    session.expect_flush_on(frozenset())
    undone = [each for each in session.moves if _within(each.transaction, transaction)]
    if undone:
        session.moves = [each for each in session.moves if each not in undone]
        for each in reversed(undone):
            if inspect(each.obj).key is not None:
                _change_token(session, each.obj, each.source)
                session.expire(each.obj)


def _within(inner: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while inner is not None:
        if inner is outer:
            return True
        inner = inner.parent
    return False


def _parts(session: RoutedSession, mapper: AnyMapper, keys: list[tuple[Any, ...]], source: str) -> list[_Part]:
    """Return rows with all that follow them, parents first."""
    found = [_Part(mapper, keys)]
    connection = session.connection_to(source)
    for rule in session.routing.followers:
        parent = session.routing.parent_of(rule)
        if not mapper.isa(parent.mapper):
            continue
        names = [mapper.get_property_by_column(remote) for _, remote in parent.pairs]
        if [prop.columns[0] for prop in names] != list(parent.mapper.primary_key):
            raise StateError(f"move() follows foreign keys to primary keys only, and {rule.name} refers to others")
        locals_ = [local for local, _ in parent.pairs]
        child = rule.mapper
        rows = connection.execute(structural(select(*child.primary_key).where(key_in(locals_, keys))))
        of_children = [tuple(row) for row in rows]
        if of_children:
            found += _parts(session, child, of_children, source)
    return found


def _tables(mapper: AnyMapper) -> list[Table]:
    return [cast("Table", each) for each in mapper.tables]


def _insert(session: RoutedSession, part: _Part, source: str, target: str, changes: dict[str, Any]) -> None:
    for table in _tables(part.mapper):
        rows = session.connection_to(source).execute(
            structural(select(table).where(key_in(list(table.primary_key), part.keys)))
        )
        values = [
            {**row, **{name: value for name, value in changes.items() if name in table.c}} for row in rows.mappings()
        ]
        if values:
            session.connection_to(target).execute(structural(insert(table)), values)


def _delete(session: RoutedSession, part: _Part, source: str) -> None:
    for table in reversed(_tables(part.mapper)):
        session.connection_to(source).execute(
            structural(delete(table).where(key_in(list(table.primary_key), part.keys)))
        )


def _is_moved(obj: MappedObject, parts: list[_Part], source: str) -> bool:
    state: AnyState = inspect(obj)
    return state.identity_token == source and any(
        state.mapper.isa(part.mapper) and tuple(state.identity or ()) in part.keys for part in parts
    )


def _change_token(session: Session, obj: MappedObject, shard: str) -> None:
    """Have an object be that of another shard; what is loaded stays."""
    state: AnyState = inspect(obj)
    identity = state.identity or ()
    session.expunge(obj)
    make_transient(obj)
    for column, value in zip(state.mapper.primary_key, identity, strict=True):
        # It may be expired, and the new identity is made of it.
        set_committed_value(obj, state.mapper.get_property_by_column(column).key, value)
    state.identity_token = shard
    make_transient_to_detached(obj)
    session.add(obj)
