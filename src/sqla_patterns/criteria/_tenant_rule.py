"""The rule that hides rows of other tenants, and helpers for the other modules of tenants."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, inspect
from sqlalchemy.orm import LoaderCallableStatus, PassiveFlag
from sqlalchemy.types import NullType

from .._typing import AnyColumn, AnyMapper, AnyState, MappedObject
from ._rules import Rule

#: On `Scoped`: how many classes were mapped below it.
_GENERATION: Final = "__sqla_tenant_generation__"


class Scoped:
    """What `TenantScoped` is below the surface."""


def note_mapping() -> None:
    """Note that another class was mapped, so that what was decided about statements is looked at again."""
    setattr(Scoped, _GENERATION, generation() + 1)


def generation() -> int:
    """Return a number that changes when another class is mapped."""
    number: int = vars(Scoped).get(_GENERATION, 0)
    return number


def _criterion(entity: Any, value: ColumnElement[Any]) -> ColumnElement[bool]:
    found: ColumnElement[bool] = entity.tenant_id == value
    return found


# One object: the part of the cache key that a type makes is remembered at the type.
_UNTYPED: Final = NullType()

TENANCY: Final = Rule(Scoped, _criterion, "all_tenants", strict=True)


def bound(tenant: object) -> BindParameter[Any]:
    """Return a tenant as a parameter that takes the type of the column with which it is compared."""
    return BindParameter(None, tenant, type_=_UNTYPED, unique=True)


def tenant_column(mapper: AnyMapper) -> AnyColumn:
    """Return the column of `tenant_id`, which is one of the topmost table."""
    column: AnyColumn = mapper.c["tenant_id"]
    return column


def tenant_of(obj: MappedObject) -> object | None:
    """Return whose object it is, loading that if it must be; None for a new object that has not been told."""
    state: AnyState = inspect(obj)
    if "tenant_id" in state.dict:
        found: object = state.dict["tenant_id"]
        return found
    if state.key is None or state.session is None:
        return None
    loaded: object = state.manager["tenant_id"].impl.get(state, state.dict, PassiveFlag.PASSIVE_OFF)
    return None if isinstance(loaded, LoaderCallableStatus) else loaded
