"""Mapping: columns for the main table, a history table, and a class to read it with.

Two steps, while SQLAlchemy maps a class. `add_columns` runs as soon as the class has a table, before the mapper looks at the columns;
`map_history` when its attributes are there.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Column, Table, event, inspect
from sqlalchemy.orm import ColumnProperty, Mapper, Session

from .._declarative import listen_once
from ..exceptions import MappingError
from . import _tables
from ._associations import map_associations
from ._cascades import follow_keys
from ._config import CONFIG, TablePair, VersionConfig, config_of, own_columns
from ._history_class import make_history_class
from ._listeners import MAPPER_LISTENERS, SESSION_LISTENERS
from ._options import VersionOptions

__all__ = ("add_columns", "history_mapper", "map_history")


def _parent_of(mapper: Mapper[Any]) -> VersionConfig | None:
    """The config of the class that this one inherits its table or part of its columns from."""
    if mapper.inherits is None or mapper.concrete:
        return None
    return config_of(mapper.inherits.class_)


def _options_of(mapper: Mapper[Any]) -> VersionOptions:
    cls = mapper.class_
    options = getattr(cls, "__versioned__", None) or VersionOptions()
    if not isinstance(options, VersionOptions):
        raise MappingError(f"{cls.__name__}.__versioned__ is {options!r}; give VersionOptions(...)")
    parent = _parent_of(mapper)
    if parent is not None and options != parent.options:
        raise MappingError(
            f"{cls.__name__} and {parent.name} share the history of one hierarchy, so __versioned__ belongs into {parent.root.name} only"
        )
    return options


def _check_options(cls: type[Any], options: VersionOptions) -> None:
    if options.granularity not in ("flush", "transaction"):
        raise MappingError(f"{cls.__name__}: granularity is {options.granularity!r}; say 'flush' or 'transaction'")
    if options.granularity == "transaction" and not options.period and options.revision is None:
        raise MappingError(
            f"{cls.__name__}: granularity='transaction' needs period=True or revision=..., so that a row tells which transaction made it"
        )
    if options.revision is not None:
        mapper: Any = inspect(options.revision, raiseerr=False)
        if mapper is None or len(mapper.primary_key) != 1 or not hasattr(options.revision, "at"):
            raise MappingError(
                f"{cls.__name__}: revision={options.revision!r} is no class that is mapped with RevisionLog and a primary key of one column; "
                "map it before the versioned class"
            )


def add_columns(mapper: Mapper[Any]) -> None:
    """Add the room's columns to the main table of a new class."""
    table = mapper.local_table
    if not _tables.is_table(table):
        return
    options = _options_of(mapper)
    if _parent_of(mapper) is None:
        cls = mapper.class_
        if mapper.inherits is not None and not mapper.concrete:
            root = mapper.base_mapper.class_.__name__
            raise MappingError(
                f"{cls.__name__} is versioned and {root}, whose table it uses, is not; mix Versioned into {root}"
            )
        _check_options(cls, options)
        columns = _tables.add_main_columns(table, cls, options)
        _tables.keep_ids_unique(table)
        if getattr(cls, "use_mapper_versioning", False) and mapper.version_id_col is None:
            mapper.version_id_col = columns[0]


def map_history(mapper: Mapper[Any]) -> None:
    """Make the history table and class of a class, and have the flush heard."""
    cls = mapper.class_
    if config_of(cls) is not None:
        return
    table = mapper.local_table
    if not _tables.is_table(table):
        if mapper.concrete or mapper.with_polymorphic is not None:
            return  # an abstract base over a union; its subclasses have tables
        raise MappingError(f"{cls.__name__} is mapped to {table!r}; only a class with a table can be versioned")
    parent, options = _parent_of(mapper), _options_of(mapper)
    excluded = _excluded_columns(mapper, options)
    if parent is not None and table is parent.pairs[-1].main:
        pairs = parent.pairs
        _add_single_table_columns(pairs[-1], excluded)
        history_table = None
    else:
        pair = _new_pair(mapper, table, parent, options, excluded)
        pairs = (*(() if parent is None else parent.pairs), pair)
        history_table = pair.history
    history = make_history_class(mapper, history_table, parent, pairs)
    config = VersionConfig(cls, mapper, history, options, pairs, parent)
    if parent is not None:
        parent.members.append(config)
        parent.root.cache.clear()
    setattr(cls, CONFIG, config)
    cls.__history_mapper__ = history
    _check_names(config)
    pairs[-1].main.info["sqla_patterns.versioning"] = config if parent is None or history_table is not None else parent
    map_associations(config)
    if mapper.configured:
        _configured(mapper, cls)
    else:
        event.listen(cls, "mapper_configured", _configured)
    for identifier, fn in SESSION_LISTENERS.items():
        listen_once(Session, identifier, fn)


