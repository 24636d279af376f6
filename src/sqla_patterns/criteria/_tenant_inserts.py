"""Fill in `tenant_id` in INSERT statements on scoped classes, in whatever form the values are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import BindParameter, Insert, Select, SelectBase, TextClause, literal
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql.elements import ClauseElement

from .._sqlalchemy import invoke
from .._typing import AnyMapper, AnyResult
from ._errors import TenantViolationError
from ._private import AnyElement, dml_strategy, iterate, original_of, private
from ._tenant_rule import TENANCY, bound, tenant_column


def insert_for(state: ORMExecuteState, statement: AnyElement, tenant: object) -> AnyResult | None:
    """Fill in the tenant of the rows that an ``insert()`` of a class adds.

    Args:
        state: The execution.
        statement: Its statement, with criteria in the SELECT that it may have.
        tenant: Whose rows they are.

    Returns:
        The result, where the statement is executed here.

    Raises:
        TenantViolationError: A row says another tenant, or the statement may change rows that are there.
    """
    mapper = state.bind_mapper
    if mapper is None or not issubclass(mapper.class_, TENANCY.mixin):
        state.statement = statement
        return None
    name = mapper.class_.__name__
    if not isinstance(cast("object", statement), Insert):
        raise TenantViolationError(
            f"The insert() of {name} within from_statement() cannot be given a tenant; execute the insert() itself, "
            "which returns objects by returning()"
        )
    clause: object = statement._post_values_clause
    if clause is not None and "DoNothing" not in type(clause).__name__:
        raise TenantViolationError(
            f"The upsert of {name} could change a row of another tenant; select what is there, or use all_tenants()"
        )
    if getattr(statement, "select", None) is not None:
        state.statement = _from_select(statement, mapper, tenant)
        return None
    if statement._multi_values:
        state.statement = _multi_values(statement, mapper, tenant)
        return None
    _check_row(cast("Mapping[Any, object]", statement._values or {}), mapper, tenant)
    if isinstance(state.parameters, (list, tuple)):
        rows = cast("Sequence[Mapping[str, object]]", state.parameters)
        for row in rows:
            _check_row(row, mapper, tenant)
        state.statement = statement
        key = "tenant_id" if dml_strategy(state) == "bulk" else str(tenant_column(mapper).key)
        return invoke(state, [{key: tenant} for _ in rows])
    _check_row(cast("Mapping[str, object]", state.parameters or {}), mapper, tenant)
    if state.parameters and not statement._values:
        state.statement = statement
        # By attributes where the ORM inserts rows, by columns where it only translates the statement.
        key = "tenant_id" if dml_strategy(state) == "bulk" else str(tenant_column(mapper).key)
        return invoke(state, {key: tenant})
    state.statement = statement.values({tenant_column(mapper): bound(tenant)})
    return None


def _is_tenant(key: object, mapper: AnyMapper) -> bool:
    column = tenant_column(mapper)
    if isinstance(key, str):
        return key in {"tenant_id", column.key, column.name}
    return original_of(getattr(key, "__clause_element__", lambda: key)()) is column


def _check_row(row: Mapping[Any, object], mapper: AnyMapper, tenant: object) -> None:
    for key, value in row.items():
        if isinstance(value, ClauseElement) and not isinstance(value, BindParameter) and isinstance(key, str):
            _check_expression(value, mapper)
        if _is_tenant(key, mapper):
            said: object = private(cast("object", value)).value if isinstance(value, BindParameter) else value
            if said is not None and not _same(said, tenant):
                raise TenantViolationError(
                    f"The insert() of {mapper.class_.__name__} says {said!r} as tenant_id, and is made for "
                    f"{tenant!r}; leave "
                    "tenant_id out"
                )


def _check_expression(value: ClauseElement, mapper: AnyMapper) -> None:
    """Refuse a parameter that reads tables, or may: parameters are not part of the statement that is given criteria."""
    for element in iterate(value):
        if isinstance(element, (SelectBase, TextClause)) or getattr(element, "is_literal", False):
            raise TenantViolationError(
                f"The insert() of {mapper.class_.__name__} has {value!s} among its parameters, which cannot be given "
                f"a tenant; "
                "put it into values()"
            )


def _same(one: object, other: object) -> bool:
    # An SQL expression compares to another one, which is true of itself.
    return type(one) is type(other) and bool(one == other)


def _multi_values(statement: AnyElement, mapper: AnyMapper, tenant: object) -> AnyElement:
    copy = private(statement)._generate()
    made: list[list[Mapping[Any, Any]]] = []
    for rows in statement._multi_values:
        filled: list[Mapping[Any, Any]] = []
        for row in rows:
            if not isinstance(cast("object", row), Mapping):
                raise TenantViolationError(
                    f"The insert() of {mapper.class_.__name__} has rows without names of columns; pass dictionaries"
                )
            _check_row(row, mapper, tenant)
            kept: dict[Any, Any] = {key: value for key, value in row.items() if not _is_tenant(key, mapper)}
            filled.append({**kept, tenant_column(mapper): tenant})
        made.append(filled)
    copy._multi_values = tuple(made)
    return copy


def _from_select(statement: AnyElement, mapper: AnyMapper, tenant: object) -> AnyElement:
    column = tenant_column(mapper)
    names: list[str] = list(statement._select_names)
    inner: Any = statement.select
    if not isinstance(inner, Select):
        inner = getattr(inner, "element", inner)
    if not isinstance(inner, Select):
        raise TenantViolationError(
            f"The insert() of {mapper.class_.__name__} from a union cannot be given a tenant; select from the union's "
            f"subquery"
        )
    values: list[Any] = list(private(cast("object", inner))._raw_columns)
    if len(values) != len(names) or not all(hasattr(each, "type") for each in values):
        raise TenantViolationError(
            f"The insert() of {mapper.class_.__name__} from a SELECT of whole entities cannot be given a tenant; "
            f"select its columns"
        )
    mine = literal(tenant, column.type).label(None)
    kept = [(name, value) for name, value in zip(names, values, strict=True) if not _is_tenant(name, mapper)]
    copy = private(statement)._generate()
    copy._select_names = [*(name for name, _ in kept), column.key]
    copy.select = cast("Any", inner).with_only_columns(*(value for _, value in kept), mine, maintain_column_froms=True)
    return copy
