"""Copying rows to history, in the database: ``INSERT INTO history SELECT ... FROM main``.

Nothing is loaded for it, so that deferred, binary and computed columns cost nothing, and what was changed in place (JSON) is kept as it was.
The SELECT locks the rows on PostgreSQL and MariaDB, and the INSERT returns the versions that it found: what another
transaction committed since the objects were loaded is counted, not overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Select,
    String,
    bindparam,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.orm import Session

from ._clauses import (
    CHUNK,
    Found,
    Stamp,
    bound,
    bound_values,
    captured,
    chunks,
    joined,
    key_in,
    lock,
    made_before,
    next_moment,
)
from ._config import TablePair, VersionConfig
from ._session import session_versions
from ._tables import CHANGED, ENDED_BY, OPERATION, REVISION, VALID_FROM, VALID_TO, VERSION, revision_type
from ._types import UTCDateTime
from ._version import Operation

__all__ = ("Captured", "capture", "capture_keys", "current_versions", "gone", "mark_deleted", "stamp_of")


def stamp_of(session: Session, config: VersionConfig) -> Stamp:
    versions = session_versions(session)
    return Stamp(versions.moment(session), versions.revision_id(session, config))


def _parameters(config: VersionConfig, keys: list[tuple[Any, ...]]) -> list[Any]:
    return keys if len(config.key) > 1 else [key[0] for key in keys]


def lock_target(config: VersionConfig) -> Any:
    return config.pair.main


def _values(config: VersionConfig, stamp: Stamp, operation: Operation) -> dict[str, Any]:
    options = config.options
    values: dict[str, Any] = {"sqla_moment": stamp.moment}
    if options.operation:
        values["sqla_operation"] = operation
    if options.revision is not None:
        values["sqla_revision"] = stamp.revision
    return values


class Captured(NamedTuple):
    """What became of keys whose rows were to be copied."""

    #: What the rows had; of deleted ones it is not asked.
    found: dict[tuple[Any, ...], Found]
    #: Keys without a row, or whose row need not be copied.
    missing: list[tuple[Any, ...]]


def root_select(config: VersionConfig) -> tuple[list[str], Select[Any]]:
    """What to copy from the table of the root, and where to."""
    pair, options = config.pair, config.options
    main = pair.main
    moment = bindparam("sqla_moment", type_=UTCDateTime())
    source: list[tuple[str, Any]] = [(copy.key, column) for column, copy in pair.copied()]
    source += [(VERSION, main.c[VERSION]), (CHANGED, moment)]
    if options.period:
        source += [(VALID_FROM, main.c[VALID_FROM]), (VALID_TO, next_moment(config))]
    if options.operation:
        source.append((OPERATION, bindparam("sqla_operation", type_=String(6))))
    if options.revision is not None:
        ended_by = bindparam("sqla_revision", type_=revision_type(options))
        source += [(REVISION, main.c[REVISION]), (ENDED_BY, ended_by)]
    columns: Any = [value for _, value in source]
    statement: Select[Any] = select().add_columns(*columns).select_from(main)
    before = made_before(config)
    return [name for name, _ in source], statement if before is None else statement.where(before)


def sub_select(config: VersionConfig, pair: TablePair) -> tuple[list[str], Select[Any]]:
    """What to copy from a table that joins the one of the root."""
    source: list[tuple[str, Any]] = [(copy.key, column) for column, copy in pair.copied()]
    source.append((VERSION, config.root.pair.main.c[VERSION]))
    source.append((CHANGED, bindparam("sqla_moment", type_=UTCDateTime())))
    columns: Any = [value for _, value in source]
    statement: Select[Any] = select().add_columns(*columns).where(joined(config, pair))
    before = made_before(config.root)
    return [name for name, _ in source], statement if before is None else statement.where(before)


def _insert(pair: TablePair, names: list[str], statement: Select[Any]) -> Insert:
    return insert(pair.history).from_select(names, statement, include_defaults=False)


def returned(config: VersionConfig) -> list[Any]:
    history = config.pair.history
    columns = [*config.history_key, history.c[VERSION]]
    return [*columns, history.c[VALID_TO] if config.options.period else null()]


def capture_keys(
    session: Session,
    config: VersionConfig,
    keys_of: dict[VersionConfig, list[tuple[Any, ...]]],
    operation: Operation,
) -> Captured:
    """Copy the rows with these keys, given by class.

    One statement for each table and a thousand keys.
    """
    root = config.root
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    stamp = stamp_of(session, root)
    found: dict[tuple[Any, ...], Found] = {}
    missing: list[tuple[Any, ...]] = []
    every = sorted_keys(key for keys in keys_of.values() for key in keys)
    for keys in chunks(every, max(1, CHUNK // len(root.key))):
        values = _values(root, stamp, operation)
        if operation == "delete" and _count_root(connection, root, keys, values) == len(keys):
            continue
        if operation == "update":
            found.update(_capture_root(connection, root, keys, values))
        else:
            found.update(current_versions(connection, root, keys, captured(root)))
        missing += [key for key in keys if key not in found]
    by_pair: dict[int, tuple[VersionConfig, TablePair, list[tuple[Any, ...]]]] = {}
    for member, keys in keys_of.items():
        for pair in member.pairs[1:]:
            by_pair.setdefault(id(pair), (member, pair, []))[2].extend(keys)
    # A history row refers to that of the table above.
    for member, pair, keys in sorted(by_pair.values(), key=lambda entry: entry[0].pairs.index(entry[1])):
        names, statement = _cached(root, ("sub", pair.main), lambda m=member, p=pair: sub_select(m, p))
        matching = statement.where(key_in(root.key, bindparam("sqla_keys", expanding=True)))
        for chunk in chunks(dict.fromkeys(keys), max(1, CHUNK // len(root.key))):
            values = {**_values(root, stamp, operation), "sqla_keys": _parameters(root, chunk)}
            connection.execute(_insert(pair, names, matching), values)
    if operation == "delete" and root.options.operation and root.options.granularity == "transaction":
        for chunk in chunks(every, max(1, CHUNK // len(root.key))):
            mark_deleted(connection, root, key_in(root.history_key, chunk), stamp)
    return Captured(found, missing)


def sorted_keys(keys: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """In one order for all transactions, as far as keys have one, since each row is locked."""
    listed = list(dict.fromkeys(keys))
    try:
        listed.sort()
    except TypeError:
        pass  # keys without an order
    return listed


def _cached(config: VersionConfig, name: object, make: Any) -> Any:
    found = config.cache.get(name)
    if found is None:
        found = config.cache[name] = make()
    return found


def _root_statements(connection: Connection, root: VersionConfig) -> tuple[Insert, Select[Any]]:
    """What copies rows of the root by their keys, and what tells their versions."""

    def make() -> tuple[Insert, Select[Any]]:
        names, statement = root_select(root)
        main = root.pair.main
        statement = statement.where(key_in(root.key, bindparam("sqla_keys", expanding=True)))
        locking = lock(connection, statement.order_by(*root.key), main)
        moment = next_moment(root) if root.options.period else null()
        seen = locking.with_only_columns(*root.key, main.c[VERSION], moment, maintain_column_froms=True)
        return _insert(root.pair, names, locking), seen

    made: tuple[Insert, Select[Any]] = _cached(root, ("root", connection.dialect.name), make)
    return made


def _count_root(
    connection: Connection, root: VersionConfig, keys: list[tuple[Any, ...]], values: dict[str, Any]
) -> int:
    """Copy rows of the root, and return how many there were."""
    inserting, _ = _root_statements(connection, root)
    values = {**values, "sqla_keys": _parameters(root, keys)}
    return connection.execute(inserting, values, execution_options={"preserve_rowcount": True}).rowcount


def _capture_root(
    connection: Connection, root: VersionConfig, keys: list[tuple[Any, ...]], values: dict[str, Any]
) -> dict[tuple[Any, ...], Found]:
    """Copy rows of the root, and return what they had."""
    width = len(root.key)
    values = {**values, "sqla_keys": _parameters(root, keys)}
    inserting, seen = _root_statements(connection, root)
    rows: Any
    if connection.dialect.insert_returning:
        rows = cast("Any", connection).execute(inserting.returning(*returned(root)), values).all()
    else:
        # MySQL cannot say what it has inserted; the lock keeps what it selects until then.
        used = {name: value for name, value in values.items() if name not in {"sqla_operation", "sqla_revision"}}
        if root.options.granularity == "transaction" and "sqla_revision" in values:
            used["sqla_revision"] = values["sqla_revision"]
        rows = connection.execute(seen, used).all()
        connection.execute(inserting, values)
    found = {tuple(row[:width]): Found(row[width], row[width + 1]) for row in rows}
    # Databases may read a key otherwise than it was written: 'a' for 'A', or with blanks at its end.
    unread = [key for key in keys if key not in found] if len(rows) == len(keys) else []
    for key in unread:
        for each in current_versions(connection, root, [key], captured(root)).values():
            found[key] = each
    return found


def current_versions(
    connection: Connection,
    root: VersionConfig,
    keys: list[tuple[Any, ...]],
    which: ColumnElement[bool],
    stamp: Stamp | None = None,
) -> dict[tuple[Any, ...], Found]:
    """The versions of rows with these keys that match `which`, with when they began."""
    main, width = root.pair.main, len(root.key)
    begun = main.c[VALID_FROM] if root.options.period else null()
    statement = select(*root.key, main.c[VERSION], begun).where(
        which if stamp is None else bound(which, bound_values(stamp))
    )
    found: dict[tuple[Any, ...], Found] = {}
    for chunk in chunks(keys, max(1, CHUNK // width)):
        for row in connection.execute(statement.where(key_in(root.key, chunk))):
            found[tuple(row[:width])] = Found(row[width], row[width + 1])
    return found


def gone(root: VersionConfig, key: tuple[Any, ...]) -> str:
    """What to say of a row that another transaction has deleted."""
    return f"the row of {root.name} {key!r} was deleted by another transaction, so that no history of it can be kept"


def mark_deleted(connection: Connection, root: VersionConfig, which: ColumnElement[bool], stamp: Stamp) -> None:
    """Say "delete" in the history rows that this transaction wrote for an update of what it deletes now."""
    history = root.pair.history
    if root.options.revision is not None:
        now = history.c[ENDED_BY] == stamp.revision
    else:
        now = history.c[CHANGED] == stamp.moment
    connection.execute(update(history).where(which, now).values({OPERATION: "delete"}))


def capture(
    session: Session,
    config: VersionConfig,
    criterion: ColumnElement[bool],
    members: Iterable[VersionConfig],
    operation: Operation,
) -> tuple[Stamp, list[tuple[Any, ...]]]:
    """Copy the rows that match `criterion`, which is about the table of the root; for bulk statements.

    One statement for each table. Return the keys too where the version is not in the table of `config`.
    """
    root = config.root
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    versions = session_versions(session)
    first = root.options.revision is not None and not versions.has_revision(session, root)
    stamp = stamp_of(session, root)
    values = _values(root, stamp, operation)
    names, statement = root_select(root)
    # In one order for all transactions, since each row is locked.
    locking = lock(connection, statement.where(criterion).order_by(*root.key), root.pair.main)
    inserting = _insert(root.pair, names, locking)
    keys: list[tuple[Any, ...]] = []
    if config.pair is config.pairs[-1]:
        # Nothing but versions that this transaction made itself may match, and then its revision was there before.
        inserted = connection.execute(inserting, values, execution_options={"preserve_rowcount": True})
        if first and not inserted.rowcount:
            versions.take_back(session, root)
    elif connection.dialect.insert_returning:
        keys = [tuple(row) for row in connection.execute(inserting.returning(*root.history_key), values)]
    else:
        listing = locking.with_only_columns(*root.key, maintain_column_froms=True)
        keys = [tuple(row) for row in connection.execute(listing, values)]
        connection.execute(inserting, values)
    seen: set[int] = set()
    for member in members:
        for pair in member.pairs[1:]:
            if id(pair) not in seen:
                seen.add(id(pair))
                names, statement = sub_select(member, pair)
                connection.execute(_insert(pair, names, statement.where(criterion)), values)
    return stamp, keys
