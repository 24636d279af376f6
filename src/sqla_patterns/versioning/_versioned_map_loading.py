"""Load what a changed object has not loaded, before it is judged or becomes another version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from .._sql import chunks, key_in, structural
from .._sqlalchemy import UNKNOWN, committed, set_value_before_change, state_of, values_before_changes
from .._typing import AnyState, MappedObject, PrimaryKey
from ._errors import StaleVersionError
from ._versioned_map_config import ROWS, VERSION, MapConfig


def load_rows(session: Session, config: MapConfig, objects: Sequence[MappedObject]) -> None:
    """Read columns that are not loaded, and former values that were not, of all objects in one statement.

    By Core, since criteria and eager loading of the user's must not change what is there.

    Raises:
        StaleVersionError: The row of an object does not exist any more.
    """
    names = (VERSION, *config.stream, *config.details)
    unknown: dict[PrimaryKey, AnyState] = {}
    for obj in objects:
        state = state_of(obj)
        # An entry refers to what it shares; without one, the database would not notice that the stream was deleted.
        shares = any(state_of(row).has_identity for row in state.dict.get(ROWS, {}).values())
        if not shares or any(committed(state, name) is UNKNOWN for name in names):
            unknown[cast("Any", state.key)[1]] = state
    for keys in chunks(unknown):
        statement = select(config.pk, *map(config.column, names)).where(key_in([config.pk], keys))
        # A plain SELECT of MariaDB would still find a row that was deleted since the transaction began.
        statement = structural(statement.with_for_update(read=True, key_share=True))
        rows = session.execute(statement, bind_arguments={"mapper": config.mapper})
        found = {(row[0],): row[1:] for row in rows}
        for key in keys:
            if key not in found:
                raise StaleVersionError(
                    f"{config.name} {key[0]!r} was deleted by another transaction; roll back, and begin a new stream "
                    "if there shall be one"
                )
            _fill_in(unknown[key], dict(zip(names, found[key], strict=True)))


def load_values(session: Session, config: MapConfig, objects: Sequence[MappedObject]) -> None:
    """Load the values of objects that have not loaded them, of all in one statement."""
    unloaded = {cast("Any", state_of(obj).key)[1][0]: obj for obj in objects if ROWS not in state_of(obj).dict}
    entries, values = config.entry_table, config.value_table
    for keys in chunks(unloaded):
        statement = (
            select(entries.c.owner_id, config.value_class)
            .join_from(
                entries,
                config.value_class,
                (entries.c.origin_id == values.c.origin_id) & (entries.c.key == values.c.key),
            )
            .where(entries.c.owner_id.in_(keys))
        )
        found: dict[PrimaryKey, list[MappedObject]] = {key: [] for key in keys}
        for key, row in session.execute(structural(statement), bind_arguments={"mapper": config.mapper}):
            found[key].append(row)
        for key, rows in found.items():
            set_committed_value(unloaded[key], ROWS, rows)


def _fill_in(state: AnyState, row: dict[str, object]) -> None:
    for name, value in row.items():
        if committed(state, name) is not UNKNOWN:
            continue
        if name in values_before_changes(state):
            set_value_before_change(state, name, value)
        else:
            set_committed_value(state.obj(), name, value)
