"""What is known of one DBAPI connection, and what isolation levels mean for a cache."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Connection, Engine

from ._contact import Lease
from ._stamps import Epoch

__all__ = (
    "AUTOCOMMIT",
    "NOW",
    "SNAPSHOT",
    "SQLITE",
    "Link",
    "in_sqlite_transaction",
    "pin",
    "root_of",
    "takes_snapshot",
)

AUTOCOMMIT: Final = "AUTOCOMMIT"
SQLITE: Final = "SQLITE"
#: Levels at which every statement sees what is committed by then.
NOW: Final = frozenset({"READ COMMITTED", AUTOCOMMIT})
#: Levels at which a transaction sees what was committed when its first statement ran.
SNAPSHOT: Final = frozenset({"REPEATABLE READ", "SNAPSHOT"})

_CATALOG: Final = re.compile(r"\binformation_schema\b", re.IGNORECASE)
_READS_TABLE: Final = re.compile(r"\bfrom\b", re.IGNORECASE)
_LOCKS: Final = re.compile(r"\bfor\s+(no\s+key\s+|key\s+)?(update|share)\b|\block\s+in\s+share\b", re.IGNORECASE)
#: What has a transaction take its snapshot. On MariaDB this begins the transaction, and would end one that has done something.
_PINS: Final = {
    "mysql": "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "postgresql": "SELECT 1",
    "sqlite": "SELECT 1 FROM sqlite_master LIMIT 1",
}


class Link:
    """What is known of one DBAPI connection and the transaction in it."""

    __slots__ = ("bare", "base", "dirty", "horizon", "instant", "level", "pending", "prepared", "snapshot", "untouched")

    def __init__(self) -> None:
        #: The isolation level that the connection has unless told otherwise.
        self.base: str | None = None
        #: That of the transaction.
        self.level = "UNKNOWN"
        #: The epoch before the transaction's first statement, if it matters.
        self.horizon: Epoch | None = None
        #: Whether the transaction has the snapshot that it will keep.
        self.snapshot = False
        #: Whether releasing a savepoint may commit.
        self.bare = False
        #: Whether it has executed nothing so far.
        self.untouched = False
        #: The tags of what was written and not committed.
        self.dirty: set[str] = set()
        #: Leases of commits that have been sent, or are about to be.
        self.pending: list[Lease] = []
        #: That of a statement that commits by itself, while it runs.
        self.instant: Lease | None = None
        #: That of a prepared transaction.
        self.prepared: Lease | None = None


def root_of(engine: Engine) -> Engine:
    """The engine that ``engine.execution_options()`` was called on, which hears of everything on the connections of its pool."""
    # Nothing public leads back. Without it, an engine is taken for itself.
    proxied: object = getattr(engine, "_proxied", None)
    return root_of(proxied) if isinstance(proxied, Engine) else engine


def in_sqlite_transaction(connection: Connection) -> bool:
    """Whether SQLite is in a transaction, which it need not be where SQLAlchemy is."""
    driver: object = connection.connection.driver_connection
    return bool(getattr(driver, "in_transaction", True))


def takes_snapshot(connection: Connection, statement: str) -> bool:
    """Whether the transaction has its snapshot once this statement has run."""
    head = statement.lstrip(" (\n\t")[:6].upper()
    if connection.dialect.name in {"mysql", "mariadb"}:
        # InnoDB opens its read view with the first plain SELECT from a table of its own.
        return (
            head.startswith(("SELECT", "WITH"))
            and _READS_TABLE.search(statement) is not None
            and not (_LOCKS.search(statement) or _CATALOG.search(statement))
        )
    return head.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "VALUES"))


def pin(connection: Connection, link: Link) -> None:
    """Have a transaction that will keep one snapshot take it now, where that does no harm.

    Else its first read would have to go to the database, and on MariaDB, by whose default all transactions are such, hardly anything
    would ever be served.
    """
    mysql = connection.dialect.name in {"mysql", "mariadb"}
    sql = _PINS.get("mysql" if mysql else connection.dialect.name)
    if link.snapshot or sql is None or (mysql and not link.untouched):
        return
    # A bare cursor: this is no statement of the user's.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql)
        if not mysql:
            cursor.fetchall()
    finally:
        cursor.close()
    link.snapshot = True
