"""Which shards a statement reads from, as a plan that holds for all statements of its form.

An ORM statement is compiled once, without its eager loads, so that relationships, aliases, subclasses and criteria have
become joins and conditions. Each table in a FROM is a *source*. Sources whose rows are on one shard for sure, since one
refers to the other by a foreign key or their shard keys are compared, are a *group*. Conditions leave shards to a
group. A statement can be answered shard by shard if there is one group, or if all of its groups are left with the same
single shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import (
    ColumnElement,
    Delete,
    FromClause,
    Update,
)
from sqlalchemy.sql import operators

from .._sqlalchemy import (
    correlates_with,
    has_independent_ctes,
    names_of_bind,
    parts_of,
    stands_for,
)
from ._conditions import All, And, Between, Equals, KeyOf, Node, Nothing, OneOf, Or, RuleKey
from ._errors import CrossShardJoinError, ShardingError, UnmergeableScatterError
from ._expressions import bare, conjuncts, core_column, core_of, is_plain, visible
from ._kinds import (
    ALIAS,
    BINARY,
    BIND,
    BOOLEAN,
    COMPOUND,
    FALSE,
    GROUPING,
    JOIN,
    OVER,
    ROWS,
    SCALAR_SELECT,
    SELECT,
    SELECT_BASE,
    STACKED,
    SUBQUERY,
    TABLE,
    UNARY,
)
from ._plans import Fault, Group, ReadPlan
from ._routing import Routing

_RANGES: Final[Mapping[Any, tuple[bool, bool]]] = {
    # operator: whether a value is a lower, and an upper bound
    operators.lt: (False, True),
    operators.le: (False, True),
    operators.gt: (True, False),
    operators.ge: (True, False),
}
_MIRRORED: Final[Mapping[Any, Any]] = {
    operators.lt: operators.gt,
    operators.le: operators.ge,
    operators.gt: operators.lt,
    operators.ge: operators.le,
    operators.eq: operators.eq,
}


def analyse(statement: Any, routing: Routing, places: Mapping[str, int]) -> ReadPlan:
    """Return the plan of a SELECT, UPDATE or DELETE.

    Args:
        statement: A statement of the form.
        routing: The rules.
        places: The position of each bound parameter in the cache key, by its name.
    """
    scope = _Scope(routing, places)
    scope.enter()
    if isinstance(statement, (Update, Delete)):
        scope.add_source(statement.table)
        conditions = list(conjuncts(statement.whereclause))
        # What else is named in conditions becomes UPDATE ... FROM, or DELETE ... USING.
        named = {table for part in conditions for each in visible(part) for table in _tables_of(each)}
        for table in named - {statement.table}:
            scope.add_from(table)
        scope.add_conditions(conditions, prunes=True)
        scope.look_into(conditions)
    elif isinstance(statement, COMPOUND):
        scope.refuse(UnmergeableScatterError, "UNION and the like")
        for arm in statement.selects:
            scope.add_select(arm, nested=True)
    elif isinstance(statement, SELECT_BASE):
        scope.add_select(statement, nested=False)
    return scope.plan()


@dataclass
class _Source:
    """A table in a FROM.

    Attributes:
        from_: The table or its alias.
        table: The table.
        within: The subqueries in FROM around it.
        group: The number of its group.
        is_closed: Whether one of them gives other rows for all rows than for each shard's.
        is_nested: Whether it is in a subquery of an expression, whose conditions leave rows of the statement.
    """

    from_: FromClause
    table: FromClause
    within: tuple[FromClause, ...]
    group: int
    is_closed: bool
    is_nested: bool


@dataclass
class _Level:
    """A statement that is being looked at.

    Attributes:
        within: The subqueries in FROM around it.
        sources: The positions of its sources, those of its subqueries in FROM included.
        froms: The tables that it names.
    """

    within: tuple[FromClause, ...]
    sources: list[int]
    froms: list[FromClause]


class _Scope:
    """The sources of a statement and of all that is nested in it, as they are found."""

    def __init__(self, routing: Routing, places: Mapping[str, int]) -> None:
        self._routing = routing
        self._dialect = routing.dialect
        self._places = places
        self._keys = routing.key_columns
        self._sources: list[_Source] = []
        self._within: tuple[FromClause, ...] = ()
        self._closed = False
        self._nested = False
        #: For each statement that is being looked at, from the outermost to the innermost, its sources.
        self._scopes: list[_Level] = []
        self._groups: list[int] = []  # of each number, the one that it was united with
        self._nodes: list[tuple[int, Node]] = []  # with the position of a source
        self._fault: Fault | None = None
        self._seen: set[object] = set()

    def plan(self) -> ReadPlan:
        groups: dict[int, list[int]] = {}
        for place, source in enumerate(self._sources):
            groups.setdefault(self._root(source.group), []).append(place)
        found: list[Group] = []
        for places in groups.values():
            # What a subquery is left with says nothing about the rows of the statement around it.
            outer = [place for place in places if not self._sources[place].is_nested] or places
            nodes = tuple(node for place, node in self._nodes if place in outer)
            names = tuple(dict.fromkeys(str(getattr(self._sources[each].table, "name", "?")) for each in places))
            condition: Node = nodes[0] if len(nodes) == 1 else And(nodes) if nodes else All()
            is_apart = all(self._sources[each].is_closed or self._sources[each].is_nested for each in places)
            found.append(Group(condition, names, is_apart))
        if len(found) == 1 and all(source.is_nested for source in self._sources):
            self.refuse(
                CrossShardJoinError, f"A subquery on {found[0].names[0]!r} in a statement on what each shard has"
            )
        return ReadPlan(tuple(found), self._fault)

    def refuse(self, error: type[ShardingError], what: str) -> None:
        if self._fault is None:
            self._fault = Fault(
                error,
                f"{what} cannot be answered shard by shard; hold the statement to one shard by its shard key or "
                "pinned_to(), or use merge='concat' and put the rows together yourself",
            )

    # -- FROM ----------------------------------------------------------------------------------------------------------

    def add_select(self, select: Any, *, nested: bool) -> list[int]:
        """Take in a SELECT, and return the positions of its sources."""
        if not isinstance(select, SELECT):
            self.refuse(UnmergeableScatterError, "UNION and the like within a statement")
            return [place for each in getattr(select, "selects", ()) for place in self.add_select(each, nested=True)]
        if has_independent_ctes(select):
            self.refuse(UnmergeableScatterError, "A CTE that is added by add_cte()")
        core = core_of(select, self._dialect)
        if not isinstance(core, SELECT):
            self.refuse(UnmergeableScatterError, f"A statement of the kind {type(core).__name__}")
            return []
        around, self._nested = self._nested, self._nested or nested
        # A subquery in FROM sees nothing of the statement around it.
        visible = [from_ for level in self._scopes if level.within == self._within for from_ in level.froms]
        level = self.enter()
        conditions = list(conjuncts(core.whereclause))
        for from_ in core.get_final_froms():
            if from_ in visible:
                # The table of a statement around it, with which SQLAlchemy correlates.
                if correlates_with(select, from_):
                    continue
                self.refuse(CrossShardJoinError, f"A subquery that does not correlate {_name(from_)}")
            conditions += self.add_from(from_)
        self.add_conditions(conditions, prunes=True)
        parts = parts_of(core)
        self.look_into([*conditions, *parts.columns, *parts.having, *parts.order_by, *parts.group_by])
        self._scopes.pop()
        self._nested = around
        return level.sources

    def enter(self) -> _Level:
        level = _Level(self._within, [], [])
        self._scopes.append(level)
        return level

    def add_from(self, from_: Any) -> list[ColumnElement[Any]]:
        """Take in a FROM, and return the conditions of its inner joins."""
        if isinstance(from_, JOIN):
            start = len(self._sources)
            found = self.add_from(from_.left)
            middle = len(self._sources)
            of_right = self.add_from(from_.right)
            on = list(conjuncts(from_.onclause))
            if not from_.isouter and not from_.full:
                return [*found, *of_right, *on]
            # Conditions of an outer join leave rows of the left side, but they tell what meets.
            if start == middle < len(self._sources):
                self.refuse(CrossShardJoinError, f"An outer join of {_name(from_.left)}, which each shard has,")
            self.add_conditions([*of_right, *on], prunes=False)
            self.look_into([*of_right, *on])
            if from_.full:
                self.add_conditions(found, prunes=False)
                return []
            return found
        base: Any = from_
        while isinstance(base, ALIAS):
            base = base.element
        if isinstance(base, SUBQUERY):
            self._add_subquery(from_)
            return []
        if not isinstance(base, (TABLE, *ROWS)):
            self.refuse(UnmergeableScatterError, f"{type(base).__name__} in FROM")
        self.add_source(from_)
        return []

    def _add_subquery(self, from_: Any) -> None:
        if from_ in self._seen:
            self.refuse(UnmergeableScatterError, f"{_name(from_)}, which is used twice,")
        self._seen.add(from_)
        inner: Any = from_.element
        while isinstance(inner, STACKED):
            if inner in self._seen:
                self.refuse(UnmergeableScatterError, f"{_name(from_)}, which is used twice,")
            self._seen.add(inner)
            inner = inner.element
        if getattr(from_, "recursive", False):
            self.refuse(UnmergeableScatterError, "A recursive CTE")
        if not isinstance(inner, SELECT_BASE):
            self.refuse(UnmergeableScatterError, "A CTE that writes")
            return
        closed = not isinstance(inner, SELECT) or not is_plain(inner)
        outer = self._within, self._closed
        self._within += (from_,)
        before = len(self._sources)
        if closed:
            self._closed = True
        found = self.add_select(inner, nested=False)
        self._scopes[-1].sources += found
        self._within, self._closed = outer
        if closed and len(self._sources) > before:
            self.refuse(
                UnmergeableScatterError,
                "A subquery in FROM that has LIMIT, DISTINCT, GROUP BY, an aggregate or a window",
            )

    def add_source(self, from_: Any) -> None:
        table: Any = from_
        while isinstance(table, ALIAS):
            table = table.element
        if from_ == table:  # without the marks of the ORM
            from_ = table
        if not isinstance(table, TABLE) or self._routing.is_reference_table(table):
            self._scopes[-1].froms.append(from_)
            return
        self._scopes[-1].froms.append(from_)
        self._scopes[-1].sources.append(len(self._sources))
        self._groups.append(len(self._groups))
        self._sources.append(_Source(from_, table, self._within, len(self._groups) - 1, self._closed, self._nested))

    # -- conditions ----------------------------------------------------------------------------------------------------

    def add_conditions(self, conditions: Sequence[ColumnElement[Any]], *, prunes: bool) -> None:
        for condition in conditions:
            self._unite(condition)
        if not prunes:
            return
        for condition in conditions:
            places: set[int] = set()
            node = self._node(condition, places)
            roots = {self._root(self._sources[place].group) for place in places}
            if len(roots) == 1 and not isinstance(node, All):
                self._nodes.append((next(iter(places)), node))

    def look_into(self, parts: Iterable[Any]) -> None:
        """Take in the subqueries of expressions, and refuse what needs all rows at once."""
        for part in parts:
            for each in visible(part):
                if isinstance(each, OVER):
                    self.refuse(UnmergeableScatterError, "A window function (OVER)")
                elif isinstance(each, SELECT_BASE) and each not in self._seen:
                    self.add_select(each, nested=True)

    def _unite(self, condition: Any) -> None:
        """Unite the groups of two sources if a condition says that rows which meet are on one shard."""
        if not isinstance(condition, BINARY):
            return
        left, right = bare(condition.left), bare(condition.right)
        if condition.operator is operators.in_op:
            inner = right.element if isinstance(right, SCALAR_SELECT) else right
            if not isinstance(inner, SELECT):
                return
            # The subquery is taken in afterwards, so that what it selects is found by its table alone.
            if len(list(inner.selected_columns)) != 1 or not is_plain(inner, distinct=True):
                return
            self._seen.add(inner)
            level = _Level(self._within, self.add_select(inner, nested=False), [])
            one, other = self._source_of(left), self._source_in(level, core_column(inner, self._dialect))
        elif condition.operator is operators.eq:
            one, other = self._source_of(left), self._source_of(right)
        else:
            return
        if one is None or other is None or one[0] == other[0]:
            return
        (first, column), (second, remote) = one, other
        ends = self._sources[first], self._sources[second]
        if any(each.is_closed for each in ends) and ends[0].within != ends[1].within:
            return
        if self._meet(column, remote):
            self._groups[self._root(self._sources[first].group)] = self._root(self._sources[second].group)

    def _meet(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> bool:
        for child, parent in ((one, other), (other, one)):
            if any(key.column is parent for key in getattr(child, "foreign_keys", ())):
                return True
        if one is other and getattr(one, "table", None) is not None and list(one.table.primary_key) == [one]:
            return True  # one row
        keys = [self._keys.get(each) for each in (one, other)]
        if all(isinstance(each, RuleKey) for each in keys):
            first, second = (cast("RuleKey", each).rule for each in keys)
            return first.router is second.router
        return False

    def _node(self, condition: Any, places: set[int]) -> Node:
        if isinstance(condition, GROUPING):
            return self._node(condition.element, places)
        if isinstance(condition, UNARY) and condition.operator is operators.is_true:
            condition = condition.element  # where(false())
        if isinstance(condition, FALSE):
            places.update(range(len(self._sources)))
            return Nothing()
        if isinstance(condition, BOOLEAN):
            parts = tuple(self._node(each, places) for each in condition.clauses)
            return And(parts) if condition.operator is operators.and_ else Or(parts)
        if not isinstance(condition, BINARY):
            return All()
        left, right, operator = bare(condition.left), bare(condition.right), condition.operator
        if isinstance(left, BIND) and operator in _MIRRORED:
            left, right, operator = right, left, _MIRRORED[operator]
        found = self._source_of(left)
        key = None if found is None else self._keys.get(found[1])
        if found is None or key is None:
            return All()
        if self._sources[found[0]].is_closed and not self._closed:
            return All()  # a condition on the answer of a subquery is none on what it reads
        node = self._comparison(key, operator, right)
        if not isinstance(node, All):
            places.add(found[0])
        return node

    def _comparison(self, key: KeyOf, operator: object, value: Any) -> Node:
        if operator is operators.between_op and len(bounds := tuple(getattr(value, "clauses", ()))) == 2:
            low, high = map(self._place, bounds)
            return Between(key, low, high) if low is not None and high is not None else All()
        place = self._place(value)
        if place is None:
            return All()
        if operator is operators.eq:
            return Equals(key, place)
        if operator is operators.in_op:
            return OneOf(key, place)
        if operator in _RANGES:
            lower, upper = _RANGES[operator]
            return Between(key, place if lower else None, place if upper else None)
        return All()

    def _place(self, value: Any) -> int | None:
        if isinstance(value, GROUPING):
            value = value.element
        if not isinstance(value, BIND):
            return None
        return next((self._places[name] for name in names_of_bind(value) if name in self._places), None)

    def _source_of(self, expression: Any) -> tuple[int, ColumnElement[Any]] | None:
        """Return the source of a column, with the column of its table."""
        if getattr(expression, "table", None) is None:
            return None
        # What a column of a subquery or an alias stands for, itself included.
        for level in reversed(self._scopes):
            found = self._source_in(level, expression)
            if found is not None:
                return found
        return None

    def _source_in(self, level: _Level, column: Any) -> tuple[int, ColumnElement[Any]] | None:
        from_: Any = getattr(column, "table", None)
        if from_ is None:
            return None
        meant = stands_for(column)
        best: tuple[int, ColumnElement[Any]] | None = None
        for place in level.sources:
            source = self._sources[place]
            if source.from_ == from_ and source.within == level.within:
                base = source.table.c.get(column.key)
                return None if base is None else (place, base)
            if from_ in source.within:
                for each in source.from_.c:
                    # A column of an alias stands for that of the table too.
                    if each in meant and (best is None or source.from_ is not source.table):
                        best = (place, source.table.c[each.key])
        return best

    def _root(self, group: int) -> int:
        while self._groups[group] != group:
            group = self._groups[group]
        return group


def _tables_of(element: Any) -> list[FromClause]:
    table: FromClause | None = getattr(element, "table", None)
    return [] if table is None or isinstance(element, FromClause) else [table]


def _name(from_: FromClause) -> str:
    return repr(str(getattr(from_, "name", None) or from_))
