"""Map a versioned class: columns for the main table, a history table, and a class for its rows.

There are two steps while SQLAlchemy maps a class: `add_columns` runs as soon as the class has a table, before the
mapper reads its columns; `map_history` runs when the class has its attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import Table, event, inspect
from sqlalchemy.orm import ColumnProperty, Mapper, Session
from sqlalchemy.orm.exc import UnmappedColumnError

from .._declarative import listen_once
from .._sql import is_column, is_table
from .._sqlalchemy import mappers_of
from .._typing import AnyColumn, AnyMapper, MappedClass
from ..exceptions import MappingError
from . import _tables
from ._associations import map_associations
from ._cascades import record_cascades
from ._config import (
    CONFIG_RECORD,
    TablePair,
    VersionConfig,
    columns_of,
    config_of,
    config_of_table,
    derived_attributes,
    hierarchy,
    require_config,
    version_columns,
)
from ._history_class import make_history_class
from ._listeners import MAPPER_LISTENERS, SESSION_LISTENERS
from ._names import CONFIG_ATTRIBUTE, HISTORY_COLUMNS
from ._options import VersionOptions
from ._table_records import record


def _parent_of(mapper: AnyMapper) -> VersionConfig | None:
    """Return the configuration of the class from which this one inherits its table or a part of its columns."""
    if mapper.inherits is None or mapper.concrete:
        return None
    return config_of(mapper.inherits.class_)


def _options_of(mapper: AnyMapper) -> VersionOptions:
    """Return the options of a class.

    Raises:
        MappingError: ``__versioned__`` is something else, or differs from that of the class above.
    """
    cls = mapper.class_
    options = getattr(cls, "__versioned__", None) or VersionOptions()
    if not isinstance(options, VersionOptions):
        raise MappingError(f"{cls.__name__}.__versioned__ is {options!r}; give VersionOptions(...)")
    parent = _parent_of(mapper)
    if parent is not None and options != parent.options:
        raise MappingError(
            f"{cls.__name__} and {parent.name} share the history of one hierarchy, so __versioned__ belongs into "
            f"{parent.root.name} only"
        )
    return options


def _check_options(cls: MappedClass, options: VersionOptions) -> None:
    """Raise if an option of a class has a wrong value.

    Raises:
        MappingError: It has.
    """
    if options.granularity not in ("flush", "transaction"):
        raise MappingError(f"{cls.__name__}: granularity is {options.granularity!r}; say 'flush' or 'transaction'")
    if options.granularity == "transaction" and not options.period and options.revision is None:
        raise MappingError(
            f"{cls.__name__}: granularity='transaction' needs period=True or revision=..., so that a row tells which "
            "transaction made it"
        )
    if options.revision is not None:
        mapper: AnyMapper | None = inspect(options.revision, raiseerr=False)
        if mapper is None or len(mapper.primary_key) != 1 or not hasattr(options.revision, "at"):
            raise MappingError(
                f"{cls.__name__}: revision={options.revision!r} is no class that is mapped with RevisionLog and a "
                "primary key of one column; map it before the versioned class"
            )


def add_columns(mapper: AnyMapper) -> None:
    """Add the columns of the library to the main table of a new class.

    Raises:
        MappingError: The options are wrong, the class above is not versioned, or the user has another attribute under
            one of the names.
    """
    table = mapper.local_table
    if not is_table(table):
        return
    options = _options_of(mapper)
    if _parent_of(mapper) is not None:
        _tables.refuse_annotations(mapper.class_, options)
    else:
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


def map_history(mapper: AnyMapper) -> None:
    """Make the history table and the history class of a class, and register the listeners.

    Raises:
        MappingError: The class cannot be versioned, or an option names no attribute.
    """
    cls = mapper.class_
    if config_of(cls) is not None:
        return
    table = mapper.local_table
    if not is_table(table):
        if mapper.concrete or mapper.with_polymorphic is not None:
            return  # an abstract base that is mapped to a union; its subclasses have tables
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
        parent.subclasses.append(config)
        parent.root.cache.clear()
    setattr(cls, CONFIG_ATTRIBUTE, config)
    cls.__history_mapper__ = history
    _check_names(config)
    if parent is None or history_table is not None:
        _refuse_earlier_classes(config)
        record(pairs[-1].main, CONFIG_RECORD, config)
        listen_once(Mapper, "instrument_class", _refuse_second_class)
    map_associations(config)
    event.listen(cls, "attribute_instrument", copy_later_columns)
    event.listen(pairs[-1].history, "before_create", lambda *_, **__: copy_later_columns(cls))
    if mapper.configured:
        _configured(mapper, cls)
    else:
        event.listen(cls, "mapper_configured", _configured)
    for identifier, fn in SESSION_LISTENERS.items():
        listen_once(Session, identifier, fn)


def copy_later_columns(cls: MappedClass, *_: object) -> None:
    """Add to the history the columns that were added to a class after it was mapped.

    ``Doc.pages = mapped_column()`` below the class adds one, and so do strategies of generic associations. Called when
    a package says so, when the attributes are instrumented, and before the history table is created.
    """
    config = config_of(cls)
    if config is None:
        return
    later: list[tuple[TablePair, str, AnyColumn]] = []
    for pair in config.pairs:
        for column in pair.main.c:
            # Columns that are not mapped, or only by another class of the same table, are left out.
            with suppress(UnmappedColumnError):
                attr = str(config.mapper.get_property_by_column(column).key)
                if (
                    column.key not in pair.history.c
                    and attr not in config.excluded
                    and column.key not in config.version_columns
                ):
                    later.append((pair, attr, column))
    for pair, attr, column in later:
        copy = _tables.copy_column(column)
        pair.history.append_column(copy)
        _tables.resolve_types([(column, copy)])
        owner = next(each for each in (config, *_above(config)) if each.pairs[-1] is pair)
        owner.history.add_property(attr, copy)
    if later:
        for member in hierarchy(config.root):
            member.forget_columns()


def _above(config: VersionConfig) -> Iterator[VersionConfig]:
    """Yield the configurations of the classes above."""
    while config.parent is not None:
        config = config.parent
        yield config


def _refuse_second_class(mapper: AnyMapper, cls: MappedClass) -> None:
    """Raise if another class is mapped to the table of a versioned one; a listener for ``instrument_class``.

    Raises:
        MappingError: It is.
    """
    table = mapper.local_table
    config = config_of_table(table) if is_table(table) else None
    # After the mapper of a class was disposed of, another class may use its table.
    if config is not None and inspect(config.cls, raiseerr=False) is config.mapper:
        _require_same_hierarchy(config, cls)


def _refuse_earlier_classes(config: VersionConfig) -> None:
    """Raise if another class was mapped to the table of a versioned one before.

    Raises:
        MappingError: It was.
    """
    for mapper in mappers_of(config.mapper.registry):
        if mapper.local_table is config.pairs[-1].main:
            _require_same_hierarchy(config, mapper.class_)


def _require_same_hierarchy(config: VersionConfig, cls: MappedClass) -> None:
    """Raise unless the listeners of a versioned class are called for `cls` too.

    Raises:
        MappingError: They are not.
    """
    if not issubclass(cls, config.root.cls):
        raise MappingError(
            f"{cls.__name__} is mapped to table {config.pairs[-1].main.fullname!r}, which {config.name} versions; "
            f"what it writes would leave no history. Inherit from {config.name}, load parts of it with load_only(), or "
            "map a view"
        )


def _configured(mapper: AnyMapper, cls: MappedClass) -> None:
    """Record the cascades, and register the listeners that copy rows; called when mappers are configured.

    The listeners are not registered when the class is mapped, so that those which the user registers below the class
    are called first, and what they change is seen.
    """
    config = require_config(cls)
    record_cascades(mapper, [pair.main for pair in config.pairs])
    for identifier, fn in MAPPER_LISTENERS.items():
        if not event.contains(cls, identifier, fn):
            event.listen(cls, identifier, fn, raw=True)


def history_mapper(mapper: AnyMapper) -> AnyMapper:
    """Version a class that is mapped imperatively, and return the mapper of its history class.

    This is ``_history_mapper`` of SQLAlchemy's recipe. The class need not mix in `Versioned`; its attributes
    ``__versioned__`` and ``use_mapper_versioning`` are used if it has them. A second call does nothing.
    """
    if config_of(mapper.class_) is None:
        table = mapper.local_table
        before = set(table.c.keys())
        add_columns(mapper)
        for column in table.c:
            if is_column(column) and column.key not in before:
                mapper.add_property(column.key, column)
        map_history(mapper)
    return require_config(mapper.class_).history


def _excluded_columns(mapper: AnyMapper, options: VersionOptions) -> frozenset[str]:
    """Return the keys of columns that the history leaves out.

    Raises:
        MappingError: ``VersionOptions(exclude=...)`` names a column that the history needs.
    """
    keys: set[str] = set()
    for name in options.exclude:
        for column in columns_of(mapper, name):
            if column.primary_key or column is mapper.polymorphic_on:
                raise MappingError(
                    f"{mapper.class_.__name__}: history cannot do without {name!r}; take it out of exclude="
                )
            keys.add(column.key)
    for name in derived_attributes(mapper.class_):
        keys.update(
            column.key
            for column in columns_of(mapper, name)
            if not column.primary_key and column is not mapper.polymorphic_on
        )
    return frozenset(keys)


def _check_names(config: VersionConfig) -> None:
    """Raise if an option names no column attribute; a name may also be that of a subclass's attribute.

    Raises:
        MappingError: It names none.
    """
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
    mapper: AnyMapper,
    table: Table,
    parent: VersionConfig | None,
    options: VersionOptions,
    excluded: frozenset[str],
) -> TablePair:
    """Make the history table of a class.

    Raises:
        MappingError: The user has a column under the name of one that the history adds.
    """
    above = None if parent is None else parent.pairs[-1]
    added = frozenset[str]() if parent is not None else version_columns(options)
    for column in table.c:
        if column.key in HISTORY_COLUMNS - added:
            raise MappingError(
                f"versioned class {mapper.class_.__name__!r}: the history of table {table.fullname!r} has a column "
                f"{column.key!r} of its own; give yours another key"
            )
    history = _tables.build_history_table(
        table,
        excluded=excluded,
        options=options,
        added=added,
        parent=None if above is None else above.main,
        parent_history=None if above is None else above.history,
    )
    joins: list[tuple[AnyColumn, AnyColumn]] = []
    if above is not None:
        joins = [
            (column, key.column) for column in table.c for key in column.foreign_keys if key.references(above.main)
        ]
    pair = TablePair(table, history, tuple(joins))
    event.listen(mapper.class_, "mapper_configured", _tables.complete_types(history, list(pair.copied_columns())))
    return pair


def _add_single_table_columns(pair: TablePair, excluded: frozenset[str]) -> None:
    """Add to a history table the columns and indexes of a subclass that shares the main table."""
    for column in pair.main.c:
        if column.key not in pair.history.c and column.key not in excluded:
            pair.history.append_column(_tables.copy_column(column))
    _tables.copy_indexes(pair.main, pair.history)
