"""`tenant_key`: foreign keys that include the tenant, so that the database itself refuses references to another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import Any, Final, cast

from sqlalchemy import ForeignKeyConstraint, MetaData, Table, UniqueConstraint, event, inspect
from sqlalchemy.orm import InstrumentedAttribute, Mapper
from sqlalchemy.schema import SchemaItem

from .._typing import AnyColumn, AnyMapper
from ..exceptions import InvalidArgumentError, MappingError
from ._rules import mapped_subclasses
from ._tenant_rule import Scoped, tenant_column

#: On the MetaData: keys whose target is not mapped yet.
_PENDING: Final = "_sqla_patterns_tenant_keys"


class tenant_key(SchemaItem):  # noqa: N801 - users call it as a function, in __table_args__
    """Make a foreign key refer to rows of the same tenant only.

    ``__table_args__ = (tenant_key(lambda: Order.customer_id, lambda: Customer.id),)`` declares the foreign key
    (tenant_id, customer_id) to (tenant_id, id) of the customers, and there the UNIQUE constraint that it needs. A flush
    refuses references across tenants anyway; this holds for whatever else writes, too, and beside row level security,
    which databases do not apply to foreign keys.

    Args:
        column: Returns the attribute with the foreign key, of the class itself.
        target: Returns the attribute that it refers to, of another `TenantScoped` class, which may be mapped later.
        name: The name of the constraint; by the naming convention of the MetaData if not given.

    Raises:
        InvalidArgumentError: `column` or `target` is no function.
        MappingError: One of them is no attribute of a `TenantScoped` class; when the classes are mapped, or configured.
    """

    __visit_name__ = "sqla_tenant_key"

    def __init__(self, column: Callable[[], object], target: Callable[[], object], *, name: str | None = None) -> None:
        for each in (column, target):
            if not isinstance(cast("object", each), FunctionType):
                raise InvalidArgumentError(
                    f"tenant_key() needs two functions and was given {each!r}; write lambda: Order.customer_id"
                )
        self.column: Final = cast("FunctionType", column)
        self.target: Final = cast("FunctionType", target)
        self.name: Final = name

    def _set_parent(self, parent: Any, **kw: Any) -> None:
        """Do nothing: `resolve_keys` looks for it among the arguments of the table, when the class is mapped."""


@dataclass
class _Pending:
    mapper: AnyMapper
    key: tenant_key


def resolve_keys(mapper: AnyMapper) -> None:
    """Add the constraints of a class that is being mapped, and those of others that wait for it."""
    metadata: MetaData = cast("Table", mapper.local_table).metadata
    pending: list[_Pending] = vars(metadata).setdefault(_PENDING, [])
    arguments: object = getattr(mapper.class_, "__table_args__", None)
    own = mapper.inherits is None or mapper.local_table is not mapper.inherits.local_table
    if own and isinstance(arguments, (tuple, list)):
        found = [_Pending(mapper, each) for each in cast("Iterable[object]", arguments) if isinstance(each, tenant_key)]
        pending += found
        if found:
            event.listen(Mapper, "after_configured", lambda: _refuse_pending(metadata), once=True)
    pending[:] = [each for each in pending if not _resolve(each)]


def _refuse_pending(metadata: MetaData) -> None:
    pending: list[_Pending] = vars(metadata).get(_PENDING, [])
    for each in [each for each in pending if not _resolve(each)]:
        pending.clear()
        raise MappingError(
            f"tenant_key() of {each.mapper.class_.__name__} refers to {_names(each.key.target)}, which is no "
            f"attribute of a mapped "
            "class with TenantScoped; correct the lambda"
        )
    pending.clear()


def _names(function: FunctionType) -> str:
    return ".".join((*function.__code__.co_freevars, *function.__code__.co_names))


def _resolve(pending: _Pending) -> bool:
    """Add the constraint, unless the target is not mapped yet."""
    classes = {
        each.class_.__name__: each.class_
        for each in mapped_subclasses(Scoped)
        if each.registry is pending.mapper.registry
    }
    classes[pending.mapper.class_.__name__] = pending.mapper.class_
    column = _column(pending, pending.key.column, classes)
    if column is None or column.table is not pending.mapper.local_table:
        raise MappingError(
            f"tenant_key() of {pending.mapper.class_.__name__} is to be about {_names(pending.key.column)}, which is "
            f"no column of its "
            "table; correct the first lambda"
        )
    target = _column(pending, pending.key.target, classes)
    if target is None:
        return False
    mapper = next(each for each in mapped_subclasses(Scoped) if each.local_table is target.table)
    theirs, mine = tenant_column(mapper), tenant_column(pending.mapper)
    if theirs.table is not target.table or mine.table is not column.table:
        raise MappingError(
            f"tenant_key() of {pending.mapper.class_.__name__} needs tenant_id in the tables of both columns; refer "
            f"to the topmost classes"
        )
    table = target.table
    if not any(
        isinstance(each, UniqueConstraint) and list(each.columns) == [theirs, target] for each in table.constraints
    ):
        table.append_constraint(UniqueConstraint(theirs, target))
    column.table.append_constraint(ForeignKeyConstraint([mine, column], [theirs, target], name=pending.key.name))
    return True


def _column(pending: _Pending, function: FunctionType, classes: dict[str, type[Any]]) -> AnyColumn | None:
    """Call a lambda that may name classes whose names are not assigned yet: that of a class is, after it is mapped."""
    code = function.__code__
    missing = {name: cls for name, cls in classes.items() if name in code.co_names}
    cells = tuple(
        CellType(classes[name]) if name in classes else cell
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
    )
    call = FunctionType(code, {**function.__globals__, **missing}, closure=cells or None)
    try:
        found: object = call()
    except (NameError, AttributeError):
        return None
    if not isinstance(found, InstrumentedAttribute):
        return None
    mapper: AnyMapper = inspect(cast("Any", found).class_)
    if not issubclass(mapper.class_, Scoped):
        raise MappingError(
            f"tenant_key() of {pending.mapper.class_.__name__} refers to {mapper.class_.__name__}, whose rows belong "
            f"to no tenant; use a "
            "ForeignKey"
        )
    return cast("AnyColumn", mapper.c.get(cast("Any", found).key))
