"""What INSERT, UPDATE and DELETE constructs do not tell by public means, and small changes to them."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Delete, Insert, Table, Update
from sqlalchemy.orm import Mapper, ORMExecuteState

from ._config import VersionConfig

__all__ = (
    "inserted_rows",
    "is_limited",
    "is_orm",
    "is_upsert",
    "keep_synchronizing",
    "local",
    "options_of",
    "selects_any",
    "set_columns",
    "synchronizes",
    "with_values",
)


def is_orm(statement: Any) -> bool:
    """Whether a statement is about a class rather than a table; ``_propagate_attrs`` says what the compiler goes by."""
    return bool(statement._propagate_attrs.get("compile_state_plugin") == "orm")


def options_of(statement: Any) -> tuple[Any, ...]:
    """Criteria that ``with_loader_criteria`` adds. The compiler reads them from ``_with_options``, and nobody else does."""
    return tuple(getattr(statement, "_with_options", ()))


def is_limited(statement: Update | Delete) -> bool:
    return any(name.endswith("_limit") and value is not None for name, value in dict(statement.dialect_kwargs).items())


def is_upsert(statement: Insert) -> bool:
    """Whether an INSERT may change rows that are there: ON CONFLICT DO UPDATE, ON DUPLICATE KEY UPDATE, OR REPLACE."""
    clause = getattr(statement, "_post_values_clause", None)
    if clause is not None and type(clause).__name__ in {"OnConflictDoUpdate", "OnDuplicateClause"}:
        return True
    prefixes = getattr(statement, "_prefixes", ())
    return any("REPLACE" in str(getattr(prefix[0], "text", prefix[0])).upper() for prefix in prefixes)


def inserted_rows(statement: Insert, parameters: Any) -> list[dict[str, Any]] | None:
    """The rows that an INSERT was given, by attribute or column key; None where they come from a SELECT."""
    if statement.select is not None:
        return None
    if isinstance(parameters, list):
        return cast("list[dict[str, Any]]", parameters)
    rows: list[dict[str, Any]] = []
    many: Any = getattr(statement, "_multi_values", ())
    for group in many:
        rows += [_row(cast("Table", statement.table), row) for row in group]
    single: Any = getattr(statement, "_values", None)
    if not rows:
        rows = [{**_row(cast("Table", statement.table), single or {}), **(parameters or {})}]
    return rows


def selects_any(statement: Insert, names: list[str]) -> bool:
    """Whether an INSERT from a SELECT gives one of these columns."""
    given: list[Any] = list(getattr(statement, "_select_names", None) or ())
    return not given or any(str(name) in names for name in given)


def _row(table: Table, row: Any) -> dict[str, Any]:
    items = row.items() if hasattr(row, "items") else zip(table.c, row, strict=False)
    return {str(getattr(name, "key", name)): getattr(value, "value", value) for name, value in items}


def with_values(statement: Update, mapper: Mapper[Any], values: dict[str, Any]) -> Update:
    """`statement`, setting more; also where the user gave the order of what it sets."""
    added = [(mapper.local_table.c[key], value) for key, value in values.items()]
    # SQLAlchemy refuses to add to ordered values. It keeps them as a list of pairs in 2.0, and in 2.1 as a dictionary with a flag.
    ordered: Any = getattr(statement, "_ordered_values", None)
    if ordered is None and getattr(statement, "_maintain_values_ordering", False):
        ordered = list(cast("Any", statement)._values.items())
    if not ordered:
        return statement.values(dict(added))
    changed: Any = cast("Any", statement)._generate()
    if hasattr(changed, "_maintain_values_ordering"):
        changed._values, changed._maintain_values_ordering = None, False
    else:
        changed._ordered_values = None
    return cast("Update", changed.ordered_values(*ordered, *added))


def set_columns(statement: Update, parameters: Any) -> set[str] | None:
    """What an UPDATE sets, by attribute or column key; None where that is not to be seen."""
    given: list[tuple[Any, Any]] = getattr(statement, "_ordered_values", None) or []
    values: dict[Any, Any] = cast("Any", statement)._values or {}
    given = given or list(values.items())
    names = {str(getattr(name, "key", name)) for name, _ in given}
    if isinstance(parameters, list):
        names.update(*cast("list[dict[str, Any]]", parameters))
    elif not given:
        names.update(parameters or ())
    return names or None


def _synchronize(state: ORMExecuteState, statement: Any) -> Any:
    options = {**statement.get_execution_options(), **state.local_execution_options}
    return options.get("synchronize_session", "auto")


def keep_synchronizing(state: ORMExecuteState, statement: Any) -> None:
    """Have SQLAlchemy find the objects that a statement changed although Python cannot evaluate our part of the criteria."""
    if is_orm(statement) and _synchronize(state, statement) == "evaluate":
        state.update_execution_options(synchronize_session="fetch")


def synchronizes(state: ORMExecuteState, statement: Any) -> bool:
    return is_orm(statement) and _synchronize(state, statement) is not False


def local(config: VersionConfig, attribute: Any) -> Any:
    """The column of the class's own table under an attribute of several."""
    for column in attribute.property.columns:
        if column.table is config.pairs[-1].main:
            return column
    return attribute
