"""Do what SQLAlchemy does with a statement before it takes a connection: flush, choose the engine, compile."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from sqlalchemy import Executable, util
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import ORMExecuteState
    from sqlalchemy.sql.compiler import SQLCompiler

    from ..._typing import AnyResult, AnyType

#: Values by the name of their parameter.
Parameters: TypeAlias = Mapping[str, object]
#: Execution options and bind arguments, by name.
Options: TypeAlias = Mapping[str, Any]
#: A schema by the name that it stands for.
SchemaMap: TypeAlias = "Mapping[str | None, str | None]"
#: A cache of compiled statements, as SQLAlchemy takes it.
CompiledCache: TypeAlias = "MutableMapping[Any, Any]"
#: Name and type code of each column, all that SQLAlchemy reads of ``cursor.description``.
Description: TypeAlias = "tuple[tuple[str, int | str | None], ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class RawRows:
    """What a cursor returned: rows before the result processors, and the description that chooses the processors."""

    description: Description
    rows: Sequence[Sequence[object]]


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that is ready to run, compiled for the database that it would go to.

    Attributes:
        session: The session that runs it.
        statement: The statement.
        parameters: The parameters that the user gave.
        options: The execution options.
        bind_arguments: The arguments of ``get_bind()``. They are read-only: SQLAlchemy's methods take out of a
            dictionary what they are given in it, so that each call gets a copy.
        bind: Where it goes. It is asked for once, as a session may choose another one each time that it is asked.
        schema_translate_map: The schemas that are replaced.
        compiled: The compiled statement.
        values: The values of all parameters, by the name that they have in the SQL.
        evaluate: Makes `values` from parameters.
        orm: The ORM's compile state class; None for a statement of Core.
    """

    session: Session
    statement: Executable
    parameters: Parameters
    options: Options
    bind_arguments: Options
    bind: Engine | Connection
    schema_translate_map: SchemaMap
    compiled: SQLCompiler
    values: Parameters
    evaluate: Callable[[Parameters], Parameters]
    orm: Any

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database that the statement would go to."""
        return self.bind.dialect

    def connection(self) -> Connection:
        """Return the session's connection to the database that the statement goes to."""
        return self.session.connection(bind_arguments={"bind": self.bind})


# -- the order of the listeners ------------------------------------------------------------------


Listener: TypeAlias = "Callable[[ORMExecuteState], AnyResult | None]"


class ListenerOutcome(NamedTuple):
    """What `run_later_listeners()` has done.

    Attributes:
        result: What one of the listeners answered.
        must_answer: Whether the caller has to answer with a result: SQLAlchemy must not call the listeners again.
    """

    result: AnyResult | None
    must_answer: bool


def later_listeners(state: ORMExecuteState) -> Sequence[Listener]:
    """Return the listeners that SQLAlchemy would call after the calling one."""
    private: Any = state
    listeners: Sequence[Listener] = private._events_todo[private._starting_event_idx + 1 :]
    return listeners


def run_later_listeners(state: ORMExecuteState, caches: Sequence[Listener]) -> ListenerOutcome:
    """Call the listeners that come after the calling one before it continues, until one of them answers.

    A listener registered after the cache may add criteria (tenants, soft delete) or route to shards. The cache key must
    include what it did.

    Args:
        state: The statement.
        caches: Those of the later listeners that are caches, too. They are not called: the caller acts for them.
    """
    private: Any = state
    todo: list[Listener] = private._events_todo
    here: int = private._starting_event_idx
    later = [listener for listener in todo[here + 1 :] if listener not in caches]
    if not later and not caches:
        return ListenerOutcome(None, must_answer=False)
    # A router runs the statement once for each shard through the listeners that remain: the caller must be among them.
    private._events_todo = [*later, todo[here], *caches]
    for index, listener in enumerate(later):
        private._starting_event_idx = index
        result = listener(state)
        if result is not None:
            return ListenerOutcome(result, must_answer=True)
    private._starting_event_idx = len(private._events_todo)
    return ListenerOutcome(None, must_answer=True)


# -- preparing -----------------------------------------------------------------------------------


def prepare(state: ORMExecuteState) -> Prepared:
    """Do all that SQLAlchemy does before it takes a connection: autoflush, bind, compile."""
    private: Any = state
    session: Any = state.session
    orm: Any = private._compile_state_cls
    statement: Executable = state.statement
    parameters: Any = state.parameters
    bind_arguments = dict(state.bind_arguments)
    options: Any = state.local_execution_options
    if orm is not None:
        options = _without_inherited_yield_per(options)
        given = (parameters,) if _takes_parameters(orm) else ()
        # 2.0 returns two values, 2.1 three. False: this is not the pass before the events, but the one that flushes.
        statement, options, *rest = orm.orm_pre_session_exec(session, statement, *given, options, bind_arguments, False)
        if rest:
            parameters = rest[0]
    elif session.autoflush:
        session._autoflush()
    # As invoke_statement() does; get_bind() does not know this argument.
    bind_arguments.pop("_sa_skip_events", None)
    bind = state.session.get_bind(**bind_arguments)
    return _compile(state.session, statement, parameters or {}, options, bind_arguments, bind, orm)


def _without_inherited_yield_per(options: Options) -> Options:
    """Return the execution options as the pass that flushes should see them.

    The pass before the events has added those of the statement that this load follows from. A second one must not take
    a ``yield_per`` among them for one of this statement.
    """
    load_options = options.get("_sa_orm_load_options")
    if "yield_per" not in options or load_options is None or load_options._yield_per is not None:
        return options
    return util.immutabledict({name: value for name, value in options.items() if name != "yield_per"})


