"""Locks for structures that consist of many rows, such as trees, and the recursion limit of recursive queries.

Each lock is taken *before* the structure is read and is held until the transaction ends. What is used depends on the
database:

- PostgreSQL: row locks ``FOR NO KEY UPDATE`` (they let foreign key checks of other tables pass), and an advisory
  transaction lock where there is no row to lock.
- MariaDB and MySQL: ``FOR UPDATE``. Under their default REPEATABLE READ a plain SELECT reads an old snapshot, so
  whatever is read under a lock must itself be a locking read: `locking_read`.
- SQLite has one writer for the whole file and no row locks. An UPDATE that matches no row takes the write lock at once,
  as ``BEGIN IMMEDIATE`` would, so that what is read afterwards stays true until the transaction ends.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

from sqlalchemy import Connection, GenerativeSelect, Table, false, func, select, update
from sqlalchemy.orm import Session, SessionTransaction

SelectT = TypeVar("SelectT", bound=GenerativeSelect)

_RECURSION_LIMIT = 4_294_967_295

#: The isolation levels of PostgreSQL at which a transaction may read what is older than its locks.
SNAPSHOT_LEVELS = frozenset({"repeatable read", "serializable"})


def is_mysql(connection: Connection) -> bool:
    """Return whether this is MariaDB or MySQL, whose InnoDB reads, locks and recurses by rules of its own."""
    return connection.dialect.name in {"mysql", "mariadb"}


def take_write_lock(connection: Connection, table: Table) -> None:
    """Make this transaction the writer now on SQLite; do nothing on a database that locks rows."""
    if connection.dialect.name == "sqlite":
        column = next(iter(table.primary_key))
        connection.execute(update(table).values({column: column}).where(false()))


def lock_table(connection: Connection, table: Table, purpose: str) -> bool:
    """Serialise the writers of one structure that has no row of its own, for instance the list of all roots.

    Return whether what this transaction reads now may be older than the lock: PostgreSQL under REPEATABLE READ and
    SERIALIZABLE keeps the snapshot of the transaction's first statement, so whoever relies on a read has to write a row
    that every writer writes, at whatever level.

    `purpose` tells several such structures of one table apart. On PostgreSQL all writers have to name the schema of the
    table in the same way, by the table or by ``schema_translate_map``, or all of them leave it to the search path.

    On MariaDB and MySQL the row with the lowest key stands for the structure. That queues writers up as a rule and no
    more: in an empty table, or where somebody inserts a lower key, two may pass at a time. Their locking reads
    (`locking_read`) meet then, and the database refuses one with a deadlock error.
    """
    if connection.dialect.name == "postgresql":
        # An advisory lock is one of the database. A session over schemas has a connection for each of them, which would
        # wait for each other without end if the lock did not tell the schema.
        schema = connection.schema_for_object(table)
        name = f"sqla_patterns:{schema or ''}.{table.name}:{purpose}".encode()
        key = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)
        isolation = func.current_setting("transaction_isolation")
        _, level = connection.execute(select(func.pg_advisory_xact_lock(key), isolation)).one()
        return level in SNAPSHOT_LEVELS
    if is_mysql(connection):
        column = next(iter(table.primary_key))
        connection.execute(select(column).order_by(column).limit(1).with_for_update())
    else:
        take_write_lock(connection, table)
    return False


def lock_rows(connection: Connection, statement: SelectT, *tables: Table) -> SelectT:
    """Return `statement`, locking the rows of `tables` that it returns, in the order in which it returns them."""
    if connection.dialect.name == "postgresql":
        return statement.with_for_update(key_share=True, of=tables)
    return statement.with_for_update()


def locking_read(connection: Connection, statement: SelectT) -> SelectT:
    """Return `statement`, reading what is committed now rather than a snapshot, where the two may differ.

    For reads of rows whose structure this transaction has locked. PostgreSQL under READ COMMITTED takes a new snapshot
    for each statement and refuses FOR UPDATE beside aggregates, so there it stays as it is.
    """
    return statement.with_for_update() if is_mysql(connection) else statement


def allow_deep_recursion(connection: Connection) -> None:
    """Lift the limit of 1,000 steps that MariaDB and MySQL put on a recursive CTE, once for each DBAPI connection.

    MariaDB cuts the result off *without an error*, so a tree deeper than the limit would silently lose its lower part.
    """
    if not is_mysql(connection) or connection.info.get("sqla_patterns_deep_recursion"):
        return
    mariadb = getattr(connection.dialect, "is_mariadb", False)
    variable = "max_recursive_iterations" if mariadb else "cte_max_recursion_depth"
    # A bare cursor: a setting of the connection is no statement of the user's transaction.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"SET SESSION {variable} = {_RECURSION_LIMIT}")
    finally:
        cursor.close()
    connection.info["sqla_patterns_deep_recursion"] = True


def lift_recursion_limit(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Listen to ``after_begin``: lift the limit for all that a session executes.

    For packages whose predicates stand in statements of the user's, which nobody else gets hold of.
    """
    allow_deep_recursion(connection)
