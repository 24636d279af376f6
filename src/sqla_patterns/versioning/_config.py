"""`VersionConfig`: what the package knows about a versioned class, such as its tables, once the class is mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar, cast

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.orm import ColumnProperty, RelationshipDirection, Session

from .._maintained import maintained_columns
from .._sql import is_column
from .._typing import AnyColumn, AnyMapper, AnyState, MappedClass
from ..exceptions import StateError
from ._errors import NotVersionedError
from ._names import CONFIG_ATTRIBUTE, HISTORY_COLUMNS, REVISION, VALID_FROM, VERSION
from ._options import VersionOptions
from ._table_records import RecordKey, recorded

#: The values of a primary key, in the order of its columns.
KeyValues: TypeAlias = tuple[object, ...]
#: A row of a result: its values in the order of the selected columns.
RowValues: TypeAlias = Sequence[Any]

V = TypeVar("V")


def version_columns(options: VersionOptions) -> frozenset[str]:
    """Return the keys of the columns that the library adds to the main table of a hierarchy."""
    wanted = {VERSION: True, VALID_FROM: options.period, REVISION: options.revision is not None}
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


@dataclass(eq=False)
class TablePair:
    """A main table with its history table.

    Attributes:
        main: The main table.
        history: The history table.
        joins: Columns of the main table with those of the table that it joins, in joined inheritance; empty for the
            root of a hierarchy.
    """

    main: Table
    history: Table
    joins: tuple[tuple[AnyColumn, AnyColumn], ...] = ()

    def copied_columns(self) -> Iterator[tuple[AnyColumn, AnyColumn]]:
        """Yield the user's columns of the main table that the history has, with their copies."""
        for column in self.history.c:
            if column.key not in HISTORY_COLUMNS and column.key in self.main.c:
                yield self.main.c[column.key], column


