"""Give new objects their tenant in a flush; refuse changes of a tenant, and references to rows of another one."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from sqlalchemy import Connection, Delete, Update, bindparam, event, inspect, select
from sqlalchemy.orm import Mapper, RelationshipProperty, Session, SessionTransaction
from sqlalchemy.orm.attributes import get_history, set_attribute

from .._maintained import ALL_TENANTS, has_new_key
from .._sql import structural
from .._typing import AnyColumn, AnyMapper, AnyState, MappedObject
from ._errors import TenantNotSetError, TenantViolationError
from ._flushed_values import check_flushed_values
from ._private import PASSIVE_LOADED, PASSIVE_OLD, AnyElement, private
from ._row_level_security import has_policy, tell_database
from ._tenant import held_tenant, is_administration, serve
from ._tenant_identity import guard_identity
from ._tenant_rule import TENANCY, Scoped, bound, tenant_column, tenant_of

#: In `session.info`: for whom the flush that is going on writes.
_FLUSHING: Final = "sqla_patterns.criteria.flushing"
#: In `connection.info` of the connection object: the sessions whose writes it restricts.
_RESTRICTED: Final = "_sqla_patterns_restricted"


def before_flush(session: Session, context: object, instances: object) -> None:
    """Listen for ``before_flush``."""
    if not is_administration():
        check_flushed_values(session, TENANCY, TenantViolationError)
    new = [each for each in session.new if isinstance(each, Scoped)]
    dirty = [each for each in session.dirty if isinstance(each, Scoped) and session.is_modified(each)]
    deleted = [each for each in session.deleted if isinstance(each, Scoped)]
    if not (new or dirty or deleted):
        return
    tenant = _tenant_for(session, [*new, *dirty, *deleted])
    guard_identity(session)
    for obj in new:
        _stamp(obj, tenant)
    for obj in (*dirty, *deleted):
        _check_owner(obj, tenant)
    tell_database(session, tenant)
    _check_references(session, [*new, *dirty])
    session.info[_FLUSHING] = tenant
    if tenant is not ALL_TENANTS:
        _restrict(session, [*dirty, *deleted])


def after_flush(session: Session, context: object) -> None:
    """Listen for ``after_flush``."""
    session.info.pop(_FLUSHING, None)


def after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    """Listen for ``after_soft_rollback``."""
    session.info.pop(_FLUSHING, None)


def _tenant_for(session: Session, objects: Sequence[MappedObject]) -> object:
    if is_administration():
        return ALL_TENANTS
    return serve(session, held_tenant(session, loading=False), f"The flush of {_describe(objects[0])}")


def _describe(obj: MappedObject) -> str:
    state: AnyState = inspect(obj)
    return f"{type(obj).__name__} {state.identity}" if state.key is not None else f"a new {type(obj).__name__}"


def _stamp(obj: MappedObject, tenant: object) -> None:
    said = tenant_of(obj)
    if tenant is ALL_TENANTS:
        if said is None:
            raise TenantNotSetError(
                f"{_describe(obj)} has no tenant_id and is flushed in all_tenants(); set its tenant_id, or use "
                f"tenant_scope()"
            )
    elif said is None:
        set_attribute(obj, "tenant_id", tenant)
    elif said != tenant:
        raise TenantViolationError(
            f"{_describe(obj)} has the tenant_id {said!r} and is flushed for {tenant!r}; leave tenant_id out"
        )


def _check_owner(obj: MappedObject, tenant: object) -> None:
    """Refuse an object of another tenant, and one whose tenant has changed."""
    history = get_history(obj, "tenant_id", PASSIVE_LOADED)
    if history.added:
        before = get_history(obj, "tenant_id", PASSIVE_OLD)
        old: tuple[object, ...] = (*before.deleted, *before.unchanged) or _stored(obj)
        new = history.added[0]
        if new is None and old:
            # A relationship over (tenant_id, ...) has lost its object, and SQLAlchemy clears the columns.
            set_attribute(obj, "tenant_id", old[0])
            new = old[0]
        if old and old[0] != new:
            raise TenantViolationError(
                f"{_describe(obj)} belongs to tenant {old[0]!r} and would come to {new!r}; a row never changes its "
                f"tenant: make "
                "a new object"
            )
    if tenant is not ALL_TENANTS:
        owner = tenant_of(obj)
        if owner is not None and owner != tenant:
            raise TenantViolationError(
                f"{_describe(obj)} belongs to tenant {owner!r} and is flushed for {tenant!r}; leave it to a session "
                f"of its tenant"
            )


def _stored(obj: MappedObject) -> tuple[object, ...]:
    """Return the tenant of an object whose tenant was not loaded when another one was assigned; one SELECT."""
    state: AnyState = inspect(obj)
    session: Session = private(state.session)
    column = tenant_column(state.mapper)
    # In the order of the identity: the key of a subclass is that of the topmost table.
    keys = dict(zip(column.table.primary_key, private(state).identity, strict=True))
    statement = select(column).where(*(key == value for key, value in keys.items()))
    connection = session.connection(bind_arguments={"mapper": state.mapper, "instance": obj})
    return tuple(connection.execute(structural(statement)).scalars())


# -- references ----------------------------------------------------------------------------------


def _check_references(session: Session, objects: Sequence[MappedObject]) -> None:
    asked: dict[AnyColumn, tuple[AnyMapper, dict[object, MappedObject]]] = {}
    for obj in objects:
        state: AnyState = inspect(obj)
        for relationship in state.mapper.relationships:
            if issubclass(relationship.mapper.class_, Scoped) and not relationship.viewonly:
                _check_relationship(state, relationship)
        for target, value in _set_keys(state):
            asked.setdefault(target, (TENANCY.tables()[target.table].mapper, {}))[1].setdefault(value, obj)
    for target, (mapper, values) in asked.items():
        _check_keys(session, target, mapper, values)


def _check_relationship(state: AnyState, relationship: RelationshipProperty[Any]) -> None:
    if relationship.key not in state.dict and relationship.lazy not in {"dynamic", "write_only"}:
        return
    mine = state.dict.get("tenant_id")
    for other in state.attrs[relationship.key].history.added or ():
        theirs = None if other is None else tenant_of(other)
        if theirs is not None and theirs != mine:
            raise TenantViolationError(
                f"{_describe(state.obj())} of tenant {mine!r} would be joined by {relationship.key!r} to "
                f"{_describe(other)} of "
                f"tenant {theirs!r}; both must belong to one"
            )


def _set_keys(state: AnyState) -> Iterator[tuple[AnyColumn, object]]:
    """Yield the foreign keys to scoped tables that were set: the column that it refers to, and the value."""
    scoped = TENANCY.tables()
    for table in state.mapper.tables:
        for foreign_key in table.foreign_keys:
            target = foreign_key.column
            if target.table not in scoped or target is tenant_column(scoped[target.table].mapper):
                continue
            if foreign_key.parent not in private(state.mapper)._columntoproperty:
                continue  # not mapped
            if _joins_hierarchy(state.mapper, foreign_key.parent, target):
                continue
            key = state.mapper.get_property_by_column(foreign_key.parent).key
            history = state.attrs[key].history
            if history.added and history.added[0] is not None and key in state.dict:
                yield target, history.added[0]


def _joins_hierarchy(mapper: AnyMapper, column: AnyColumn, target: AnyColumn) -> bool:
    return column.primary_key and target.table in mapper.tables and column.table is not target.table


def _check_keys(session: Session, target: AnyColumn, mapper: AnyMapper, values: dict[object, MappedObject]) -> None:
    """Refuse values of foreign keys that are keys of other tenants' rows; one SELECT for each tenant of the objects."""
    owner = tenant_column(mapper)
    connection = session.connection(bind_arguments={"mapper": mapper, "instance": next(iter(values.values()))})
    # Under a policy the rows of others are not there to be found, though foreign keys reach them.
    secured = has_policy(mapper.class_)
    for tenant in {tenant_of(obj) for obj in values.values()}:
        mine = {value: obj for value, obj in values.items() if tenant_of(obj) == tenant}
        condition = owner == bound(tenant) if secured else owner != bound(tenant)
        statement = select(target).where(target.in_(list(mine)), condition)
        if owner.table is not target.table:
            statement = statement.select_from(mapper.selectable)
        found: set[object] = set(connection.execute(structural(statement)).scalars())
        refused = set(mine) - found - _pending(session, target, mapper) if secured else found & set(mine)
        for value in refused:
            raise TenantViolationError(
                f"{_describe(mine[value])} of tenant {tenant!r} would refer to {mapper.class_.__name__} {value!r}, "
                f"which is not its "
                "tenant's; refer to a row of the same tenant"
            )


