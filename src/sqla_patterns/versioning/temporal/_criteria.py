"""The criteria by which statements read current rows, or those of another moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, cast

import sqlalchemy
from sqlalchemy import Alias, ClauseElement, ColumnElement, Executable, FromClause, Join, Table, and_, bindparam, or_
from sqlalchemy.orm import LoaderCriteriaOption, with_loader_criteria

from ..._sqlalchemy import criteria_made_by, restrict_subqueries, restrict_where, without_options
from .._types import UTCDateTime
from ._config import CONFIG_ATTRIBUTE, VALID_FROM, VALID_TO, TemporalConfig
from ._rows import TemporalBase, require_time

ClauseT = TypeVar("ClauseT", bound=ClauseElement)
StatementT = TypeVar("StatementT", bound=Executable)


#: Whether options reach ``any()``, ``has()`` and EXISTS in a WHERE clause: since SQLAlchemy 2.1.
REACHES_SUBQUERIES: Final = not sqlalchemy.__version__.startswith("2.0.")


def _is_current(cls: Any) -> ColumnElement[bool]:
    # A function with a name, so that objects which hold the option can be pickled.
    found: ColumnElement[bool] = cls.__sqla_current__()
    return found


#: Shared by all statements. It has to reach joined eager loads, and so it is also handed on to lazy loads, by the
#: objects that statements load.
_CURRENT: Final = with_loader_criteria(TemporalBase, _is_current, include_aliases=True)


def _criterion_at(moment: datetime) -> Callable[[Any], ColumnElement[bool]]:
    # A parameter with its type: in a lambda, a datetime would get the type of datetimes in general.
    at = bindparam(None, moment, type_=UTCDateTime(), unique=True)
    return lambda cls: cast("ColumnElement[bool]", cls.__sqla_valid_at__(at))


def read_current(statement: StatementT) -> StatementT:
    """Return a SELECT so that it reads current rows of all classes with temporal rows that occur in it."""
    return _in_exists(statement, _current_rows).options(_CURRENT)


def write_current(statement: StatementT) -> StatementT:
    """Return an UPDATE or DELETE so that the criteria inside of it meet current rows."""
    return restrict_where(statement, _current_rows)


def set_current(value: ClauseT) -> ClauseT:
    """Return what an UPDATE sets so that a SELECT inside of it reads current rows."""
    return restrict_subqueries(value, _current_rows)


def read_at(statement: StatementT, moment: datetime) -> StatementT:
    """Return a SELECT so that it reads rows that were current at a moment."""

    def rows(source: FromClause) -> Sequence[ColumnElement[bool]]:
        return [_valid_rows(config, each, moment) for config, each in _sources(source)]

    return _in_exists(statement, rows).options(criteria_made_by(TemporalBase, _criterion_at, moment))


def _current_rows(source: FromClause) -> Sequence[ColumnElement[bool]]:
    return [config.is_current(each) for config, each in _sources(source)]


def _valid_rows(config: TemporalConfig, source: FromClause, moment: datetime) -> ColumnElement[bool]:
    require_time(config)
    begin, end = (source.c[config.column(each).key] for each in (VALID_FROM, VALID_TO))
    return and_(begin <= moment, or_(end.is_(None), end > moment))


def read_all(statement: StatementT) -> StatementT:
    """Return `statement` without what the statement that has loaded the owner of a relationship has handed on."""
    return without_options(
        statement, lambda option: isinstance(option, LoaderCriteriaOption) and option.root_entity is TemporalBase
    )


def _in_exists(statement: StatementT, criteria: Callable[[FromClause], Sequence[ColumnElement[bool]]]) -> StatementT:
    """Add criteria inside of ``any()``, ``has()`` and EXISTS, where the option does not reach them."""
    return statement if REACHES_SUBQUERIES else restrict_where(statement, criteria)


def _sources(source: FromClause) -> Iterator[tuple[TemporalConfig, FromClause]]:
    if isinstance(source, Join):
        yield from _sources(source.left)
        yield from _sources(source.right)
    elif (config := _config_of(source)) is not None:
        yield config, source


def _config_of(source: FromClause) -> TemporalConfig | None:
    # any() and has() annotate the table that they select from: a copy of it, which is equal to it.
    table = source.element if isinstance(source, Alias) else source
    return {config.table: config for config in _known(TemporalBase)}.get(cast("Table", table))


def _known(cls: type[Any]) -> list[TemporalConfig]:
    found = [config for each in cls.__subclasses__() for config in _known(each)]
    own: TemporalConfig | None = vars(cls).get(CONFIG_ATTRIBUTE)
    return found if own is None else [own, *found]
