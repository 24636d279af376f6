"""`ConnectionState`: what the cache knows of a DBAPI connection: isolation level, snapshot, uncommitted writes."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, Engine

from .._sqlalchemy._names import PROXIED_ENGINE
from ._stamp_client import Lease
from ._stamps import Epoch

AUTOCOMMIT: Final = "AUTOCOMMIT"
SQLITE: Final = "SQLITE"
#: Levels at which each statement sees what was committed before it began.
STATEMENT_LEVELS: Final = frozenset({"READ COMMITTED", AUTOCOMMIT})
#: Levels at which a transaction sees what was committed before its first statement.
SNAPSHOT_LEVELS: Final = frozenset({"REPEATABLE READ", "SNAPSHOT"})

_CATALOG: Final = re.compile(r"\binformation_schema\b", re.IGNORECASE)
_READS_TABLE: Final = re.compile(r"\bfrom\b", re.IGNORECASE)
_LOCKS: Final = re.compile(r"\bfor\s+(no\s+key\s+|key\s+)?(update|share)\b|\block\s+in\s+share\b", re.IGNORECASE)
#: Statements that make a transaction take its snapshot. That of MariaDB begins the transaction, and would end one that
#: has already executed something.
_SNAPSHOT_STATEMENTS: Final = {
    "mysql": "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "postgresql": "SELECT 1",
    "sqlite": "SELECT 1 FROM sqlite_master LIMIT 1",
}


class ConnectionState:
    """What is known of one DBAPI connection and the transaction in it.

    Attributes:
        default_level: The isolation level of the connection where a transaction asks for no other.
        level: The isolation level of the transaction.
        begin_epoch: The epoch before the transaction's first statement, at levels where it matters. Whatever the
            transaction reads is at least as new.
        has_snapshot: Whether the transaction has taken the snapshot that it will keep.
        has_executed: Whether the transaction may have executed a statement.
        savepoint_may_commit: Whether releasing a savepoint may commit (SQLite).
        dirty_tags: The tags of what was written and is not committed.
        drops_stamps: Whether the transaction creates or drops the tables of the stamp store, and may therefore hold
            locks that the store would wait for.
        pending_leases: Leases of commits that have been sent or are about to be.
        autocommit_lease: The lease of a statement that commits by itself, while it runs.
        prepared_lease: The lease of a prepared transaction.
        last_write: The number of the last write of this transaction. A write tracker numbers the writes of all its
            connections.
        written: For each tag the number of the last write to it, also of writes that were committed at once.
    """

    __slots__ = (
        "autocommit_lease",
        "begin_epoch",
        "default_level",
        "dirty_tags",
        "drops_stamps",
        "has_executed",
        "has_snapshot",
        "last_write",
        "level",
        "pending_leases",
        "prepared_lease",
        "savepoint_may_commit",
        "written",
    )

    def __init__(self) -> None:
        self.default_level: str | None = None
        self.level = "UNKNOWN"
        self.begin_epoch: Epoch | None = None
        self.has_snapshot = False
        self.has_executed = True
        self.savepoint_may_commit = False
        self.dirty_tags: set[str] = set()
        self.drops_stamps = False
        self.pending_leases: list[Lease] = []
        self.autocommit_lease: Lease | None = None
        self.prepared_lease: Lease | None = None
        self.last_write = 0
        self.written: dict[str, int] = {}

    def note_write(self, number: int, tags: Collection[str]) -> None:
        """Take note of a statement that writes."""
        self.last_write = number
        self.written.update(dict.fromkeys(tags, number))

    def wrote_since(self, number: int, tags: Collection[str]) -> bool:
        """Return whether one of `tags` was written after the write with that number."""
        return self.last_write > number and any(self.written.get(tag, 0) > number for tag in tags)


def root_of(engine: Engine) -> Engine:
    """Return the engine that ``engine.execution_options()`` was called on.

    Its listeners are called for all connections of the pool.
    """
    # Nothing public leads back. Without it, an engine is taken for itself.
    proxied: object = PROXIED_ENGINE.get(engine)
    return root_of(proxied) if isinstance(proxied, Engine) else engine


def in_sqlite_transaction(connection: Connection) -> bool:
    """Return whether SQLite is in a transaction, which it need not be where SQLAlchemy is."""
    driver: object = connection.connection.driver_connection
    return bool(getattr(driver, "in_transaction", True))


def takes_snapshot(connection: Connection, statement: str) -> bool:
    """Return whether the transaction has its snapshot once this statement has run."""
    head = statement.lstrip(" (\n\t")[:6].upper()
    if connection.dialect.name in {"mysql", "mariadb"}:
        # InnoDB opens its read view with the first plain SELECT from one of its tables.
        return (
            head.startswith(("SELECT", "WITH"))
            and _READS_TABLE.search(statement) is not None
            and not (_LOCKS.search(statement) or _CATALOG.search(statement))
        )
    return head.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "VALUES"))


def take_snapshot(connection: Connection, state: ConnectionState) -> None:
    """Make a transaction that will keep one snapshot take it now, where that does no harm.

    Otherwise its first read would have to go to the database, and on MariaDB, where all transactions are such by
    default, hardly anything would ever be served.
    """
    mysql = connection.dialect.name in {"mysql", "mariadb"}
    sql = _SNAPSHOT_STATEMENTS.get("mysql" if mysql else connection.dialect.name)
    if state.has_snapshot or sql is None or (mysql and state.has_executed):
        return
    # A bare cursor: this is no statement of the user's.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql)
        if not mysql:
            cursor.fetchall()
    finally:
        cursor.close()
    state.has_snapshot = True
