"""Ask each database for its name, so that cached rows of one are not served for another."""

from __future__ import annotations

import os
import platform
import secrets
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from sqlalchemy.pool import SingletonThreadPool

if TYPE_CHECKING:
    from sqlalchemy import Connection, Pool

    from ._replay import Prepared

_OF_MYSQL: Final = (
    "SELECT database(), current_user(), @@hostname, @@port, @@time_zone, @@sql_mode, @@lc_time_names, "
    "@@collation_connection, @@div_precision_increment, @@group_concat_max_len"
)
#: Queries for what names the database, and for settings of its connections that change the rows of a statement.
_QUERIES: Final = {
    "sqlite": "PRAGMA database_list",
    "postgresql": (
        "SELECT current_database(), current_user, current_setting('search_path'), "
        "inet_server_addr()::text, inet_server_port(), current_setting('TimeZone'), current_setting('DateStyle'), "
        "current_setting('IntervalStyle'), current_setting('lc_monetary'), current_setting('lc_numeric'), "
        "current_setting('lc_time'), current_setting('extra_float_digits')"
    ),
    "mysql": _OF_MYSQL,
    "mariadb": _OF_MYSQL,
}


class DatabaseNames:
    """The names of databases; the database of each connection pool is asked for its name once.

    A URL does not show the effect of ``connect_args``, of a ``creator`` or of a role's ``search_path``, so the database
    is asked, on the connection of the session. SQLite in memory is another database for each pool, and with
    `SingletonThreadPool` for each thread; a SQLite file is one database as long as it is the same file on the same
    machine.

    Settings that change values, such as the time zone, belong to the name: engines may differ in them.

    ``execution_options={"cache_database": "..."}`` on an engine names its database instead.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Pool, str] = WeakKeyDictionary()
        self._threads = threading.local()

    def name_of(self, prepared: Prepared) -> str:
        """Return the name of the database that the statement would go to."""
        bind = prepared.bind
        given = bind.get_execution_options().get("cache_database")
        if given is not None:
            return f"named {given}"
        pool = bind.engine.pool
        name = self._known.get(pool)
        if name is None:
            name = self._known[pool] = _ask(prepared.connection())
        if name.startswith("memory") and isinstance(pool, SingletonThreadPool):
            return f"{name} {self._this_thread()}"
        return name

    def _this_thread(self) -> str:
        if not hasattr(self._threads, "name"):
            self._threads.name = secrets.token_hex(8)
        return str(self._threads.name)


def _ask(connection: Connection) -> str:
    engine = connection.engine
    url = engine.url.set(password=None)
    query = _QUERIES.get(engine.dialect.name)
    if query is None:
        return f"{url} {engine.dialect.default_schema_name}"
    # A bare cursor: this is no statement of the user's, and the user's listeners and logs should not see it.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(query)
        answer = [tuple(row) for row in cursor.fetchall()]
    finally:
        cursor.close()
    if engine.dialect.name == "sqlite":
        return _sqlite_files(answer)
    # The URL too: two servers behind tunnels may give the same answers.
    return f"{url} {answer!r}"


def _sqlite_files(answer: list[tuple[str, ...]]) -> str:
    words = [platform.node()]
    for _, name, path in answer:
        if not path:
            if name == "main":
                return f"memory {secrets.token_hex(8)}"
            continue
        status = os.stat(path)
        words.append(f"{name}={path} {status.st_dev}:{status.st_ino}")
    return f"sqlite {words!r}"
