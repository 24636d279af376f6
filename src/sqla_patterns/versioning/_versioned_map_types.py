"""The SQL type of the values of versioned maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import JSON, Dialect, Text
from sqlalchemy.types import TypeDecorator

from .._typing import AnyType

# SQLAlchemy leaves the methods untyped that make its serializers.
_json: Final[Any] = JSON(none_as_null=True)


class JSONValue(TypeDecorator[Any]):
    """JSON from which every value comes back as it was, numbers too; None is NULL.

    SQLite takes a column of the type JSON for one of numbers, and makes ``1`` of ``1.0``; there it is TEXT.
    """

    impl = _json
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> AnyType:
        """Return the type for a database."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else _json)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the text for SQLite, made by the serializer of the engine."""
        if dialect.name != "sqlite" or value is None:
            return value
        process: Callable[[Any], Any] | None = _json.bind_processor(dialect)
        return value if process is None else process(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value for the text of SQLite."""
        if dialect.name != "sqlite" or value is None:
            return value
        process: Callable[[Any], Any] | None = _json.result_processor(dialect, None)
        return value if process is None else process(value)


# Migration scripts should name the public path.
JSONValue.__module__ = __name__.rpartition(".")[0]
