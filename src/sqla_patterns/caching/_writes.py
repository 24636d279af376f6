"""Find the tables that a statement writes.

It looks at every statement just before the cursor executes it: what a flush emits, ORM and Core DML, rows of secondary
tables, DML in common table expressions. To the tables in the statement are added those that the database itself changes
because of foreign keys (``ON DELETE CASCADE`` and the like), as far as metadata shows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, cast
from weakref import WeakKeyDictionary

from sqlalchemy import CTE, ClauseElement, Delete, FromClause, Insert, MetaData, Table, TextClause, Update, exc
from sqlalchemy.engine.interfaces import ExecutionContext
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import Compiled
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import TextualSelect

from .._sqlalchemy._names import POST_VALUES_CLAUSE, PREFIXES
from ..exceptions import PatternError
from ._dependencies import dependencies
from ._side_tasks import LOGGER
from ._tags import TableName, real_tables, tables_in, tables_of

RawDML: TypeAlias = Literal["flush_all", "raise", "ignore"]

#: The execution option that says what a statement writes.
TOUCHES_OPTION: Final = "cache_touches"


class RawWriteError(PatternError, exc.InvalidRequestError):
    """A statement in plain text writes, and does not say to which tables."""


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
    """What one statement changes.

    Attributes:
        tables: The tables.
        everything: Whether it may change any table.
        raw: What a statement in plain text does; None for others.
    """

    tables: frozenset[TableName] = frozenset()
    everything: bool = False
    raw: Raw | None = None

    def __bool__(self) -> bool:
        return self.everything or bool(self.tables)


_NOTHING: Final = Writes()
_ALL: Final = Writes(everything=True)
_DDL: Final = Writes(everything=True, raw=Raw.DDL)

# -- plain text ----------------------------------------------------------------------------------

# One expression for literals and comments: a literal may contain "--" and a comment a quote, whichever begins first.
_NOISE: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL)
_HEAD: Final = re.compile(r"[\s(;]*([a-z]+)", re.IGNORECASE)
_WRITING: Final = re.compile(
    r"\b(insert|update|delete|merge|replace|truncate|create|alter|drop|rename|call|copy|do|exec|execute|refresh|load)"
    r"\b",
    re.IGNORECASE,
)
_FOR_UPDATE: Final = re.compile(r"\bfor\s+(no\s+key\s+)?update\b", re.IGNORECASE)
_ISOLATION: Final = re.compile(r"\b(isolation|transaction_isolation|tx_isolation|read_uncommitted)\b", re.IGNORECASE)
_PREPARED: Final = re.compile(r"\s*((commit|rollback)\s+prepared|xa\s+(commit|rollback))\b", re.IGNORECASE)
_XID: Final = re.compile(r"'([^']*)'")
_READS: Final = frozenset(
    {"select", "with", "values", "table", "show", "describe", "desc", "explain", "pragma", "set", "reset", "use",
     "begin", "start", "savepoint", "release", "rollback", "abort", "declare", "fetch", "move", "close", "listen",
     "unlisten", "notify", "lock", "unlock", "discard", "analyze", "kill",
     "prepare", "deallocate", "xa"}
)  # fmt: skip
#: Statements that on MariaDB commit a transaction before they begin something else.
_MAY_COMMIT: Final = frozenset({"begin", "start", "lock", "unlock"})
_AUTOCOMMIT: Final = re.compile(r"\bautocommit\b", re.IGNORECASE)
_MAY_WRITE_INSIDE: Final = frozenset({"with", "explain"})
_DDL_WORDS: Final = frozenset(
    {"create", "alter", "drop", "truncate", "rename", "reindex", "vacuum", "grant", "revoke", "comment"}
)


@lru_cache(maxsize=512)
def raw_kind(sql: str) -> Raw:
    """Return what a statement in plain text does, judged by its words; in doubt it writes."""
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
    # SELECT ... INTO makes a table on PostgreSQL and sets a variable on MariaDB: no table that was read before.
    return Raw.ISOLATION if _ISOLATION.search(bare) and head != "select" else Raw.READ


def prepared_xid(sql: str, parameters: object) -> str | None:
    """Return the name of the prepared transaction that a statement in plain text ends."""
    if match := _XID.search(sql):
        return match[1]
    values = list(cast("Mapping[str, object]", parameters).values()) if isinstance(parameters, Mapping) else parameters
    return str(cast("list[object]", values)[0]) if isinstance(values, (list, tuple)) and values else None


# -- compiled statements -------------------------------------------------------------------------


class WriteCollector:
    """The writes of statements; the answer is kept for each compiled statement as long as SQLAlchemy keeps that."""

    def __init__(self, raw_dml: RawDML) -> None:
        self._raw_dml: Final = raw_dml
        # The number of tables tells whether the metadata have grown foreign keys since.
        self._known: WeakKeyDictionary[Compiled, tuple[tuple[tuple[MetaData, int], ...], Writes]] = WeakKeyDictionary()

    def writes(self, context: ExecutionContext, sql: str) -> Writes:
        """Return what the statement of `context` writes.

        Raises:
            RawWriteError: It is plain text, and the policy is to refuse it.
        """
        compiled: Compiled | None = getattr(context, "compiled", None)
        if compiled is None:
            found = Writes(raw=raw_kind(sql))
        else:
            known = self._known.get(compiled)
            if known is None or any(len(metadata.tables) != size for metadata, size in known[0]):
                seen: dict[MetaData, int] = {}
                try:
                    found = _of_compiled(compiled, sql, seen)
                except Exception:  # noqa: BLE001 - a construct of the user's may raise anything
                    # A failure here must not prevent the statement; what it writes is then unknown.
                    LOGGER.exception(
                        "The cache cannot tell what this statement writes, and invalidates everything: %s", sql[:500]
                    )
                    found = _ALL
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
    statement = compiled.statement
    final: ClauseElement | None = getattr(getattr(compiled, "compile_state", None), "statement", None)
    if isinstance(statement, ExecutableDDLElement):
        return _DDL
    ctes: Mapping[CTE, str] = getattr(compiled, "ctes", None) or {}
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
    target: FromClause = cast(Any, statement).table
    kinds: tuple[str, ...]
    if isinstance(statement, Insert):
        # ON CONFLICT and ON DUPLICATE KEY come after the values, OR REPLACE is a prefix.
        extra: object = POST_VALUES_CLAUSE.get(statement) is not None or PREFIXES.get(statement, ())
        kinds = ("update", "delete") if extra else ()
    elif isinstance(statement, Delete):
        kinds = ("delete",)
    else:
        kinds = ("update",)
    tables = set(tables_in(target))
    real = set(real_tables(target))
    state: object = getattr(compiled, "dml_compile_state", None) or getattr(compiled, "compile_state", None)
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
    listed = cast("Iterable[object]", things) if isinstance(things, (list, tuple, set, frozenset)) else (things,)
    return frozenset(name for thing in listed for name in tables_of(thing))


# -- foreign keys --------------------------------------------------------------------------------

_ACTIONS: Final = ("CASCADE", "SET NULL", "SET DEFAULT")


def _cascades(tables: Iterable[Table], kind: str) -> set[TableName]:
    """Return the tables that the database changes when rows of `tables` are deleted or updated."""
    found: set[TableName] = set()
    done: set[tuple[Table, str, frozenset[str] | None]] = set()
    # The last item is the columns that an update may change; None is any.
    pending: list[tuple[Table, str, frozenset[str] | None]] = [(table, kind, None) for table in tables]
    while pending:
        parent, what, columns = step = pending.pop()
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
                        pending.append((child, "delete", None))
                    else:
                        pending.append((child, "update", frozenset(column.name for column in constraint.columns)))
    return found