@cache
def _takes_parameters(orm: Any) -> bool:
    """Return whether orm_pre_session_exec() takes the parameters; it has done so since some 2.0."""
    return "params" in inspect.signature(orm.orm_pre_session_exec).parameters


def _compile(
    session: Session,
    statement: Executable,
    parameters: Parameters,
    options: Options,
    bind_arguments: Options,
    bind: Engine | Connection,
    orm: Any,
) -> Prepared:
    merged = cast("Any", statement)._execution_options.merge_with(_connection_options(session, bind), options)
    engine: Any = bind.engine
    # Rendering SQL adds a word for None to the user's dictionary.
    given: SchemaMap = merged.get("schema_translate_map") or {}
    schema_map = {schema: real for schema, real in given.items() if schema != "_none"}
    compiled, evaluate = compile_with_cache(
        statement, bind.dialect, merged.get("compiled_cache", engine._compiled_cache), parameters, schema_map
    )
    values = evaluate(parameters)
    return Prepared(
        session,
        statement,
        parameters,
        options,
        MappingProxyType(dict(bind_arguments)),
        bind,
        schema_map,
        compiled,
        values,
        evaluate,
        orm,
    )


def _connection_options(session: Session, bind: Engine | Connection) -> Options:
    """Return the execution options of the connection that the session would use, without taking one.

    A session bound to a Connection, or that has one already, runs with the options of that one.
    """
    transaction: Any = session.get_transaction()
    while transaction is not None:
        entry = transaction._connections.get(bind)
        if entry is not None:
            options: Options = entry[0].get_execution_options()
            return options
        transaction = transaction.parent
    return bind.get_execution_options()


def compile_with_cache(
    statement: Any,
    dialect: Dialect,
    compiled_cache: CompiledCache | None,
    parameters: Parameters,
    schema_map: SchemaMap,
) -> tuple[SQLCompiler, Callable[[Parameters], Parameters]]:
    """Compile a statement as executing it does, or take it from a cache of compiled statements.

    Returns:
        The compiled statement, and a function that returns the values of all its parameters.
    """
    found = statement._compile_w_cache(
        dialect=dialect,
        compiled_cache=compiled_cache,
        column_keys=sorted(parameters),
        schema_translate_map=schema_map or None,
    )
    compiled: Any = found[0]
    more = {} if len(found) == 3 else {"_collected_params": found[2]}

    def evaluate(parameters: Parameters) -> Parameters:
        values: Parameters = compiled.construct_params(
            parameters or None, extracted_parameters=found[1], escape_names=False, **more
        )
        return values

    return compiled, evaluate


#: Converts a value for the driver.
Processor: TypeAlias = "Callable[[object], object]"


class BoundValue(NamedTuple):
    """One parameter of a statement.

    Attributes:
        name: Its name in the SQL.
        given: The value that the user gave; a list where it expands.
        sent: The value that the driver gets.
        type_: Its type.
    """

    name: str
    given: object
    sent: object
    type_: AnyType


def bound_types(compiled: SQLCompiler) -> Iterator[tuple[str, AnyType]]:
    """Yield name and type of each parameter."""
    for parameter, name in compiled.bind_names.items():
        yield name, parameter.type


def given_values(compiled: SQLCompiler, values: Parameters) -> Iterator[tuple[str, object]]:
    """Yield name and value of each parameter as the user gave it; nothing of the types is called."""
    for name in compiled.bind_names.values():
        yield name, values[name]


def bound_values(compiled: SQLCompiler, values: Parameters) -> Iterator[BoundValue]:
    """Yield each parameter as the driver gets it, after the bind processors of types.

    Two types that send the same value to the database may share an entry, since rows are kept below result processors;
    a value that only looks the same (a masked secret, a default ``repr``) never does.
    """
    processors: Mapping[str, Processor] = cast("Any", compiled)._bind_processors
    for parameter, name in compiled.bind_names.items():
        value = values[name]
        processor = processors.get(name)
        sent: object
        if parameter.expanding:
            sent = _expanded(value, processor)
        else:
            sent = value if processor is None else processor(value)
        yield BoundValue(name, value, sent, parameter.type)


def form_of_type(type_: AnyType) -> object:
    """Return what the bind processor of a type depends on, beside the dialect; None if the type does not say.

    It is what SQLAlchemy tells compiled statements apart by.
    """
    key: object = cast("Any", type_)._static_cache_key
    return _with_names(cast("object", key)) if isinstance(key, tuple) else None


def _with_names(part: object) -> object:
    """Replace classes, which are different objects in every process, by their names."""
    if isinstance(part, type):
        return f"{part.__module__}.{part.__qualname__}"
    if isinstance(part, (tuple, list)):
        return [_with_names(each) for each in cast("Sequence[object]", part)]
    return part


def _expanded(values: Any, processor: object) -> Sequence[object]:
    """Process what ``IN`` expands to, with one processor, a tuple of them for the places of tuples, or None."""
    if processor is None:
        return list(values)
    if isinstance(processor, tuple):
        places = cast("tuple[Processor | None, ...]", processor)
        return [
            tuple(item if each is None else each(item) for each, item in zip(places, value, strict=True))
            for value in values
        ]
    process = cast("Processor", processor)
    return [process(value) for value in values]


def in_session(prepared: Prepared, session: Session | None) -> Prepared:
    """Return the same statement in another session; without one, it is kept for later and keeps no session alive."""
    return dataclasses.replace(prepared, session=cast("Session", session))


def with_parameters(prepared: Prepared, parameters: Parameters) -> Prepared:
    """Return the same statement with other values for its parameters."""
    merged = {**prepared.parameters, **parameters}
    return dataclasses.replace(prepared, parameters=merged, values=prepared.evaluate(merged))
