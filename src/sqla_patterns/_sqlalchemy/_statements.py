"""Answer questions about statements for which SQLAlchemy has no public API, and return changed copies of statements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from sqlalchemy import ClauseElement, ColumnElement, Delete, Executable, FromClause, Insert, Select, Table, Update
from sqlalchemy.orm import LoaderCriteriaOption, ORMExecuteState, with_loader_criteria
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import ExecutableOption

from .._typing import AnyColumn, AnyMapper
from ..exceptions import StateError
from . import _names as names

ClauseT = TypeVar("ClauseT", bound=ClauseElement)
ExecutableT = TypeVar("ExecutableT", bound=Executable)

#: Parameters of one execution: a row, or a list of rows.
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


def is_orm(statement: Executable) -> bool:
    """Return whether a statement is about a class rather than a table; the compiler goes by the same attribute."""
    return bool(names.PROPAGATE_ATTRS.get(statement, {}).get("compile_state_plugin") == "orm")


def options_of(statement: Executable) -> tuple[ExecutableOption, ...]:
    """Return the options of a statement, among them criteria that ``with_loader_criteria`` has added."""
    return tuple(names.WITH_OPTIONS.get(statement, ()))


def without_options(statement: ExecutableT, unwanted: Callable[[ExecutableOption], bool]) -> ExecutableT:
    """Return `statement` without the options of which `unwanted` is true."""
    given = options_of(statement)
    kept = tuple(option for option in given if not unwanted(option))
    if len(kept) == len(given):
        return statement
    changed: Any = statement.execution_options()  # a copy
    setattr(changed, names.WITH_OPTIONS.name, kept)
    return cast("ExecutableT", changed)


def restrict_subqueries(clause: ClauseT, criteria: Callable[[FromClause], Sequence[ColumnElement[bool]]]) -> ClauseT:
    """Return an expression with criteria added to each SELECT inside of it, those of ``any()`` and ``has()`` too.

    Args:
        clause: The expression.
        criteria: Returns the criteria of what is selected from: a table, an alias of one, or a join.
    """
    if not any(isinstance(element, Select) for element in visitors.iterate(clause)):
        return clause

    def restrict(select: Any) -> None:
        added = [each for source in select.get_final_froms() for each in criteria(source)]
        if added:
            setattr(select, names.WHERE_CRITERIA.name, (*names.WHERE_CRITERIA.get(select, ()), *added))

    # SQLAlchemy types it for other elements than it takes.
    traverse: Callable[..., Any] = visitors.cloned_traverse
    return cast("ClauseT", traverse(clause, {}, {"select": restrict}))


def restrict_where(
    statement: ExecutableT, criteria: Callable[[FromClause], Sequence[ColumnElement[bool]]]
) -> ExecutableT:
    """Return a SELECT, UPDATE or DELETE with criteria added to each SELECT inside of its WHERE clause."""
    given: tuple[ClauseElement, ...] = names.WHERE_CRITERIA.get(statement, ())
    restricted = tuple(restrict_subqueries(each, criteria) for each in given)
    if all(one is other for one, other in zip(given, restricted, strict=True)):
        return statement
    changed: Any = statement.execution_options()  # a copy
    setattr(changed, names.WHERE_CRITERIA.name, restricted)
    return cast("ExecutableT", changed)


def concerns(option: ExecutableOption, mapper: AnyMapper) -> bool:
    """Return whether an option may change which rows of a class a statement reads."""
    if not isinstance(option, LoaderCriteriaOption):
        return False
    entity, mixin = option.entity, option.root_entity
    if entity is not None:
        return bool(entity.mapper.isa(mapper) or mapper.isa(entity.mapper))
    family = mapper.base_mapper.self_and_descendants
    return mixin is not None and any(issubclass(each.class_, mixin) for each in family)


class _MadeBy:
    """Is pickled as the call of a function, so that what it returns need not be pickled itself."""

    def __init__(self, make: Callable[..., object], values: tuple[object, ...]) -> None:
        self._call: Final = (make, values)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def criteria_made_by(
    mixin: type[Any], make: Callable[..., Callable[[Any], ColumnElement[bool]]], *values: object
) -> LoaderCriteriaOption:
    """Return criteria for all classes with a mixin that depend on values; objects with the option can be pickled.

    Args:
        mixin: The mixin, or a base of the classes.
        make: Returns the function for ``with_loader_criteria``; is a function of a module itself.
        values: What `make` is called with; can be pickled.
    """
    option = with_loader_criteria(mixin, make(*values), include_aliases=True)
    if names.GIVEN_CRITERION.exists():
        setattr(option, names.GIVEN_CRITERION.name, _MadeBy(make, values))
    return option


def is_limited(statement: Update | Delete) -> bool:
    """Return whether an UPDATE or DELETE has the LIMIT that MySQL and MariaDB know."""
    return any(name.endswith("_limit") and value is not None for name, value in dict(statement.dialect_kwargs).items())


def is_upsert(statement: Insert) -> bool:
    """Return whether an INSERT may change rows that are there: ON CONFLICT DO UPDATE, ON DUPLICATE KEY, OR REPLACE."""
    clause: object = names.POST_VALUES_CLAUSE.get(statement)
    if clause is not None and type(clause).__name__ in {"OnConflictDoUpdate", "OnDuplicateClause"}:
        return True
    prefixes: Iterable[tuple[object, ...]] = names.PREFIXES.get(statement, ())
    return any("REPLACE" in str(getattr(prefix[0], "text", prefix[0])).upper() for prefix in prefixes)


def inserted_rows(statement: Insert, parameters: Parameters) -> Sequence[Mapping[str, Any]] | None:
    """Return the rows that an INSERT was given, by attribute or column key; None where they come from a SELECT."""
    if statement.select is not None:
        return None
    if isinstance(parameters, Sequence):
        return parameters
    table = cast("Table", statement.table)
    rows = [_row(table, row) for group in names.MULTI_VALUES.get(statement, ()) for row in group]
    return rows or [{**_row(table, names.VALUES.get(statement) or {}), **(parameters or {})}]


def _row(table: Table, row: Any) -> dict[str, Any]:
    items: Iterable[tuple[object, object]] = row.items() if hasattr(row, "items") else zip(table.c, row, strict=False)
    return {str(getattr(name, "key", name)): getattr(value, "value", value) for name, value in items}


def selects_any(statement: Insert, column_names: Collection[str]) -> bool:
    """Return whether an INSERT from a SELECT gives one of these columns."""
    given: list[object] = list(names.SELECT_NAMES.get(statement) or ())
    return not given or any(str(name) in column_names for name in given)


def with_values(statement: Update, mapper: AnyMapper, values: Mapping[str, object]) -> Update:
    """Return `statement`, setting more; also where the user gave the order of what it sets."""
    added = [(mapper.local_table.c[key], value) for key, value in values.items()]
    # SQLAlchemy refuses to add to ordered values. It keeps them as a list of pairs in 2.0, and in 2.1 as a dictionary
    # with a flag.
    ordered: list[Any] | None = names.ORDERED_VALUES.get(statement)
    if ordered is None and names.MAINTAIN_ORDER.get(statement, False):
        ordered = list(names.VALUES.get(statement, {}).items())
    if not ordered:
        return statement.values(dict(added))
    # A copy, whose values are in the way and go.
    changed: Any = statement.execution_options()
    if hasattr(changed, names.MAINTAIN_ORDER.name):
        setattr(changed, names.VALUES.name, None)
        setattr(changed, names.MAINTAIN_ORDER.name, False)
    else:
        setattr(changed, names.ORDERED_VALUES.name, None)
    return cast("Update", changed.ordered_values(*ordered, *added))


def set_columns(statement: Update, parameters: Parameters) -> set[str] | None:
    """Return what an UPDATE sets, by attribute or column key; None where that is not to be seen."""
    values: Mapping[object, object] = names.VALUES.get(statement) or {}
    given: Sequence[tuple[object, object]] = names.ORDERED_VALUES.get(statement) or list(values.items())
    found = {str(getattr(name, "key", name)) for name, _ in given}
    if isinstance(parameters, Sequence):
        found.update(*parameters)
    elif not given:
        found.update(parameters or ())
    return found or None


def set_values(statement: Update, mapper: AnyMapper) -> dict[AnyColumn, Any]:
    """Return what an UPDATE of a class sets, by column: plain values, or expressions."""
    values: Mapping[object, object] = names.VALUES.get(statement) or {}
    given: Sequence[tuple[object, object]] = names.ORDERED_VALUES.get(statement) or list(values.items())
    table = cast("Table", mapper.local_table)
    found: dict[AnyColumn, Any] = {}
    for name, value in given:
        key = str(getattr(name, "key", name))
        # A string names an attribute; what is an attribute of the class has become a column.
        column = mapper.column_attrs[key].columns[0] if isinstance(name, str) and key in mapper.column_attrs else None
        found[table.c[key] if column is None else cast("AnyColumn", column)] = value
    return found


def set_keys(statement: Update, parameters: Parameters) -> dict[str, Any]:
    """Return what an UPDATE sets, by attribute or column key: plain values, or expressions."""
    values: Mapping[object, object] = names.VALUES.get(statement) or {}
    given: Sequence[tuple[object, object]] = names.ORDERED_VALUES.get(statement) or list(values.items())
    found = {str(getattr(name, "key", name)): value for name, value in given}
    if isinstance(parameters, Mapping) and not given:
        found.update(parameters)
    return found


def with_rows(statement: Insert, places: Sequence[int]) -> Insert:
    """Return an INSERT of several rows with those of its rows that are at `places`."""
    rows = [row for group in names.MULTI_VALUES.get(statement, ()) for row in group]
    changed: Any = statement.execution_options()  # a copy
    setattr(changed, names.MULTI_VALUES.name, ([rows[place] for place in places],))
    return cast("Insert", changed)


def has_rows(statement: Insert) -> bool:
    """Return whether an INSERT has several rows in VALUES."""
    return bool(names.MULTI_VALUES.get(statement, ()))


def _synchronize(state: ORMExecuteState, statement: Executable) -> object:
    options = {**statement.get_execution_options(), **state.local_execution_options}
    return options.get("synchronize_session", "auto")


def keep_synchronizing(state: ORMExecuteState, statement: Executable) -> None:
    """Have SQLAlchemy find the objects that a statement changed although Python cannot evaluate an added criterion."""
    if is_orm(statement) and _synchronize(state, statement) == "evaluate":
        state.update_execution_options(synchronize_session="fetch")


def synchronizes(state: ORMExecuteState, statement: Executable) -> bool:
    """Return whether SQLAlchemy brings the objects in the session into step with a statement."""
    return is_orm(statement) and _synchronize(state, statement) is not False


def unprotected(statement: ClauseT) -> ClauseT:
    """Return `statement` without the marks by which ``has()`` and ``any()`` keep their criteria from being adapted.

    The ORM sets them against adaptations of its own. With them, such criteria would be met by the rows of today.

    Raises:
        StateError: This SQLAlchemy does not tell how to take the marks away.
    """
    strip = names.DEANNOTATE.get(names.DEANNOTATE.owner)
    if strip is None:
        raise StateError(
            "a statement cannot be read as of a moment, because this release of SQLAlchemy protects criteria inside of "
            "has() and any() in a way that is not known; install one of the supported releases"
        )
    return cast("ClauseT", strip(statement, values=["no_replacement_traverse"]))
