"""SQL expressions that are assigned to attributes: a flush writes what they return, below all listeners of statements.

``shop.best = select(func.max(Post.score)).scalar_subquery()`` is a statement of the ORM like any other, and the only
one that no event tells of before it is executed. It is refused where it reads rows that a rule hides; what it returns
is one query away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import insert, inspect, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.collections import InstrumentedList
from sqlalchemy.sql.elements import ClauseElement

from .._typing import AnyState, MappedObject
from ._private import AnyElement, original_of
from ._probe import Report, probe
from ._rules import Rule

#: What attributes usually hold: it is asked for by a test of membership.
_PLAIN: Final = frozenset({int, str, float, bool, bytes, type(None), InstrumentedList})


def check_flushed_values(session: Session, rule: Rule, error: Callable[[str], Exception]) -> None:
    """Refuse objects in a flush that have an SQL expression as a value which reads rows of a rule.

    Args:
        session: The session that is about to flush.
        rule: The rule.
        error: The class of the error.
    """
    for objects in (session.new, session.dirty):
        for obj in objects:
            state: AnyState = inspect(obj)
            for key, value in state.dict.items():
                if type(value) not in _PLAIN and _is_expression(value):
                    _check(session, obj, key, value, rule, error)


def _is_expression(value: object) -> bool:
    return isinstance(value, ClauseElement) or (
        hasattr(type(value), "__clause_element__") or "__clause_element__" in getattr(value, "__dict__", ())
    )


def _check(
    session: Session, obj: MappedObject, key: str, value: AnyElement, rule: Rule, error: Callable[[str], Exception]
) -> None:
    state: AnyState = inspect(obj)
    attribute = state.mapper.column_attrs.get(key)
    if attribute is None:
        return
    column: Any = attribute.columns[0]
    make: Any = insert if state.key is None else update
    statement = make(column.table).values({column: value})
    dialect = session.get_bind(state.mapper).dialect
    name = _read(statement, probe(statement, rule, dialect, columns=()), rule)
    if name is not None:
        raise error(
            f"{type(obj).__name__}.{key} has an SQL expression as its value that reads {name!r}, whose rows "
            f"{rule.name!r} is about, and a flush writes it without criteria; read the value by a statement before, "
            "or execute update()"
        )


def _read(statement: AnyElement, report: Report, rule: Rule) -> str | None:
    # The table that is written is no row that is read; its own criterion is a matter of the flush.
    for finding in report.findings:
        if original_of(finding.statement) is not original_of(statement):
            table = finding.from_
            return str(getattr(table, "name", table))
    return report.named
