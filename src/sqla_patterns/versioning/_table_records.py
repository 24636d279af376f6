"""What the package records about tables, such as the table of which another one is the history.

The records are kept on the MetaData. ``Table.info`` would be the usual place, but Alembic renders it into migration
scripts, and it is pickled and copied together with the table. MetaData leaves foreign attributes out when it is
pickled, and ``to_metadata()`` does not copy them. A ``WeakKeyDictionary`` by table would not do: the recorded values
refer to the table, so that no table in it would ever be garbage.

The keys of the records:

- `HISTORY_OF`: of a history table, its main table.
- `ASSOCIATION_HISTORY`: of a secondary table, the table of its history.
- ``_config.CONFIG_RECORD``: of a main table, the configuration of its class.
- ``_cascades.CASCADES``: of a table, the foreign keys by which the database deletes or changes rows with its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

from sqlalchemy import MetaData, Table

from ._names import RECORDS_ATTRIBUTE

V = TypeVar("V")


@dataclass(frozen=True)
class RecordKey(Generic[V]):
    """The name of a record, which carries the type of the recorded value for type checkers."""

    name: str


HISTORY_OF: Final = RecordKey[Table]("history_of")
ASSOCIATION_HISTORY: Final = RecordKey[Table]("association")


def records_of(metadata: MetaData) -> dict[Table, dict[str, object]]:
    """Return the records of all tables of `metadata` that have one."""
    found: dict[Table, dict[str, object]] = vars(metadata).get(RECORDS_ATTRIBUTE, {})
    return found


def recorded(table: Table, key: RecordKey[V]) -> V | None:
    """Return what is recorded about `table` under `key`, None if nothing is."""
    return cast("V | None", records_of(table.metadata).get(table, {}).get(key.name))


def record(table: Table, key: RecordKey[V], value: V) -> None:
    """Record `value` about `table` under `key`."""
    records: dict[Table, dict[str, object]] = vars(table.metadata).setdefault(RECORDS_ATTRIBUTE, {})
    records.setdefault(table, {})[key.name] = value
