"""`SQLStamps`: a stamp store in tables of a relational database, for applications without Redis."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    event,
    insert,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from ..exceptions import InvalidArgumentError
from ._stamps import Epoch, Snapshot, StampsUnavailableError, new_nonce

_T = TypeVar("_T")

#: Statements that limit how long a connection waits for locks. Metadata locks of MariaDB have a separate limit.
_OF_MYSQL: Final = "SET SESSION innodb_lock_wait_timeout = {seconds}, SESSION lock_wait_timeout = {seconds}"
_LOCK_TIMEOUTS: Final = {
    "postgresql": "SET lock_timeout = {milliseconds}",
    "mysql": _OF_MYSQL,
    "mariadb": _OF_MYSQL,
}


class SQLStamps:
    """A stamp store in three small tables, for caches that several processes share without Redis.

    A transaction that creates or drops these tables through `metadata` stamps nothing: it may hold the lock that the
    store would wait for, and without its tables the store lets no entry be served. (MariaDB commits each CREATE TABLE
    by itself: under ``on_error="raise"`` call `create_tables()` there before ``metadata.create_all()``.) On servers the
    store waits no more than `lock_timeout` seconds for any lock, since the transaction that it serves may hold it.

    A read is one SELECT. A commit of the application costs two short transactions, during which other commits wait for
    the row of the epoch. The ends of leases are compared with the clock of each machine.

    Args:
        engine: An engine that only the store uses, on the database of the application or on another. The store writes
            while the application commits: with the engine of the application, all of whose connections may be
            committing, that would be a deadlock. On SQLite it needs a separate file for the same reason.
        metadata: Where the tables are defined; give that of the application so that Alembic sees them. Otherwise
            `create_tables` creates them.
        prefix: The beginning of the tables' names.
        lock_timeout: Seconds to wait for a lock, on servers.

    Attributes:
        engine: The engine.
        metadata: The metadata.
        tables: The three tables.
    """

    def __init__(
        self, engine: Engine, *, metadata: MetaData | None = None, prefix: str = "cache", lock_timeout: float = 5.0
    ) -> None:
        if engine.dialect.name == "sqlite" and engine.url.database in {None, "", ":memory:"}:
            raise InvalidArgumentError(
                f"SQLStamps({engine!r}): a database in memory is seen by one process alone; MemoryStamps() does the "
                "same faster."
            )
        if lock_timeout <= 0:
            raise InvalidArgumentError(f"SQLStamps(lock_timeout={lock_timeout!r}): give seconds, more than 0.")
        statement = _LOCK_TIMEOUTS.get(engine.dialect.name)
        if statement is not None:
            sql = statement.format(milliseconds=math.ceil(lock_timeout * 1000), seconds=math.ceil(lock_timeout))
            event.listen(engine, "connect", partial(_limit_waiting, sql))
        self.engine: Final = engine
        self.metadata: Final = MetaData() if metadata is None else metadata
        is_server = engine.dialect.name != "sqlite"
        self._engine = engine.execution_options(isolation_level="READ COMMITTED") if is_server else engine
        self._pid = os.getpid()
        self._epochs = Table(
            f"{prefix}_epoch",
            self.metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("generation", String(32), nullable=False),
            Column("number", BigInteger, nullable=False),
            # No tag that is not among the stamps was written after this.
            Column("floor", BigInteger, nullable=False),
        )
        self._stamps = Table(
            f"{prefix}_stamp",
            self.metadata,
            # A digest of the tag: databases disagree about the length of keys, about case and about spaces at the end.
            Column("tag", String(32), primary_key=True),
            Column("generation", String(32), nullable=False),
            Column("number", BigInteger, nullable=False),
        )
        self._leases = Table(
            f"{prefix}_lease",
            self.metadata,
            Column("lease", String(32), primary_key=True),
            Column("tag", String(32), primary_key=True),
            # Milliseconds; 0 is no deadline.
            Column("deadline", BigInteger, nullable=False),
        )

        self.tables: Final = (self._epochs, self._stamps, self._leases)

    def create_tables(self) -> None:
        """Create the tables that are not there yet."""
        self.metadata.create_all(self._engine, tables=self.tables)

    def prune(self, *, keep: int = 1_000_000) -> int:
        """Forget the tags that were not written in the last `keep` epochs, and return how many there were.

        Entries that depend on them, or on tags that were never written, and are older than these epochs count as stale
        then.
        """

        def step(connection: Connection, epoch: Epoch) -> int:
            floor = epoch.number - keep
            connection.execute(update(self._epochs).where(self._epochs.c.floor < floor).values(floor=floor))
            old = delete(self._stamps).where(
                (self._stamps.c.number <= floor) | (self._stamps.c.generation != epoch.generation)
            )
            return connection.execute(old).rowcount

        return self._write("prune", step)

    def read(self, tags: Collection[str]) -> Snapshot:
        """Return the epoch, the stamps and the leases of `tags`."""
        keys = {tag: _digest(tag) for tag in tags}
        found = self._attempt("read", lambda: self._look(keys))
        return (
            self._write("read", lambda connection, epoch: self._freshen(connection, epoch, keys))
            if found is None
            else found
        )

    def epoch(self) -> Epoch:
        """Return the epoch alone."""

        def look() -> Epoch | None:
            with self._engine.connect() as connection:
                row = connection.execute(select(self._epochs.c.generation, self._epochs.c.number)).first()
                return None if row is None else Epoch(row[0], row[1])

        found = self._attempt("epoch", look)
        return self._write("epoch", _nothing) if found is None else found

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        """Stamp `tags` and lease them."""
        keys = {_digest(tag) for tag in tags}
        deadline = 0 if seconds is None else _now() + int(seconds * 1000)

        def step(connection: Connection, epoch: Epoch) -> Epoch:
            self._stamp(connection, epoch, keys)
            name = _digest(lease)
            # A lease of that name exists if the answer to an earlier attempt was lost.
            connection.execute(delete(self._leases).where(self._leases.c.lease == name))
            if keys:
                rows = [{"lease": name, "tag": key, "deadline": deadline} for key in sorted(keys)]
                connection.execute(insert(self._leases), rows)
            return epoch

        return self._write("mark", step)

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        """Stamp `tags` and those of the lease, and end it."""
        keys = {_digest(tag) for tag in tags}
        name = _digest(lease)

        def step(connection: Connection, epoch: Epoch) -> Epoch:
            leased = connection.scalars(select(self._leases.c.tag).where(self._leases.c.lease == name)).all()
            self._stamp(connection, epoch, {*keys, *leased})
            connection.execute(delete(self._leases).where(self._leases.c.lease == name))
            return epoch

        return self._write("done", step)

    def touch(self, tags: Collection[str]) -> Epoch:
        """Stamp `tags`."""
        keys = {_digest(tag) for tag in tags}

        def step(connection: Connection, epoch: Epoch) -> Epoch:
            self._stamp(connection, epoch, keys)
            return epoch

        return self._write("touch", step)

    def new_generation(self, *, drop_leases: bool = False) -> Epoch:
        """Make every existing entry invalid."""

        def step(connection: Connection, epoch: Epoch) -> Epoch:
            started = Epoch(new_nonce(), epoch.number)
            connection.execute(update(self._epochs).values(generation=started.generation, floor=started.number))
            connection.execute(delete(self._stamps))
            if drop_leases:
                connection.execute(delete(self._leases))
            return started

        return self._write("new_generation", step)

    def __repr__(self) -> str:
        return f"<SQLStamps {self._epochs.name!r} on {self.engine.url!r}>"

    def _look(self, keys: dict[str, str]) -> Snapshot | None:
        """Read in one statement, hence at one moment; return None if something has to be written first."""
        with self._engine.connect() as connection:
            return self._select(connection, keys)

    def _select(self, connection: Connection, keys: dict[str, str]) -> Snapshot | None:
        epochs, stamps, leases = self._epochs.c, self._stamps.c, self._leases.c
        text, zero = literal_column("''", String), literal_column("0", BigInteger)
        statement = union_all(
            select(literal_column("'e'", String), text, epochs.generation, epochs.number, epochs.floor),
            select(literal_column("'s'", String), stamps.tag, stamps.generation, stamps.number, zero).where(
                stamps.tag.in_(list(keys.values()))
            ),
            select(literal_column("'l'", String), leases.tag, leases.lease, zero, leases.deadline),
        )
        epoch: Epoch | None = None
        floor = 0
        found: dict[str, Epoch] = {}
        leased: set[str] = set()
        now = _now()
        for kind, key, name, number, extra in connection.execute(statement):
            if kind == "e":
                epoch, floor = Epoch(name, number), extra
            elif kind == "s":
                found[key] = Epoch(name, number)
            elif extra and extra <= now:
                return None
            else:
                leased.add(key)
        if epoch is None:
            return None
        never = Epoch(epoch.generation, floor)
        known = {tag: found.get(key, never) for tag, key in keys.items()}
        if any(stamp.generation != epoch.generation for stamp in known.values()):
            return None
        numbers = {tag: stamp.number for tag, stamp in known.items()}
        return Snapshot(epoch, numbers, frozenset(tag for tag, key in keys.items() if key in leased))

    def _freshen(self, connection: Connection, epoch: Epoch, keys: dict[str, str]) -> Snapshot:
        """End expired leases, replace stamps of another generation, and return the stamps.

        The epoch is the one that this transaction has taken.
        """
        leases, stamps = self._leases.c, self._stamps.c
        now = _now()
        stale: set[str] = set()
        ended = connection.execute(
            select(leases.lease, leases.tag).where(leases.deadline > 0, leases.deadline <= now)
        ).all()
        if ended:
            stale.update(row.tag for row in ended)
            names = sorted({row.lease for row in ended})
            connection.execute(delete(self._leases).where(leases.lease.in_(names)))
        foreign = select(stamps.tag).where(stamps.tag.in_(list(keys.values())), stamps.generation != epoch.generation)
        stale.update(connection.scalars(foreign).all())
        self._stamp(connection, epoch, stale)
        snapshot = self._select(connection, keys)
        if snapshot is None:  # A lease has expired at this moment: its tags count as leased.
            return Snapshot(epoch, dict.fromkeys(keys, epoch.number), frozenset(keys))
        return snapshot

    def _stamp(self, connection: Connection, epoch: Epoch, keys: Collection[str]) -> None:
        if not keys:
            return
        stamps = self._stamps
        there = set(connection.scalars(select(stamps.c.tag).where(stamps.c.tag.in_(sorted(keys)))).all())
        values = {"generation": epoch.generation, "number": epoch.number}
        if there:
            connection.execute(update(stamps).where(stamps.c.tag.in_(sorted(there))).values(values))
        if missing := sorted(set(keys) - there):
            connection.execute(insert(stamps), [{"tag": key, **values} for key in missing])

    def _write(self, operation: str, step: Callable[[Connection, Epoch], _T]) -> _T:
        """Take the next epoch and do `step` with it.

        Each writer locks the row of the epoch, so that steps never interleave.
        """

        def attempt() -> _T | None:
            with self._engine.begin() as connection:
                if not connection.execute(update(self._epochs).values(number=self._epochs.c.number + 1)).rowcount:
                    return None
                row = connection.execute(select(self._epochs.c.generation, self._epochs.c.number)).one()
                return step(connection, Epoch(row[0], row[1]))

        done = self._attempt(operation, attempt)
        if done is None:
            self._attempt(operation, self._start)
            done = self._attempt(operation, attempt)
        if done is None:
            raise StampsUnavailableError(f"{self!r} has lost its epoch while it was asked to {operation!r}.")
        return done

    def _start(self) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(self._epochs), {"id": 1, "generation": new_nonce(), "number": 0, "floor": 0})
        except IntegrityError:
            pass  # Another process was first.

    def _attempt(self, operation: str, attempt: Callable[[], _T]) -> _T:
        if os.getpid() != self._pid:
            # After a fork: the connections in the pool belong to the other process, which continues to use them.
            self._pid = os.getpid()
            self.engine.dispose(close=False)
        try:
            return attempt()
        except SQLAlchemyError as error:
            raise StampsUnavailableError(
                f"{self!r} does not answer to {operation!r}; do its tables exist (create_tables())? {error}"
            ) from error


def _limit_waiting(sql: str, dbapi_connection: DBAPIConnection, record: object) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute(sql)
    cursor.close()
    # A setting that is made in a transaction is lost when that is rolled back.
    dbapi_connection.commit()


def _now() -> int:
    return time.time_ns() // 1_000_000


def _digest(tag: str) -> str:
    return hashlib.blake2b(tag.encode(), digest_size=16).hexdigest()


def _nothing(connection: Connection, epoch: Epoch) -> Epoch:
    return epoch
