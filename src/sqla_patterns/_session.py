"""Turn every kind of session that a function may be given into a plain ``Session``.

A function that takes a session calls `resolve_session()` before anything else, and works with the plain
:class:`~sqlalchemy.orm.Session` that it returns. A :class:`~sqlalchemy.orm.scoped_session` (Flask-SQLAlchemy's
``db.session``, Pyramid) forwards only a part of a session's methods, and ``is`` and ``isinstance`` do not take it for a
``Session``, so it is replaced by the session behind it once, here. An :class:`~sqlalchemy.ext.asyncio.AsyncSession`
cannot be used without ``await``: it is refused, and the error says which line to write instead.

Context managers that emit no SQL of their own work with async sessions as well; they call `resolve_any_session()`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.orm import InstanceState, Session, scoped_session, sessionmaker

from ._typing import AnyState
from .exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session


P = ParamSpec("P")
R = TypeVar("R")

# Scoped sessions are invariant in their session: scoped_session[Session] would refuse one of a user's own class.
SyncSession: TypeAlias = "Session | scoped_session[Any]"
AnySession: TypeAlias = "Session | scoped_session[Any] | AsyncSession | async_scoped_session[Any]"


class SeveralDatabases:
    """Base of sessions over several databases: what packages that do not know them ask.

    Whoever asks a session for the connection of a *class* is given that of the object within `database_of()`.
    """

    @property
    def statement_dialect(self) -> Dialect:
        """Return the dialect that all of the databases have."""
        raise NotImplementedError

    @property
    def engines(self) -> Sequence[Engine]:
        """Return the engine of each of the databases."""
        raise NotImplementedError

    def use_isolation_level(self, level: str) -> None:
        """Use an isolation level on each of the databases; to be called before the session is used."""
        raise NotImplementedError

    @property
    def current_database(self) -> str | None:
        """Return the identity token of the database that is worked with, None if that may be any."""
        raise NotImplementedError

    def on_database_of(self, obj: object) -> AbstractContextManager[None]:
        """Return a block in which connections that nothing else decides are those of the database of `obj`."""
        raise NotImplementedError


def current_database(session: Session) -> str | None:
    """Return the identity token of the objects of the database that a session works with now.

    It is None in a session with one database, whose objects have none.
    """
    return session.current_database if isinstance(session, SeveralDatabases) else None


def database_of(session: Session, obj: object) -> AbstractContextManager[None]:
    """Return a block in which a session gives out connections to the database that `obj` is in.

    It does nothing for a session with one database, and where `obj` is not an object but its class.
    """
    if isinstance(session, SeveralDatabases) and not isinstance(obj, type):
        return session.on_database_of(obj)
    return nullcontext()


def at_object(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function work on the database of the first stored object among its arguments, or in a list of them.

    It is for functions that take a session first, or an object in a session. With one database it changes nothing.
    """

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        session = _session_of(args[0]) if args else None
        if isinstance(session, SeveralDatabases):
            for each in _flat([*args[1:], *options.values(), *args[:1]]):
                state = _state_of(each)
                if state is not None and state.key is not None:
                    with session.on_database_of(each):
                        return function(*args, **options)
        return function(*args, **options)

    return call


def _session_of(first: object) -> object:
    if isinstance(first, scoped_session):
        return cast("Callable[[], object]", first)()
    if isinstance(first, Session):
        return first
    state = _state_of(first)
    return None if state is None else state.session


def _state_of(value: object) -> AnyState | None:
    found: object = inspect(value, raiseerr=False)
    return cast("AnyState", found) if isinstance(found, InstanceState) else None  # type: ignore[redundant-cast]


def _flat(values: Iterable[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, (list, tuple, set)):
            yield from cast("Iterable[object]", value)
        else:
            yield value


def require_class(entity: object, function: str, keyword: str = "") -> None:
    """Raise if a function that takes a class was given an object.

    Args:
        entity: What the user has passed as the class.
        function: The function that the user has called; it appears in the error.
        keyword: The parameter that takes an object, if there is one.

    Raises:
        InvalidArgumentError: `entity` is an object of a mapped class.
    """
    if _state_of(entity) is not None:
        way_out = f"{function}(session, {type(entity).__name__}{', ' + keyword + '=...' if keyword else ''})"
        raise InvalidArgumentError(f"{function}() takes a class and was given an object, {entity!r}; write {way_out}")


def resolve_session(session: AnySession, function: str) -> Session:
    """Return the plain session behind `session`.

    Args:
        session: What the user has passed. Public functions annotate it as `SyncSession`; what comes may be another.
        function: The function that the user has called, as it is spelled in a call; it appears in errors.

    Raises:
        InvalidArgumentError: `session` is an async session, or no session at all.
    """
    if isinstance(session, Session):
        return session
    if isinstance(session, scoped_session):
        return cast("Session", session())
    if _is_async(session):
        raise InvalidArgumentError(
            f"{function}() cannot use the {type(session).__name__} that it was given, because it would have to be "
            f"awaited; write: await session.run_sync({function}, ...)"
        )
    raise _no_session(session, function)


def resolve_any_session(session: AnySession, function: str) -> Session:
    """Return the plain session behind `session`, which may also be an async one.

    Only for what emits no SQL outside of the user's own calls, such as a context manager that changes how the session
    behaves within it.

    Args:
        session: What the user has passed.
        function: The function that the user has called, as it is spelled in a call; it appears in errors.

    Raises:
        InvalidArgumentError: `session` is no session.
    """
    if isinstance(session, Session):
        return session
    if isinstance(session, scoped_session):
        return cast("Session", session())
    if _is_async(session):
        found = cast("Any", session)
        # An async_scoped_session does not forward `sync_session`.
        plain = found.registry() if hasattr(found, "registry") else found
        return cast("Session", plain.sync_session)
    raise _no_session(session, function)


def _is_async(session: object) -> bool:
    # Without the module in sys.modules there is no async session in this process, and perhaps no greenlet to import it
    # with.
    if sys.modules.get("sqlalchemy.ext.asyncio") is None:
        return False
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

    return isinstance(session, (AsyncSession, async_scoped_session))


def _no_session(session: object, function: str) -> InvalidArgumentError:
    hint = "call the sessionmaker and pass what it returns" if isinstance(session, sessionmaker) else "pass a Session"
    return InvalidArgumentError(f"{function}() needs a session as its first argument and was given {session!r}; {hint}")
