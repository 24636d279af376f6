"""Look at the expressions of a statement: what they are made of, and whether they need all rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import ColumnElement
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators

from .._sqlalchemy import is_orm, parts_of, without_loading
from ._kinds import BOOLEAN, FUNCTION, GROUPING, LABEL, OVER, SELECT, SELECT_BASE, UNARY

#: Functions that make one value of many rows, by name.
AGGREGATES: Final = frozenset({"count", "sum", "min", "max", "avg"})
#: Functions that make a value of a row.
SCALARS: Final = frozenset(
    [
        "abs",
        "ceil",
        "ceiling",
        "char_length",
        "character_length",
        "coalesce",
        "concat",
        "concat_ws",
        "current_date",
        "current_time",
        "current_timestamp",
        "date",
        "date_part",
        "date_trunc",
        "datetime",
        "exp",
        "floor",
        "greatest",
        "ifnull",
        "instr",
        "json_extract",
        "julianday",
        "least",
        "left",
        "length",
        "ln",
        "localtime",
        "localtimestamp",
        "log",
        "lower",
        "lpad",
        "ltrim",
        "md5",
        "mod",
        "now",
        "nullif",
        "octet_length",
        "pow",
        "power",
        "printf",
        "replace",
        "right",
        "round",
        "rpad",
        "rtrim",
        "sign",
        "sqrt",
        "strftime",
        "substr",
        "substring",
        "time",
        "to_char",
        "trim",
        "trunc",
        "upper",
        "weight_string",
    ]
)


def core_of(statement: Any, dialect: Dialect) -> Any:
    """Return a SELECT as SQLAlchemy makes it of tables, without what is loaded eagerly."""
    if not isinstance(statement, SELECT) or not is_orm(statement):
        return statement
    compiled: Any = without_loading(statement).compile(dialect=dialect)
    return compiled.compile_state.statement


def core_column(select: Any, dialect: Dialect) -> Any:
    """Return the only column of a SELECT, as SQLAlchemy makes it of tables."""
    core = core_of(select, dialect)
    columns = list(core.selected_columns) if isinstance(core, SELECT) else []
    column: Any = columns[0] if len(columns) == 1 else None
    while isinstance(column, LABEL):
        column = column.element
    return column


def conjuncts(condition: Any) -> Iterator[ColumnElement[Any]]:
    """Yield the parts of a condition that are joined by AND."""
    if condition is None:
        return
    if isinstance(condition, GROUPING):
        yield from conjuncts(condition.element)
    elif isinstance(condition, BOOLEAN) and condition.operator is operators.and_:
        for each in condition.clauses:
            yield from conjuncts(each)
    else:
        yield condition


def is_plain(select: Any, *, distinct: bool = False) -> bool:
    """Return whether a SELECT gives the same rows for a set of rows as for its parts, one after the other."""
    parts = parts_of(select)
    return not (
        any(each is not None for each in (parts.limit, parts.offset, parts.fetch))
        or (parts.is_distinct and not distinct)
        or parts.distinct_on
        or parts.group_by
        or parts.having
        or any(is_aggregate(each) for column in parts.columns for each in visible(column))
    )


def is_aggregate(element: Any) -> bool:
    """Return whether an element may need more than one row: a function that is not known, also in a text."""
    if isinstance(element, UNARY):
        return element.operator is operators.distinct_op
    if element.__visit_name__ == "textclause" or getattr(element, "is_literal", False):
        return "(" in str(element)
    return isinstance(element, OVER) or (
        isinstance(element, FUNCTION) and str(getattr(element, "name", "")).lower() not in SCALARS
    )


def visible(part: Any) -> Iterator[Any]:
    """Yield the elements of an expression; of a subquery only the subquery."""
    waiting: list[Any] = [part]
    while waiting:
        each = waiting.pop()
        yield each
        if not isinstance(each, SELECT_BASE):
            waiting += each.get_children()


def bare(expression: Any) -> Any:
    """Return an expression without the parentheses around it."""
    while isinstance(expression, GROUPING):
        expression = expression.element
    return expression
