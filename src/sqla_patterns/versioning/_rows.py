"""Rows of main and history tables, and the objects that they were.

A `RowReader` selects what all classes of a hierarchy have, from either side, in one and the same order of columns, and makes objects of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Column, ColumnElement, Select, and_, null, select
from sqlalchemy.orm import Mapper

from ._config import TablePair, VersionConfig, hierarchy
from ._past import PastObjects
from ._tables import CHANGED, ENDED_BY, OPERATION, REVISION, VALID_FROM, VALID_TO, VERSION

__all__ = ("RowReader", "reader_of")

#: What stands in front of each row, beside the key.
_HEAD = (VERSION, CHANGED, VALID_FROM, VALID_TO, OPERATION, REVISION, ENDED_BY)


def reader_of(config: VersionConfig) -> RowReader:
    """The reader for `config`; made once."""
    name = ("reader", config)
    root = config.root
    found = root.cache.get(name)
    if found is None:
        found = root.cache[name] = RowReader(config)
    return cast("RowReader", found)


class RowReader:
    """Reads objects of one class, and of those below it.

    Where the hierarchy tells its classes apart by a column, a row may also turn out to be of a class beside: a key can be used again.
    """

    def __init__(self, config: VersionConfig) -> None:
        self.config = config
        self.root = config.root
        on: Any = self.root.mapper.polymorphic_on
        self.on: Column[Any] | None = on if isinstance(on, Column) else None
        members = list(hierarchy(self.root)) if self.on is not None else [config]
        self.by_identity: dict[Any, VersionConfig] = {
            member.mapper.polymorphic_identity: member
            for member in members
            if self.on is not None and not getattr(member.mapper, "polymorphic_abstract", False)
        }
        #: The tables that join the one of the root, each with a class that has it.
        self.joined: dict[TablePair, VersionConfig] = {}
        for member in members:
            for pair in member.pairs[1:]:
                self.joined.setdefault(pair, member)
        self.columns: list[Column[Any]] = []
        for member in members:
            for column in member.kept.values():
                if not any(column is present for present in self.columns):
                    self.columns.append(column)
        self.width = len(self.root.key)
        self._makers: dict[VersionConfig, tuple[Callable[[Sequence[Any]], Sequence[Any]], PastObjects]] = {}
        self.places = {column: self.width + len(_HEAD) + at for at, column in enumerate(self.columns)}

    # -- selecting -----------------------------------------------------------------------------

    def history_column(self, column: Column[Any]) -> Column[Any]:
        pairs = [self.root.pair, *self.joined]
        pair = next(pair for pair in pairs if pair.main is column.table)
        return pair.history.c[column.key]

    def main_columns(self) -> list[ColumnElement[Any]]:
        main = self.root.pair.main
        head: list[Any] = [main.c[name] if name in self.root.own else null().label(f"sqla_{name}") for name in _HEAD]
        return [*self.root.key, *head, *self.columns]

    def history_columns(self) -> list[ColumnElement[Any]]:
        history = self.root.pair.history
        head: list[Any] = [history.c[name] if name in history.c else null().label(f"sqla_{name}") for name in _HEAD]
        return [*self.root.history_key, *head, *map(self.history_column, self.columns)]

    def links(self, pair: TablePair, *, history: bool) -> ColumnElement[bool]:
        """How `pair` joins the table above it."""
        if not history:
            return and_(*(column == above for column, above in pair.joins))
        above_pair = self.above(pair)
        links = [pair.history.c[column.key] == above_pair.history.c[above.key] for column, above in pair.joins]
        return and_(*links, pair.history.c[VERSION] == above_pair.history.c[VERSION])

    def above(self, pair: TablePair) -> TablePair:
        pairs = self.joined[pair].pairs
        return pairs[pairs.index(pair) - 1]

    def select_main(self) -> Select[Any]:
        source: Any = self.root.pair.main
        for pair in self.joined:
            source = source.outerjoin(pair.main, self.links(pair, history=False))
        return select(*self.main_columns()).select_from(source)

    def select_history(self) -> Select[Any]:
        source: Any = self.root.pair.history
        for pair in self.joined:
            source = source.outerjoin(pair.history, self.links(pair, history=True))
        return select(*self.history_columns()).select_from(source)

    # -- making objects ------------------------------------------------------------------------

    def head(self, row: Sequence[Any], name: str) -> Any:
        return row[self.width + _HEAD.index(name)]

    def key(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[: self.width])

    def member(self, row: Sequence[Any]) -> VersionConfig:
        """Which class a row is of."""
        if self.on is None or self.on not in self.places:
            return self.config
        return self.by_identity.get(row[self.places[self.on]], self.config)

    def values(self, row: Sequence[Any], member: VersionConfig) -> dict[str, Any]:
        return {attr: row[self.places[column]] for attr, column in member.kept.items()}

    def object(self, row: Sequence[Any]) -> Any:
        """The object that a row was."""
        member = self.member(row) if self.on is not None else self.config
        made = self._makers.get(member)
        if made is None:
            made = self._makers[member] = self._maker(member)
        pick, past = made
        return past.make(pick(row))

    def _maker(self, member: VersionConfig) -> tuple[Callable[[Sequence[Any]], Sequence[Any]], PastObjects]:
        """What picks the values of an object out of a row, and what makes the object of them."""
        own = {name: self.width + _HEAD.index(name) for name in self.root.own}
        places = {**{attr: self.places[column] for attr, column in member.kept.items()}, **own}
        return itemgetter(*places.values()), PastObjects(member.mapper, list(places))

    @property
    def mapper(self) -> Mapper[Any]:
        return self.root.mapper
