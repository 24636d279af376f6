"""Set and read the tenant of a thread or task, and keep a session to one tenant."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.orm import Session

from .._maintained import ALL_TENANTS, CURRENT_TENANT
from ..exceptions import InvalidArgumentError
from ._errors import TenantChangedError, TenantNotSetError

#: In `session.info`: the tenant that a session serves.
TENANT: Final = "sqla_patterns.criteria.tenant"


@contextmanager
def tenant_scope(tenant: object) -> Generator[None, None, None]:
    """Read and write for one tenant within the block, in this thread or task and in what it awaits.

    Scopes may be nested; the inner one counts. Another thread, a pool's worker included, has no tenant until it enters
    a scope of its own. Works with ``with`` in coroutines as well.

    Args:
        tenant: What stands in `TenantScoped.tenant_id`.

    Raises:
        InvalidArgumentError: `tenant` is None.
    """
    if tenant is None:
        raise InvalidArgumentError("tenant_scope() was given None, which is no tenant; pass the value of tenant_id")
    yield from _setting(tenant)


@contextmanager
def all_tenants() -> Generator[None, None, None]:
    """Read and write the rows of all tenants within the block, for administration.

    New objects must have their `tenant_id` set. A row still cannot change its tenant, or refer to a row of another one.
    """
    yield from _setting(ALL_TENANTS)


def _setting(value: object) -> Generator[None, None, None]:
    # Not by a token: web frameworks leave a generator in another context than they have entered it in.
    before = CURRENT_TENANT.get()
    CURRENT_TENANT.set(value)
    try:
        yield
    finally:
        CURRENT_TENANT.set(before)


def current_tenant() -> object:
    """Return the tenant of the innermost `tenant_scope`.

    Raises:
        TenantNotSetError: There is none, or the innermost block is `all_tenants`.
    """
    tenant = CURRENT_TENANT.get()
    if tenant is None or tenant is ALL_TENANTS:
        where = "all_tenants() is active" if tenant is ALL_TENANTS else "no tenant is set"
        raise TenantNotSetError(f"current_tenant() has no answer: {where}; enter tenant_scope(...) first")
    return tenant


def is_administration() -> bool:
    """Return whether the innermost block is `all_tenants`."""
    return CURRENT_TENANT.get() is ALL_TENANTS


def held_tenant(session: Session, *, loading: bool) -> object | None:
    """Return for whom a session reads now, None if that is not known.

    Args:
        session: The session.
        loading: Whether an object that it holds is being completed, which happens for the tenant that it was loaded
            for.
    """
    tenant = CURRENT_TENANT.get()
    return session.info.get(TENANT) if tenant is None and loading else tenant


def serve(session: Session, tenant: object | None, what: str) -> object:
    """Return the tenant that a session serves, which it does from now on.

    Args:
        session: The session.
        tenant: Whom it is asked to serve.
        what: What it is to do, for the text of the error.

    Raises:
        TenantNotSetError: No tenant is set.
        TenantChangedError: The session has served another one.
    """
    if tenant is None:
        raise TenantNotSetError(
            f"{what} needs a tenant, and none is set; enter tenant_scope(...), or all_tenants() for administration"
        )
    served = session.info.setdefault(TENANT, tenant)
    if served != tenant:
        raise TenantChangedError(
            f"{what} is for tenant {tenant!r}, and this session has served {served!r}; use a session for each tenant"
        )
    return served
