"""Write history during a flush: listeners for the mapper events before an INSERT, UPDATE or DELETE.

The mapper events are used because they occur right before the unit of work writes, when it has already set foreign keys
and found orphans. The event of the first changed object of a hierarchy copies the rows of all changed objects in the
flush, with one statement for a thousand objects; the events of the others only look into a set.

The columns of an object decide whether it has changed. Old values that were not loaded before they were set, or were
changed in place, are read from the database, for all such objects in one statement, and with the row locks that the
copy takes anyway.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ClauseElement, ColumnElement, Connection, delete, select, tuple_, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import get_history, instance_state, set_attribute
from sqlalchemy.orm.base import LoaderCallableStatus, PassiveFlag

from .._sql import chunks, key_in
from .._sqlalchemy import flushed_states, is_deleted, object_in_session, set_value_before_change, values_before_changes
from .._typing import AnyMapper, AnySelect, AnyState, PrimaryKey
from ._assignments import begin_at_one, check_assigned
from ._captured_rows import CapturedRow, CapturedRows
from ._config import (
    KeyValues,
    RowValues,
    TablePair,
    VersionConfig,
    config_of,
    connection_of,
    pairs_bottom_up,
    pk_of,
    require_config,
    root_key_in,
)
from ._errors import deleted_elsewhere
from ._expressions import join_condition, keys_per_statement, lock_rows
from ._history_writer import capture_keys
from ._names import OPERATION, REVISION, VALID_FROM, VERSION
from ._reused_keys import continue_keys, continue_object
from ._session import SessionVersions, flush_context, get_stamp, session_of, session_versions
from ._version import Operation


def _config(mapper: AnyMapper) -> VersionConfig:
    return require_config(mapper.class_)


# -- updates -------------------------------------------------------------------------------------


def before_update(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Copy the rows of the changed objects of a hierarchy, and give the objects their next version."""
    session = session_of(state)
    versions = session_versions(session)
    if state in versions.handled or versions.disabled:
        return
    if not _config(mapper).version_columns.isdisjoint(values_before_changes(state)):
        check_assigned(session, [state])  # assigned by a listener that was called after the library's
    if _is_changed(_config(state.mapper), state, versions) is False:
        return
    root = _config(mapper).root
    states = [each for each in _flushed(session, mapper, root, deletes=False) if each.key is not None]
    _update(session, versions, root, states or [state])


def _flushed(session: Session, mapper: AnyMapper, root: VersionConfig, *, deletes: bool) -> list[AnyState]:
    """Return the objects of a hierarchy in the present flush, without concrete classes, which share no history."""
    states = flushed_states(flush_context(session), mapper, deletes=deletes)
    return [state for state in states if (config := config_of(state.mapper.class_)) is not None and config.root is root]


def _update(session: Session, versions: SessionVersions, root: VersionConfig, states: list[AnyState]) -> None:
    """Copy the rows of those objects that have changed, and give the objects their next version."""
    undecided = [state for state in states if state not in versions.handled]
    unknown: list[AnyState] = []
    changed: list[AnyState] = []
    for state in undecided:
        answer = _is_changed(_config(state.mapper), state, versions)
        if answer:
            changed.append(state)
        elif answer is None:
            unknown.append(state)
    if unknown:
        _look_up(session, versions, root, unknown)
        changed += [state for state in unknown if _is_changed(_config(state.mapper), state, versions)]
    if changed:
        copied = _take_announced(session, root, changed, "update")
        rest = [state for state in changed if state not in copied]
        if rest:
            result = capture_keys(session, root, _keys_by_class(rest), "update")
            _require_rows(root, result)
            copied.update({state: row for state in rest if (row := result.captured.get(pk_of(state))) is not None})
        stamp = get_stamp(session, root)
        versions.handled.update(changed)
        for state in changed:
            if state in copied:
                _set_next_version(root, state, copied[state], stamp.revision)
            if not values_before_changes(state).keys().isdisjoint(root.key_attrs):
                versions.with_given_keys.append((root, state))  # its new key may have a history


