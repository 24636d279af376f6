"""What a `VerticalAttributes` is on the class: conditions on the values, and the values in SQL."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

from sqlalchemy import ColumnElement, and_, false, inspect, literal, or_, select

from .._typing import AnyAttribute, AnyExpression, AnyMapper
from ..exceptions import InvalidArgumentError
from ._errors import UnsupportedValueError
from ._inspection import MappedEntity, attribute_of, is_a, is_expression
from ._shape import Shape
from ._value_column import ValueColumn

T = TypeVar("T")
V = TypeVar("V")


class VerticalCriteria(Generic[V]):
    """What a `VerticalAttributes` is on the class: ``Animal.attrs["cuteness"]`` is a `KeyCriteria`."""

    def __init__(self, entity: MappedEntity, shape_of: Callable[[MappedEntity], Shape]) -> None:
        self._entity: Final = entity
        self._shape_of: Final = shape_of

    def __getitem__(self, key: str) -> KeyCriteria[V]:
        """Return the conditions and the value of one key.

        Raises:
            UnknownKeyError: The key is not in the schema, or no text that can be a key.
        """
        shape = self.shape
        return KeyCriteria[V](self._entity, shape, shape.checked_key(key))

    # Without these Python would try the keys 0, 1, 2...
    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} makes SQL and has no keys to iterate over; use the attribute of an instance")

    def __contains__(self, key: object) -> NoReturn:
        raise TypeError(f"{self!r} makes SQL and has no keys; for a condition write [{key!r}].exists()")

    def any_value(self, value: V) -> ColumnElement[bool]:
        """Match objects that have this value under any key.

        One EXISTS, served by the index over the value alone, unless `VerticalValueOptions` leaves that out.

        Raises:
            UnsupportedValueError: There is no column for values of this type, or its values cannot be compared.
        """
        shape = self.shape
        if is_expression(value):
            raise UnsupportedValueError(
                f"{shape.label}.any_value() takes a value, and was given the SQL expression {value!s}; "
                f"compare {shape.label}[key].value(type) with that"
            )
        label, value_type = f"The operand of {shape.label}.any_value()", value.__class__
        column = shape.table.checked_column(label, value_type)
        shape.table.check_value(label, column, value, stored=False)
        _check_operand(f"{shape.label}.any_value()", column, value)
        return attribute_of(self._entity, shape.relationship).any(_equals(shape, column, value))

    @property
    def entity(self) -> MappedEntity:
        """The mapped class or alias."""
        return self._entity

    @property
    def shape(self) -> Shape:
        """The tables and attributes behind the attribute; for the library."""
        return self._shape_of(self._entity)

    def adapt_to_entity(self, adapt_to_entity: Any) -> VerticalCriteria[V]:
        """Return the same for an alias; SQLAlchemy calls this for ``aliased(Animal).attrs``."""
        return VerticalCriteria[V](adapt_to_entity.entity, self._shape_of)

    def __repr__(self) -> str:
        return f"<VerticalCriteria of {self._entity!r}>"


class KeyCriteria(Generic[V]):
    """The conditions and the value of one key in SQL; each method returns one condition on the object that has the key.

    A comparison looks into the column of the operand's type, so that 5 matches neither ``"5"`` nor ``True``. Each is an
    EXISTS over the rows of the object and takes no row away from the statement. Objects without the key match none of
    them: ``!= 5`` matches where the key is there with any other value, None included, and ``~(... == 5)`` matches
    objects without the key as well.

    Raises:
        UnsupportedValueError: There is no column for operands of this type, the schema says another, or its values
            cannot be compared: JSON (other than JSONB, for ``==``) and bytes take `exists` and `is_` only, enumerations
            have no order.
    """

    __slots__ = ("_entity", "_key", "_shape")
    __hash__ = None  # type: ignore[assignment]  # ``==`` is a condition

    def __init__(self, entity: MappedEntity, shape: Shape, key: str) -> None:
        self._entity: Final = entity
        self._shape: Final = shape
        self._key: Final = key

    def __eq__(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, other: V
    ) -> ColumnElement[bool]:
        """Match where the key has this value; ``== None`` where it is there and None."""
        return self._where(_equals(self._shape, self._column("==", other), other))

    def __ne__(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, other: V
    ) -> ColumnElement[bool]:
        """Match where the key is there and has another value, of any type."""
        column = self._column("!=", other)
        if column is None:
            return self._where(_is_set(self._shape))
        return self._where(_attribute(self._shape, column).is_distinct_from(other))

    def __lt__(self, other: V) -> ColumnElement[bool]:
        """Match where the key has a smaller value of the same type."""
        return self._where(operator.lt(*self._ordered("<", other)))

    def __le__(self, other: V) -> ColumnElement[bool]:
        """Match where the key has this value or a smaller one of the same type."""
        return self._where(operator.le(*self._ordered("<=", other)))

    def __gt__(self, other: V) -> ColumnElement[bool]:
        """Match where the key has a greater value of the same type."""
        return self._where(operator.gt(*self._ordered(">", other)))

    def __ge__(self, other: V) -> ColumnElement[bool]:
        """Match where the key has this value or a greater one of the same type."""
        return self._where(operator.ge(*self._ordered(">=", other)))

    def in_(self, values: Iterable[V]) -> ColumnElement[bool]:
        """Match where the key has one of the values, which may be of several types; no values match nothing."""
        if isinstance(values, str | bytes) or not is_a(values, Iterable):
            raise InvalidArgumentError(
                f"{self._shape.label}[{self._key!r}].in_() takes a collection of values, and was given {values!r}; "
                "put it in a list"
            )
        groups: dict[str | None, tuple[ValueColumn | None, list[V]]] = {}
        for value in values:
            column = self._column("in_()", value)
            groups.setdefault(None if column is None else column.attribute, (column, []))[1].append(value)
        if not groups:
            return false()
        return self._where(
            or_(
                *(
                    _is_none(self._shape) if column is None else _attribute(self._shape, column).in_(members)
                    for column, members in groups.values()
                )
            )
        )

    def like(self, pattern: str) -> ColumnElement[bool]:
        """Match where the key has a text like this, in which ``%`` and ``_`` have their meaning of SQL."""
        column = self._shape.column_for_type(self._key, str)
        if not is_a(pattern, str):
            raise InvalidArgumentError(
                f"{self._shape.label}[{self._key!r}].like() takes a text, and was given {pattern!r}; give a str"
            )
        return self._where(_attribute(self._shape, column).like(pattern))

    def is_(self, value: None) -> ColumnElement[bool]:
        """Match where the key is there and its value is None."""
        self._check_none("is_", value)
        return self._where(_is_none(self._shape))

    def is_not(self, value: None) -> ColumnElement[bool]:
        """Match where the key is there and its value is not None."""
        self._check_none("is_not", value)
        return self._where(_is_set(self._shape))

    def exists(self) -> ColumnElement[bool]:
        """Match where the key is there, with any value or None."""
        return self._where()

    def value(self, python_type: type[T]) -> ColumnElement[T | None]:
        """Return the value itself as an SQL expression, for ORDER BY and for comparisons with other columns.

        Args:
            python_type: The type of the value. Where the key has another, or is missing, the expression is NULL.

        A scalar subquery, which reads one row by the primary key for each row of the statement. It belongs to a
        statement that selects from the class: where nothing else in it does, write ``.select_from(Animal)``.

        Raises:
            UnsupportedValueError: There is no column for values of this type, or the schema says another.
            InvalidArgumentError: `python_type` is no class.
        """
        if not is_a(python_type, type):
            raise InvalidArgumentError(
                f"{self._shape.label}[{self._key!r}].value() takes the class of the values, and was given "
                f"{python_type!r}; give one class, for instance int"
            )
        column = self._shape.column_for_type(self._key, python_type)
        rows = self._shape.row_class
        join: Any = attribute_of(self._entity, self._shape.relationship)
        value = select(attribute_of(rows, column.attribute)).where(join, attribute_of(rows, "key") == self._key)
        # The rows are its own, also where the statement around it selects rows as well.
        return cast("ColumnElement[T | None]", value.correlate_except(rows).scalar_subquery())

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} is neither true nor false; to ask whether there is such a key write .exists()")

    def __repr__(self) -> str:
        return f"<KeyCriteria {self._shape.label}[{self._key!r}]>"

    def _where(self, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        key = attribute_of(self._shape.row_class, "key")
        return attribute_of(self._entity, self._shape.relationship).any(and_(key == self._key, *conditions))

    def _column(self, operation: str, value: Any) -> ValueColumn | None:
        """Return the column to compare, which is None for None."""
        label = f"{self._shape.label}[{self._key!r}] {operation}"
        if is_a(value, KeyCriteria):
            raise UnsupportedValueError(
                f"{label} takes a value, and was given {value!r}; compare {self._shape.label}[{self._key!r}]"
                f".value(type) with {value._shape.label}[{value._key!r}].value(type)"
            )
        if is_expression(value):
            raise UnsupportedValueError(
                f"{label} takes a value, and was given the SQL expression {value!s}; write "
                f"{self._shape.label}[{self._key!r}].value(type) {operation} that"
            )
        column = self._shape.checked_column(self._key, value, stored=False)
        _check_operand(label, column, value)
        return column

    def _ordered(self, operation: str, value: object) -> tuple[AnyAttribute, AnyExpression]:
        """Return the column and the operand of a comparison by order."""
        column = self._column(operation, value)
        if column is None or not column.takes_order:
            what = "None" if column is None else column.python_type.__name__
            raise UnsupportedValueError(
                f"{self._shape.label}[{self._key!r}] {operation} {value!r} has no meaning: {what} has no order in SQL; "
                "compare with == or in_()"
            )
        # Explicitly a parameter: SQLAlchemy makes keywords of True and False, which have no order.
        return _attribute(self._shape, column), literal(value, column.sql_type)

    def _check_none(self, method: str, value: object) -> None:
        if value is not None:
            raise InvalidArgumentError(
                f"{self._shape.label}[{self._key!r}].{method}() takes None, and was given {value!r}; compare with =="
            )


# -- conditions on a row -----------------------------------------------------------------------------


def _attribute(shape: Shape, column: ValueColumn) -> AnyAttribute:
    return attribute_of(shape.row_class, column.attribute)


def _equals(shape: Shape, column: ValueColumn | None, value: object) -> ColumnElement[bool]:
    return _is_none(shape) if column is None else _attribute(shape, column) == value


def _none_column(shape: Shape) -> AnyAttribute:
    table = shape.table
    return attribute_of(shape.row_class, table.type_attribute or table.columns[0].attribute)


def _is_none(shape: Shape) -> ColumnElement[bool]:
    return _none_column(shape).is_(None)


def _is_set(shape: Shape) -> ColumnElement[bool]:
    return _none_column(shape).is_not(None)


def _check_operand(label: str, column: ValueColumn | None, value: object) -> None:
    if column is not None and not column.takes_equality:
        raise UnsupportedValueError(
            f"{label} {value!r} has no meaning that all databases give it: values in {column.attribute!r} take "
            "exists() and is_(None) only; compare in Python, or on PostgreSQL map the column as JSONB"
        )


def entity_mapper(criteria: VerticalCriteria[V]) -> AnyMapper:
    """Return the mapper of the class or alias."""
    mapper: AnyMapper = inspect(criteria.entity).mapper
    return mapper
