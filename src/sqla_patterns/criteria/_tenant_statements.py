"""Restrict every ORM statement on a scoped class to the tenant, and refuse statements where that is not possible.

==============================================  ====================================================================
a statement                                     what happens to it
==============================================  ====================================================================
of the library, marked `STRUCTURAL`             not changed: trees and graphs consist of all their rows
within `all_tenants()`, or with that option     not changed
uses no scoped table and names none in text     not changed
uses one, and no tenant is set                  `TenantNotSetError`
... and the session has served another tenant   `TenantChangedError`
by Core, by text, or not certain to be safe     `TenantViolationError`
SELECT, UPDATE, DELETE                          gets the criterion, at every depth
UPDATE of `tenant_id`, or by primary keys       `TenantViolationError`
INSERT                                          gets `tenant_id`, see `_tenant_inserts`
refresh, expired and deferred attributes        gets the criterion, as WHERE
==============================================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from sqlalchemy import Connection, Executable, Select, Table, select, tuple_
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction
from sqlalchemy.schema import ExecutableDDLElement

from .._maintained import ALL_TENANTS
from .._sql import STRUCTURAL
from .._sqlalchemy import invoke
from .._typing import AnyExpression, AnyMapper, AnyResult
from ._apply import Plan, as_select, carried_out, optioned, plan_of
from ._errors import TenantViolationError
from ._private import AnyElement, is_orm, options_of, original_of, private, with_options
from ._row_level_security import begin_for, tell_database
from ._rules import Guarded, RuleOption
from ._tenant import TENANT, held_tenant, serve
from ._tenant_identity import guard_identity
from ._tenant_inserts import insert_for
from ._tenant_rule import TENANCY, bound, generation, tenant_column

_HINT: Final = "use all_tenants(), or the execution option allow_text=True if you have made sure what it reads"


def on_execute(state: ORMExecuteState) -> AnyResult | None:
    """Listen for ``do_orm_execute``."""
    executes = as_select(state)
    done = _on_statement(state)
    return invoke(state) if executes else done


def _on_statement(state: ORMExecuteState) -> AnyResult | None:
    options = state.execution_options
    if options.get(STRUCTURAL):
        return None
    completing = state.is_column_load
    tenant = held_tenant(state.session, loading=completing or state.is_relationship_load)
    if tenant is ALL_TENANTS or options.get("all_tenants"):
        guard_identity(state.session)
        return None
    is_select = state.is_select
    if not is_select:
        _check_table(state)
    allow_text = bool(options.get("allow_text"))
    value = bound(tenant)
    statement = state.statement
    if completing and state.bind_mapper is not None and issubclass(state.bind_mapper.class_, TENANCY.mixin):
        statement = _completing(state, value)
        if not isinstance(private(statement), Select):
            serve(state.session, tenant, f"A statement on {_what(state)}")
            tell_database(state.session, tenant)
            state.statement = statement
            return None
    statement = optioned(statement, RuleOption(TENANCY, value))
    plan = plan_of(
        state, statement, TENANCY, generation=generation(), extra=allow_text, known=lambda: _known_tables(state)
    )
    _check_texts(state, plan, allow_text=allow_text)
    if not plan.report.touched and plan.fault is None:
        if allow_text and tenant is not None:
            tell_database(state.session, serve(state.session, tenant, "A statement with allow_text=True"))
        if tenant is not None and is_orm(statement):
            state.statement = statement  # its cache key is known by now
        return None
    if tenant is None or state.session.info.get(TENANT) != tenant:
        serve(state.session, tenant, f"A statement on {_what(state)}")
    guard_identity(state.session)
    if not is_select or plan.fault is not None or plan.report.inserted or plan.report.changed:
        _check_statement(state, statement, plan)
    tell_database(state.session, tenant)
    if isinstance(statement, ExecutableDDLElement):
        return None
    if state.is_insert:
        return insert_for(state, carried_out(statement, TENANCY, value, plan), tenant)
    state.statement = carried_out(statement, TENANCY, value, plan)
    return None


def after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Listen for ``after_begin``."""
    begin_for(session, connection, held_tenant(session, loading=True))


