"""ORDER BY, when the rows of several shards are put together by Python.

What is compared are the values that the database sorts by, beneath types that turn them into something else. NULL is
where the kind of database has it. Strings are compared only where the database compares them by code points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ClauseElement, ColumnElement, Enum, String, type_coerce
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator, TypeEngine

from .._typing import AnyExpression
from ._errors import UnmergeableScatterError
from ._kinds import BINARY, LABEL, UNARY

_COMPARABLE = (int, float, Decimal, str, bytes, date, datetime, time, timedelta, UUID)


@dataclass(frozen=True)
class Sorting:
    """One part of an ORDER BY.

    Attributes:
        expression: What it sorts by.
        is_descending: Whether DESC was said.
        nulls_first: Whether NULLs come first.
        collation: The collation that was named for it.
        labels: The labels of a native enumeration, which PostgreSQL and MySQL sort by their places; else empty.
    """

    expression: AnyExpression
    is_descending: bool
    nulls_first: bool
    collation: str | None
    labels: tuple[str, ...]


def sorting_of(clause: ClauseElement, columns: Sequence[AnyExpression], dialect: str) -> Sorting:
    """Return what one part of an ORDER BY says.

    Args:
        clause: The part.
        columns: What the statement selects, for names in it.
        dialect: The kind of database.

    Raises:
        UnmergeableScatterError: It sorts by a text.
    """
    descending, nulls_first = False, None
    inner: Any = clause
    while isinstance(inner, UNARY) and inner.modifier is not None:
        descending |= inner.modifier is operators.desc_op
        if inner.modifier in (operators.nulls_first_op, operators.nulls_last_op):
            nulls_first = inner.modifier is operators.nulls_first_op
        inner = resolve_label(inner.element, columns, "ORDER BY")
    inner = resolve_label(inner, columns, "ORDER BY")
    if nulls_first is None:
        # PostgreSQL and Oracle take NULL for the largest value, the others for the smallest.
        nulls_first = descending is (dialect in ("postgresql", "oracle"))
    expression = cast("AnyExpression", inner)
    collation = None
    if isinstance(inner, BINARY) and inner.operator is operators.collate:
        collation = str(getattr(inner.right, "collation", inner.right))
    type_: Any = expression.type
    native = isinstance(type_, Enum) and type_.native_enum and dialect in ("postgresql", "mysql", "mariadb")
    labels = tuple(map(str, type_.enums)) if native else ()
    return Sorting(expression, descending, nulls_first, collation or getattr(type_, "collation", None), labels)


def resolve_label(element: Any, columns: Sequence[AnyExpression], clause: str) -> Any:
    """Return the expression that an ORDER BY or GROUP BY means by an element, which may be the name of a column."""
    if element.__visit_name__ == "label_reference":
        return resolve_label(element.element, columns, clause)
    if element.__visit_name__ == "textual_label_reference":
        named = [
            each for each in columns if element.element in (getattr(each, "key", None), getattr(each, "name", None))
        ]
        if len(named) != 1:
            raise UnmergeableScatterError(
                f"{clause} {element.element!r} names no column of the statement; use the column"
            )
        return named[0].element if isinstance(named[0], LABEL) else named[0]
    column: Any = ColumnElement
    if not isinstance(element, column):
        raise UnmergeableScatterError(
            f"{clause} {str(element)!r} is a text, of which nobody knows the type; use columns"
        )
    return element.element if isinstance(element, LABEL) else element


def raw(expression: AnyExpression) -> AnyExpression:
    """Return an expression with the values that the database has, rather than those that its type makes of them."""
    type_: TypeEngine[Any] = expression.type
    while isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    if isinstance(type_, Enum):
        type_ = String()
    return expression if type_ is expression.type else type_coerce(expression, type_)


class Rank:
    """A value in its place of the order."""

    __slots__ = ("sorting", "value")

    def __init__(self, value: Any, sorting: Sorting) -> None:
        if value is not None:
            comparable: Any = _COMPARABLE
            if not isinstance(value, comparable):
                raise UnmergeableScatterError(
                    f"ORDER BY {sorting.expression}: values of the type {type(value).__name__} have an order that only "
                    "the database knows; sort by another column, hold the statement to one shard, or use merge='concat'"
                )
            if sorting.labels:
                value = sorting.labels.index(value)
        self.value: Any = value
        self.sorting = sorting

    def __lt__(self, other: Rank) -> bool:
        one, two = self.value, other.value
        if one is None or two is None:
            return (one is None) is not (two is None) and (one is None) is self.sorting.nulls_first
        if self.sorting.is_descending:
            one, two = two, one
        if one != one or two != two:
            return bool(one == one)  # NaN is the largest number
        return bool(one < two)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rank):
            return NotImplemented
        one, two = self.value, other.value
        return bool(one == two or (one is not None and two is not None and one != one and two != two))

    __hash__ = None  # type: ignore[assignment]


def ranks(values: Sequence[Any], sortings: Sequence[Sorting]) -> tuple[Rank, ...]:
    """Return what to sort a row by."""
    return tuple(map(Rank, values, sortings))


def has_strings(expression: AnyExpression, sorting_labels: Sequence[str] = ()) -> bool:
    """Return whether an expression may have strings, whose order depends on the collation."""
    type_: Any = raw(expression).type
    if sorting_labels:
        return False
    try:
        return issubclass(type_.python_type, str)
    except NotImplementedError:
        return True
