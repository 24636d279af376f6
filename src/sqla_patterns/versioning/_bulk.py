"""Write history for bulk statements: ``update()``, ``delete()`` and ``insert()`` in ``session.execute()``.

Before an UPDATE or DELETE, the rows that match its criteria are copied to history. Then the statement gets one more
criterion, by which it changes only rows that were copied: those whose current version is in the history. Rows that
another transaction commits between the two statements are thereby left alone, as if they had been committed later.

The other way round, a row that was copied may match no longer when the statement is executed. This cannot happen if the
criteria use only columns of the row, because the copy locks the row and compares it as it is then. It can happen if the
criteria read other rows, which nobody locks: PostgreSQL does not read those again when it has waited for a lock, and
other transactions may change them between the two statements. The copies of rows that match no longer are deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Delete,
    Insert,
    SelectBase,
    Update,
    and_,
    exists,
    or_,
    select,
    update,
)
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.sql.visitors import iterate

from .._sql import CHUNK_SIZE, chunks, is_table, key_in
from .._sqlalchemy import (
    autoflush,
    concerns,
    execute_last,
    inserted_rows,
    invoke,
    is_limited,
    is_orm,
    is_upsert,
    keep_synchronizing,
    objects_in_session,
    options_of,
    selects_any,
    set_columns,
    synchronizes,
    with_values,
)
from .._typing import AnyColumn, AnyExpression, AnyResult, AnySelect, MappedObject
from ._cascades import capture_dependent_rows, cascades_of
from ._config import KeyValues, VersionConfig, config_of, config_of_table, connection_of, hierarchy, local_key, pk_of
from ._errors import UnversionedWriteError, deleted_elsewhere
from ._expressions import (
    bind_values,
    is_captured,
    is_made_now,
    key_in_select,
    same_key,
    stamp_parameters,
    version_values,
)
from ._history_writer import (
    MatchingRows,
    capture_keys,
    capture_matching,
    delete_copies_of_unchanged_rows,
    mark_deleted,
)
from ._names import CHANGED, REVISION, STAMP_OPTION, VALID_FROM, VERSION
from ._reused_keys import continue_all, continue_keys
from ._session import get_stamp, session_versions
from ._version import VersionStamp


def on_execute(state: ORMExecuteState) -> AnyResult | None:
    """Write history for a bulk statement, and execute it; a listener for ``do_orm_execute``.

    All other listeners are called before, since they may change which rows the statement changes.

    Returns:
        The result of the statement; None to have SQLAlchemy execute it.

    Raises:
        UnversionedWriteError: No history of the statement can be written; it is not executed.
    """
    statement = _statement_of(state)
    if statement is None or session_versions(state.session).disabled:
        return None
    if _config_of(state, statement) is None and not (isinstance(statement, Delete) and cascades_of(statement.table)):
        return None
    return execute_last(state, _write)


def _statement_of(state: ORMExecuteState) -> Update | Delete | Insert | None:
    """Return what a statement writes with, None if it is a SELECT or something else."""
    if state.is_select:
        return None
    statement: object = state.statement
    if state.is_from_statement:
        statement = getattr(statement, "element", None)
    return statement if isinstance(statement, (Update, Delete, Insert)) else None


def _write(state: ORMExecuteState) -> AnyResult | None:
    statement = _statement_of(state)
    if statement is None:
        return None
    config = _config_of(state, statement)
    if config is None:
        if isinstance(statement, Delete) and cascades_of(statement.table):
            _cascade(state, statement, None)
        return None
    if state.is_from_statement and not isinstance(statement, Insert):
        raise UnversionedWriteError(
            f"an UPDATE or DELETE of {config.name} inside select().from_statement() leaves no history; execute it by "
            "itself, with returning()"
        )
    if isinstance(statement, Insert):
        return _insert(state, config, statement)
    if is_limited(statement):
        raise UnversionedWriteError(
            f"an UPDATE or DELETE of {config.name} with LIMIT cannot be captured, as nobody knows which rows it takes; "
            "select their keys first"
        )
    if isinstance(statement, Update) and _makes_no_version(config, statement, state.parameters):
        return None
    autoflush(state.session)
    if isinstance(state.parameters, list) and isinstance(statement, Update) and state.bind_mapper is not None:
        return _update_by_key(state, config, state.parameters)
    if isinstance(state.parameters, list):
        raise UnversionedWriteError(
            f"several parameter sets in an UPDATE or DELETE of the table of {config.name} cannot be captured; execute "
            "them one by one, or update the class by primary key"
        )
    if isinstance(statement, Update):
        return _update(state, config, statement)
    return _delete(state, config, statement)


def _config_of(state: ORMExecuteState, statement: Update | Delete | Insert) -> VersionConfig | None:
    """Return the configuration of the class or table of a statement, None if it is not versioned."""
    mapper = state.bind_mapper
    if mapper is not None and is_orm(statement):
        return config_of(mapper.class_)
    table = statement.table
    return config_of_table(table) if is_table(table) else None


def _makes_no_version(
    config: VersionConfig, statement: Update, parameters: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None
) -> bool:
    """Return whether an UPDATE sets only attributes whose change makes no version."""
    names = set_columns(statement, parameters)
    silent: set[str] = set(config.root.key_attrs)
    for member in hierarchy(config):
        for attr in {*member.excluded, *config.options.ignore} & member.columns.keys():
            silent |= {attr, member.columns[attr].key}
    return names is not None and names <= silent and bool(names - set(config.root.key_attrs))


def _cascade(state: ORMExecuteState, statement: Delete, criterion: ColumnElement[bool] | None) -> None:
    """Copy the rows that the database deletes or changes together with those of a bulk DELETE."""
    session, table = state.session, statement.table
    if not is_table(table):
        return
    referred = list(dict.fromkeys(column for cascade in cascades_of(table) for column in cascade.referred))
    autoflush(session)
    listing: AnySelect = select(*referred)
    if criterion is not None:
        listing = listing.where(criterion)
    elif statement.whereclause is not None:
        listing = listing.where(bind_values(statement.whereclause, _parameters(state)))
    connection = session.connection(bind_arguments=dict(state.bind_arguments))
    rows: list[dict[AnyColumn, object]] = [dict(zip(referred, row, strict=True)) for row in connection.execute(listing)]
    if rows:
        capture_dependent_rows(session, state.bind_mapper, table, rows)


def _parameters(state: ORMExecuteState) -> Mapping[str, object]:
    """Return the parameters of a statement that is executed once."""
    parameters = state.parameters
    return parameters if isinstance(parameters, Mapping) else {}


# -- UPDATE and DELETE ---------------------------------------------------------------------------


def _criterion(
    config: VersionConfig, statement: Update | Delete, parameters: Mapping[str, object]
) -> ColumnElement[bool]:
    """Return the criteria of a statement as a criterion on the table of the root."""
    given = statement.whereclause
    criteria: list[ColumnElement[bool]] = [] if given is None else [given]
    mapper, root = config.mapper, config.root
    options = options_of(statement)
    if mapper.single and mapper.polymorphic_on is not None and is_orm(statement):
        identities = [each.polymorphic_identity for each in mapper.self_and_descendants]
        criteria.append(mapper.polymorphic_on.in_(identities))
    criterion: ColumnElement[bool] = and_(True, *criteria) if criteria else root.key[0].is_not(None)
    if parameters:
        criterion = bind_values(criterion, parameters)
    tables = set(select(criterion).get_final_froms())
    if len(config.pairs) == 1 and all(table == root.pair.main for table in tables):
        if not options:
            return criterion
        # Options for other classes have nothing to say about columns of this one.
        options = tuple(each for each in options if concerns(each, mapper))
        if not options and not _reads_other_rows(criterion):
            return criterion
        options = options_of(statement)
    keys: AnySelect = select(*root.key)
    if options or len(config.pairs) > 1:
        columns: list[AnyExpression] = [getattr(config.cls, attr) for attr in root.key_attrs]
        keys = select(*columns).select_from(config.cls)
    return key_in_select(root.key, keys.where(criterion).options(*options))


def _reads_other_rows(criterion: ColumnElement[bool]) -> bool:
    """Return whether a criterion on the table of the root reads more than columns of the row that it judges."""
    return any(isinstance(each, SelectBase) for each in iterate(criterion))


def _delete_needless_copies(
    session: Session, root: VersionConfig, criterion: ColumnElement[bool], matching: MatchingRows, result: AnyResult
) -> None:
    """Delete the copies of rows that matched no longer when the statement was executed.

    Emits no statement if the criteria concern columns of the rows alone, or if as many rows were changed as copied.
    """
    if not matching.number or not _reads_other_rows(criterion):
        return
    # Where a transaction makes one version only, rows are changed that were not copied.
    changed = result.rowcount if isinstance(result, CursorResult) and root.options.granularity == "flush" else -1
    if changed != matching.number:
        delete_copies_of_unchanged_rows(session, root, matching.stamp)


def _is_captured_or_made_now(root: VersionConfig, stamp: VersionStamp) -> ColumnElement[bool]:
    """Match rows that were copied just now, and rows that need no copy."""
    if root.options.granularity == "flush":
        return is_captured(root)
    return or_(is_captured(root), bind_values(is_made_now(root), stamp_parameters(stamp)))


def _has_next_version(config: VersionConfig, matching: MatchingRows) -> ColumnElement[bool]:
    """Match rows of the local table of a joined subclass whose row of the root has got its next version already."""
    root = config.root
    main, history = root.pair.main, root.pair.history
    if root.options.granularity == "transaction":
        # Also rows whose version this transaction made before.
        is_next = bind_values(is_made_now(root), stamp_parameters(matching.stamp))
    elif len(matching.keys) <= CHUNK_SIZE:
        return key_in(local_key(config), matching.keys)
    else:
        copies = select(1).where(same_key(root), history.c[VERSION] == main.c[VERSION] - 1)
        is_next = exists(copies.where(history.c[CHANGED] == matching.stamp.moment).correlate(main))
    return key_in_select(local_key(config), select(*root.key).where(is_next).correlate(None))


def _update(state: ORMExecuteState, config: VersionConfig, statement: Update) -> AnyResult:
    session, root = state.session, config.root
    criterion = _criterion(config, statement, _parameters(state))
    if statement.table == root.pair.main:
        matching = capture_matching(session, config, criterion, hierarchy(config), "update")
        changed = statement.where(_is_captured_or_made_now(root, matching.stamp))
        state.statement = with_values(changed, root.mapper, version_values(root, matching.stamp))
    else:
        # The version is in another table than the one that the statement updates.
        matching = capture_matching(session, config, criterion, hierarchy(config), "update")
        connection = connection_of(session, root)
        main = root.pair.main
        for chunk in chunks(matching.keys):
            next_version = update(main).where(key_in(root.key, chunk)).values(version_values(root, matching.stamp))
            connection.execute(next_version)
        state.statement = statement.where(_has_next_version(config, matching))
    keep_synchronizing(state, statement)
    result = invoke(state)
    if statement.table == root.pair.main:
        _delete_needless_copies(session, root, criterion, matching, result)
    if synchronizes(state, statement):
        _load_versions(session, config, matching.keys)
    return result


def _delete(state: ORMExecuteState, config: VersionConfig, statement: Delete) -> AnyResult:
    session, root = state.session, config.root
    if statement.table != root.pair.main:
        raise UnversionedWriteError(
            f"a bulk DELETE of {config.name} would leave its rows in {root.pair.main.fullname!r} behind; delete the "
            f"objects one by one, or delete({root.name}) where the database cascades"
        )
    criterion = _criterion(config, statement, _parameters(state))
    matching = capture_matching(session, config, criterion, hierarchy(config), "delete")
    stamp = matching.stamp
    if root.options.granularity == "transaction" and root.options.operation:
        connection = connection_of(session, root)
        mark_deleted(connection, root, key_in_select(root.history_key, select(*root.key).where(criterion)), stamp)
    if cascades_of(root.pair.main):
        _cascade(state, statement, criterion)
    state.statement = statement.where(_is_captured_or_made_now(root, stamp))
    keep_synchronizing(state, statement)
    result = invoke(state)
    _delete_needless_copies(session, root, criterion, matching, result)
    return result


def _update_by_key(
    state: ORMExecuteState, config: VersionConfig, parameters: Sequence[Mapping[str, object]]
) -> AnyResult:
    session, root = state.session, config.root
    attrs = root.key_attrs
    keys = [tuple(row.get(attr) for attr in attrs) for row in parameters]
    complete: list[KeyValues] = list(dict.fromkeys(key for key in keys if None not in key))
    captured, made_now, _ = capture_keys(session, root, dict.fromkeys(hierarchy(config), complete), "update")
    stamp = get_stamp(session, root)
    added: list[dict[str, object]] = []
    for key in keys:
        if key in captured:
            version, begun = captured[key].version + 1, captured[key].moment
        elif key in made_now:
            version, begun = made_now[key]
        else:
            raise deleted_elsewhere(root.name, key)
        values: dict[str, object] = {VERSION: version}
        if root.options.period:
            values[VALID_FROM] = begun
        if root.options.revision is not None:
            values[REVISION] = stamp.revision
        added.append(values)
    return invoke(state, added)


def _load_versions(session: Session, config: VersionConfig, changed: Iterable[KeyValues]) -> None:
    """Load maintained attributes that were changed by statements, so that reading them needs no SQL.

    They are those that the user's statement has expired, and those of the rows of a joined subclass whose version is in
    another table than the one that it updates. Emits one SELECT for a thousand objects, and none if there are none.
    """
    root = config.root
    keys = set(changed)
    names = [name for name in (VERSION, VALID_FROM, REVISION) if name in root.version_columns]
    stale: dict[KeyValues, MappedObject] = {}
    for obj in objects_in_session(session, root.cls):
        state = instance_state(obj)
        is_expired = any(name in state.expired_attributes for name in names)
        if (is_expired or pk_of(state) in keys) and state.dict.keys() & root.columns.keys():
            stale[pk_of(state)] = obj
    for chunk in chunks(stale):
        statement = select(*root.key, *(root.pair.main.c[name] for name in names)).where(key_in(root.key, chunk))
        for row in connection_of(session, root).execute(statement):
            width = len(root.key)
            obj = stale[tuple(row[:width])]
            for name, value in zip(names, row[width:], strict=True):
                set_committed_value(obj, name, value)
                instance_state(obj).expired_attributes.discard(name)


# -- INSERT --------------------------------------------------------------------------------------


def _insert(state: ORMExecuteState, config: VersionConfig, statement: Insert) -> AnyResult | None:
    if is_upsert(statement):
        raise UnversionedWriteError(
            f"an INSERT of {config.name} that updates or replaces the rows it meets leaves no history of them; "
            "insert what is new and update() the rest"
        )
    root, session = config.root, state.session
    options = root.options
    if options.period or options.revision is not None:
        # The defaults of the columns read this option, whatever the statement looks like.
        state.update_execution_options(**{STAMP_OPTION: get_stamp(session, root)})
    rows = inserted_rows(statement, state.parameters)
    if rows is None:
        if not selects_any(statement, [column.key for column in root.key]):
            return None
        result = invoke(state)
        continue_all(session, root)
        return result
    keys = [key for key in (_given_key(root, row) for row in rows) if key is not None]
    if not keys:
        return None
    result = invoke(state)
    continue_keys(session, root, keys)
    return result


def _given_key(root: VersionConfig, row: Mapping[str, object]) -> KeyValues | None:
    """Return the primary key that an INSERT gives to a row, None if the database generates it."""
    key = tuple(row.get(attr, row.get(column.key)) for attr, column in zip(root.key_attrs, root.key, strict=True))
    return None if None in key else key
