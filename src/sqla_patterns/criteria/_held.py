"""Keep ``get()`` and many-to-one loads from returning objects that are in the session already and are hidden.

Before such a load queries the database, it looks for the object in the session by the method `_identity_lookup`. That
is wrapped here: it does not find an object that is hidden, or whose loaded attributes do not tell whether it is. Then
the SELECT follows, and its criteria decide.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from sqlalchemy import inspect, true
from sqlalchemy.orm import Session

from .._typing import AnyState
from ._private import evaluate
from ._rules import Bypass, Rule


class Hiding(Protocol):
    """Criteria that hide held objects."""

    @property
    def option(self) -> str: ...

    def hides(self, obj: object) -> bool | None: ...


def guard_held(session: Session, criteria: Hiding, listener: Callable[..., object]) -> None:
    """Have a session hide what it holds, as long as `listener` listens to it."""
    guard = vars(session).get("_identity_lookup")
    if not isinstance(guard, _HeldGuard):
        guard = _HeldGuard(session)
        vars(session)["_identity_lookup"] = guard
    guard.criteria.setdefault(id(criteria), (criteria, listener))


def held_verdict(rule: Rule, obj: object) -> bool | None:
    """Return what a rule's criterion says of an object, None where that cannot be told from what is loaded."""
    state: AnyState = inspect(obj, raiseerr=True)
    if state.expired or state.expired_attributes:
        return None
    return evaluate(rule.expression(type(obj), true()), obj)


class _HeldGuard:
    """Stands before the `_identity_lookup` of one session."""

    def __init__(self, session: Session) -> None:
        self._session: Final = weakref.ref(session)
        self.criteria: Final = dict[int, tuple[Hiding, Callable[..., object]]]()

    def __call__(self, mapper: Any, primary_key_identity: Any, *args: Any, **kw: Any) -> Any:
        session: Any = self._session()
        # Of the class, whatever it is: a ShardedSession has one of its own.
        cls = cast("Any", type(session))
        held: Any = cls._identity_lookup(session, mapper, primary_key_identity, *args, **kw)
        listeners = list(session.dispatch.do_orm_execute)
        for criteria, listener in self.criteria.values():
            if held is not None and listener in listeners and self._is_hidden(criteria, held, kw):
                return None
        return held

    @staticmethod
    def _is_hidden(criteria: Hiding, held: object, kw: dict[str, Any]) -> bool:
        if kw.get("execution_options", {}).get(criteria.option):
            return False
        loading: AnyState | None = kw.get("lazy_loaded_from")
        options: Any = () if loading is None else loading.load_options
        if any(isinstance(each, Bypass) and each.name == criteria.option for each in options):
            return False
        return criteria.hides(held) is not False
