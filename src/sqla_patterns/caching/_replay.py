"""Run a statement in two halves, rows from the database and objects from rows, so that a cache can give the rows.

SQLAlchemy's way to cache ORM results (freeze the objects, merge them later) loses pending changes, brings deleted rows back and
costs more than most queries. Here the *raw rows* of the cursor are kept instead, below the result processors of types. They are
replayed through a real ``CursorResult`` and the ORM's own loading of the statement at hand. The database's rows take the
same way, so a hit cannot behave differently.

There is no public way in. This is the only module of the room that uses private names of SQLAlchemy; `probe()` looks for them once,
and where one is missing the cache is bypassed: statements then run as if they had no cache option. All else is
read through the functions here, which say what they stand for.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from sqlalchemy import LABEL_STYLE_DISAMBIGUATE_ONLY, ClauseElement, Executable, GenerativeSelect, UpdateBase, util
from sqlalchemy.engine import CursorResult, cursor, default
from sqlalchemy.orm import Query, Session, base, context
from sqlalchemy.orm import session as orm_session
from sqlalchemy.sql import compiler, visitors

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Result
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, RelationshipProperty
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = (
    "Description",
    "Prepared",
    "RawRows",
    "await_here",
    "bound_values",
    "fetch",
    "first_statement",
    "identities",
    "identity_token",
    "in_event_loop",
    "is_refresh",
    "last_turn",
    "lazy_parameters",
    "loaded_together",
    "locks_rows",
    "multiplies_rows",
    "new_compiled_cache",
    "prepare",
    "probe",
    "replay",
    "tag_of_statement",
    "with_parameters",
    "writes_rows",
)

#: Name and type code of each column, all that SQLAlchemy reads of ``cursor.description``.
Description: TypeAlias = "tuple[tuple[str, int | str | None], ...]"
_Row: TypeAlias = "Sequence[Any]"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class RawRows:
    """What a cursor gave: rows below the result processors, and the description that chooses the processors."""

    description: Description
    rows: Sequence[_Row]


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that is ready to run, compiled for the database that it would go to."""

    session: Session
    statement: Executable
    parameters: Mapping[str, Any]
    options: Mapping[str, Any]
    bind_arguments: dict[str, Any]
    bind: Engine | Connection
    schema_translate_map: Mapping[str | None, str | None]
    compiled: SQLCompiler
    values: Mapping[str, Any]
    """Of all parameters by the name that they have in the SQL."""
    evaluate: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """Makes `values` from parameters."""
    orm: Any
    """The ORM's compile state class; None for a statement of Core."""

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database that the statement would go to."""
        return self.bind.dialect


class MissingPrivateNameError(AttributeError):
    """This SQLAlchemy lacks what replaying rows needs."""


_NEEDED: Final[tuple[tuple[object, str], ...]] = (
    (orm_session.ORMExecuteState, "_remaining_events"),
    (ClauseElement, "_compile_w_cache"),
    (compiler.SQLCompiler, "_bind_processors"),
    (compiler.SQLCompiler, "construct_params"),
    (CursorResult, "_fetchall_impl"),
    (cursor, "FullyBufferedCursorFetchStrategy"),
    (default.DefaultExecutionContext, "result_column_struct"),
    (default.DefaultExecutionContext, "_is_server_side"),
    (default, "CACHE_HIT"),
    (context.QueryContext, "default_load_options"),
    (Query, "_statement_20"),
)


@cache
def probe() -> str | None:
    """Return what this SQLAlchemy lacks for replaying rows, or None; looked up once."""
    for owner, name in _NEEDED:
        if not hasattr(owner, name):
            return f"{getattr(owner, '__name__', owner)}.{name}"
    return None


# -- the place among the listeners ---------------------------------------------------------------


def last_turn(state: ORMExecuteState) -> Result[Any] | bool:
    """Let the listeners that come after the calling one go first; return what one of them answered, or whether any ran.

    A listener registered after the cache may add criteria (tenants, soft delete) or route to shards. The key must
    see what it did. When True is returned, SQLAlchemy must not call those listeners again: the caller has to answer
    with a result.
    """
    private: Any = state
    todo: list[Callable[[ORMExecuteState], Result[Any] | None]] = private._events_todo
    here: int = private._starting_event_idx
    later = todo[here + 1 :]
    if not later:
        return False
    # A router runs the statement once for each shard through the listeners that remain: the caller must be among them.
    private._events_todo = [*later, todo[here]]
    for index, listener in enumerate(later):
        private._starting_event_idx = index
        result = listener(state)
        if result is not None:
            return result
    private._starting_event_idx = len(later)
    return True


def in_event_loop() -> bool:
    """Whether this runs for an ``AsyncSession``, where nothing may block."""
    return util.concurrency.in_greenlet()


def await_here(awaitable: Awaitable[T]) -> T:
    """Wait for something of asyncio from within a session."""
    return util.await_only(awaitable)


# -- preparing -----------------------------------------------------------------------------------


def prepare(state: ORMExecuteState) -> Prepared:
    """Do all that SQLAlchemy does before it takes a connection: autoflush, bind, compile."""
    private: Any = state
    session: Any = state.session
    orm: Any = private._compile_state_cls
    statement, parameters = state.statement, cast("Any", state.parameters)
    bind_arguments = dict(state.bind_arguments)
    options: Any = state.local_execution_options
    if orm is not None:
        options = _without_inherited_yield_per(options)
        given = (parameters,) if _takes_parameters(orm) else ()
        # 2.0 returns two values, 2.1 three. False: this is not the pass before the events, but the one that flushes.
        found: tuple[Any, ...] = orm.orm_pre_session_exec(session, statement, *given, options, bind_arguments, False)
        statement, options, *rest = found
        if rest:
            parameters = rest[0]
    elif session.autoflush:
        session._autoflush()
    # As invoke_statement() does; get_bind() does not know the word.
    bind_arguments.pop("_sa_skip_events", None)
    bind = state.session.get_bind(**bind_arguments)
    return _compile(state.session, statement, parameters or {}, options, bind_arguments, bind, orm)


def _without_inherited_yield_per(options: Any) -> Any:
    """The execution options as the pass that flushes should see them.

    The pass before the events has added those of the statement that this load follows from. A second one must not take a ``yield_per``
    among them for its own.
    """
    load_options = options.get("_sa_orm_load_options")
    if "yield_per" not in options or load_options is None or load_options._yield_per is not None:
        return options
    return util.immutabledict({name: value for name, value in options.items() if name != "yield_per"})


@cache
def _takes_parameters(orm: Any) -> bool:
    """Whether orm_pre_session_exec() takes the parameters; it has done so since some 2.0."""
    return "params" in inspect.signature(orm.orm_pre_session_exec).parameters


def _compile(
    session: Session,
    statement: Executable,
    parameters: Mapping[str, Any],
    options: Mapping[str, Any],
    bind_arguments: dict[str, Any],
    bind: Engine | Connection,
    orm: Any,
) -> Prepared:
    merged = cast("Any", statement)._execution_options.merge_with(_connection_options(session, bind), options)
    engine: Any = bind.engine
    # Rendering SQL adds a word for None to the user's dictionary.
    given: Mapping[str | None, str | None] = merged.get("schema_translate_map") or {}
    schema_map = {schema: real for schema, real in given.items() if schema != "_none"}
    compiled, evaluate = _compiled(
        statement, bind.dialect, merged.get("compiled_cache", engine._compiled_cache), parameters, schema_map
    )
    values = evaluate(parameters)
    return Prepared(
        session, statement, parameters, options, bind_arguments, bind, schema_map, compiled, values, evaluate, orm
    )


def _connection_options(session: Session, bind: Engine | Connection) -> Any:
    """Execution options of the connection that the session would use, without taking one.

    A session bound to a Connection, or that has one already, runs with the options of that one.
    """
    transaction: Any = session.get_transaction()
    while transaction is not None:
        entry = transaction._connections.get(bind)
        if entry is not None:
            return entry[0].get_execution_options()
        transaction = transaction.parent
    return bind.get_execution_options()


def _compiled(
    statement: Any,
    dialect: Dialect,
    compiled_cache: Any,
    parameters: Mapping[str, Any],
    schema_map: Mapping[str | None, str | None],
) -> tuple[SQLCompiler, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
    found = statement._compile_w_cache(
        dialect=dialect,
        compiled_cache=compiled_cache,
        column_keys=sorted(parameters),
        schema_translate_map=schema_map or None,
    )
    compiled: SQLCompiler = found[0]
    more: dict[str, Any] = {} if len(found) == 3 else {"_collected_params": found[2]}

    def evaluate(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return cast(
            "Mapping[str, Any]",
            compiled.construct_params(
                cast("Any", parameters or None), extracted_parameters=found[1], escape_names=False, **more
            ),
        )

    return compiled, evaluate


def bound_values(compiled: SQLCompiler, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each parameter as the driver gets it, after the bind processors of types.

    Two types that send the same value to the database may share an entry, since rows are kept below result processors; a
    value that only looks the same (a masked secret, a default ``repr``) never does.
    """
    processors: Mapping[str, Any] = cast("Any", compiled)._bind_processors
    for parameter, name in compiled.bind_names.items():
        value = values[name]
        processor = processors.get(name)
        if parameter.expanding:
            yield name, _expanded(value, processor)
        else:
            yield name, value if processor is None else processor(value)


