"""What a statement is: what it does, what it is part of, and what it is called on every database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import LABEL_STYLE_DISAMBIGUATE_ONLY, ClauseElement, Executable, GenerativeSelect, UpdateBase, util
from sqlalchemy.engine import default
from sqlalchemy.orm import Query
from sqlalchemy.sql import compiler, visitors

from ._prepare import Prepared, compiled_in

if TYPE_CHECKING:
    from sqlalchemy.orm import ORMExecuteState
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = (
    "first_statement",
    "identity_token",
    "is_refresh",
    "locks_rows",
    "new_compiled_cache",
    "tag_of_statement",
    "writes_rows",
)


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


def first_statement(state: ORMExecuteState) -> tuple[Executable, Mapping[str, Any]]:
    """The statement that the user ran, and its parameters, of which this one may be a part, as a load of ``selectinload()`` is."""
    options: Any = state.local_execution_options.get("_sa_orm_load_options")
    top = None if options is None else options._sa_top_level_orm_context
    if top is None:
        return state.statement, cast("Mapping[str, Any]", state.parameters or {})
    return top.user_passed_query, top.params or {}


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
    compiled, evaluate = compiled_in(statement, _NEUTRAL, compiled_cache, parameters, {})
    return compiled, evaluate(parameters)


def writes_rows(statement: Executable) -> bool:
    """Whether any part of the statement is an INSERT, UPDATE or DELETE."""
    return any(isinstance(element, UpdateBase) for element in visitors.iterate(cast("ClauseElement", statement)))
