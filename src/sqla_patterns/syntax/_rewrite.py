"""`rewritten`: put a qualified SELECT into a subquery, and filter that by its conditions.

``SELECT x FROM t QUALIFY rank() OVER w = 1 ORDER BY y LIMIT 5`` becomes ::

    SELECT s.x FROM (
        SELECT x, y AS _order_0, CASE WHEN rank() OVER w = 1 THEN 1 ELSE 0 END AS _qualified_0 FROM t
    ) AS s WHERE s._qualified_0 = 1 ORDER BY s._order_0 LIMIT 5

A condition is a CASE, because not every database has booleans among its columns. A second condition sees the rows that
the first one has left: it is computed from a subquery of the subquery, whose columns are the parts of the condition
that contain no window function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Integer, Label, Over, Subquery, case, literal_column, select
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import (
    BindParameter,
    BooleanClauseList,
    ClauseList,
    ColumnClause,
    Grouping,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement

from .. import _sqlalchemy
from .._sqlalchemy import OrderTerm
from .._typing import AnyExpression, AnySelect


@dataclass(frozen=True)
class _Condition:
    """A condition over the rows of a subquery.

    Attributes:
        expression: The condition, with labels in the place of what the subquery computes.
        columns: These labels.
    """

    expression: ColumnElement[Any]
    columns: Sequence[Label[Any]]


def rewritten(statement: AnySelect, conditions: Sequence[ColumnElement[Any]]) -> AnySelect:
    """Return a SELECT from a subquery with the rows of `statement` that meet the conditions, each one after the other.

    Args:
        statement: The SELECT, without its mark.
        conditions: At least one.
    """
    inner = _sqlalchemy.without_final_clauses(statement)
    terms = _sqlalchemy.order_of(statement)
    selected = inner.subquery()
    # What is selected anyway is not computed twice, and DISTINCT demands that it is ordered by.
    order_columns = {
        number: term.expression.label(f"_order_{number}")
        for number, term in enumerate(terms)
        if term.expression is not None and _sqlalchemy.column_in(selected, term.expression) is None
    }
    first, *others = conditions
    later = [_split(condition, f"_part_{number}_") for number, condition in enumerate(others, 1)]
    parts = [column for condition in later for column in condition.columns]
    source = inner.add_columns(_flag(first, 0), *order_columns.values(), *parts).subquery()
    for number, condition in enumerate(later, 1):
        source = _qualified_again(source, condition, number)
    return _sqlalchemy.selected_from(
        statement,
        source,
        _sqlalchemy.columns_over(statement, source),
        _is_set(source, len(later)),
        [_ordered(source, term, order_columns.get(number)) for number, term in enumerate(terms)],
    )


def _flag(condition: ColumnElement[Any], number: int) -> Label[Any]:
    one: AnyExpression = literal_column("1", Integer())
    zero: AnyExpression = literal_column("0", Integer())
    return case((condition, one), else_=zero).label(f"_qualified_{number}")


def _is_set(source: Subquery, number: int) -> ColumnElement[bool]:
    # A parameter: `sqla_patterns.criteria` trusts no text beside its conditions.
    return source.c[f"_qualified_{number}"] == 1


def _ordered(source: Subquery, term: OrderTerm, column: Label[Any] | None) -> Any:
    if term.expression is None:
        return term.name
    if column is not None:
        return term.over(source.c[column.name])
    # It is there: only without it there would be a column of its own.
    return term.over(cast("ColumnElement[Any]", _sqlalchemy.column_in(source, term.expression)))


def _qualified_again(source: Subquery, condition: _Condition, number: int) -> Subquery:
    """Return the rows of `source` that meet its condition, with another one over them."""
    names = {id(each): each.name for each in condition.columns}

    def column_for(element: Any, **_: Any) -> Any:
        return source.c[names[id(element)]] if id(element) in names else None

    expression: Any = visitors.replacement_traverse(condition.expression, {}, column_for)
    kept = [column for column in source.c if column.key != f"_qualified_{number - 1}"]
    return select(*kept, _flag(expression, number)).where(_is_set(source, number - 1)).subquery()


def _split(condition: ColumnElement[Any], prefix: str) -> _Condition:
    """Take a condition apart into its window functions and what they are computed from."""
    windowed = {id(part) for each in _elements(condition) if isinstance(each, Over) for part in _function_of(each)}
    found: list[Label[Any]] = []

    def label_for(element: Any, **_: Any) -> Any:
        if id(element) in windowed or not _is_part(element):
            return None
        label: Label[Any] = element.label(f"{prefix}{len(found)}")
        found.append(label)
        return label

    return _Condition(visitors.replacement_traverse(condition, {}, label_for), found)


def _elements(element: Any) -> list[Any]:
    return list(visitors.iterate(element))


def _function_of(over: Any) -> list[object]:
    """Return the function of an OVER, with what stands between: FILTER and WITHIN GROUP."""
    found: list[object] = []
    function: object = over.element
    while function is not None:
        found.append(function)
        function = getattr(function, "func", None)
    return found


def _is_part(element: Any) -> bool:
    """Return whether an expression can be computed by the subquery: it depends on rows, and has no window function."""
    if not isinstance(element, ColumnElement) or isinstance(element, (ClauseList, BindParameter, BooleanClauseList)):
        return False
    if isinstance(element, UnaryExpression) and element.modifier is not None:
        return False  # DESC and the like
    if getattr(cast("object", element), "name", None) == "*":
        return False  # of count(*)
    if isinstance(element, Grouping) and isinstance(cast("Any", element).element, ClauseList):
        return False  # the arguments of a function
    inside = _elements(element)
    return any(isinstance(each, (ColumnClause, FunctionElement)) for each in inside) and not any(
        isinstance(each, Over) for each in inside
    )