def _expanded(values: Any, processor: Any) -> list[Any]:
    """Process what ``IN`` expands to; tuples have a processor for each place."""
    if processor is None:
        return list(values)
    if isinstance(processor, tuple):
        places: tuple[Any, ...] = cast("Any", processor)
        return [
            tuple(item if each is None else each(item) for each, item in zip(places, value, strict=True))
            for value in values
        ]
    return [processor(value) for value in values]


# -- running -------------------------------------------------------------------------------------


def fetch(prepared: Prepared) -> RawRows:
    """Run the statement and take the raw rows."""
    connection = prepared.session.connection(bind_arguments=prepared.bind_arguments)
    result: Any = connection.execute(
        prepared.statement, cast("Any", prepared.parameters), execution_options=cast("Any", prepared.options)
    )
    if not result.returns_rows:
        result.all()  # raises what the ORM would raise
    description: Description = tuple((column[0], column[1]) for column in result.cursor.description)
    rows = result._fetchall_impl()
    result.close()
    return RawRows(description, rows)


class _NoConnection:
    """Stands for the connection of a result that has no cursor."""

    _echo = False

    def _safe_close_cursor(self, cursor: object) -> None:
        """There is no cursor."""


_NO_CONNECTION: Final = _NoConnection()


def replay(prepared: Prepared, raw: RawRows) -> Result[Any]:
    """Make the result of the statement from raw rows, as SQLAlchemy makes it from a cursor."""
    result = _cursor_result(prepared, raw)
    if prepared.orm is None:
        return cast("Result[Any]", result)
    return cast(
        "Result[Any]",
        prepared.orm.orm_setup_cursor_result(
            prepared.session,
            prepared.statement,
            prepared.parameters,
            prepared.options,
            prepared.bind_arguments,
            result,
        ),
    )