def _configured(mapper: Mapper[Any], cls: type[Any]) -> None:
    """Do what needs the other classes, and begin to listen.

    Not when the class is mapped: what it listens to by then, and most programs register listeners below their classes, has its say before
    the room looks at what has changed.
    """
    config = cast("VersionConfig", config_of(cls))
    follow_keys(mapper, [pair.main for pair in config.pairs])
    for identifier, fn in MAPPER_LISTENERS.items():
        if not event.contains(cls, identifier, fn):
            event.listen(cls, identifier, fn, raw=True)


def history_mapper(mapper: Mapper[Any]) -> Mapper[Any]:
    """Version a class that is mapped imperatively, and return the mapper of its history class.

    Upstream's ``_history_mapper``. The class need not mix in `Versioned`; ``__versioned__`` and ``use_mapper_versioning`` are honoured where
    it has them. Calling it twice changes nothing.
    """
    config = config_of(mapper.class_)
    if config is None:
        table = mapper.local_table
        before = set(table.c.keys())
        add_columns(mapper)
        for column in cast("Any", table).c:
            if column.key not in before:
                mapper.add_property(column.key, column)
        map_history(mapper)
        config = cast("VersionConfig", config_of(mapper.class_))
    return config.history


def _excluded_columns(mapper: Mapper[Any], options: VersionOptions) -> frozenset[str]:
    """The keys of columns that history leaves out."""
    keys: set[str] = set()
    for name in options.exclude:
        if not mapper.has_property(name):
            continue  # of a class below, or misspelt
        attr: Any = mapper.get_property(name)
        for column in getattr(attr, "columns", ()):
            if column.primary_key or column is mapper.polymorphic_on:
                raise MappingError(
                    f"{mapper.class_.__name__}: history cannot do without {name!r}; take it out of exclude="
                )
            keys.add(column.key)
    return frozenset(keys)


def _check_names(config: VersionConfig) -> None:
    """Refuse a misspelt name; one that only a subclass has is found in no class but that."""
    options, root = config.options, config.root
    if config is not root:
        return
    for option in ("exclude", "ignore"):
        for name in getattr(options, option):
            known = config.mapper.has_property(name) and isinstance(config.mapper.get_property(name), ColumnProperty)
            if not known and not config.mapper.polymorphic_map:
                raise MappingError(
                    f"{config.name}: {option}= names {name!r}, which is no column attribute of the class"
                )


def _new_pair(
    mapper: Mapper[Any],
    table: Table,
    parent: VersionConfig | None,
    options: VersionOptions,
    excluded: frozenset[str],
) -> TablePair:
    above = None if parent is None else parent.pairs[-1]
    own = frozenset[str]() if parent is not None else own_columns(options)
    for column in table.c:
        if column.key in _tables.HISTORY_COLUMNS - own:
            raise MappingError(
                f"versioned class {mapper.class_.__name__!r}: the history of table {table.fullname!r} has a column {column.key!r} of its own; "
                "give yours another key"
            )
    history = _tables.build_history_table(
        table,
        excluded=excluded,
        options=options,
        own=own,
        parent=None if above is None else above.main,
        parent_history=None if above is None else above.history,
    )
    joins: list[tuple[Column[Any], Column[Any]]] = []
    if above is not None:
        joins = [
            (column, key.column) for column in table.c for key in column.foreign_keys if key.references(above.main)
        ]
    pair = TablePair(table, history, tuple(joins))

    def complete(*_: object, **__: object) -> None:
        _tables.complete_types(pair.copied())

    complete()
    event.listen(history, "before_create", complete)
    event.listen(mapper.class_, "mapper_configured", complete)
    return pair


def _add_single_table_columns(pair: TablePair, excluded: frozenset[str]) -> None:
    for column in pair.main.c:
        if column.key not in pair.history.c and column.key not in excluded:
            pair.history.append_column(_tables.copy_column(column))
    _tables.copy_indexes(pair.main, pair.history)
