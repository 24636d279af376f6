"""Convert the keys of lookups to values of the key's column.

``key in d`` has to work for any object, but a database refuses a value that is not of the column's type, and PostgreSQL
aborts the transaction then. So a key of another type is never sent, unless it is equal to a value of the column's type,
as ``True``, ``1`` and ``1.0`` are in Python.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.types import Enum, TypeDecorator

from .._typing import AnyType

#: Stands for a key that no member can have.
ABSENT: Final = object()

# The largest integer that all databases accept; SQLite's driver raises for more.
_LARGEST: Final = 2**63 - 1

#: Returns the value of a column that is equal to a given object, or `ABSENT`.
_Converter: TypeAlias = Callable[[object], object]


def key_converter(type_: AnyType) -> _Converter:
    """Return a function that converts an object to the equal value of this type, or to `ABSENT` if there is none.

    Where the type does not say which Python type its values have, objects are passed on as they are.
    """
    if isinstance(type_, TypeDecorator):
        return _of_decorator(type_)
    if isinstance(type_, Enum):
        return _of_enum(type_)
    try:
        python_type = type_.python_type
    except NotImplementedError:
        return _unless_none
    if python_type is str:
        return _text
    if python_type is bool:
        return _boolean
    if python_type is int:
        return _integer
    if python_type in (float, decimal.Decimal):
        return _number
    if python_type is dt.date:
        return _date
    return _instance_of(python_type)


def _unless_none(key: object) -> object:
    return ABSENT if key is None else key


def _text(key: object) -> object:
    # Not str(key), which is the name of the member where the key is an Enum with strings.
    return str.__str__(key) if isinstance(key, str) else ABSENT


def _integer(key: object) -> object:
    if not isinstance(key, int | float | decimal.Decimal):
        return ABSENT
    try:
        value = int(key)
    except (OverflowError, ValueError):  # infinite, or no number
        return ABSENT
    return value if value == key and -_LARGEST <= value <= _LARGEST else ABSENT


def _boolean(key: object) -> object:
    value = _integer(key)
    return bool(value) if value is not ABSENT and value in (0, 1) else ABSENT


def _number(key: object) -> object:
    if isinstance(key, bool):
        return int(key)
    return key if isinstance(key, int | float | decimal.Decimal) and key == key else ABSENT


def _date(key: object) -> object:
    # A datetime is an instance of date, but equal to no date.
    return key if isinstance(key, dt.date) and not isinstance(key, dt.datetime) else ABSENT


def _of_decorator(type_: TypeDecorator[Any]) -> _Converter:
    # The value that the user's type binds must be one of the type that it decorates. Its own python_type would not do:
    # that is the one of the decorated type, and not that of the values on the Python side.
    decorated, dialect = key_converter(type_.impl_instance), DefaultDialect()

    def convert(key: object) -> object:
        if key is None:
            return ABSENT
        try:
            stored: object = type_.process_bind_param(key, dialect)
        except NotImplementedError:
            stored = key
        except Exception:  # noqa: BLE001  # whatever the user's function raises: this is no value of the type
            return ABSENT
        return ABSENT if decorated(stored) is ABSENT else key

    return convert


def _of_enum(type_: Enum) -> _Converter:
    names = frozenset(type_.enums)

    def convert(key: object) -> object:
        if type_.enum_class is not None:
            return key if isinstance(key, type_.enum_class) else ABSENT
        value = _text(key)
        return value if value in names else ABSENT

    return convert


def _instance_of(python_type: type[object]) -> _Converter:
    def convert(key: object) -> object:
        return key if isinstance(key, python_type) else ABSENT

    return convert
