"""Which tables a statement reads: those that are in its SQL.

Entities would not do: joins, EXISTS, subqueries, common table expressions, ``column_property()``, eager joins and the criteria of
``with_loader_criteria()`` all bring in tables that no entity of the statement names. The statement is therefore compiled, by the compiler of its dialect
with an eye on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from sqlalchemy import Dialect, Executable, TableClause

from ._tags import TableName, table_name

__all__ = ("Dependencies", "dependencies")

# What hides tables in a piece of text. Text without these words can name columns only.
_HIDES: Final = re.compile(r"\b(select|table)\b", re.IGNORECASE)
_LITERALS: Final = re.compile(r"'(?:[^']|'')*'")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a statement depends on."""

    tables: frozenset[TableName]
    #: Why these may not be all: somebody has to declare the others, or the statement cannot be cached.
    opaque: str | None = None
    #: Whether the statement writes, as with an INSERT in a common table expression.
    writes: bool = False


def dependencies(statement: Executable, dialect: Dialect) -> Dependencies:
    """Find the tables that `statement` reads, on a database of `dialect`.

    This costs as much as compiling the statement: keep the answer with whatever the statement's cache key leads to.
    """
    watcher: Any = _watching(cast(Any, dialect.statement_compiler))(dialect, statement)
    tables: set[TableClause] = watcher.watched_tables
    opaque: str | None = watcher.watched_text
    if not opaque and not tables:
        opaque = "it names no table"
    for table in tables:
        # A prefix is how SQLAlchemy spells CREATE TEMPORARY TABLE; nothing public has it.
        prefixes: list[object] = getattr(table, "_prefixes", None) or []
        if any("TEMP" in str(prefix).upper() for prefix in prefixes):
            opaque = opaque or f"each connection has its own table {table.name!r}"
    names = frozenset(map(table_name, tables))
    return Dependencies(names, opaque, watcher.watched_write)


class _Watch:
    """Mixed into a compiler: notes what goes by. Attributes are there before the compiler, which compiles while it is made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.watched_tables: set[TableClause] = set()
        self.watched_text: str | None = None
        self.watched_write = False
        super().__init__(*args, **options)

    def visit_table(self, table: Any, *args: Any, **options: Any) -> Any:
        self.watched_tables.add(table)
        return self._next("visit_table", table, *args, **options)

    def visit_textclause(self, textclause: Any, *args: Any, **options: Any) -> Any:
        # Text as the whole statement comes with an empty stack, text as a FROM with asfrom.
        self._text(textclause.text, whole=not getattr(self, "stack", ()) or bool(options.get("asfrom")))
        return self._next("visit_textclause", textclause, *args, **options)

    def visit_textual_select(self, select: Any, *args: Any, **options: Any) -> Any:
        self._text(str(select.element), whole=True)
        return self._next("visit_textual_select", select, *args, **options)

    def visit_tstring(self, tstring: Any, *args: Any, **options: Any) -> Any:
        self._text("a template string", whole=True)
        return self._next("visit_tstring", tstring, *args, **options)

    def visit_column(self, column: Any, *args: Any, **options: Any) -> Any:
        if column.is_literal:
            self._text(column.name)
        return self._next("visit_column", column, *args, **options)

    def visit_insert(self, *args: Any, **options: Any) -> Any:
        self.watched_write = True
        return self._next("visit_insert", *args, **options)

    def visit_update(self, *args: Any, **options: Any) -> Any:
        self.watched_write = True
        return self._next("visit_update", *args, **options)

    def visit_delete(self, *args: Any, **options: Any) -> Any:
        self.watched_write = True
        return self._next("visit_delete", *args, **options)

    def _next(self, name: str, *args: Any, **options: Any) -> Any:
        return getattr(super(), name)(*args, **options)

    def _text(self, text: str, *, whole: bool = False) -> None:
        if whole or _HIDES.search(_LITERALS.sub("''", text)):
            self.watched_text = self.watched_text or f"nobody can tell which tables this text reads: {text[:100]!r}"


@lru_cache(maxsize=64)
def _watching(compiler: Any) -> type[Any]:
    return type(f"Watching{compiler.__name__}", (_Watch, compiler), {})
