"""A dogpile backend whose entries live and die with the session that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import dogpile.cache
from dogpile.cache.api import NO_VALUE, CacheBackend
from sqlalchemy.orm import Session

from ..exceptions import StateError

__all__ = ("CURRENT_SESSION", "SessionLocalBackend", "register_session_backend")

#: The session for which the cache reads or writes at the moment.
CURRENT_SESSION: Final[ContextVar[Session | None]] = ContextVar("sqla_patterns_cache_session", default=None)


class SessionLocalBackend(CacheBackend):
    """Keeps entries in a dictionary of the session that the statement runs in, whatever made that session.

    It saves repeated statements within one session, for instance one web request. The dictionary goes with the session, or with
    ``scoped_session.remove()``. Objects keep their identity, as in every region.

    Register it once with `register_session_backend()`, then ``make_region().configure("sqlalchemy.session")``.

    :param arguments: ``scoped_session``, which the recipe demanded, is accepted. It is asked only when the region
        is used outside of a statement.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._registry = cast("Callable[[], Session] | None", arguments.get("scoped_session"))
        self._entries: WeakKeyDictionary[Session, dict[str, Any]] = WeakKeyDictionary()

    def entries(self, session: Session) -> dict[str, Any]:
        """The dictionary of a session."""
        return self._entries.setdefault(session, {})

    def get(self, key: str) -> Any:
        """Return what the session has under the key."""
        return self._here().get(key, NO_VALUE)

    def get_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        """Return what the session has under each key."""
        here = self._here()
        return [here.get(key, NO_VALUE) for key in keys]

    def set(self, key: str, value: Any) -> None:
        """Keep a value for the session."""
        self._here()[key] = value

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        """Keep values for the session."""
        self._here().update(mapping)

    def delete(self, key: str) -> None:
        """Forget a value of the session."""
        self._here().pop(key, None)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Forget values of the session."""
        here = self._here()
        for key in keys:
            here.pop(key, None)

    def _here(self) -> dict[str, Any]:
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
    """Make `SessionLocalBackend` known to dogpile under a name; calling it again changes nothing."""
    cast("Any", dogpile.cache).register_backend(name, __name__, "SessionLocalBackend")
