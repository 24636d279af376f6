"""`Rule`: a criterion for all mapped classes below a mixin, and the options with which the ORM applies it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import BindParameter, ColumnElement, FromClause, Table, inspect, true
from sqlalchemy.orm import LoaderCriteriaOption, Mapper, UserDefinedOption
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.visitors import InternalTraversal

from .._typing import AnyMapper, MappedClass
from ._private import OPTION_INTERNALS, AnyElement, Criterion, annotated, iterate, private

#: What a criterion is made of: the class or an alias of it, and a bound value (or ``true()`` where there is none).
Expression: TypeAlias = Callable[[Any, ColumnElement[Any]], ColumnElement[bool]]


class Guarded(Grouping[Any]):
    """A criterion of a rule, in parentheses, so that it is known again where a statement is compiled.

    Attributes:
        rule: The rule. A table may be subject to several, and the criterion of one is not that of another.
    """

    _traverse_internals = [*private(Grouping)._traverse_internals, ("rule", InternalTraversal.dp_plain_obj)]

    #: A criterion that has left this process and has come back is nobody's.
    rule: Rule | None = None

    def __init__(self, element: ColumnElement[Any], rule: Rule) -> None:
        super().__init__(element)
        self.rule = rule


@dataclass(frozen=True)
class Tracked:
    """How rows of a table are hidden.

    Attributes:
        mapper: The mapper whose criterion it is.
        has_criterion: Whether the criterion is one of this table's columns. The table of a joined subclass has none: it
            is reached through its base table.
    """

    mapper: AnyMapper
    has_criterion: bool


@dataclass(frozen=True, eq=False)
class Rule:
    """A criterion for all classes below a mixin.

    Attributes:
        mixin: The class whose mapped subclasses are meant.
        expression: Makes the criterion. It is evaluated once for each statement that SQLAlchemy has not compiled
            before.
        name: For texts of errors, and for the execution option that bypasses the rule.
        strict: Whether what is not the ORM's, a Core table or a text, is refused instead of filtered or not seen.
    """

    mixin: type[Any]
    expression: Expression
    name: str
    strict: bool = False

    def criterion(self, entity: MappedClass, value: ColumnElement[Any]) -> Criterion:
        """Return the criterion for a class, an alias of it, or an alias of its table."""
        return cast("Criterion", Guarded(self.expression(entity, value), self))

    def tables(self) -> dict[Table, Tracked]:
        """Return the tables whose rows are hidden whoever reads them: all classes of them obey the rule."""
        found: dict[Table, Tracked] = {}
        for mapper in mapped_subclasses(self.mixin):
            criterion = self.expression(mapper.class_, cast("Any", BindParameter("sqla_patterns", None, unique=True)))
            named = {
                private(each).table for each in iterate(criterion) if isinstance(getattr(each, "table", None), Table)
            }
            for table in _own_tables(mapper):
                if _all_obey(table, mapper, self.mixin):
                    has_criterion = table in named
                    if table not in found or (has_criterion and not found[table].has_criterion):
                        found[table] = Tracked(mapper, has_criterion)
        # Where no table of a class has a column of its criterion, nothing of it can be recognised.
        return {
            table: tracked
            for table, tracked in found.items()
            if tracked.has_criterion or any(found[each].has_criterion for each in _above(tracked.mapper, found))
        }

    def mapped_selectables(self) -> set[FromClause]:
        """Return what classes of the rule are mapped to where that is no table: unions and joins."""
        found: set[FromClause] = set()
        for mapper in mapped_subclasses(self.mixin):
            polymorphic: Any = private(mapper).with_polymorphic
            for each in (mapper.selectable, mapper.persist_selectable, polymorphic[1] if polymorphic else None):
                if each is not None and not isinstance(each, Table):
                    found.add(each)
        return found


def mapped_subclasses(mixin: type[Any]) -> Iterator[AnyMapper]:
    """Yield the mappers of the classes below a mixin, of all registries."""
    seen: set[type[Any]] = set()
    todo = [mixin]
    while todo:
        cls = todo.pop()
        if cls not in seen:
            seen.add(cls)
            todo.extend(cls.__subclasses__())
            mapper: object = inspect(cls, raiseerr=False)
            if isinstance(mapper, Mapper):
                yield mapper  # pyright: ignore[reportUnknownVariableType]


def _own_tables(mapper: AnyMapper) -> list[Table]:
    return [table for table in mapper.tables if isinstance(table, Table)]


def _above(mapper: AnyMapper, tables: Mapping[Table, Tracked]) -> list[Table]:
    return [table for table in _own_tables(mapper) if table in tables]


def _all_obey(table: Table, mapper: AnyMapper, mixin: type[Any]) -> bool:
    family = mapper.base_mapper.self_and_descendants
    return all(issubclass(each.class_, mixin) for each in family if each.local_table is table)


class Bypass(UserDefinedOption):
    """Marks objects that were loaded without a rule; what they load lazily is not hidden either."""

    propagate_to_loaders = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name: Final = name

    def _gen_cache_key(self, anon_map: object, bindparams: object) -> tuple[object, ...]:
        return (Bypass, self.name)


class FixedRule(Rule):
    """A rule whose criterion has no value, so that one option serves all statements."""

    @cached_property
    def option(self) -> RuleOption:
        """The option."""
        return RuleOption(self)


class Neutral(UserDefinedOption):
    """Takes the place of an option in a pickled object, which has left its session and its rules behind."""

    def _gen_cache_key(self, anon_map: object, bindparams: object) -> tuple[object, ...]:
        return (Neutral,)


class RuleOption(LoaderCriteriaOption):
    """Tells the ORM the criterion of a rule.

    The value is a bound parameter of the cache key, so that statements with different values are compiled once.
    """

    __slots__ = ("rule",)

    _traverse_internals = [*OPTION_INTERNALS, ("rule", InternalTraversal.dp_plain_obj)]

    def __init__(self, rule: Rule, value: ColumnElement[Any] | None = None) -> None:
        # Not by super(): it takes a criterion for one class, or a function whose closure is part of the key.
        self.rule: Final = rule
        self.root_entity = rule.mixin
        self.entity = None
        self.deferred_where_criteria = False
        self._where_crit_orig = None
        self.where_criteria = true() if value is None else cast("Any", value)
        self.include_aliases = True
        self.propagate_to_loaders = True  # joined eager loads are not filtered otherwise

    def _resolve_where_criteria(self, ext_info: AnyElement) -> Criterion:
        return annotated(self.rule.criterion(ext_info.entity, cast("Any", self.where_criteria)), self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Neutral, (None,))
