"""Demos of `sqla_patterns.trees`, and the statement counter that they share."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, event


@contextmanager
def sql_of(engine: Engine) -> Generator[list[str], None, None]:
    """Yield a list that grows by each statement which *engine* executes; an executemany is one."""
    statements: list[str] = []

    def record(
        connection: Connection, cursor: object, statement: str, parameters: object, context: object, executemany: bool
    ) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)
