"""What the room knows about one session: its transaction's timestamp and revision, and what a block asked for."""

from __future__ import annotations

import weakref
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from sqlalchemy import Table, delete, insert
from sqlalchemy.orm import InstanceState, Mapper, Session, SessionTransaction, class_mapper

from .._attach import Attachment, SessionTarget, attach
from ..exceptions import InvalidArgumentError, StateError
from . import _clock
from ._config import VersionConfig

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "SessionScope",
    "SessionVersions",
    "after_flush_postexec",
    "after_soft_rollback",
    "before_flush",
    "flush_context",
    "known_versions",
    "revision",
    "session_versions",
    "versioned_session",
    "versioning_disabled",
)

_KEY = "sqla_patterns.versioning"
_CONTEXT = "sqla_patterns.versioning.flush"


class SessionVersions:
    """The state of one session, in ``session.info``."""

    def __init__(self) -> None:
        #: Objects whose versions this flush has seen to.
        self.done: set[InstanceState[Any]] = set()
        #: Deleted objects below which this flush has looked.
        self.parents: set[InstanceState[Any]] = set()
        #: Old values that had to be looked up, by object and attribute.
        self.known: dict[InstanceState[Any], dict[str, Any]] = {}
        #: New objects whose keys were given by the user, to be looked at again after the flush.
        self.named: list[tuple[VersionConfig, InstanceState[Any]]] = []
        self.scopes: list[SessionScope] = []
        self.disabled = 0
        self._root: weakref.ref[SessionTransaction] | None = None
        self._moment: datetime | None = None
        #: Keys of revisions by class and block, with the transaction or savepoint that made them.
        self._revisions: dict[tuple[type[Any], SessionScope | None], tuple[Any, SessionTransaction]] = {}

    def begin_flush(self) -> None:
        self.done.clear()
        self.parents.clear()
        self.known.clear()
        self.named.clear()

    def _transaction(self, session: Session) -> None:
        root = session.get_transaction()
        if root is None:
            session.connection()
            root = cast("SessionTransaction", session.get_transaction())
        if self._root is None or self._root() is not root:
            self._root, self._moment = weakref.ref(root), None
            self._revisions.clear()

    def moment(self, session: Session) -> datetime:
        """The one timestamp of the present transaction."""
        self._transaction(session)
        if self._moment is None:
            self._moment = _clock.now()
        return self._moment

    def revision_id(self, session: Session, config: VersionConfig) -> Any:
        """The key of the present revision, whose row is inserted if there is none yet; None where there are no revisions."""
        cls = config.options.revision
        if cls is None:
            return None
        self._transaction(session)
        scope = self.scopes[-1] if self.scopes else None
        found = self._revisions.get((cls, scope))
        if found is not None:
            return found[0]
        mapper = class_mapper(cls, configure=False)
        values: dict[str, Any] = {}
        for each in self.scopes:
            values.update(each.values)
        values["at"] = self.moment(session)
        rows = {mapper.attrs[name].columns[0]: value for name, value in values.items() if _is_column(mapper, name, cls)}
        connection = session.connection(bind_arguments={"mapper": mapper})
        result = connection.execute(insert(cast("Table", mapper.local_table)).values(rows))
        key = cast("Any", result.inserted_primary_key)[0]
        made_in = session.get_nested_transaction() or session.get_transaction()
        self._revisions[cls, scope] = key, cast("SessionTransaction", made_in)
        return key

    def take_back(self, session: Session, config: VersionConfig) -> None:
        """Delete the row of the present revision again, as nothing was changed after all."""
        cls = config.options.revision
        key = (cls, self.scopes[-1] if self.scopes else None)
        found = self._revisions.pop(cast("Any", key), None)
        if cls is not None and found is not None:
            mapper = class_mapper(cls, configure=False)
            connection = session.connection(bind_arguments={"mapper": mapper})
            connection.execute(delete(cast("Table", mapper.local_table)).where(mapper.primary_key[0] == found[0]))

    def has_revision(self, session: Session, config: VersionConfig) -> bool:
        """Whether the present revision has a row already."""
        self._transaction(session)
        return (config.options.revision, self.scopes[-1] if self.scopes else None) in self._revisions

    def forget(self, rolled_back: SessionTransaction) -> None:
        """Forget revisions whose rows a rollback has taken with it."""
        for key, (_, made_in) in list(self._revisions.items()):
            transaction: SessionTransaction | None = made_in
            while transaction is not None:
                if transaction is rolled_back:
                    del self._revisions[key]
                    break
                transaction = transaction.parent


