from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

_TRANSACTIONAL = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)


class StatementLog(list[str]):
    """The SQL statements that were executed, in order."""

    def __init__(self) -> None:
        super().__init__()
        #: What was bound, statement by statement: one mapping or tuple, or for an executemany a list of them.
        self.parameters: list[Any] = []

    @property
    def text(self) -> str:
        """All statements, one a paragraph."""
        return "\n\n".join(self)

    def starting(self, *words: str) -> list[str]:
        """Return the statements that begin with one of *words*, as in ``log.starting("INSERT", "UPDATE")``."""
        heads = tuple(word.upper() for word in words)
        return [statement for statement in self if statement.lstrip().upper().startswith(heads)]

    def clear(self) -> None:
        super().clear()
        self.parameters.clear()


@contextmanager
def count_statements(engine: Engine | AsyncEngine | None = None) -> Generator[StatementLog, None, None]:
    """Log what *engine* executes, or every engine of the process if none is given.

    An executemany is one statement; BEGIN, COMMIT and savepoints are none.
    """
    log = StatementLog()

    def record(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        if not _TRANSACTIONAL.match(statement):
            log.append(statement)
            log.parameters.append(parameters)

    target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine or Engine
    event.listen(target, "before_cursor_execute", record)
    try:
        yield log
    finally:
        event.remove(target, "before_cursor_execute", record)
