"""Answer questions about a statement: what it does, which statement it belongs to, what its SQL is on any database."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import LABEL_STYLE_DISAMBIGUATE_ONLY, ClauseElement, Executable, GenerativeSelect, UpdateBase, util
from sqlalchemy.engine import default
from sqlalchemy.orm import Query
from sqlalchemy.sql import compiler, visitors

from ._prepare import CompiledCache, Parameters, Prepared, compile_with_cache

if TYPE_CHECKING:
    from sqlalchemy.orm import ORMExecuteState
    from sqlalchemy.sql.compiler import SQLCompiler


def locks_rows(statement: Executable) -> bool:
    """Return whether any part of the statement asks for row locks, rendered by this database or not."""
    return any(
        isinstance(element, GenerativeSelect) and cast("Any", element)._for_update_arg is not None
        for element in visitors.iterate(cast("ClauseElement", statement))
    )


def is_refresh(state: ORMExecuteState) -> bool:
    """Return whether the user asked for the state of the database: populate_existing, refresh(), expired attributes.

    What a refresh loads in addition (``refresh(person, ["addresses"])``) shows only in the context that started it.
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


def identity_token(prepared: Prepared) -> object:
    """Return the shard that objects are marked with."""
    options = prepared.options.get("_sa_orm_load_options")
    return None if options is None else options._identity_token


def first_statement(state: ORMExecuteState) -> tuple[Executable, Parameters]:
    """Return the statement that the user ran, and its parameters.

    The statement at hand may be a part of it, as a load of ``selectinload()`` is.
    """
    options: Any = state.local_execution_options.get("_sa_orm_load_options")
    top = None if options is None else options._sa_top_level_orm_context
    if top is None:
        return state.statement, cast("Parameters", state.parameters or {})
    return top.user_passed_query, top.params or {}


# -- the SQL of a statement, whatever database it goes to ----------------------------------------


class _NeutralCompiler(compiler.StrSQLCompiler):
    """A compiler that renders any statement without warnings; 2.0 warns about DISTINCT ON outside of PostgreSQL."""

    def get_select_precolumns(self, select: Any, **kw: Any) -> str:
        if select._distinct_on:
            columns = ", ".join(self.process(column, **kw) for column in select._distinct_on)
            return f"DISTINCT ON ({columns}) "
        return "DISTINCT " if select._distinct else ""


class _NeutralDialect(default.StrCompileDialect):
    """A dialect of no database."""

    statement_compiler = _NeutralCompiler
    supports_statement_cache = True


_NEUTRAL: Final = _NeutralDialect()


def new_lru_cache(size: int) -> MutableMapping[Any, Any]:
    """Make a dictionary of at most that size, which drops what was not used for longest."""
    made: MutableMapping[Any, Any] = cast("Any", util).LRUCache(size)
    return made


def compile_neutrally(
    statement: Any, parameters: Parameters, compiled_cache: CompiledCache
) -> tuple[SQLCompiler, Parameters]:
    """Compile the statement for no particular database, without its options and label style.

    The result is the same for a ``Query`` and the ``select()`` of the same rows, with whatever loader options.

    Returns:
        The compiled statement, and the values of its parameters.
    """
    if isinstance(statement, Query):
        # As it is run: Query.statement has the columns of a subquery, deferred ones included.
        statement = cast("Any", statement)._statement_20()
    if getattr(statement, "_with_options", ()):
        statement = statement._clone()
        statement._with_options = ()
    if isinstance(statement, GenerativeSelect):
        statement = statement.set_label_style(LABEL_STYLE_DISAMBIGUATE_ONLY)
    compiled, evaluate = compile_with_cache(statement, _NEUTRAL, compiled_cache, parameters, {})
    return compiled, evaluate(parameters)


def writes_rows(statement: Executable) -> bool:
    """Return whether any part of the statement is an INSERT, UPDATE or DELETE."""
    return any(isinstance(element, UpdateBase) for element in visitors.iterate(cast("ClauseElement", statement)))
