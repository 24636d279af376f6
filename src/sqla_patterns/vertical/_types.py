"""`value_column`: declare a column for the values of one Python type, with the SQL type that fits."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    Enum,
    LargeBinary,
    Numeric,
    String,
    Text,
    Uuid,
)
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.types import TypeDecorator

from .._typing import AnyColumn, AnyType
from ..exceptions import InvalidArgumentError
from ._errors import UnstorableValueError
from ._inspection import is_a

T = TypeVar("T")

#: Where `value_column` leaves its arguments until the class is mapped, which takes them away: MetaData is plain data.
_ARGUMENTS: Final = "sqla_patterns.vertical.value_column"


@dataclass(frozen=True)
class ValueColumnArguments:
    """The arguments of one `value_column`.

    Attributes:
        python_type: The class of its values.
        type_name: What the ``type`` column says of them.
        index: Whether it is indexed.
    """

    python_type: type[object]
    type_name: str
    index: bool


# -- an exact Decimal --------------------------------------------------------------------------------

if TYPE_CHECKING:
    _Decorator = TypeDecorator[Decimal]
else:
    _Decorator = TypeDecorator

_SQLITE_DIGITS: Final = 18
# Not the context of the thread, which a user may have set to fewer digits. It traps nothing that moving the point can
# cause.
_WIDE: Final = Context(prec=400)


class ExactNumeric(_Decorator):
    """A NUMERIC of a fixed scale that is exact on SQLite too, where it is an integer: 1.50 at scale 2 is stored as 150.

    Comparison and order work on every database; arithmetic in SQL does not on SQLite.

    Args:
        precision: How many digits there are at most, up to 18, which is what fits into an integer of 64 bits.
        scale: How many of them come after the point.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int = _SQLITE_DIGITS, scale: int = 6) -> None:
        if not 0 <= scale <= precision <= _SQLITE_DIGITS:
            raise InvalidArgumentError(
                f"ExactNumeric({precision}, {scale}) cannot be stored as an integer of 64 bits on SQLite; give a "
                f"precision of at most {_SQLITE_DIGITS} and a scale of at most the precision, or use Numeric"
            )
        super().__init__(precision, scale)
        self.precision: Final = precision
        self.scale: Final = scale

    def load_dialect_impl(self, dialect: Dialect) -> AnyType:
        """Return an integer type for SQLite, which has no exact numbers with a point."""
        return dialect.type_descriptor(
            BigInteger() if dialect.name == "sqlite" else Numeric(self.precision, self.scale)
        )

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | int | None:
        """Return what is sent to the database.

        Raises:
            UnstorableValueError: The value has more digits after the point than the column, also where it is only
                compared.
        """
        if value is None:
            return None
        scaled = Decimal(value).scaleb(self.scale, _WIDE)
        if not scaled.is_finite() or scaled != scaled.to_integral_value():
            raise UnstorableValueError(
                f"{self!r} cannot take {value!r}, which has more than {self.scale} digits after the point; round it"
            )
        return int(scaled) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Decimal | int | None, dialect: Dialect) -> Decimal | None:
        """Return the number that the database holds."""
        if value is None or isinstance(value, Decimal):
            return value
        return Decimal(value).scaleb(-self.scale, _WIDE)


# Migration scripts should name the public path.
ExactNumeric.__module__ = __name__.rpartition(".")[0]


# -- value columns -----------------------------------------------------------------------------------

# A text of 255 characters and a key of 64, of four bytes each, fit into an index of MariaDB (3,072 bytes) and
# PostgreSQL (about 2,700). MariaDB cuts off fractions of seconds unless told.
_DEFAULT_TYPES: Mapping[type[object], Callable[[], AnyType]] = {
    bool: Boolean,
    int: BigInteger,
    float: Double,
    str: lambda: String(255),
    Decimal: ExactNumeric,
    date: Date,
    datetime: lambda: DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb"),
    UUID: Uuid,
    bytes: LargeBinary,
    dict: lambda: JSON(none_as_null=True),
    list: lambda: JSON(none_as_null=True),
}


