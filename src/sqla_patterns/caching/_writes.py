"""Which tables a statement that is about to run writes.

Looked at where every statement comes by, just before the cursor executes it: what a flush emits, ORM and Core DML, rows of secondary tables, DML in common
table expressions. To the tables in the statement come those that foreign keys let the database change by itself (``ON DELETE CASCADE`` and its like),
as far as metadata shows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Delete, Insert, MetaData, Table, TextClause, Update, exc
from sqlalchemy.engine.interfaces import ExecutionContext
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import Compiled
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import TextualSelect

from ..exceptions import PatternError
from ._dependencies import dependencies
from ._tags import TableName, real_tables, tables_in, tables_of

__all__ = ("TOUCHES_OPTION", "Raw", "RawDML", "RawWriteError", "WriteCollector", "Writes", "prepared_xid", "raw_kind")

RawDML: TypeAlias = Literal["flush_all", "raise", "ignore"]

#: The execution option that says what a statement writes.
TOUCHES_OPTION: Final = "cache_touches"


class RawWriteError(PatternError, exc.InvalidRequestError):
    """A statement in plain text writes, and nobody has said to which tables."""


class Raw(Enum):
    """What a statement in plain text may do."""

    READ = "read"
    WRITE = "write"
    DDL = "ddl"
    COMMIT = "commit"
    PREPARED = "end of a prepared transaction"
    ISOLATION = "isolation"


@dataclass(frozen=True, slots=True)
class Writes:
    """What one statement changes."""

    tables: frozenset[TableName] = frozenset()
    #: It may change any table.
    everything: bool = False
    #: What kind of plain text it is, if it is.
    raw: Raw | None = None

    def __bool__(self) -> bool:
        return self.everything or bool(self.tables)


_NOTHING: Final = Writes()
_ALL: Final = Writes(everything=True)
_DDL: Final = Writes(everything=True, raw=Raw.DDL)

# -- plain text ----------------------------------------------------------------------------------

# String literals go first: a comment may stand in a literal and a quote in a comment, whichever opens first.
_NOISE: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL)
_HEAD: Final = re.compile(r"[\s(;]*([a-z]+)", re.IGNORECASE)
_WRITING: Final = re.compile(
    r"\b(insert|update|delete|merge|replace|truncate|create|alter|drop|rename|call|copy|do|exec|execute|refresh|load)\b",
    re.IGNORECASE,
)
_FOR_UPDATE: Final = re.compile(r"\bfor\s+(no\s+key\s+)?update\b", re.IGNORECASE)
_ISOLATION: Final = re.compile(r"\b(isolation|transaction_isolation|tx_isolation|read_uncommitted)\b", re.IGNORECASE)
_PREPARED: Final = re.compile(r"\s*((commit|rollback)\s+prepared|xa\s+(commit|rollback))\b", re.IGNORECASE)
_XID: Final = re.compile(r"'([^']*)'")
_READS: Final = frozenset(
    {"select", "with", "values", "table", "show", "describe", "desc", "explain", "pragma", "set", "reset", "use", "begin",
     "start", "savepoint", "release", "rollback", "abort", "declare", "fetch", "move", "close", "listen", "unlisten",
     "notify", "lock", "unlock", "discard", "analyze", "kill",
     "prepare", "deallocate", "xa"}
)  # fmt: skip
#: What ends a transaction on MariaDB before it begins something else.
_MAY_COMMIT: Final = frozenset({"begin", "start", "lock", "unlock"})
_AUTOCOMMIT: Final = re.compile(r"\bautocommit\b", re.IGNORECASE)
_MAY_WRITE_INSIDE: Final = frozenset({"with", "explain"})
_DDL_WORDS: Final = frozenset(
    {"create", "alter", "drop", "truncate", "rename", "reindex", "vacuum", "grant", "revoke", "comment"}
)


@lru_cache(maxsize=512)
def raw_kind(sql: str) -> Raw:
    """Tell what a statement in plain text does, by its words; in doubt it writes."""
    bare = _NOISE.sub(" ", sql)
    match = _HEAD.match(bare)
    head = match[1].lower() if match else ""
    if _PREPARED.match(bare):
        return Raw.PREPARED
    if head in {"commit", "end"}:
        return Raw.COMMIT
    if head in _MAY_COMMIT and not _ISOLATION.search(bare):
        return Raw.COMMIT
    if head == "set" and _AUTOCOMMIT.search(bare):
        return Raw.COMMIT
    if head in _DDL_WORDS:
        return Raw.DDL
    if head not in _READS:
        return Raw.WRITE if head else Raw.READ
    if head in _MAY_WRITE_INSIDE or ";" in bare.rstrip().rstrip(";"):
        if _WRITING.search(_FOR_UPDATE.sub(" ", bare)):
            return Raw.WRITE
        if re.search(r";\s*commit\b", bare, re.IGNORECASE):
            return Raw.COMMIT
    # SELECT ... INTO makes a table on PostgreSQL and sets a variable on MariaDB; neither is one that was cached.
    return Raw.ISOLATION if _ISOLATION.search(bare) and head != "select" else Raw.READ


def prepared_xid(sql: str, parameters: object) -> str | None:
    """The name of the prepared transaction that a statement in plain text ends."""
    if match := _XID.search(sql):
        return match[1]
    values = list(cast("Mapping[str, object]", parameters).values()) if isinstance(parameters, Mapping) else parameters
    return str(cast("list[object]", values)[0]) if isinstance(values, (list, tuple)) and values else None


# -- compiled statements -------------------------------------------------------------------------


class WriteCollector:
    """Tells what statements write, and keeps the answer with each compiled statement for as long as SQLAlchemy keeps that."""

    def __init__(self, raw_dml: RawDML) -> None:
        self._raw_dml: Final = raw_dml
        # The number of tables tells whether the metadata have grown foreign keys since.
        self._known: WeakKeyDictionary[Compiled, tuple[tuple[tuple[MetaData, int], ...], Writes]] = WeakKeyDictionary()

    def writes(self, context: ExecutionContext, sql: str) -> Writes:
        """What the statement of `context` writes.

        Raises:
            RawWriteError: it is plain text, and the policy is to refuse it.
        """
        compiled: Compiled | None = getattr(context, "compiled", None)
        if compiled is None:
            found = Writes(raw=raw_kind(sql))
        else:
            known = self._known.get(compiled)
            if known is None or any(len(metadata.tables) != size for metadata, size in known[0]):
                seen: dict[MetaData, int] = {}
                found = _of_compiled(compiled, sql, seen)
                known = self._known[compiled] = (tuple(seen.items()), found)
            found = known[1]
        declared = context.execution_options.get(TOUCHES_OPTION)
        if declared is not None:
            touched = _declared(declared)
            return Writes(
                touched if found.raw else found.tables | touched, False if found.raw else found.everything, found.raw
            )
        if found.raw is Raw.WRITE:
            if self._raw_dml == "raise":
                raise RawWriteError(
                    f"{' '.join(sql.split())[:200]!r} writes to tables that the cache cannot see: name them with "
                    f"execution_options({TOUCHES_OPTION}=[...]), or choose raw_dml='flush_all' for the cache."
                )
            if self._raw_dml == "flush_all":
                return Writes(everything=True, raw=found.raw)
        if found.raw is Raw.DDL:
            return _DDL
        return found


def _of_compiled(compiled: Compiled, sql: str, seen: dict[MetaData, int]) -> Writes:
    statement: Any = compiled.statement
    state: Any = getattr(compiled, "compile_state", None)
    final: Any = getattr(state, "statement", None)
    if isinstance(statement, ExecutableDDLElement):
        return _DDL
    ctes: Mapping[Any, str] = getattr(compiled, "ctes", None) or {}
    writes = any(getattr(compiled, flag, False) for flag in ("isinsert", "isupdate", "isdelete"))
    if not writes and not ctes:
        whole = next((each for each in (statement, final, getattr(statement, "element", None)) if _is_text(each)), None)
        return _NOTHING if whole is None else Writes(raw=raw_kind(sql))
    found: set[TableName] = set()
    roots = [root for root in (statement, final, *(cte.element for cte in ctes)) if root is not None]
    if any(_is_text(root) for root in roots) and raw_kind(sql) is not Raw.READ:
        return Writes(raw=Raw.WRITE)
    for root in roots:
        for element in visitors.iterate(root):
            if isinstance(element, UpdateBase):
                found |= _of_dml(element, compiled, seen)
    if writes and not found:
        return _ALL
    return Writes(frozenset(found)) if found else _NOTHING


def _is_text(element: object) -> bool:
    return isinstance(element, (TextClause, TextualSelect)) or type(element).__name__ == "TString"


def _of_dml(statement: UpdateBase, compiled: Compiled, seen: dict[MetaData, int]) -> set[TableName]:
    # Typed as a FROM of many kinds; under the ORM it carries annotations.
    target: Any = cast(Any, statement).table
    kinds: tuple[str, ...]
    if isinstance(statement, Insert):
        # ON CONFLICT and ON DUPLICATE KEY come after the values, OR REPLACE is a prefix.
        extra: object = getattr(statement, "_post_values_clause", None) is not None or getattr(
            statement, "_prefixes", ()
        )
        kinds = ("update", "delete") if extra else ()
    elif isinstance(statement, Delete):
        kinds = ("delete",)
    else:
        kinds = ("update",)
    tables = set(tables_in(target))
    real = set(real_tables(target))
    state: Any = getattr(compiled, "dml_compile_state", None) or getattr(compiled, "compile_state", None)
    if (
        isinstance(statement, Update)
        and compiled.dialect.name in {"mysql", "mariadb"}
        and getattr(state, "is_multitable", True)
    ):
        # UPDATE a, b SET a.x = ..., b.y = ... writes to both.
        names = dependencies(statement, compiled.dialect).tables
        tables |= names
        metadata = {table.metadata for table in real}
        real |= {table for each in metadata for table in each.tables.values() if (table.schema, table.name) in names}
    for table in real:
        seen[table.metadata] = len(table.metadata.tables)
    for kind in kinds:
        tables |= _cascades(real, kind)
    return tables


def _declared(things: object) -> frozenset[TableName]:
    listed: Iterable[Any] = (
        cast("Iterable[Any]", things) if isinstance(things, (list, tuple, set, frozenset)) else (things,)
    )
    return frozenset(name for thing in listed for name in tables_of(thing))


# -- foreign keys --------------------------------------------------------------------------------

_ACTIONS: Final = ("CASCADE", "SET NULL", "SET DEFAULT")


def _cascades(tables: Iterable[Table], kind: str) -> set[TableName]:
    """The tables that the database changes when rows of `tables` are deleted or updated."""
    found: set[TableName] = set()
    done: set[tuple[Table, str, frozenset[str] | None]] = set()
    # With an update go the columns that it may change; None is any.
    open_: list[tuple[Table, str, frozenset[str] | None]] = [(table, kind, None) for table in tables]
    while open_:
        parent, what, columns = step = open_.pop()
        if step in done:
            continue
        done.add(step)
        for child in parent.metadata.tables.values():
            for constraint in child.foreign_key_constraints:
                action = ((constraint.ondelete if what == "delete" else constraint.onupdate) or "").upper()
                if not action.startswith(_ACTIONS):
                    continue
                # By name: the table that a foreign key refers to may not be defined yet.
                targets = [key.target_fullname.rpartition(".") for key in constraint.elements]
                if any(
                    table == parent.fullname and (columns is None or column in columns) for table, _, column in targets
                ):
                    found.add(TableName(child.schema, child.name))
                    if what == "delete" and action == "CASCADE":
                        open_.append((child, "delete", None))
                    else:
                        open_.append((child, "update", frozenset(column.name for column in constraint.columns)))
    return found
