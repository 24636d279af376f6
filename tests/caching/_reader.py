"""A minimal cache, to test `Freshness`: a dictionary of entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.orm import Session

from sqla_patterns._attach import attach
from sqla_patterns.caching._dependencies import dependencies
from sqla_patterns.caching._freshness import Freshness
from sqla_patterns.caching._read_epoch import ReadEpoch
from sqla_patterns.caching._stamps import Epoch
from sqla_patterns.caching._tags import schema_map_of


class Reader:
    """A reader of rows, from its dictionary where the `Freshness` allows it; what it did last is in `last`."""

    def __init__(self, freshness: Freshness, entries: dict[object, tuple[Epoch, Any]] | None = None) -> None:
        self.freshness = freshness
        self.entries: dict[object, tuple[Epoch, Any]] = {} if entries is None else entries
        self.counts = {"hit": 0, "put": 0, "read": 0}
        self.bypasses: list[str] = []
        self.before_database: Callable[[], object] = lambda: None
        self.before_put: Callable[[], object] = lambda: None
        self._lock = Lock()

    def attach(self, target: Any) -> Any:
        return attach(target, self.freshness.session_listeners, component=self)

    def rows(
        self, session: Session, statement: Executable, key: object = None, options: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the rows of `statement`; afterwards `last` is 'hit', 'put' or 'read'."""
        if session.autoflush:
            session.flush()
        bind = session.get_bind()
        found = dependencies(statement, bind.dialect)
        tags = self.freshness.tags(bind, found.tables, schema_map_of(bind, options))
        key = str(statement) if key is None else key
        read_epoch = self.freshness.take_read_epoch(session, tags)
        if read_epoch.bypass is not None:
            self.bypasses.append(read_epoch.bypass)
        entry = self.entries.get(key) if read_epoch.may_serve else None
        if entry is not None and read_epoch.serves(entry[0]):
            self._did("hit")
            return entry[1]
        self.before_database()
        rows = [tuple(row) for row in session.execute(statement, execution_options=dict(options or {})).all()]
        self.before_put()
        if (epoch := read_epoch.entry_epoch) is not None:
            self.entries[key] = (epoch, rows)
            self._did("put")
        else:
            self._did("read")
        return rows

    def take_read_epoch(self, session: Session, *statements: Executable) -> ReadEpoch:
        bind = session.get_bind()
        tags = {
            tag for each in statements for tag in self.freshness.tags(bind, dependencies(each, bind.dialect).tables)
        }
        return self.freshness.take_read_epoch(session, tags)

    @property
    def last(self) -> str:
        return self._last

    def _did(self, what: str) -> None:
        self._last = what
        with self._lock:
            self.counts[what] += 1
