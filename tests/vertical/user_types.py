"""Types of a user's own; not in a private module, because Alembic writes the path of a type into migrations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import JSON, Integer
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class Colour(Enum):
    RED = "r"
    BLUE = "b"


@dataclass(frozen=True, order=True)
class Money:
    """A type of the user's."""

    cents: int


class Euros(Money):
    """A subclass of a type of the user's."""


class MoneyAsJSON(TypeDecorator[Any]):
    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Money | None, dialect: Dialect) -> Any:
        return None if value is None else {"cents": value.cents}

    def process_result_value(self, value: Any, dialect: Dialect) -> Money | None:
        return None if value is None else Money(value["cents"])


class MoneyAsNullJSON(MoneyAsJSON):
    """The same, which stores None as the null of JSON."""

    impl = JSON


class MoneyType(TypeDecorator[Any]):
    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Money | None, dialect: Dialect) -> int | None:
        return None if value is None else value.cents

    def process_result_value(self, value: int | None, dialect: Dialect) -> Money | None:
        return None if value is None else Money(value)
