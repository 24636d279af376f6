"""Two writers of one stream: say so where the database refuses the second one.

Both make the version after the one that they have read, and the UNIQUE over stream and version lets one of them. No
event of the ORM sees an INSERT fail, so that a listener on the engine gives the error its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from sqlalchemy import Connection, ExceptionContext, Insert
from sqlalchemy.exc import IntegrityError

from .._declarative import listen_once
from .._typing import AnyMapper
from ._errors import StaleVersionError
from ._versioned_map_config import MapConfig, map_config

#: The attribute of a mapped class with the function that listens for it.
_LISTENER: Final = "__sqla_versioned_map_conflicts__"


def translate_conflicts(mapper: AnyMapper, connection: Connection, _: object) -> None:
    """Have the engine of a connection raise `StaleVersionError` for a version that is there already.

    This is the ``before_insert`` listener of versioned maps: there the engine is known, also of a session with several.
    """
    config = map_config(mapper.class_)
    if config is not None:
        listen_once(connection.engine, "handle_error", _listener_of(config))


def _listener_of(config: MapConfig) -> Callable[[ExceptionContext], StaleVersionError | None]:
    """Return the same function each time, so that an engine listens once."""
    known = vars(config.cls).get(_LISTENER)
    if known is not None:
        return cast("Callable[[ExceptionContext], StaleVersionError | None]", known)

    def listener(context: ExceptionContext) -> StaleVersionError | None:
        return _conflict(config, context)

    type.__setattr__(config.cls, _LISTENER, listener)
    return listener


def _conflict(config: MapConfig, context: ExceptionContext) -> StaleVersionError | None:
    """Return the error for a statement that failed, or None if it is another failure."""
    error = context.sqlalchemy_exception
    compiled = getattr(context.execution_context, "compiled", None)
    statement = getattr(compiled, "statement", None)
    if not isinstance(error, IntegrityError) or not isinstance(statement, Insert):
        return None
    if statement.table is config.entry_table:
        # Nothing of the user's is in this table.
        return StaleVersionError(
            f"{config.name}: the stream was deleted by another transaction, and with it values that the new version "
            f"shares ({error.orig}); roll back, and begin a new stream if there shall be one"
        )
    if statement.table is config.table and _is_duplicate(error) and not _is_primary_key(config, str(error.orig)):
        return StaleVersionError(
            f"{config.name}: the version that this flush was about to write is there already, since another "
            f"transaction has changed the stream, or it existed before a new object was made for it ({error.orig}); "
            f"roll back, load the current version with get_current(session, {config.name}, ...), and change that"
        )
    return None


def _is_duplicate(error: IntegrityError) -> bool:
    original: Any = error.orig
    # PostgreSQL and its drivers; MariaDB and MySQL; SQLite.
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    number: object = next(iter(original.args), None)
    return state == "23505" or number == 1062 or "UNIQUE constraint failed" in str(original)


def _is_primary_key(config: MapConfig, message: str) -> bool:
    """Return whether the message is about the primary key, which only the user can have given twice."""
    name = config.table.primary_key.name
    if "UNIQUE constraint failed" in message:
        return message.rstrip().endswith(f"failed: {config.table.name}.{config.pk.name}")
    return (
        "'PRIMARY'" in message
        or f"{config.table.name}.PRIMARY" in message
        or f'"{config.table.name}_pkey"' in message
        or (name is not None and f'"{name}"' in message)
    )
