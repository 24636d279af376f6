"""Bringing versions back, and forgetting them: `revert`, `restore`, `erase`."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from sqlalchemy import Computed, Select, delete, inspect, null, select
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value

from ..exceptions import StateError
from ._associations import associations_of
from ._clauses import key_in, lock
from ._config import VersionConfig, hierarchy, pairs_bottom_up, require_config, root_key_in
from ._errors import NoSuchVersionError
from ._reading import key_of
from ._rows import reader_of
from ._sa import autoflush
from ._session import versioning_disabled
from ._tables import VERSION
from ._version import Version

__all__ = ("erase", "restore", "revert")

T = TypeVar("T")


def revert(session: Session, obj: T, to: int | Version[T]) -> T:
    """Give `obj` the values that it had in an older version, as a new version, and return it.

    The session is flushed. Associations stay as they are; ``VersionOptions(exclude=...)`` attributes too.

    Raises:
        NoSuchVersionError: there is no such version.
        StateError: `obj` is deleted or not in `session`; see `restore`.
    """
    config = require_config(type(obj))
    state: Any = inspect(obj)
    if not state.persistent or state.session is not session:
        raise StateError(
            f"this {config.name} is not persistent in the session; add it, or bring a deleted one back with restore()"
        )
    session.flush()
    number = to.number if isinstance(to, Version) else to
    if number == _current(session, config, state):
        return obj
    row = _history_row(session, config, state.identity, number)
    reader = reader_of(config)
    for attr, value in reader.values(row, config).items():
        if _is_written(config, attr):
            setattr(obj, attr, value)
    session.flush()
    return obj


def _current(session: Session, config: VersionConfig, state: InstanceState[Any]) -> Any:
    main = config.pair.main
    connection = session.connection(bind_arguments={"mapper": config.root.mapper})
    statement = select(main.c[VERSION]).where(key_in(config.key, [tuple(cast("Any", state.identity))]))
    return connection.scalar(lock(connection, statement, main))


def _history_row(session: Session, config: VersionConfig, key: tuple[Any, ...], number: int | None) -> Any:
    """The row of history with this number, or the last one."""
    root = config.root
    history = root.pair.history
    statement: Select[Any] = reader_of(config).select_history().where(key_in(root.history_key, [tuple(key)]))
    if number is None:
        statement = statement.order_by(history.c[VERSION].desc()).limit(1)
    else:
        statement = statement.where(history.c[VERSION] == number)
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    row = connection.execute(statement).first()
    if row is None:
        what = "history" if number is None else f"version {number}"
        raise NoSuchVersionError(f"there is no {what} of {config.name} {tuple(key)!r}")
    return row


def _is_written(config: VersionConfig, attr: str) -> bool:
    """Whether a value can be given to an attribute: neither a key nor what the database computes."""
    column = config.columns[attr]
    return (
        not column.primary_key
        and not isinstance(column.server_default, Computed)
        and column is not config.root.mapper.polymorphic_on
    )


def restore(session: Session, entity: type[T], key: object) -> T:
    """Bring a deleted object back under its old key, with the values of its last version, and return it.

    Its version continues where it ended. The session is flushed.

    Raises:
        NoSuchVersionError: there is no history of it.
        StateError: the object exists.
    """
    config = require_config(entity)
    identity = key_of(config, key)
    session.flush()
    root = config.root
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    present = connection.scalar(select(root.pair.main.c[VERSION]).where(key_in(root.key, [identity])))
    if present is not None:
        raise StateError(f"{config.name} {identity!r} is not deleted; bring an older version of it back with revert()")
    row = _history_row(session, config, identity, None)
    reader = reader_of(config)
    member = reader.member(row)
    if not issubclass(member.cls, config.cls):
        raise NoSuchVersionError(f"{identity!r} was a {member.name} and no {config.name}")
    obj: Any = member.mapper.class_manager.new_instance()
    empty: list[str] = []
    for attr, value in reader.values(row, member).items():
        column = member.columns[attr]
        if isinstance(column.server_default, Computed):
            continue
        if value is None and (column.default is not None or column.server_default is not None):
            # To the ORM, None in a new object is leave to put in the default.
            empty.append(attr)
            setattr(obj, attr, null())
        else:
            setattr(obj, attr, value)
    session.add(obj)
    session.flush()
    for attr in empty:
        set_committed_value(obj, attr, None)
    return cast("T", obj)


def erase(session: Session, entity: type[T], key: object) -> int:
    """Delete an object and all of its history, without a trace, and return how many rows of history there were.

    For privacy law. The object may be deleted already. The session is flushed. What other tables know of the object, the log of
    revisions included, is not touched.

    Raises:
        NoSuchVersionError: there is neither an object nor any history of it.
    """
    config = require_config(entity)
    identity = key_of(config, key)
    autoflush(session)
    obj = session.get(entity, identity)
    if obj is not None:
        with versioning_disabled(session):
            session.delete(obj)
            session.flush()
    root = config.root
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    erased = 0
    for pair in pairs_bottom_up(root):
        gone = connection.execute(delete(pair.history).where(key_in(root_key_in(root, pair), [identity])))
        erased = gone.rowcount if pair is root.pair else erased
    for member in hierarchy(root):
        for association in associations_of(member):
            owners = [association.history.c[column.key] for column, _ in association.owner]
            connection.execute(delete(association.history).where(key_in(owners, [identity])))
    if obj is None and not erased:
        raise NoSuchVersionError(f"there is neither a {config.name} {identity!r} nor any history of one")
    return erased
