"""Hide deleted rows from statements, and turn ``delete()`` into an UPDATE that marks rows."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Delete, TextClause, select, update
from sqlalchemy.orm import ORMExecuteState

from .._sql import STRUCTURAL
from .._sqlalchemy import invoke
from .._typing import AnyMapper, AnyResult, MappedClass
from ._apply import apply_rule, as_select
from ._errors import UnfilteredStatementError
from ._moments import next_stamp
from ._private import AnyElement, dml_strategy, options_of, private, with_options
from ._skipping import bypassed, lift, only_inserts_values
from ._soft_rule import SOFT, Deletable, deleted_column, generation, shows_all


def on_execute(state: ORMExecuteState) -> AnyResult | None:
    """Listen for ``do_orm_execute``."""
    executes = as_select(state)
    done = None if isinstance(state.statement, TextClause) else _on_statement(state)
    return invoke(state) if executes else done


def _on_statement(state: ORMExecuteState) -> AnyResult | None:
    if shows_all(state.session):
        lift(state, SOFT)
        return None
    shown = bypassed(state, SOFT)
    if state.is_delete and _marks(state):
        if not isinstance(state.statement, Delete):
            raise UnfilteredStatementError(
                "A delete() within from_statement() would remove rows of a class that is SoftDelete; execute the "
                "delete() itself, which returns objects by returning(), or use the execution option hard_delete=True"
            )
        state.statement = _marking(state.statement, cast("AnyMapper", state.bind_mapper))
        # Rows that are marked keep their stamp, also where the statement shows them.
        apply_rule(state, SOFT, generation=generation())
        return invoke(state)
    if shown or only_inserts_values(state):
        return None
    if state.is_update and dml_strategy(state) == "bulk":
        return None  # by primary keys, which name the rows
    apply_rule(state, SOFT, generation=generation())
    return None


def _marks(state: ORMExecuteState) -> bool:
    mapper = state.bind_mapper
    return (
        mapper is not None
        and issubclass(mapper.class_, Deletable)
        and not state.execution_options.get("hard_delete")
        and not state.execution_options.get(STRUCTURAL)
    )


def _marking(statement: AnyElement, mapper: AnyMapper) -> Any:
    """Return the UPDATE that takes the place of a DELETE."""
    column = deleted_column(mapper)
    cls: MappedClass = mapper.class_
    conditions = tuple(statement._where_criteria)
    if column.table is not mapper.local_table:
        # A joined subclass: the mark is in the topmost table. MySQL reads no table that it updates but through a
        # subquery.
        top = next(each for each in mapper.iterate_to_root() if each.local_table is column.table)
        keys = list(private(top.local_table).primary_key)
        chosen = select(*(mapper.get_property_by_column(key).columns[-1] for key in keys)).select_from(cls)
        inner = chosen.where(*conditions).subquery()
        cls, conditions = top.class_, (keys[0].in_(select(inner.c[0])),)
    marking: Any = update(cls).where(*conditions).values({column: next_stamp()})
    if statement._returning:
        marking = marking.returning(*statement._returning)
    return with_options(marking.execution_options(**statement._execution_options), options_of(statement))
