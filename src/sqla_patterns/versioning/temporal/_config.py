"""What is known about a class with temporal rows, once it is mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias, cast

from sqlalchemy import ColumnElement, Computed, Table

from ..._declarative import attribute_key
from ..._typing import AnyColumn, AnyMapper, MappedClass, PrimaryKey
from ._options import TemporalOptions

VERSION_ID: Final = "version_id"
IS_CURRENT: Final = "is_current"
VALID_FROM: Final = "valid_from"
VALID_TO: Final = "valid_to"
OBJECT_ID: Final = "object_id"

#: On a mapped class: its `TemporalConfig`. Subclasses share it.
CONFIG_ATTRIBUTE: Final = "__sqla_temporal_config__"
#: In `MetaData.info`: whether classes of it have temporal rows.
TEMPORAL: Final = "sqla_patterns.temporal"

Form = Literal["versioned", "temporal", "copied"]
KeyValues: TypeAlias = tuple[PrimaryKey, ...]
#: The smallest difference between two times; databases store microseconds.
TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Layout:
    """How the columns of the table are filled from an object of one mapper.

    Attributes:
        attributes: The column of each attribute that is written, by the name of the attribute.
        keys: The key of that column, by the name of the attribute.
        ambiguous: Attributes for which None stands for a JSON null as well as for NULL.
        of_siblings: Columns that other classes of the hierarchy map; they are NULL in rows of this one.
        unmapped: Columns that the class does not map and that have a value nevertheless.
        computed: Attributes whose values the database computes.
        post_updates: Relationships whose foreign key is set by an UPDATE of its own, after the mapper events.
    """

    attributes: Mapping[str, AnyColumn]
    keys: Mapping[str, str]
    ambiguous: Sequence[str]
    of_siblings: Sequence[AnyColumn]
    unmapped: Sequence[AnyColumn]
    computed: Sequence[str]
    post_updates: Sequence[str]


@dataclass(frozen=True, eq=False)
class TemporalConfig:
    """A class with temporal rows.

    Attributes:
        cls: The topmost class.
        mapper: Its mapper.
        table: Its table.
        form: Which of the mixins it has.
        options: The options of the class.
        stable: The columns that tell one object from another, in all of its versions.
        key: The primary key, which tells the versions apart too.
    """

    cls: MappedClass
    mapper: AnyMapper
    table: Table
    form: Form
    options: TemporalOptions
    stable: Sequence[AnyColumn]
    key: Sequence[AnyColumn]
    _layouts: dict[AnyMapper, Layout] = field(default_factory=dict[AnyMapper, Layout])

    @property
    def name(self) -> str:
        """Return the name of the class, for errors."""
        return str(self.cls.__name__)

    @property
    def has_time(self) -> bool:
        """Return whether the rows have ``valid_from`` and ``valid_to``."""
        return self.form == "temporal" or self.options.period

    @property
    def closes(self) -> bool:
        """Return whether deleted objects keep their rows."""
        return self.options.on_delete == "close"

    @property
    def maintained(self) -> Sequence[str]:
        """Return the attributes that the library sets."""
        found = {"versioned": [VERSION_ID, IS_CURRENT], "temporal": [], "copied": [OBJECT_ID, IS_CURRENT]}[self.form]
        return [*found, VALID_FROM, VALID_TO] if self.has_time else found

    @cached_property
    def onupdate(self) -> bool:
        """Return whether an UPDATE of a row sets more than the unit of work says."""
        return any(_fires_on_update(column) for column in self.table.c)

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """Return the attributes of the primary key."""
        return tuple(self.attribute(column) for column in self.key)

    @cached_property
    def kept(self) -> Mapping[str, AnyColumn]:
        """Return the columns that users cannot change, by attribute."""
        found = {self.attribute(column): column for column in (*self.key, *self.stable)}
        return found | {attribute: self.column(attribute) for attribute in self.maintained}

    @cached_property
    def column_keys(self) -> Mapping[str, str]:
        """Return the keys of the columns of the library and of the primary key, by attribute."""
        return {attribute: column.key for attribute, column in self.kept.items()}

    @property
    def end(self) -> str:
        """Return the attribute that tells whether a version is closed."""
        return VALID_TO if self.form == "temporal" else IS_CURRENT

    def column(self, attribute: str) -> AnyColumn:
        """Return the column of an attribute of the library."""
        return self.mapper.columns[attribute]

    def attribute(self, column: AnyColumn) -> str:
        """Return the name of the attribute that maps a column of the topmost class."""
        return attribute_key(self.mapper, column)

    def is_current(self, source: Any = None) -> ColumnElement[bool]:
        """Return the criterion of current rows, of the table or of an alias of it."""
        columns = self.table.c if source is None else source.c
        if self.form == "temporal":
            return cast("ColumnElement[bool]", columns[self.column(VALID_TO).key].is_(None))
        return cast("ColumnElement[bool]", columns[self.column(IS_CURRENT).key].is_(True))

    def layout(self, mapper: AnyMapper) -> Layout:
        """Return how rows are filled from objects of a mapper of the hierarchy; mappers must be configured."""
        found = self._layouts.get(mapper)
        if found is None:
            found = self._layouts[mapper] = self._lay_out(mapper)
        return found

    def _lay_out(self, mapper: AnyMapper) -> Layout:
        mapped: set[Any] = {column for each in self.mapper.self_and_descendants for column in each.columns}
        attributes: dict[str, AnyColumn] = {}
        siblings: list[AnyColumn] = []
        unmapped: list[AnyColumn] = []
        computed: list[str] = []
        own = set(mapper.columns)
        for column in self.table.c:
            is_mine = column in own
            if column.computed is not None:
                if is_mine:
                    computed.append(attribute_key(mapper, column))
            elif is_mine:
                attributes[attribute_key(mapper, column)] = column
            elif column in mapped and column.default is None and column.server_default is None:
                siblings.append(column)
            else:
                unmapped.append(column)
        ambiguous = [name for name, column in attributes.items() if column.type.should_evaluate_none]
        keys = {name: column.key for name, column in attributes.items()}
        post = [each.key for each in mapper.relationships if each.post_update and each.direction.name == "MANYTOONE"]
        return Layout(attributes, keys, ambiguous, siblings, unmapped, computed, post)


def _fires_on_update(column: AnyColumn) -> bool:
    return column.onupdate is not None or (
        column.server_onupdate is not None and not isinstance(column.server_onupdate, Computed)
    )


def may_have_temporal_rows(mappers: Sequence[AnyMapper]) -> bool:
    """Return whether a statement on these classes may read temporal rows: some class of their MetaData has them.

    A statement whose entities are not known, such as one on a subquery, may read anything.
    """
    return not mappers or any(mapper.registry.metadata.info.get(TEMPORAL) for mapper in mappers)


def config_of(cls: type[Any]) -> TemporalConfig | None:
    """Return the configuration of a class; None if it has no temporal rows, or is not mapped yet."""
    config: TemporalConfig | None = getattr(cls, CONFIG_ATTRIBUTE, None)
    return config


def require_config(mapper: AnyMapper) -> TemporalConfig:
    """Return the configuration of a mapper that is known to have temporal rows."""
    return cast("TemporalConfig", config_of(mapper.class_))
