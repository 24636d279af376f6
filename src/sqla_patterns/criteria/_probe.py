"""Compile a statement once more, to see which tables with hidden rows it reads and whether the criteria are in place.

Where SQLAlchemy's criteria have an effect differs from version to version, and a statement can name a table in many
ways. So nothing is deduced from how a statement was written: it is compiled as SQLAlchemy is going to compile it, eager
loads included, by the compiler of the database's dialect with a few methods overridden. For each SELECT, UPDATE and
DELETE, at any depth, these say which tables stand in its FROM, and for which of these a criterion is one of the
conditions that are ANDed in its WHERE, in the ON of an inner join, or in the ON of an outer join that may leave the
table out. The compiler omits identifiers, so that a name that occurs in its string must have been written as text.

This happens once for all statements with the same cache key, under which `_apply` keeps the result.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import Column, Dialect, Extract, FromClause, Insert, Table, TextClause
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import IdentifierPreparer
from sqlalchemy.sql.elements import BinaryExpression, ColumnClause, Grouping
from sqlalchemy.sql.operators import custom_op, eq
from sqlalchemy.sql.selectable import Alias, Join, Select, Subquery, TableClause

from .._sql import is_table
from ._private import AnyElement, conjuncts, from_key, is_orm, iterate, original_of, private, table_of
from ._rules import Guarded, Rule, Tracked
from ._texts import is_closed, is_harmless_piece, named_table

#: What the methods of a compiler hand to each other, which SQLAlchemy does not annotate.
Argument: TypeAlias = Any


@dataclass(frozen=True)
class Finding:
    """A table in the FROM of a statement whose rows would be read or changed without the criterion.

    Attributes:
        statement: The SELECT, UPDATE or DELETE, as it was written.
        from_: The table or an alias of it.
        tracked: How rows of the table are hidden.
        nullable: Whether it is on the side of an outer join that may be missing, so that a condition in WHERE means
            another thing.
    """

    statement: AnyElement
    from_: FromClause
    tracked: Tracked
    nullable: bool


@dataclass
class Report:
    """What one compilation has shown.

    Attributes:
        findings: What is not filtered.
        touched: Whether a table of the rule occurs at all.
        ungrouped: Whether something is ANDed with a criterion whose own OR would come out on top.
        open_text: A text that parentheses do not enclose.
        named: A table of the rule that a text, or a table object of another origin, names.
        pieces: Whether prefixes, suffixes or hints hold more than a comment.
        written: Columns that an UPDATE sets.
        inserted: Tables that rows are inserted into.
        changed: Tables of UPDATE and DELETE.
    """

    findings: list[Finding] = field(default_factory=list[Finding])
    touched: bool = False
    ungrouped: bool = False
    open_text: str | None = None
    named: str | None = None
    pieces: bool = False
    written: list[AnyElement] = field(default_factory=list[AnyElement])
    inserted: list[Table] = field(default_factory=list[Table])
    changed: list[Table] = field(default_factory=list[Table])


@dataclass
class _Occurrence:
    from_: FromClause
    tracked: Tracked | None
    nullable: bool
    pending: list[Finding] = field(default_factory=list[Finding])


@dataclass
class _Scope:
    """One SELECT, UPDATE or DELETE that is being compiled."""

    statement: AnyElement
    occurrences: dict[int, _Occurrence] = field(default_factory=dict[int, _Occurrence])
    covered: set[int] = field(default_factory=set[int])
    #: Of these, what only a WHERE covers.
    by_where: set[int] = field(default_factory=set[int])
    #: Pairs of FROMs that are joined by equal columns, the second one being restricted to rows of the first.
    links: list[tuple[AnyElement, AnyElement]] = field(default_factory=list[tuple[AnyElement, AnyElement]])
    having: object = None


def _column_keys(statement: AnyElement, columns: Collection[str] | None) -> list[str] | None:
    """Return the keys of the parameters, and with those of an INSERT those of the primary key.

    The ORM gives an INSERT into a joined subclass to each table, with the key of the row above. Compiled as it stands,
    it would have no value for that key, of which SQLAlchemy warns.
    """
    if columns is None:
        return None
    if isinstance(statement, Insert) and statement.select is None and is_table(statement.table):
        return list(dict.fromkeys([*columns, *(column.key for column in statement.table.primary_key)]))
    return list(columns)


def probe(
    statement: AnyElement,
    rule: Rule,
    dialect: Dialect,
    *,
    columns: Collection[str] | None = None,
    known: Collection[Table] = (),
) -> Report:
    """Compile a statement and report what of it the rule does not reach.

    Args:
        statement: The statement, with the options that carry the criteria.
        rule: The rule.
        dialect: The dialect of the database.
        columns: The keys of the parameters that an INSERT or UPDATE is executed with.
        known: Tables that are no mistake although they have the name of a table of the rule.
    """
    tables = rule.tables()
    report = Report()
    own = copy.copy(dialect)
    watch = _Watch(rule, tables, rule.mapped_selectables(), frozenset(known), report, _hash_comments(dialect))
    own.identifier_preparer = _preparer(dialect, report)
    own.statement_compiler = type("Probe", (_ProbeCompiler, dialect.statement_compiler), {"watch": watch})
    # The compilers of DDL know no parameters.
    is_ddl = isinstance(cast("object", statement), ExecutableDDLElement)
    keys: dict[str, Any] = {} if is_ddl else {"column_keys": _column_keys(statement, columns)}
    compiled: Any = statement.compile(dialect=own, **keys)
    if rule.strict and report.named is None:
        report.named = named_table(str(compiled.string), watch.names, dialect.identifier_preparer.reserved_words)
    return report


def _hash_comments(dialect: Dialect) -> bool:
    return dialect.name in {"mysql", "mariadb"}


class _Watch:
    """What a probing compiler looks for and what it has seen."""

    def __init__(
        self,
        rule: Rule,
        tables: Mapping[Table, Tracked],
        selectables: set[FromClause],
        known: frozenset[Table],
        report: Report,
        hash_comments: bool,
    ) -> None:
        self.rule: Final = rule
        self.tables: Final = tables
        self.selectables: Final = selectables
        self.known: Final = known
        self.report: Final = report
        self.hash_comments: Final = hash_comments
        self.names: Final = frozenset(table.name.lower() for table in tables)
        self.scopes: Final[list[_Scope]] = []
        self.aliases: list[AnyElement] = []
        self.nullable = 0

    @contextmanager
    def scope(self, statement: AnyElement) -> Generator[_Scope, None, None]:
        outer, self.aliases = self.aliases, []
        nullable, self.nullable = self.nullable, 0
        scope = _Scope(statement)
        self.scopes.append(scope)
        try:
            yield scope
        finally:
            self.scopes.pop()
            self.aliases, self.nullable = outer, nullable
        self.report.findings.extend(_uncovered(scope))

    def meet(self, table: AnyElement) -> None:
        """Note a table in the FROM of the statement at hand."""
        found = original_of(table)
        tracked = self.tables.get(found)
        if tracked is None:
            same_name = isinstance(found, TableClause) and found.name.lower() in self.names
            if self.rule.strict and same_name and found not in self.known:
                self.report.named = str(found.name)
            return
        self.report.touched = True
        from_ = self.aliases[-1] if self.aliases else found
        if self.scopes:
            occurrence = _Occurrence(from_, tracked, nullable=bool(self.nullable))
            self.scopes[-1].occurrences.setdefault(from_key(from_), occurrence)
        else:
            self.report.findings.append(Finding(None, from_, tracked, nullable=False))

    def conditions(self, clauses: AnyElement) -> Iterator[AnyElement]:
        """Yield the criteria among ANDed conditions, and note what would get around them."""
        for clause in conjuncts(clauses):
            if isinstance(clause, Guarded) and clause.rule is self.rule:
                yield clause
            elif not is_enclosed(clause):
                self.report.ungrouped = True

    def where(self, clauses: AnyElement) -> None:
        """Note the criteria and the equal columns of a WHERE."""
        scope = self.scopes[-1]
        for clause in self.conditions(clauses):
            scope.by_where.update(_columns_of(clause))
        for clause in conjuncts(clauses):
            for left, right in _equal_columns(clause):
                scope.links += [(left, right), (right, left)]

    def on(self, join: Join, left: set[int], right: set[int]) -> None:
        """Note the criteria of an ON, as far as they hide rows of the side that they are about."""
        scope = self.scopes[-1]
        reached = set[int]() if join.full else right if join.isouter else left | right
        for clause in self.conditions([join.onclause]):
            scope.covered.update(_columns_of(clause) & reached)
        for clause in conjuncts([join.onclause]):
            for one, other in _equal_columns(clause):
                for base, restricted in ((one, other), (other, one)):
                    if from_key(private(restricted).table) in reached:
                        scope.links.append((base, restricted))

    def text(self, text: str) -> None:
        """Note a text."""
        if not is_closed(text, hash_comments=self.hash_comments):
            self.report.open_text = text

    def pieces(self, statement: AnyElement) -> None:
        """Note prefixes, suffixes and hints, which are put into the statement as they are."""
        prefixes = [private(each[0]).text for each in getattr(statement, "_prefixes", ()) if hasattr(each[0], "text")]
        others = [private(each[0]).text for each in getattr(statement, "_suffixes", ()) if hasattr(each[0], "text")]
        others += [each[1] for each in getattr(statement, "_statement_hints", ())]
        others += [str(each) for each in getattr(statement, "_hints", {}).values()]
        if not all(is_harmless_piece(each, words=True) for each in prefixes):
            self.report.pieces = True
        if not all(is_harmless_piece(each, words=False) for each in others):
            self.report.pieces = True


def _uncovered(scope: _Scope) -> Iterator[Finding]:
    # A criterion in WHERE would drop the other side's rows too, where a hidden row is all that they have.
    missing = {key for key, occurrence in scope.occurrences.items() if occurrence.nullable}
    covered = scope.covered | (scope.by_where - missing)
    changed = True
    while changed:
        changed = False
        for key, occurrence in scope.occurrences.items():
            tracked = occurrence.tracked
            if key in covered or tracked is None or tracked.has_criterion:
                continue
            if _is_linked(occurrence, scope, covered):
                covered.add(key)
                changed = True
    for key, occurrence in scope.occurrences.items():
        if key not in covered:
            yield from occurrence.pending
            if occurrence.tracked is not None:
                yield Finding(scope.statement, occurrence.from_, occurrence.tracked, occurrence.nullable)


def _is_linked(occurrence: _Occurrence, scope: _Scope, covered: set[int]) -> bool:
    """Return whether the table of a joined subclass is joined by its whole key to a table above it that is filtered."""
    tracked = cast("Tracked", occurrence.tracked)
    table = table_of(occurrence.from_)
    key = {column.key for column in cast("Table", table).primary_key}
    above = {each for each in tracked.mapper.tables if each is not table}
    by_base: dict[int, set[str]] = {}
    for base, restricted in scope.links:
        if from_key(restricted.table) != from_key(occurrence.from_) or from_key(base.table) not in covered:
            continue
        if table_of(base.table) in above and base.primary_key and restricted.primary_key:
            by_base.setdefault(from_key(base.table), set()).add(restricted.key)
    return any(found == key for found in by_base.values())


def _columns_of(criterion: AnyElement) -> set[int]:
    tables = [each.table for each in iterate(criterion) if isinstance(cast("object", each), ColumnClause)]
    return {from_key(table) for table in tables if table is not None}


def _equal_columns(clause: AnyElement) -> Iterator[tuple[AnyElement, AnyElement]]:
    if isinstance(cast("object", clause), BinaryExpression) and clause.operator is eq:
        left, right = _sides(clause)
        if isinstance(left, Column) and isinstance(right, Column):
            yield cast("Any", left), cast("Any", right)


def _sides(clause: AnyElement) -> tuple[object, object]:
    return clause.left, clause.right


def is_enclosed(clause: AnyElement) -> bool:
    """Return whether a condition stays whole when it is ANDed, however it is rendered."""
    if isinstance(cast("object", clause), Grouping) and _is_trusted(clause):
        return True
    for element in _surface(clause):
        if isinstance(element, (TextClause, Extract)) or getattr(element, "is_literal", False):
            return False
        operator = getattr(element, "operator", None)
        if isinstance(operator, custom_op):
            written: str = private(cast("object", operator)).opstring
            if written == "||" or any(char.isalnum() or char.isspace() for char in written):
                return False
        if not _is_trusted(element):
            return False  # a construct of the user's, which may render anything
    return True


_TRUSTED: Final = {"sqlalchemy", "builtins", "typing", "abc", "collections", "sqla_patterns", "typing_extensions"}


def _is_trusted(element: AnyElement) -> bool:
    return all(cls.__module__.partition(".")[0] in _TRUSTED for cls in type(element).__mro__)


def _surface(clause: AnyElement) -> Iterator[AnyElement]:
    todo = [clause]
    while todo:
        element = todo.pop()
        yield element
        if not isinstance(element, (Select, ColumnClause)):
            todo.extend(element.get_children())


def _preparer(dialect: Dialect, report: Report) -> IdentifierPreparer:
    base: type[Any] = type(dialect.identifier_preparer)
    cls: Any = type("ProbePreparer", (_ProbePreparer, base), {"report": report})
    return cast("IdentifierPreparer", cls(dialect))


# Both are mixed into the classes of the dialect at hand, whose methods are not annotated and differ between the series.


class _ProbePreparer:
    """Renders every identifier as one sign that no text has, and notes the columns that an INSERT or UPDATE sets."""

    report: Report

    def format_column(self, column: Argument, *args: Any, **kw: Any) -> str:
        self.report.written.append(column)
        return self.quote(column.name)

    def quote(self, ident: str, force: Any = None) -> str:
        # `quoted_name(..., quote=False)` is rendered as it stands, and need not be a name.
        if getattr(ident, "quote", None) is False and not ident.isidentifier():
            if not is_closed(ident):
                self.report.open_text = str(ident)
            return str(ident)
        return "\x01"

    def quote_identifier(self, value: str) -> str:
        return "\x01"


class _ProbeCompiler:
    """Notes tables in FROM, the conditions that hide their rows, and what was written as text."""

    watch: _Watch

    def visit_select(self, select_stmt: Argument, *args: Argument, **kw: Argument) -> Argument:
        self.watch.pieces(select_stmt)
        with self.watch.scope(select_stmt):
            return private(super()).visit_select(select_stmt, *args, **kw)

    def visit_update(self, update_stmt: Argument, *args: Argument, **kw: Argument) -> Argument:
        self.watch.pieces(update_stmt)
        self.watch.report.changed.append(original_of(update_stmt.table))
        with self.watch.scope(update_stmt):
            return private(super()).visit_update(update_stmt, *args, **kw)

    def visit_delete(self, delete_stmt: Argument, *args: Argument, **kw: Argument) -> Argument:
        self.watch.pieces(delete_stmt)
        self.watch.report.changed.append(original_of(delete_stmt.table))
        with self.watch.scope(delete_stmt):
            return private(super()).visit_delete(delete_stmt, *args, **kw)

    def visit_insert(self, insert_stmt: Argument, *args: Argument, **kw: Argument) -> Argument:
        self.watch.pieces(insert_stmt)
        table = original_of(insert_stmt.table)
        if table in self.watch.tables:
            self.watch.report.touched = True
            self.watch.report.inserted.append(table)
        elif self.watch.rule.strict and table.name.lower() in self.watch.names and table not in self.watch.known:
            self.watch.report.named = str(table.name)
        return private(super()).visit_insert(insert_stmt, *args, **kw)

    def visit_table(
        self, table: Any, asfrom: bool = False, iscrud: bool = False, ashint: bool = False, **kw: Any
    ) -> Any:
        if asfrom:
            self.watch.meet(table)
        return private(super()).visit_table(table, asfrom=asfrom, iscrud=iscrud, ashint=ashint, **kw)

    def visit_alias(self, alias: Argument, asfrom: bool = False, *args: Argument, **kw: Argument) -> Argument:
        if not asfrom:
            return private(super()).visit_alias(alias, asfrom, *args, **kw)
        findings, before = self.watch.report.findings, len(self.watch.report.findings)
        self.watch.aliases.append(alias)
        try:
            return private(super()).visit_alias(alias, asfrom, *args, **kw)
        finally:
            self.watch.aliases.pop()
            inner = findings[before:]
            if inner and self.watch.scopes and self._is_image(alias):
                # Whoever filters by a column of the class filters what is inside.
                del findings[before:]
                occurrence = _Occurrence(alias, None, nullable=bool(self.watch.nullable), pending=inner)
                self.watch.scopes[-1].occurrences.setdefault(from_key(alias), occurrence)

    def _is_image(self, alias: Argument) -> bool:
        """Return whether a subquery is what a class is mapped to, and nothing but that."""
        found = original_of(alias)
        if found in self.watch.selectables:
            return True
        element: Any = original_of(found.element) if isinstance(cast("object", found), (Subquery, Alias)) else None
        element = original_of(getattr(element, "element", element))
        if element in self.watch.selectables:
            return True
        if not isinstance(cast("object", element), Select) or not _is_whole(element):
            return False
        if len(element._from_obj) == 1:  # as `aliased()` writes the alias of a joined subclass
            return original_of(element._from_obj[0]) in self.watch.selectables
        return len(element._raw_columns) == 1 and original_of(element._raw_columns[0]) in self.watch.selectables

    def visit_join(self, join: Argument, asfrom: bool = False, **kw: Argument) -> Argument:
        watch = self.watch
        before = set(watch.scopes[-1].occurrences) if watch.scopes else set[int]()
        watch.nullable += join.full
        left = join.left._compiler_dispatch(self, asfrom=True, **kw)
        lefts = (set(watch.scopes[-1].occurrences) if watch.scopes else set[int]()) - before
        watch.nullable += join.isouter and not join.full
        right = join.right._compiler_dispatch(self, asfrom=True, **kw)
        rights = (set(watch.scopes[-1].occurrences) if watch.scopes else set[int]()) - before - lefts
        watch.nullable -= bool(join.isouter or join.full)
        if watch.scopes:
            watch.on(join, lefts, rights)
        condition = join.onclause._compiler_dispatch(self, **kw)
        return f"{left} JOIN {right} ON {condition}"

    def _generate_delimited_and_list(self, clauses: Argument, **kw: Argument) -> Argument:
        clauses = tuple(clauses)
        if self.watch.scopes and clauses is not self.watch.scopes[-1].having:
            self.watch.where(clauses)
        return private(super())._generate_delimited_and_list(clauses, **kw)

    def _compose_select_body(self, text: Argument, select_stmt: Any, *args: Argument, **kw: Argument) -> Argument:
        self.watch.scopes[-1].having = select_stmt._having_criteria
        return private(super())._compose_select_body(text, select_stmt, *args, **kw)

    def visit_textclause(self, textclause: Argument, *args: Argument, **kw: Argument) -> Argument:
        self.watch.text(textclause.text)
        return private(super()).visit_textclause(textclause, *args, **kw)

    def visit_column(self, column: Argument, *args: Argument, **kw: Argument) -> Argument:
        if column.is_literal:
            self.watch.text(column.name)
        return private(super()).visit_column(column, *args, **kw)

    def visit_extract(self, extract: Argument, **kw: Argument) -> Argument:
        if not extract.field.isidentifier():
            self.watch.report.open_text = extract.field
        return private(super()).visit_extract(extract, **kw)


def _is_whole(select: AnyElement) -> bool:
    """Return whether a SELECT leaves no rows out, so that it does not matter whether it is filtered before or after."""
    limited = select._limit_clause is not None or select._offset_clause is not None or select._fetch_clause is not None
    return not (limited or select._where_criteria or select._group_by_clauses or select._distinct)


def is_orm_part(statement: AnyElement, from_: FromClause) -> bool:
    """Return whether a SELECT, UPDATE or DELETE names a FROM by entities, and not only as a Core table."""
    if not is_orm(statement) and not isinstance(statement, Select):
        return False
    keys = {from_key(from_)}
    # Of several FROMs that are one, a SELECT has only the first as a child, and that may be the one without a class.
    todo = [from_, *getattr(private(cast("object", statement)), "_from_obj", ()), *statement.get_children()]
    if isinstance(cast("object", from_), Alias):
        # SQLAlchemy aliases the class's table itself, with what says so, for relationships of a class to itself.
        aliased = private(from_).element
        if "parententity" in aliased._annotations:
            return True
    while todo:
        element = todo.pop()
        annotations: Mapping[str, Any] = getattr(element, "_annotations", {})
        table: Any = private(cast("object", element)).table if isinstance(element, ColumnClause) else element
        named = "parententity" in annotations or "parentmapper" in annotations
        if named and isinstance(table, FromClause) and from_key(table) in keys:
            return True
        if not isinstance(element, (Select, ColumnClause)):
            todo.extend(element.get_children())
    return False