def _require_rows(root: VersionConfig, result: CapturedRows) -> None:
    """Raise if a row does not exist.

    The UPDATE would raise too, unless another transaction has inserted a row with the same key by then, which must not
    be changed.

    Raises:
        StaleVersionError: A row does not exist.
    """
    if result.missing:
        raise deleted_elsewhere(root.name, result.missing[0])


def _is_changed(config: VersionConfig, state: AnyState, versions: SessionVersions) -> bool | None:
    """Return whether the columns of an object have changed; None if that takes old values that are not known."""
    set_values = values_before_changes(state)
    answer: bool | None = False
    if set_values:
        tracked = config.tracked
        known = versions.looked_up.get(state)
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
            # The type compares values only, not None.
            if (old is None) is not (new is None) or (old is not None and not same(old, new)):
                return True
    for key in config.post_updates:
        # The foreign key is set after this event.
        if get_history(state.obj(), key, PassiveFlag.PASSIVE_NO_INITIALIZE).has_changes():
            return True
    return answer


def _look_up(session: Session, versions: SessionVersions, root: VersionConfig, states: list[AnyState]) -> None:
    """Read old values that are not known, with one SELECT for each class and a thousand objects."""
    connection = connection_of(session, root)
    by_class: dict[VersionConfig, list[AnyState]] = {}
    for state in states:
        by_class.setdefault(_config(state.mapper), []).append(state)
    for config, members in by_class.items():
        wanted: set[str] = set()
        for state in members:
            wanted |= {
                key
                for key, old in values_before_changes(state).items()
                if isinstance(old, LoaderCallableStatus) and key in config.tracked
            }
        attrs = sorted(wanted)
        statement: AnySelect = select(*root.key, *(config.columns[key] for key in attrs))
        for pair in config.pairs[1:]:
            statement = statement.where(join_condition(config, pair))
        statement = lock_rows(connection, statement.order_by(*root.key), root.pair.main)
        width = len(root.key)
        rows: dict[KeyValues, RowValues] = {}
        for chunk in chunks([pk_of(state) for state in members], keys_per_statement(root)):
            for row in connection.execute(statement.where(key_in(root.key, chunk))):
                rows[tuple(row[:width])] = row[width:]
        for state in members:
            found = rows.get(pk_of(state))
            if found is not None:
                values = dict(zip(attrs, found, strict=True))
                versions.looked_up[state] = values
                if state.mapper.version_id_col is not None:
                    _set_old_values(state, values)


def _set_old_values(state: AnyState, values: dict[str, object]) -> None:
    """Set old values that were read from the database as if they had been loaded.

    Otherwise SQLAlchemy, where it checks ``version``, would increment it in an object that has not changed.
    """
    for key, old in values.items():
        if isinstance(values_before_changes(state).get(key), LoaderCallableStatus):
            set_value_before_change(state, key, old)


def _keys_by_class(states: Iterable[AnyState]) -> dict[VersionConfig, list[KeyValues]]:
    keys: dict[AnyMapper, list[KeyValues]] = {}
    for state in states:
        keys.setdefault(state.mapper, []).append(pk_of(state))
    return {_config(mapper): listed for mapper, listed in keys.items()}


def _set_next_version(root: VersionConfig, state: AnyState, captured: CapturedRow, revision: PrimaryKey) -> None:
    """Give an object the version that follows the one in the database."""
    obj = state.obj()
    set_attribute(obj, VERSION, captured.version + 1)
    if root.options.period:
        set_attribute(obj, VALID_FROM, captured.moment)
    if root.options.revision is not None:
        set_attribute(obj, REVISION, revision)


# -- rows that other packages change -------------------------------------------------------------


