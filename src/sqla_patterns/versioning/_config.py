"""What the room knows about one versioned class, gathered while it is mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from sqlalchemy import Column, Table, inspect
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipDirection

from ._errors import NotVersionedError
from ._options import VersionOptions
from ._tables import HISTORY_COLUMNS, REVISION, VALID_FROM, VERSION

__all__ = (
    "CONFIG",
    "TablePair",
    "VersionConfig",
    "config_of",
    "hierarchy",
    "own_columns",
    "pairs_bottom_up",
    "require_config",
    "require_period",
    "root_key_in",
)

CONFIG = "__sqla_version_config__"


def own_columns(options: VersionOptions) -> frozenset[str]:
    """Keys of the columns that the room adds to the main table of a hierarchy."""
    wanted = {VERSION: True, VALID_FROM: options.period, REVISION: options.revision is not None}
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


@dataclass(eq=False)
class TablePair:
    """A main table with its history."""

    main: Table
    history: Table
    #: Links from the columns of this table to those of the one that it joins; empty for the root of a hierarchy.
    joins: tuple[tuple[Column[Any], Column[Any]], ...] = ()

    def copied(self) -> Iterator[tuple[Column[Any], Column[Any]]]:
        """The columns that a history row takes over, with what they are in history; those of the room left out."""
        for column in self.history.c:
            if column.key not in HISTORY_COLUMNS and column.key in self.main.c:
                yield self.main.c[column.key], column


@dataclass(eq=False)
class VersionConfig:
    """One versioned class. Classes of one hierarchy share `root`, concrete ones aside."""

    cls: type[Any]
    mapper: Mapper[Any]
    history: Mapper[Any]
    options: VersionOptions
    #: From the table of the root to that of the class.
    pairs: tuple[TablePair, ...]
    parent: VersionConfig | None
    members: list[VersionConfig] = field(default_factory=list["VersionConfig"])
    #: Statements, built once; forgotten when a subclass adds columns.
    cache: dict[object, Any] = field(default_factory=dict[object, Any])

    @property
    def name(self) -> str:
        return self.cls.__name__

    @property
    def root(self) -> VersionConfig:
        return self if self.parent is None else self.parent.root

    @property
    def pair(self) -> TablePair:
        """The table that has ``version``."""
        return self.pairs[0]

    @property
    def key(self) -> tuple[Column[Any], ...]:
        """The primary key of the main table of the root."""
        return self.root._key

    @cached_property
    def _key(self) -> tuple[Column[Any], ...]:
        return cast("tuple[Column[Any], ...]", tuple(self.mapper.primary_key))

    @property
    def history_key(self) -> tuple[Column[Any], ...]:
        return tuple(self.pair.history.c[column.key] for column in self.key)

    @cached_property
    def key_attrs(self) -> tuple[str, ...]:
        return tuple(str(self.mapper.get_property_by_column(column).key) for column in self.mapper.primary_key)

    @cached_property
    def columns(self) -> dict[str, Column[Any]]:
        """The column attributes whose columns are in one of the main tables, the room's own left out."""
        tables = {pair.main for pair in self.pairs}
        found: dict[str, Column[Any]] = {}
        for attr in self.mapper.column_attrs:
            column: Any = _column_of(attr, tables)
            if column is not None and column.key not in self.own:
                found[attr.key] = column
        return found

    @cached_property
    def own(self) -> frozenset[str]:
        """Keys of the columns that the room maintains on the main table."""
        return own_columns(self.options)

    @cached_property
    def excluded(self) -> frozenset[str]:
        return frozenset(self.options.exclude)

    @cached_property
    def tracked(self) -> dict[str, Callable[[Any, Any], bool]]:
        """Attributes whose change makes a version, with the comparison of their types."""
        silent = {*self.options.exclude, *self.options.ignore}
        return {key: column.type.compare_values for key, column in self.columns.items() if key not in silent}

    @cached_property
    def post_updates(self) -> tuple[str, ...]:
        """The many-to-one relationships whose foreign keys the unit of work sets in an UPDATE of their own."""
        return tuple(
            str(relation.key)
            for relation in self.mapper.relationships
            if relation.post_update and relation.direction is RelationshipDirection.MANYTOONE
        )

    @cached_property
    def kept(self) -> dict[str, Column[Any]]:
        """Attributes that history rows have, with their columns on the main tables."""
        return {key: column for key, column in self.columns.items() if key not in self.excluded}


def _column_of(attr: ColumnProperty[Any], tables: set[Table]) -> Column[Any] | None:
    for column in attr.columns:
        if isinstance(column, Column) and column.table in tables:
            return column
    return None


def config_of(cls: type[Any]) -> VersionConfig | None:
    """The config of a mapped class, None if it is not versioned."""
    config: VersionConfig | None = cls.__dict__.get(CONFIG)
    return config


def require_config(entity: object) -> VersionConfig:
    """The config of a mapped class.

    Raises:
        NotVersionedError: it has none.
    """
    config = config_of(entity) if isinstance(entity, type) else None
    if config is None:
        mapper: Any = inspect(entity, raiseerr=False)
        name = entity.__name__ if isinstance(entity, type) else repr(entity)
        how = "mix Versioned into it" if getattr(mapper, "is_mapper", False) else "give a mapped class"
        raise NotVersionedError(f"{name} is not versioned; {how}")
    return config


def require_period(config: VersionConfig, what: str) -> None:
    """Raise `NotVersionedError` unless history says when each version began."""
    if not config.options.period:
        raise NotVersionedError(
            f"{what} needs to know when each version of {config.name} began and ended; say "
            "__versioned__ = VersionOptions(period=True) in the class"
        )


def hierarchy(config: VersionConfig) -> Iterator[VersionConfig]:
    """`config` and the classes below it."""
    yield config
    for member in config.members:
        yield from hierarchy(member)


def pairs_bottom_up(root: VersionConfig) -> list[TablePair]:
    """All tables of a hierarchy, those that join others first."""
    depths = {pair: depth for member in hierarchy(root) for depth, pair in enumerate(member.pairs)}
    return sorted(depths, key=lambda pair: -depths[pair])


def root_key_in(root: VersionConfig, pair: TablePair) -> list[Column[Any]]:
    """The columns of a history table that hold the key of the root, in its order."""
    columns = list(root.key)
    member = next(member for member in hierarchy(root) if pair in member.pairs)
    for each in member.pairs[1 : member.pairs.index(pair) + 1]:
        by_parent = {above: column for column, above in each.joins}
        columns = [by_parent[column] for column in columns]
    return [pair.history.c[column.key] for column in columns]
