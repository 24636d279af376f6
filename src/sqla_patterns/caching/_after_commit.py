"""Call listeners after a COMMIT that the database has accepted, for which SQLAlchemy has no event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from sqlalchemy import Dialect, Engine, PoolProxiedConnection

#: Is called with the connection as the pool gives it out, whose ``info`` is that of the DBAPI connection.
AfterCommit: TypeAlias = Callable[[PoolProxiedConnection], None]


class _DoCommit:
    """A replacement for `Dialect.do_commit()` of one dialect, which calls listeners when the original has returned."""

    def __init__(self, dialect: Dialect) -> None:
        self._original: Final = dialect.do_commit
        self.listeners: tuple[AfterCommit, ...] = ()

    def __call__(self, connection: PoolProxiedConnection) -> None:
        self._original(connection)
        for listener in self.listeners:
            listener(connection)


def listen_after_commit(engine: Engine, listener: AfterCommit) -> None:
    """Call `listener` after each COMMIT of the engine that the database has accepted."""
    dialect = engine.dialect
    hook: object = vars(dialect).get("do_commit")
    if not isinstance(hook, _DoCommit):
        hook = _DoCommit(dialect)
        vars(dialect)["do_commit"] = hook
    if listener not in hook.listeners:
        hook.listeners += (listener,)


def remove_after_commit(engine: Engine, listener: AfterCommit) -> None:
    """Call `listener` no more; without listeners the dialect is as it was before."""
    hook: object = vars(engine.dialect).get("do_commit")
    if isinstance(hook, _DoCommit):
        hook.listeners = tuple(each for each in hook.listeners if each != listener)
        if not hook.listeners:
            del vars(engine.dialect)["do_commit"]
