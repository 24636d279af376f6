"""A link table for each parent class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast, overload

from sqlalchemy import ColumnElement, Table
from sqlalchemy.orm import Mapper, RelationshipProperty, relationship

from ._collection import (
    DEFAULT_CASCADE,
    AssociatedCollection,
    C,
    OrderBy,
    T,
    TableOptions,
    mapped_target,
    reference,
    table_name,
    table_of,
)
from ._routes import Route, check_hidden_key, equals_by_key, hidden_key

__all__ = ("TablePerAssociation",)


class LinkRoute(Route):
    """A route through a link table."""

    def equals(self, entity: Any, parent: Any) -> ColumnElement[bool]:
        """The criterion that `parent` is the parent."""
        return equals_by_key(self, entity, parent)


class TablePerAssociation(AssociatedCollection[C]):
    """A collection through a link table of each parent class, ``customer_addresses``; children stay in their one table.

    Both ends are foreign keys, and neither the parent's table nor the child's changes. The child's key is the primary key of the link
    table, so that the database allows a child one parent of a class.

    The arguments:

    - ``target``: the mapped class of the children, mapped before the parents.
    - ``order_by``: the name of an attribute of the target, or a function of the target.
    - ``collection_class``: as in ``relationship()``; a list by default.
    - ``cascade``: as in ``relationship()``. By default children belong to their parent: they are deleted with it, and when they are
      removed without being given to another. ``"save-update, merge"`` leaves them.
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
        target: type[Any],
        *,
        collection_class: Any = list,
        order_by: Any = None,
        cascade: str = DEFAULT_CASCADE,
        ondelete: str | None = "CASCADE",
        table_name: str = "{table}_{attribute}",
    ) -> None:
        """Say what is in the collection."""
        super().__init__(cascade=cascade, order_by=order_by, collection_class=collection_class)
        self._target = target
        self._ondelete = ondelete
        self._table_name = table_name

    def declare(self, parent: type[Any]) -> RelationshipProperty[Any]:
        """Make the relationship of a class that is about to be mapped."""
        child = mapped_target(self._target, "TablePerAssociation", parent, self.name).class_
        return self.relationship(
            lambda: child,
            secondary=lambda: self._link(parent),
            back_populates=hidden_key("parent", parent, self.name),
            cascade=self.shared_cascade,
        )

    def table(self, parent: Mapper[Any]) -> None:
        """Make the link table."""
        own, child = table_of(parent), table_of(mapped_target(self._target, "", parent.class_, self.name))
        name = table_name(self._table_name, parent.class_, own, self.name)
        # A class whose parents are of the class itself, or of one with a table of the same name, needs two prefixes.
        prefix = child.name if child.name != own.name else f"{child.name}_child"
        to_parent, parent_key = reference(own, own.name, self._ondelete, nullable=False, index=True)
        to_child, child_key = reference(child, prefix, self._ondelete, primary_key=True, autoincrement=False)
        columns = [*to_child, *to_parent]
        link = Table(name, own.metadata, *columns, child_key, parent_key, schema=own.schema)
        setattr(parent.class_, f"_{self.name}_link", link)

    def mapped(self, parent: Mapper[Any]) -> Callable[[], type[Any]]:
        """Make the child's side."""
        child = mapped_target(self._target, "TablePerAssociation", parent.class_, self.name)
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

    def _link(self, parent: type[Any]) -> Table:
        return cast("Table", vars(parent)[f"_{self.name}_link"])
