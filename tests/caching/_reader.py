"""A cache of nothing but a guard and a dictionary, to test the guard with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.orm import Session

from sqla_patterns._attach import attach
from sqla_patterns.caching._dependencies import dependencies
from sqla_patterns.caching._guard import Guard
from sqla_patterns.caching._stamps import Epoch
from sqla_patterns.caching._tags import schema_map_of
from sqla_patterns.caching._ticket import Ticket


class Reader:
    """Reads rows of statements through a guard; what it did last is in `last`."""

    def __init__(self, guard: Guard, entries: dict[object, tuple[Epoch, Any]] | None = None) -> None:
        self.guard = guard
        self.entries: dict[object, tuple[Epoch, Any]] = {} if entries is None else entries
        self.counts = {"hit": 0, "put": 0, "read": 0}
        self.bypasses: list[str] = []
        self.before_database: Callable[[], object] = lambda: None
        self.before_put: Callable[[], object] = lambda: None
        self._lock = Lock()

    def attach(self, target: Any) -> Any:
        return attach(target, self.guard.session_listeners, component=self)

    def rows(
        self, session: Session, statement: Executable, key: object = None, options: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """The rows of `statement`; `last` tells 'hit', 'put' or 'read'."""
        if session.autoflush:
            session.flush()
        bind = session.get_bind()
        found = dependencies(statement, bind.dialect)
        tags = self.guard.tags(bind, found.tables, schema_map_of(bind, options))
        key = str(statement) if key is None else key
        ticket = self.guard.ticket(session, tags)
        if ticket.bypass is not None:
            self.bypasses.append(ticket.bypass)
        entry = self.entries.get(key) if ticket.may_serve else None
        if entry is not None and ticket.serves(entry[0]):
            self._did("hit")
            return entry[1]
        self.before_database()
        rows = [tuple(row) for row in session.execute(statement, execution_options=dict(options or {})).all()]
        self.before_put()
        if (horizon := ticket.horizon) is not None:
            self.entries[key] = (horizon, rows)
            self._did("put")
        else:
            self._did("read")
        return rows

    def ticket(self, session: Session, *statements: Executable) -> Ticket:
        bind = session.get_bind()
        tags = {tag for each in statements for tag in self.guard.tags(bind, dependencies(each, bind.dialect).tables)}
        return self.guard.ticket(session, tags)

    @property
    def last(self) -> str:
        return self._last

    def _did(self, what: str) -> None:
        self._last = what
        with self._lock:
            self.counts[what] += 1
