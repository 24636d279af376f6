"""What was brought into step in memory behind the back of the unit of work, so that a rollback can expire it.

SQLAlchemy expires on the rollback of a savepoint only what it knows to be dirty. A position that was set together with an UPDATE of ours
is not.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import InstanceState, Session

__all__ = ("forget_touched", "touch", "touched")

_TOUCHED = "sqla_patterns.trees.touched"


def touch(session: Session, states: Iterable[InstanceState[Any]]) -> None:
    """Remember that `states` were changed in this transaction."""
    known: weakref.WeakSet[InstanceState[Any]] = session.info.setdefault(_TOUCHED, weakref.WeakSet())
    known.update(states)


def touched(session: Session) -> list[InstanceState[Any]]:
    return list(session.info.get(_TOUCHED, ()))


def forget_touched(session: Session) -> None:
    session.info.pop(_TOUCHED, None)
