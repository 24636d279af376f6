"""`CompiledPlan`: what the cache knows of a compiled statement, such as its tables, and why it may not be cached."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

from sqlalchemy.types import NullType

from . import _replay
from ._dependencies import Dependencies, dependencies, is_time
from ._errors import UncacheableStatementError
from ._volatility import Volatility, converts_to_times, is_clock_word, is_time_zone_word, means_now, volatility_of

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

    from ._options import FromCache
    from ._replay import Prepared

_LOCKS: Final = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b", re.IGNORECASE
)
_NOISE: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`")


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """What the cache knows of a compiled statement.

    Attributes:
        sql: Its SQL.
        depends: What it reads.
        reason: Why it always goes to the database; None if it need not.
        volatility: What its answer depends on beside tables and parameters.
        times: Parameters that the database may take for the present time, if they are words like "now".
        statement_tags: The tag of the statement, by the encoded values of its parameters. To find it takes another
            compilation.
    """

    sql: str
    depends: Dependencies
    reason: str | None
    volatility: Volatility
    times: frozenset[str]
    statement_tags: dict[bytes, str | None] = field(default_factory=dict[bytes, "str | None"])

    def bypass_reason(self, option: FromCache, values: Mapping[str, object]) -> str | None:
        """Return why the statement goes to the database under this option; None if it need not."""
        if self.reason is not None:
            return self.reason
        if option.vary is not None:
            # The user has said what the answer depends on.
            return None
        if self.volatility.session or self._shows_time_zone(values):
            return "session"
        # With a time to live the user has said for how long an old answer will do.
        if option.expiration_time is None and (self.volatility.volatile or self._shows_time(values)):
            return "volatile"
        return None

    def _shows_time(self, values: Mapping[str, object]) -> bool:
        if any(means_now(value) for value in _strings(values.get(name) for name in self.times)):
            return True
        return self.volatility.has_clock and any(map(is_clock_word, _strings(values.values())))

    def _shows_time_zone(self, values: Mapping[str, object]) -> bool:
        return self.volatility.has_clock and any(map(is_time_zone_word, _strings(values.values())))


def _strings(values: Iterable[object]) -> Iterator[str]:
    """Yield the strings among values, and in lists among them."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _strings(cast("Iterable[object]", value))


class CompiledPlans:
    """The plans of the statements that engines have compiled; a plan is dropped when its compiled statement is."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[SQLCompiler, CompiledPlan] = WeakKeyDictionary()

    def plan_of(self, prepared: Prepared) -> CompiledPlan:
        """Return the plan of a statement."""
        plan = self._known.get(prepared.compiled)
        if plan is None:
            plan = self._known[prepared.compiled] = _new_plan(prepared)
        return plan

    def __len__(self) -> int:
        return len(self._known)


def _new_plan(prepared: Prepared) -> CompiledPlan:
    sql = str(prepared.compiled.string)
    depends = dependencies(prepared.statement, prepared.dialect)
    reason: str | None = None
    if depends.writes or _replay.writes_rows(prepared.statement):
        reason = "writes"
    elif _replay.locks_rows(prepared.statement) or _LOCKS.search(_NOISE.sub(" ", sql)):
        reason = "locks"
    dialect = prepared.dialect.name
    volatility = volatility_of(sql, depends.functions, depends.texts, dialect, samples=depends.samples)
    if reason is None and volatility.acts:
        reason = "acts"
    times = _times(prepared, depends) if dialect == "postgresql" else frozenset[str]()
    return CompiledPlan(sql, depends, reason, volatility, times)


def _times(prepared: Prepared, depends: Dependencies) -> frozenset[str]:
    """Return the parameters that PostgreSQL may read as dates or times: by their type, or because of a cast."""
    any_of_them = depends.casts_to_time or bool(depends.texts) or converts_to_times(depends.functions)
    return frozenset(
        name
        for name, type_ in _replay.bound_types(prepared.compiled)
        if any_of_them or is_time(type_) or isinstance(type_, NullType)
    )


def require_tables(plan: CompiledPlan, option: FromCache) -> None:
    """Refuse a statement if it is unknown which tables it reads.

    Raises:
        UncacheableStatementError: The statement hides its tables, and the option names none.
    """
    if plan.depends.opaque is not None and not option.tags:
        raise UncacheableStatementError(
            f"Cannot cache {plan.sql[:200]!r}: {plan.depends.opaque}. Name the tables in the option, as in "
            f"{type(option).__name__}(..., tags=(Person, address_table)), or remove the option."
        )
