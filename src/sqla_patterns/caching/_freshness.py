"""Keep cached reads up to date: compare entries with the stamps of their tables, and stamp what commits write.

`_stamps` explains the words. The stamp store has one epoch, a number that every write advances. Tables have tags, under
which the store knows them. An entry carries the epoch of the moment before its read.

- A transaction collects the tags of what it writes. Just before COMMIT they are stamped with a new epoch and leased
  (marked as being written); after COMMIT they are stamped once more and the lease ends. Whatever a reader has read in
  the meantime, old or new, has an earlier epoch than the second stamp.
- A read takes a `ReadEpoch` first. An entry is served if none of its tags is leased, and if its epoch is not older than
  their last stamp; an entry that is stored too late is ignored.
- Where a transaction keeps one snapshot (REPEATABLE READ), its reads have the epoch before its first statement, and
  hits are served only once it has the snapshot, so that what it reads later cannot contradict them. SQLite counts as
  such, except that outside of a transaction of its own there is no snapshot to contradict.
- A transaction that has written a table neither uses nor stores entries of that table until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, SessionTransaction

from ..exceptions import InvalidArgumentError
from ._connection_states import (
    SNAPSHOT_LEVELS,
    SQLITE,
    STATEMENT_LEVELS,
    ConnectionState,
    in_sqlite_transaction,
    root_of,
    take_snapshot,
)
from ._read_epoch import ReadEpoch
from ._sql_stamps import SQLStamps
from ._stamp_client import Observer, OnError, StampClient
from ._stamps import Snapshot, StampStore
from ._tags import EVERYTHING, SchemaMap, TableName, expand, table_tags, tables_of
from ._write_tracker import WriteTracker
from ._writes import RawDML, WriteCollector

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_REPLICA_OPTION: Final = "cache_replica"


class Freshness:
    """The protocol between readers, writers and the stamp store of one cache.

    Args:
        store: The stamp store, or a function that makes it when it is first needed.
        on_error: What happens to a commit that the store cannot be told of.
        raw_dml: How to treat plain text that writes, unless ``execution_options(cache_touches=...)`` says what it
            writes.
        depends: For a view, or a table that triggers write, the tables that it is made from.
        lease: Seconds after which a commit of which nothing was heard counts as ended; more than the longest COMMIT
            takes.
        pause: Seconds for which readers do not ask a store that did not answer.
        observer: Called for each failure of the store.
    """

    def __init__(
        self,
        store: StampStore | Callable[[], StampStore],
        *,
        on_error: OnError = "degrade",
        raw_dml: RawDML = "flush_all",
        depends: Mapping[object, Iterable[object]] | None = None,
        lease: float = 30.0,
        pause: float = 1.0,
        observer: Observer | None = None,
    ) -> None:
        if raw_dml not in ("flush_all", "raise", "ignore"):
            raise InvalidArgumentError(f"raw_dml={raw_dml!r}: choose 'flush_all', 'raise' or 'ignore'.")
        self._stamp_client: Final = StampClient(store, on_error=on_error, lease=lease, pause=pause, observer=observer)
        self._write_tracker: Final = WriteTracker(self._stamp_client, WriteCollector(raw_dml))
        self._depends: Final = _declared(depends or {})
        #: The connections of each session transaction, by engine. Transactions that began before the session was
        #: attached are not in it.
        self._connections: WeakKeyDictionary[SessionTransaction, dict[Engine, Connection]] = WeakKeyDictionary()
        #: Whether a transaction of a SQLite engine is known to hold no snapshot until it writes.
        self._sqlite_without_snapshot: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()
        self._translates_schemas = False
        #: The events of sessions to listen to, beside those that the cache itself listens to.
        self.session_listeners: Final[Mapping[str, Callable[..., None]]] = {
            "after_transaction_create": self._transaction_created,
            "after_begin": self._begun,
        }

    @property
    def store(self) -> StampStore:
        """The stamp store."""
        return self._stamp_client.store

    # -- engines and sessions --------------------------------------------------------------------

    def track_engine(self, engine: Engine | AsyncEngine) -> None:
        """Watch what the transactions of `engine` write; calling it again does nothing.

        Raises:
            InvalidArgumentError: The stamp store works with this very engine.
        """
        sync: Engine = engine if isinstance(engine, Engine) else engine.sync_engine
        store = self._stamp_client.made
        if isinstance(store, SQLStamps) and (
            root_of(sync) is root_of(store.engine) or _same_sqlite_file(sync, store.engine)
        ):
            raise InvalidArgumentError(
                f"{store!r} works with {sync!r}, whose transactions it is to watch: it writes while they commit, and "
                "each would wait for the other. Give the store an engine of its own (on SQLite: a file of its own)."
            )
        self._write_tracker.track(sync)

    def watch(self, bind: Engine | Connection) -> None:
        """Watch the engine of a read; call it before the session takes a connection for the read."""
        if isinstance(bind, Engine) and not self._write_tracker.tracks(bind):
            self.track_engine(bind)

    def detach(self) -> None:
        """Stop watching engines."""
        self._write_tracker.untrack_all()

    def _transaction_created(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._connections[transaction] = {}

    def _begun(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        engine = connection.engine
        if not self._write_tracker.tracks(engine):
            self.track_engine(engine)
            # A session on an engine has only just begun this transaction; one on a connection joins a transaction that
            # may have begun long ago.
            if isinstance(session.bind, Engine):
                self._write_tracker.adopt(connection)
        root = transaction
        while root.parent is not None:
            root = root.parent
        connections = self._connections.get(root)
        if connections is not None:
            connections[engine] = connection

    def _connection(self, session: Session, bind: Engine | Connection) -> Connection | None:
        """Return the connection on which `session` would read, if it has one already."""
        if isinstance(bind, Connection):
            return bind
        root = session.get_transaction()
        connections = None if root is None else self._connections.get(root)
        if connections is None:
            return None
        return connections.get(bind)

    # -- readers ---------------------------------------------------------------------------------

    def tags(
        self,
        bind: Engine | Connection,
        tables: Collection[TableName],
        schema_map: SchemaMap | None = None,
        extra: Collection[str] = (),
    ) -> frozenset[str]:
        """Return the tags of a read.

        Args:
            bind: Where it reads.
            tables: The tables that it names. Those that they are declared to depend on are added.
            schema_map: The ``schema_translate_map`` of the statement.
            extra: Other tags of the read.
        """
        self._translates_schemas = self._translates_schemas or bool(schema_map)
        return table_tags(bind, expand(tables, self._depends), schema_map) | frozenset(extra)

    def take_read_epoch(
        self, session: Session, tags: Collection[str], bind: Engine | Connection | None = None
    ) -> ReadEpoch:
        """Return the read epoch of a read that depends on `tags`.

        It costs one request to the stamp store. A connection is taken where the isolation level demands it, and a
        transaction that keeps one snapshot is made to take it now.
        """
        if bind is None:
            bind = session.get_bind()
        engine = bind if isinstance(bind, Engine) else bind.engine
        self.watch(bind)
        connection = self._connection(session, bind)
        if connection is None and self._must_connect(session, engine):
            connection = session.connection(bind_arguments={"bind": bind})
        state = None if connection is None else self._write_tracker.state_of(connection)
        fills = not engine.get_execution_options().get(_REPLICA_OPTION, False)
        if state is None or connection is None:
            snapshot = self._read(tags)
            if snapshot is None:
                return ReadEpoch("stamps_unavailable")
            return ReadEpoch(None, True, snapshot, snapshot.epoch, False, fills)
        if EVERYTHING in state.dirty_tags or not state.dirty_tags.isdisjoint(tags):
            return ReadEpoch("own_writes")
        return self._in_transaction(connection, state, tags, fills=fills)

    @property
    def writes(self) -> int:
        """The number of writes that have been seen; for `wrote_since()`."""
        return self._write_tracker.writes

    def wrote_since(
        self, session: Session, bind: Engine | Connection, number: int, tags: Collection[str] | None = None
    ) -> bool:
        """Return whether the transaction of `session` has written since there were `number` writes.

        Args:
            session: The session.
            bind: Where it reads.
            number: What `writes` was.
            tags: Only writes to one of these count; None is to anything.
        """
        root = session.get_transaction()
        connections = None if root is None else self._connections.get(root)
        if connections is None:
            return True  # It was begun before the session was attached, and may have written.
        for connection in (*connections.values(), *((bind,) if isinstance(bind, Connection) else ())):
            if not self._write_tracker.tracks(connection.engine):
                return True  # The cache was detached: writes are not seen any more.
            state = self._write_tracker.state_of(connection)
            if state.last_write > number and (tags is None or state.wrote_since(number, {*tags, EVERYTHING})):
                return True
        return False

    def _must_connect(self, session: Session, engine: Engine) -> bool:
        root = session.get_transaction()
        if root is not None and root not in self._connections:
            return True  # It was begun before the session was attached, and may have connections.
        level = self._write_tracker.engine_level(engine)
        return not (
            level in STATEMENT_LEVELS or (level == SQLITE and self._sqlite_without_snapshot.get(root_of(engine), False))
        )

    def _in_transaction(
        self, connection: Connection, state: ConnectionState, tags: Collection[str], *, fills: bool
    ) -> ReadEpoch:
        level = state.level
        strict = level in SNAPSHOT_LEVELS
        if level == SQLITE:
            # Also without BEGIN, a result that is still being read keeps the connection at its snapshot; so nothing is
            # put that could be newer than the epoch of the entry, but there is no snapshot that a hit has to wait for.
            strict = in_sqlite_transaction(connection)
            if not state.dirty_tags:
                self._sqlite_without_snapshot[root_of(connection.engine)] = not strict
        elif level not in STATEMENT_LEVELS and not strict:
            # Under SERIALIZABLE the database tracks what a transaction reads; it would not know of a hit.
            return ReadEpoch("serializable" if level == "SERIALIZABLE" else "isolation")
        if level not in STATEMENT_LEVELS and state.begin_epoch is None:
            return ReadEpoch("no_read_epoch")
        if strict:
            take_snapshot(connection, state)
        snapshot = self._read(tags)
        if snapshot is None:
            return ReadEpoch("stamps_unavailable")
        seen = snapshot.epoch if state.begin_epoch is None else state.begin_epoch
        return ReadEpoch(None, state.has_snapshot or not strict, snapshot, seen, strict, fills)

    def _read(self, tags: Collection[str]) -> Snapshot | None:
        return self._stamp_client.read({*tags, EVERYTHING})

    # -- invalidation on request -----------------------------------------------------------------

    def touch(self, tags: Collection[str]) -> None:
        """Invalidate the entries that depend on one of `tags`."""
        if tags:
            self._stamp_client.touch(tags)

    def touch_tables(self, tables: Collection[TableName], schema_map: SchemaMap | None = None) -> None:
        """Invalidate the entries that read one of `tables`, in whatever database they are."""
        engines = self._write_tracker.engines()
        if not engines or (self._translates_schemas and schema_map is None):
            # It is unknown which schemas the tables are in.
            self.touch({EVERYTHING})
        elif tables:
            self.touch({tag for engine in engines for tag in table_tags(engine, tables, schema_map)})

    def touch_all(self, *, drop_leases: bool = False) -> None:
        """Invalidate all entries; with `drop_leases`, also forget prepared transactions that will never be finished."""
        self._stamp_client.new_generation(drop_leases=drop_leases)


def _same_sqlite_file(one: Engine, two: Engine) -> bool:
    if not one.dialect.name == two.dialect.name == "sqlite":
        return False
    return Path(one.url.database or "").resolve() == Path(two.url.database or "").resolve()


def _declared(depends: Mapping[object, Iterable[object]]) -> dict[TableName, frozenset[TableName]]:
    found: dict[TableName, frozenset[TableName]] = {}
    for view, sources in depends.items():
        if isinstance(sources, str):
            raise InvalidArgumentError(f"depends={{{view!r}: {sources!r}}}: give a list of tables.")
        names = frozenset(name for source in sources for name in tables_of(source))
        for name in tables_of(view):
            found[name] = found.get(name, frozenset()) | names
    return found
