"""The flush: what an object's change, deletion and birth come down to.

Mapper events decide, at the moment when the unit of work is about to write: foreign keys that the flush itself sets are there by then, and so
are orphans. The first object of a hierarchy that turns out to be changed has all others captured with it, in one statement for a
thousand; from there on an object costs one look into a set.

Whether an object is changed is decided by its columns. Where an old value was not loaded before it was set, or was changed in place, it is
looked up, for all such objects at once, under the lock that the copy takes anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ClauseElement, Connection, Select, select
from sqlalchemy.orm import InstanceState, Mapper, Session
from sqlalchemy.orm.attributes import get_history, instance_state, set_attribute, set_committed_value
from sqlalchemy.orm.base import LoaderCallableStatus, PassiveFlag

from ._capture import capture_keys, current_versions, gone, stamp_of
from ._clauses import CHUNK, Found, Stamp, chunks, joined, key_in, lock, made_now
from ._config import VersionConfig, config_of
from ._errors import StaleVersionError
from ._reuse import Last, continue_keys
from ._sa import flushed_states, forced_value, is_deleted, old_values
from ._session import SessionVersions, flush_context, session_versions
from ._tables import REVISION, VALID_FROM, VERSION

__all__ = ("before_delete", "before_insert", "before_update", "continue_versions", "identity_of")

State = InstanceState[Any]


def _config(mapper: Mapper[Any]) -> VersionConfig:
    config: Any = config_of(mapper.class_)
    found: VersionConfig = config
    return found


def identity_of(state: State) -> tuple[Any, ...]:
    key: Any = state.key
    identity: tuple[Any, ...] = key[1]
    return identity


# -- updates -------------------------------------------------------------------------------------


def before_update(mapper: Mapper[Any], connection: Connection, state: State) -> None:
    given: Any = state.session
    session: Session = given
    versions = session_versions(session)
    if state in versions.done or versions.disabled or _changed(_config(state.mapper), state, versions) is False:
        return
    root = _config(mapper).root
    states = [each for each in _flushed(session, mapper, root, deletes=False) if each.key is not None]
    _update(session, versions, root, states or [state])


def _flushed(session: Session, mapper: Mapper[Any], root: VersionConfig, *, deletes: bool) -> list[State]:
    """What else is flushed of the hierarchy; concrete classes, which share a base mapper and no history, left out."""
    states = flushed_states(flush_context(session), mapper, deletes=deletes)
    return [state for state in states if (config := config_of(state.mapper.class_)) is not None and config.root is root]


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
        identities = {state: identity_of(state) for state in changed}
        found, gone_keys = capture_keys(session, root, _by_class(changed), "update")
        stamp = stamp_of(session, root)
        missing = [state for state, identity in identities.items() if identity not in found] if gone_keys else []
        kept = _own_versions(session, root, missing, stamp) if missing else set[State]()
        versions.done.update(changed)
        for state, identity in identities.items():
            if state not in kept:
                _bump(root, state, found[identity], stamp.revision)
            if not old_values(state).keys().isdisjoint(root.key_attrs):
                versions.named.append((root, state))  # its new key may have been somebody's before


def _own_versions(session: Session, root: VersionConfig, missing: list[State], stamp: Stamp) -> set[State]:
    """Those of `missing` whose present version this transaction has made, so that it needs no copy.

    Raises:
        StaleVersionError: a row is gone. Its UPDATE would say so too, unless somebody has put another there by then, which is not ours.
    """
    own: dict[tuple[Any, ...], Any] = {}
    if root.options.granularity == "transaction":
        connection = session.connection(bind_arguments={"mapper": root.mapper})
        own = current_versions(connection, root, [identity_of(state) for state in missing], made_now(root), stamp)
    for state in missing:
        if identity_of(state) not in own:
            raise StaleVersionError(gone(root, identity_of(state)))
    return set(missing)


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
    for key in config.post_updates:
        # The foreign key is set after this event.
        if get_history(state.obj(), key, PassiveFlag.PASSIVE_NO_INITIALIZE).has_changes():
            return True
    return answer


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
    keys: dict[Mapper[Any], list[tuple[Any, ...]]] = {}
    for state in states:
        keys.setdefault(state.mapper, []).append(identity_of(state))
    return {_config(mapper): listed for mapper, listed in keys.items()}


def _bump(root: VersionConfig, state: State, found: Found, revision: Any) -> None:
    """Give an object the version that follows the one in the database."""
    obj = state.obj()
    set_attribute(obj, VERSION, found.version + 1)
    if root.options.period:
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
    missing = capture_keys(session, root, _by_class(states), "delete").missing
    if missing and root.options.granularity == "flush" and root.pair.main.autoincrement_column is None:
        # Somebody may put another row there before ours is deleted. Where the database makes the keys, nobody can.
        raise StaleVersionError(gone(root, missing[0]))


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
        found, _ = capture_keys(session, root, _by_class(existing for existing, _ in switched.values()), "update")
        stamp = stamp_of(session, root)
        for key, (_, new) in switched.items():
            if key in found:
                _bump(root, new, found[key], stamp.revision)
            else:
                _take_over(root, switched[key])
    elif switched:
        for pair in switched.values():
            _take_over(root, pair)
    versions.named += [(root, each) for key, each in named.items() if key not in switched]


def _take_over(root: VersionConfig, pair: tuple[State, State]) -> None:
    """Leave a row that changes hands the version that it has."""
    existing, new = pair
    for name in root.own:
        if name in existing.dict:
            set_attribute(new.obj(), name, existing.dict[name])


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


def continue_versions(session: Session, versions: SessionVersions) -> None:
    """Give objects under keys that were used before the version that follows."""
    by_root: dict[VersionConfig, dict[tuple[Any, ...], State]] = {}
    for root, state in versions.named:
        by_root.setdefault(root, {})[cast("tuple[Any, ...]", _given_key(root, state))] = state
    for root, states in by_root.items():
        for key, last in continue_keys(session, root, states).items():
            if key in states and states[key].dict.get(VERSION, 1) <= last.version:
                _continue(states[key], last)


def _continue(state: State, last: Last) -> None:
    set_committed_value(state.obj(), VERSION, last.version + 1)
    begun = state.dict.get(VALID_FROM)
    if last.ended is not None and isinstance(begun, datetime) and begun < last.ended:
        set_committed_value(state.obj(), VALID_FROM, last.ended)