def after_attach(session: Session, instance: object) -> None:
    """Listen for ``after_attach``: an object that is added may be of another tenant."""
    guard_identity(session)


def _check_table(state: ORMExecuteState) -> None:
    mapper = state.bind_mapper
    if mapper is None or not (state.is_update or state.is_delete) or not issubclass(mapper.class_, TENANCY.mixin):
        return
    if tenant_column(mapper).table is not mapper.local_table:
        raise TenantViolationError(
            f"The update() or delete() of {mapper.class_.__name__} is about its own table, which has no tenant_id; "
            f"change or delete "
            "the objects"
        )


def _what(state: ORMExecuteState) -> str:
    mapper = state.bind_mapper
    return "rows of tenants" if mapper is None else mapper.class_.__name__


def _known_tables(state: ORMExecuteState) -> list[Table]:
    """Return the tables of the classes that the statement is about: mapped is mapped, even if a scoped table has the
    name.
    """
    mappers: Sequence[AnyMapper] = state.all_mappers
    return [table for mapper in mappers for table in mapper.tables if isinstance(table, Table)]


def _check_texts(state: ORMExecuteState, plan: Plan, *, allow_text: bool) -> None:
    if allow_text:
        return
    if plan.report.named is not None:
        raise TenantViolationError(
            f"A text in the statement names {plan.report.named!r}, a table whose rows belong to tenants; use the "
            f"class, or {_HINT}"
        )
    if plan.report.touched and plan.report.pieces:
        raise TenantViolationError(
            f"The statement on {_what(state)} has a prefix, suffix or hint that is more than one comment, and could "
            f"get around the "
            f"tenant; leave it out, or {_HINT}"
        )


def _check_statement(state: ORMExecuteState, statement: AnyElement, plan: Plan) -> None:
    report = plan.report
    if report.inserted and not is_orm(statement):
        raise TenantViolationError(
            f"The Core insert into {report.inserted[0].name!r} is not for one tenant; use insert() of the mapped "
            f"class, or "
            "all_tenants()"
        )
    if plan.fault is not None:
        raise TenantViolationError(plan.fault)
    if not state.is_insert and report.inserted:
        raise TenantViolationError(
            f"The statement inserts into {report.inserted[0].name!r} by a part of it; insert by insert() of the class"
        )
    if state.is_insert and report.changed:
        raise TenantViolationError(
            f"The insert() of {_what(state)} changes other rows by a part of it; execute two statements"
        )
    if not state.is_update and not state.is_insert and not report.changed:
        return
    written = {original_of(column) for column in report.written}
    tenants = {tenant_column(tracked.mapper) for tracked in TENANCY.tables().values()}
    if not state.is_insert and written & tenants:
        raise TenantViolationError(f"The update() of {_what(state)} sets tenant_id; a row never changes its tenant")
    if state.is_update and isinstance(state.parameters, (list, tuple)):
        raise TenantViolationError(
            f"The update() of {_what(state)} by primary keys is not for one tenant; change the objects, or use "
            f"update().where(...)"
        )


def _completing(state: ORMExecuteState, value: AnyExpression) -> Executable:
    """Return the statement that completes a held object, for one tenant.

    SQLAlchemy does not apply criteria to it, since it loads a known row. That the row is known is what an object that
    was made by hand only says.
    """
    statement: Any = state.statement
    mapper = cast("AnyMapper", state.bind_mapper)
    if isinstance(statement, Select):
        return cast(
            "Executable", private(cast("object", statement)).where(Guarded(mapper.class_.tenant_id == value, TENANCY))
        )
    # Columns of a subclass, by a Core statement on the tables that have them.
    column = tenant_column(mapper)
    froms: list[Any] = [from_ for from_ in statement.element.get_final_froms() if isinstance(from_, Table)]
    condition = Guarded(column == value, TENANCY)
    copy = private(with_options(statement, options_of(statement)))
    if column.table in froms:
        copy.element = statement.element.where(condition)
    else:
        own = list(froms[0].primary_key)
        wanted = select(*column.table.primary_key).where(condition)
        key = own[0] if len(own) == 1 else tuple_(*own)
        copy.element = statement.element.where(key.in_(wanted))
    return cast("Executable", copy)
