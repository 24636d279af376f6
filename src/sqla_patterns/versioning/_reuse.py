"""Keys that are used again: a new row under the key of a deleted one goes on with its versions.

This is settled after the INSERT and not before. An INSERT waits for a transaction that is just deleting the key, and only then does the history
show that this transaction left.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, case, exists, func, null, select, update
from sqlalchemy.orm import Session

from ._clauses import CHUNK, chunks, key_in
from ._config import VersionConfig
from ._tables import VALID_FROM, VALID_TO, VERSION
from ._types import UTCDateTime

__all__ = ("Last", "continue_all", "continue_keys", "last_versions")


class Last(NamedTuple):
    """The last version of a key in history."""

    version: int
    #: When it ended, where there are periods.
    ended: datetime | None


def last_versions(
    session: Session, root: VersionConfig, keys: Iterable[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Last]:
    """The last version in history of each key that has one. One SELECT for a thousand keys."""
    columns, width, history = root.history_key, len(root.key), root.pair.history
    ended = func.max(history.c[VALID_TO], type_=UTCDateTime()) if root.options.period else null()
    statement = select(*columns, func.max(history.c[VERSION]), ended).group_by(*columns)
    found: dict[tuple[Any, ...], Last] = {}
    for chunk in chunks(keys, max(1, CHUNK // width)):
        connection = session.connection(bind_arguments={"mapper": root.mapper})
        for row in connection.execute(statement.where(key_in(columns, chunk))):
            found[tuple(row[:width])] = Last(row[width], row[width + 1])
    return found


def continue_keys(
    session: Session, root: VersionConfig, keys: Iterable[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Last]:
    """Give rows that were just inserted under used keys the version that follows; return the last ones of those keys.

    One SELECT for a thousand keys, and one UPDATE of the rows, if there are any.
    """
    last = last_versions(session, root, keys)
    main, period = root.pair.main, root.options.period
    if last:
        parameters: list[dict[str, Any]] = [
            {"sqla_last": each.version, **({"sqla_ended": each.ended} if period else {}), **_named(key)}
            for key, each in last.items()
        ]
        number = bindparam("sqla_last", type_=main.c[VERSION].type)
        values: dict[str, Any] = {VERSION: number + 1}
        if period:
            # Its predecessor may have ended after the present transaction took its time.
            ended = bindparam("sqla_ended", type_=UTCDateTime())
            values[VALID_FROM] = case((main.c[VALID_FROM] < ended, ended), else_=main.c[VALID_FROM])
        same = [column == bindparam(f"sqla_key_{at}", type_=column.type) for at, column in enumerate(root.key)]
        connection = session.connection(bind_arguments={"mapper": root.mapper})
        connection.execute(update(main).where(*same, main.c[VERSION] <= number).values(values), parameters)
    return last


def _named(key: tuple[Any, ...]) -> dict[str, Any]:
    return {f"sqla_key_{at}": value for at, value in enumerate(key)}


def continue_all(session: Session, root: VersionConfig) -> None:
    """As `continue_keys`, for rows whose keys nobody knows; it looks at the whole table."""
    main, history, period = root.pair.main, root.pair.history, root.options.period
    same = and_(*(left == right for left, right in zip(root.key, root.history_key, strict=True)))
    number = select(func.max(history.c[VERSION]) + 1).where(same).correlate(main).scalar_subquery()
    values: dict[str, Any] = {VERSION: number}
    if period:
        ended = select(func.max(history.c[VALID_TO])).where(same).correlate(main).scalar_subquery()
        values[VALID_FROM] = case((main.c[VALID_FROM] < ended, ended), else_=main.c[VALID_FROM])
    used = exists(select(1).select_from(history).where(same, history.c[VERSION] >= main.c[VERSION]).correlate(main))
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    connection.execute(update(main).where(used).values(values))
