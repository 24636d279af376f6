"""What keeps cached reads from being stale: epoch stamps, and leases while a COMMIT is under way.

The store of stamps has one epoch that every write advances. An entry carries the epoch before its read, its *horizon*.

- A transaction collects the tags of what it writes. Just before COMMIT they are stamped with a new epoch and leased; after COMMIT they are stamped once more
  and the lease ends. What a reader has read in the meantime, old or new, has an earlier horizon than the second stamp.
- A read takes a `Ticket` first. An entry is served if no lease is active, and if its horizon is not older than the last stamp; nothing that is put
  too late can ever pass.
- Where a transaction keeps one snapshot (REPEATABLE READ), the horizon is the epoch before its first statement, and hits are served only once it has
  the snapshot, so that what it reads later cannot contradict them. SQLite counts as such, except that outside a transaction of its own there is no
  snapshot to contradict.
- A transaction with writes of its own to a table reads that table past the cache, and puts nothing, until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, SessionTransaction

from ..exceptions import InvalidArgumentError
from ._contact import Contact, Observer, OnError
from ._links import NOW, SNAPSHOT, SQLITE, Link, in_sqlite_transaction, pin, root_of
from ._sql_stamps import SQLStamps
from ._stamps import Snapshot, StampStore
from ._tags import EVERYTHING, SchemaMap, TableName, expand, table_tags, tables_of
from ._ticket import Ticket
from ._tracker import Tracker
from ._writes import RawDML, WriteCollector

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ("Guard", "Ticket")

_REPLICA_OPTION: Final = "cache_replica"


class Guard:
    """Hands out tickets to readers, and sees to it that writers stamp.

    :param store: of the stamps, or a function that makes it when it is first needed.
    :param on_error: what becomes of a commit that the store cannot be told of.
    :param raw_dml: what to make of plain text that writes, unless ``execution_options(cache_touches=...)`` says what it writes.
    :param depends: for a view, or a table that triggers write, the tables that it is made from.
    :param lease: seconds after which a commit that nobody has heard of counts as over; more than the longest COMMIT takes.
    :param pause: seconds for which a store that did not answer is not asked by readers.
    :param observer: told of each failure of the store.
    """

    def __init__(
        self,
        store: StampStore | Callable[[], StampStore],
        *,
        on_error: OnError = "degrade",
        raw_dml: RawDML = "flush_all",
        depends: Mapping[Any, Iterable[Any]] | None = None,
        lease: float = 30.0,
        pause: float = 1.0,
        observer: Observer | None = None,
    ) -> None:
        if raw_dml not in ("flush_all", "raise", "ignore"):
            raise InvalidArgumentError(f"raw_dml={raw_dml!r}: choose 'flush_all', 'raise' or 'ignore'.")
        self._contact: Final = Contact(store, on_error=on_error, lease=lease, pause=pause, observer=observer)
        self._tracker: Final = Tracker(self._contact, WriteCollector(raw_dml))
        self._depends: Final = _declared(depends or {})
        #: The connections of each session transaction, by engine. One that began before the session was attached is not here.
        self._joined: WeakKeyDictionary[SessionTransaction, dict[Engine, Connection]] = WeakKeyDictionary()
        #: SQLite engines of which a transaction is known to hold no snapshot until it writes.
        self._bare: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()
        self._translates = False
        #: What to listen to on sessions, beside what the cache listens to itself.
        self.session_listeners: Final[Mapping[str, Callable[..., None]]] = {
            "after_transaction_create": self._transaction_created,
            "after_begin": self._begun,
        }

    @property
    def store(self) -> StampStore:
        """The stamp store."""
        return self._contact.store

    # -- engines and sessions --------------------------------------------------------------------

    def track_engine(self, engine: Engine | AsyncEngine) -> None:
        """Take note of what transactions of `engine` write; doing it again does nothing.

        Raises:
            InvalidArgumentError: the stamp store works with this very engine.
        """
        sync: Engine = engine if isinstance(engine, Engine) else engine.sync_engine
        store = self._contact.made
        if isinstance(store, SQLStamps) and (
            root_of(sync) is root_of(store.engine) or _same_sqlite_file(sync, store.engine)
        ):
            raise InvalidArgumentError(
                f"{store!r} works with {sync!r}, whose transactions it is to watch: it writes while they commit, and each "
                "would wait for the other. Give the store an engine of its own (on SQLite: a file of its own)."
            )
        self._tracker.track(sync)

    def detach(self) -> None:
        """Stop listening to engines."""
        self._tracker.untrack_all()

    def _transaction_created(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._joined[transaction] = {}

    def _begun(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        engine = connection.engine
        if not self._tracker.tracks(engine):
            self.track_engine(engine)
            # A session on an engine has only just begun this transaction; one on a connection joins what may be long under way.
            if isinstance(session.bind, Engine):
                self._tracker.adopt(connection)
        root = transaction
        while root.parent is not None:
            root = root.parent
        joined = self._joined.get(root)
        if joined is not None:
            joined[engine] = connection

    def _connection(self, session: Session, bind: Engine | Connection) -> Connection | None:
        """The connection on which `session` would read, if it has one already."""
        if isinstance(bind, Connection):
            return bind
        root = session.get_transaction()
        joined = None if root is None else self._joined.get(root)
        if joined is None:
            return None
        return joined.get(bind)

    # -- readers ---------------------------------------------------------------------------------

    def tags(
        self,
        bind: Engine | Connection,
        tables: Collection[TableName],
        schema_map: SchemaMap | None = None,
        extra: Collection[str] = (),
    ) -> frozenset[str]:
        """The tags of a read of `tables`, and of what they are declared to depend on; `extra` are other tags of it."""
        self._translates = self._translates or bool(schema_map)
        return table_tags(bind, expand(tables, self._depends), schema_map) | frozenset(extra)

    def ticket(
        self, session: Session, tags: Collection[str], bind_arguments: Mapping[str, Any] | None = None
    ) -> Ticket:
        """The ticket of a read that depends on `tags`. One question to the store; the database is asked nothing but, at times, for a connection."""
        arguments = dict(bind_arguments or {})
        bind = session.get_bind(**arguments)
        engine = bind if isinstance(bind, Engine) else bind.engine
        if not self._tracker.tracks(engine) and isinstance(bind, Engine):
            self.track_engine(bind)
        connection = self._connection(session, bind)
        if connection is None and self._must_connect(session, engine):
            connection = session.connection(bind_arguments=arguments)
        link = None if connection is None else self._tracker.link(connection)
        fills = not engine.get_execution_options().get(_REPLICA_OPTION, False)
        if link is None or connection is None:
            snapshot = self._read(tags)
            if snapshot is None:
                return Ticket("stamps_unavailable")
            return Ticket(None, True, snapshot, snapshot.epoch, False, fills)
        if EVERYTHING in link.dirty or not link.dirty.isdisjoint(tags):
            return Ticket("own_writes")
        return self._in_transaction(connection, link, tags, fills=fills)

    def dirty(self, session: Session, bind_arguments: Mapping[str, Any] | None = None) -> frozenset[str]:
        """The tags of what the transaction of `session` has written so far."""
        connection = self._connection(session, session.get_bind(**dict(bind_arguments or {})))
        return frozenset() if connection is None else frozenset(self._tracker.link(connection).dirty)

    def _must_connect(self, session: Session, engine: Engine) -> bool:
        root = session.get_transaction()
        if root is not None and root not in self._joined:
            return True  # It was begun before the session was attached, and may have connections.
        level = self._tracker.engine_level(engine)
        return not (level in NOW or (level == SQLITE and self._bare.get(root_of(engine), False)))

    def _in_transaction(self, connection: Connection, link: Link, tags: Collection[str], *, fills: bool) -> Ticket:
        level = link.level
        strict = level in SNAPSHOT
        if level == SQLITE:
            # Also without BEGIN, a result that is still being read keeps the connection at its snapshot; so nothing is put
            # that could be newer than the horizon, but there is no snapshot that a hit has to wait for.
            strict = in_sqlite_transaction(connection)
            if not link.dirty:
                self._bare[root_of(connection.engine)] = not strict
        elif level not in NOW and not strict:
            # Under SERIALIZABLE the database watches what a transaction reads; of a hit it would not know.
            return Ticket("serializable" if level == "SERIALIZABLE" else "isolation")
        if level not in NOW and link.horizon is None:
            return Ticket("no_horizon")
        if strict:
            pin(connection, link)
        snapshot = self._read(tags)
        if snapshot is None:
            return Ticket("stamps_unavailable")
        seen = snapshot.epoch if link.horizon is None else link.horizon
        return Ticket(None, link.snapshot or not strict, snapshot, seen, strict, fills)

    def _read(self, tags: Collection[str]) -> Snapshot | None:
        return self._contact.read({*tags, EVERYTHING})

    # -- invalidation on request -----------------------------------------------------------------

    def touch(self, tags: Collection[str]) -> None:
        """Void the entries that depend on one of `tags`."""
        if tags:
            self._contact.touch(tags)

    def touch_tables(self, tables: Collection[TableName], schema_map: SchemaMap | None = None) -> None:
        """Void the entries that read one of `tables`, in whatever database they are."""
        engines = self._tracker.engines()
        if not engines or (self._translates and schema_map is None):
            # Nobody can tell which schemas the tables are in.
            self.touch({EVERYTHING})
        elif tables:
            self.touch({tag for engine in engines for tag in table_tags(engine, tables, schema_map)})

    def touch_all(self, *, drop_leases: bool = False) -> None:
        """Void all entries; with `drop_leases`, also forget prepared transactions that nobody will ever finish."""
        self._contact.new_generation(drop_leases=drop_leases)


def _same_sqlite_file(one: Engine, two: Engine) -> bool:
    if not one.dialect.name == two.dialect.name == "sqlite":
        return False
    return Path(one.url.database or "").resolve() == Path(two.url.database or "").resolve()


def _declared(depends: Mapping[Any, Iterable[Any]]) -> dict[TableName, frozenset[TableName]]:
    found: dict[TableName, frozenset[TableName]] = {}
    for view, sources in depends.items():
        if isinstance(sources, str):
            raise InvalidArgumentError(f"depends={{{view!r}: {sources!r}}}: give a list of tables.")
        names = frozenset(name for source in sources for name in tables_of(source))
        for name in tables_of(view):
            found[name] = found.get(name, frozenset()) | names
    return found
