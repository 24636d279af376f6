"""Decide whether a rule is not applied to a statement: by its options, or because of what it loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import BindParameter, Insert
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql.elements import ClauseElement

from .._sql import STRUCTURAL
from ._apply import carries
from ._private import is_orm, options_of, with_options
from ._rules import Bypass, Rule, RuleOption


def bypassed(state: ORMExecuteState, rule: Rule) -> bool:
    """Return whether a statement is not to be filtered, and see to it that what it loads may load freely, too."""
    if state.execution_options.get(STRUCTURAL):
        return True
    if state.execution_options.get(rule.name):
        lift(state, rule)
        if state.is_select and is_orm(state.statement):
            state.statement = state.statement.options(Bypass(rule.name))
        return True
    return (state.is_relationship_load or state.is_column_load) and any(
        isinstance(each, Bypass) and each.name == rule.name for each in state.user_defined_options
    )


def only_inserts_values(state: ORMExecuteState) -> bool:
    """Return whether a statement is an INSERT that reads nothing: of values, without anything that may be a SELECT."""
    if not isinstance(state.statement, Insert):
        return False  # also what `from_statement()` takes objects from
    statement: Any = state.statement
    return not (
        statement.select is not None
        or statement._returning
        or statement._post_values_clause is not None
        or statement._independent_ctes
        or any(isinstance(each, ClauseElement) and not isinstance(each, BindParameter) for each in _values(statement))
    )


def _values(statement: Any) -> Iterator[object]:
    yield from (statement._values or {}).values()
    for rows in statement._multi_values:
        for row in rows:
            yield from row.values() if isinstance(row, Mapping) else row


def lift(state: ORMExecuteState, rule: Rule) -> None:
    """Take the criteria off a statement that has them from the object for which it loads."""
    if carries(state.statement, rule):
        kept = [
            each for each in options_of(state.statement) if not (isinstance(each, RuleOption) and each.rule is rule)
        ]
        state.statement = with_options(state.statement, kept)
