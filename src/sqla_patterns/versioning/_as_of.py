"""Rewrite a SELECT so that it reads the rows of a moment in the past.

SQLAlchemy compiles the user's statement to a SELECT from tables. In this SELECT, each table that has a history with
periods is replaced by a UNION of two parts: its rows that have not changed since that moment, and the history rows
whose period includes that moment. Joins, EXISTS, single-table criteria, ORDER BY and LIMIT thereby apply to the rows of
that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeGuard, cast

from sqlalchemy import (
    Alias,
    ClauseElement,
    Connection,
    FromClause,
    Select,
    Subquery,
    Table,
    and_,
    literal,
    null,
    or_,
    select,
    union_all,
)

from .._maintained import maintained_columns, maintained_tables
from .._sql import is_column, is_table
from .._sqlalchemy import unprotected
from .._typing import AnyColumn, AnyExpression, AnySelect, MappedClass
from ..exceptions import InvalidArgumentError
from ._config import TablePair, VersionConfig, config_of_table, hierarchy, require_config
from ._errors import NotVersionedError
from ._names import REVISION, VALID_FROM, VALID_TO, VERSION
from ._row_reader import RowReader
from ._table_records import ASSOCIATION_HISTORY, recorded, records_of
from ._traversal import replace_elements
from ._types import UTCDateTime

# In a union of all versions: the number of each, also if its table has no version.
_NUMBER = "sqla_number"


def selected_entity(statement: object) -> MappedClass:
    """Return the class that a SELECT asks for.

    Raises:
        InvalidArgumentError: `statement` is no SELECT of one class.
    """
    described: list[Any] = statement.column_descriptions if isinstance(statement, Select) else []
    if len(described) == 1:
        entity = described[0].get("entity")
        if isinstance(entity, type) and described[0]["expr"] is entity:
            return entity
    raise InvalidArgumentError(
        f"as_of() wants a SELECT of one versioned class, as in select(Invoice).where(...), and was given: {statement}"
    )


def statement_as_of(
    connection: Connection, reader: RowReader, entity: MappedClass, statement: AnySelect, moment: datetime
) -> AnySelect:
    """Return `statement` with the columns of `reader`, from the rows of `moment`."""
    config = require_config(entity)
    statement = _with_columns(statement, reader.main_columns()).select_from(entity)
    tables = {pair.main for pair in config.pairs}
    for pair in reader.joined:
        if pair.main not in tables:
            statement = statement.outerjoin(pair.main, reader.main_on_clause(pair))
    return _replace_tables(_compile(connection, statement), _tables_at(config, moment))


def statement_of_versions(connection: Connection, config: VersionConfig, statement: AnySelect) -> AnySelect:
    """Return a SELECT of the keys and numbers of the versions of one class, past and current, that meet `statement`."""
    root = config.root
    statement = _with_columns(statement, [*root.key, root.pair.main.c[VERSION]]).select_from(config.cls)
    all_rows = {pair.main: _rows_at(config, pair.main, None) for pair in config.pairs}
    replaced = _replace_tables(_compile(connection, statement), all_rows.get)
    number = all_rows[root.pair.main].c[VERSION]
    return replaced.where(*(all_rows[pair.main].c[_NUMBER] == number for pair in config.pairs[1:]))


def _with_columns(statement: AnySelect, columns: Iterable[AnyExpression]) -> AnySelect:
    """Return `statement` with other columns; their tables are added with ``select_from()``."""
    changed: Any = statement.with_only_columns(*columns, maintain_column_froms=False)
    return cast("AnySelect", changed)


def _compile(connection: Connection, statement: AnySelect) -> AnySelect:
    """Return the SELECT from tables that the ORM makes of `statement` before Core compiles it."""
    compiled: Any = statement.compile(dialect=connection.dialect)
    return cast("AnySelect", compiled.compile_state.statement)  # a documented attribute


def _derived_tables(config: VersionConfig) -> dict[Table, VersionConfig]:
    """Return the tables that other packages derive from rows of versioned classes, with these classes."""
    found: dict[Table, VersionConfig] = {}
    for table in records_of(config.pair.main.metadata):
        each = config_of_table(table)
        if each is not None:
            found.update(dict.fromkeys(maintained_tables(each.cls), each))
    return found


def _tables_at(config: VersionConfig, moment: datetime) -> Callable[[Table], Subquery | None]:
    """Return a function that returns the rows of a table at `moment`, or None for a table without a history."""
    rows: dict[Table, Subquery | None] = {}
    derived = _derived_tables(config)

    def rows_of(table: Table) -> Subquery | None:
        if table in derived:
            raise NotVersionedError(
                f"as_of() cannot use table {table.fullname!r}: it follows from the rows of {derived[table].name} and "
                f"keeps no past; ask by columns of {derived[table].name}, for a tree by its parents"
            )
        if table not in rows:
            config = config_of_table(table)
            association_history = recorded(table, ASSOCIATION_HISTORY)
            rows[table] = None
            if config is not None and config.options.period:
                rows[table] = _rows_at(config, table, moment)
            elif association_history is not None:
                rows[table] = _association_rows_at(table, association_history, moment)
        return rows[table]

    return rows_of


def _replace_tables(statement: AnySelect, rows_of: Callable[[Table], Subquery | None]) -> AnySelect:
    """Return `statement` with the rows that `rows_of` returns in place of tables, their aliases and their columns."""
    aliases: dict[tuple[str, Table], FromClause | None] = {}

    def rows_of_alias(alias: Alias, table: Table) -> FromClause | None:
        # By name, as the ORM's annotations make several objects of one alias.
        key = (alias.name, table)
        if key not in aliases:
            union = rows_of(table)
            aliases[key] = None if union is None else union.element.alias(alias.name)
        return aliases[key]

    def replacement(element: object) -> ClauseElement | None:
        if is_table(element):
            return rows_of(element)
        if _is_alias(element):
            aliased = _aliased(element)
            return rows_of_alias(element, aliased) if is_table(aliased) else None
        if is_column(element):
            source: object = element.table
            table = _aliased(source) if _is_alias(source) else source
            if not is_table(table):
                return None
            union = rows_of_alias(source, table) if isinstance(source, Alias) else rows_of(table)
            if union is None:
                return None
            config = config_of_table(table)
            if config is not None:
                _require_known(config, table, element)
            return union.c[element.key]
        return None

    return replace_elements(unprotected(statement), replacement)


def _is_alias(value: object) -> TypeGuard[Alias]:
    # Generic in the types of SQLAlchemy 2.1 alone, which isinstance() leaves open.
    return isinstance(value, Alias)


def _aliased(alias: Alias) -> object:
    """Return what an alias stands for."""
    element: object = alias.element
    return element


def _require_known(config: VersionConfig, table: Table, column: AnyColumn) -> None:
    """Raise unless the history tells what a column was at a moment.

    Raises:
        NotVersionedError: It does not.
    """
    for member in hierarchy(config):
        for attr, mapped in member.columns.items():
            if mapped.table != table or mapped.key != column.key or attr not in member.excluded | member.shifted:
                continue
            name = f"{member.name}.{attr}"
            maintained = maintained_columns(member.cls).get(attr)
            if maintained is None:
                raise NotVersionedError(
                    f"the past cannot be asked for {name}: VersionOptions(exclude=...) leaves it out of history; take "
                    "it out of exclude=, or of the statement"
                )
            if attr in member.derived:
                raise NotVersionedError(
                    f"the past cannot be asked for {name}: {maintained.maintained_by} derives it from other columns, "
                    "and history keeps only those; ask by them, for a tree by its parents"
                )
            raise NotVersionedError(
                f"the past cannot be asked for {name}: {maintained.maintained_by} also changes it in rows that get no "
                "version, so nobody knows what it was at a moment; use another column"
            )


def _rows_at(config: VersionConfig, table: Table, moment: datetime | None) -> Subquery:
    """Return the rows of a main table at `moment`; if that is None, all rows of all times, with their numbers."""
    pair = next(pair for pair in config.pairs if pair.main is table or pair.main == table)
    root = config.root
    main, history = root.pair.main, root.pair.history
    present = select(*(column.label(column.key) for column in pair.main.c))
    past = select(*(_past_column(pair, root, column).label(column.key) for column in pair.main.c))
    if moment is None:
        present = present.add_columns(main.c[VERSION].label(_NUMBER))
        past = past.add_columns(pair.history.c[VERSION].label(_NUMBER))
    else:
        at = literal(moment, UTCDateTime())
        present = present.where(main.c[VALID_FROM] <= at)
        past = past.where(history.c[VALID_FROM] <= at, history.c[VALID_TO] > at)
    if pair is not root.pair:
        steps = config.pairs[: config.pairs.index(pair) + 1]
        present = present.where(and_(*(column == above for each in steps for column, above in each.joins)))
        for above, each in pairwise(steps):
            same = [each.history.c[column.key] == above.history.c[parent.key] for column, parent in each.joins]
            past = past.where(*same, each.history.c[VERSION] == above.history.c[VERSION])
    # Without a name, which could be the name of an alias in the statement.
    return union_all(present, past).subquery()


def _association_rows_at(table: Table, history: Table, moment: datetime) -> Subquery:
    """Return the rows of a secondary table at `moment`."""
    at = literal(moment, UTCDateTime())
    columns = [history.c[column.key].label(column.key) for column in table.c]
    lasting = or_(history.c[VALID_TO].is_(None), history.c[VALID_TO] > at)
    return select(*columns).where(history.c[VALID_FROM] <= at, lasting).subquery()


def _past_column(pair: TablePair, root: VersionConfig, column: AnyColumn) -> AnyExpression:
    """Return the column of the history table that stands for a column of the main table, NULL if there is none."""
    if pair is root.pair and column.key in {VERSION, VALID_FROM, REVISION} & root.version_columns:
        return pair.history.c[column.key]
    found = pair.history.c.get(column.key)
    return null() if found is None else found
