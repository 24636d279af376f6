"""The history writer: copy rows to history tables with ``INSERT INTO history SELECT ... FROM main``.

The rows are copied inside of the database. Nothing is loaded for it, so that deferred, binary and computed columns cost
nothing, and values that were changed in place (JSON) are copied as they are stored. On PostgreSQL and MariaDB the
SELECT locks the rows, and the INSERT returns their versions: a version that another transaction has committed since the
objects were loaded is counted, not overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Insert,
    String,
    bindparam,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from .._sql import chunks, key_in
from .._sqlalchemy import object_in_session
from .._typing import AnyExpression, AnySelect
from ..exceptions import StateError
from ._captured_rows import CapturedRow, CapturedRows
from ._config import KeyValues, RowValues, TablePair, VersionConfig, connection_of, pairs_bottom_up, root_key_in
from ._expressions import (
    bind_values,
    is_behind_history,
    is_captured,
    is_made_before,
    is_made_now,
    join_condition,
    keys_per_statement,
    lock_rows,
    next_valid_from,
    same_key,
    stamp_parameters,
)
from ._names import (
    CHANGED,
    ENDED_BY,
    KEYS_PARAMETER,
    MOMENT_PARAMETER,
    OPERATION,
    OPERATION_PARAMETER,
    REVISION,
    REVISION_PARAMETER,
    VALID_FROM,
    VALID_TO,
    VERSION,
)
from ._reused_keys import continue_keys, continue_object
from ._session import get_stamp, session_versions
from ._tables import revision_type
from ._types import UTCDateTime
from ._version import Operation, VersionStamp

R = TypeVar("R")


def _key_parameter(config: VersionConfig, keys: list[KeyValues]) -> list[KeyValues] | list[object]:
    return keys if len(config.key) > 1 else [key[0] for key in keys]


def _parameters(config: VersionConfig, stamp: VersionStamp, operation: Operation) -> dict[str, object]:
    """Return the values of the parameters of the statements that copy rows, except for the keys."""
    options = config.options
    values: dict[str, object] = {MOMENT_PARAMETER: stamp.moment}
    if options.operation:
        values[OPERATION_PARAMETER] = operation
    if options.revision is not None:
        values[REVISION_PARAMETER] = stamp.revision
    return values


def _root_select(config: VersionConfig, dialect: str) -> tuple[list[str], AnySelect]:
    """Return the columns of the history table of the root, and the SELECT of what is copied into them.

    A row whose version is not higher than the last one in its history must not be copied as it is: programs that bypass
    the ORM, and statements that failed half way, may have set the version back. PostgreSQL: an error would end the
    transaction, so the SELECT leaves such rows out. Other databases: the INSERT fails for the primary key of the
    history, and is repeated after a correction. MariaDB and MySQL: only a number that is taken is found, because at
    their default isolation level a SELECT from the history would lock the gaps into which other transactions insert.
    """
    pair, options = config.pair, config.options
    main, history = pair.main, pair.history
    number: AnyExpression = main.c[VERSION]
    if dialect not in {"postgresql", "mysql", "mariadb"}:
        last = select(func.max(history.c[VERSION])).where(same_key(config), history.c[VERSION] >= number)
        number = func.coalesce(last.correlate(main).scalar_subquery(), number)
    moment = bindparam(MOMENT_PARAMETER, type_=UTCDateTime())
    source: list[tuple[str, AnyExpression]] = [(copy.key, column) for column, copy in pair.copied_columns()]
    source += [(VERSION, number), (CHANGED, moment)]
    if options.period:
        source += [(VALID_FROM, main.c[VALID_FROM]), (VALID_TO, next_valid_from(config))]
    if options.operation:
        source.append((OPERATION, bindparam(OPERATION_PARAMETER, type_=String(6))))
    if options.revision is not None:
        ended_by = bindparam(REVISION_PARAMETER, type_=revision_type(options.revision))
        source += [(REVISION, main.c[REVISION]), (ENDED_BY, ended_by)]
    statement: AnySelect = select(*(value for _, value in source)).select_from(main)
    if dialect == "postgresql":
        statement = statement.where(~is_behind_history(config))
    before = is_made_before(config)
    return [name for name, _ in source], statement if before is None else statement.where(before)


def _joined_select(config: VersionConfig, pair: TablePair) -> tuple[list[str], AnySelect]:
    """Return the same as `_root_select` for a table that joins the one of the root, in joined inheritance."""
    source: list[tuple[str, AnyExpression]] = [(copy.key, column) for column, copy in pair.copied_columns()]
    source.append((VERSION, config.root.pair.main.c[VERSION]))
    source.append((CHANGED, bindparam(MOMENT_PARAMETER, type_=UTCDateTime())))
    statement: AnySelect = select(*(value for _, value in source)).where(join_condition(config, pair))
    before = is_made_before(config.root)
    return [name for name, _ in source], statement if before is None else statement.where(before)


def _insert(pair: TablePair, names: list[str], statement: AnySelect) -> Insert:
    return insert(pair.history).from_select(names, statement, include_defaults=False)


def _returned_columns(config: VersionConfig) -> list[AnyExpression]:
    """Return the columns of the history table that tell what the copied rows had."""
    history = config.pair.history
    return [*config.history_key, history.c[VERSION], history.c[VALID_TO] if config.options.period else null()]


def capture_keys(
    session: Session,
    config: VersionConfig,
    keys_of: dict[VersionConfig, list[KeyValues]],
    operation: Operation,
) -> CapturedRows:
    """Copy the rows with these keys, given by class, before they are updated or deleted.

    Emits one statement for each table and a thousand keys.
    """
    root = config.root
    connection = connection_of(session, root)
    stamp = get_stamp(session, root)
    parameters = _parameters(root, stamp, operation)
    result = CapturedRows({}, {}, [])
    every = _sorted_keys(key for keys in keys_of.values() for key in keys)
    for keys in chunks(every, keys_per_statement(root)):
        if operation == "delete" and connection.dialect.name != "postgresql":
            captured = _capture_deleted(session, connection, root, keys, parameters)
        else:
            captured = _capture_root(session, connection, root, keys, parameters)
        result.captured.update(captured)
        missing = [key for key in keys if key not in captured]
        if missing and root.options.granularity == "transaction":
            made_now = _current_versions(connection, root, missing, is_made_now(root), stamp)
            result.made_now.update(made_now)
            missing = [key for key in missing if key not in made_now]
        if (
            missing
            and connection.dialect.name == "postgresql"
            and _correct_versions(session, connection, root, missing)
        ):
            corrected = _capture_root(session, connection, root, missing, parameters)
            result.captured.update(corrected)
            missing = [key for key in missing if key not in corrected]
        result.missing.extend(missing)
    _capture_joined_tables(connection, root, keys_of, parameters)
    if operation == "delete" and root.options.operation and root.options.granularity == "transaction":
        for chunk in chunks(every, keys_per_statement(root)):
            mark_deleted(connection, root, key_in(root.history_key, chunk), stamp)
    return result


def _capture_joined_tables(
    connection: Connection,
    root: VersionConfig,
    keys_of: dict[VersionConfig, list[KeyValues]],
    parameters: dict[str, object],
) -> None:
    """Copy the rows of the tables that join the one of the root, in joined inheritance."""
    by_pair: dict[int, tuple[VersionConfig, TablePair, list[KeyValues]]] = {}
    for member, keys in keys_of.items():
        for pair in member.pairs[1:]:
            by_pair.setdefault(id(pair), (member, pair, []))[2].extend(keys)
    # From the root down, as a history row refers to that of the table above.
    for member, pair, keys in sorted(by_pair.values(), key=lambda entry: entry[0].pairs.index(entry[1])):
        names, statement = root.cached(("joined", pair.main), partial(_joined_select, member, pair))
        matching = statement.where(key_in(root.key, bindparam(KEYS_PARAMETER, expanding=True)))
        for chunk in chunks(dict.fromkeys(keys), keys_per_statement(root)):
            values = {**parameters, KEYS_PARAMETER: _key_parameter(root, chunk)}
            connection.execute(_insert(pair, names, matching), values)


def _sorted_keys(keys: Iterable[KeyValues]) -> list[KeyValues]:
    """Return the keys without duplicates, sorted if they can be.

    All transactions lock the rows in this order, so that they do not wait for each other in a cycle.
    """
    listed = list(dict.fromkeys(keys))
    try:
        listed.sort()
    except TypeError:
        pass  # keys without an order
    return listed


def _root_statements(connection: Connection, root: VersionConfig) -> tuple[Insert, AnySelect]:
    """Return the INSERT that copies rows of the root by their keys, and the SELECT of their versions."""

    def make() -> tuple[Insert, AnySelect]:
        names, statement = _root_select(root, connection.dialect.name)
        main = root.pair.main
        statement = statement.where(key_in(root.key, bindparam(KEYS_PARAMETER, expanding=True)))
        locking = lock_rows(connection, statement.order_by(*root.key), main)
        moment = next_valid_from(root) if root.options.period else null()
        versions = locking.with_only_columns(*root.key, main.c[VERSION], moment, maintain_column_froms=True)
        return _insert(root.pair, names, locking), versions

    return root.cached(("root", connection.dialect.name), make)


def _copy_with_retry(
    session: Session,
    connection: Connection,
    root: VersionConfig,
    keys: Callable[[], list[KeyValues]],
    copy: Callable[[], R],
) -> R:
    """Call `copy`; if a version is taken, correct the versions and call it once more.

    Args:
        session: The session.
        connection: The connection on which `copy` works.
        root: The root of the hierarchy.
        keys: Returns the keys of the rows whose versions are to be corrected.
        copy: Copies the rows.

    Returns:
        What `copy` returns.

    Raises:
        StateError: The database refuses the rows even so.
    """
    try:
        return copy()
    except IntegrityError as error:
        if connection.dialect.name == "postgresql":
            raise _refused(root, error) from error  # the transaction is over
    _correct_versions(session, connection, root, keys())
    try:
        return copy()
    except IntegrityError as error:
        raise _refused(root, error) from error


def _refused(root: VersionConfig, error: IntegrityError) -> StateError:
    return StateError(
        f"rows of {root.name} cannot be copied to {root.pair.history.fullname!r}, so nothing of them was changed: "
        f"{error.orig}; roll back, and if it is their version that is taken, correct it with "
        f"seed(session, {root.name})"
    )


def _correct_versions(session: Session, connection: Connection, root: VersionConfig, keys: list[KeyValues]) -> bool:
    """Give rows whose version is not higher than those in their history the next one.

    Returns:
        Whether there were such rows.
    """
    old = _current_versions(connection, root, keys, is_behind_history(root))
    for key, last in continue_keys(session, root, old).items() if old else ():
        obj = object_in_session(session, root.mapper, key)
        # An object that was stale before stays so, for the unit of work to detect it where it checks versions.
        if obj is not None and key in old and instance_state(obj).dict.get(VERSION) == old[key].version:
            continue_object(instance_state(obj), last)
    return bool(old)


def _capture_deleted(
    session: Session, connection: Connection, root: VersionConfig, keys: list[KeyValues], parameters: dict[str, object]
) -> dict[KeyValues, CapturedRow]:
    """Copy rows of the root that will be deleted, and return their keys.

    Their versions are looked up only if some rows are missing.
    """
    inserting, _ = _root_statements(connection, root)
    values = {**parameters, KEYS_PARAMETER: _key_parameter(root, keys)}
    options: dict[str, object] = {"preserve_rowcount": True}

    def copy() -> int:
        return connection.execute(inserting, values, execution_options=options).rowcount

    if _copy_with_retry(session, connection, root, lambda: keys, copy) == len(keys):
        return dict.fromkeys(keys, CapturedRow(0, None))
    return _current_versions(connection, root, keys, is_captured(root))


def _capture_root(
    session: Session, connection: Connection, root: VersionConfig, keys: list[KeyValues], parameters: dict[str, object]
) -> dict[KeyValues, CapturedRow]:
    """Copy rows of the root, and return what they had."""
    width = len(root.key)
    values = {**parameters, KEYS_PARAMETER: _key_parameter(root, keys)}

    def copy() -> Sequence[RowValues]:
        return _copy_root(connection, root, values)

    rows = _copy_with_retry(session, connection, root, lambda: keys, copy)
    captured = {tuple(row[:width]): CapturedRow(row[width], row[width + 1]) for row in rows}
    # A database may return a key otherwise than it was written: 'a' for 'A', or with blanks at its end.
    unknown = [key for key in keys if key not in captured] if len(rows) == len(keys) else []
    for key in unknown:
        for each in _current_versions(connection, root, [key], is_captured(root)).values():
            captured[key] = each
    return captured


def _copy_root(connection: Connection, root: VersionConfig, parameters: dict[str, object]) -> Sequence[RowValues]:
    """Copy rows of the root, and return their keys, versions and ends."""
    inserting, versions = _root_statements(connection, root)
    if connection.dialect.insert_returning:
        return connection.execute(inserting.returning(*_returned_columns(root)), parameters).all()
    # MySQL cannot return what it has inserted. The rows that are selected stay locked until they are inserted.
    unused = (
        {OPERATION_PARAMETER}
        if root.options.granularity == "transaction"
        else {OPERATION_PARAMETER, REVISION_PARAMETER}
    )
    rows = connection.execute(versions, {name: value for name, value in parameters.items() if name not in unused}).all()
    connection.execute(inserting, parameters)
    return rows


def _current_versions(
    connection: Connection,
    root: VersionConfig,
    keys: list[KeyValues],
    which: ColumnElement[bool],
    stamp: VersionStamp | None = None,
) -> dict[KeyValues, CapturedRow]:
    """Return the versions of rows with these keys, with when they began.

    Args:
        connection: The connection.
        root: The root of the hierarchy.
        keys: The keys.
        which: Select only rows that match this.
        stamp: Values for the parameters of `which`.
    """
    main, width = root.pair.main, len(root.key)
    begun = main.c[VALID_FROM] if root.options.period else null()
    statement = select(*root.key, main.c[VERSION], begun).where(
        which if stamp is None else bind_values(which, stamp_parameters(stamp))
    )
    found: dict[KeyValues, CapturedRow] = {}
    for chunk in chunks(keys, keys_per_statement(root)):
        for row in connection.execute(statement.where(key_in(root.key, chunk))):
            found[tuple(row[:width])] = CapturedRow(row[width], row[width + 1])
    return found


def mark_deleted(connection: Connection, root: VersionConfig, which: ColumnElement[bool], stamp: VersionStamp) -> None:
    """Set the operation to "delete" in history rows that this transaction wrote for an update of what it deletes."""
    history = root.pair.history
    if root.options.revision is not None:
        written_now = history.c[ENDED_BY] == stamp.revision
    else:
        written_now = history.c[CHANGED] == stamp.moment
    connection.execute(update(history).where(which, written_now).values({OPERATION: "delete"}))


class MatchingRows(NamedTuple):
    """The rows that `capture_matching` has copied.

    Attributes:
        stamp: The stamp of their copies.
        number: How many there are.
        keys: Their keys if the version is not in the local table of the class, else none.
    """

    stamp: VersionStamp
    number: int
    keys: list[KeyValues]


def capture_matching(
    session: Session,
    config: VersionConfig,
    criterion: ColumnElement[bool],
    members: Iterable[VersionConfig],
    operation: Operation,
) -> MatchingRows:
    """Copy the rows that match a criterion, before a bulk statement changes them.

    Emits one statement for each table.

    Args:
        session: The session.
        config: The class of the statement.
        criterion: A criterion on the table of the root.
        members: The classes of the rows.
        operation: What ends the versions.
    """
    root = config.root
    connection = connection_of(session, root)
    versions = session_versions(session)
    first = root.options.revision is not None and not versions.has_revision(session, root)
    stamp = get_stamp(session, root)
    values = _parameters(root, stamp, operation)
    names, statement = _root_select(root, connection.dialect.name)
    # All transactions lock the rows in the same order.
    locking = lock_rows(connection, statement.where(criterion).order_by(*root.key), root.pair.main)
    inserting = _insert(root.pair, names, locking)
    wants_keys = config.pair is not config.pairs[-1]

    def rows_behind_history() -> list[KeyValues]:
        return [tuple(row) for row in connection.execute(select(*root.key).where(criterion, is_behind_history(root)))]

    def copy() -> tuple[int, list[KeyValues]]:
        if not wants_keys:
            options: dict[str, object] = {"preserve_rowcount": True}
            return connection.execute(inserting, values, execution_options=options).rowcount, []
        if connection.dialect.insert_returning:
            copied_keys = [tuple(row) for row in connection.execute(inserting.returning(*root.history_key), values)]
        else:
            listing = locking.with_only_columns(*root.key, maintain_column_froms=True)
            copied_keys = [tuple(row) for row in connection.execute(listing, values)]
            connection.execute(inserting, values)
        return len(copied_keys), copied_keys

    if connection.dialect.name == "postgresql":
        copied, keys = _copy_and_list(session, connection, root, criterion, values, wants_keys=wants_keys)
    else:
        copied, keys = _copy_with_retry(session, connection, root, rows_behind_history, copy)
    # If only rows match whose versions this transaction has made, its revision was there before.
    if first and not copied and not wants_keys:
        versions.delete_revision(session, root)
    seen: set[int] = set()
    for member in members:
        for pair in member.pairs[1:]:
            if id(pair) not in seen:
                seen.add(id(pair))
                names, statement = _joined_select(member, pair)
                connection.execute(_insert(pair, names, statement.where(criterion)), values)
    return MatchingRows(stamp, copied, keys)


def delete_copies_of_unchanged_rows(session: Session, root: VersionConfig, stamp: VersionStamp) -> None:
    """Delete from history what was copied with this stamp and is the current version still.

    Emits one statement for each history table.
    """
    main, connection = root.pair.main, connection_of(session, root)
    current = select(*root.key, main.c[VERSION])
    for pair in pairs_bottom_up(root):
        history = pair.history
        version = tuple_(*root_key_in(root, pair), history.c[VERSION])
        connection.execute(delete(history).where(history.c[CHANGED] == stamp.moment, version.in_(current)))


def _copy_and_list(
    session: Session,
    connection: Connection,
    root: VersionConfig,
    criterion: ColumnElement[bool],
    values: dict[str, object],
    *,
    wants_keys: bool,
) -> tuple[int, list[KeyValues]]:
    """Copy rows on PostgreSQL, and return how many there were, with their keys if `wants_keys`.

    One statement copies rows, and lists those that it left out because their version is not higher than those in their
    history. Their versions are corrected, and then they are copied too.
    """
    names, statement = _root_select(root, connection.dialect.name)
    total, keys = 0, list[KeyValues]()
    for _ in range(2):
        locking = lock_rows(connection, statement.where(criterion).order_by(*root.key), root.pair.main)
        copied = _insert(root.pair, names, locking).returning(*root.history_key).cte("sqla_copied")
        behind = select(*root.key).where(criterion, is_behind_history(root)).subquery("sqla_behind")
        if wants_keys:
            listing: Executable = union_all(select(literal(0), *copied.c), select(literal(1), *behind.c))
        else:
            # At least one row, with the number of copies.
            one = select(func.count().label("sqla_count")).select_from(copied).subquery("sqla_one")
            listing = select(one.c.sqla_count, *behind.c).select_from(one.outerjoin(behind, true()))
        rows: Sequence[RowValues] = connection.execute(listing, values).all()
        if wants_keys:
            keys += [tuple(row[1:]) for row in rows if not row[0]]
            total = len(keys)
            left = [tuple(row[1:]) for row in rows if row[0]]
        else:
            total += rows[0][0]
            left = [tuple(row[1:]) for row in rows if row[1] is not None]
        if not left or not _correct_versions(session, connection, root, left):
            break
        criterion = key_in(root.key, left)
    return total, keys
