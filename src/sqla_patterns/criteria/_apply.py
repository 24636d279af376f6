"""Apply a rule to a statement: by an option where SQLAlchemy's criteria have an effect, else by a copy, or refuse it.

`_rules` says what a rule is. What to do with a statement is decided by `_probe`, once for all statements with the same
cache key, and remembered with the dialect of the engine. What is remembered contains no values, so that it serves
statements with other values or another tenant too.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Delete, Dialect, Executable, Table, TextClause, Update, true
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import TextualSelect

from .._session import SeveralDatabases
from .._sql import STRUCTURAL_PART
from ._comparators import IS_NEEDED, carry_criteria
from ._errors import UnfilteredStatementError
from ._private import (
    AnyElement,
    cache_key_of,
    dml_strategy,
    is_orm,
    iterate,
    options_of,
    original_of,
    private,
    table_of,
    with_options,
)
from ._probe import Finding, Report, is_orm_part, probe
from ._rewrite import Edit, edits_of, rewritten
from ._rules import FixedRule, Rule, RuleOption

#: On the dialect of an engine: plans by rule and cache key.
_PLANS: Final = "_sqla_patterns_criteria"
_SIZE: Final = 2000


@dataclass(frozen=True)
class Plan:
    """What is done to statements of one structure.

    Attributes:
        report: What the compilation has shown, after `edits`.
        edits: Criteria to add.
        group: Whether texts are put in parentheses.
        fault: Why statements like this one are refused.
    """

    report: Report
    edits: tuple[Edit, ...] = ()
    group: bool = False
    fault: str | None = None


def apply_rule(state: ORMExecuteState, rule: FixedRule, *, generation: int = 0) -> None:
    """Give the statement of `state` the criteria of a rule without a value.

    Raises:
        UnfilteredStatementError: The statement cannot be filtered.
    """
    option = rule.option
    statement = optioned(state.statement, option)
    fault = _fault_of_table(state, rule)
    if fault is not None:
        raise UnfilteredStatementError(fault)
    plan = plan_of(state, statement, rule, generation=generation, completing=state.is_column_load)
    if plan.fault is not None:
        raise UnfilteredStatementError(plan.fault)
    if not isinstance(statement, ExecutableDDLElement):
        state.statement = carried_out(statement, rule, true(), plan)


def as_select(state: ORMExecuteState) -> bool:
    """Give a function that is executed by itself the SELECT that a connection would make of it below all criteria.

    Returns:
        Whether the statement is such a function, so that the listener has to execute it.
    """
    function: Any = state.statement
    if not isinstance(cast("object", function), FunctionElement):
        return False
    state.statement = function.select()
    return True


def _fault_of_table(state: ORMExecuteState, rule: Rule) -> str | None:
    """Return why an UPDATE or DELETE of a joined subclass cannot be filtered: its own table has no criterion."""
    if not isinstance(state.statement, (Update, Delete)):
        return None
    tracked = rule.tables().get(original_of(state.statement.table))
    if tracked is None or tracked.has_criterion or not is_orm(state.statement):
        return None
    name = tracked.mapper.class_.__name__
    return _text(rule, f"is about the own table of {name}, which has no column of the criterion; change the objects")


def optioned(statement: Executable, option: RuleOption) -> Executable:
    """Return the statement with the option of a rule, in the place of one that it has already."""
    before = options_of(statement)
    kept = (
        [each for each in before if not (isinstance(each, RuleOption) and each.rule is option.rule)]
        if before
        else before
    )
    return with_options(statement, (*kept, option))


def carries(statement: Executable, rule: Rule) -> bool:
    """Return whether the statement has the option of a rule."""
    return any(isinstance(each, RuleOption) and each.rule is rule for each in options_of(statement))


def carried_out(statement: Executable, rule: Rule, value: ColumnElement[Any], plan: Plan) -> Executable:
    """Return a statement that has the option, with what the plan adds."""
    if not plan.edits and not plan.group:
        return statement
    options = options_of(statement)
    bare = rewritten(with_options(statement, ()), rule, value, plan.edits, group=plan.group)
    return with_options(bare, options)


def plan_of(
    state: ORMExecuteState,
    statement: Executable,
    rule: Rule,
    *,
    generation: int = 0,
    extra: object = None,
    known: Callable[[], Collection[Table]] = tuple,
    completing: bool = False,
) -> Plan:
    """Return what to do with a statement that has the option of the rule.

    Args:
        state: The execution.
        statement: The statement, with the option.
        rule: The rule.
        generation: Changes when classes are mapped, so that what was said of their tables is looked at again.
        extra: What else the answer depends on.
        known: Returns tables that are no mistake although they have the name of a table of the rule.
        completing: Whether the statement completes a held object, whose row it may read although that is hidden.
    """
    dialect = _dialect_of(state)
    plans: OrderedDict[object, Plan] = vars(dialect).setdefault(_PLANS, OrderedDict[object, Plan]())
    columns = _parameter_keys(state)
    structure = cache_key_of(statement)
    strategy = None if state.is_select else dml_strategy(state)
    key = None if structure is None else (rule, structure, columns, generation, extra, strategy, completing)
    plan = None if key is None else plans.get(key)
    if plan is None:
        if strategy is not None:
            # SQLAlchemy says so in the statement itself, but after the listeners. One for many sets of parameters is
            # compiled for one table at a time; what is of interest is the whole.
            how = "orm" if strategy == "bulk" else strategy
            statement = private(statement)._annotate({"dml_strategy": how})
        plan = _make_plan(statement, rule, dialect, columns, known(), completing)
        # What is refused is looked at again: the key of a statement does not tell the library's parts from the user's.
        if key is not None and plan.fault is None:
            plans[key] = plan
            while len(plans) > _SIZE:
                try:
                    plans.popitem(last=False)
                except KeyError:  # another thread was faster
                    break
    return plan


def _parameter_keys(state: ORMExecuteState) -> tuple[str, ...] | None:
    if not (state.is_insert or state.is_update) or not state.parameters:
        return None
    first: Any = state.parameters if isinstance(state.parameters, dict) else cast("Any", state.parameters)[0]
    return tuple(sorted(map(str, first)))


def _dialect_of(state: ORMExecuteState) -> Dialect:
    if isinstance(state.session, SeveralDatabases):
        return state.session.statement_dialect  # which of them it will be may depend on the criteria
    try:
        bind = state.session.get_bind(**state.bind_arguments)
    except Exception:  # noqa: BLE001 - a sharded session may not know yet which of its databases it will be
        fallback: Dialect = state.session.info.setdefault(_PLANS, DefaultDialect())
        return fallback
    if _takes_bind(state.session):
        # A session may choose another bind each time that it is asked, such as the next one of several replicas. It has
        # been asked for this statement now; SQLAlchemy, and other listeners, take the answer from here.
        state.bind_arguments["bind"] = bind
    return bind.dialect


def _takes_bind(session: Session) -> bool:
    """Return whether `session` chooses binds by a method of its own that takes a bind that is chosen already.

    The example in SQLAlchemy's manual has the parameters ``mapper`` and ``clause`` only.
    """
    if type(session).get_bind is Session.get_bind:
        return False
    parameters = inspect.signature(session.get_bind).parameters
    return "bind" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _make_plan(
    statement: Executable,
    rule: Rule,
    dialect: Dialect,
    columns: tuple[str, ...] | None,
    known: Collection[Table],
    completing: bool,
) -> Plan:
    value = cast(
        "ColumnElement[Any]",
        next(
            private(each).where_criteria
            for each in options_of(statement)
            if isinstance(each, RuleOption) and each.rule is rule
        ),
    )
    # What does not compile here does not compile for SQLAlchemy either, which says so in its own words.
    report = probe(statement, rule, dialect, columns=columns, known=known)
    fault = _fault_of_texts(statement, report, rule)
    if fault is not None or not report.touched:
        return Plan(report, fault=fault)
    findings = [each for each in report.findings if _is_wanted(statement, each, rule, completing)]
    if not findings and not report.ungrouped:
        return Plan(report)
    if findings and IS_NEEDED:
        carry_criteria(rule)  # for statements that are built from now on
    edits = edits_of(statement, findings)
    refused = _refused(statement, findings, edits, rule)
    if refused is not None:
        return Plan(report, fault=refused)
    plan = Plan(report, edits or (), report.ungrouped)
    again = probe(carried_out(statement, rule, value, plan), rule, dialect, columns=columns, known=known)
    left = [each for each in again.findings if _is_wanted(statement, each, rule, completing)]
    if left or again.ungrouped:
        what = f"rows of {_name_of(left[0])}" if left else "a text beside its criteria"
        return replace(plan, fault=_text(rule, f"cannot be filtered: {what} would get around the criteria"))
    return replace(plan, report=again)


def _is_wanted(statement: Executable, finding: Finding, rule: Rule, completing: bool) -> bool:
    """Return whether the rule applies to a table: always, or, if Core is left alone, where entities are named too.

    What another package walks through to answer a question, such as the ancestors of a node, are all rows of a
    structure, hidden ones too. A structure lies within one tenant.
    """
    if _is_structural(finding) and not rule.strict:
        return False
    whole = getattr(statement, "element", statement)
    if completing and original_of(finding.statement) in (original_of(statement), original_of(whole)):
        return False
    return rule.strict or is_orm(statement) or _names_entity(statement) or _names_entity(finding.statement)


def _names_entity(statement: AnyElement) -> bool:
    return statement is not None and any("parententity" in each._annotations for each in iterate(statement))


def _is_structural(finding: Finding) -> bool:
    """Return whether the library has written the part of the statement that reads a table, as predicates of trees."""
    part = finding.statement
    return isinstance(part, Executable) and bool(part.get_execution_options().get(STRUCTURAL_PART))


def _refused(statement: Executable, findings: list[Finding], edits: tuple[Edit, ...] | None, rule: Rule) -> str | None:
    for finding in findings:
        name = _name_of(finding)
        written = finding.statement is not None and is_orm_part(finding.statement, finding.from_)
        if rule.strict and not written and not _is_structural(finding):
            return _text(rule, f"reads the table {name} by Core; name the mapped class or an alias of it")
        if not finding.tracked.has_criterion:
            return _text(rule, f"reads the table {name} without the table above it; name the mapped class")
        if finding.nullable:
            return _text(
                rule, f"may lack rows of {name} in an outer join that the criteria do not reach; join the class"
            )
    if edits is None:
        return _text(rule, f"reads rows of {_name_of(findings[0])} in a place that criteria do not reach")
    return None


def _fault_of_texts(statement: AnyElement, report: Report, rule: Rule) -> str | None:
    if report.touched and report.open_text is not None:
        return _text(rule, f"has the text {report.open_text!r}, which parentheses would not enclose")
    element = getattr(statement, "element", None)
    if statement.__visit_name__ == "orm_from_statement" and isinstance(element, (TextClause, TextualSelect)):
        entities = [each._annotations.get("parententity") for each in statement._raw_columns]
        if any(each is not None and issubclass(each.mapper.class_, rule.mixin) for each in entities):
            return _text(rule, "loads objects from a text, of which nobody knows the rows")
    return None


def _name_of(finding: Finding) -> str:
    table = table_of(finding.from_)
    return repr(str(getattr(finding.from_ if table is None else table, "name", finding.from_)))


def _text(rule: Rule, fault: str) -> str:
    return f"The statement {fault}; or use the execution option {rule.name}=True, which switches the criteria off"
