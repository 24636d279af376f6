"""The session that a sharded factory makes: which engine and connection an object or a statement is given."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import ClauseElement, Connection, Engine, event, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.ext.horizontal_shard import ShardedSession, execute_and_instances
from sqlalchemy.orm import Session, SessionTransaction

from .._session import SeveralDatabases
from .._sqlalchemy import is_clean
from .._typing import AnyMapper, AnyState, MappedObject
from ..exceptions import InvalidArgumentError
from ._errors import AmbiguousIdentityError, ShardNotNamedError
from ._kinds import TABLE
from ._pin import pinned_shard
from ._routing import Routing

#: The method of a sharded session that SQLAlchemy asks for the connection of each object of a flush. Bulk inserts
#: refuse a session that has one, although theirs go to one shard.
_PER_OBJECT: Final = "connection_callable"


class Hooks(NamedTuple):
    """What a sharded session calls.

    Attributes:
        execute: The listener to ``do_orm_execute`` that executes a statement.
        before_flush: The listener to ``before_flush``.
        flush: Divides a flush, which is its second argument, by shards.
        choose_for_object: Returns the shard of a new object.
        choose_for_identity: Is the identity chooser of the session, which is its first argument.
    """

    execute: Callable[..., Any]
    before_flush: Callable[..., Any]
    flush: Callable[[Any, Callable[[], None]], None]
    choose_for_object: Callable[[Any, MappedObject], str]
    choose_for_identity: Callable[..., Any]


@dataclass(frozen=True)
class Move:
    """An object that was taken to another shard.

    Attributes:
        obj: The object.
        source: The shard that it was on.
        transaction: The transaction, or savepoint, in which that was done.
    """

    obj: MappedObject
    source: str
    transaction: SessionTransaction | None


class RoutedSession(SeveralDatabases, ShardedSession):
    """A ``ShardedSession`` whose choosers follow rules.

    Attributes:
        routing: The rules.
    """

    def __init__(self, *, routing: Routing, hooks: Hooks, **options: Any) -> None:
        choosers = routing.choosers
        self.routing: Final = routing
        self._hooks: Final = hooks
        self._engines: Mapping[str, Engine] = routing.shards.engines
        #: The shard of each connection of the transaction.
        self.shard_connections: dict[Connection, str] = {}
        #: Objects that the transaction has taken to another shard.
        self.moves: list[Move] = []
        #: The shards that a flush writes to.
        self.flushed_shards: frozenset[str] = frozenset()
        #: Whether a flush is going on.
        self.is_dividing = False
        #: The shards of parents that this flush has looked for, by the rule of the child and its foreign key.
        self.parent_shards: dict[object, dict[tuple[Any, ...], str]] = {}
        self._forced: str | None = None
        self._shard_of_block: str | None = None
        super().__init__(
            shard_chooser=choosers.shard_chooser or self._choose_for_object,
            identity_chooser=choosers.identity_chooser or partial(hooks.choose_for_identity, self),
            execute_chooser=choosers.execute_chooser or hooks.execute,
            shards=dict(routing.shards.engines),
            **options,
        )
        # Listeners of a session are called after those of its class, so that criteria, caches and histories that are
        # attached to the factory, before or after, see a statement first.
        event.remove(self, "do_orm_execute", execute_and_instances)
        event.listen(self, "do_orm_execute", hooks.execute, retval=True)
        event.listen(self, "before_flush", hooks.before_flush)

    def get_bind(
        self,
        mapper: Any = None,
        *,
        shard_id: str | None = None,
        instance: MappedObject = None,
        clause: ClauseElement | None = None,
        bind: Engine | Connection | None = None,
        **options: Any,
    ) -> Any:
        """Return the engine of a shard: the one that is named, that of an object, or the one that is pinned.

        Raises:
            ShardNotNamedError: There is nothing to choose a shard by.
        """
        shard_id = shard_id or self._forced
        if shard_id is None:
            if bind is not None:
                return bind
            if instance is not None:
                shard_id = self._shard_of_instance(instance)
            else:
                shard_id = self.pinned_shard or self._only_shard(mapper, clause)
        try:
            return self._engines[shard_id]
        except KeyError:
            raise InvalidArgumentError(
                f"There is no shard {shard_id!r}; the shards are {', '.join(self.routing.shards.names)}"
            ) from None

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Flush the objects of one shard after those of another."""
        if objects is not None or is_clean(self):
            super().flush(objects)
            return
        if self.is_dividing:
            super().flush()  # which says that a flush is going on, or writes what a listener has left behind it
            return
        self.is_dividing = True
        # A flush writes to other shards too, and reads what is there.
        before, self._shard_of_block = self._shard_of_block, None
        try:
            self._hooks.flush(self, super().flush)
        finally:
            self.is_dividing = False
            self._shard_of_block = before

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """Return an object by its primary key, as `Session.get()` does.

        Raises:
            AmbiguousIdentityError: Several shards have the key.
        """
        find: Callable[..., Any] = super().get
        try:
            return find(entity, ident, **options)
        except MultipleResultsFound as error:
            found = [
                shard
                for shard in self.routing.shards.names
                if find(entity, ident, **{**options, "identity_token": shard}) is not None
            ]
            raise AmbiguousIdentityError(f"{inspect(entity).class_.__name__} {ident!r}", found) from error

    @contextmanager
    def on_shard(self, shard: str) -> Generator[None, None, None]:
        """Send all that is executed within a block to one shard, also a bulk insert."""
        before, self._forced = self._forced, shard
        own = vars(self)
        shadowed = _PER_OBJECT not in own
        if shadowed:
            own[_PER_OBJECT] = None
        try:
            yield
        finally:
            self._forced = before
            if shadowed:
                del own[_PER_OBJECT]

    @property
    def statement_dialect(self) -> Dialect:
        """Return the dialect of the shards."""
        return self.routing.dialect

    @property
    def engines(self) -> Sequence[Engine]:
        """Return the engine of each shard."""
        return list(self._engines.values())

    def use_isolation_level(self, level: str) -> None:
        """Use an isolation level on each shard; to be called before the session is used."""
        self._engines = {
            name: engine.execution_options(isolation_level=level) for name, engine in self._engines.items()
        }

    @property
    def current_database(self) -> str | None:
        """Return the shard that is written to, or pinned; None if it may be any."""
        if self._forced is not None:
            return self._forced
        return next(iter(self.flushed_shards)) if len(self.flushed_shards) == 1 else self.pinned_shard

    @contextmanager
    def on_database_of(self, obj: object) -> Generator[None, None, None]:
        """Send statements, and give out connections, to the shard of `obj` within a block, unless another is named."""
        before = self.flushed_shards, self._shard_of_block
        self._shard_of_block = self._shard_of_instance(obj)
        self.expect_flush_on(frozenset((self._shard_of_block,)))
        try:
            yield
        finally:
            expected, self._shard_of_block = before
            self.expect_flush_on(expected)

    @property
    def pinned_shard(self) -> str | None:
        """Return the shard of statements that name none: the one that is pinned, or that of `on_database_of()`."""
        return pinned_shard() or self._shard_of_block

    def connection_to(self, shard: str) -> Connection:
        """Return the connection to a shard in the transaction of the session."""
        return self.connection(bind_arguments={"shard_id": shard})

    def expect_flush_on(self, shards: frozenset[str]) -> None:
        """Tell the session on which shards the rows of a flush are."""
        self.flushed_shards = shards

    def _only_shard(self, mapper: Any, clause: Any) -> str:
        """Return the only shard that can be meant without an object.

        Tables of many-to-many relationships are written without one, on the shard of the flush.
        """
        if len(self.routing.everywhere) == 1:
            return self.routing.home
        if mapper is not None and self.routing.is_reference(inspect(mapper).mapper):
            return self.routing.home
        if isinstance(clause, TABLE) and self.routing.is_reference_table(clause):
            return self.routing.home
        if len(self.flushed_shards) == 1:
            return next(iter(self.flushed_shards))
        what = "a statement" if clause is not None else "connection()"
        raise ShardNotNamedError(
            f"{what} of a sharded session names no shard, and there is nothing to choose one by; use pinned_to(...) or "
            "bind_arguments={'shard_id': ...}"
        )

    def _shard_of_instance(self, instance: MappedObject) -> str:
        state: AnyState = inspect(instance)
        if state.key is not None and state.identity_token is not None:
            return str(state.identity_token)
        return str(self.shard_chooser(state.mapper, instance, None))

    def _choose_for_object(self, mapper: AnyMapper | None, instance: Any, clause: ClauseElement | None = None) -> str:
        if instance is None:
            return pinned_shard() or self._only_shard(mapper, clause)
        return self._hooks.choose_for_object(self, instance)


def routed(session: Session, function: str) -> RoutedSession:
    """Return a session of a sharded factory.

    Raises:
        InvalidArgumentError: It is another session.
    """
    if isinstance(session, RoutedSession):
        return session
    raise InvalidArgumentError(f"{function}() needs a session of sharded_sessionmaker(); this one is {session!r}")