@dataclass(eq=False)
class VersionConfig:
    """The configuration of one versioned class.

    The classes of an inheritance hierarchy share a `root`, except for concrete ones.

    Attributes:
        cls: The versioned class.
        mapper: Its mapper.
        history: The mapper of its history class.
        options: The options of the hierarchy.
        pairs: The tables of the class, from that of the root to its own.
        parent: The configuration of the class above, None for a root.
        subclasses: The configurations of the classes directly below.
        cache: What is built once, such as statements, by name; emptied when a class gets columns.
    """

    cls: MappedClass
    mapper: AnyMapper
    history: AnyMapper
    options: VersionOptions
    pairs: tuple[TablePair, ...]
    parent: VersionConfig | None
    subclasses: list[VersionConfig] = field(default_factory=list["VersionConfig"])
    cache: dict[object, object] = field(default_factory=dict[object, object])

    def cached(self, name: object, make: Callable[[], V]) -> V:
        """Return what `cache` has under `name`, which `make` makes if it is missing."""
        if name not in self.cache:
            self.cache[name] = make()
        return cast("V", self.cache[name])

    @property
    def name(self) -> str:
        return self.cls.__name__

    @property
    def root(self) -> VersionConfig:
        return self if self.parent is None else self.parent.root

    @property
    def pair(self) -> TablePair:
        """Return the pair of tables of the root, which has ``version``."""
        return self.pairs[0]

    @property
    def key(self) -> tuple[AnyColumn, ...]:
        """Return the primary key of the main table of the root."""
        return self.root._key

    @cached_property
    def _key(self) -> tuple[AnyColumn, ...]:
        return cast("tuple[AnyColumn, ...]", tuple(self.mapper.primary_key))

    @property
    def history_key(self) -> tuple[AnyColumn, ...]:
        return tuple(self.pair.history.c[column.key] for column in self.key)

    @cached_property
    def key_attrs(self) -> tuple[str, ...]:
        return tuple(str(self.mapper.get_property_by_column(column).key) for column in self.mapper.primary_key)

    @cached_property
    def columns(self) -> dict[str, AnyColumn]:
        """Return the attributes of columns of the main tables, with these, except for those that the library adds."""
        tables = {pair.main for pair in self.pairs}
        found: dict[str, AnyColumn] = {}
        for attr in self.mapper.column_attrs:
            column = _column_of(attr, tables)
            if column is not None and column.key not in self.version_columns:
                found[attr.key] = column
        return found

    @cached_property
    def version_columns(self) -> frozenset[str]:
        """Return the keys of the columns that the library maintains on the main table."""
        return version_columns(self.options)

    @cached_property
    def derived(self) -> frozenset[str]:
        """Return the attributes that other packages derive from other ones, and that the history leaves out."""
        return derived_attributes(self.cls)

    @cached_property
    def shifted(self) -> frozenset[str]:
        """Return the attributes that other packages also change in rows that get no version."""
        return frozenset(name for name, column in maintained_columns(self.cls).items() if column.shifted)

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Return the attributes that the history leaves out."""
        return frozenset(self.options.exclude) | self.derived

    @cached_property
    def tracked(self) -> dict[str, Callable[[object, object], bool]]:
        """Return the attributes whose change makes a version, with the comparisons of their types."""
        silent = {*self.excluded, *self.options.ignore}
        return {key: column.type.compare_values for key, column in self.columns.items() if key not in silent}

    @cached_property
    def post_updates(self) -> tuple[str, ...]:
        """Return the many-to-one relationships whose foreign keys the unit of work sets in a second UPDATE."""
        return tuple(
            str(relation.key)
            for relation in self.mapper.relationships
            if relation.post_update and relation.direction is RelationshipDirection.MANYTOONE
        )

    @cached_property
    def history_attributes(self) -> dict[str, AnyColumn]:
        """Return the attributes that history rows have, with their columns on the main tables."""
        return {key: column for key, column in self.columns.items() if key not in self.excluded}

    def forget_columns(self) -> None:
        """Forget what was derived from the columns of the class; called when it has a new one."""
        for name, value in vars(VersionConfig).items():
            if isinstance(value, cached_property):
                vars(self).pop(name, None)
        self.cache.clear()


CONFIG_RECORD: Final = RecordKey[VersionConfig]("config")


def pk_of(state: AnyState) -> KeyValues:
    """Return the primary key of a persistent object.

    Raises:
        StateError: The object has none yet.
    """
    if state.key is None:
        raise StateError(f"this {state.mapper.class_.__name__} has no primary key yet; flush it first")
    return state.key[1]


def connection_of(session: Session, config: VersionConfig) -> Connection:
    """Return the connection on which a session writes the tables of a class."""
    return session.connection(bind_arguments={"mapper": config.mapper})


def derived_attributes(cls: MappedClass) -> frozenset[str]:
    """Return the attributes of `cls` that other packages derive from other ones, and that the history leaves out."""
    return frozenset(name for name, column in maintained_columns(cls).items() if not column.in_history)


def _column_of(attr: ColumnProperty[Any], tables: set[Table]) -> AnyColumn | None:
    for column in attr.columns:
        if is_column(column) and column.table in tables:
            return column
    return None


def columns_of(mapper: AnyMapper, name: str) -> list[AnyColumn]:
    """Return the columns of an attribute, also of a composite; none if it has none, or the class does not have it.

    Unlike ``mapper.column_attrs``, this does not configure mappers.
    """
    columns: Iterable[AnyColumn] = (
        getattr(mapper.get_property(name), "columns", ()) if mapper.has_property(name) else ()
    )
    return list(columns)


def config_of(cls: MappedClass) -> VersionConfig | None:
    """Return the configuration of a mapped class, None if it is not versioned."""
    config: VersionConfig | None = cls.__dict__.get(CONFIG_ATTRIBUTE)
    return config


def config_of_table(table: Table) -> VersionConfig | None:
    """Return the configuration of the class that has this main table, None if it is not versioned."""
    return recorded(table, CONFIG_RECORD)


def require_config(entity: object) -> VersionConfig:
    """Return the configuration of a mapped class.

    Raises:
        NotVersionedError: The class is not versioned.
    """
    config = config_of(entity) if isinstance(entity, type) else None
    if config is None:
        mapper: Any = inspect(entity, raiseerr=False)
        name = entity.__name__ if isinstance(entity, type) else repr(entity)
        how = "mix Versioned into it" if getattr(mapper, "is_mapper", False) else "give a mapped class"
        raise NotVersionedError(f"{name} is not versioned; {how}")
    return config


def require_period(config: VersionConfig, what: str) -> None:
    """Raise unless the history of a class stores when each version began and ended.

    Args:
        config: The configuration of the class.
        what: What needs these times, for the error.

    Raises:
        NotVersionedError: It does not.
    """
    if not config.options.period:
        raise NotVersionedError(
            f"{what} needs to know when each version of {config.name} began and ended; say "
            "__versioned__ = VersionOptions(period=True) in the class"
        )


def hierarchy(config: VersionConfig) -> Iterator[VersionConfig]:
    """Yield `config` and the configurations of all classes below."""
    yield config
    for subclass in config.subclasses:
        yield from hierarchy(subclass)


def pairs_bottom_up(root: VersionConfig) -> list[TablePair]:
    """Return all tables of a hierarchy, those that join others first."""
    depths = {pair: depth for member in hierarchy(root) for depth, pair in enumerate(member.pairs)}
    return sorted(depths, key=lambda pair: -depths[pair])


def local_key(config: VersionConfig) -> list[AnyColumn]:
    """Return the columns of the local table of a class that hold the primary key of the root, in its order."""
    columns = list(config.root.key)
    for each in config.pairs[1:]:
        by_parent = {above: column for column, above in each.joins}
        columns = [by_parent[column] for column in columns]
    return columns


def root_key_in(root: VersionConfig, pair: TablePair) -> list[AnyColumn]:
    """Return the columns of a history table that hold the primary key of the root, in its order."""
    columns = list(root.key)
    member = next(member for member in hierarchy(root) if pair in member.pairs)
    for each in member.pairs[1 : member.pairs.index(pair) + 1]:
        by_parent = {above: column for column, above in each.joins}
        columns = [by_parent[column] for column in columns]
    return [pair.history.c[column.key] for column in columns]
