"""Deletes of versions: whole streams only, with their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from sqlalchemy import Connection, inspect, select, tuple_
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.attributes import set_committed_value

from .._sql import STRUCTURAL, chunks, key_in, structural
from .._sqlalchemy import is_orm, state_of
from .._typing import AnyMapper, AnyState, MappedClass, MappedObject, PrimaryKey
from ..exceptions import StateError
from ._errors import UnversionedWriteError
from ._versioned_map_config import ORIGIN, ROWS, MapConfig, by_config, map_config
from ._versioned_map_loading import load_rows
from ._versioned_map_session import maps_of

#: The execution option of the DELETE of whole streams, which is let through.
WHOLE_STREAM: Final = "sqla_patterns_whole_stream"


def checked_deletes(session: Session, deleted: list[tuple[MappedObject, MapConfig]]) -> set[AnyState]:
    """Delete the values of streams that are deleted as a whole, and return the objects.

    Raises:
        StateError: Versions of a stream would be left.
    """
    for config, objects in by_config(deleted).items():
        load_rows(session, config, objects)
        keys = {cast("Any", state_of(obj).key)[1][0] for obj in objects}
        streams = {tuple(getattr(obj, name) for name in config.stream): obj for obj in objects}
        for batch in chunks(streams):
            columns = [config.column(name) for name in config.stream]
            statement = select(config.pk, *columns)
            if columns:
                statement = statement.where(tuple_(*columns).in_(batch) if len(columns) > 1 else key_in(columns, batch))
            # A version that another transaction is adding must be seen.
            statement = structural(statement.with_for_update())
            rows = session.execute(statement, bind_arguments={"mapper": config.mapper}).all()
            for pk, *stream in rows:
                if pk not in keys:
                    raise StateError(
                        f"{config.label(streams[tuple(stream)])} cannot be deleted by itself, since the other versions "
                        f"of its stream stay; take keys out with clear(), or delete the stream with "
                        f"delete_stream(session, {config.name}, ...)"
                    )
        delete_values(session, config, keys)
        for obj in objects:
            # The entries are gone, and the unit of work is not to delete them again.
            set_committed_value(obj, ROWS, [])
    return {state_of(obj) for obj, _ in deleted}


def delete_values(session: Session, config: MapConfig, keys: Iterable[PrimaryKey]) -> None:
    """Delete the values and entries of versions, also on databases whose foreign keys do nothing."""
    entries, values = config.entry_table, config.value_table
    bind = {"mapper": config.mapper}
    for batch in chunks(keys):
        session.execute(structural(entries.delete().where(entries.c.owner_id.in_(batch))), bind_arguments=bind)
    for batch in chunks(keys):
        session.execute(structural(values.delete().where(values.c.origin_id.in_(batch))), bind_arguments=bind)


def refuse_late_delete(mapper: AnyMapper, connection: Connection, obj: MappedObject) -> None:
    """Raise if an object is about to be deleted that the flush has found to be an orphan.

    Raises:
        StateError: It is.
    """
    config, session = map_config(mapper.class_), inspect(obj).session
    if config is not None and session is not None and state_of(obj) not in maps_of(session).deleted:
        raise StateError(
            f"{config.label(obj)} is deleted as an orphan, and versions go with their stream only; delete it with "
            f"delete_stream(session, {config.name}, ...)"
        )


def refuse_statement(state: ORMExecuteState) -> None:
    """Refuse ``update()`` and ``delete()`` on versioned maps, which would change versions of the past.

    Raises:
        UnversionedWriteError: It is one.
    """
    if not (state.is_update or state.is_delete) or not is_orm(state.statement):
        return
    mapper = state.bind_mapper
    if mapper is None or state.execution_options.get(STRUCTURAL) or state.execution_options.get(WHOLE_STREAM):
        return
    config = map_config(mapper.class_) or _config_of_values(mapper)
    if config is not None:
        verb = "update" if state.is_update else "delete"
        way = (
            f"load the current versions with load_current(session, {config.name}, ...) and change them"
            if state.is_update
            else f"delete a stream with delete_stream(session, {config.name}, ...)"
        )
        raise UnversionedWriteError(
            f"{verb}({mapper.class_.__name__}) would change versions of {config.name} that are to stay as they are; "
            f"{way}"
        )


def _config_of_values(mapper: AnyMapper) -> MapConfig | None:
    cls: MappedClass = mapper.class_
    if not mapper.has_property(ORIGIN):
        return None
    found = map_config(mapper.relationships[ORIGIN].mapper.class_)
    return found if found is not None and found.value_class is cls else None
