"""Find the tables that a statement reads: those that appear when it is compiled.

The entities of a statement do not suffice: joins, EXISTS, subqueries, common table expressions, ``column_property()``,
eager joins and the criteria of ``with_loader_criteria()`` all add tables that no entity of the statement names. The
statement is therefore compiled, by a subclass of its dialect's compiler that records what it compiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sqlalchemy import Date, DateTime, Dialect, Executable, Interval, TableClause, Time, TypeDecorator

from .._sqlalchemy._names import PREFIXES
from ._tags import TableName, table_name
from ._volatility import CalledFunction

if TYPE_CHECKING:
    from sqlalchemy import Cast, ColumnClause, TextClause
    from sqlalchemy.sql.selectable import TextualSelect

    from .._typing import AnyType

# What hides tables in a piece of text. Text without these words can name columns only.
_HIDES: Final = re.compile(r"\b(select|table)\b", re.IGNORECASE)
_LITERALS: Final = re.compile(r"'(?:[^']|'')*'")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a statement depends on.

    Attributes:
        tables: The tables in its SQL.
        opaque: Why these may not be all tables; None if they are. The user has to declare the others, or the statement
            cannot be cached.
        writes: Whether the statement writes, as with an INSERT in a common table expression.
        functions: What it calls through SQLAlchemy's ``func``.
        texts: The parts of it that the user wrote as text.
        samples: Whether it reads a sample of a table.
        casts_to_time: Whether it casts something to a date or time.
    """

    tables: frozenset[TableName]
    opaque: str | None = None
    writes: bool = False
    functions: frozenset[CalledFunction] = frozenset()
    texts: tuple[str, ...] = ()
    samples: bool = False
    casts_to_time: bool = False


def dependencies(statement: Executable, dialect: Dialect) -> Dependencies:
    """Find the tables that `statement` reads, on a database of `dialect`.

    This costs as much as compiling the statement: keep the answer with the compiled statement.
    """
    compiler: type = dialect.statement_compiler
    recorder = _recording_compiler(compiler)(dialect, statement)
    tables = recorder.recorded_tables
    opaque = recorder.recorded_text
    if not opaque and not tables:
        opaque = "it names no table"
    for table in tables:
        # SQLAlchemy has CREATE TEMPORARY TABLE as a prefix, for which there is no public name.
        prefixes: list[object] = PREFIXES.get(table) or []
        if any("TEMP" in str(prefix).upper() for prefix in prefixes):
            opaque = opaque or f"each connection has its own table {table.name!r}"
    names = frozenset(map(table_name, tables))
    texts = recorder.recorded_texts
    if recorder.recorded_template:
        texts = [*texts, str(recorder)]
    return Dependencies(
        names,
        opaque,
        recorder.recorded_write,
        frozenset(recorder.recorded_functions),
        tuple(texts),
        recorder.recorded_sample,
        recorder.recorded_time_cast,
    )


class _RecordingCompiler:
    """A mixin of compilers that records what is compiled."""

    def __init__(self, *args: object, **options: object) -> None:
        # Before the compiler's own attributes, as it compiles the statement in its __init__().
        self.recorded_tables: set[TableClause] = set()
        self.recorded_text: str | None = None
        self.recorded_write = False
        self.recorded_functions: set[CalledFunction] = set()
        self.recorded_texts: list[str] = []
        self.recorded_template = False
        self.recorded_sample = False
        self.recorded_time_cast = False
        super().__init__(*args, **options)

    def visit_table(self, table: TableClause, *args: object, **options: object) -> object:
        self.recorded_tables.add(table)
        return self._next("visit_table", table, *args, **options)

    def visit_textclause(self, textclause: TextClause, *args: object, **options: object) -> object:
        # Text as the whole statement is compiled with an empty stack, text as a FROM with asfrom.
        self._text(textclause.text, whole=not getattr(self, "stack", ()) or bool(options.get("asfrom")))
        return self._next("visit_textclause", textclause, *args, **options)

    def visit_textual_select(self, select: TextualSelect, *args: object, **options: object) -> object:
        self._text(str(select.element), whole=True)
        return self._next("visit_textual_select", select, *args, **options)

    def visit_tstring(self, tstring: object, *args: object, **options: object) -> object:
        self._text("a template string", whole=True)
        self.recorded_template = True
        return self._next("visit_tstring", tstring, *args, **options)

    def visit_column(self, column: ColumnClause[object], *args: object, **options: object) -> object:
        if column.is_literal:
            self._text(column.name)
        return self._next("visit_column", column, *args, **options)

    def visit_function(self, func: object, *args: object, **options: object) -> object:
        self.recorded_functions.add(CalledFunction(str(getattr(func, "name", "")), len(getattr(func, "clauses", ()))))
        return self._next("visit_function", func, *args, **options)

    def visit_tablesample(self, *args: object, **options: object) -> object:
        self.recorded_sample = True
        return self._next("visit_tablesample", *args, **options)

    def visit_cast(self, cast: Cast[object], *args: object, **options: object) -> object:
        self.recorded_time_cast |= is_time(cast.type)
        return self._next("visit_cast", cast, *args, **options)

    def visit_insert(self, *args: object, **options: object) -> object:
        self.recorded_write = True
        return self._next("visit_insert", *args, **options)

    def visit_update(self, *args: object, **options: object) -> object:
        self.recorded_write = True
        return self._next("visit_update", *args, **options)

    def visit_delete(self, *args: object, **options: object) -> object:
        self.recorded_write = True
        return self._next("visit_delete", *args, **options)

    def _next(self, name: str, *args: object, **options: object) -> object:
        return getattr(super(), name)(*args, **options)

    def _text(self, text: str, *, whole: bool = False) -> None:
        self.recorded_texts.append(text)
        if whole or _HIDES.search(_LITERALS.sub("''", text)):
            self.recorded_text = self.recorded_text or f"it is unknown which tables this text reads: {text[:100]!r}"


def is_time(type_: AnyType) -> bool:
    """Return whether values of a type are dates or times."""
    # A decorated type is in SQL what it decorates.
    affinity: object = type_.impl if isinstance(type_, TypeDecorator) else type_
    return isinstance(affinity, (Date, DateTime, Time, Interval))


@lru_cache(maxsize=64)
def _recording_compiler(compiler: type) -> Callable[[Dialect, Executable], _RecordingCompiler]:
    return type(f"Recording{compiler.__name__}", (_RecordingCompiler, compiler), {})