def _is_column(mapper: Mapper[Any], name: str, cls: type[Any]) -> bool:
    if name not in mapper.column_attrs:
        raise InvalidArgumentError(
            f"revision() was given {name}=, and {cls.__name__} has no such column; add one to the class, or use meta="
        )
    return True


def session_versions(session: Session) -> SessionVersions:
    """The state of `session`."""
    found: SessionVersions | None = session.info.get(_KEY)
    if found is None:
        found = session.info[_KEY] = SessionVersions()
    return found


def known_versions(session: Session) -> SessionVersions | None:
    """The state of `session`, if it has met anything versioned."""
    return cast("SessionVersions | None", session.info.get(_KEY))


def before_flush(session: Session, context: object, instances: object) -> None:
    """Remember the unit of work, from which mapper events learn what else is being flushed."""
    info = session.info
    info[_CONTEXT] = context
    if _KEY in info:
        cast("SessionVersions", info[_KEY]).begin_flush()


def flush_context(session: Session) -> Any:
    """The unit of work of the present flush."""
    return session.info.get(_CONTEXT)


def after_flush_postexec(session: Session, context: object) -> None:
    session.info.pop(_CONTEXT, None)
    if _KEY in session.info:
        cast("SessionVersions", session.info[_KEY]).begin_flush()


def after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    found = session.info.get(_KEY)
    if found is not None:
        cast("SessionVersions", found).forget(previous)


# -- blocks --------------------------------------------------------------------------------------


class SessionScope:
    """A block of `revision` or `versioning_disabled`; ``with`` for a session, ``async with`` for an ``AsyncSession``.

    What is pending when the block begins is flushed before, and what is pending when it ends without an error is flushed inside, so that what
    the block says is about what was done in it.
    """

    def __init__(self, session: Session | AsyncSession, values: dict[str, Any] | None) -> None:
        self._given = session
        self._session: Session = session if isinstance(session, Session) else session.sync_session
        #: What a revision is to say; None for a block without versioning.
        self._values = values

    @property
    def values(self) -> dict[str, Any]:
        """What a revision made in the block says."""
        return {} if self._values is None else self._values

    def __enter__(self) -> Self:
        if self._is_pending():
            self._flush("at the beginning")
        return self._begin()

    def _flush(self, when: str) -> None:
        if self._given is not self._session:
            raise StateError(
                f"an AsyncSession has changes that are not flushed {when} of a block; write 'async with', which flushes them, or "
                "await session.flush() before"
            )
        self._session.flush()

    def _begin(self) -> Self:
        versions = session_versions(self._session)
        if self._values is None:
            versions.disabled += 1
        else:
            versions.scopes.append(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc_type is None and self._is_pending():
                self._flush("at the end")
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        if self._is_pending():
            await self._flush_async()
        return self._begin()

    async def _flush_async(self) -> None:
        if isinstance(self._given, Session):
            raise StateError("'async with' is for an AsyncSession; this session is synchronous, so write 'with'")
        await self._given.flush()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc_type is None and self._is_pending():
                await self._flush_async()
        finally:
            self._leave()

    def _is_pending(self) -> bool:
        session = self._session
        return bool(session.new or session.deleted or session.dirty)

    def _leave(self) -> None:
        versions = session_versions(self._session)
        if self._values is None:
            versions.disabled -= 1
        elif self in versions.scopes:
            versions.scopes.remove(self)


def revision(
    session: Session | AsyncSession,
    *,
    actor: str | None = None,
    request_id: str | None = None,
    reason: str | None = None,
    meta: dict[str, Any] | None = None,
    **columns: Any,
) -> SessionScope:
    """Say who changes what the block changes, and why: a context manager.

    Args:
        session: a session; for an ``AsyncSession`` write ``async with``.
        columns: values for columns that the user's revision class adds.

    A block is one revision in each transaction, made when something versioned changes. An inner block is a revision of its own, and takes
    from the outer one what it does not say.
    """
    said = {"actor": actor, "request_id": request_id, "reason": reason, "meta": meta}
    return SessionScope(session, {**{name: value for name, value in said.items() if value is not None}, **columns})


def versioning_disabled(session: Session | AsyncSession) -> SessionScope:
    """Write without history while the block lasts: for imports and repairs. A context manager; ``async with`` for an ``AsyncSession``.

    No version ends; the objects keep the number that they have.
    """
    return SessionScope(session, None)


def versioned_session(target: SessionTarget) -> Attachment:
    """Upstream's switch, for those who come from the recipe; history is written without it.

    `target` is every kind of session, factory or class, async ones too, but the bare ``AsyncSession`` class.
    """
    return attach(target, {"before_flush": before_flush}, component="versioned_session")
