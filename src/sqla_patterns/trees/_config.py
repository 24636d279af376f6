"""The mapping of one tree class: which of its columns and attributes make the tree.

A `TreeConfig` knows nothing of an index; `Tree` (in ``_tree``) pairs it with the index of the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from sqlalchemy import Table, UniqueConstraint
from sqlalchemy.orm import RelationshipDirection
from sqlalchemy.orm.util import AliasedClass

from .._declarative import attribute_key
from .._typing import AnyAttribute, AnyColumn, AnyExpression, AnyMapper, MappedClass
from ..exceptions import MappingError
from ._options import TreeOptions

#: What a criterion is asked about: a tree class, or an alias of it.
Entity: TypeAlias = "MappedClass | AliasedClass[Any]"

#: Values of a row, by the name of the attribute.
ColumnValues: TypeAlias = Mapping[str, Any]

#: How many values stand in one IN, below the number of parameters that SQLite (32,766) and asyncpg (32,767) take in one
#: statement.
MAX_IN: Final = 10_000


@dataclass(frozen=True, eq=False)
class TreeConfig:
    """Columns and attribute names of a tree; one for each class that mixes a tree in, shared by its subclasses."""

    cls: MappedClass
    mapper: AnyMapper
    table: Table
    pk: AnyColumn
    parent_id: AnyColumn
    position: AnyColumn | None
    keyed: bool
    options: TreeOptions

    @property
    def name(self) -> str:
        """Return the name of the class, for texts of errors."""
        return self.cls.__name__

    @cached_property
    def pk_attr(self) -> str:
        """Return the name of the attribute that holds the primary key."""
        return attribute_key(self.mapper, self.pk)

    @property
    def key_attr(self) -> str | None:
        """Return the name of the attribute that keys the children, None on a `TreeNode`."""
        return self.options.key

    @cached_property
    def key(self) -> AnyColumn | None:
        """Return the column of `key_attr`."""
        return None if self.options.key is None else self._column(self.options.key)

    @cached_property
    def order_attrs(self) -> tuple[str, ...]:
        """Return the attributes that siblings sort by; the primary key, last, decides between equals."""
        if self.options.order_by:
            return (*self.options.order_by, self.pk_attr)
        if self.position is not None:
            return ("position", self.pk_attr)
        return (self.options.key or self.pk_attr, self.pk_attr)

    @cached_property
    def order_by(self) -> tuple[AnyAttribute, ...]:
        """Return the attributes of `order_attrs`, for ORDER BY."""
        return tuple(getattr(self.cls, name) for name in self.order_attrs)

    @cached_property
    def order_columns(self) -> tuple[AnyColumn, ...]:
        """Return the columns of `order_attrs`; that of the primary key is in the table of the tree itself."""
        return tuple(self.pk if name == self.pk_attr else self._column(name) for name in self.order_attrs)

    @property
    def sorts_by_attributes(self) -> bool:
        """Return whether siblings sort by attributes of the user's, rather than by ``position``."""
        return self.position is None

    @property
    def needs_orm_deletes(self) -> bool:
        """Return whether deleting a node is more than deleting its row, so that the unit of work has to see each one.

        That is so where a relationship of the user's cascades to, or clears, rows of another table, and where a
        listener waits for deletions of single nodes.
        """
        for mapper in self.mapper.self_and_descendants:
            if mapper.dispatch.before_delete or mapper.dispatch.after_delete:
                return True
            for rel in mapper.relationships:
                if rel.viewonly or rel.key in ("parent", "children"):
                    continue
                if rel.direction is RelationshipDirection.MANYTOONE:
                    if rel.cascade.delete:
                        return True
                elif not rel.passive_deletes:
                    return True
        return False

    @cached_property
    def database_handles_children(self) -> bool:
        """Return whether the foreign key says what happens to the children of a deleted row."""
        actions = {(fk.ondelete or "").upper() for fk in self.parent_id.foreign_keys if fk.references(self.table)}
        return actions <= {"CASCADE", "SET NULL"}

    @cached_property
    def has_unique_siblings(self) -> bool:
        """Return whether a unique constraint or index of the table has ``parent_id`` among its columns."""
        unique = [set(each.columns) for each in self.table.constraints if isinstance(each, UniqueConstraint)]
        unique += [set(each.columns) for each in self.table.indexes if each.unique]
        return any(self.parent_id in columns for columns in unique)

    @cached_property
    def dependent_tables(self) -> Sequence[Table]:
        """Return the tables that hold a part of each node, those that refer to others first."""
        tables = {m.local_table for m in self.mapper.base_mapper.self_and_descendants}
        return [table for table in reversed(self.table.metadata.sorted_tables) if table in tables]

    def pk_attribute(self, entity: Entity) -> AnyExpression:
        """Return the primary key of `entity`, for criteria."""
        attribute: AnyExpression = getattr(entity, self.pk_attr)
        return attribute

    def check(self) -> None:
        """Refuse options that do not fit the mapped class."""
        for attr in self.options.order_by:
            self._column(attr)
        if self.options.key is not None:
            self._column(self.options.key)

    def _column(self, attr: str) -> AnyColumn:
        prop = self.mapper.columns.get(attr)
        if prop is None or prop.table is not self.table:
            raise MappingError(
                f"TreeOptions of {self.name!r} names {attr!r}, which is no column attribute of table "
                f"{self.table.fullname!r}"
            )
        return prop
