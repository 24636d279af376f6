"""Run a statement and return its raw rows, and make a result of SQLAlchemy from raw rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy.engine import CursorResult, cursor, default

from ._prepare import Description, Prepared, RawRows

if TYPE_CHECKING:
    from ..._typing import AnyMapper, AnyResult


def fetch(prepared: Prepared) -> RawRows:
    """Run the statement and return its raw rows."""
    result: Any = prepared.connection().execute(
        prepared.statement, prepared.parameters, execution_options=prepared.options
    )
    if not result.returns_rows:
        result.all()  # raises what the ORM would raise
    description: Description = tuple((column[0], column[1]) for column in result.cursor.description)
    rows = result._fetchall_impl()
    result.close()
    return RawRows(description, rows)


class _NoConnection:
    """A placeholder for the connection of a result that has no cursor."""

    _echo = False

    def _safe_close_cursor(self, cursor: object) -> None:
        """Do nothing: there is no cursor."""


_NO_CONNECTION: Final = _NoConnection()


def replay(prepared: Prepared, raw: RawRows) -> AnyResult:
    """Make the result of the statement from raw rows, as SQLAlchemy makes it from a cursor."""
    result: AnyResult = _cursor_result(prepared, raw)
    if prepared.orm is not None:
        result = prepared.orm.orm_setup_cursor_result(
            prepared.session,
            prepared.statement,
            prepared.parameters,
            prepared.options,
            dict(prepared.bind_arguments),
            result,
        )
    return result


def primary_keys(prepared: Prepared, raw: RawRows, mapper: AnyMapper) -> list[tuple[object, ...]]:
    """Return the primary key in each row."""
    columns = mapper.primary_key
    return [tuple(row[column] for column in columns) for row in _cursor_result(prepared, raw).mappings()]


def _cursor_result(prepared: Prepared, raw: RawRows) -> CursorResult[Any]:
    """Make a result whose cursor has been read already."""
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
