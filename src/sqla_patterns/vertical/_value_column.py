"""One value column of a mapped class: which values it takes, stores and compares."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, DateTime, Enum, Integer, LargeBinary, Numeric, SmallInteger, String

from .._typing import AnyType
from ._inspection import short
from ._types import ExactNumeric, undecorated

# Values of these types come back as exactly these, so that their subclasses are refused: a bool is no int here, a
# datetime no date.
_EXACT: Final = frozenset({bool, int, float, str, Decimal, date, datetime, bytes})
# The bits of what the dialects of MariaDB and MySQL have beside the generic types.
_OTHER_INTEGERS: Final = {"TINYINT": 8, "MEDIUMINT": 24}


@dataclass(frozen=True)
class ValueColumn:
    """One value column of a mapped class.

    Attributes:
        attribute: The name of the attribute that maps it.
        python_type: The class of its values.
        type_name: What the ``type`` column says of them.
        sql_type: The SQL type.
    """

    attribute: str
    python_type: type[object]
    type_name: str
    sql_type: AnyType

    def accepts(self, value_type: type[object], base: type[object]) -> bool:
        """Return whether values of a type are stored here.

        Args:
            value_type: The type.
            base: The type itself or a class above it; whether the column takes it for the sake of this one.
        """
        return base is self.python_type and (value_type is base or base not in _EXACT)

    @property
    def takes_equality(self) -> bool:
        """True if ``==`` and ``in_`` have a meaning in SQL that every database gives them."""
        kind = undecorated(self.sql_type)
        if isinstance(kind, JSON):
            # Only here: importing the dialect of PostgreSQL makes tables, and its types exist only then.
            from sqlalchemy.dialects.postgresql import JSONB

            return isinstance(kind, JSONB)
        return self.python_type is not bytes and not isinstance(kind, LargeBinary)

    @property
    def takes_order(self) -> bool:
        """True if ``<`` has a meaning in SQL; names of enumerations do not sort as their members."""
        return (
            self.takes_equality
            and not isinstance(undecorated(self.sql_type), JSON)
            and not issubclass(self.python_type, enum.Enum)
        )

    def is_same(self, stored: object, value: object) -> bool:
        """Return whether a value is certainly what the column holds, so that it need not be written again.

        Args:
            stored: What the column holds.
            value: What it shall hold.
        """
        if self.python_type not in _EXACT and not issubclass(self.python_type, UUID | enum.Enum):
            # It may be the object that the row has, changed in place, which SQLAlchemy did not see.
            return False
        if isinstance(stored, float) and isinstance(value, float):
            # -0.0 equals 0.0.
            return stored == value and math.copysign(1, stored) == math.copysign(1, value)
        return type(stored) is type(value) and stored == value

    def fault_in(self, value: object, *, stored: bool) -> str | None:
        """Return why the column cannot hold a value, or None if it can.

        Args:
            value: The value, of the right class.
            stored: Whether it is to be stored; a value that is only compared may be longer than the column.
        """
        sql_type = self.sql_type
        if isinstance(value, str) and isinstance(sql_type, String) and not isinstance(sql_type, Enum):
            return text_fault(value, sql_type.length if stored else None)
        if isinstance(value, int) and isinstance(sql_type, Integer):
            return _integer_fault(value, sql_type)
        if isinstance(value, float) and not math.isfinite(value):
            return "is not finite, which not every database can store"
        if isinstance(value, Decimal):
            return _decimal_fault(value, sql_type, stored=stored)
        if isinstance(value, datetime) and isinstance(sql_type, DateTime) and value.tzinfo is not None:
            return None if sql_type.timezone else "has a time zone, which the column does not keep"
        if stored and isinstance(sql_type, JSON):
            return _document_fault(value)
        return None


def text_fault(value: str, length: int | None) -> str | None:
    """Return why a text column of some length cannot hold a text, or None if it can."""
    if length is not None and len(value) > length:
        return f"has {len(value)} characters, and the column holds {length}"
    if "\0" in value:
        return "has a NUL character, which PostgreSQL cannot store"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has half a surrogate pair, which UTF-8 cannot encode"
    return None


def _integer_fault(value: int, sql_type: Integer) -> str | None:
    bits = _OTHER_INTEGERS.get(sql_type.__visit_name__, 32)
    if isinstance(sql_type, BigInteger | SmallInteger):
        bits = 64 if isinstance(sql_type, BigInteger) else 16
    lowest, beyond = -(2 ** (bits - 1)), 2 ** (bits - 1)
    if getattr(sql_type, "unsigned", False):
        lowest, beyond = 0, 2**bits
    if lowest <= value < beyond:
        return None
    return "is negative" if value < lowest == 0 else f"has more than {bits} bits"


def _document_fault(value: object) -> str | None:
    # What else JSON cannot say, the serializer of the engine may know.
    if isinstance(value, dict):
        document = cast("dict[object, object]", value)
        for key in document:
            if not isinstance(key, str):
                return f"has the key {short(key)}, of which JSON makes a text"
        return _first_fault(document.values())
    if isinstance(value, tuple):
        return "has a tuple, of which JSON makes a list"
    if isinstance(value, list):
        return _first_fault(cast("list[object]", value))
    if isinstance(value, float) and not math.isfinite(value):
        return "has a number that is not finite, which not every database can store"
    return None


def _first_fault(values: Iterable[object]) -> str | None:
    return next((fault for fault in map(_document_fault, values) if fault is not None), None)


def _decimal_fault(value: Decimal, sql_type: AnyType, *, stored: bool) -> str | None:
    # Not normalize(), which rounds to the digits of the thread's context.
    _, digits, exponent = value.as_tuple()
    if isinstance(exponent, str):  # Infinity and NaN
        return "is not finite, which not every database can store"
    if not isinstance(sql_type, ExactNumeric | Numeric) or sql_type.scale is None or sql_type.precision is None:
        return None
    significant = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(significant)
    # An ExactNumeric rounds nothing, nor what it is compared with.
    if significant and -exponent > sql_type.scale and (stored or isinstance(sql_type, ExactNumeric)):
        return f"has {-exponent} digits after the point, and the column holds {sql_type.scale}"
    whole, limit = len(significant) + exponent, sql_type.precision - sql_type.scale
    if significant and whole > limit:
        return f"has {whole} digits before the point, and the column holds {limit}"
    return None
