"""Check what users assign to the attributes that the library maintains: ``version``, ``valid_from``, ``revision_id``.

A web form that sends a whole object back assigns these too. Assigning the current value has no effect. Another value is
refused before anything is written, as the row would get an older version than its history has.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_attribute, set_committed_value
from sqlalchemy.orm.base import LoaderCallableStatus

from .._sql import chunks, key_in
from .._sqlalchemy import values_before_changes
from .._typing import AnyState
from ..exceptions import StateError
from ._config import KeyValues, VersionConfig, config_of, connection_of, pk_of, require_config
from ._expressions import keys_per_statement
from ._names import VERSION
from ._session import known_versions


def refuse_assigned_versions(session: Session) -> None:
    """Raise if the user has assigned another version to a persistent object.

    Raises:
        StateError: There is such an object; nothing was written.
    """
    versions = known_versions(session)
    if versions is not None and versions.disabled:
        return
    assigned = [
        state
        for state in map(instance_state, session.dirty)
        if (config := config_of(state.mapper.class_)) is not None
        and not config.root.version_columns.isdisjoint(values_before_changes(state))
    ]
    if assigned:
        check_assigned(session, assigned)


def check_assigned(session: Session, states: Iterable[AnyState]) -> None:
    """Take back what was assigned to the maintained attributes of persistent objects if it is what their rows have.

    Emits one SELECT for a thousand objects that were not loaded, none otherwise.

    Raises:
        StateError: Something else was assigned.
    """
    known: list[tuple[AnyState, dict[str, object]]] = []
    unknown: dict[VersionConfig, list[AnyState]] = {}
    for state in states:
        maintained = _root(state).version_columns
        set_names = {name: old for name, old in values_before_changes(state).items() if name in maintained}
        if any(isinstance(old, LoaderCallableStatus) for old in set_names.values()):
            unknown.setdefault(_root(state), []).append(state)
        else:
            known.append((state, set_names))
    for root, listed in unknown.items():
        names = sorted(root.version_columns)
        stored = _stored_values(session, root, names, [pk_of(state) for state in listed])
        for state in listed:
            if pk_of(state) in stored:  # else its row is gone, and the flush raises
                present = dict(zip(names, stored[pk_of(state)], strict=True))
                known.append((state, {name: present[name] for name in names if name in values_before_changes(state)}))
    for state, present in known:
        _check(state, present)


def _root(state: AnyState) -> VersionConfig:
    return require_config(state.mapper.class_).root


def _stored_values(
    session: Session, root: VersionConfig, names: list[str], keys: list[KeyValues]
) -> dict[KeyValues, tuple[object, ...]]:
    """Return what the rows with these keys have in the columns called `names`."""
    connection = connection_of(session, root)
    width = len(root.key)
    statement = select(*root.key, *(root.pair.main.c[name] for name in names))
    found: dict[KeyValues, tuple[object, ...]] = {}
    for chunk in chunks(dict.fromkeys(keys), keys_per_statement(root)):
        for row in connection.execute(statement.where(key_in(root.key, chunk))):
            found[tuple(row[:width])] = tuple(row[width:])
    return found


def _check(state: AnyState, present: dict[str, object]) -> None:
    wrong = sorted(
        (name for name, old in present.items() if not _is_same(state.dict.get(name, old), old)), reverse=True
    )
    if wrong:
        said = " and ".join(f"{name} was set to {state.dict[name]!r} and is {present[name]!r}" for name in wrong)
        raise StateError(
            f"of {state.mapper.class_.__name__} {pk_of(state)!r} {said}, but only the library sets these; leave them "
            f"out of what you assign, or take that back with session.expire(obj, {wrong!r}). For repairs there is "
            "versioning_disabled()"
        )
    for name, old in present.items():
        set_committed_value(state.obj(), name, old)


def _is_same(value: object, old: object) -> bool:
    """Return whether a form that sends back `old` would send `value`, which may be its text."""
    if value is old or value == old:
        return True
    if isinstance(value, str) and isinstance(old, datetime):
        with suppress(ValueError):
            return datetime.fromisoformat(value) == old
    return isinstance(value, str) and value == str(old)


def begin_at_one(state: AnyState) -> None:
    """Set the version of a new object to 1, whatever its constructor, or a copy of another object, has set."""
    if state.dict.get(VERSION, 1) != 1:
        set_attribute(state.obj(), VERSION, 1)
