"""`TablePerRelated`: a table and a class of children for each parent class."""

from __future__ import annotations

from collections.abc import Callable
from types import new_class
from typing import Any, Unpack, cast, overload

from sqlalchemy import ColumnElement
from sqlalchemy.orm import MappedAsDataclass, mapped_column, relationship
from sqlalchemy.orm.attributes import set_attribute

from .._sqlalchemy import mapper_of
from .._typing import AnyMapper, AnyRelationship, MappedClass, MappedObject
from ..exceptions import MappingError
from ._collection import (
    DEFAULT_CASCADE,
    AssociatedCollection,
    C,
    OrderBy,
    T,
    TableOptions,
    fill_table_name,
    make_reference,
    related_class,
    table_of,
)
from ._inspection import is_mapped
from ._routes import Route, hidden_key


class RelatedRoute(Route):
    """The only route of a related class, an ordinary many-to-one."""

    is_one_of_several = False

    def is_none(self, entity: object) -> ColumnElement[bool]:
        """Return the criterion that the foreign key is NULL."""
        return self.attribute(entity) == None  # noqa: E711

    def release(self, child: object) -> list[MappedObject | None]:
        """Take the child off the route; SQLAlchemy finds the orphan."""
        if self.load(child) is not None:
            set_attribute(child, self.key, None)
        return []

    def set_absent_parent(self, child: object) -> None:
        """Do nothing: where the foreign key is NULL, SQLAlchemy emits no SELECT."""


class TablePerRelated(AssociatedCollection[C]):
    """A collection of a class made for the parent class, with a table of its own and an ordinary foreign key.

    The target is a mixin that is not mapped; ``related_class(Customer.addresses)`` is the class to construct. On
    dataclass bases the target is a `MappedAsDataclass` mixin.

    The arguments:

    - ``target``: the mixin with the children's columns, a primary key among them unless the declarative base has one.
    - ``ondelete``: the rule of the foreign key to the parent.
    - ``table_name``: the children's table, in which ``{table}``, ``{attribute}`` and ``{cls}`` stand for the parent's.
    - ``order_by``, ``collection_class``, ``cascade``: as for `TablePerAssociation`.
    """

    @overload
    def __init__(
        self: TablePerRelated[list[T]],
        target: type[T],
        *,
        order_by: OrderBy[T] = ...,
        **options: Unpack[TableOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TablePerRelated[set[T]],
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
        if not isinstance(cast("Any", self._target), type) or is_mapped(self._target):
            raise MappingError(
                f"TablePerRelated {parent.__name__}.{self.name} makes a class from a mixin, and {self._target!r} is "
                "mapped itself or no class; take its columns into a mixin, or use TablePerAssociation"
            )
        if issubclass(_base_of(parent), MappedAsDataclass) and not issubclass(self._target, MappedAsDataclass):
            raise MappingError(
                f"{parent.__name__} is on a dataclass base, so the target of {parent.__name__}.{self.name} must be a "
                f"dataclass too: class {self._target.__name__}(MappedAsDataclass)"
            )
        return self.relationship(
            lambda: related_class(getattr(parent, self.name)),
            back_populates=hidden_key("parent", parent, self.name),
            cascade=self.cascade,
        )

    def connect_child(self, parent: AnyMapper) -> Callable[[], MappedClass]:
        """Make and map the class of the children."""
        cls, table = parent.class_, table_of(parent)
        key = hidden_key("parent", cls, self.name)
        base = _base_of(cls)
        columns, constraint = make_reference(table, prefix=table.name, ondelete=self._ondelete)
        namespace: dict[str, object] = {
            "__module__": cls.__module__,
            "__qualname__": f"{cls.__qualname__}.{self._related_name(cls)}",
            "__doc__": f"What {cls.__name__}.{self.name} holds.",
            "__tablename__": fill_table_name(self._table_name, parent=cls, table=table, attribute=self.name),
            # After the columns of the mixin. A child that its parent owns cannot be without one.
            **{
                column.name: mapped_column(column.type, nullable=not self.owns, index=True, sort_order=1)
                for column in columns
            },
        }
        if table.schema is not None and not hasattr(self._target, "__table_args__"):
            namespace["__table_args__"] = {"schema": table.schema}
        related = new_class(
            self._related_name(cls), (self._target, base), exec_body=lambda body: body.update(namespace)
        )
        # Pickle finds a class by its name in its module, and a checker of references by its place.
        setattr(cls, related.__name__, related)
        mapper = mapper_of(related)
        table_of(mapper).append_constraint(constraint)
        keys = [table_of(mapper).c[column.name] for column in columns]
        mapper.add_property(key, relationship(cls, foreign_keys=keys, back_populates=self.name))
        self.connect(RelatedRoute(related, key, cls, self.name, owns=self.owns))
        return lambda: related

    def _related_name(self, parent: MappedClass) -> str:
        plain = f"{parent.__name__}{self._target.__name__}"
        return f"{plain}{self.name.title().replace('_', '')}" if plain in vars(parent) else plain


def _base_of(cls: MappedClass) -> type[Any]:
    """Return the declarative base of a class, which is the one that has the registry."""
    for base in cls.__mro__:
        if "registry" in vars(base) and not is_mapped(base):
            return base
    raise MappingError(f"TablePerRelated on {cls.__name__} needs a declarative base to derive the related class from")
