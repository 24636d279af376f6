"""The factories of sharded sessions, and what their sessions listen to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Connection, Table, event
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, SessionTransaction, UOWTransaction, sessionmaker

from .._typing import AnyMapper, AnyState, MappedClass
from ..exceptions import InvalidArgumentError
from ._commits import check_two_phase, commit_of
from ._concurrent import prepare
from ._execution import execute
from ._flush import after_flush, before_flush, flush_by_shard, shard_of_new
from ._keys import ShardRule
from ._moves import after_soft_rollback
from ._reads import shards_of_identity
from ._routing import Choosers, Merge, Routing, Scatter
from ._session import Hooks, RoutedSession
from ._shards import SHARD, Shards

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker


def sharded_sessionmaker(
    shards: Shards,
    *,
    keys: Sequence[ShardRule] = (),
    reference: Iterable[MappedClass | Table] = (),
    scatter: Scatter = "allow",
    merge: Merge = "strict",
    twophase: bool = False,
    choosers: Choosers | None = None,
    concurrency: int = 1,
    autoflush: bool = True,
    expire_on_commit: bool = True,
    info: dict[Any, Any] | None = None,
) -> sessionmaker[ShardedSession]:
    """Return a factory of sessions over shards.

    Args:
        shards: The databases.
        keys: The rule of each class: `ShardKey` or `FollowsParent`.
        reference: Classes and tables of which each shard has all rows. They are read from one shard and written to all.
        scatter: What happens to statements that need several shards: "allow" them, "warn" with a `ScatterWarning`, or
            "forbid" them with a `ScatterForbiddenError`.
        merge: "strict" refuses what cannot be put together; "concat" lists the rows of each shard, whatever the
            statement says. The execution option ``shard_merge`` chooses for one statement.
        twophase: Whether to commit in two phases, so that all shards commit or none.
        choosers: Functions that take the place of the rules.
        concurrency: How many shards a SELECT for several of them asks at once, each by a thread. It pays where a shard
            takes some milliseconds to answer.
        autoflush: As for a session.
        expire_on_commit: As for a session.
        info: As for a session.

    Raises:
        InvalidArgumentError: A rule names what is not there.
        TwoPhaseUnavailableError: The databases do not know two-phase commits.
    """
    routing = _routing(shards, keys, reference, scatter, merge, choosers, concurrency, twophase=twophase)
    made: sessionmaker[RoutedSession] = sessionmaker(
        class_=RoutedSession,
        routing=routing,
        hooks=_HOOKS,
        twophase=twophase,
        autoflush=autoflush,
        expire_on_commit=expire_on_commit,
        info=info,
    )
    _listen(made.class_)
    return cast("sessionmaker[ShardedSession]", made)


def async_sharded_sessionmaker(
    shards: Shards,
    *,
    keys: Sequence[ShardRule] = (),
    reference: Iterable[MappedClass | Table] = (),
    scatter: Scatter = "allow",
    merge: Merge = "strict",
    twophase: bool = False,
    choosers: Choosers | None = None,
    concurrency: int = 1,
    autoflush: bool = True,
    expire_on_commit: bool = True,
    info: dict[Any, Any] | None = None,
) -> async_sessionmaker[AsyncSession]:
    """Return a factory of async sessions over shards, which were made of async engines.

    Args:
        shards: The databases.
        keys: The rule of each class.
        reference: Classes and tables of which each shard has all rows.
        scatter: What happens to statements that need several shards.
        merge: What happens to answers that cannot be put together.
        twophase: Whether to commit in two phases.
        choosers: Functions that take the place of the rules.
        concurrency: How many shards a SELECT for several of them asks at once, each by a task.
        autoflush: As for a session.
        expire_on_commit: As for a session.
        info: As for a session.

    Raises:
        InvalidArgumentError: A rule names what is not there.
        TwoPhaseUnavailableError: The databases do not know two-phase commits.
    """
    from sqlalchemy.ext.asyncio import async_sessionmaker

    routing = _routing(shards, keys, reference, scatter, merge, choosers, concurrency, twophase=twophase)
    sync_class = type("RoutedSession", (RoutedSession,), {"__doc__": RoutedSession.__doc__})
    _listen(sync_class)
    return async_sessionmaker(
        sync_session_class=sync_class,
        routing=routing,
        hooks=_HOOKS,
        twophase=twophase,
        autoflush=autoflush,
        expire_on_commit=expire_on_commit,
        info=info,
    )


def _routing(
    shards: Shards,
    keys: Sequence[ShardRule],
    reference: Iterable[MappedClass | Table],
    scatter: Scatter,
    merge: Merge,
    choosers: Choosers | None,
    concurrency: int,
    *,
    twophase: bool,
) -> Routing:
    if not isinstance(shards, Shards):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{shards!r} are no shards; use Shards.from_engines(...)")
    if twophase:
        check_two_phase(shards)
    routing = Routing(shards, keys, reference, scatter, merge, choosers or Choosers(), concurrency)
    if concurrency > 1:
        for engine in shards.engines.values():
            prepare(engine)
    return routing


# -- listeners ---------------------------------------------------------------------------------------------------------


def _listen(session_class: type[Session]) -> None:
    listeners: dict[str, Callable[..., object]] = {
        "after_begin": _on_after_begin,
        "after_transaction_create": _on_transaction_create,
        "after_transaction_end": _on_transaction_end,
        "after_flush": _on_after_flush,
        "after_soft_rollback": _on_soft_rollback,
    }
    for name, listener in listeners.items():
        event.listen(session_class, name, listener)


def _on_before_flush(session: Session, context: UOWTransaction, objects: object) -> None:
    before_flush(cast("RoutedSession", session))


def _on_after_flush(session: Session, context: UOWTransaction) -> None:
    after_flush(cast("RoutedSession", session))


def _on_after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    shard = connection.get_execution_options().get(SHARD)
    if shard is not None and connection not in (known := cast("RoutedSession", session).shard_connections):
        known[connection] = shard
        if session.twophase:
            check_two_phase(cast("RoutedSession", session).routing.shards, connection)


def _on_transaction_create(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        # SQLAlchemy tells of a rollback when the transaction has ended already.
        cast("RoutedSession", session).moves.clear()
        cast("Any", transaction).commit = commit_of(cast("RoutedSession", session), transaction)


def _on_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        cast("RoutedSession", session).shard_connections.clear()


def _on_soft_rollback(session: Session, transaction: SessionTransaction) -> None:
    after_soft_rollback(cast("RoutedSession", session), transaction)


def _choose_for_identity(
    session: RoutedSession,
    mapper: AnyMapper,
    primary_key: Any,
    *,
    lazy_loaded_from: AnyState | None = None,
    execution_options: Any = None,
    bind_arguments: Any = None,
    **_: Any,
) -> Sequence[str]:
    return shards_of_identity(
        session.routing, mapper, primary_key, lazy_loaded_from, execution_options or {}, bind_arguments or {}
    )


_HOOKS: Final = Hooks(execute, _on_before_flush, flush_by_shard, shard_of_new, _choose_for_identity)