def _pending(session: Session, target: AnyColumn, mapper: AnyMapper) -> set[object]:
    key = mapper.get_property_by_column(target).key
    return {getattr(each, key) for each in session.new if isinstance(each, mapper.class_)}


# -- what is written -----------------------------------------------------------------------------


def before_insert(mapper: Mapper[Any], connection: Connection, target: MappedObject) -> None:
    """Listen to mappers: whatever a listener of the user's has added after `before_flush`."""
    session: Session = private(inspect(target).session)
    if _FLUSHING not in session.info:
        session.info[_FLUSHING] = _tenant_for(session, [target])
    _stamp(target, session.info[_FLUSHING])


def before_update(mapper: Mapper[Any], connection: Connection, target: MappedObject) -> None:
    """Listen to mappers: relationships have set foreign keys by now, and listeners of the user's may have changed
    objects.
    """
    session: Session = private(inspect(target).session)
    if _FLUSHING not in session.info:
        session.info[_FLUSHING] = _tenant_for(session, [target])
    _check_owner(target, session.info[_FLUSHING])
    _check_identity(target)
    if session.info[_FLUSHING] is not ALL_TENANTS:
        _listen(session, connection)


def before_delete(mapper: Mapper[Any], connection: Connection, target: MappedObject) -> None:
    """Listen to mappers: the same for deletions."""
    before_update(mapper, connection, target)


