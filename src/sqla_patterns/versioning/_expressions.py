"""SQL conditions and values that several statements of the package need, for instance to find rows that were copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    case,
    exists,
    or_,
    select,
    tuple_,
)

from .._sql import CHUNK_SIZE
from .._typing import AnyExpression, AnySelect
from ._config import TablePair, VersionConfig
from ._names import MOMENT_PARAMETER, REVISION, REVISION_PARAMETER, VALID_FROM, VERSION
from ._tables import revision_type
from ._traversal import ClauseT, replace_elements
from ._types import UTCDateTime
from ._version import VersionStamp


def keys_per_statement(config: VersionConfig) -> int:
    """Return how many primary keys of a class a statement takes, fewer if a key has several columns."""
    return max(1, CHUNK_SIZE // len(config.key))


def key_in_select(columns: Sequence[AnyExpression], keys: AnySelect) -> ColumnElement[bool]:
    """Match rows whose `columns` are among the keys that a SELECT returns."""
    return tuple_(*columns).in_(keys) if len(columns) > 1 else columns[0].in_(keys)


def same_key(config: VersionConfig) -> ColumnElement[bool]:
    """Match rows of the main table with those of their history."""
    return and_(*(left == right for left, right in zip(config.key, config.history_key, strict=True)))


def lock_rows(connection: Connection, statement: AnySelect, table: Table) -> AnySelect:
    """Return `statement` with a lock on the rows of `table` until the transaction ends, if the database locks rows."""
    if connection.dialect.name == "postgresql":
        return statement.with_for_update(key_share=True, of=(table,))
    return statement.with_for_update()


def is_made_now(config: VersionConfig) -> ColumnElement[bool]:
    """Match rows whose current version was made by the present transaction, or revision if there are revisions.

    The expression has the parameters of `stamp_parameters`.
    """
    main = config.pair.main
    if config.options.revision is not None:
        return main.c[REVISION] == bindparam(REVISION_PARAMETER, type_=revision_type(config.options.revision))
    return main.c[VALID_FROM] == bindparam(MOMENT_PARAMETER, type_=UTCDateTime())


def is_made_before(config: VersionConfig) -> ColumnElement[bool] | None:
    """Match rows whose current version was not made by the present transaction or revision.

    None if each flush makes a version, so that all rows are to be copied.
    """
    if config.options.granularity == "flush":
        return None
    column = config.pair.main.c[REVISION if config.options.revision is not None else VALID_FROM]
    return or_(~is_made_now(config), column.is_(None))


def next_valid_from(config: VersionConfig) -> AnyExpression:
    """Return when the next version of a row begins: now, or when the row itself began if a clock went back."""
    begun = config.pair.main.c[VALID_FROM]
    now = bindparam(MOMENT_PARAMETER, type_=UTCDateTime())
    return case((begun > now, begun), else_=now)


def join_condition(config: VersionConfig, pair: TablePair) -> ColumnElement[bool]:
    """Join the main table of `pair`, and those between, to the table of the root."""
    steps = config.pairs[: config.pairs.index(pair) + 1]
    return and_(*(column == above for each in steps for column, above in each.joins))


def is_captured(config: VersionConfig) -> ColumnElement[bool]:
    """Match rows that were copied to history and not changed yet: their current version is in the history."""
    main, history = config.pair.main, config.pair.history
    copies = select(1).select_from(history).where(same_key(config), history.c[VERSION] == main.c[VERSION])
    return exists(copies.correlate(main))


def is_behind_history(config: VersionConfig) -> ColumnElement[bool]:
    """Match rows whose version is not higher than the last one in their history, before they are copied."""
    main, history = config.pair.main, config.pair.history
    copies = select(1).select_from(history).where(same_key(config), history.c[VERSION] >= main.c[VERSION])
    return exists(copies.correlate(main))


def stamp_parameters(stamp: VersionStamp) -> dict[str, object]:
    """Return the values of the parameters in `is_made_now` and `next_valid_from`."""
    return {MOMENT_PARAMETER: stamp.moment, REVISION_PARAMETER: stamp.revision}


def version_values(config: VersionConfig, stamp: VersionStamp) -> dict[str, object]:
    """Return what an UPDATE has to set in addition to the user's values, by column key."""
    main, options = config.pair.main, config.options
    values: dict[str, object] = {VERSION: main.c[VERSION] + 1}
    if options.granularity == "transaction":
        now = bind_values(is_made_now(config), stamp_parameters(stamp))
        values[VERSION] = case((now, main.c[VERSION]), else_=main.c[VERSION] + 1)
    if options.period:
        values[VALID_FROM] = bind_values(next_valid_from(config), stamp_parameters(stamp))
    if options.revision is not None:
        values[REVISION] = stamp.revision
    return values


def _is_parameter(element: object) -> TypeGuard[BindParameter[Any]]:
    return isinstance(element, BindParameter)


def bind_values(clause: ClauseT, values: Mapping[str, object]) -> ClauseT:
    """Return `clause` with values for its named parameters, so that it can be part of a statement of the user's."""

    def replacement(element: object) -> ClauseElement | None:
        if _is_parameter(element) and element.value is None and element.key in values:
            return BindParameter(None, values[element.key], type_=element.type, unique=True)
        return None

    return replace_elements(clause, replacement)
