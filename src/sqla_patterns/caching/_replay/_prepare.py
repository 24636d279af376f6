"""All that happens to a statement before it takes a connection."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sqlalchemy import Executable, util
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Result
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import ORMExecuteState
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = (
    "Description",
    "Prepared",
    "RawRows",
    "bound_values",
    "compiled_in",
    "last_turn",
    "prepare",
    "with_parameters",
)

#: Name and type code of each column, all that SQLAlchemy reads of ``cursor.description``.
Description: TypeAlias = "tuple[tuple[str, int | str | None], ...]"
_Row: TypeAlias = "Sequence[Any]"


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
    compiled, evaluate = compiled_in(
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


def compiled_in(
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


def with_parameters(prepared: Prepared, parameters: Mapping[str, Any]) -> Prepared:
    """The same statement with other values for its parameters."""
    merged = {**prepared.parameters, **parameters}
    return dataclasses.replace(prepared, parameters=merged, values=prepared.evaluate(merged))
