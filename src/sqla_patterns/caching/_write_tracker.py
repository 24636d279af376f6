"""Watch engines: what their transactions write, when they commit, and at which epoch they began.

What is known of a transaction is kept with the DBAPI connection and not with SQLAlchemy's `Connection` around it: with
a pool such as `StaticPool` several of these share one DBAPI connection, and with it a transaction. It is kept in
``Connection.info``, where the pool finds it too when the connection is returned. SQLAlchemy has an event before COMMIT
and none after it: that a commit has ended shows when the dialect's method that sends it returns, when the connection is
returned to the pool, or when the next transaction begins, whichever is first. A connection that is kept open and idle
must not keep its tables leased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, ExceptionContext, PoolProxiedConnection, event
from sqlalchemy.engine.interfaces import ExecutionContext
from sqlalchemy.pool import ConnectionPoolEntry

from .._sqlalchemy._names import ISOLATION_ON_CONNECT
from ._after_commit import listen_after_commit, remove_after_commit
from ._connection_states import (
    AUTOCOMMIT,
    SQLITE,
    STATEMENT_LEVELS,
    ConnectionState,
    in_sqlite_transaction,
    root_of,
    takes_snapshot,
)
from ._stamp_client import Lease, StampClient
from ._tags import EVERYTHING, schema_map_of, table_tags
from ._writes import Raw, WriteCollector, Writes, prepared_xid


class WriteTracker:
    """The listeners on engines and their pools that tell the stamp store what is written.

    Attributes:
        writes: How many statements have written.
    """

    def __init__(self, stamp_client: StampClient, collector: WriteCollector) -> None:
        self._stamp_client: Final = stamp_client
        self._collector: Final = collector
        self._lock = Lock()
        self.writes = 0
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
        """Listen to `engine` and to the engines that share its connections; return whether this is new."""
        root = root_of(engine)
        with self._lock:
            if root in self._engines:
                return False
            for name, listener in self._listeners.items():
                event.listen(root, name, listener)
            listen_after_commit(root, self._committed)
            self._engines[root] = None
        return True

    def untrack_all(self) -> None:
        """Stop listening."""
        with self._lock:
            for engine in list(self._engines):
                for name, listener in self._listeners.items():
                    if event.contains(engine, name, listener):
                        event.remove(engine, name, listener)
                remove_after_commit(engine, self._committed)
            self._engines.clear()

    def engines(self) -> list[Engine]:
        """Return the engines that are listened to."""
        with self._lock:
            return list(self._engines)

    def tracks(self, engine: Engine) -> bool:
        """Return whether `engine` is listened to."""
        return root_of(engine) in self._engines

    def engine_level(self, engine: Engine) -> str | None:
        """Return the isolation level that the next transaction of `engine` will have, if it is known."""
        option: object = engine.get_execution_options().get("isolation_level")
        return _normalized(option) if isinstance(option, str) else self._engines.get(root_of(engine))

    def state_of(self, connection: Connection) -> ConnectionState:
        """Return what is known of `connection`."""
        state: ConnectionState | None = connection.info.get(self)
        if state is None:
            state = connection.info[self] = ConnectionState()
            if connection.in_transaction():
                # It began before the engine was listened to, and may have written anything.
                state.dirty_tags.add(EVERYTHING)
        return state

    def adopt(self, connection: Connection) -> None:
        """Take note of a transaction that has only just begun, before the engine was listened to."""
        connection.info[self] = state = ConnectionState()
        self._begin_transaction(connection, state)

    # -- transactions ----------------------------------------------------------------------------

    def _begin(self, connection: Connection) -> None:
        state: ConnectionState | None = connection.info.get(self)
        if state is None:
            state = connection.info[self] = ConnectionState()
        self._add_late_writes(state)
        self._end_leases(state)
        self._begin_transaction(connection, state)

    def _add_late_writes(self, state: ConnectionState) -> None:
        """Add what another listener to the event of the commit has written after ours: it was committed as well."""
        if state.pending_leases and state.dirty_tags:
            last = state.pending_leases[-1]
            state.pending_leases[-1] = last._replace(tags=last.tags | state.dirty_tags)
            state.dirty_tags = set()

    def _begin_transaction(self, connection: Connection, state: ConnectionState) -> None:
        state.has_snapshot = False
        state.has_executed = False
        state.savepoint_may_commit = False
        state.begin_epoch = None
        state.last_write, state.written = 0, {}
        state.drops_stamps = False
        option: object = connection.get_execution_options().get("isolation_level")
        if isinstance(option, str):
            state.level = _normalized(option)
        else:
            if state.default_level is None:
                self._find_level(connection, state)
            state.level = state.default_level or "UNKNOWN"
        if state.level in STATEMENT_LEVELS:
            state.begin_epoch = None
        elif state.begin_epoch is None:
            # Before the first statement: the database takes the snapshot no earlier.
            state.begin_epoch = self._stamp_client.epoch()

    def _find_level(self, connection: Connection, state: ConnectionState) -> None:
        if connection.dialect.name == "sqlite":
            # What create_engine(isolation_level=) was given is private; the driver does not distinguish AUTOCOMMIT from
            # its default.
            given: object = ISOLATION_ON_CONNECT.get(connection.dialect)
            state.default_level = AUTOCOMMIT if given == AUTOCOMMIT else SQLITE
        else:
            state.begin_epoch = self._stamp_client.epoch()
            given = ISOLATION_ON_CONNECT.get(connection.dialect)
            state.default_level = AUTOCOMMIT if given == AUTOCOMMIT else _normalized(connection.get_isolation_level())
        self._engines[root_of(connection.engine)] = state.default_level

    def _begin_twophase(self, connection: Connection, xid: object) -> None:
        self._begin(connection)

    def _commit(self, connection: Connection) -> None:
        # SQLAlchemy considers a transaction ended even if its COMMIT was refused here, and a session that is closed
        # then returns the connection to the pool as it is: its next user would commit what was refused.
        self._mark_commit(connection, lambda: connection.dialect.do_rollback(connection.connection))

    def _mark_commit(self, connection: Connection, undo: Callable[[], None]) -> None:
        state = self.state_of(connection)
        if not state.dirty_tags:
            return
        if state.drops_stamps:
            # Without its tables the store lets no entry be served, and new tables begin a new generation.
            state.dirty_tags = set()
            return
        marked = False
        try:
            state.pending_leases.append(self._stamp_client.mark(state.dirty_tags))
            marked = True
        finally:
            state.dirty_tags = set()
            if not marked:
                undo()

    def _committed(self, connection: PoolProxiedConnection) -> None:
        state: ConnectionState | None = connection.info.get(self)
        if state is not None:
            self._add_late_writes(state)
            self._end_leases(state)

    def _savepoint(self, connection: Connection, name: str | None) -> None:
        if connection.dialect.name == "sqlite" and not in_sqlite_transaction(connection):
            # The driver begins a transaction before DML only, and for SQLite this savepoint will be a transaction.
            self.state_of(connection).savepoint_may_commit = True

    def _release(self, connection: Connection, name: str, context: object) -> None:
        state = self.state_of(connection)
        if state.savepoint_may_commit and state.dirty_tags:
            state.pending_leases.append(self._stamp_client.mark(state.dirty_tags))

    def _rollback(self, connection: Connection) -> None:
        if connection.invalidated:
            # It is unknown whether the COMMIT that was sent took effect: the lease stays until it expires.
            return
        state = self.state_of(connection)
        state.dirty_tags = set()
        self._end_leases(state)

    def _prepare(self, connection: Connection, xid: object) -> None:
        state = self.state_of(connection)
        if state.dirty_tags:
            # A prepared transaction survives everything; so must its lease.
            state.prepared_lease = self._stamp_client.mark(state.dirty_tags, name=_lease_name(xid), endless=True)
            state.dirty_tags = set()

    def _commit_twophase(self, connection: Connection, xid: object, is_prepared: bool) -> None:
        if not is_prepared:
            self._mark_commit(connection, connection.invalidate)
        self._end_prepared(connection)

    def _rollback_twophase(self, connection: Connection, xid: object, is_prepared: bool) -> None:
        if not connection.invalidated:
            self.state_of(connection).dirty_tags = set()
            self._end_prepared(connection)

    def _end_prepared(self, connection: Connection) -> None:
        state = self.state_of(connection)
        if state.prepared_lease is not None:
            state.pending_leases.append(state.prepared_lease)
        state.prepared_lease = None

    def _end_foreign_prepared(self, state: ConnectionState, xid: str | None) -> None:
        """Note the end of a transaction that another connection has prepared, perhaps in a process that is gone.

        The store knows what it wrote. SQLAlchemy's ``commit_prepared()`` sends a statement and no event.
        """
        name = _lease_name(xid)
        if xid is not None and all(lease.name != name for lease in state.pending_leases):
            state.pending_leases.append(Lease(name, frozenset()))

    def _checkin(self, connection: object, record: ConnectionPoolEntry) -> None:
        state: ConnectionState | None = record.info.get(self)
        if state is None:
            return
        self._add_late_writes(state)
        state.dirty_tags = set()
        # A transaction that is prepared but not committed stays leased.
        state.prepared_lease = state.autocommit_lease = None
        if connection is None:
            state.pending_leases.clear()  # The connection broke; see _rollback.
        else:
            self._end_leases(state)

    def _end_leases(self, state: ConnectionState) -> None:
        if state.pending_leases:
            pending, state.pending_leases = state.pending_leases, []
            for lease in pending:
                self._stamp_client.done(lease)

    # -- statements ------------------------------------------------------------------------------

    def _before_execute(
        self,
        connection: Connection,
        cursor: object,
        statement: str,
        parameters: object,
        context: ExecutionContext,
        executemany: bool,
    ) -> None:
        writes = self._collector.writes(context, statement)
        if writes.raw is None and not writes:
            return
        state = self.state_of(connection)
        if writes.raw is Raw.ISOLATION:
            state.level, state.default_level, state.begin_epoch = "UNKNOWN", None, None
        if writes.raw is Raw.PREPARED:
            self._end_foreign_prepared(state, prepared_xid(statement, parameters))
            return
        if writes.raw is Raw.DDL and self._stamp_client.keeps_stamps_in(_table_of(context)):
            state.drops_stamps = True
        tags = _tags(connection, writes, context)
        if tags:
            with self._lock:
                self.writes += 1
                number = self.writes
            state.note_write(number, tags)
        if state.level == AUTOCOMMIT:
            if tags:
                state.autocommit_lease = self._stamp_client.mark(tags)
            return
        state.dirty_tags |= tags
        commits = writes.raw is Raw.COMMIT or (
            writes.raw is Raw.DDL and connection.dialect.name in {"mysql", "mariadb"}
        )
        if commits and state.dirty_tags and not state.drops_stamps:
            # MariaDB commits before any DDL. Further statements of what SQLAlchemy takes for the same transaction are
            # committed by a COMMIT that follows.
            state.pending_leases.append(self._stamp_client.mark(state.dirty_tags))

    def _after_execute(
        self,
        connection: Connection,
        cursor: object,
        statement: str,
        parameters: object,
        context: ExecutionContext,
        executemany: bool,
    ) -> None:
        state: ConnectionState | None = connection.info.get(self)
        if state is None:
            return
        if state.autocommit_lease is not None:
            lease, state.autocommit_lease = state.autocommit_lease, None
            self._stamp_client.done(lease)
        elif not state.has_snapshot and state.level not in STATEMENT_LEVELS:
            state.has_executed = True
            state.has_snapshot = takes_snapshot(connection, statement)

    def _after_error(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is None or context.is_disconnect or connection.invalidated:
            return
        state: ConnectionState | None = connection.info.get(self)
        if state is not None and state.autocommit_lease is not None:
            lease, state.autocommit_lease = state.autocommit_lease, None
            self._stamp_client.done(lease)


def _table_of(context: ExecutionContext) -> object:
    """Return the table that a statement creates or drops, or whose index or constraint it creates or drops."""
    statement: object = getattr(getattr(context, "compiled", None), "statement", None)
    element: object = getattr(statement, "element", None)
    return getattr(element, "table", element)


def _normalized(level: str) -> str:
    return level.upper().replace("_", " ")


def _lease_name(xid: object) -> str:
    return f"prepared {xid}"


def _tags(connection: Connection, writes: Writes, context: ExecutionContext) -> set[str]:
    tags = set(table_tags(connection, writes.tables, schema_map_of(connection, context.execution_options)))
    if writes.everything:
        tags.add(EVERYTHING)
    return tags
