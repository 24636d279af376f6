"""`TablePerAssociation`: a link table for each parent class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast, overload

from sqlalchemy import ColumnElement, Table
from sqlalchemy.orm import relationship

from .._typing import AnyMapper, AnyRelationship, MappedClass
from ._collection import (
    DEFAULT_CASCADE,
    AssociatedCollection,
    C,
    OrderBy,
    T,
    TableOptions,
    fill_table_name,
    make_reference,
    mapped_target,
    table_of,
)
from ._routes import Route, check_hidden_key, equals_by_key, hidden_key


class LinkRoute(Route):
    """A route through a link table."""

    learns_from_collection = True

    def equals(self, entity: object, parent: object) -> ColumnElement[bool]:
        """Return the criterion that `parent` is the parent."""
        return equals_by_key(self, entity, parent)


class TablePerAssociation(AssociatedCollection[C]):
    """A collection through a link table of each parent class, ``customer_addresses``; children stay in their one table.

    Both ends are foreign keys, and neither the parent's table nor the child's changes. The child's key is the primary
    key of the link table, so that the database allows a child one parent of a class.

    The arguments:

    - ``target``: the mapped class of the children, mapped before the parents.
    - ``order_by``: the name of an attribute of the target, or a function of the target.
    - ``collection_class``: as in ``relationship()``; a list by default.
    - ``cascade``: as in ``relationship()``. By default children belong to their parent: they are deleted with it, and
      when they are removed without being given to another. ``"save-update, merge"`` leaves them.
    - ``ondelete``: the rule of both foreign keys of the link table.
    - ``table_name``: the link table's name, in which ``{table}``, ``{attribute}`` and ``{cls}`` stand for the parent's.
    """

    @overload
    def __init__(
        self: TablePerAssociation[list[T]],
        target: type[T],
        *,
        order_by: OrderBy[T] = ...,
        **options: Unpack[TableOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TablePerAssociation[set[T]],
        target: type[T],
        *,
        collection_class: type[set[Any]],
        order_by: OrderBy[T] = ...,
        **options: Unpack[TableOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        target: type[T],
        *,
        collection_class: type[C] | Callable[[], C],
        order_by: OrderBy[T] = ...,
        **options: Unpack[TableOptions],
    ) -> None: ...
    def __init__(
        self,
        target: MappedClass,
        *,
        collection_class: Any = list,
        order_by: Any = None,
        cascade: str = DEFAULT_CASCADE,
        ondelete: str | None = "CASCADE",
        table_name: str = "{table}_{attribute}",
    ) -> None:
        """Configure the collection; the arguments are those of the class."""
        super().__init__(cascade=cascade, order_by=order_by, collection_class=collection_class)
        self._target = target
        self._ondelete = ondelete
        self._table_name = table_name

    def declare(self, parent: MappedClass) -> AnyRelationship:
        """Make the relationship of a class that is about to be mapped."""
        child = self._child_of(parent).class_
        return self.relationship(
            lambda: child,
            secondary=lambda: self._link(parent),
            back_populates=hidden_key("parent", parent, self.name),
            cascade=self.shared_cascade,
        )

    def add_tables(self, parent: AnyMapper) -> None:
        """Make the link table."""
        table, child = table_of(parent), table_of(self._child_of(parent.class_))
        name = fill_table_name(self._table_name, parent=parent.class_, table=table, attribute=self.name)
        # A class whose parents are of the class itself, or of one with a table of the same name, needs two prefixes.
        prefix = child.name if child.name != table.name else f"{child.name}_child"
        to_parent, parent_key = make_reference(
            table, prefix=table.name, ondelete=self._ondelete, nullable=False, index=True
        )
        to_child, child_key = make_reference(
            child, prefix=prefix, ondelete=self._ondelete, primary_key=True, autoincrement=False
        )
        columns = [*to_child, *to_parent]
        link = Table(name, table.metadata, *columns, child_key, parent_key, schema=table.schema)
        setattr(parent.class_, f"_{self.name}_link", link)

    def connect_child(self, parent: AnyMapper) -> Callable[[], MappedClass]:
        """Make the child's side."""
        child = self._child_of(parent.class_)
        key = hidden_key("parent", parent.class_, self.name)
        check_hidden_key(child.class_, key, parent.class_)
        link = self._link(parent.class_)
        # Without active_history, merge() would insert the link row of a parent that stays.
        hidden = relationship(
            parent.class_, secondary=link, uselist=False, back_populates=self.name, active_history=True
        )
        child.add_property(key, hidden)
        self.connect(LinkRoute(child.class_, key, parent.class_, self.name, owns=self.owns))
        return lambda: child.class_

    def _child_of(self, parent: MappedClass) -> AnyMapper:
        return mapped_target(self._target, strategy=type(self).__name__, parent=parent, name=self.name)

    def _link(self, parent: MappedClass) -> Table:
        return cast("Table", vars(parent)[f"_{self.name}_link"])
