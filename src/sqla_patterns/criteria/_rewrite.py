"""Copy a statement with criteria added where SQLAlchemy's have no effect, and with parentheses around texts.

Without parentheses, a text such as ``"a = 1 OR b = 1"`` would show rows to which the criteria are not applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, FromClause, Select, Table, Update
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Delete
from sqlalchemy.sql.elements import BooleanClauseList, ClauseElement, Grouping
from sqlalchemy.sql.operators import and_

from ._private import AnyElement, adapted, from_key, iterate, original_of, private
from ._probe import Finding, is_enclosed
from ._rules import Guarded, Rule, Tracked


@dataclass(frozen=True)
class Edit:
    """A criterion to add, said in a way that holds for every statement of the same structure.

    Attributes:
        statement: Which SELECT, UPDATE or DELETE of the statement, by its number.
        table: The table in its FROM, or
        alias: the number of the alias.
        tracked: How rows of the table are hidden.
    """

    statement: int
    table: Table | None
    alias: int
    tracked: Tracked


def edits_of(statement: AnyElement, findings: Sequence[Finding]) -> tuple[Edit, ...] | None:
    """Return what is to be added for `findings`, or None if one of them is not part of the statement as it was
    written.
    """
    places = _Places(statement)
    edits: list[Edit] = []
    for finding in findings:
        number = places.statements.get(id(original_of(finding.statement)))
        from_ = original_of(finding.from_)
        if number is None:
            return None
        if isinstance(from_, Table):
            edits.append(Edit(number, cast("Any", from_), -1, finding.tracked))
        elif from_key(from_) in places.aliases:
            edits.append(Edit(number, None, places.aliases[from_key(from_)], finding.tracked))
        else:
            return None
    return tuple(edits)


def rewritten(
    statement: AnyElement, rule: Rule, value: ColumnElement[Any], edits: Sequence[Edit], *, group: bool
) -> AnyElement:
    """Return a copy of a statement with criteria added, and with texts in parentheses.

    Args:
        statement: The statement, without options.
        rule: The rule.
        value: The bound value of the criteria.
        edits: What to add.
        group: Whether to put what is ANDed, and is not whole by itself, in parentheses.
    """
    places = _Places(statement)
    wanted: dict[int, list[ColumnElement[bool]]] = {}
    for edit in edits:
        original = places.statement_numbers[edit.statement]
        from_ = edit.table if edit.table is not None else places.alias_numbers[edit.alias]
        criterion = Guarded(adapted(rule.expression(edit.tracked.mapper.class_, value), from_), rule)
        wanted.setdefault(id(original), []).append(criterion)

    def conditions(copy: AnyElement) -> None:
        clauses = tuple(map(_grouped, copy._where_criteria)) if group else copy._where_criteria
        copy._where_criteria = clauses + tuple(wanted.get(id(original_of(copy)), ()))
        if group and getattr(copy, "_setup_joins", None):
            copy._setup_joins = tuple((target, _grouped(on), *rest) for target, on, *rest in copy._setup_joins)

    def join(copy: AnyElement) -> None:
        copy.onclause = _grouped(copy.onclause)

    visits: dict[str, Callable[[AnyElement], None]] = {"select": conditions, "update": conditions, "delete": conditions}
    if group:
        visits |= {"join": join, "clauselist": _group_list, "expression_clauselist": _group_list}
    return visitors.cloned_traverse(statement, _OPTIONS, cast("Mapping[str, Any]", visits))


_OPTIONS: Final[Mapping[str, Any]] = {}


def _group_list(copy: AnyElement) -> None:
    if isinstance(copy, BooleanClauseList) and private(copy).operator is and_:
        private(copy).clauses = [_grouped(each) for each in private(copy).clauses]


def _grouped(clause: AnyElement) -> AnyElement:
    if not hasattr(clause, "_annotations") or not isinstance(cast("object", clause), ClauseElement):
        return clause
    if getattr(clause, "operator", None) is and_:
        return clause  # its members are visited by themselves
    if "parententity" in clause._annotations and not hasattr(clause, "type"):
        return clause  # a relationship as the ON of a join
    return clause if is_enclosed(clause) else cast("Any", Grouping)(clause)


class _Places:
    """The statements and aliases of a statement, in an order that all statements of the same structure share."""

    def __init__(self, statement: AnyElement) -> None:
        self.statements: Final[dict[int, int]] = {}
        self.statement_numbers: Final[list[AnyElement]] = []
        self.aliases: Final[dict[int, int]] = {}
        self.alias_numbers: Final[list[FromClause]] = []
        for element in iterate(statement):
            if isinstance(cast("object", element), (Select, Update, Delete)):
                original = original_of(element)
                if id(original) not in self.statements:
                    self.statements[id(original)] = len(self.statement_numbers)
                    self.statement_numbers.append(original)
            for from_ in (element, getattr(element, "table", None)):
                if _is_alias(from_) and from_key(from_) not in self.aliases:
                    self.aliases[from_key(from_)] = len(self.alias_numbers)
                    self.alias_numbers.append(original_of(from_))


def _is_alias(from_: object) -> bool:
    return isinstance(from_, FromClause) and not isinstance(from_, Table)
