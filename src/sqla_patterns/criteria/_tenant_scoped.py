"""`TenantScoped`: the mixin of *scoped* classes, whose rows belong to tenants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from sqlalchemy import Column, String, event
from sqlalchemy.orm import Mapped, Session, mapped_column

from .._declarative import listen_once, mixin_attr, on_mapped
from .._typing import AnyMapper
from ..exceptions import MappingError
from . import _tenant_flush, _tenant_statements
from ._tenant_key import resolve_keys
from ._tenant_rule import Scoped, note_mapping


class TenantScoped(Scoped):
    """A mixin for rows that belong to a tenant: every session reads and writes them for one tenant.

    Adds `tenant_id`, a string of up to 63 characters with an index. Redeclare it for another type or column, as in
    ``tenant_id: Mapped[UUID] = mapped_column(index=True)``. It is filled in when an object is flushed, and never
    changes.

    In a hierarchy of classes the mixin belongs to the topmost one.
    """

    @mixin_attr
    def tenant_id(cls) -> Mapped[str]:
        """Whose row it is."""
        if _redeclares(cast("type[Any]", cls)):
            return mapped_column(nullable=False, index=True)  # of whatever type the user says
        return mapped_column(String(63), nullable=False, index=True)

    @mixin_attr
    def _sqla_tenant(cls) -> Any:
        on_mapped(cast("type[Any]", cls), table=_check_mapping, constructed=_watch)


_LISTENERS: Final[dict[str, Callable[..., object]]] = {
    "do_orm_execute": _tenant_statements.on_execute,
    "before_flush": _tenant_flush.before_flush,
    "after_flush": _tenant_flush.after_flush,
    "after_soft_rollback": _tenant_flush.after_soft_rollback,
    "after_begin": _tenant_statements.after_begin,
    "after_attach": _tenant_statements.after_attach,
    "after_transaction_create": _tenant_flush.after_transaction_create,
    "after_transaction_end": _tenant_flush.after_transaction_end,
}
_MAPPER_LISTENERS: Final[dict[str, Callable[..., object]]] = {
    "before_insert": _tenant_flush.before_insert,
    "before_update": _tenant_flush.before_update,
    "before_delete": _tenant_flush.before_delete,
}


def _redeclares(cls: type[Any]) -> bool:
    for base in cls.__mro__:
        if base is TenantScoped:
            return False
        if "tenant_id" in vars(base) or "tenant_id" in vars(base).get("__annotations__", {}):
            return True
    return False


def _check_mapping(mapper: AnyMapper) -> None:
    cls, above = mapper.class_, mapper.inherits
    if above is not None and not issubclass(above.class_, TenantScoped):
        raise MappingError(
            f"{cls.__name__} is TenantScoped and inherits from {above.class_.__name__}, which is not, so that "
            f"selecting "
            f"{above.class_.__name__} would return rows of every tenant; put TenantScoped on the topmost class"
        )
    column: object = mapper.local_table.c.get("tenant_id")
    if isinstance(column, Column) and column.nullable:
        raise MappingError(
            f"{cls.__name__}.tenant_id may be NULL, and a row without a tenant is nobody's; say nullable=False"
        )


def _watch(mapper: AnyMapper) -> None:
    note_mapping()
    for name, listener in _LISTENERS.items():
        listen_once(Session, name, listener, insert=True)
    for name, listener in _MAPPER_LISTENERS.items():
        event.listen(mapper, name, listener)
    resolve_keys(mapper)
