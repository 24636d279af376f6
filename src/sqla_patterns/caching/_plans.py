"""What there is to know of a compiled statement, found out once for each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from . import _replay
from ._dependencies import Dependencies, dependencies
from ._errors import UncacheableStatementError

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

    from ._options import FromCache
    from ._replay import Prepared

__all__ = ("Plan", "Plans")

_LOCKS: Final = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b", re.IGNORECASE
)
#: Called for what they do, not for what they return.
_ACTS: Final = re.compile(
    r"\b(?:nextval|setval|lastval|currval|pg_(?:try_)?advisory\w*|get_lock|release_lock|(?:pg_)?sleep|set_config)\s*\("
    r"|\bNEXT\s+VALUE\s+FOR\b|\bNEXTVAL\b",
    re.IGNORECASE,
)
#: Another answer each time, without any write.
_VOLATILE: Final = re.compile(
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|sysdate|curdate|curtime|unix_timestamp"
    r"|utc_(?:timestamp|date|time)|random|rand|randomblob|uuid|uuid_generate_v\w+|gen_random_uuid|uuidv[47])\s*\("
    r"|\b(?:CURRENT_TIMESTAMP|CURRENT_DATE|CURRENT_TIME|LOCALTIME|LOCALTIMESTAMP)\b",
    re.IGNORECASE,
)
_SQLITE_CLOCK: Final = re.compile(r"\b(?:date|time|datetime|julianday|unixepoch|strftime)\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled statement as the cache sees it."""

    sql: str
    depends: Dependencies
    #: Why the statement always goes to the database.
    reason: str | None
    volatile: bool
    #: The statement's own tag by the form of its values; to find it takes another compilation.
    own_tags: dict[bytes, str | None] = field(default_factory=dict[bytes, "str | None"])

    def bypass(self, option: FromCache, values: Iterable[Any]) -> str | None:
        """Why the statement goes to the database under this option; None if it need not."""
        if self.reason is not None:
            return self.reason
        # With a time to live the user has said for how long an old answer will do.
        if option.expiration_time is None and (self.volatile or self._reads_clock(values)):
            return "volatile"
        return None

    def _reads_clock(self, values: Iterable[Any]) -> bool:
        if not _SQLITE_CLOCK.search(self.sql):
            return False
        return any(isinstance(value, str) and value.strip().lower() == "now" for value in values)


class Plans:
    """Plans of the statements that an engine has compiled; they go when the engine forgets those."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[SQLCompiler, Plan] = WeakKeyDictionary()

    def of(self, prepared: Prepared) -> Plan:
        """The plan of a statement."""
        plan = self._known.get(prepared.compiled)
        if plan is None:
            plan = self._known[prepared.compiled] = _new_plan(prepared)
        return plan

    def __len__(self) -> int:
        return len(self._known)


def _new_plan(prepared: Prepared) -> Plan:
    sql = str(prepared.compiled.string)
    depends = dependencies(prepared.statement, prepared.dialect)
    reason: str | None = None
    if depends.writes or _replay.writes_rows(prepared.statement):
        reason = "writes"
    elif _replay.locks_rows(prepared.statement) or _LOCKS.search(sql):
        reason = "locks"
    elif _ACTS.search(sql):
        reason = "acts"
    return Plan(sql, depends, reason, _VOLATILE.search(sql) is not None)


def require_tables(plan: Plan, option: FromCache) -> None:
    """Refuse a statement of which nobody can tell what it reads.

    Raises:
        UncacheableStatementError: the statement hides its tables, and the option names none.
    """
    if plan.depends.opaque is not None and not option.tags:
        raise UncacheableStatementError(
            f"Cannot cache {plan.sql[:200]!r}: {plan.depends.opaque}. Name the tables in the option, as in "
            f"{type(option).__name__}(..., tags=(Person, address_table)), or remove the option."
        )
