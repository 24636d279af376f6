"""Objects whose attributes were set by ``set_committed_value()`` in this transaction, to be expired by a rollback.

The rollback of a savepoint expires only the objects that SQLAlchemy knows to be changed. A position that was set in
memory together with an UPDATE of this package is not among them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from sqlalchemy.orm import Session

from .._typing import AnyState

_KEY = "sqla_patterns.trees.expire_on_rollback"


def expire_on_rollback(session: Session, states: Iterable[AnyState]) -> None:
    """Remember that a rollback of `session` has to expire `states`."""
    known: weakref.WeakSet[AnyState] = session.info.setdefault(_KEY, weakref.WeakSet())
    known.update(states)


def states_to_expire(session: Session) -> list[AnyState]:
    """Return the states that a rollback has to expire."""
    return list(session.info.get(_KEY, ()))


def forget_states_to_expire(session: Session) -> None:
    """Forget all states of `session`, when its transaction is over."""
    session.info.pop(_KEY, None)
