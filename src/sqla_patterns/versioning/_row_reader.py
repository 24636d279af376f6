"""Read rows of main and history tables as objects of the versioned class.

A `RowReader` selects the columns of all classes of a hierarchy, from the main tables or from the history tables, in the
same order of columns, and makes objects of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, and_, null, select

from .._sql import is_column
from .._typing import AnyColumn, AnyExpression, AnySelect, MappedObject
from ._config import KeyValues, RowValues, TablePair, VersionConfig, hierarchy
from ._names import CHANGED, ENDED_BY, OPERATION, REVISION, VALID_FROM, VALID_TO, VERSION
from ._past_objects import PastObjects

#: What follows the key in each row, before the user's columns.
_VERSION_DATA = (VERSION, CHANGED, VALID_FROM, VALID_TO, OPERATION, REVISION, ENDED_BY)


def reader_of(config: VersionConfig, *, at_a_moment: bool = False) -> RowReader:
    """Return the reader of a class, which is made once.

    Args:
        config: The configuration of the class.
        at_a_moment: Leave out attributes that are known only for the end of a version.
    """
    name = ("reader", config, at_a_moment)
    return config.root.cached(name, lambda: RowReader(config, at_a_moment=at_a_moment))


class RowReader:
    """A reader of objects of one class and its subclasses.

    In a hierarchy with a discriminator column, a row may also belong to another class of the hierarchy, as a key can be
    used again.
    """

    def __init__(self, config: VersionConfig, *, at_a_moment: bool) -> None:
        self.config = config
        self._at_a_moment = at_a_moment
        self.root = config.root
        discriminator = self.root.mapper.polymorphic_on
        self.discriminator: AnyColumn | None = discriminator if is_column(discriminator) else None
        members = list(hierarchy(self.root)) if self.discriminator is not None else [config]
        self.by_identity: dict[object, VersionConfig] = {
            member.mapper.polymorphic_identity: member
            for member in members
            if self.discriminator is not None and not getattr(member.mapper, "polymorphic_abstract", False)
        }
        #: The tables that join the one of the root, each with a class that has it.
        self.joined: dict[TablePair, VersionConfig] = {}
        for member in members:
            for pair in member.pairs[1:]:
                self.joined.setdefault(pair, member)
        #: The user's columns.
        self.columns: list[AnyColumn] = []
        for member in members:
            for column in self._attributes(member).values():
                if not any(column is present for present in self.columns):
                    self.columns.append(column)
        #: The number of columns of the key.
        self.width = len(self.root.key)
        #: The index of each column in a row.
        self.positions = {column: self.width + len(_VERSION_DATA) + at for at, column in enumerate(self.columns)}
        self._makers: dict[VersionConfig, tuple[Callable[[RowValues], RowValues], PastObjects]] = {}

    def _attributes(self, member: VersionConfig) -> dict[str, AnyColumn]:
        left_out = member.shifted if self._at_a_moment else frozenset[str]()
        return {attr: column for attr, column in member.history_attributes.items() if attr not in left_out}

    # -- selecting -----------------------------------------------------------------------------

    def history_column(self, column: AnyColumn) -> AnyColumn:
        """Return the copy of a column of a main table."""
        pairs = [self.root.pair, *self.joined]
        pair = next(pair for pair in pairs if pair.main is column.table)
        return pair.history.c[column.key]

    def main_columns(self) -> list[AnyExpression]:
        """Return the columns of a row in main tables."""
        main, present = self.root.pair.main, self.root.version_columns
        version_data = [_column_or_null(main if name in present else None, name) for name in _VERSION_DATA]
        return [*self.root.key, *version_data, *self.columns]

    def history_columns(self) -> list[AnyExpression]:
        """Return the columns of a row in history tables."""
        history = self.root.pair.history
        version_data = [_column_or_null(history if name in history.c else None, name) for name in _VERSION_DATA]
        return [*self.root.history_key, *version_data, *map(self.history_column, self.columns)]

    def main_on_clause(self, pair: TablePair) -> ColumnElement[bool]:
        """Join the main table of `pair` to the one above."""
        return and_(*(column == above for column, above in pair.joins))

    def _history_on_clause(self, pair: TablePair) -> ColumnElement[bool]:
        pairs = self.joined[pair].pairs
        history, above_history = pair.history, pairs[pairs.index(pair) - 1].history
        same = [history.c[column.key] == above_history.c[above.key] for column, above in pair.joins]
        return and_(*same, history.c[VERSION] == above_history.c[VERSION])

    def select_main(self) -> AnySelect:
        """Return a SELECT of the rows in main tables."""
        source: FromClause = self.root.pair.main
        for pair in self.joined:
            source = source.outerjoin(pair.main, self.main_on_clause(pair))
        return select(*self.main_columns()).select_from(source)

    def select_history(self) -> AnySelect:
        """Return a SELECT of the rows in history tables."""
        source: FromClause = self.root.pair.history
        for pair in self.joined:
            source = source.outerjoin(pair.history, self._history_on_clause(pair))
        return select(*self.history_columns()).select_from(source)

    # -- making objects ------------------------------------------------------------------------

    def version_data(self, row: RowValues, name: str) -> Any:
        """Return what a row has in one of the columns that the library adds, None if there is no such column."""
        return row[self.width + _VERSION_DATA.index(name)]

    def key(self, row: Sequence[object]) -> KeyValues:
        """Return the primary key in a row."""
        return tuple(row[: self.width])

    def versioned_key(self, row: Sequence[object]) -> KeyValues:
        """Return the primary key in a row with the number of its version at the end."""
        return (*self.key(row), self.version_data(row, VERSION))

    def member(self, row: Sequence[object]) -> VersionConfig:
        """Return the configuration of the class of a row."""
        if self.discriminator is None or self.discriminator not in self.positions:
            return self.config
        return self.by_identity.get(row[self.positions[self.discriminator]], self.config)

    def values(self, row: Sequence[object], member: VersionConfig) -> dict[str, object]:
        """Return what a row of a class has in the user's columns, by attribute."""
        return {attr: row[self.positions[column]] for attr, column in self._attributes(member).items()}

    def object_of(self, row: RowValues) -> MappedObject:
        """Return a read-only object with the values of a row."""
        member = self.member(row) if self.discriminator is not None else self.config
        made = self._makers.get(member)
        if made is None:
            made = self._makers[member] = self._maker(member)
        pick, past = made
        return past.make(pick(row))

    def _maker(self, member: VersionConfig) -> tuple[Callable[[RowValues], RowValues], PastObjects]:
        """Return what picks the values of an object out of a row, and what makes the object of them."""
        version_data = {name: self.width + _VERSION_DATA.index(name) for name in self.root.version_columns}
        attributes = {attr: self.positions[column] for attr, column in self._attributes(member).items()}
        positions = {**attributes, **version_data}
        return itemgetter(*positions.values()), PastObjects(member.mapper, list(positions))


def _column_or_null(table: Table | None, name: str) -> AnyExpression:
    """Return a column of `table`, or NULL if that is None."""
    return null().label(f"sqla_{name}") if table is None else table.c[name]
