"""A statement as of a moment.

SQLAlchemy compiles what the user wrote to a SELECT from tables; in that, each table that has a history of periods gives way to a union of the
rows that are current, if they were then, and the rows of history that were current then. Joins, EXISTS, single-table criteria, order and limit
are thereby met by the rows of that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeGuard, cast

from sqlalchemy import Alias, Column, Connection, Select, Subquery, Table, and_, literal, null, or_, select, union_all
from sqlalchemy.sql import visitors

from ..exceptions import InvalidArgumentError
from ._config import VersionConfig, config_of
from ._rows import RowReader
from ._sa import unprotected
from ._tables import ASSOCIATION, REVISION, VALID_FROM, VALID_TO, VERSION
from ._types import UTCDateTime

__all__ = ("config_of_table", "selected_entity", "statement_as_of")

_INFO = "sqla_patterns.versioning"


def config_of_table(table: Table) -> VersionConfig | None:
    """The class whose main table this is."""
    return cast("VersionConfig | None", table.info.get(_INFO))


def selected_entity(statement: Any) -> type[Any]:
    """The class that a SELECT asks for.

    Raises:
        InvalidArgumentError: it is no SELECT of one class.
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
    connection: Connection, reader: RowReader, entity: type[Any], statement: Any, moment: datetime
) -> Select[Any]:
    """`statement` with the columns of `reader`, from the rows of `moment`."""
    config = cast("VersionConfig", config_of(entity))
    statement = statement.with_only_columns(*reader.main_columns(), maintain_column_froms=False).select_from(entity)
    own = {pair.main for pair in config.pairs}
    for pair in reader.joined:
        if pair.main not in own:
            statement = statement.outerjoin(pair.main, reader.links(pair, history=False))
    compiled: Any = statement.compile(dialect=connection.dialect)
    # What the ORM makes of a statement before Core compiles it; the documented attribute of a compiled one.
    return _replace_tables(compiled.compile_state.statement, moment)


def _replace_tables(statement: Any, moment: datetime) -> Select[Any]:
    past: dict[Any, Subquery | None] = {}
    aliases: dict[Any, Any] = {}

    def past_of(table: Any) -> Subquery | None:
        if table not in past:
            config = config_of_table(table)
            links: Table | None = table.info.get(ASSOCIATION)
            past[table] = None
            if config is not None and config.options.period:
                past[table] = rows_at(config, table, moment)
            elif links is not None:
                past[table] = _links_at(table, links, moment)
        return past[table]

    def replace(element: Any, **_: object) -> Any:
        if isinstance(element, Table):
            return past_of(element)
        if _is_alias(element):
            if element not in aliases:
                union = past_of(element.element)
                aliases[element] = None if union is None else union.element.alias(element.name)
            return aliases[element]
        if isinstance(element, Column):
            table: Any = element.table
            if isinstance(table, Table):
                union = past_of(table)
            else:
                union = replace(table) if _is_alias(table) else None
            return None if union is None else union.c[element.key]
        return None

    replacing: Callable[..., Any] = visitors.replacement_traverse
    return cast("Select[Any]", replacing(unprotected(statement), {}, replace))


def _is_alias(element: Any) -> TypeGuard[Any]:
    return isinstance(element, Alias) and isinstance(cast("Any", element).element, Table)


def rows_at(config: VersionConfig, table: Any, moment: datetime) -> Subquery:
    """The rows of a main table at `moment`."""
    pair = next(pair for pair in config.pairs if pair.main is table or pair.main == table)
    root = config.root
    main, history = root.pair.main, root.pair.history
    at = literal(moment, UTCDateTime())
    present = select(*(column.label(column.key) for column in pair.main.c)).where(main.c[VALID_FROM] <= at)
    past = select(*(_past_column(pair, root, column).label(column.key) for column in pair.main.c)).where(
        history.c[VALID_FROM] <= at, history.c[VALID_TO] > at
    )
    if pair is not root.pair:
        steps = config.pairs[: config.pairs.index(pair) + 1]
        present = present.where(and_(*(column == above for each in steps for column, above in each.joins)))
        for above, each in pairwise(steps):
            links = [each.history.c[column.key] == above.history.c[parent.key] for column, parent in each.joins]
            past = past.where(*links, each.history.c[VERSION] == above.history.c[VERSION])
    return union_all(present, past).subquery(f"{pair.main.name}_then")


def _links_at(table: Table, history: Table, moment: datetime) -> Subquery:
    """The rows of a secondary table at `moment`."""
    at = literal(moment, UTCDateTime())
    columns = [history.c[column.key].label(column.key) for column in table.c]
    lasting = or_(history.c[VALID_TO].is_(None), history.c[VALID_TO] > at)
    return select(*columns).where(history.c[VALID_FROM] <= at, lasting).subquery(f"{table.name}_then")


def _past_column(pair: Any, root: VersionConfig, column: Column[Any]) -> Any:
    if pair is root.pair and column.key in {VERSION, VALID_FROM, REVISION} & root.own:
        return pair.history.c[column.key]
    found = pair.history.c.get(column.key)
    return null() if found is None else found
