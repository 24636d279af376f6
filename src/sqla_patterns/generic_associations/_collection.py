"""`AssociatedCollection`: the attribute of the parent with the collection of children, the base of all strategies."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypedDict, TypeVar, cast, overload

from sqlalchemy import Column, ForeignKeyConstraint, Table
from sqlalchemy.orm import InstrumentedAttribute, declared_attr, relationship

from .._declarative import on_mapped
from .._functions import call_named
from .._sql import is_table
from .._sqlalchemy import mapper_of
from .._typing import AnyColumn, AnyMapper, AnyRelationship, MappedClass
from ..exceptions import InvalidArgumentError, MappingError
from ._inspection import is_mapped
from ._listeners import add_route, listen_to_child, listen_to_collection
from ._parent import AssociationParent
from ._routes import Route

C = TypeVar("C", bound=Collection[object])
T = TypeVar("T")

#: The name of an attribute of the target, or a function of the target.
OrderBy: TypeAlias = str | Callable[[type[T]], Any] | None

DEFAULT_CASCADE = "all, delete-orphan"
_TARGETS = "_association_targets"


class CollectionOptions(TypedDict, total=False):
    """The options of all strategies."""

    cascade: str


class TableOptions(CollectionOptions, total=False):
    """The options of the strategies that make a table."""

    ondelete: str | None
    table_name: str


if TYPE_CHECKING:

    class _Descriptor(Generic[C]):
        def __init__(self, fn: Callable[[MappedClass], object]) -> None: ...

        @overload
        def __get__(self, instance: None, owner: type[object]) -> InstrumentedAttribute[C]: ...
        @overload
        def __get__(self, instance: object, owner: type[object]) -> C: ...
        def __get__(self, instance: object, owner: type[object]) -> Any: ...

        def __set__(self, instance: object, value: C) -> None: ...
else:
    _Descriptor = declared_attr


class AssociatedCollection(_Descriptor[C]):
    """A collection of children, the base of the descriptors of the four strategies.

    SQLAlchemy evaluates a `declared_attr` for each class that it maps, whether it stands in a mixin or in the class
    itself, and puts the relationship in its place.
    """

    name = ""

    def __init__(self, *, cascade: str, order_by: Any, collection_class: Any) -> None:
        # Not the method itself: SQLAlchemy would take its return annotation for a dataclass field of the parent.
        super().__init__(lambda cls: self._declare(cls))  # noqa: PLW0108
        self.cascade = cascade
        tokens = {token.strip() for token in cascade.split(",")}
        self.owns = "delete-orphan" in tokens
        self.shared_cascade = ", ".join(sorted(tokens - {"delete-orphan"}))
        self.order_by = order_by
        self.collection_class = collection_class

    def __set_name__(self, owner: type[object], name: str) -> None:
        """Store the name of the attribute."""
        self.name = name

    # -- for the strategies --------------------------------------------------------------------------

    def declare(self, parent: MappedClass) -> AnyRelationship:
        """Make the relationship of a class that is about to be mapped."""
        raise NotImplementedError

    def add_tables(self, parent: AnyMapper) -> None:
        """Add the tables and columns that the strategy needs; the parent has a table, and no attributes yet."""

    def connect_child(self, parent: AnyMapper) -> Callable[[], MappedClass]:
        """Make the child's side; the parent has its attributes. Return a function that returns the children's class."""
        raise NotImplementedError

    def relationship(self, child: Callable[[], MappedClass], **options: Any) -> AnyRelationship:
        """Make the relationship with the options that all strategies take."""
        if self.order_by is not None:
            options["order_by"] = lambda: self._ordering(child())
        return cast("AnyRelationship", relationship(child, collection_class=self.collection_class, **options))

    def connect(self, route: Route) -> None:
        """Register a route, and listen to both of its sides."""
        add_route(route)
        ensure_parent_attribute(route.child)
        listen_to_child(route)
        listen_to_collection(route.parent, self.name, lambda: route)

    # ------------------------------------------------------------------------------------------------

    def _declare(self, parent: MappedClass) -> AnyRelationship:
        if not self.name:
            raise MappingError(f"{type(self).__name__} on {parent.__name__} has no name: write it in the class body")
        on_mapped(parent, table=self.add_tables, constructed=self._construct)
        return self.declare(parent)

    def _construct(self, parent: AnyMapper) -> None:
        child = self.connect_child(parent)
        cls = parent.class_
        setattr(cls, _TARGETS, {**vars(cls).get(_TARGETS, {}), self.name: child})

    def _ordering(self, child: MappedClass) -> object:
        if not isinstance(self.order_by, str):
            return call_named(lambda: self.order_by(child), f"order_by of {self.name!r}")
        if (attribute := getattr(child, self.order_by, None)) is None:
            raise MappingError(
                f"{self.name!r} is ordered by {self.order_by!r}, and {child.__name__} has no such attribute; "
                "order_by takes the name of an attribute, or a function of the class"
            )
        return attribute


@overload
def related_class(attribute: InstrumentedAttribute[dict[Any, T]]) -> type[T]: ...
@overload
def related_class(attribute: InstrumentedAttribute[list[T]] | InstrumentedAttribute[set[T]]) -> type[T]: ...
@overload
def related_class(attribute: InstrumentedAttribute[Any]) -> type[Any]: ...
def related_class(attribute: InstrumentedAttribute[Any]) -> type[Any]:
    """Return the mapped class of the members of a collection.

    With `TablePerRelated` this is the class to construct and to select; with the other strategies it is their target.

    Raises:
        InvalidArgumentError: no strategy of this package has made the attribute.
    """
    # Not from the relationship: that would configure the mappers, and the module that asks may be half imported.
    owner: MappedClass = getattr(attribute, "class_", object)
    for base in owner.__mro__:
        if (found := vars(base).get(_TARGETS, {}).get(attribute.key)) is not None:
            return cast("MappedClass", found())
    raise InvalidArgumentError(
        f"{attribute} is not a collection of this library; give an attribute as in related_class(Customer.addresses)"
    )


# -- helpers of the strategies -----------------------------------------------------------------------


def mapped_target(target: MappedClass, *, strategy: str, parent: MappedClass, name: str) -> AnyMapper:
    """Return the mapper of a target that must be mapped already.

    Raises:
        MappingError: it is not mapped.
    """
    if not is_mapped(target):
        raise MappingError(
            f"{strategy} {parent.__name__}.{name} needs a mapped class, and {target!r} is none; map it before "
            f"{parent.__name__}, since its key is needed for the table"
        )
    return mapper_of(target)


def ensure_parent_attribute(child: MappedClass) -> None:
    """Give a child class the attribute ``parent``, unless it has an `AssociationParent` or that attribute."""
    if any(isinstance(value, AssociationParent) for base in child.__mro__ for value in vars(base).values()):
        return
    if not hasattr(child, "parent"):
        attribute = AssociationParent[object]()
        attribute.name = "parent"
        child.parent = attribute


def table_of(mapper: AnyMapper) -> Table:
    """Return the table of the class itself, which for a joined subclass is not that of its base.

    Raises:
        MappingError: the class is mapped to something else than a table, such as a join or a query.
    """
    table = mapper.local_table
    if not is_table(table):
        raise MappingError(f"{mapper.class_.__name__} is not mapped to a table, so nothing can refer to it")
    return table


def make_reference(
    table: Table, *, prefix: str, ondelete: str | None, **options: Any
) -> tuple[list[AnyColumn], ForeignKeyConstraint]:
    """Return columns that refer to the primary key of `table`, of any shape, and their foreign key constraint.

    Columns without a type take that of the key, once SQLAlchemy has resolved the constraint.
    """
    keys = list(table.primary_key)
    columns: list[AnyColumn] = [Column(f"{prefix}_{key.name}", key.type, **options) for key in keys]
    constraint = ForeignKeyConstraint([column.name for column in columns], keys, ondelete=ondelete)
    return columns, constraint


def fill_table_name(template: str, *, parent: MappedClass, table: Table, attribute: str) -> str:
    """Return the name of a table, from a template.

    Raises:
        MappingError: the template names something unknown, or the name is taken.
    """
    try:
        name = template.format(table=table.name, attribute=attribute, cls=parent.__name__)
    except (KeyError, IndexError) as error:
        raise MappingError(
            f"table_name={template!r} of {parent.__name__}.{attribute} names {error}; it can name {{table}}, "
            "{attribute} and {cls}"
        ) from None
    full = name if table.schema is None else f"{table.schema}.{name}"
    if full in table.metadata.tables:
        raise MappingError(
            f"{parent.__name__}.{attribute} needs a table {full!r}, and there is one already; "
            "choose another with table_name="
        )
    return name
