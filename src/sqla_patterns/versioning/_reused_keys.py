"""Reused primary keys: a new row under the key of a deleted one continues its version numbers.

The numbers are corrected after the INSERT and not before, because the INSERT waits for a transaction that is deleting
the row with that key, and the history which that transaction writes can be read only then.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, case, func, null, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from .._declarative import keep_onupdate
from .._sql import chunks, key_in
from .._typing import AnyColumn, AnyState
from ._config import KeyValues, VersionConfig, connection_of
from ._expressions import is_behind_history, keys_per_statement, same_key
from ._names import VALID_FROM, VALID_TO, VERSION
from ._types import UTCDateTime


class LastVersion(NamedTuple):
    """The last version of a key in history.

    Attributes:
        version: Its number.
        ended: When it ended; None where there are no periods.
    """

    version: int
    ended: datetime | None


def last_versions(session: Session, root: VersionConfig, keys: Iterable[KeyValues]) -> dict[KeyValues, LastVersion]:
    """Return the last version of each key that has a history, with one SELECT for a thousand keys."""
    columns, width, history = root.history_key, len(root.key), root.pair.history
    ended = func.max(history.c[VALID_TO], type_=UTCDateTime()) if root.options.period else null()
    statement = select(*columns, func.max(history.c[VERSION]), ended).group_by(*columns)
    found: dict[KeyValues, LastVersion] = {}
    for chunk in chunks(keys, keys_per_statement(root)):
        connection = connection_of(session, root)
        for row in connection.execute(statement.where(key_in(columns, chunk))):
            found[tuple(row[:width])] = LastVersion(row[width], row[width + 1])
    return found


def continue_keys(session: Session, root: VersionConfig, keys: Iterable[KeyValues]) -> dict[KeyValues, LastVersion]:
    """Give rows that were just inserted under reused keys the next version.

    Emits one SELECT for a thousand keys, and one UPDATE of the rows if there are any.

    Returns:
        The last versions of the reused keys.
    """
    last = last_versions(session, root, keys)
    main, period = root.pair.main, root.options.period
    if last:
        parameters: list[dict[str, object]] = [
            {"sqla_last": each.version, **({"sqla_ended": each.ended} if period else {}), **_key_parameters(key)}
            for key, each in last.items()
        ]
        number = bindparam("sqla_last", type_=main.c[VERSION].type)
        values: dict[AnyColumn, object] = {**keep_onupdate(main), main.c[VERSION]: number + 1}
        if period:
            # The last version may have ended after the time of the present transaction.
            ended = bindparam("sqla_ended", type_=UTCDateTime())
            values[main.c[VALID_FROM]] = case((main.c[VALID_FROM] < ended, ended), else_=main.c[VALID_FROM])
        same = [column == bindparam(f"sqla_key_{at}", type_=column.type) for at, column in enumerate(root.key)]
        connection = connection_of(session, root)
        connection.execute(update(main).where(*same, main.c[VERSION] <= number).values(values), parameters)
    return last


def continue_object(state: AnyState, last: LastVersion) -> None:
    """Set on a loaded object what `continue_keys` has written to its row."""
    set_committed_value(state.obj(), VERSION, last.version + 1)
    begun = state.dict.get(VALID_FROM)
    if last.ended is not None and isinstance(begun, datetime) and begun < last.ended:
        set_committed_value(state.obj(), VALID_FROM, last.ended)


def _key_parameters(key: KeyValues) -> dict[str, object]:
    return {f"sqla_key_{at}": value for at, value in enumerate(key)}


def continue_all(session: Session, root: VersionConfig) -> int:
    """Give all rows of a table whose version is not higher than those in their history the next one.

    Returns:
        The number of such rows.
    """
    main, history, period = root.pair.main, root.pair.history, root.options.period
    number = select(func.max(history.c[VERSION]) + 1).where(same_key(root)).correlate(main).scalar_subquery()
    values: dict[AnyColumn, object] = {**keep_onupdate(main), main.c[VERSION]: number}
    if period:
        ended = select(func.max(history.c[VALID_TO])).where(same_key(root)).correlate(main).scalar_subquery()
        values[main.c[VALID_FROM]] = case((main.c[VALID_FROM] < ended, ended), else_=main.c[VALID_FROM])
    connection = connection_of(session, root)
    return connection.execute(update(main).where(is_behind_history(root)).values(values)).rowcount