def _check_identity(obj: MappedObject) -> None:
    """Refuse an object whose key was set below the unit of work to that of another row."""
    state: AnyState = inspect(obj)
    if has_new_key(private(state.session), state):
        return  # it stands for a row that another package has inserted with its values, the tenant among them
    committed = tuple(
        state.committed_state.get(key, state.dict.get(key))
        for key in (state.mapper.get_property_by_column(column).key for column in state.mapper.primary_key)
    )
    if (
        state.identity is not None
        and all(each is not None for each in committed)
        and committed != tuple(state.identity)
    ):
        raise TenantViolationError(
            f"{_describe(obj)} says that its key is {committed!r}; a key that was not assigned in the usual way may "
            f"be that of "
            "another tenant's row"
        )


def _restrict(session: Session, objects: Sequence[MappedObject]) -> None:
    """Have the UPDATEs and DELETEs of a flush carry the tenant."""
    if session.bind is not None and objects:
        _listen(session, session.connection(bind_arguments={"mapper": private(inspect(objects[0])).mapper}))


def _listen(session: Session, connection: Connection) -> None:
    known: weakref.WeakSet[Session] = connection.info.setdefault(_RESTRICTED, weakref.WeakSet[Session]())
    marks: set[int] = vars(connection).setdefault(_RESTRICTED, set[int]())
    known.add(session)
    if id(session) in marks:
        return
    marks.add(id(session))
    reference = weakref.ref(session)

    def restrict(connection: Connection, element: Any, multi: Any, single: Any, options: Any) -> tuple[Any, Any, Any]:
        session = reference()
        tenant = None if session is None else session.info.get(_FLUSHING)
        if tenant is None or tenant is ALL_TENANTS or not isinstance(element, (Update, Delete)):
            return element, multi, single
        return _for_tenant(private(element), tenant), multi, single

    event.listen(connection, "before_execute", restrict, retval=True)


def _for_tenant(element: AnyElement, tenant: object) -> Any:
    table: Any = element.table
    tracked = TENANCY.tables().get(table)
    if tracked is None:
        return element
    column = tenant_column(tracked.mapper)
    if column.table is table:
        return element.where(column == bindparam("sqla_patterns_tenant", tenant, type_=column.type))
    # The table of a subclass: its rows are those whose keys are the tenant's in the topmost table.
    own = list(table.primary_key)
    keys = select(*column.table.primary_key).where(column == bound(tenant))
    return element.where(own[0].in_(keys)) if len(own) == 1 else element


# -- legacy bulk calls ---------------------------------------------------------------------------


def after_transaction_create(session: Session, transaction: SessionTransaction) -> None:
    """Listen for ``after_transaction_create``: no other event tells of ``bulk_save_objects()`` and its like.

    They write below the unit of work, without criteria. They begin a subtransaction, and then ask the session for the
    bind of their
    class: that is where they are refused.
    """
    if transaction.parent is None or transaction.nested or is_administration():
        return
    mapper = _bulk_mapper()
    if mapper is None or not issubclass(mapper.class_, Scoped):
        return
    name = mapper.class_.__name__

    def refuse(*args: object, **kw: object) -> Any:
        raise TenantViolationError(
            f"bulk_save_objects(), bulk_insert_mappings() and bulk_update_mappings() of {name} are not for one "
            f"tenant; use "
            f"add_all(), or execute insert({name}) with a list of dictionaries"
        )

    vars(session)["get_bind"] = refuse


def after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    """Listen for ``after_transaction_end``."""
    found: Callable[..., object] | None = vars(session).get("get_bind")
    if getattr(found, "__qualname__", "").startswith("after_transaction_create."):
        del vars(session)["get_bind"]


def _bulk_mapper() -> AnyMapper | None:
    frame: Any = cast("Any", sys)._getframe(1)
    for _ in range(12):
        if frame.f_code.co_name == "_bulk_save_mappings":
            mapper: object = frame.f_locals.get("mapper")
            return mapper if isinstance(mapper, Mapper) else None  # pyright: ignore[reportUnknownVariableType]
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None
