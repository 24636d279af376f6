"""Apply the criteria that a session adds to SELECTs in listeners for ``do_orm_execute``: tenants, soft deletes.

History is read by Core statements, for which these listeners are not called. So a SELECT of the versioned class is
first passed to the listeners without being executed. Then it is rewritten, with the criteria that they added, to read
history.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, event, literal, select
from sqlalchemy.orm import ORMExecuteState, Session

from .._sql import chunks, key_in
from .._typing import AnySelect
from ..exceptions import StateError
from ._as_of import statement_of_versions
from ._config import KeyValues, VersionConfig, connection_of
from ._names import DRY_RUN_OPTION

# This column distinguishes the statement from one of the user's, whose result a cache may have stored.
_DRY_RUN_COLUMN = literal("sqla_patterns: dry run")


class _DryRunError(Exception):
    """Ends an execution after all listeners were called."""


def apply_session_criteria(session: Session, statement: AnySelect) -> AnySelect:
    """Return a SELECT as the listeners of the session change it, with one column more; it is not executed.

    Raises:
        StateError: A listener returns a result of its own, so that its criteria cannot be known.
    """
    results: list[Any] = []

    def end_execution(state: ORMExecuteState) -> None:
        # The listeners of a session instance are called last, and among them the one that was registered last. It
        # raises, because a cache might store what it returns.
        if state.execution_options.get(DRY_RUN_OPTION) is results:
            results.append(state.statement)
            raise _DryRunError

    event.listen(session, "do_orm_execute", end_execution)
    try:
        with session.no_autoflush:
            session.execute(statement.add_columns(_DRY_RUN_COLUMN), execution_options={DRY_RUN_OPTION: results})
    except _DryRunError:
        changed: AnySelect = results[-1]
        return changed
    finally:
        event.remove(session, "do_orm_execute", end_execution)
    raise StateError(
        f"a listener for do_orm_execute answers {statement} by itself, so that nobody knows which criteria the "
        f"session adds to it; have it pass on statements with the execution option {DRY_RUN_OPTION!r}"
    )


def _is_same_query(one: AnySelect, other: AnySelect, dialect: Dialect) -> bool:
    """Return whether two statements read the same rows.

    A listener may add an option that has nothing to say about this class, as one for classes with a mixin does. The SQL
    tells.
    """
    if one.compare(other):
        return True
    mine, theirs = one.compile(dialect=dialect), other.compile(dialect=dialect)
    return str(mine) == str(theirs) and mine.params == theirs.params


def visible_versions(session: Session, config: VersionConfig, keys: list[KeyValues]) -> set[KeyValues] | None:
    """Return which versions of the rows with these keys meet the criteria of the session by their own values.

    Emits one SELECT for a thousand keys if there are criteria, none otherwise.

    Returns:
        The keys of the root, each with the number of a version at its end; None if no listener adds criteria.
    """
    plain: AnySelect = select(config.cls)
    changed = apply_session_criteria(session, plain)
    connection = connection_of(session, config.root)
    if _is_same_query(changed, plain.add_columns(_DRY_RUN_COLUMN), connection.dialect):
        return None
    found: set[KeyValues] = set()
    for chunk in chunks(keys):
        columns = [getattr(config.cls, attr) for attr in config.root.key_attrs]
        statement = statement_of_versions(connection, config, changed.where(key_in(columns, chunk)))
        found.update(tuple(row) for row in connection.execute(statement))
    return found