def copy_announced(session: Session, objects: Iterable[object]) -> None:
    """Copy the rows of objects that another package is about to change with statements of its own.

    Whether the objects get a new version is decided as usual, in their mapper events; a copy that was not needed is
    deleted after the flush.
    """
    versions = session_versions(session)
    if versions.disabled:
        return
    by_root: dict[VersionConfig, dict[AnyState, None]] = {}
    for obj in objects:
        state = instance_state(obj)
        config = config_of(state.mapper.class_)
        if config is not None and state.key is not None and state not in versions.announced:
            by_root.setdefault(config.root, {})[state] = None
    for root, states in by_root.items():
        # Old values that are not known have to be read while the rows still have them.
        unknown = [state for state in states if _is_changed(_config(state.mapper), state, versions) is None]
        if unknown:
            _look_up(session, versions, root, unknown)
        deleted = {state for state in states if state.obj() in session.deleted}
        operation: Operation
        for operation in ("update", "delete"):
            listed = [state for state in states if (state in deleted) is (operation == "delete")]
            asked, first = versions.stamped, not versions.has_revision(session, root)
            captured = capture_keys(session, root, _keys_by_class(listed), operation).captured if listed else {}
            versions.stamped_for_others += versions.stamped - asked
            if listed and first:
                versions.begun_for_others.add(root)
            for state in listed:
                if pk_of(state) in captured:
                    versions.announced[state] = operation, captured[pk_of(state)]


def _take_announced(
    session: Session, root: VersionConfig, states: Iterable[AnyState], operation: Operation
) -> dict[AnyState, CapturedRow]:
    """Remove from the announced objects those of `states`, and return them with what their copied rows had."""
    versions = session_versions(session)
    taken = {state: versions.announced.pop(state) for state in states if state in versions.announced}
    if root.options.operation:
        other_operation = [pk_of(state) for state, (announced, _) in taken.items() if announced != operation]
        history = root.pair.history
        for chunk in chunks(other_operation):
            connection = connection_of(session, root)
            statement = update(history).where(_copies(root, root.pair, chunk)).values({OPERATION: operation})
            connection.execute(statement)
    return {state: captured for state, (_, captured) in taken.items()}


def withdraw_announced(session: Session, versions: SessionVersions) -> None:
    """Delete the copies of rows that other packages have announced and that were not changed after all."""
    by_root: dict[VersionConfig, list[KeyValues]] = {}
    for state in versions.announced:
        by_root.setdefault(_config(state.mapper).root, []).append(pk_of(state))
    for root, keys in by_root.items():
        connection = connection_of(session, root)
        for pair in pairs_bottom_up(root):
            for chunk in chunks(keys):
                connection.execute(delete(pair.history).where(_copies(root, pair, chunk)))
        if root in versions.begun_for_others and versions.stamped == versions.stamped_for_others:
            versions.delete_revision(session, root)
    versions.announced.clear()


def _copies(root: VersionConfig, pair: TablePair, keys: list[KeyValues]) -> ColumnElement[bool]:
    """Match the history rows that have the same version as the main rows with these keys."""
    main = root.pair.main
    present = select(*root.key, main.c[VERSION]).where(key_in(root.key, keys))
    return tuple_(*root_key_in(root, pair), pair.history.c[VERSION]).in_(present)


# -- deletes -------------------------------------------------------------------------------------


