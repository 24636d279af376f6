"""The execution context that a column default is given before there is an INSERT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Never

from sqlalchemy.orm import ColumnProperty
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.sql import ClauseElement

from .._typing import AnyColumn, AnyMapper, AnyState


class NotYetKnown(Exception):  # noqa: N818  # it is caught right below the attribute that is read, and no error
    """A default depends on something that is known at INSERT only.

    It derives from no exception that a default is likely to handle: to ``dict.get()``, what is not known yet must not
    look like what is missing.
    """


class DefaultContext:
    """The part of SQLAlchemy's execution context that is known of an object which is not in the database yet.

    Attributes:
        current_column: The column whose default is asked for.
    """

    def __init__(self, state: AnyState, column: AnyColumn) -> None:
        self.current_column = column
        self._state = state

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> Mapping[str, object]:
        """Return the values of the row by the keys of their columns, as far as the INSERT would know them too."""
        return Parameters(self._state, self.current_column)

    @property
    def current_parameters(self) -> Mapping[str, object]:
        """The values of the row, as `get_current_parameters` returns them."""
        return self.get_current_parameters()

    def __getattr__(self, name: str) -> Never:
        # A connection, the compiled statement, the dialect.
        raise NotYetKnown(name)


class Parameters(Mapping[str, object]):
    """The values of one row before it is inserted.

    An INSERT computes defaults in the order of the columns, so that each sees those before it, and not those after it.
    """

    def __init__(self, state: AnyState, current: AnyColumn) -> None:
        self._state = state
        self._mapper: AnyMapper = state.mapper
        self._columns: dict[str, tuple[str, AnyColumn]] = {}
        before = True
        for column in current.table.c:
            before = before and column is not current
            attribute = _attribute_of(self._mapper, column)
            if attribute is not None and (attribute in state.dict or before or not has_python_default(column)):
                self._columns[column.key] = attribute, column
        self._columns.pop(current.key, None)

    def __getitem__(self, key: str) -> object:
        attribute, column = self._columns[key]
        if attribute not in self._state.dict and has_python_default(column):
            # Reading the attribute makes the default; where that is not known yet itself, nothing is stored.
            getattr(self._state.obj(), attribute)
        if attribute not in self._state.dict:
            raise NotYetKnown(key)
        value = self._state.dict[attribute]
        # An INSERT computes SQL expressions, and takes None for a value that is still to come from the default.
        if isinstance(value, ClauseElement) or (value is None and has_python_default(column)):
            raise NotYetKnown(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def has_python_default(column: AnyColumn) -> bool:
    """Return whether a column has a default that Python computes, rather than the database."""
    return column.default is not None and (column.default.is_scalar or column.default.is_callable)


def _attribute_of(mapper: AnyMapper, column: AnyColumn) -> str | None:
    try:
        prop = mapper.get_property_by_column(column)
    except UnmappedColumnError:
        return None
    return str(prop.key) if isinstance(prop, ColumnProperty) else None
