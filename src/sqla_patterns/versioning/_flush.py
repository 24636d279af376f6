"""The flush: what an object's change, deletion and birth come down to.

Mapper events decide, at the moment when the unit of work is about to write: foreign keys that the flush itself sets are there by then, and so
are orphans. The first object of a hierarchy that turns out to be changed has all others captured with it, in one statement for a
thousand; from there on an object costs one look into a set.

Whether an object is changed is decided by its columns. Where an old value was not loaded before it was set, or was changed in place, it is
looked up, for all such objects at once, under the lock that the copy takes anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import ClauseElement, Connection, Select, bindparam, func, select, update
from sqlalchemy.orm import InstanceState, Mapper, RelationshipDirection, Session
from sqlalchemy.orm.attributes import get_history, instance_state, set_attribute, set_committed_value
from sqlalchemy.orm.base import LoaderCallableStatus, PassiveFlag

from ._capture import CHUNK, Found, capture_keys, chunks, joined, key_in, lock, stamp_of
from ._config import VersionConfig, config_of
from ._sa import flushed_states, forced_value, is_deleted, old_values
from ._session import SessionVersions, flush_context, session_versions
from ._tables import REVISION, VALID_FROM, VERSION

__all__ = ("before_delete", "before_insert", "before_update", "continue_versions", "identity_of")

State = InstanceState[Any]


def _config(mapper: Mapper[Any]) -> VersionConfig:
    return cast("VersionConfig", config_of(mapper.class_))


def identity_of(state: State) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", cast("Any", state.key)[1])


# -- updates -------------------------------------------------------------------------------------


def before_update(mapper: Mapper[Any], connection: Connection, state: State) -> None:
    session = cast("Session", state.session)
    versions = session_versions(session)
    if state in versions.done or versions.disabled or _changed(_config(state.mapper), state, versions) is False:
        return
    root = _config(mapper).root
    states = [each for each in _flushed(session, mapper, root, deletes=False) if each.key is not None]
    _update(session, versions, root, states or [state])


def _flushed(session: Session, mapper: Mapper[Any], root: VersionConfig, *, deletes: bool) -> list[State]:
    """What else is flushed of the hierarchy; concrete classes, which share a base mapper and no history, left out."""
    states = flushed_states(flush_context(session), mapper, deletes=deletes)
    return [state for state in states if _config(state.mapper).root is root]


def _update(session: Session, versions: SessionVersions, root: VersionConfig, states: list[State]) -> None:
    undecided = [state for state in states if state not in versions.done]
    unknown: list[State] = []
    changed: list[State] = []
    for state in undecided:
        answer = _changed(_config(state.mapper), state, versions)
        if answer:
            changed.append(state)
        elif answer is None:
            unknown.append(state)
    if unknown:
        _look_up(session, versions, root, unknown)
        changed += [state for state in unknown if _changed(_config(state.mapper), state, versions)]
    if changed:
        found = capture_keys(session, root, _by_class(changed), "update")
        stamp = stamp_of(session, root)
        for state in changed:
            versions.done.add(state)
            _bump(root, state, found.get(identity_of(state)), stamp.revision)


def _changed(config: VersionConfig, state: State, versions: SessionVersions) -> bool | None:
    """Whether the columns of an object have changed; None where it takes the database to tell."""
    set_values = old_values(state)
    answer: bool | None = False
    if set_values:
        tracked = config.tracked
        known = versions.known.get(state)
        values = state.dict
        for key, old in set_values.items():
            same = tracked.get(key)
            if same is None:
                continue
            new = values.get(key)
            if isinstance(old, LoaderCallableStatus):
                if known is None or key not in known:
                    answer = None
                    continue
                old = known[key]
            if isinstance(new, ClauseElement) or hasattr(new, "__clause_element__"):
                return True
            # A type compares values; None is none of its business.
            if (old is None) is not (new is None) or (old is not None and not same(old, new)):
                return True
    return True if _post_updates(config, state) else answer


def _post_updates(config: VersionConfig, state: State) -> bool:
    """Whether a many-to-one with ``post_update``, whose foreign key is set after this event, has changed."""
    for key in _post_update_keys(config):
        if get_history(state.obj(), key, PassiveFlag.PASSIVE_NO_INITIALIZE).has_changes():
            return True
    return False


def _post_update_keys(config: VersionConfig) -> tuple[str, ...]:
    found = config.cache.get("post_update")
    if found is None:
        found = config.cache["post_update"] = tuple(
            relation.key
            for relation in config.mapper.relationships
            if relation.post_update and relation.direction is RelationshipDirection.MANYTOONE
        )
    return cast("tuple[str, ...]", found)


def _look_up(session: Session, versions: SessionVersions, root: VersionConfig, states: list[State]) -> None:
    """Find old values that are not known, with one SELECT for each class and a thousand objects."""
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    by_class: dict[VersionConfig, list[State]] = {}
    for state in states:
        by_class.setdefault(_config(state.mapper), []).append(state)
    for config, members in by_class.items():
        wanted: set[str] = set()
        for state in members:
            wanted |= {
                key
                for key, old in old_values(state).items()
                if isinstance(old, LoaderCallableStatus) and key in config.tracked
            }
        attrs = sorted(wanted)
        statement: Select[Any] = select(*root.key, *(config.columns[key] for key in attrs))
        for pair in config.pairs[1:]:
            statement = statement.where(joined(config, pair))
        statement = lock(connection, statement.order_by(*root.key), root.pair.main)
        width = len(root.key)
        rows: dict[tuple[Any, ...], Any] = {}
        for chunk in chunks([identity_of(state) for state in members], max(1, CHUNK // width)):
            for row in connection.execute(statement.where(key_in(root.key, chunk))):
                rows[tuple(row[:width])] = row[width:]
        for state in members:
            found = rows.get(identity_of(state))
            if found is not None:
                values = dict(zip(attrs, found, strict=True))
                versions.known[state] = values
                if state.mapper.version_id_col is not None:
                    _settle(config, state, values)


def _settle(config: VersionConfig, state: State, values: dict[str, Any]) -> None:
    """Have the unit of work see what was found, or it would count up ``version`` of an object that is as it was."""
    for key, old in values.items():
        if isinstance(old_values(state).get(key), LoaderCallableStatus):
            forced_value(state, key, old)


def _by_class(states: Iterable[State]) -> dict[VersionConfig, list[tuple[Any, ...]]]:
    keys: dict[VersionConfig, list[tuple[Any, ...]]] = {}
    for state in states:
        keys.setdefault(_config(state.mapper), []).append(identity_of(state))
    return keys


def _bump(root: VersionConfig, state: State, found: Found | None, revision: Any) -> None:
    """Give an object the version that follows the one in the database."""
    obj = state.obj()
    if found is None:
        if root.options.granularity == "transaction":
            return  # this transaction has made the present version
        # The row is gone, and the UPDATE will say so; or its key reads otherwise than it was written.
        version = state.dict.get(VERSION)
        found = Found(version, None) if isinstance(version, int) else None
        if found is None:
            return
    set_attribute(obj, VERSION, found.version + 1)
    if root.options.period and found.moment is not None:
        set_attribute(obj, VALID_FROM, found.moment)
    if root.options.revision is not None:
        set_attribute(obj, REVISION, revision)


# -- deletes -------------------------------------------------------------------------------------


def before_delete(mapper: Mapper[Any], connection: Connection, state: State) -> None:
    session = cast("Session", state.session)
    versions = session_versions(session)
    if state in versions.done or versions.disabled:
        return
    root = _config(mapper).root
    states = _flushed(session, mapper, root, deletes=True) or [state]
    states = [each for each in states if each not in versions.done and each.key is not None]
    versions.done.update(states)
    capture_keys(session, root, _by_class(states), "delete")


# -- inserts -------------------------------------------------------------------------------------


def before_insert(mapper: Mapper[Any], connection: Connection, state: State) -> None:
    session = cast("Session", state.session)
    versions = session_versions(session)
    config = _config(mapper)
    root = config.root
    options = root.options
    if options.period or options.revision is not None:
        stamp = stamp_of(session, root)
        obj = state.obj()
        if options.period:
            set_attribute(obj, VALID_FROM, stamp.moment)
        if options.revision is not None:
            set_attribute(obj, REVISION, stamp.revision)
    if state in versions.done or _given_key(root, state) is None:
        return
    states = [each for each in _flushed(session, mapper, root, deletes=False) if each.key is None]
    named: dict[tuple[Any, ...], State] = {}
    for each in states or [state]:
        key = None if each in versions.done else _given_key(root, each)
        if key is not None:
            named[key] = each
    versions.done.update(named.values())
    switched = _switched(session, named)
    if switched and not versions.disabled:
        found = capture_keys(session, root, _by_class(existing for existing, _ in switched.values()), "update")
        stamp = stamp_of(session, root)
        for key, (_, new) in switched.items():
            _bump(root, new, found.get(key), stamp.revision)
    elif switched:
        for existing, new in switched.values():
            set_attribute(new.obj(), VERSION, existing.dict.get(VERSION, 1))
    versions.named += [(root, each) for key, each in named.items() if key not in switched]


def _given_key(root: VersionConfig, state: State) -> tuple[Any, ...] | None:
    """The primary key of a new object, where the user has given it one."""
    values = state.dict
    key = tuple(values.get(attr) for attr in root.key_attrs)
    return None if any(value is None or isinstance(value, ClauseElement) for value in key) else key


def _switched(session: Session, named: dict[tuple[Any, ...], State]) -> dict[tuple[Any, ...], tuple[State, State]]:
    """New objects that take the row of one which the same flush deletes: an UPDATE to the unit of work."""
    found: dict[tuple[Any, ...], tuple[State, State]] = {}
    for key, state in named.items():
        existing = session.identity_map.get(state.mapper.identity_key_from_primary_key(key))
        if existing is not None:
            old = instance_state(existing)
            if is_deleted(flush_context(session), old):
                found[key] = old, state
    return found


def last_versions(session: Session, root: VersionConfig, keys: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
    """The last version in history of each key that has one. One SELECT for a thousand keys."""
    if not keys:
        return {}
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    columns, width = root.history_key, len(root.key)
    statement = select(*columns, func.max(root.pair.history.c[VERSION])).group_by(*columns)
    found: dict[tuple[Any, ...], int] = {}
    for chunk in chunks(keys, max(1, CHUNK // width)):
        for row in connection.execute(statement.where(key_in(columns, chunk))):
            found[tuple(row[:width])] = row[width]
    return found


def continue_versions(session: Session, versions: SessionVersions) -> None:
    """Give objects under keys that were used before the version that follows.

    After their INSERT, not before: it waits for a transaction that is just deleting the key, and that one's history shows only
    afterwards. One SELECT for a thousand keys that the user gave, and one UPDATE of those that were used.
    """
    by_root: dict[VersionConfig, dict[tuple[Any, ...], State]] = {}
    for root, state in versions.named:
        by_root.setdefault(root, {})[cast("tuple[Any, ...]", _given_key(root, state))] = state
    for root, states in by_root.items():
        main = root.pair.main
        parameters: list[dict[str, Any]] = []
        for key, last in last_versions(session, root, list(states)).items():
            if key in states and states[key].dict.get(VERSION, 1) <= last:
                names = {f"sqla_key_{at}": value for at, value in enumerate(key)}
                parameters.append({**names, "sqla_version": last + 1})
                set_committed_value(states[key].obj(), VERSION, last + 1)
        if parameters:
            same = [column == bindparam(f"sqla_key_{at}", type_=column.type) for at, column in enumerate(root.key)]
            connection = session.connection(bind_arguments={"mapper": root.mapper})
            connection.execute(update(main).where(*same).values({VERSION: bindparam("sqla_version")}), parameters)
