"""Read versioned maps: the current version, a version of the past, the history of a key; and delete a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session, joinedload

from .._session import SyncSession, resolve_session
from .._sql import chunks
from .._typing import AnySelect
from ._versioned_map import VersionedMap
from ._versioned_map_config import ORIGIN, ROWS, require_map_config
from ._versioned_map_deletes import WHOLE_STREAM, delete_values

M = TypeVar("M", bound=VersionedMap[Any])
V = TypeVar("V")


class MapValue(NamedTuple, Generic[V]):
    """A value that a key has had, and the number of the version that was the first to have it.

    Attributes:
        value: The value.
        version: The number of the version.
    """

    value: V
    version: int


def get_current(session: SyncSession, entity: type[M], /, **stream: Any) -> M | None:
    """Return the current version of a stream, or None if there is no such stream; one SELECT.

    Args:
        session: The session, which is flushed first if it autoflushes.
        entity: The class.
        stream: The values of the attributes that tell the stream, all of them.

    Raises:
        InvalidArgumentError: A value is missing, or there is one too many.
    """
    plain, config = resolve_session(session, "get_current"), require_map_config(entity, "get_current")
    key = config.checked_stream("get_current", stream)
    return _last(plain, entity, *config.is_stream(entity, key))


def get_version(session: SyncSession, entity: type[M], version: int, /, **stream: Any) -> M | None:
    """Return a version of a stream by its number, or None if there is none; one SELECT.

    Args:
        session: The session, which is flushed first if it autoflushes.
        entity: The class.
        version: The number, from 1.
        stream: The values of the attributes that tell the stream, all of them.

    Raises:
        InvalidArgumentError: A value is missing, or there is one too many.
    """
    plain, config = resolve_session(session, "get_version"), require_map_config(entity, "get_version")
    key = config.checked_stream("get_version", stream, "number")
    return _last(plain, entity, *config.is_stream(entity, key), entity.version == version)


def load_current(session: SyncSession, entity: type[M], /, *criteria: ColumnElement[bool]) -> Sequence[M]:
    """Return the current versions of many streams, by primary key; one SELECT.

    Args:
        session: The session, which is flushed first if it autoflushes.
        entity: The class.
        criteria: Conditions on the versions, such as ``Config.tenant.in_(names)``; without them, all streams.
    """
    plain, config = resolve_session(session, "load_current"), require_map_config(entity, "load_current")
    statement = _loading(entity).where(entity.is_current(), *criteria).order_by(config.pk)
    return cast("Sequence[M]", plain.scalars(statement).unique().all())


def history_of(
    session: SyncSession, entity: type[VersionedMap[V]], key: str, /, **stream: Any
) -> Sequence[MapValue[V]]:
    """Return the values that a key has had in a stream, each with the version that set it, oldest first; one SELECT.

    That a key was taken out makes no record: ask `get_version` whether a version has it.

    Args:
        session: The session, which is flushed first if it autoflushes.
        entity: The class.
        key: The key.
        stream: The values of the attributes that tell the stream, all of them.

    Raises:
        InvalidArgumentError: A value is missing, or there is one too many.
    """
    plain, config = resolve_session(session, "history_of"), require_map_config(entity, "history_of")
    values: Any = config.value_class
    owner: Any = entity
    statement = (
        select(values.value, owner.version)
        .join(getattr(values, ORIGIN).of_type(entity))
        .where(values.key == key, *config.is_stream(entity, config.checked_stream("history_of", stream, "key")))
        .order_by(owner.version)
    )
    return [MapValue(cast("V", value), number) for value, number in plain.execute(statement)]


def delete_stream(session: SyncSession, entity: type[VersionedMap[Any]], /, **stream: Any) -> int:
    """Delete all versions of a stream and return how many there were; four statements, and two until none is left.

    The session is flushed first. Objects of the stream are deleted as by ``session.delete()``.

    Args:
        session: The session.
        entity: The class.
        stream: The values of the attributes that tell the stream, all of them.

    Raises:
        InvalidArgumentError: A value is missing, or there is one too many.
    """
    plain, config = resolve_session(session, "delete_stream"), require_map_config(entity, "delete_stream")
    conditions = config.is_stream(entity, config.checked_stream("delete_stream", stream))
    plain.flush()
    pk = getattr(entity, config.pk_attribute)
    deleted = 0
    # The lock waits for versions that are being written, and reads what is stored now, where a plain SELECT of MariaDB
    # reads what was stored when the transaction began. PostgreSQL may show the version that it waited for only to the
    # next statement.
    while keys := list(plain.scalars(select(pk).where(*conditions).with_for_update())):
        delete_values(plain, config, keys)
        for batch in chunks(keys):
            plain.execute(
                delete(entity).where(pk.in_(batch)).execution_options(**{WHOLE_STREAM: True}),
                execution_options={"synchronize_session": "fetch"},
            )
        deleted += len(keys)
    return deleted


def _loading(entity: type[M]) -> AnySelect:
    return select(entity).options(joinedload(getattr(entity, ROWS)))


def _last(session: Session, entity: type[M], *criteria: ColumnElement[bool]) -> M | None:
    # The index of the UNIQUE ends with the version: this reads one row, and is_current() looks at all of a stream.
    statement = _loading(entity).where(*criteria).order_by(entity.version.desc()).limit(1)
    return cast("M | None", session.scalars(statement).unique().one_or_none())
