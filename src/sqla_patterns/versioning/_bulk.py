"""Statements that write many rows at once: ``update()``, ``delete()`` and ``insert()`` in ``session.execute()``.

Before an UPDATE or DELETE, the rows that it will match are copied to history by the same criteria. The statement itself is then held to rows
that were copied: those whose present version stands in history, which is so for no others. What another transaction commits between the two is
thereby left alone, as if it had come later.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import ColumnElement, Delete, Insert, Update, and_, or_, select, update
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from . import _dml
from ._as_of import config_of_table
from ._capture import capture, capture_keys, current_versions, gone, mark_deleted, stamp_of
from ._cascades import cascades_of, delete_below
from ._clauses import Found, Stamp, bound, bound_values, captured, chunks, key_in, made_now, new_values
from ._config import VersionConfig, config_of, hierarchy
from ._errors import StaleVersionError, UnversionedWriteError
from ._reuse import continue_all, continue_keys
from ._sa import autoflush
from ._session import session_versions
from ._tables import REVISION, STAMP, VALID_FROM, VERSION, is_table

__all__ = ("on_execute",)

# Keys in one statement, beside the user's own parameters.
_LISTED = 10_000


def on_execute(state: ORMExecuteState) -> Any:
    """A listener for ``do_orm_execute``."""
    if state.is_select:
        return None
    statement: Any = state.statement
    if state.is_from_statement:
        statement = getattr(statement, "element", None)
    if not isinstance(statement, (Update, Delete, Insert)):
        return None
    config = _config_of(state, statement)
    if config is None:
        if isinstance(statement, Delete) and cascades_of(statement.table):
            _cascade(state, statement, None)
        return None
    if session_versions(state.session).disabled:
        return None
    if state.is_from_statement and not isinstance(statement, Insert):
        raise UnversionedWriteError(
            f"an UPDATE or DELETE of {config.name} inside select().from_statement() leaves no history; execute it by itself, with returning()"
        )
    if isinstance(statement, Insert):
        return _insert(state, config, statement)
    if _dml.is_limited(statement):
        raise UnversionedWriteError(
            f"an UPDATE or DELETE of {config.name} with LIMIT cannot be captured, as nobody knows which rows it takes; select their keys first"
        )
    if isinstance(statement, Update) and _is_silent(config, statement, state.parameters):
        return None
    autoflush(state.session)
    if isinstance(state.parameters, list) and isinstance(statement, Update) and state.bind_mapper is not None:
        return _update_by_key(state, config, cast("list[dict[str, Any]]", state.parameters))
    if isinstance(state.parameters, list):
        raise UnversionedWriteError(
            f"several parameter sets in an UPDATE or DELETE of the table of {config.name} cannot be captured; execute them one by one, or update "
            "the class by primary key"
        )
    if isinstance(statement, Update):
        return _update(state, config, statement)
    return _delete(state, config, statement)


def _config_of(state: ORMExecuteState, statement: Update | Delete | Insert) -> VersionConfig | None:
    mapper: Mapper[Any] | None = state.bind_mapper
    if mapper is not None and _dml.is_orm(statement):
        return config_of(mapper.class_)
    table: Any = statement.table
    return config_of_table(table) if is_table(table) else None


def _is_silent(config: VersionConfig, statement: Update, parameters: Any) -> bool:
    """Whether an UPDATE sets nothing but what makes no version."""
    names = _dml.set_columns(statement, parameters)
    silent: set[str] = set(config.root.key_attrs)
    for member in hierarchy(config):
        for attr in {*config.options.exclude, *config.options.ignore} & member.columns.keys():
            silent |= {attr, member.columns[attr].key}
    return names is not None and names <= silent and bool(names - set(config.root.key_attrs))


def _cascade(state: ORMExecuteState, statement: Delete, criterion: ColumnElement[bool] | None) -> None:
    """Capture what the database will delete below the rows of a bulk DELETE."""
    session = state.session
    if session_versions(session).disabled:
        return
    table = cast("Any", statement.table)
    wanted = list(dict.fromkeys(column for edge in cascades_of(table) for column in edge.referred))
    autoflush(session)
    listing = select(*wanted)
    if criterion is not None:
        listing = listing.where(criterion)
    elif statement.whereclause is not None:
        listing = listing.where(bound(statement.whereclause, cast("dict[str, Any]", state.parameters or {})))
    connection = session.connection(bind_arguments=dict(state.bind_arguments))
    rows = [dict(zip(wanted, row, strict=True)) for row in connection.execute(listing)]
    mapper = state.bind_mapper
    if rows:
        delete_below(session, mapper, table, rows)


# -- UPDATE and DELETE ---------------------------------------------------------------------------


def _criterion(config: VersionConfig, statement: Update | Delete, parameters: dict[str, Any]) -> ColumnElement[bool]:
    """What the statement matches, as a condition on the table of the root."""
    given = statement.whereclause
    criteria: list[Any] = [] if given is None else [given]
    mapper, root = config.mapper, config.root
    options: tuple[Any, ...] = _dml.options_of(statement)
    if mapper.single and _dml.is_orm(statement):
        identities = [each.polymorphic_identity for each in mapper.self_and_descendants]
        criteria.append(cast("Any", mapper.polymorphic_on).in_(identities))
    criterion: ColumnElement[bool] = and_(True, *criteria) if criteria else root.key[0].is_not(None)
    if parameters:
        criterion = bound(criterion, parameters)
    tables = set(select(criterion).get_final_froms())
    if not options and len(config.pairs) == 1 and all(table == root.pair.main for table in tables):
        return criterion
    if options or len(config.pairs) > 1:
        keys = select(*(getattr(config.cls, attr) for attr in root.key_attrs)).select_from(config.cls)
    else:
        keys = select(*root.key)
    return key_in(root.key, keys.where(criterion).options(*options))


def current_ones(root: VersionConfig, stamp: Stamp) -> ColumnElement[bool]:
    """Match rows that were copied just now, or need not be."""
    if root.options.granularity == "flush":
        return captured(root)
    return or_(captured(root), bound(made_now(root), bound_values(stamp)))


def _update(state: ORMExecuteState, config: VersionConfig, statement: Update) -> Any:
    session, root = state.session, config.root
    parameters = cast("dict[str, Any]", state.parameters or {})
    criterion = _criterion(config, statement, parameters)
    if cast("Any", statement.table) == root.pair.main:
        stamp, _ = capture(session, config, criterion, hierarchy(config), "update")
        changed = statement.where(current_ones(root, stamp))
        state.statement = _dml.with_values(changed, root.mapper, new_values(root, stamp))
    else:
        # The version is in another table than the one that is updated.
        stamp, keys = capture(session, config, criterion, hierarchy(config), "update")
        connection = session.connection(bind_arguments={"mapper": root.mapper})
        main = root.pair.main
        for chunk in chunks(keys):
            bump = update(main).where(key_in(root.key, chunk)).values(new_values(root, stamp))
            connection.execute(bump)
        if len(keys) <= _LISTED:
            own_key = [getattr(config.cls, attr) for attr in root.key_attrs]
            state.statement = statement.where(key_in([_dml.local(config, each) for each in own_key], keys))
    _dml.keep_synchronizing(state, statement)
    result = state.invoke_statement()
    if _dml.synchronizes(state, statement):
        _refresh(session, config)
    return result


def _delete(state: ORMExecuteState, config: VersionConfig, statement: Delete) -> Any:
    session, root = state.session, config.root
    if cast("Any", statement.table) != root.pair.main:
        raise UnversionedWriteError(
            f"a bulk DELETE of {config.name} would leave its rows in {root.pair.main.fullname!r} behind; delete the objects one by one, "
            f"or delete({root.name}) where the database cascades"
        )
    criterion = _criterion(config, statement, cast("dict[str, Any]", state.parameters or {}))
    stamp, _ = capture(session, config, criterion, hierarchy(config), "delete")
    if root.options.granularity == "transaction" and root.options.operation:
        connection = session.connection(bind_arguments={"mapper": root.mapper})
        mark_deleted(connection, root, key_in(root.history_key, select(*root.key).where(criterion)), stamp)
    if cascades_of(root.pair.main):
        _cascade(state, statement, criterion)
    state.statement = statement.where(current_ones(root, stamp))
    _dml.keep_synchronizing(state, statement)
    return state.invoke_statement()


def _update_by_key(state: ORMExecuteState, config: VersionConfig, parameters: list[dict[str, Any]]) -> Any:
    session, root = state.session, config.root
    attrs = root.key_attrs
    keys = [tuple(row.get(attr) for attr in attrs) for row in parameters]
    complete = list(dict.fromkeys(key for key in keys if None not in key))
    found, missing = capture_keys(session, root, dict.fromkeys(hierarchy(config), complete), "update")
    stamp = stamp_of(session, root)
    own: dict[tuple[Any, ...], Found] = {}
    if missing and root.options.granularity == "transaction":
        connection = session.connection(bind_arguments={"mapper": root.mapper})
        own = current_versions(connection, root, missing, made_now(root), stamp)
    added: list[dict[str, Any]] = []
    for key in keys:
        if key in found:
            version, begun = found[key].version + 1, found[key].moment
        elif key in own:
            version, begun = own[key]
        else:
            raise StaleVersionError(gone(root, key))
        values: dict[str, Any] = {VERSION: version}
        if root.options.period:
            values[VALID_FROM] = begun
        if root.options.revision is not None:
            values[REVISION] = stamp.revision
        added.append(values)
    return state.invoke_statement(params=added)


def _refresh(session: Session, config: VersionConfig) -> None:
    """Load what the statement left expired of the columns that the room maintains, so that reading them needs no SQL.

    One SELECT for a thousand objects, and none where there are no such objects.
    """
    root = config.root
    names = [name for name in (VERSION, VALID_FROM, REVISION) if name in root.own]
    stale: dict[tuple[Any, ...], Any] = {}
    for obj in session.identity_map.values():
        if isinstance(obj, root.cls) and any(name in instance_state(obj).expired_attributes for name in names):
            state = instance_state(obj)
            if state.dict.keys() & root.columns.keys():
                stale[cast("Any", state.key)[1]] = obj
    connection = session.connection(bind_arguments={"mapper": root.mapper}) if stale else None
    for chunk in chunks(stale):
        statement = select(*root.key, *(root.pair.main.c[name] for name in names)).where(key_in(root.key, chunk))
        for row in cast("Any", connection).execute(statement):
            width = len(root.key)
            obj = stale[tuple(row[:width])]
            for name, value in zip(names, row[width:], strict=True):
                set_committed_value(obj, name, value)
                instance_state(obj).expired_attributes.discard(name)


# -- INSERT --------------------------------------------------------------------------------------


def _insert(state: ORMExecuteState, config: VersionConfig, statement: Insert) -> Any:
    if _dml.is_upsert(statement):
        raise UnversionedWriteError(
            f"an INSERT of {config.name} that updates or replaces the rows it meets leaves no history of them; "
            "insert what is new and update() the rest"
        )
    root, session = config.root, state.session
    options = root.options
    if options.period or options.revision is not None:
        # Defaults of the columns take it from there, whatever the statement looks like.
        state.update_execution_options(**{STAMP: stamp_of(session, root)})
    rows = _dml.inserted_rows(statement, state.parameters)
    if rows is None:
        if not _dml.selects_any(statement, [column.key for column in root.key]):
            return None
        result = state.invoke_statement()
        continue_all(session, root)
        return result
    keys = [key for key in (_given_key(root, row) for row in rows) if key is not None]
    if not keys:
        return None
    result = state.invoke_statement()
    continue_keys(session, root, keys)
    return result


def _given_key(root: VersionConfig, row: dict[str, Any]) -> tuple[Any, ...] | None:
    key = tuple(row.get(attr, row.get(column.key)) for attr, column in zip(root.key_attrs, root.key, strict=True))
    return None if None in key else key
