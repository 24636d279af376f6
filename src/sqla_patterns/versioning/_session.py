"""What the package keeps in a session: the time and revision of its transaction, and the blocks that are open."""

from __future__ import annotations

import weakref
from datetime import datetime
from types import TracebackType
from typing import Any, Self, cast

from sqlalchemy import Table, delete, insert
from sqlalchemy.orm import Session, SessionTransaction, class_mapper, scoped_session

from .._attach import Attachment, SessionTarget, attach
from .._session import AnySession, resolve_any_session
from .._typing import AnyExpression, AnyMapper, AnyState, MappedClass, PrimaryKey
from ..exceptions import InvalidArgumentError, StateError
from . import _clock
from ._captured_rows import CapturedRow
from ._config import KeyValues, VersionConfig
from ._names import FLUSH_KEY, SESSION_KEY
from ._version import Operation, VersionStamp


class SessionVersions:
    """The state of the package in one session, stored in ``session.info``.

    Attributes:
        handled: Objects whose versions the present flush has already made.
        checked_parents: Deleted objects whose dependent rows the present flush has already copied.
        looked_up: Old values that were read from the database, by object and attribute.
        with_given_keys: New objects whose keys the user has set, with the roots of their hierarchies; their versions
            are checked after the flush.
        erased: The object that is being erased, of which no history is written.
        erased_with: The keys of the objects that are deleted with it, by hierarchy, if these are to be erased too.
        announced: Objects whose rows were copied because another package is about to change them, with what they had.
        stamped: How often the revision was asked for in this flush.
        stamped_for_others: How often of these when rows were copied for other packages.
        begun_for_others: The hierarchies for which such a copy has inserted the row of the revision.
        scopes: The `revision` blocks that the session is in, the innermost last.
        disabled: The number of `versioning_disabled` blocks that the session is in.
    """

    def __init__(self) -> None:
        self.handled: set[AnyState] = set()
        self.checked_parents: set[AnyState] = set()
        self.looked_up: dict[AnyState, dict[str, object]] = {}
        self.with_given_keys: list[tuple[VersionConfig, AnyState]] = []
        self.erased: AnyState | None = None
        self.erased_with: dict[VersionConfig, set[KeyValues]] | None = None
        self.announced: dict[AnyState, tuple[Operation, CapturedRow]] = {}
        self.stamped = self.stamped_for_others = 0
        self.begun_for_others: set[VersionConfig] = set()
        self.scopes: list[SessionScope] = []
        self.disabled = 0
        self._root: weakref.ref[SessionTransaction] | None = None
        self._moment: datetime | None = None
        # Keys of revisions by class and block, with the transaction or savepoint that made them.
        self._revisions: dict[tuple[MappedClass, SessionScope | None], tuple[PrimaryKey, SessionTransaction]] = {}

    def forget_announced(self) -> None:
        """Forget what other packages have announced.

        Not called when a flush begins, because other packages may announce it before the listener of this one is
        called.
        """
        self.announced.clear()
        self.looked_up.clear()
        self.stamped = self.stamped_for_others = 0
        self.begun_for_others.clear()

    def begin_flush(self) -> None:
        """Forget what was true for the last flush."""
        self.handled.clear()
        self.checked_parents.clear()
        self.with_given_keys.clear()
        if not self.announced:
            self.looked_up.clear()

    def _notice_transaction(self, session: Session) -> None:
        """Forget the time and the revisions of the last transaction if the session has begun another one."""
        root = session.get_transaction()
        if root is None:
            session.connection()
            root = cast("SessionTransaction", session.get_transaction())
        if self._root is None or self._root() is not root:
            self._root, self._moment = weakref.ref(root), None
            self._revisions.clear()

    def moment(self, session: Session) -> datetime:
        """Return the time of the present transaction, which is the same for all that it writes."""
        self._notice_transaction(session)
        if self._moment is None:
            self._moment = _clock.now()
        return self._moment

    def revision_id(self, session: Session, config: VersionConfig) -> PrimaryKey:
        """Return the key of the present revision, whose row is inserted if it does not exist yet.

        Returns:
            None for a class without revisions.

        Raises:
            InvalidArgumentError: A block has given a value for a column that the revision class does not have.
        """
        cls = config.options.revision
        if cls is None:
            return None
        self.stamped += 1
        self._notice_transaction(session)
        scope = self.scopes[-1] if self.scopes else None
        found = self._revisions.get((cls, scope))
        if found is not None:
            return found[0]
        mapper = class_mapper(cls, configure=False)
        values: dict[str, object] = {}
        for each in self.scopes:
            values.update(each.values)
        values["at"] = self.moment(session)
        row = {_column_of(mapper, name): value for name, value in values.items()}
        connection = session.connection(bind_arguments={"mapper": mapper})
        result = connection.execute(insert(cast("Table", mapper.local_table)).values(row))
        (key,) = cast("tuple[PrimaryKey]", result.inserted_primary_key)
        made_in = session.get_nested_transaction() or session.get_transaction()
        self._revisions[cls, scope] = key, cast("SessionTransaction", made_in)
        return key

    def delete_revision(self, session: Session, config: VersionConfig) -> None:
        """Delete the row of the present revision again; called when nothing was changed after all."""
        cls = config.options.revision
        if cls is None:
            return
        found = self._revisions.pop((cls, self.scopes[-1] if self.scopes else None), None)
        if found is not None:
            mapper = class_mapper(cls, configure=False)
            connection = session.connection(bind_arguments={"mapper": mapper})
            connection.execute(delete(cast("Table", mapper.local_table)).where(mapper.primary_key[0] == found[0]))

    def has_revision(self, session: Session, config: VersionConfig) -> bool:
        """Return whether the present revision has a row already."""
        self._notice_transaction(session)
        return (config.options.revision, self.scopes[-1] if self.scopes else None) in self._revisions

    def forget_revisions(self, rolled_back: SessionTransaction) -> None:
        """Forget the revisions whose rows were removed by the rollback of a transaction or savepoint."""
        for key, (_, made_in) in list(self._revisions.items()):
            transaction: SessionTransaction | None = made_in
            while transaction is not None:
                if transaction is rolled_back:
                    del self._revisions[key]
                    break
                transaction = transaction.parent


