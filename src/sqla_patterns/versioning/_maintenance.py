"""Maintain history tables: `prune` old versions, `seed` the history of an existing table, `erase` an object."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, func, literal, or_, select, tuple_, update
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from .._maintained import deleting_for_good
from .._session import SyncSession, current_database, resolve_session
from .._sql import chunks, key_in, structural
from .._sqlalchemy import autoflush, object_in_session, objects_in_session
from .._typing import AnyExpression, AnySelect, MappedObject
from ..exceptions import InvalidArgumentError, StateError
from ._association_sync import sync_whole_table
from ._associations import association_of, associations_of
from ._config import (
    KeyValues,
    RowValues,
    VersionConfig,
    connection_of,
    hierarchy,
    pairs_bottom_up,
    require_config,
    root_key_in,
)
from ._errors import NoSuchVersionError
from ._expressions import join_condition
from ._names import CHANGED, REVISION, VALID_FROM, VERSION
from ._reading import as_key, load_history_row
from ._reused_keys import continue_all, last_versions
from ._row_reader import reader_of
from ._session import get_stamp, session_versions
from ._types import aware


def prune(
    session: SyncSession, entity: type[object], *, keep: int | None = None, before: datetime | None = None
) -> int:
    """Delete old rows of history, and return how many.

    With both `keep` and `before`, only rows are deleted that both allow to delete. Emits one DELETE for each table.

    Args:
        session: The session.
        entity: A versioned class; the history of its whole hierarchy is pruned.
        keep: How many history rows each object keeps: the newest ones, not counting its current version.
        before: Delete only versions that ended before this time.

    Raises:
        InvalidArgumentError: Neither is given, `keep` is negative, or `before` has no time zone.
    """
    session = resolve_session(session, "prune")
    config = require_config(entity)
    if keep is None and before is None:
        raise InvalidArgumentError(
            "prune() needs a rule: give keep=, the number of rows to keep for each object, or before=, a moment"
        )
    if keep is not None and keep < 0:
        raise InvalidArgumentError(f"prune() cannot keep {keep} rows; give keep=0 or more")
    if before is not None:
        aware(before)
    autoflush(session)
    root = config.root
    old = _old_rows(root, keep, before)
    connection = connection_of(session, root)
    pruned = 0
    for pair in pairs_bottom_up(root):
        columns = [*root_key_in(root, pair), pair.history.c[VERSION]]
        deleted = connection.execute(delete(pair.history).where(tuple_(*columns).in_(old)))
        pruned = deleted.rowcount if pair is root.pair else pruned
    return pruned


def _old_rows(root: VersionConfig, keep: int | None, before: datetime | None) -> AnySelect:
    """Return a SELECT of the keys and versions of the history rows to delete."""
    history = root.pair.history
    columns = [*root.history_key, history.c[VERSION]]
    rank = func.row_number().over(partition_by=root.history_key, order_by=history.c[VERSION].desc())
    # In a subquery: MySQL does not read a table from which it deletes, except in a derived table.
    ranked = select(*columns, history.c[CHANGED], rank.label("sqla_rank")).subquery()
    criteria: list[ColumnElement[bool]] = []
    if keep is not None:
        criteria.append(ranked.c.sqla_rank > keep)
    if before is not None:
        criteria.append(ranked.c[CHANGED] < before)
    chosen: list[AnyExpression] = [ranked.c[column.key] for column in columns]
    statement: AnySelect = select(*chosen)
    return statement.where(and_(*criteria))


def seed(session: SyncSession, entity: type[object], *, batch_size: int = 1000) -> int:
    """Fill the library's columns in rows that existed before the class was versioned, and return how many.

    Fills ``version``, ``valid_from`` and ``revision_id`` where they are NULL, corrects a ``version`` that is not higher
    than those in the history of its row, and begins associations that have no history yet. Objects in the session are
    expired. Emits three statements for each batch, and one more.

    Args:
        session: The session.
        entity: A versioned class.
        batch_size: How many rows are filled with one statement.

    Raises:
        InvalidArgumentError: `batch_size` is not positive.
    """
    session = resolve_session(session, "seed")
    config = require_config(entity)
    if batch_size < 1:
        raise InvalidArgumentError(f"seed() cannot work in batches of {batch_size}")
    autoflush(session)
    root = config.root
    main, options = root.pair.main, root.options
    connection = connection_of(session, root)
    names = [VERSION, *([VALID_FROM] if options.period else []), *([REVISION] if options.revision is not None else [])]
    missing = or_(*(main.c[name].is_(None) for name in names))
    width, filled = len(root.key), 0
    while rows := connection.execute(select(*root.key).where(missing).order_by(*root.key).limit(batch_size)).all():
        stamp = get_stamp(session, root)
        values = {VERSION: 1, VALID_FROM: stamp.moment, REVISION: stamp.revision}
        keys = [tuple(row[:width]) for row in rows]
        last = last_versions(session, root, keys)
        for chunk in chunks(keys):
            filling = {main.c[name]: func.coalesce(main.c[name], values[name]) for name in names}
            plain = [key for key in chunk if key not in last]
            if plain:
                connection.execute(update(main).where(key_in(root.key, plain)).values(filling))
            for key in chunk:
                if key in last:
                    continuing = {**filling, main.c[VERSION]: func.coalesce(main.c[VERSION], last[key].version + 1)}
                    connection.execute(update(main).where(key_in(root.key, [key])).values(continuing))
        filled += len(keys)
    filled += continue_all(session, root)
    if filled:
        for obj in objects_in_session(session, root.cls):
            session.expire(obj, names)
    for member in hierarchy(root):
        for name in options.associations:
            if name in member.mapper.relationships:
                sync_whole_table(session, association_of(member, name))
    return filled


def erase(session: SyncSession, entity: type[object], key: object, *, cascade: bool = False) -> int:
    """Delete an object and all of its history, and return how many rows of history there were.

    For privacy law. The object may be deleted already, or criteria of the session may hide it: only the table decides.
    The session is flushed. Versioned objects that are deleted with it, by relationships or by ``ON DELETE CASCADE``,
    have their history as usual, with their last state in it as a deletion. What other tables store about the object is
    not changed, nor is the log of revisions.

    Args:
        session: The session.
        entity: The versioned class.
        key: The primary key; a tuple where it has several columns.
        cascade: Also erase the history of the objects that are deleted with this one; not of those deleted before.

    Raises:
        NoSuchVersionError: There is neither an object nor any history of it, or the key belongs to an object of another
            class; nothing was written.
        StateError: The row still exists after its deletion, for instance because a listener has turned the deletion
            into something else.
    """
    session = resolve_session(session, "erase")
    config = require_config(entity)
    key_values = as_key(config, key)
    session.flush()
    root = config.root
    connection = connection_of(session, root)
    by_key = key_in(root.key, [key_values])
    row: RowValues | None = connection.execute(structural(reader_of(config).select_main().where(by_key))).first()
    last = row if row is not None else _last_row(session, config, key_values)
    member = config if last is None else reader_of(config).member(last)
    if not issubclass(member.cls, config.cls):
        raise NoSuchVersionError(
            f"erase() was asked for the {config.name} {key_values!r}, and that key is one of {member.name}; nothing "
            f"was erased; ask for {member.name}"
        )
    deleted_with: dict[VersionConfig, set[KeyValues]] = {}
    if row is not None:
        obj = _object_of_row(session, connection, member, key_values)
        # Also where another package only marks what is deleted: an erased row is gone.
        with deleting_for_good(session):
            deleted_with = _delete_without_history(session, obj, cascade=cascade)
        left = structural(select(literal(1)).select_from(root.pair.main).where(by_key))
        if connection.scalar(left) is not None:
            raise StateError(
                f"{config.name} {key_values!r} is still in table {root.pair.main.fullname!r} after it was deleted, so "
                "nothing of its history was erased; look for a listener or a trigger that keeps rows, and roll back"
            )
    erased = _delete_history(session, root, [key_values])
    if row is None and not erased:
        raise NoSuchVersionError(f"there is neither a {config.name} {key_values!r} nor any history of one")
    return erased + sum(_delete_history(session, other, list(keys)) for other, keys in deleted_with.items())


def _delete_without_history(session: Session, obj: object, *, cascade: bool) -> dict[VersionConfig, set[KeyValues]]:
    """Delete an object without writing its history.

    Returns:
        If `cascade`, the keys of the versioned objects that were deleted with it, by hierarchy.
    """
    versions = session_versions(session)
    deleted_with: dict[VersionConfig, set[KeyValues]] = {}
    session.delete(obj)
    versions.erased, versions.erased_with = instance_state(obj), deleted_with if cascade else None
    try:
        session.flush()
    finally:
        versions.erased, versions.erased_with = None, None
    return deleted_with


def _delete_history(session: Session, root: VersionConfig, keys: list[KeyValues]) -> int:
    """Delete all history of these keys, and return how many rows the history of the root had."""
    connection = connection_of(session, root)
    count = 0
    for chunk in chunks(keys):
        for pair in pairs_bottom_up(root):
            deleted = connection.execute(delete(pair.history).where(key_in(root_key_in(root, pair), chunk)))
            count += deleted.rowcount if pair is root.pair else 0
        for each in hierarchy(root):
            for association in associations_of(each):
                owners = [association.history.c[column.key] for column, _ in association.owner]
                connection.execute(delete(association.history).where(key_in(owners, chunk)))
    return count


def _last_row(session: Session, config: VersionConfig, key: KeyValues) -> RowValues | None:
    """Return the last history row of a key, None if it has no history."""
    try:
        return load_history_row(session, config, key, None, all_rows=True)
    except NoSuchVersionError:
        return None


def _object_of_row(session: Session, connection: Connection, member: VersionConfig, key: KeyValues) -> MappedObject:
    """Return the object with this key, even if criteria of the session hide it.

    Not with ``session.get()``, which calls the listeners of the session. An object that is not in the session is made
    of its row, so that deleting it loads nothing.
    """
    present = object_in_session(session, member.mapper, key)
    if present is not None:
        return present
    obj: MappedObject = member.mapper.class_manager.new_instance()
    statement = select(
        *member.columns.values(), *(member.root.pair.main.c[name] for name in sorted(member.root.version_columns))
    )
    for pair in member.pairs[1:]:
        statement = statement.where(join_condition(member, pair))
    row = connection.execute(structural(statement.where(key_in(member.key, [key])))).one()
    for attr, value in zip([*member.columns, *sorted(member.root.version_columns)], row, strict=True):
        set_committed_value(obj, attr, value)
    instance_state(obj).identity_token = current_database(session)
    make_transient_to_detached(obj)
    session.add(obj)
    return obj