def identities(prepared: Prepared, raw: RawRows, mapper: Mapper[Any]) -> list[tuple[Any, ...]]:
    """The primary key in each row."""
    columns = mapper.primary_key
    result: Any = _cursor_result(prepared, raw)
    return [tuple(row[column] for column in columns) for row in result.mappings()]


def _cursor_result(prepared: Prepared, raw: RawRows) -> CursorResult[Any]:
    compiled: Any = prepared.compiled
    ctx: Any = object.__new__(prepared.dialect.execution_ctx_cls)
    ctx.dialect = prepared.dialect
    ctx.root_connection = _NO_CONNECTION
    ctx.compiled = compiled
    ctx.invoked_statement = prepared.statement
    ctx.cache_hit = default.CACHE_HIT
    ctx.execution_options = prepared.options
    ctx.cursor = None
    ctx.result_column_struct = (
        compiled._result_columns,
        compiled._ordered_columns,
        compiled._textual_ordered_columns,
        compiled._ad_hoc_textual,
        compiled._loose_column_name_matching,
    )
    strategy = cursor.FullyBufferedCursorFetchStrategy(None, initial_buffer=raw.rows)
    return CursorResult(ctx, strategy, cast("Any", raw.description))


# -- reading statements --------------------------------------------------------------------------


def locks_rows(statement: Executable) -> bool:
    """Whether any part of the statement asks for row locks, rendered by this database or not."""
    return any(
        isinstance(element, GenerativeSelect) and cast("Any", element)._for_update_arg is not None
        for element in visitors.iterate(cast("ClauseElement", statement))
    )


def is_refresh(state: ORMExecuteState) -> bool:
    """Whether the user asked for the state of the database: populate_existing, refresh(), expired attributes.

    What a refresh loads beside (``refresh(person, ["addresses"])``) shows only in the context that it was started from.
    """
    if state.is_column_load:
        return True
    options: Any = state.local_execution_options.get("_sa_orm_load_options")
    while options is not None:
        if options._populate_existing or options._refresh_state is not None or options._is_user_refresh:
            return True
        top = options._sa_top_level_orm_context
        options = None if top is None else top.load_options
    return False


def identity_token(prepared: Prepared) -> Any:
    """The shard that objects are marked with."""
    options: Any = prepared.options.get("_sa_orm_load_options")
    return None if options is None else options._identity_token


# -- one name for a statement, whatever database it goes to --------------------------------------


class _NeutralCompiler(compiler.StrSQLCompiler):
    """Renders any statement without complaints; 2.0 warns about DISTINCT ON outside of PostgreSQL."""

    def get_select_precolumns(self, select: Any, **kw: Any) -> str:
        if select._distinct_on:
            columns = ", ".join(self.process(column, **kw) for column in select._distinct_on)
            return f"DISTINCT ON ({columns}) "
        return "DISTINCT " if select._distinct else ""


