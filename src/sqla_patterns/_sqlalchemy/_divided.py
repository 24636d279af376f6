"""Take a SELECT apart that is divided between shards, and put the results of the shards together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import BindParameter, ClauseElement, ColumnElement, Executable, FromClause
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import Load, LoaderCriteriaOption, ORMExecuteState

from .._typing import AnyResult, AnySelect
from ..exceptions import StateError
from . import _names as names
from ._statements import options_of

_NEEDED = (
    names.LIMIT,
    names.OFFSET,
    names.FETCH,
    names.DISTINCT,
    names.DISTINCT_ON,
    names.ORDER_BY_CLAUSES,
    names.GROUP_BY_CLAUSES,
    names.HAVING_CRITERIA,
    names.RAW_COLUMNS,
    names.INDEPENDENT_CTES,
    names.AUTO_CORRELATE,
    names.CORRELATE,
    names.CORRELATE_EXCEPT,
    names.PROXY_SET,
    names.CLONED_SET,
    names.RESULT_METADATA,
    names.RESULT_UNIQUE,
)


class SelectParts(NamedTuple):
    """The clauses of a SELECT besides FROM and WHERE."""

    columns: Sequence[ClauseElement]
    order_by: Sequence[ClauseElement]
    group_by: Sequence[ClauseElement]
    having: Sequence[ClauseElement]
    limit: ClauseElement | None
    offset: ClauseElement | None
    fetch: ClauseElement | None
    is_distinct: bool
    distinct_on: Sequence[ClauseElement]


def parts_of(select: AnySelect) -> SelectParts:
    """Return the clauses of a SELECT.

    Raises:
        StateError: This release of SQLAlchemy does not tell all of them.
    """
    missing = [name for name in _NEEDED if not name.exists()]
    if missing:
        raise StateError(
            f"A statement cannot be divided between shards, because this release of SQLAlchemy has no {missing[0]}; "
            "name a shard by pinned_to(), or install one of the supported releases"
        )
    return SelectParts(
        tuple(names.RAW_COLUMNS.get(select, ())),
        tuple(names.ORDER_BY_CLAUSES.get(select, ())),
        tuple(names.GROUP_BY_CLAUSES.get(select, ())),
        tuple(names.HAVING_CRITERIA.get(select, ())),
        names.LIMIT.get(select),
        names.OFFSET.get(select),
        names.FETCH.get(select),
        bool(names.DISTINCT.get(select)),
        tuple(names.DISTINCT_ON.get(select, ())),
    )


def has_independent_ctes(select: AnySelect) -> bool:
    """Return whether CTEs were added to a SELECT that it may not read."""
    return bool(names.INDEPENDENT_CTES.get(select))


def correlates_with(select: AnySelect, from_: FromClause) -> bool:
    """Return whether a subquery takes `from_` from the statement around it, which has it as well."""
    chosen: Sequence[FromClause] = names.CORRELATE.get(select) or ()
    excepted: Sequence[FromClause] | None = names.CORRELATE_EXCEPT.get(select)
    if chosen:
        return from_ in chosen
    if excepted is not None:
        return from_ not in excepted
    return bool(names.AUTO_CORRELATE.get(select, False))


def stands_for(column: ColumnElement[Any]) -> frozenset[ColumnElement[Any]]:
    """Return the columns of tables, aliases and subqueries that a column stands for, itself included."""
    return frozenset(names.PROXY_SET.get(column, ()))


def names_of_bind(parameter: BindParameter[Any]) -> list[str]:
    """Return the name of a bound parameter, and those of the parameters that it was copied from."""
    return [str(each.key) for each in names.CLONED_SET.get(parameter, (parameter,))]


def form_of(statement: Executable) -> tuple[object, Sequence[BindParameter[Any]]] | None:
    """Return a key that all statements of one form share, and the parameters of this one; None if it has no key."""
    generate: Callable[[], Any] | None = names.CACHE_KEY.get(statement)
    found = None if generate is None else generate()
    return None if found is None else (found.key, found.bindparams)


def without_loading(select: AnySelect) -> AnySelect:
    """Return a SELECT that loads nothing eagerly; its criteria stay."""
    try:
        entities = [each.get("entity") for each in select.column_descriptions if each.get("expr") is each.get("entity")]
    except AttributeError:  # SQLAlchemy cannot describe SELECT *, as in exists()
        return select
    lazy = tuple(Load(each).lazyload("*") for each in dict.fromkeys(entities) if each is not None)
    plain = select.options(*lazy)
    kept = tuple(each for each in options_of(select) if isinstance(each, LoaderCriteriaOption))
    setattr(plain, names.WITH_OPTIONS.name, kept + lazy)
    return plain


def loaded_shard(state: ORMExecuteState) -> str | None:
    """Return the shard that a load of SQLAlchemy's belongs to, such as a refresh or ``selectinload()``."""
    options: Any = None
    if state.is_select:
        options = state.load_options
    elif state.is_update or state.is_delete:
        options = state.update_delete_options
    return cast("str | None", getattr(options, "_identity_token", None))


def returns_single_entities(state: ORMExecuteState) -> bool:
    """Return whether ``Query`` gives objects rather than rows of one object."""
    return not getattr(state.load_options, "_only_return_tuples", False)


def options_of_shard(shard: str) -> dict[str, Any]:
    """Return the execution options by which objects that an INSERT returns are marked with their shard."""
    options: Any = names.LOAD_OPTIONS.get(names.LOAD_OPTIONS.owner)
    return {} if options is None else {"_sa_orm_load_options": options + {"_identity_token": shard}}


def must_be_unique(result: AnyResult) -> bool:
    """Return whether a result has rows more than once, because collections are joined to it."""
    state: Any = names.RESULT_UNIQUE.get(result)
    return state is not None and state[1] is not None


def joined_result(
    template: AnyResult, width: int, rows: Iterable[tuple[Any, ...]], *, is_single: bool, unique: bool
) -> AnyResult:
    """Return a result with the first `width` columns of `template`, and with `rows`.

    Args:
        template: A result of one shard.
        width: How many columns it shall have.
        rows: The rows.
        is_single: Whether ``Query`` shall give the first column instead of rows.
        unique: Whether the caller has to say ``unique()``, as for a result of joined collections.
    """
    must: Any = names.RESULT_UNIQUE.get(template)
    metadata: Any = names.RESULT_METADATA.get(template)
    attributes: Any = names.RESULT_ATTRIBUTES.get(template, {})
    if len(metadata.keys) > width:
        metadata = names.RESULT_METADATA.get(template.columns(*range(width)))
    make: Any = IteratorResult
    joined = make(metadata, iter(rows))
    setattr(joined, names.RESULT_ATTRIBUTES.name, {**attributes, "is_single_entity": is_single})
    if unique:
        setattr(joined, names.RESULT_UNIQUE.name, must)
    return cast("AnyResult", joined)


class _NoRows(IteratorResult[Any]):
    """The answer of no shard."""

    rowcount = 0


def no_rows(columns: Sequence[str], rows: Sequence[tuple[Any, ...]] = ()) -> AnyResult:
    """Return a result that no database has given, with no rows unless some are given, and the row count 0."""
    return cast("Result[Any]", _NoRows(SimpleResultMetaData(list(columns)), iter(rows)))
