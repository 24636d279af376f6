"""`SessionLocalBackend`: a dogpile backend whose entries exist as long as the session that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import dogpile.cache
from dogpile.cache.api import NO_VALUE, CacheBackend
from sqlalchemy.orm import Session

from .._session import AnySession, resolve_any_session
from ..exceptions import StateError

#: The session for which the cache reads or writes entries at the moment.
CURRENT_SESSION: Final[ContextVar[Session | None]] = ContextVar("sqla_patterns_cache_session", default=None)


class SessionLocalBackend(CacheBackend):
    """A dogpile backend that keeps the entries of each session in a dictionary, for as long as the session exists.

    It saves repeated statements within one session, for instance one web request. The dictionary is dropped with the
    session, or by ``scoped_session.remove()``. Objects keep their identity, as in every region.

    Register it once with `register_session_backend()`, then ``make_region().configure("sqlalchemy.session")``.

    Args:
        arguments: ``scoped_session``, which the recipe demanded, is accepted. It is used only when the region is used
            outside of a statement.
    """

    def __init__(self, arguments: Mapping[str, object]) -> None:
        self._registry = cast("Callable[[], Session] | None", arguments.get("scoped_session"))
        self._entries: WeakKeyDictionary[Session, dict[str, object]] = WeakKeyDictionary()

    def entries(self, session: AnySession) -> dict[str, object]:
        """Return the dictionary of a session of any kind."""
        return self._entries.setdefault(resolve_any_session(session, "backend.entries"), {})

    def get(self, key: str) -> Any:
        """Return what the session has under the key."""
        return self._current().get(key, NO_VALUE)

    def get_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        """Return what the session has under each key."""
        current = self._current()
        return [current.get(key, NO_VALUE) for key in keys]

    def set(self, key: str, value: object) -> None:
        """Keep a value for the session."""
        self._current()[key] = value

    def set_multi(self, mapping: Mapping[str, object]) -> None:
        """Keep values for the session."""
        self._current().update(mapping)

    def delete(self, key: str) -> None:
        """Forget a value of the session."""
        self._current().pop(key, None)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Forget values of the session."""
        current = self._current()
        for key in keys:
            current.pop(key, None)

    def _current(self) -> dict[str, object]:
        """Return the dictionary of the current session."""
        session = CURRENT_SESSION.get()
        if session is None and self._registry is not None:
            session = self._registry()
        if session is None:
            raise StateError(
                "SessionLocalBackend is used outside of a statement, so that there is no session to keep entries for; "
                "use the region through FromCache(), or give it a scoped_session in its arguments."
            )
        return self.entries(session)


def register_session_backend(name: str = "sqlalchemy.session") -> None:
    """Register `SessionLocalBackend` with dogpile under a name; calling it again changes nothing."""
    cast("Any", dogpile.cache).register_backend(name, __name__, "SessionLocalBackend")
