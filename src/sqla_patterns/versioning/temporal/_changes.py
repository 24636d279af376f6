"""Decide what has changed in an object, and what is wrong with it, with as few reads as possible."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import LoaderCallableStatus, PassiveFlag

from ..._sqlalchemy import values_before_changes
from ..._typing import AnyColumn, AnyState
from ...exceptions import StateError
from ._config import KeyValues, Layout, TemporalConfig
from ._errors import ClosedVersionError
from ._session import RowVersions
from ._writer import not_current, read_rows


def is_expression(value: object) -> bool:
    """Return whether the database computes a value that was set, as in ``obj.count = Obj.count + 1``."""
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def key_of(state: AnyState) -> KeyValues:
    """Return the primary key of the row that a persistent object has."""
    key: Any = state.key
    found: KeyValues = key[1]
    return found


def look_up(connection: Connection, config: TemporalConfig, versions: RowVersions, states: Iterable[AnyState]) -> None:
    """Read what is not loaded of objects whose rows will be copied, one SELECT for a thousand objects."""
    unknown: list[AnyState] = []
    wanted: dict[AnyColumn, None] = {}
    for state in states:
        if state not in versions.looked_up:
            columns = _unknown_columns(config.layout(state.mapper), state)
            if columns:
                unknown.append(state)
                wanted.update(dict.fromkeys(columns))
    if unknown:
        # Also what tells whether it is the current one: other transactions may have closed it.
        wanted[config.column(config.end)] = None
        rows = read_rows(connection, config, map(key_of, unknown), list(wanted))
        for state in unknown:
            versions.looked_up[state] = rows.get(key_of(state), {})


def _unknown_columns(layout: Layout, state: AnyState) -> list[AnyColumn]:
    loaded, before = state.dict, values_before_changes(state)
    found = list(layout.unmapped)
    if not layout.attributes.keys() <= loaded.keys():
        found += [column for attribute, column in layout.attributes.items() if attribute not in loaded]
    for attribute, old in before.items():
        if isinstance(old, LoaderCallableStatus) and attribute in layout.attributes and attribute in loaded:
            found.append(layout.attributes[attribute])
    for attribute in layout.ambiguous:
        if attribute not in before and loaded.get(attribute, found) is None:
            found.append(layout.attributes[attribute])
    return found


def is_changed(config: TemporalConfig, state: AnyState, versions: RowVersions) -> bool:
    """Return whether a value differs from that in the row; what is not loaded must have been looked up."""
    before = values_before_changes(state)
    if not before:
        return False
    layout, loaded, row = config.layout(state.mapper), state.dict, versions.looked_up.get(state, {})
    for attribute, old in before.items():
        column = layout.attributes.get(attribute)
        if column is None:
            continue
        new = loaded.get(attribute)
        if is_expression(new):
            return True
        if isinstance(old, LoaderCallableStatus):
            old = row.get(column.key)
            if isinstance(old, ClauseElement):
                old = None  # the NULL of a JSON column
        if (old is None) is not (new is None) or (old is not None and not column.type.compare_values(old, new)):
            return True
    # Their foreign key is set after the mapper events.
    history = (get_history(state.obj(), each, PassiveFlag.PASSIVE_NO_INITIALIZE) for each in layout.post_updates)
    return any(each.has_changes() for each in history)


def row_of(config: TemporalConfig, state: AnyState, versions: RowVersions) -> dict[str, Any]:
    """Return the row that an object will have, as an INSERT takes it; what SQL computes has its former value."""
    layout, loaded, before = config.layout(state.mapper), state.dict, values_before_changes(state)
    row: dict[str, Any] = {key: loaded.get(attribute) for attribute, key in layout.keys.items()}
    known = versions.looked_up.get(state)
    if known is not None:
        for attribute, key in layout.keys.items():
            if key in known and attribute not in before:
                row[key] = known[key]
        row.update((column.key, known.get(column.key)) for column in layout.unmapped)
    row.update((column.key, None) for column in layout.of_siblings)
    for attribute, old in before.items():
        if attribute in layout.keys and is_expression(loaded.get(attribute)):
            is_known = known is not None and isinstance(old, LoaderCallableStatus)
            row[layout.keys[attribute]] = (known or {}).get(layout.keys[attribute]) if is_known else old
    return row


# -- what is refused -----------------------------------------------------------------------------


def check_change(config: TemporalConfig, state: AnyState, versions: RowVersions) -> None:
    """Refuse to change a closed version, and what the library keeps.

    Raises:
        ClosedVersionError: The version is closed.
        StateError: The user has set an attribute of the library or the key of the object.
    """
    if is_closed(config, state, versions):
        if config.end in state.dict and not _says_closed(config, state.dict[config.end]):
            raise not_current(config, [key_of(state)], "changed")
        raise ClosedVersionError(
            f"{config.name} {key_of(state)!r} is a closed version and cannot be changed; change the current version of "
            "the object, which a SELECT without include_history finds"
        )
    for attribute in values_before_changes(state).keys() & config.kept.keys():
        if not _is_same(config, state, versions, attribute):
            raise StateError(
                f"{attribute!r} of {config.name} {key_of(state)!r} was set to {state.dict.get(attribute)!r}, and "
                f"{_reason(config, attribute)}; leave it as it is"
            )


def _is_same(config: TemporalConfig, state: AnyState, versions: RowVersions, attribute: str) -> bool:
    old: Any = values_before_changes(state)[attribute]
    if attribute in config.key_names:
        old = key_of(state)[config.key_names.index(attribute)]
    elif isinstance(old, LoaderCallableStatus):
        old = versions.looked_up.get(state, {}).get(config.column_keys[attribute])
    return bool(old == state.dict.get(attribute))


def _reason(config: TemporalConfig, attribute: str) -> str:
    if attribute in config.key_names and attribute not in config.maintained:
        return "the key tells to which object the versions belong"
    return "the library keeps it for the versions of the object"


def is_closed(config: TemporalConfig, state: AnyState, versions: RowVersions) -> bool:
    """Return whether the version in hand is known to be closed."""
    row = versions.looked_up.get(state)
    if row is not None and (key := config.column_keys[config.end]) in row:
        return _says_closed(config, row[key])
    value = values_before_changes(state).get(config.end, state.dict.get(config.end))
    return not isinstance(value, LoaderCallableStatus) and _says_closed(config, value)


def _says_closed(config: TemporalConfig, value: object) -> bool:
    return value is not None if config.form == "temporal" else value is False


def check_new(session: Session, config: TemporalConfig, state: AnyState) -> None:
    """Refuse a new object whose key nobody makes.

    Raises:
        StateError: The key is missing.
    """
    if config.form == "copied":
        return
    for column in config.stable:
        is_made = column.default is not None or column.server_default is not None or bool(column.foreign_keys)
        if is_made or state.dict.get(config.attribute(column)) is not None:
            continue
        if column.autoincrement is True and session.get_bind(config.mapper).dialect.name != "sqlite":
            continue
        raise StateError(
            f"a new {config.name} has no {config.attribute(column)!r}, and nothing makes one: the column has no "
            "default, and SQLite does not count in a primary key of several columns. Set it, or write "
            "mapped_column(primary_key=True, default=...), for instance a UUID"
        )
