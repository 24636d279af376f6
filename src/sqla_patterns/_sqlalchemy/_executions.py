"""Execute statements from within listeners to ``do_orm_execute``, and past them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import ORMExecuteState, Session

from .._sql import structural
from .._typing import AnyMapper, AnyResult, AnySelect, MappedObject
from . import _names as names
from ._statements import Parameters


def autoflush(session: Session) -> None:
    """Flush as a query of entities would: SQLAlchemy 2.0 does not before a statement that names tables only.

    Inside of a flush, for instance in a listener to ``before_flush``, where no other flush may begin, it does nothing.
    """
    if session.autoflush and not names.FLUSHING.get(session, False):
        session.flush()


def invoke(state: ORMExecuteState, added: Parameters = None) -> AnyResult:
    """Execute a statement from a listener to ``do_orm_execute``, and call the listeners that come after this one.

    As ``ORMExecuteState.invoke_statement()``, which gives the session's ``get_bind()`` one argument more: too many for
    one that has the parameters of the example in SQLAlchemy's manual.

    Args:
        state: The execution.
        added: Parameters in addition to those of the execution; a list where that has one.
    """
    if not names.PARENT_EXECUTE_STATE.exists():
        return state.invoke_statement(params=cast("Any", added))
    parameters: Any = state.parameters
    if isinstance(added, Mapping):
        parameters = {**cast("dict[str, Any]", parameters or {}), **added}
    elif added is not None:
        parameters = [{**row, **more} for row, more in zip(parameters, added, strict=True)]
    options: dict[str, Any] = {names.PARENT_EXECUTE_STATE.name: state}
    found: AnyResult = state.session.execute(
        state.statement,
        parameters,
        execution_options=state.local_execution_options,
        bind_arguments=dict(state.bind_arguments),
        **options,
    )
    return found


def execute_last(state: ORMExecuteState, execute: Callable[[ORMExecuteState], AnyResult | None]) -> AnyResult | None:
    """Have a listener to ``do_orm_execute`` execute a statement after all others, which may change it, were called.

    Args:
        state: The execution, in a listener that is called now.
        execute: Executes the statement as the others have left it, and returns the result; None has SQLAlchemy do it.
    """
    if not (names.EXECUTE_LISTENERS.exists() and names.PARENT_EXECUTE_STATE.exists()):
        return execute(state)
    # A list of this execution only.
    setattr(state, names.EXECUTE_LISTENERS.name, [*names.EXECUTE_LISTENERS.get(state), execute])
    return invoke(state)


class _NoListeners:
    """Stands for an execution whose ``do_orm_execute`` listeners have all been called."""

    def _remaining_events(self) -> Sequence[object]:
        return ()


def load_unfiltered(session: Session, mapper: AnyMapper, rows: AnySelect) -> Sequence[MappedObject]:
    """Return the objects of `mapper` for `rows`, a statement of its tables, whatever criteria the session has.

    Criteria and eager loading by joins do not apply to a statement that is given as a whole, and no ``do_orm_execute``
    listener is called for it: one that calls ``.where()`` would fail with it. The argument for that is the one by which
    SQLAlchemy executes a statement again from within such a listener. In a sharded session, which sends statements to
    their database in such a listener, they are called.
    """
    statement = structural(select(mapper.class_).from_statement(rows))
    options: dict[str, Any] = {"bind_arguments": {"mapper": mapper}}
    if session.connection_callable is None and names.PARENT_EXECUTE_STATE.exists():
        options[names.PARENT_EXECUTE_STATE.name] = _NoListeners()
    # Of the class, because a subclass of the user's may change statements in a method of its own.
    found: Sequence[MappedObject] = Session.execute(session, statement, **options).scalars().all()
    return found
