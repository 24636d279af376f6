"""Which database a session reads, as far as a cache must tell databases apart."""

from __future__ import annotations

import os
import platform
import secrets
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy.pool import SingletonThreadPool

if TYPE_CHECKING:
    from sqlalchemy import Connection, Pool

    from ._replay import Prepared

__all__ = ("BindIdentities",)

_QUESTIONS: Final = {
    "sqlite": "PRAGMA database_list",
    "postgresql": (
        "SELECT current_database(), current_user, current_setting('search_path'), "
        "inet_server_addr()::text, inet_server_port()"
    ),
    "mysql": "SELECT database(), current_user(), @@hostname, @@port",
    "mariadb": "SELECT database(), current_user(), @@hostname, @@port",
}


class BindIdentities:
    """Names databases, asking each pool's database once.

    A URL does not say what ``connect_args``, a ``creator`` or a role's ``search_path`` make of it, so the database is asked, on the
    connection of the session. SQLite in memory is another database for each pool, and with `SingletonThreadPool` for each
    thread; a SQLite file is one as long as it is the same file on the same machine.

    ``execution_options={"cache_database": "..."}`` on an engine names its database instead.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Pool, str] = WeakKeyDictionary()
        self._threads = threading.local()

    def of(self, prepared: Prepared) -> str:
        """Name the database that the statement would go to."""
        bind = prepared.bind
        given = bind.get_execution_options().get("cache_database")
        if given is not None:
            return f"named {given}"
        pool = bind.engine.pool
        name = self._known.get(pool)
        if name is None:
            connection = prepared.session.connection(bind_arguments=prepared.bind_arguments)
            name = self._known[pool] = _ask(connection)
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
    question = _QUESTIONS.get(engine.dialect.name)
    if question is None:
        return f"{url} {engine.dialect.default_schema_name}"
    # A bare cursor: the question is no statement of the user's, whose listeners and logs need not see it.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(question)
        answer = [tuple(row) for row in cursor.fetchall()]
    finally:
        cursor.close()
    if engine.dialect.name == "sqlite":
        return _sqlite_files(answer)
    # The URL too: two servers behind tunnels may give the same answers.
    return f"{url} {answer!r}"


def _sqlite_files(answer: list[tuple[Any, ...]]) -> str:
    words = [platform.node()]
    for _, name, path in answer:
        if not path:
            if name == "main":
                return f"memory {secrets.token_hex(8)}"
            continue
        status = os.stat(path)
        words.append(f"{name}={path} {status.st_dev}:{status.st_ino}")
    return f"sqlite {words!r}"
