"""Keep the identity map of a session from returning objects of another tenant than the current one.

A session contains objects of several tenants after `all_tenants`, or if they are added to it.
"""

from __future__ import annotations

import weakref
from typing import Any, Final, cast

from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import ObjectDeletedError

from .._maintained import ALL_TENANTS
from ._private import WeakIdentityMap, private
from ._tenant import held_tenant
from ._tenant_rule import Scoped, tenant_of

_SESSION: Final = "_sqla_patterns_session"


def guard_identity(session: Session) -> None:
    """Have the identity map of a session return held objects of the tenant only.

    The map is a new one after ``close()`` and ``expunge_all()``, so this is called again with each statement.
    """
    identity_map: Any = session.identity_map
    if not isinstance(identity_map, _GuardedMap):
        base: type[Any] = type(cast("object", identity_map))
        guarded: Any = _GuardedWeakMap
        if base is not WeakIdentityMap:
            guarded = type(f"Guarded{base.__name__}", (_GuardedMap, base), {})
        identity_map.__class__ = guarded
        setattr(identity_map, _SESSION, weakref.ref(session))


class _GuardedMap:
    """Mixed into the class of an identity map."""

    def get(self, key: Any, default: Any = None) -> Any:
        held = private(super()).get(key, default)
        if held is default or not isinstance(held, Scoped) or self._is_for_tenant(held):
            return held
        return default

    def __getitem__(self, key: Any) -> Any:
        held = private(super()).__getitem__(key)
        if not isinstance(held, Scoped) or self._is_for_tenant(held):
            return held
        raise KeyError(key)

    def _is_for_tenant(self, held: object) -> bool:
        session: Session | None = getattr(self, _SESSION)()
        if session is None or private(session)._flushing:
            return True
        tenant = held_tenant(session, loading=True)
        if tenant is None or tenant is ALL_TENANTS:
            return True
        state: Any = private(held)._sa_instance_state
        if state.expired and "tenant_id" not in state.dict:
            return True  # it is about to be loaded, for the tenant
        try:
            return tenant_of(held) == tenant
        except ObjectDeletedError:
            return False


class _GuardedWeakMap(_GuardedMap, WeakIdentityMap):  # type: ignore[misc]
    """The identity map of every session that nobody has given another one."""