def before_delete(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Copy the rows of the objects of a hierarchy that the present flush deletes."""
    session = session_of(state)
    versions = session_versions(session)
    if state in versions.handled or versions.disabled or state is versions.erased:
        return
    root = _config(mapper).root
    states = _flushed(session, mapper, root, deletes=True) or [state]
    states = [each for each in states if each not in versions.handled and each.key is not None]
    states = [each for each in states if each is not versions.erased]
    versions.handled.update(states)
    if versions.erased_with is not None:
        versions.erased_with.setdefault(root, set()).update(map(pk_of, states))
    copied = _take_announced(session, root, states, "delete")
    rest = [each for each in states if each not in copied]
    missing = capture_keys(session, root, _keys_by_class(rest), "delete").missing if rest else []
    if missing and root.options.granularity == "flush" and root.pair.main.autoincrement_column is None:
        # Another transaction may insert a row with this key before the DELETE, unless the database makes the keys.
        raise deleted_elsewhere(root.name, missing[0])


# -- inserts -------------------------------------------------------------------------------------


def before_insert(mapper: AnyMapper, connection: Connection, state: AnyState) -> None:
    """Give a new object its first version, or the next one if it replaces an object that the same flush deletes."""
    session = session_of(state)
    versions = session_versions(session)
    config = _config(mapper)
    root = config.root
    options = root.options
    if state not in versions.handled and not versions.disabled:
        begin_at_one(state)
    if options.period or options.revision is not None:
        stamp = get_stamp(session, root)
        obj = state.obj()
        if options.period:
            set_attribute(obj, VALID_FROM, stamp.moment)
        if options.revision is not None:
            set_attribute(obj, REVISION, stamp.revision)
    if state in versions.handled or _given_key(root, state) is None:
        return
    states = [each for each in _flushed(session, mapper, root, deletes=False) if each.key is None]
    by_key: dict[KeyValues, AnyState] = {}
    for each in states or [state]:
        key = None if each in versions.handled else _given_key(root, each)
        if key is not None:
            by_key[key] = each
            if not versions.disabled:
                begin_at_one(each)
    versions.handled.update(by_key.values())
    switches = _row_switches(session, by_key)
    if switches and not versions.disabled:
        replaced = _keys_by_class(old for old, _ in switches.values())
        captured = capture_keys(session, root, replaced, "update").captured
        stamp = get_stamp(session, root)
        for key, (old, new) in switches.items():
            if key in captured:
                _set_next_version(root, new, captured[key], stamp.revision)
            else:
                _keep_version(root, old, new)
    else:
        for old, new in switches.values():
            _keep_version(root, old, new)
    versions.with_given_keys += [(root, each) for key, each in by_key.items() if key not in switches]


def _keep_version(root: VersionConfig, existing: AnyState, new: AnyState) -> None:
    """Give a new object the version of the object whose row it takes."""
    for name in root.version_columns:
        if name in existing.dict:
            set_attribute(new.obj(), name, existing.dict[name])


def _given_key(root: VersionConfig, state: AnyState) -> KeyValues | None:
    """Return the primary key of an object if the user has set it."""
    values = state.dict
    key = tuple(values.get(attr) for attr in root.key_attrs)
    return None if any(value is None or isinstance(value, ClauseElement) for value in key) else key


def _row_switches(session: Session, by_key: dict[KeyValues, AnyState]) -> dict[KeyValues, tuple[AnyState, AnyState]]:
    """Return the objects that the flush deletes, each with the new object that has its key.

    The unit of work turns the DELETE and the INSERT into one UPDATE of the row.
    """
    found: dict[KeyValues, tuple[AnyState, AnyState]] = {}
    for key, state in by_key.items():
        existing = object_in_session(session, state.mapper, key)
        if existing is not None:
            old = instance_state(existing)
            if is_deleted(flush_context(session), old):
                found[key] = old, state
    return found


def continue_versions(session: Session, versions: SessionVersions) -> None:
    """Give new objects whose keys have a history the version that follows; called after the flush."""
    by_root: dict[VersionConfig, dict[KeyValues, AnyState]] = {}
    for root, state in versions.with_given_keys:
        key = _given_key(root, state)
        if key is not None:
            by_root.setdefault(root, {})[key] = state
    for root, states in by_root.items():
        for key, last in continue_keys(session, root, states).items():
            if key in states and states[key].dict.get(VERSION, 1) <= last.version:
                continue_object(states[key], last)