class _NeutralDialect(default.StrCompileDialect):
    statement_compiler = _NeutralCompiler
    supports_statement_cache = True


_NEUTRAL: Final = _NeutralDialect()


def new_compiled_cache(size: int = 500) -> Any:
    """A bounded cache for compiled statements."""
    return cast("Any", util).LRUCache(size)


def tag_of_statement(
    statement: Any, parameters: Mapping[str, Any], compiled_cache: Any
) -> tuple[SQLCompiler, Mapping[str, Any]]:
    """Compile the statement for no database, without its options and label style.

    A ``Query`` and the ``select()`` of the same rows, with whatever loader options, come out the same.
    """
    if isinstance(statement, Query):
        # As it is run: Query.statement has the columns of a subquery, among them those that are deferred.
        statement = cast("Any", statement)._statement_20()
    if getattr(statement, "_with_options", ()):
        statement = statement._clone()
        statement._with_options = ()
    if isinstance(statement, GenerativeSelect):
        statement = statement.set_label_style(LABEL_STYLE_DISAMBIGUATE_ONLY)
    compiled, evaluate = _compiled(statement, _NEUTRAL, compiled_cache, parameters, {})
    return compiled, evaluate(parameters)


def writes_rows(statement: Executable) -> bool:
    """Whether any part of the statement is an INSERT, UPDATE or DELETE."""
    return any(isinstance(element, UpdateBase) for element in visitors.iterate(cast("ClauseElement", statement)))


# -- lazy loads ----------------------------------------------------------------------------------


def loaded_together(session: Session, lazy: InstanceState[Any], key: str) -> list[InstanceState[Any]]:
    """The objects that came with ``lazy`` and do not have the attribute yet, once for each load and attribute.

    Every load of the ORM has a number, which the objects carry that it loaded. A second call for the same load finds none: what
    the first one did not find is not there.
    """
    asked: set[tuple[int, str]] = session.info.setdefault("_sqla_patterns_cache_asked", set())
    run: int | None = lazy.runid
    if run is None or (run, key) in asked:
        return []
    if len(asked) > 1000:  # old loads
        asked.clear()
    asked.add((run, key))
    found: list[InstanceState[Any]] = []
    for state in session.identity_map.all_states():
        if state is lazy or state.runid != run or state.expired or key in state.dict:
            continue
        if state.load_options != lazy.load_options or state.load_path != lazy.load_path:
            continue
        if key in state.mapper.relationships:
            found.append(state)
    return found


def lazy_parameters(prop: RelationshipProperty[Any], state: InstanceState[Any]) -> Mapping[str, Any] | None:
    """The parameters with which the attribute of an object would be loaded lazily; None where that takes no statement."""
    strategy: Any = cast("Any", prop)._get_strategy((("lazy", "select"),))
    parameters: dict[str, Any]
    if strategy.use_get:
        session = cast("Session", state.session)
        passive = base.PASSIVE_NO_FETCH
        identity = strategy._get_ident_for_use_get(session, state, passive)
        _, by_column = strategy.mapper._get_clause
        parameters = {
            by_column[column].key: value for column, value in zip(strategy.mapper.primary_key, identity, strict=True)
        }
    else:
        parameters = strategy._generate_lazy_clause(state, base.PASSIVE_NO_FETCH)[1]
    missing = any(value is None or isinstance(value, base.LoaderCallableStatus) for value in parameters.values())
    return None if missing else parameters


def first_statement(state: ORMExecuteState) -> tuple[Executable, Mapping[str, Any]]:
    """The statement that the user ran, and its parameters, of which this one may be a part, as a load of ``selectinload()`` is."""
    options: Any = state.local_execution_options.get("_sa_orm_load_options")
    top = None if options is None else options._sa_top_level_orm_context
    if top is None:
        return state.statement, cast("Mapping[str, Any]", state.parameters or {})
    return top.user_passed_query, top.params or {}


def with_parameters(prepared: Prepared, parameters: Mapping[str, Any]) -> Prepared:
    """The same statement with other values for its parameters."""
    merged = {**prepared.parameters, **parameters}
    return dataclasses.replace(prepared, parameters=merged, values=prepared.evaluate(merged))


def multiplies_rows(prepared: Prepared) -> bool:
    """Whether the statement has several rows for one object, because of an eager join."""
    state: Any = prepared.compiled.compile_state
    return state is None or bool(state.multi_row_eager_loaders) or len(state._entities) != 1
