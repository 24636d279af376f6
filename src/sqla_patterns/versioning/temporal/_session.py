"""What temporal rows remember in a session: the time of the transaction, and the versions that it has made."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy.orm import Session, SessionTransaction

from ..._typing import AnyState
from .. import _clock
from ._config import TICK, KeyValues, TemporalConfig
from ._writer import Row

#: The key of `RowVersions` in ``session.info``.
SESSION_KEY: Final = "sqla_patterns.versioning.temporal"


class RowVersions:
    """The state of temporal rows in one session, stored in ``session.info``.

    Attributes:
        context: The unit of work of the present flush, None outside of a flush.
        handled: Objects that the present flush has written or left as they are.
        looked_up: Rows that were read because not everything of an object was loaded, as they were before this flush.
        judged: Objects that were found to be changed when the flush began, with how many attributes were set then.
        inserted: New objects whose version is determined.
        unnamed: Rows of `CopiedRow` classes whose ``object_id`` is set after the flush, by class.
        replaced: The keys of versions that this flush has closed, with the objects that took their place.
        levels: Objects that were changed because they follow others, with how many levels lie between them and what
            the user has changed.
    """

    def __init__(self) -> None:
        self.context: object = None
        self.handled: set[AnyState] = set()
        self.looked_up: dict[AnyState, Row] = {}
        self.judged: dict[AnyState, int] = {}
        self.inserted: set[AnyState] = set()
        self.unnamed: dict[TemporalConfig, list[object]] = {}
        self.replaced: dict[TemporalConfig, dict[KeyValues, AnyState]] = {}
        self.levels: dict[AnyState, int] = {}
        self._root: weakref.ref[SessionTransaction] | None = None
        self._moment: datetime | None = None
        # The identity keys of the versions that were made, each with the transaction or savepoint that has made it.
        self._made: dict[Any, SessionTransaction] = {}

    def begin_flush(self, context: object) -> None:
        """Forget what was true for the last flush."""
        self.context = context
        self.handled.clear()
        self.looked_up.clear()
        self.judged.clear()
        self.inserted.clear()
        self.unnamed.clear()
        self.replaced.clear()

    def _notice_transaction(self, session: Session) -> None:
        root = session.get_transaction()
        if root is None:
            session.connection()
            root = cast("SessionTransaction", session.get_transaction())
        if self._root is None or self._root() is not root:
            self._root, self._moment = weakref.ref(root), None
            self._made.clear()

    def moment(self, session: Session) -> datetime:
        """Return the time of the present transaction, at which the versions begin that it makes."""
        self._notice_transaction(session)
        if self._moment is None:
            self._moment = _clock.now()
        return self._moment

    def next_moment(self, session: Session) -> datetime:
        """Return a time after that of all versions which this transaction has made, and go on with it."""
        self._moment = max(self.moment(session) + TICK, _clock.now())
        return self._moment

    def note_made(self, session: Session, keys: Iterable[Any]) -> None:
        """Note that the present transaction has made the versions with these identity keys."""
        self._notice_transaction(session)
        made_in = cast("SessionTransaction", session.get_nested_transaction() or session.get_transaction())
        self._made.update(dict.fromkeys(keys, made_in))

    def made(self, session: Session) -> Collection[Any]:
        """Return the identity keys of the versions that the present transaction has made."""
        self._notice_transaction(session)
        return self._made

    def forget_rolled_back(self, transaction: SessionTransaction) -> None:
        """Forget the versions that a transaction or savepoint has made which was rolled back."""
        for key, made_in in list(self._made.items()):
            each: SessionTransaction | None = made_in
            while each is not None and each is not transaction:
                each = each.parent
            if each is not None:
                del self._made[key]


def known_versions(session: Session) -> RowVersions | None:
    """Return the state of temporal rows in a session, None if it has not written any."""
    found: RowVersions | None = session.info.get(SESSION_KEY)
    return found


def row_versions(session: Session) -> RowVersions:
    """Return the state of temporal rows in a session, which is made if it does not exist."""
    found = known_versions(session)
    if found is None:
        found = session.info[SESSION_KEY] = RowVersions()
    return found


def later(moment: datetime, former: datetime | None) -> datetime:
    """Return `moment`, or the time right after `former` if that is later: no period is empty."""
    return moment if former is None or former < moment else former + TICK