def _column_of(mapper: AnyMapper, name: str) -> AnyExpression:
    """Return the column of a revision class to which a value was given by name."""
    if name not in mapper.column_attrs:
        raise InvalidArgumentError(
            f"revision() was given {name}=, and {mapper.class_.__name__} has no such column; add one to the class, or "
            "use meta="
        )
    return mapper.column_attrs[name].columns[0]


def session_versions(session: Session) -> SessionVersions:
    """Return the state of the package in `session`, which is made if it does not exist."""
    found: SessionVersions | None = session.info.get(SESSION_KEY)
    if found is None:
        found = session.info[SESSION_KEY] = SessionVersions()
    return found


def known_versions(session: Session) -> SessionVersions | None:
    """Return the state of the package in `session`, None if the session has not handled anything versioned."""
    versions: SessionVersions | None = session.info.get(SESSION_KEY)
    return versions


def get_stamp(session: Session, config: VersionConfig) -> VersionStamp:
    """Return the stamp of the present transaction; inserts the row of its revision if there is none yet."""
    versions = session_versions(session)
    return VersionStamp(versions.moment(session), versions.revision_id(session, config))


def session_of(state: AnyState) -> Session:
    """Return the session of an object.

    Raises:
        StateError: The object is in none.
    """
    session = state.session
    if session is None:
        raise StateError(f"this {state.mapper.class_.__name__} is in no session; add it to one")
    return session


def before_flush(session: Session, context: object, instances: object) -> None:
    """Store the unit of work, in which the mapper events find the other objects that are flushed."""
    info = session.info
    if info.get(FLUSH_KEY) is context:
        return  # versioned_session() has attached a second listener
    info[FLUSH_KEY] = context
    versions = known_versions(session)
    if versions is not None:
        versions.begin_flush()


def flush_context(session: Session) -> object:
    """Return the unit of work of the present flush."""
    return session.info.get(FLUSH_KEY)


def after_flush_postexec(session: Session, context: object) -> None:
    """Forget the flush that has ended."""
    session.info.pop(FLUSH_KEY, None)
    versions = known_versions(session)
    if versions is not None:
        versions.begin_flush()
        versions.forget_announced()


def after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    """Forget what a rollback has removed from the database."""
    versions = known_versions(session)
    if versions is not None:
        versions.forget_revisions(previous)
        versions.forget_announced()


# -- blocks --------------------------------------------------------------------------------------


class SessionScope:
    """The context manager that `revision` and `versioning_disabled` return.

    Use ``with`` for a session, ``async with`` for an ``AsyncSession``. Pending changes are flushed before the block
    begins, and again at its end unless it raises, so that the block applies to exactly the changes that are made in it.
    """

    def __init__(self, session: AnySession, values: dict[str, object] | None, *, function: str) -> None:
        self._session = resolve_any_session(session, function)
        # The async session to await, None for a synchronous session.
        self._async = None if isinstance(session, (Session, scoped_session)) else session
        # The values of the revision; None for a block without versioning.
        self._values = values

    @property
    def values(self) -> dict[str, object]:
        """Return the values of a revision that is made in the block, by attribute."""
        return {} if self._values is None else self._values

    def __enter__(self) -> Self:
        if self._is_pending():
            self._flush("at the beginning")
        return self._begin()

    def _flush(self, when: str) -> None:
        if self._async is not None:
            raise StateError(
                f"an AsyncSession has changes that are not flushed {when} of a block; write 'async with', which "
                "flushes them, or await session.flush() before"
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
        if self._async is None:
            raise StateError("'async with' is for an AsyncSession; this session is synchronous, so write 'with'")
        await self._async.flush()

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
    session: AnySession,
    *,
    actor: str | None = None,
    request_id: str | None = None,
    reason: str | None = None,
    meta: dict[str, Any] | None = None,
    **columns: object,
) -> SessionScope:
    """Store who makes the changes in a block, and why.

    The block makes one revision in each transaction, when something versioned changes. An inner block makes another
    revision, with the values of the outer block where it gives none.

    Args:
        session: Any kind of session, scoped ones too.
        actor: Who makes the changes.
        request_id: The request that makes them.
        reason: Why they are made.
        meta: Anything else, stored as JSON.
        columns: Values for columns that the user's revision class adds.

    Returns:
        A context manager; for an ``AsyncSession`` write ``async with``.
    """
    given = {"actor": actor, "request_id": request_id, "reason": reason, "meta": meta}
    values = {**{name: value for name, value in given.items() if value is not None}, **columns}
    return SessionScope(session, values, function="revision")


def versioning_disabled(session: AnySession) -> SessionScope:
    """Write no history in a block, for imports and repairs.

    No version ends, and the objects keep the number of their version.

    Returns:
        A context manager; for an ``AsyncSession`` write ``async with``.
    """
    return SessionScope(session, None, function="versioning_disabled")


def versioned_session(target: SessionTarget) -> Attachment:
    """Do what the function of that name in SQLAlchemy's example does; sessions write history without it, too.

    Args:
        target: A session, a session factory or a session class, sync or async, but not the bare ``AsyncSession`` class.

    Returns:
        A handle that can detach it.
    """
    return attach(target, {"before_flush": before_flush}, component="versioned_session")
