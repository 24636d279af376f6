"""`soft_unique`: uniqueness among rows that are not marked as deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from sqlalchemy import Boolean, Column, Computed, Index, Table, event
from sqlalchemy.schema import SchemaItem

from .._typing import AnyMapper
from ..exceptions import InvalidArgumentError, MappingError
from ._soft_rule import deleted_column

_LIVING: Final = "sqla_living"


class soft_unique(SchemaItem):  # noqa: N801 - users call it as a function, in __table_args__
    """Make columns unique among the rows that are not deleted: ``__table_args__ = (soft_unique("slug"),)``.

    For `SoftDelete` classes. A deleted row keeps its value, and another row may take the same value. It is a unique
    index with a generated column `sqla_living` beside the others, which is true for a row that is not deleted and NULL,
    equal to nothing, for a deleted one; on SQLite and PostgreSQL the index leaves out deleted rows as well. MariaDB and
    MySQL have no such partial indexes, and so that there is one migration for all, column and index are the same on
    every database. The column is not mapped.

    Args:
        columns: The names of the columns.
        name: The name of the index; made from the names of table and columns if not given.

    Raises:
        InvalidArgumentError: No column is named.
        MappingError: The table has no such column, when the class is mapped; or no class that is `SoftDelete` is mapped
            to it, when the table is created.
    """

    __visit_name__ = "sqla_soft_unique"

    def __init__(self, *columns: str, name: str | None = None) -> None:
        if not columns or not all(isinstance(cast("object", each), str) for each in columns):
            raise InvalidArgumentError(
                f"soft_unique() needs names of columns and was given {columns!r}; pass one or more"
            )
        self.columns: Final = columns
        self.name: Final = name

    def _set_parent(self, parent: Any, **kw: Any) -> None:
        # The index is made when the class is mapped, by `add_living_columns`: the column must not become an attribute.
        table: Table = parent

        def check(*_: object, **__: object) -> None:
            if not any(index.name == _index_name(table, self) for index in table.indexes):
                raise MappingError(
                    f"soft_unique({', '.join(map(repr, self.columns))}) of the table {table.name!r} has no effect, "
                    "since no class that is SoftDelete is mapped to it; mix SoftDelete in, or use a UniqueConstraint"
                )

        # Not before: another class, or a mapping of the table that is still to come, may be SoftDelete.
        event.listen(table, "before_create", check)


def add_living_columns(mapper: AnyMapper) -> None:
    """Add what the ``soft_unique`` of a class asks for to its table."""
    table = mapper.local_table
    arguments: object = getattr(mapper.class_, "__table_args__", None)
    if not isinstance(table, Table) or not isinstance(arguments, (tuple, list)):
        return
    if mapper.inherits is not None and table is mapper.inherits.local_table:
        return
    for each in cast("Iterable[object]", arguments):
        if isinstance(each, soft_unique):
            _add(cast("Any", table), each, mapper)


def _index_name(table: Table, wanted: soft_unique) -> str:
    return wanted.name or "_".join(("uq", table.name, *wanted.columns, "living"))


def _add(table: Table, wanted: soft_unique, mapper: AnyMapper) -> None:
    missing = [name for name in wanted.columns if name not in table.c]
    if missing:
        raise MappingError(
            f"soft_unique() of {mapper.class_.__name__} names {missing[0]!r}, which is no column of {table.name!r}; "
            f"pass names of columns: {', '.join(table.c.keys())}"
        )
    deleted = deleted_column(mapper)
    if deleted.table is not table:
        raise MappingError(
            f"soft_unique() of {mapper.class_.__name__} needs deleted_at in the same table, and it is one of "
            f"{deleted.table.name!r}; put soft_unique() on the topmost class"
        )
    if _LIVING not in table.c:
        # In the one spelling that all three databases give back as it was written, so that Alembic finds no difference.
        text = f"NULLIF({deleted.name} IS NULL, 1 = 0)"
        table.append_column(Column(_LIVING, Boolean, Computed(text, persisted=True), nullable=True))
    # One index for all databases: Alembic writes indexes into its migrations whatever their ddl_if() says.
    living = deleted.is_(None)
    columns = [*(table.c[name] for name in wanted.columns), table.c[_LIVING]]
    Index(_index_name(table, wanted), *columns, unique=True, sqlite_where=living, postgresql_where=living)