def value_column(
    python_type: type[T],
    type_: AnyType | type[AnyType] | None = None,
    *,
    name: str | None = None,
    type_name: str | None = None,
    index: bool | None = None,
) -> MappedColumn[T | None]:
    """Return a column for the values of one Python type, to be mapped on a `VerticalValue` or `PlainVerticalValue`.

    Args:
        python_type: The class of the values. ``bool``, ``int``, ``float``, ``str``, ``Decimal``, ``date``,
            ``datetime``, ``bytes`` take exactly that class; any other class takes its subclasses as well.
        type_: The SQL type. It may be left out for the classes above, ``UUID``, ``dict`` and ``list`` (JSON), and
            enumerations (stored by name); the page on the pattern lists what they get.
        name: The name of the column, if it is not that of the attribute.
        type_name: What the ``type`` column says of such values; the name of the class unless given. It is stored in
            each row, so give it before you rename a class.
        index: Whether there is an index over key and value, and, unless `VerticalValueOptions` say otherwise, one over
            the value alone. Without it, for all but JSON, bytes and ``Text``. Of texts that are too long for MariaDB
            and MySQL the beginning is indexed there.

    Raises:
        InvalidArgumentError: `python_type` has no SQL type unless you give one; or `type_` would store None as the
            ``null`` of JSON; or an index is asked for where databases have none.
    """
    if not is_a(python_type, type):
        raise InvalidArgumentError(
            f"value_column({python_type!r}) needs a class, for instance int; give each class a column of its own"
        )
    column_type = _sql_type(python_type, type_)
    # PostgreSQL, MariaDB and SQLite agree that a long text, bytes or a document has no ordinary index.
    kind = undecorated(column_type)
    unfit = isinstance(kind, LargeBinary | JSON)
    if index and unfit:
        raise InvalidArgumentError(
            f"value_column({python_type.__name__}, index=True) is a {column_type!r}, which databases cannot index; "
            "leave index out, and index a hash of the value if you look for it"
        )
    indexed = not unfit and not isinstance(kind, Text) if index is None else index
    arguments = ValueColumnArguments(python_type, python_type.__name__ if type_name is None else type_name, indexed)
    # After the user's own columns, so that the primary key is (owner, key), and not the other way round.
    return mapped_column(name, column_type, nullable=True, default=None, sort_order=3, info={_ARGUMENTS: arguments})


def take_arguments(column: AnyColumn) -> ValueColumnArguments | None:
    """Return the arguments of the `value_column` that made a column, and take them off it; None for another column."""
    arguments = column.info.pop(_ARGUMENTS, None)
    return arguments if isinstance(arguments, ValueColumnArguments) else None


def undecorated(sql_type: AnyType) -> AnyType:
    """Return the type below the user's `TypeDecorator`, on which it depends what databases can do with the column."""
    while isinstance(sql_type, TypeDecorator):
        sql_type = sql_type.impl_instance
    return sql_type


def _sql_type(python_type: type[object], given: AnyType | type[AnyType] | None) -> AnyType:
    if given is None:
        if issubclass(python_type, enum.Enum):
            # Not native, so that adding a member needs no migration; and long enough for names that come later.
            longest = max([64, *(len(member.name) for member in python_type)])
            return Enum(python_type, native_enum=False, length=longest)
        if python_type not in _DEFAULT_TYPES:
            raise InvalidArgumentError(
                f"value_column({python_type.__name__}) needs to know how such a value is stored; give a SQL type as "
                "the second argument, usually a TypeDecorator"
            )
        make: Callable[[], AnyType] = _DEFAULT_TYPES[python_type]
        return make()
    if isinstance(given, type):
        given = given(none_as_null=True) if issubclass(given, JSON) else given()
    # Only here: importing the dialect of PostgreSQL makes tables.
    from sqlalchemy.dialects import mysql, postgresql, sqlite

    # A fact that is None has NULL in all columns; the others must not say 'null' in JSON. A variant may be JSON as
    # well.
    modules: tuple[Any, ...] = (sqlite, postgresql, mysql)
    dialects: list[Dialect] = [module.dialect() for module in modules]
    kinds = [undecorated(each) for each in (given, *map(given.dialect_impl, dialects))]
    if any(isinstance(each, JSON) and not each.none_as_null for each in kinds):
        raise InvalidArgumentError(
            f"value_column({python_type.__name__}, {given!r}) would store a missing value as the null of JSON; "
            "give the type none_as_null=True"
        )
    return given
