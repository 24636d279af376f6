"""Conditions and values from which the room's statements are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeGuard, TypeVar, cast

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    exists,
    or_,
    select,
    tuple_,
)
from sqlalchemy.sql import visitors

from ._config import TablePair, VersionConfig
from ._tables import REVISION, VALID_FROM, VERSION, revision_type
from ._types import UTCDateTime

__all__ = (
    "CHUNK",
    "Found",
    "Stamp",
    "bound",
    "bound_values",
    "captured",
    "chunks",
    "joined",
    "key_in",
    "lock",
    "made_before",
    "made_now",
    "new_values",
    "next_moment",
)

T = TypeVar("T")
ClauseT = TypeVar("ClauseT", bound=ClauseElement)

#: Keys in one statement. SQLite takes 32,766 parameters, PostgreSQL's binary protocol 32,767.
CHUNK = 1000


class Stamp(NamedTuple):
    """What a transaction puts on the versions that it makes and ends."""

    moment: datetime
    revision: Any


class Found(NamedTuple):
    """What a row had when it was captured."""

    version: int
    #: When its successor begins.
    moment: datetime | None


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def key_in(columns: Sequence[ColumnElement[Any]], keys: Any) -> ColumnElement[bool]:
    """Match `columns` with `keys`: a list of tuples, or an expanding parameter."""
    if len(columns) > 1:
        return tuple_(*columns).in_(keys)
    if isinstance(keys, list):
        return columns[0].in_([key[0] for key in cast("list[tuple[Any, ...]]", keys)])
    return columns[0].in_(keys)


def lock(connection: Connection, statement: Select[Any], *tables: Any) -> Select[Any]:
    """`statement`, locking the rows of `tables` until the transaction ends, where the database locks rows."""
    if connection.dialect.name == "postgresql":
        return statement.with_for_update(key_share=True, of=tables)
    return statement.with_for_update()


def made_now(config: VersionConfig) -> ColumnElement[bool]:
    """Match rows whose present version this very transaction, or revision, has made; with parameters as in `_values`."""
    main = config.pair.main
    if config.options.revision is not None:
        return main.c[REVISION] == bindparam("sqla_revision", type_=revision_type(config.options))
    return main.c[VALID_FROM] == bindparam("sqla_moment", type_=UTCDateTime())


def made_before(config: VersionConfig) -> ColumnElement[bool] | None:
    """Match rows whose present version is to be kept when it ends."""
    if config.options.granularity == "flush":
        return None
    column = config.pair.main.c[REVISION if config.options.revision is not None else VALID_FROM]
    return or_(~made_now(config), column.is_(None))


def next_moment(config: VersionConfig) -> ColumnElement[Any]:
    """When the successor of a row begins: now, but never before the row itself did, whatever clocks say."""
    begun = config.pair.main.c[VALID_FROM]
    now = bindparam("sqla_moment", type_=UTCDateTime())
    return case((begun > now, begun), else_=now)


def joined(config: VersionConfig, pair: TablePair) -> ColumnElement[bool]:
    """Join `pair` to the table of the root."""
    links = [column == above for each in config.pairs[: config.pairs.index(pair) + 1] for column, above in each.joins]
    return and_(*links)


def captured(config: VersionConfig) -> ColumnElement[bool]:
    """Match rows that were copied and not changed yet: their present version stands in history."""
    main, history = config.pair.main, config.pair.history
    same = [left == right for left, right in zip(config.key, config.history_key, strict=True)]
    return exists(select(1).select_from(history).where(*same, history.c[VERSION] == main.c[VERSION]).correlate(main))


def bound_values(stamp: Stamp) -> dict[str, Any]:
    return {"sqla_moment": stamp.moment, "sqla_revision": stamp.revision}


def new_values(config: VersionConfig, stamp: Stamp) -> dict[str, Any]:
    """What an UPDATE has to set beside what its author sets, by column key."""
    main, options = config.pair.main, config.options
    values: dict[str, Any] = {VERSION: main.c[VERSION] + 1}
    if options.granularity == "transaction":
        now = bound(made_now(config), bound_values(stamp))
        values[VERSION] = case((now, main.c[VERSION]), else_=main.c[VERSION] + 1)
    if options.period:
        values[VALID_FROM] = bound(next_moment(config), bound_values(stamp))
    if options.revision is not None:
        values[REVISION] = stamp.revision
    return values


def _is_empty_parameter(element: Any) -> TypeGuard[BindParameter[Any]]:
    return isinstance(element, BindParameter) and cast("Any", element).value is None


def bound(clause: ClauseT, values: dict[str, Any]) -> ClauseT:
    """`clause` with values in its named parameters, so that it can stand in a statement of somebody else's."""

    def replace(element: Any, **_: object) -> Any:
        if _is_empty_parameter(element) and element.key in values:
            return BindParameter[Any](None, values[element.key], type_=element.type, unique=True)
        return None

    replacing: Any = visitors.replacement_traverse
    return cast("ClauseT", replacing(clause, {}, replace))
