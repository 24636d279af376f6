"""Watches engines: what their transactions write, when those commit, and since when they see what they see.

All of this belongs to the DBAPI connection, not to SQLAlchemy's `Connection` around it: with a pool such as `StaticPool` several share one, and with
it a transaction. It is kept in ``Connection.info``, where also the pool finds it when the connection comes back. The pool is what tells that a commit is
over, for SQLAlchemy has an event before COMMIT and none behind it; where a connection is kept instead, its next BEGIN tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, ExceptionContext, event
from sqlalchemy.engine.interfaces import ExecutionContext

from ._contact import Contact, Lease
from ._links import AUTOCOMMIT, NOW, SQLITE, Link, in_sqlite_transaction, root_of, takes_snapshot
from ._tags import EVERYTHING, schema_map_of, table_tags
from ._writes import Raw, WriteCollector, Writes, prepared_xid

__all__ = ("Tracker",)


class Tracker:
    """The listeners on engines and their pools."""

    def __init__(self, contact: Contact, collector: WriteCollector) -> None:
        self._contact: Final = contact
        self._collector: Final = collector
        self._lock = Lock()
        #: Engines that are tracked, with the isolation level that their connections turned out to have.
        self._engines: WeakKeyDictionary[Engine, str | None] = WeakKeyDictionary()
        self._listeners: Final[Mapping[str, Callable[..., None]]] = {
            "begin": self._begin,
            "begin_twophase": self._begin_twophase,
            "commit": self._commit,
            "rollback": self._rollback,
            "savepoint": self._savepoint,
            "release_savepoint": self._release,
            "prepare_twophase": self._prepare,
            "commit_twophase": self._commit_twophase,
            "rollback_twophase": self._rollback_twophase,
            "before_cursor_execute": self._before_execute,
            "after_cursor_execute": self._after_execute,
            "handle_error": self._after_error,
            "checkin": self._checkin,
        }

    def track(self, engine: Engine) -> bool:
        """Listen to `engine` and to those that share its connections; return whether this is new."""
        root = root_of(engine)
        with self._lock:
            if root in self._engines:
                return False
            for name, listener in self._listeners.items():
                event.listen(root, name, listener)
            self._engines[root] = None
        return True

    def untrack_all(self) -> None:
        """Stop listening."""
        with self._lock:
            for engine in list(self._engines):
                for name, listener in self._listeners.items():
                    if event.contains(engine, name, listener):
                        event.remove(engine, name, listener)
            self._engines.clear()

    def engines(self) -> list[Engine]:
        """The engines that are listened to."""
        with self._lock:
            return list(self._engines)

    def tracks(self, engine: Engine) -> bool:
        """Whether `engine` is listened to."""
        return root_of(engine) in self._engines

    def engine_level(self, engine: Engine) -> str | None:
        """The isolation level that the next transaction of `engine` will have, if it is known."""
        option: object = engine.get_execution_options().get("isolation_level")
        return _normal(option) if isinstance(option, str) else self._engines.get(root_of(engine))

    def link(self, connection: Connection) -> Link:
        """What is known of `connection`."""
        link: Link | None = connection.info.get(self)
        if link is None:
            link = connection.info[self] = Link()
            if connection.in_transaction():
                # It has begun unseen, and may have written anything.
                link.dirty.add(EVERYTHING)
        return link

    def adopt(self, connection: Connection) -> None:
        """Take note of a transaction that has begun this moment, before the engine was listened to."""
        connection.info[self] = link = Link()
        self._look(connection, link)

    # -- transactions ----------------------------------------------------------------------------

    def _begin(self, connection: Connection) -> None:
        link: Link | None = connection.info.get(self)
        if link is None:
            link = connection.info[self] = Link()
        self._add_late_writes(link)
        self._settle(link)
        self._look(connection, link)

    def _add_late_writes(self, link: Link) -> None:
        """Another listener for the event of a commit may have written after ours, and that was committed as well."""
        if link.pending and link.dirty:
            last = link.pending[-1]
            link.pending[-1] = last._replace(tags=last.tags | link.dirty)
            link.dirty = set()

    def _look(self, connection: Connection, link: Link) -> None:
        link.snapshot = False
        link.untouched = True
        link.bare = False
        link.horizon = None
        option: object = connection.get_execution_options().get("isolation_level")
        if isinstance(option, str):
            link.level = _normal(option)
        else:
            if link.base is None:
                self._find_level(connection, link)
            link.level = link.base or "UNKNOWN"
        if link.level in NOW:
            link.horizon = None
        elif link.horizon is None:
            # Before the first statement: the database takes the snapshot no earlier.
            link.horizon = self._contact.epoch()

    def _find_level(self, connection: Connection, link: Link) -> None:
        if connection.dialect.name == "sqlite":
            # What create_engine(isolation_level=) was given is private; the driver does not tell AUTOCOMMIT from its default.
            given: object = getattr(connection.dialect, "_on_connect_isolation_level", None)
            link.base = AUTOCOMMIT if given == AUTOCOMMIT else SQLITE
        else:
            link.horizon = self._contact.epoch()
            given = getattr(connection.dialect, "_on_connect_isolation_level", None)
            link.base = AUTOCOMMIT if given == AUTOCOMMIT else _normal(connection.get_isolation_level())
        self._engines[root_of(connection.engine)] = link.base

    def _begin_twophase(self, connection: Connection, xid: Any) -> None:
        self._begin(connection)

    def _commit(self, connection: Connection) -> None:
        # SQLAlchemy takes a transaction whose COMMIT was not sent for ended, and a session that is closed then returns the connection to
        # the pool as it is: whoever is next would commit what was refused.
        self._mark_commit(connection, lambda: connection.dialect.do_rollback(connection.connection))

    def _mark_commit(self, connection: Connection, undo: Callable[[], None]) -> None:
        link = self.link(connection)
        if not link.dirty:
            return
        marked = False
        try:
            link.pending.append(self._contact.mark(link.dirty))
            marked = True
        finally:
            link.dirty = set()
            if not marked:
                undo()

    def _savepoint(self, connection: Connection, name: str | None) -> None:
        if connection.dialect.name == "sqlite" and not in_sqlite_transaction(connection):
            # The driver begins a transaction before DML only, and to SQLite this savepoint will be one.
            self.link(connection).bare = True

    def _release(self, connection: Connection, name: str, context: Any) -> None:
        link = self.link(connection)
        if link.bare and link.dirty:
            link.pending.append(self._contact.mark(link.dirty))

    def _rollback(self, connection: Connection) -> None:
        if connection.invalidated:
            # Nobody knows whether the COMMIT that was sent took effect: the lease stays until it expires.
            return
        link = self.link(connection)
        link.dirty = set()
        self._settle(link)

    def _prepare(self, connection: Connection, xid: Any) -> None:
        link = self.link(connection)
        if link.dirty:
            # A prepared transaction survives everything; so must its lease.
            link.prepared = self._contact.mark(link.dirty, name=_prepared(xid), endless=True)
            link.dirty = set()

    def _commit_twophase(self, connection: Connection, xid: Any, is_prepared: bool) -> None:
        if not is_prepared:
            self._mark_commit(connection, connection.invalidate)
        self._end_prepared(connection)

    def _rollback_twophase(self, connection: Connection, xid: Any, is_prepared: bool) -> None:
        if not connection.invalidated:
            self.link(connection).dirty = set()
            self._end_prepared(connection)

    def _end_prepared(self, connection: Connection) -> None:
        link = self.link(connection)
        if link.prepared is not None:
            link.pending.append(link.prepared)
        link.prepared = None

    def _end_by_hand(self, link: Link, xid: str | None) -> None:
        """Prepared by somebody else, perhaps by a process that is gone: the store knows what it wrote.

        SQLAlchemy's ``commit_prepared()`` sends a statement and no event.
        """
        name = _prepared(xid)
        if xid is not None and all(lease.name != name for lease in link.pending):
            link.pending.append(Lease(name, frozenset()))

    def _checkin(self, connection: Any, record: Any) -> None:
        link: Link | None = record.info.get(self)
        if link is None:
            return
        self._add_late_writes(link)
        link.dirty = set()
        # A transaction that is prepared but not committed stays leased.
        link.prepared = link.instant = None
        if connection is None:
            link.pending.clear()  # The connection broke; see _rollback.
        else:
            self._settle(link)

    def _settle(self, link: Link) -> None:
        if link.pending:
            pending, link.pending = link.pending, []
            for lease in pending:
                self._contact.done(lease)

    # -- statements ------------------------------------------------------------------------------

    def _before_execute(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        writes = self._collector.writes(cast(ExecutionContext, context), statement)
        if writes.raw is None and not writes:
            return
        link = self.link(connection)
        if writes.raw is Raw.ISOLATION:
            link.level, link.base, link.horizon = "UNKNOWN", None, None
        if writes.raw is Raw.PREPARED:
            self._end_by_hand(link, prepared_xid(statement, parameters))
            return
        tags = _tags(connection, writes, context)
        if link.level == AUTOCOMMIT:
            if tags:
                link.instant = self._contact.mark(tags)
            return
        link.dirty |= tags
        commits = writes.raw is Raw.COMMIT or (
            writes.raw is Raw.DDL and connection.dialect.name in {"mysql", "mariadb"}
        )
        if commits and link.dirty:
            # MariaDB commits before any DDL. Further statements of this transaction, as SQLAlchemy sees it, are for its own COMMIT.
            link.pending.append(self._contact.mark(link.dirty))

    def _after_execute(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        link: Link | None = connection.info.get(self)
        if link is None:
            return
        if link.instant is not None:
            lease, link.instant = link.instant, None
            self._contact.done(lease)
        elif not link.snapshot and link.level not in NOW:
            link.untouched = False
            link.snapshot = takes_snapshot(connection, statement)

    def _after_error(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is None or context.is_disconnect or connection.invalidated:
            return
        link: Link | None = connection.info.get(self)
        if link is not None and link.instant is not None:
            lease, link.instant = link.instant, None
            self._contact.done(lease)


def _normal(level: str) -> str:
    return level.upper().replace("_", " ")


def _prepared(xid: object) -> str:
    return f"prepared {xid}"


def _tags(connection: Connection, writes: Writes, context: Any) -> set[str]:
    tags = set(table_tags(connection, writes.tables, schema_map_of(connection, context.execution_options)))
    if writes.everything:
        tags.add(EVERYTHING)
    return tags
