"""Read current rows, or those of another moment: a listener for ``do_orm_execute``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, TypeGuard

from sqlalchemy import CompoundSelect, Executable, Select
from sqlalchemy.orm import (
    ORMExecuteState,
    RelationshipProperty,
    UserDefinedOption,
)

from ..._sql import STRUCTURAL
from ..._typing import AnyResult, AnySelect
from .._types import aware
from ._config import VALID_FROM, VALID_TO, config_of, may_have_temporal_rows
from ._criteria import read_all, read_at, read_current
from ._pins import pin_of
from ._statements import on_write

#: The execution option by which a statement reads all versions.
INCLUDE_HISTORY: Final = "include_history"


class ValidAt(UserDefinedOption):
    """The moment at which a statement reads; its payload is a time in UTC."""

    propagate_to_loaders = True


def valid_at(moment: datetime) -> UserDefinedOption:
    """Return an option with which a statement reads the versions that were current at a moment.

    ``select(Price).options(valid_at(monday))``. It applies to every class with temporal rows that occurs in the
    statement, to its eager loads, and to lazy loads of the objects that it loads. The classes need times: `TemporalRow`
    has them, `VersionedRow` and `CopiedRow` with ``TemporalOptions(period=True)``.

    What was current then and still is has one identity, and so is the object that the session may hold already, with
    the related objects that it has loaded. Read the past in a session of its own, or with
    ``execution_options(populate_existing=True)``.

    Args:
        moment: A time with a time zone.

    Raises:
        InvalidArgumentError: The time has no time zone; or, when the statement is executed, a class has no times.
    """
    return ValidAt(aware(moment).astimezone(UTC))


def on_execute(state: ORMExecuteState) -> AnyResult | None:
    """Listen for ``do_orm_execute``."""
    if state.is_select:
        _read(state)
        return None
    return on_write(state)


def _read(state: ORMExecuteState) -> None:
    statement = state.statement
    if not _is_select(statement) or state.is_column_load or not may_have_temporal_rows(state.all_mappers):
        return
    options = state.execution_options
    if options.get(STRUCTURAL):
        return
    if state.is_relationship_load:
        statement = read_all(statement)
    moment = _moment(state)
    if _is_pinned(state):
        state.statement = statement
    elif moment is not None:
        state.statement = read_at(statement, moment)
    elif state.is_relationship_load or not options.get(INCLUDE_HISTORY):
        state.statement = read_current(statement)


def _is_select(statement: Executable) -> TypeGuard[AnySelect]:
    return isinstance(statement, (Select, CompoundSelect))


def _is_pinned(state: ORMExecuteState) -> bool:
    """Return whether a statement loads a relationship to one version, which need not be the current one."""
    path = state.loader_strategy_path if state.is_relationship_load else None
    relationship = None if path is None or len(path) < 2 else path[-1]
    if not isinstance(relationship, RelationshipProperty):
        relationship = None if path is None or len(path) < 2 else path[-2]
    return isinstance(relationship, RelationshipProperty) and pin_of(relationship) is not None


def _moment(state: ORMExecuteState) -> datetime | None:
    """Return the moment at which a statement reads, None for the present."""
    given = [option.payload for option in state.user_defined_options if isinstance(option, ValidAt)]
    if given:
        return given[-1]
    owner = state.lazy_loaded_from
    config = None if owner is None else config_of(owner.mapper.class_)
    if owner is None or config is None or not config.has_time:
        return None
    # What a closed version refers to is what was there when it began.
    return None if owner.dict.get(VALID_TO) is None else owner.dict.get(VALID_FROM)
