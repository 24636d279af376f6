"""Commits that say what has become of each shard.

SQLAlchemy commits one connection after the other. What can happen to one:

| COMMIT of a connection | it is then | the error has it in |
| --- | --- | --- |
| was executed | committed | ``committed`` |
| raised | invalidated: a pool would hand it on with its transaction open | ``failed``, ``in_doubt`` |
| was not tried | rolled back | ``failed`` |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, exc
from sqlalchemy.orm import SessionTransaction

from .._sqlalchemy import release
from ._errors import PartialCommitError, TransactionFailedError, TwoPhaseUnavailableError
from ._session import RoutedSession
from ._shards import Shards


def commit_of(session: RoutedSession, transaction: SessionTransaction) -> Callable[..., None]:
    """Return what takes the place of ``commit()`` of a root transaction, however it is spelled."""
    commit: Callable[..., None] = transaction.commit

    def honest_commit(*args: Any, **options: Any) -> None:
        shards = session.routing.shards
        broken = sorted(shard for connection, shard in session.shard_connections.items() if connection in shards.failed)
        if broken:
            raise TransactionFailedError(
                f"A statement has failed on the shard {', '.join(broken)}, and its other changes may be lost there; "
                "the transaction can only be rolled back, on all shards: call rollback() (or use begin_nested() around "
                "what may fail)"
            )
        try:
            commit(*args, **options)
        except BaseException as error:
            _settle(session, transaction, dict(session.shard_connections), error)
            raise

    return honest_commit


def _settle(
    session: RoutedSession, root: SessionTransaction, connections: dict[Connection, str], error: BaseException
) -> None:
    """Leave nothing behind of a commit that failed, and raise what it came to.

    Raises:
        PartialCommitError: Some shards have committed.
    """
    committed: list[str] = []
    in_doubt: list[str] = []
    waiting: list[str] = []
    for connection, shard in connections.items():
        transaction = None if connection.closed else connection.get_transaction()
        if transaction is None:
            if not connection.closed:
                committed.append(shard)
        elif transaction.is_active:
            waiting.append(shard)
        else:
            in_doubt.append(shard)
            connection.invalidate(error)
    if not in_doubt and not (committed and waiting):
        return  # it failed before the first COMMIT, or after the last one
    for connection, shard in connections.items():
        if shard not in waiting:
            release(root, connection)
    try:
        session.rollback()
    except exc.SQLAlchemyError as further:
        error.add_note(f"The rollback of the other shards failed as well: {further}")
    if committed:
        raise PartialCommitError(committed, in_doubt + waiting, in_doubt) from error
    error.add_note(
        f"COMMIT was sent to the shard {', '.join(in_doubt)} and raised; unless the error says so, nobody knows if "
        "it was executed. All other shards were rolled back."
    )


def check_two_phase(shards: Shards, connection: Connection | None = None) -> None:
    """Refuse a two-phase commit that a server would not take part in.

    Args:
        shards: The databases.
        connection: The connection to one, which is asked; one SELECT.

    Raises:
        TwoPhaseUnavailableError: It would not.
    """
    name = shards.dialect_name
    if name not in ("postgresql", "mysql", "mariadb", "oracle"):
        raise TwoPhaseUnavailableError(f"twophase=True: {name} has no two-phase commits; leave it out")
    if connection is not None and name == "postgresql":
        allowed = int(connection.exec_driver_sql("SHOW max_prepared_transactions").scalar_one())
        if not allowed:
            raise TwoPhaseUnavailableError(
                "twophase=True: max_prepared_transactions is 0 on the server, which then prepares no transaction; set "
                "it to the number of connections and restart the server, or leave twophase out"
            )
