"""Make versions for ORM-enabled ``update()`` and ``delete()``, in a fixed number of statements.

``update()`` first inserts the new versions with a mark, closes the rows that have such a twin, and takes the mark away:

==============  =======================================================================================
form            mark of a new version, which also tells the row that it was made from
==============  =======================================================================================
`VersionedRow`  its number is 2**30 too high
`TemporalRow`   its period ends before it begins: at the time at which the former version began
`CopiedRow`     its ``object_id`` is negative: that of the former row is the number
==============  =======================================================================================

No row has such a value otherwise, and no transaction sees the mark of another one. If another transaction has closed
one of the rows in the meantime, fewer rows are closed than were inserted, and the statement fails. On MariaDB and MySQL
the first statement locks the rows, waits for the other transaction, and goes on with what that one has written.

SQLAlchemy applies criteria of options to the statement that has the options, and not to a SELECT inside of another
statement. So where an option has criteria for the class, a SELECT reads the keys of the rows first. A DELETE reads them
on PostgreSQL too: there, an UPDATE that has waited for another transaction passes over the row that is closed by then,
and does not see the version that has taken its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    CursorResult,
    Delete,
    Insert,
    Integer,
    Update,
    and_,
    false,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.orm import ORMExecuteState, Session

from ..._declarative import keep_onupdate
from ..._maintained import deletes_for_good
from ..._sql import STRUCTURAL, chunks, key_in, structural
from ..._sqlalchemy import (
    autoflush,
    can_move_keys,
    concerns,
    execute_last,
    invoke,
    is_limited,
    is_upsert,
    mark_deleted,
    move_to_key,
    objects_in_session,
    options_of,
    set_values,
    state_of,
    synchronizes,
)
from ..._typing import AnyColumn, AnyExpression, AnyResult, AnySelect, AnyState
from ...exceptions import StateError
from .._errors import StaleVersionError, UnversionedWriteError
from ._changes import is_closed, key_of
from ._config import IS_CURRENT, OBJECT_ID, VALID_FROM, VALID_TO, VERSION_ID, KeyValues, TemporalConfig, config_of
from ._criteria import REACHES_SUBQUERIES, read_current, set_current, write_current
from ._session import row_versions
from ._writer import closing_values

# Not negative numbers: MariaDB would insert them in front of the first row of an object, in a gap for which the
# statements of other transactions wait, and would find a deadlock.
_MARK: Final = 2**30


@dataclass(frozen=True)
class _Target:
    """Rows that a statement is about.

    Attributes:
        criterion: Holds for these rows.
        count: How many they were when their keys were read; None if the keys were not read.
    """

    criterion: ColumnElement[bool]
    count: int | None = None


def on_write(state: ORMExecuteState) -> AnyResult | None:
    """Execute an INSERT, UPDATE or DELETE of a class with temporal rows; None leaves it to SQLAlchemy.

    All other listeners are called before, since they may change the statement.

    Raises:
        UnversionedWriteError: The statement says nothing from which the versions could be made.
    """
    if _config_of(state) is None or state.execution_options.get(STRUCTURAL):
        return None
    return execute_last(state, _write)


def _config_of(state: ORMExecuteState) -> TemporalConfig | None:
    mapper = state.bind_mapper
    return None if mapper is None else config_of(mapper.class_)


def _write(state: ORMExecuteState) -> AnyResult | None:
    config = _config_of(state)
    if config is None:
        return None
    if state.is_insert:
        if is_upsert(cast("Insert", state.statement)):
            raise UnversionedWriteError(
                f"an INSERT of {config.name} that may change rows was not executed, since no versions could be made; "
                "select the objects, and change those that are there"
            )
        return _name_objects(state, config) if config.form == "copied" else None
    # Other classes with temporal rows may occur in the criteria.
    statement = cast("Update | Delete", write_current(state.statement))
    if state.is_delete and (not config.closes or deletes_for_good(state.session)):
        state.statement = statement.where(config.is_current())
        return None
    _refuse(config, state, statement)
    autoflush(state.session)
    connection = state.session.connection(bind_arguments=dict(state.bind_arguments))
    loaded = _loaded_current(state.session, connection, config) if synchronizes(state, statement) else []
    if loaded and isinstance(statement, Update) and not can_move_keys(state.session):
        raise StateError(
            f"update() of {config.name} was not executed: objects of the class are loaded, and this release of "
            "SQLAlchemy undoes changes of primary keys in a way that is not known; write "
            "execution_options(synchronize_session=False), and load the objects again"
        )
    moment = row_versions(state.session).next_moment(state.session) if config.has_time else None
    if isinstance(statement, Delete):
        result = _close_matching(connection, config, statement, state, moment)
        _mark_deleted(state.session, connection, config, loaded)
    else:
        result = _insert_versions(connection, config, statement, state, moment)
        _adopt_versions(state.session, connection, config, loaded)
    return result


def _refuse(config: TemporalConfig, state: ORMExecuteState, statement: Update | Delete) -> None:
    action = "update" if state.is_update else "delete"
    fault = way_out = ""
    if isinstance(state.parameters, Sequence):
        fault, way_out = "a list of primary keys", "change the objects, or write update() with where()"
    elif statement.returning_column_descriptions:
        fault, way_out = "RETURNING", "select the rows afterwards"
    elif is_limited(statement):
        fault, way_out = "LIMIT", "choose the rows by a criterion"
    elif config.form == "copied" and isinstance(statement, Update) and not _counted(config):
        fault = "keys that are not counted by the database, of which each version needs a new one"
        way_out = "load the objects and change them"
    if fault:
        raise UnversionedWriteError(
            f"{action}() of {config.name} with {fault} was not executed, since no versions could be made; {way_out}"
        )
    if isinstance(statement, Update):
        kept = {config.column(each) for each in config.maintained} | set(config.key)
        names = sorted(column.key for column in kept.intersection(_given(config, state, statement)))
        if names:
            raise StateError(
                f"update() of {config.name} sets {', '.join(names)}, which the library keeps for the versions of an "
                "object; leave it out"
            )


def _counted(config: TemporalConfig) -> bool:
    (key,) = config.key
    return isinstance(key.type, Integer) and config.table.autoincrement_column is key


def _given(config: TemporalConfig, state: ORMExecuteState, statement: Update) -> dict[AnyColumn, Any]:
    """Return what an UPDATE sets, by column."""
    given = set_values(statement, config.mapper)
    parameters = state.parameters
    if isinstance(parameters, Mapping):
        for name, value in parameters.items():
            attribute = config.mapper.column_attrs.get(name)
            if attribute is not None:
                given[cast("AnyColumn", attribute.columns[0])] = value
    return given


def _targets(
    connection: Connection, config: TemporalConfig, statement: Update | Delete, state: ORMExecuteState
) -> list[_Target]:
    """Return the rows that a statement is about, in at least one part; one SELECT if their keys have to be known."""
    criterion = config.is_current()
    if statement.whereclause is not None:
        criterion = and_(criterion, statement.whereclause)
    options = [each for each in options_of(statement) if concerns(each, config.mapper)]
    if not options and not (isinstance(statement, Delete) and connection.dialect.name == "postgresql"):
        return [_Target(criterion)]
    attributes = [config.mapper.get_property_by_column(column).class_attribute for column in config.key]
    reading: Any = select(*attributes)
    reading = reading.where(criterion)
    if not REACHES_SUBQUERIES and _subqueries(reading.options(*options)) > _subqueries(reading):
        action = "update" if isinstance(statement, Update) else "delete"
        raise UnversionedWriteError(
            f"{action}() of {config.name} with an option whose criteria read other rows was not executed, since on "
            "SQLAlchemy 2.0 they would see closed rows too; change the objects, or install SQLAlchemy 2.1"
        )
    matching = _locking(connection, read_current(reading.options(*options)))
    keys = [tuple(row) for row in connection.execute(structural(matching), _parameters(state))]
    found = [_Target(and_(config.is_current(), key_in(config.key, chunk)), len(chunk)) for chunk in chunks(keys)]
    return found or [_Target(false(), 0)]


def _subqueries(statement: AnySelect) -> int:
    return str(statement).upper().count("SELECT")


def _locking(connection: Connection, statement: AnySelect) -> AnySelect:
    """Return a SELECT so that it waits for other writers, on the databases where it then reads what they have left."""
    return statement.with_for_update() if connection.dialect.name in {"mysql", "mariadb"} else statement


def _parameters(state: ORMExecuteState) -> dict[str, Any]:
    return dict(state.parameters) if isinstance(state.parameters, Mapping) else {}


# -- update() ------------------------------------------------------------------------------------


def _insert_versions(
    connection: Connection, config: TemporalConfig, statement: Update, state: ORMExecuteState, moment: datetime | None
) -> CursorResult[Any]:
    given = _given(config, state, statement)
    marked = {config.column(each): value for each, value in _marked(config, moment).items()}
    columns: dict[AnyColumn, AnyExpression] = {}
    for column in config.table.c:
        if column.computed is None and not (config.form == "copied" and column in config.key):
            columns[column] = marked[column] if column in marked else _value(column, given)
    rows: Any = select(*(value.label(f"_{number}") for number, value in enumerate(columns.values())))
    rows = _locking(connection, rows.select_from(config.cls))
    parameters = {name: value for name, value in _parameters(state).items() if name not in config.mapper.column_attrs}
    matched = inserted = 0
    for target in _targets(connection, config, statement, state):
        copying = insert(config.table).from_select(list(columns), rows.where(target.criterion))
        copied = connection.execute(structural(copying.execution_options(preserve_rowcount=True)), parameters)
        inserted += copied.rowcount
        matched += copied.rowcount if target.count is None else target.count
    closed = _close_twins(connection, config, moment)
    if not matched == inserted == closed.rowcount:
        raise StaleVersionError(
            f"update() of {config.name} matches {matched} current rows, of which {closed.rowcount} could be closed: "
            "another transaction has changed the others, or by its clock they begin later than this statement; "
            "roll back and try again"
        )
    _unmark(connection, config, moment)
    return closed


def _value(column: AnyColumn, given: Mapping[AnyColumn, Any]) -> AnyExpression:
    if column in given:
        value = given[column]
        if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
            return set_current(cast("AnyExpression", value))
        return null() if value is None else literal(value, column.type)
    onupdate: Any = column.onupdate
    if onupdate is None:
        return column
    if onupdate.is_clause_element:
        return cast("AnyExpression", onupdate.arg)
    return literal(onupdate.arg(None) if onupdate.is_callable else onupdate.arg, column.type)


def _marked(config: TemporalConfig, moment: datetime | None) -> dict[str, AnyExpression]:
    """Return what the new versions get, by attribute, until their former ones are closed."""
    marked: dict[str, AnyExpression] = {}
    if config.has_time:
        time_type = config.column(VALID_FROM).type
        marked[VALID_FROM] = literal(moment, time_type)
        marked[VALID_TO] = config.column(VALID_FROM) if config.form == "temporal" else null()
    if config.form == "versioned":
        marked[VERSION_ID] = config.column(VERSION_ID) + 1 + _MARK
    if config.form == "copied":
        marked[OBJECT_ID] = -config.key[0]
    if config.form != "temporal":
        marked[IS_CURRENT] = literal(False, config.column(IS_CURRENT).type)
    return marked


def _close_twins(connection: Connection, config: TemporalConfig, moment: datetime | None) -> CursorResult[Any]:
    table = config.table
    new = table.alias("new_version")
    if config.form == "versioned":
        number = config.column(VERSION_ID)
        twin = new.c[number.key] == number + 1 + _MARK
    elif config.form == "copied":
        twin = new.c[config.column(OBJECT_ID).key] == -config.key[0]
    else:
        begin, end = config.column(VALID_FROM), config.column(VALID_TO)
        twin = and_(new.c[begin.key] == moment, new.c[end.key] == begin)
    if config.form != "copied":
        twin = and_(twin, *(new.c[column.key] == column for column in config.stable))
    if config.has_time:
        twin = and_(twin, config.column(VALID_FROM) < moment)
    values = keep_onupdate(table) | closing_values(config, moment)
    return connection.execute(structural(update(table).where(config.is_current(), twin).values(values)))


def _unmark(connection: Connection, config: TemporalConfig, moment: datetime | None) -> None:
    values: dict[AnyColumn, Any] = keep_onupdate(config.table)
    if config.form == "temporal":
        begin, end = config.column(VALID_FROM), config.column(VALID_TO)
        marked = and_(begin == moment, end < moment)
        values |= {end: null()}
    elif config.form == "versioned":
        number = config.column(VERSION_ID)
        marked = number > _MARK
        values |= {number: number - _MARK, config.column(IS_CURRENT): True}
    else:
        former, object_id, (key,) = config.table.alias("former"), config.column(OBJECT_ID), config.key
        marked = and_(object_id < 0, former.c[key.key] == -object_id)
        # A former row that came past the ORM is the first of its object.
        first = func.coalesce(former.c[object_id.key], former.c[key.key])
        values |= {object_id: first, config.column(IS_CURRENT): True}
    connection.execute(structural(update(config.table).where(marked).values(values)))


# -- delete() and insert() -----------------------------------------------------------------------


def _close_matching(
    connection: Connection, config: TemporalConfig, statement: Delete, state: ORMExecuteState, moment: datetime | None
) -> AnyResult:
    values = keep_onupdate(config.table) | closing_values(config, moment)
    parts: list[AnyResult] = []
    for target in _targets(connection, config, statement, state):
        closing = update(config.cls).where(target.criterion).values(values)
        closed = connection.execute(structural(closing), _parameters(state))
        if target.count not in {None, closed.rowcount}:
            raise StaleVersionError(
                f"delete() of {config.name} matches {target.count} current rows, of which {closed.rowcount} could be "
                "closed: another transaction has changed the others; roll back and try again"
            )
        parts.append(closed)
    if moment is not None:
        begin, end = config.column(VALID_FROM), config.column(VALID_TO)
        if connection.scalar(structural(select(func.count()).where(end == moment, begin >= moment))):
            raise StaleVersionError(
                f"delete() of {config.name} matches rows that begin later than this statement, by the clock of another "
                "machine; roll back and try again"
            )
    return parts[0].merge(*parts[1:]) if len(parts) > 1 else parts[0]


def _name_objects(state: ORMExecuteState, config: TemporalConfig) -> AnyResult:
    """Execute an INSERT of a `CopiedRow` class, and set the ``object_id`` of the rows."""
    result = invoke(state)
    connection = state.session.connection(bind_arguments=dict(state.bind_arguments))
    object_id = config.column(OBJECT_ID)
    values: dict[AnyColumn, Any] = keep_onupdate(config.table) | {object_id: config.key[0]}
    naming = update(config.table).where(object_id.is_(None), config.is_current()).values(values)
    connection.execute(structural(naming))
    return result


# -- objects in the session ----------------------------------------------------------------------


def _loaded_current(session: Session, connection: Connection, config: TemporalConfig) -> list[AnyState]:
    """Return the objects in the session that are current versions; one SELECT if that is not loaded of some."""
    versions = row_versions(session)
    states = [state_of(obj) for obj in objects_in_session(session, config.cls)]
    attribute = VALID_TO if config.form == "temporal" else IS_CURRENT
    unknown = {key_of(state) for state in states if attribute not in state.dict}
    current = _current_keys(connection, config, unknown)
    return [
        state
        for state in states
        if (key_of(state) in current if key_of(state) in unknown else not is_closed(config, state, versions))
    ]


def _current_keys(connection: Connection, config: TemporalConfig, keys: set[KeyValues]) -> set[KeyValues]:
    found: set[KeyValues] = set()
    for chunk in chunks(keys):
        statement = select(*config.key).where(key_in(config.key, chunk), config.is_current())
        found.update(tuple(row) for row in connection.execute(structural(statement)))
    return found


def _mark_deleted(session: Session, connection: Connection, config: TemporalConfig, loaded: Sequence[AnyState]) -> None:
    left = _current_keys(connection, config, {key_of(state) for state in loaded})
    mark_deleted(session, [state.obj() for state in loaded if key_of(state) not in left])


def _adopt_versions(
    session: Session, connection: Connection, config: TemporalConfig, loaded: Sequence[AnyState]
) -> None:
    """Make objects that were current the versions that have taken their place; one SELECT for a thousand."""
    former = {key_of(state): state for state in loaded}
    replaced = set(former) - _current_keys(connection, config, set(former)) if former else set[KeyValues]()
    if not replaced:
        return
    own = config.table.alias("own")
    other = config.table
    same = and_(
        *(
            func.coalesce(other.c[column.key], config.key[0])
            == func.coalesce(own.c[column.key], own.c[config.key[0].key])
            if config.form == "copied"
            else other.c[column.key] == own.c[column.key]
            for column in config.stable
        )
    )
    own_key = [own.c[column.key] for column in config.key]
    made: list[Any] = []
    for chunk in chunks(replaced):
        statement = select(*own_key, *config.key).join(other, same).where(key_in(own_key, chunk), config.is_current())
        for row in connection.execute(structural(statement)):
            state, key = former[tuple(row[: len(own_key)])], tuple(row[len(own_key) :])
            made.append(move_to_key(session, state, key))
    row_versions(session).note_made(session, made)
