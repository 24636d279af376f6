"""Parts of SQL statements that two or more packages need: conditions on keys, batches of keys, UPDATEs by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeGuard, TypeVar

from sqlalchemy import BindParameter, Column, ColumnElement, Connection, Executable, Table, bindparam, tuple_, update

from ._declarative import keep_onupdate
from ._typing import AnyColumn, AnyExpression, PrimaryKey

ExecutableT = TypeVar("ExecutableT", bound=Executable)
T = TypeVar("T")

#: How many keys `chunks` puts into one statement: SQLite takes 32,766 parameters, PostgreSQL's binary protocol 32,767.
CHUNK_SIZE: Final = 1000

#: The execution option of statements by which a package maintains a structure. Whatever changes statements of users
#: (criteria, tenancy, caching) leaves these alone: a structure consists of all rows.
STRUCTURAL: Final = "sqla_patterns_structural"


#: The execution option of SELECTs by which predicates of a package walk through a structure, as parts of statements of
#: the user. Tenancy gives them its criterion; other criteria leave them alone.
STRUCTURAL_PART: Final = "sqla_patterns_structural_part"


def structural(statement: ExecutableT) -> ExecutableT:
    """Return `statement` with the execution option `STRUCTURAL`."""
    options: dict[str, Any] = {STRUCTURAL: True}
    return statement.execution_options(**options)


def structural_part(statement: ExecutableT) -> ExecutableT:
    """Return `statement` with the execution option `STRUCTURAL_PART`."""
    options: dict[str, Any] = {STRUCTURAL_PART: True}
    return statement.execution_options(**options)


def chunks(items: Iterable[T], size: int = CHUNK_SIZE) -> Iterator[list[T]]:
    """Yield `items` in lists of at most `size`, for databases that limit the number of parameters of a statement."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def is_table(value: object) -> TypeGuard[Table]:
    """Return whether `value` is a table, without leaving type checkers in doubt about the type of its columns."""
    return isinstance(value, Table)


def is_column(value: object) -> TypeGuard[AnyColumn]:
    """Return whether `value` is a column of a table, without leaving type checkers in doubt about its type."""
    return isinstance(value, Column)


def key_in(
    columns: Sequence[AnyExpression], keys: Sequence[Sequence[PrimaryKey]] | BindParameter[Any]
) -> ColumnElement[bool]:
    """Match `columns` with keys, each a tuple with a value for each column, or with an expanding parameter."""
    if len(columns) > 1:
        return tuple_(*columns).in_(keys)
    return columns[0].in_(keys if isinstance(keys, BindParameter) else [key[0] for key in keys])


def qualified_name(connection: Connection, table: Table) -> str:
    """Return the name of a table with its schema as it is written in SQL, for functions that take it as a string."""
    quote, schema = connection.dialect.identifier_preparer, connection.schema_for_object(table)
    name = quote.quote(table.name)
    return f"{quote.quote_schema(schema)}.{name}" if schema else name


def update_rows(
    connection: Connection,
    pk: AnyColumn,
    columns: Sequence[AnyColumn],
    rows: Mapping[PrimaryKey, Sequence[object]],
) -> None:
    """Set `columns` of rows, each by its primary key, in one executemany; no statement if there are no rows.

    The rows are not edited by the user, so that columns with ``onupdate`` keep their values.

    Args:
        connection: A connection to the table's database.
        pk: The column of the primary key.
        columns: What to set.
        rows: The values in the order of `columns`, by primary key.
    """
    if not rows:
        return
    names = [f"_value_{number}" for number in range(len(columns))]
    values: dict[AnyColumn, Any] = keep_onupdate(pk.table)
    values |= {column: bindparam(name) for column, name in zip(columns, names, strict=True)}
    statement = update(pk.table).where(pk == bindparam("_pk")).values(values)
    connection.execute(statement, [{"_pk": key, **dict(zip(names, row, strict=True))} for key, row in rows.items()])
