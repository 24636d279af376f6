"""`DiscriminatorAssociation`: one association table for all parent classes, with a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast, overload

from sqlalchemy import Column, ColumnElement, ForeignKey, Integer, String, Table, select
from sqlalchemy.orm import Session, foreign, object_session, relationship, remote
from sqlalchemy.orm.attributes import set_attribute, set_committed_value

from .._declarative import listen_once
from .._locks import lock_rows, take_write_lock
from .._maintained import column_added
from .._sql import structural
from .._sqlalchemy import ANY_OVERLAP, mapper_of, state_of
from .._typing import AnyMapper, AnyRelationship, MappedClass, MappedObject
from ..exceptions import MappingError
from ._collection import (
    DEFAULT_CASCADE,
    AssociatedCollection,
    C,
    OrderBy,
    T,
    TableOptions,
    mapped_target,
    table_of,
)
from ._inspection import class_of
from ._routes import Route, check_hidden_key, hidden_key

_KEY = "association_id"
_ASSOCIATION_CLASS = "_association_class"
_PARENT_ASSOCIATIONS = "_association_links"
_MISSING = "sqla_patterns.generic_associations.missing"


class AssociationRoute(Route):
    """A route through the association row that the parent and its children share."""

    shares_columns = True
    learns_from_collection = True

    def __init__(
        self,
        child: MappedClass,
        key: str,
        parent: MappedClass,
        collection: str,
        *,
        owns: bool,
        identity: str,
        association_key: str,
    ) -> None:
        super().__init__(child, key, parent, collection, owns=owns)
        self.identity = identity
        #: The attribute of the parent that holds the key of its association row.
        self.association_key = association_key

    @property
    def written_attributes(self) -> tuple[str, ...]:
        """Return the attributes of the child that this route writes."""
        return (_KEY,)

    def may_apply(self, child: object) -> bool:
        """Return whether the association row says that the parent is of this class."""
        session, key = object_session(child), getattr(child, _KEY)
        if session is None or key is None:
            return False
        with session.no_autoflush:
            association = session.get(getattr(self.child, _ASSOCIATION_CLASS), key)
        # The session refers to it weakly, and the next route asks the same.
        state_of(child).info[_ASSOCIATION_CLASS] = association
        return association is not None and association.discriminator == self.identity

    def refer_to(self, child: object, parent: object) -> None:
        """Request an association row, if the parent has none since its row is older than this strategy."""
        session = object_session(parent)
        state = state_of(parent)
        if session is not None and state.persistent and state.dict.get(self.association_key) is None:
            # Once for each parent. It is held, so that its id() stays its own.
            session.info.setdefault(_MISSING, {})[id(parent), self.key] = (parent, self)

    def clear_columns(self, child: object) -> None:
        """Set the key of the association to None."""
        set_attribute(child, _KEY, None)

    def release(self, child: object) -> list[MappedObject | None]:
        """Take the child off the route, also where its association has no parent any more."""
        unreported = super().release(child)
        if getattr(child, _KEY) is not None:
            set_attribute(child, _KEY, None)
            unreported.append(None)
        return unreported

    def set_absent_parent(self, child: object) -> None:
        """Leave a child alone that was given an association by hand, since it has a parent that is not in memory."""
        if getattr(child, _KEY) is None:
            super().set_absent_parent(child)

    @property
    def none_criterion(self) -> object:
        """Return what routes with the same criterion for no parent have in common."""
        return _KEY

    def is_none(self, entity: object) -> ColumnElement[bool]:
        """Return the criterion that the child has no association."""
        return cast("ColumnElement[bool]", getattr(entity, _KEY).is_(None))


class DiscriminatorAssociation(AssociatedCollection[C]):
    """A collection through one association table for all parent classes, ``address_association``, with a discriminator.

    Each parent has a row there, made with the parent; the parent's table and the children's refer to it. The columns
    ``addresses_association_id`` of the parent and ``association_id`` of the child are added by the strategy.

    The arguments:

    - ``target``: the mapped class of the children, mapped before the parents.
    - ``identity``: what the discriminator holds; by default the name of the parent's table, so that renaming a class
      breaks no rows.
    - ``ondelete``: the rule of the children's foreign key.
    - ``table_name``: the name of the association table, where ``{table}`` is the *child's*; the same for all parents.
    - ``order_by``, ``collection_class``, ``cascade``: as for `TablePerAssociation`.
    """

    @overload
    def __init__(
        self: DiscriminatorAssociation[list[T]],
        target: type[T],
        *,
        order_by: OrderBy[T] = ...,
        identity: str | None = ...,
        **options: Unpack[TableOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DiscriminatorAssociation[set[T]],
        target: type[T],
        *,
        collection_class: type[set[Any]],
        order_by: OrderBy[T] = ...,
        identity: str | None = ...,
        **options: Unpack[TableOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        target: type[T],
        *,
        collection_class: type[C] | Callable[[], C],
        order_by: OrderBy[T] = ...,
        identity: str | None = ...,
        **options: Unpack[TableOptions],
    ) -> None: ...
    def __init__(
        self,
        target: MappedClass,
        *,
        collection_class: Any = list,
        order_by: Any = None,
        identity: str | None = None,
        cascade: str = DEFAULT_CASCADE,
        ondelete: str | None = "CASCADE",
        table_name: str = "{table}_association",
    ) -> None:
        """Configure the collection; the arguments are those of the class."""
        super().__init__(cascade=cascade, order_by=order_by, collection_class=collection_class)
        self._target = target
        self._identity = identity
        self._ondelete = ondelete
        self._table_name = table_name

    @property
    def association_key(self) -> str:
        """Return the attribute of the parent that holds the key of its association row."""
        return f"{self.name}_association_id"

    @property
    def association_attribute(self) -> str:
        """Return the name of the hidden relationship from the parent to its association row."""
        return f"_{self.name}_association"

    def declare(self, parent: MappedClass) -> AnyRelationship:
        """Make the relationship of a class that is about to be mapped."""
        child = self._child_of(parent)
        return self.relationship(
            lambda: child.class_,
            primaryjoin=lambda: mapper_of(parent).columns[self.association_key] == remote(foreign(child.columns[_KEY])),
            back_populates=hidden_key("parent", parent, self.name),
            cascade=self.shared_cascade,
            overlaps=ANY_OVERLAP,
        )

    def add_tables(self, parent: AnyMapper) -> None:
        """Make the association table, unless another parent class has, and the parent's column."""
        child = self._child_of(parent.class_)
        association = self._association_table(child)
        table = table_of(parent)
        if self.association_key in table.c:
            raise MappingError(
                f"{parent.class_.__name__}.{self.name} needs a column {self.association_key!r} in {table.fullname!r}, "
                "and there is one already; drop it, the strategy adds its own"
            )
        place = f"{parent.class_.__name__}.{self.name}"
        identity = self._identity or table.name
        taken: dict[str, str] = getattr(child.class_, _ASSOCIATION_CLASS).identities
        if (other := taken.setdefault(identity, place)) != place:
            raise MappingError(
                f"{place} and {other} would both store {identity!r} in {association.fullname!r}; give one of them "
                "another with identity="
            )
        table.append_column(Column(self.association_key, Integer, ForeignKey(association.c.id), unique=True))

    def connect_child(self, parent: AnyMapper) -> Callable[[], MappedClass]:
        """Make both sides of the association."""
        cls = parent.class_
        child = self._child_of(cls)
        association_class = getattr(child.class_, _ASSOCIATION_CLASS)
        table = table_of(parent)
        parent_column = table.c[self.association_key]
        if self.association_key not in parent.columns:
            parent.add_property(self.association_key, parent_column)
        parent.add_property(
            self.association_attribute, relationship(association_class, foreign_keys=[parent_column], cascade="all")
        )
        key = hidden_key("parent", cls, self.name)
        check_hidden_key(child.class_, key, cls)
        condition = foreign(child.columns[_KEY]) == remote(parent_column)
        hidden = relationship(cls, primaryjoin=condition, uselist=False, back_populates=self.name, overlaps=ANY_OVERLAP)
        child.add_property(key, hidden)
        identity = self._identity or table.name
        route = AssociationRoute(
            child.class_, key, cls, self.name, owns=self.owns, identity=identity, association_key=self.association_key
        )
        setattr(cls, _PARENT_ASSOCIATIONS, (*vars(cls).get(_PARENT_ASSOCIATIONS, ()), (self, route)))
        self.connect(route)
        listen_once(Session, "before_flush", _before_flush)
        return lambda: child.class_

    def add_association(self, parent: object, identity: str) -> None:
        """Give a parent its association row, unless it has one."""
        if getattr(parent, self.association_attribute) is None:
            association = getattr(self._target, _ASSOCIATION_CLASS)()
            association.discriminator = identity
            set_attribute(parent, self.association_attribute, association)

    def _child_of(self, parent: MappedClass) -> AnyMapper:
        return mapped_target(self._target, strategy=type(self).__name__, parent=parent, name=self.name)

    def _association_table(self, child: AnyMapper) -> Table:
        """Return the association table of a child class, made if it is not there yet."""
        # Not from vars(): a subclass of a child class has the column and the association of its base.
        if (existing := getattr(child.class_, _ASSOCIATION_CLASS, None)) is not None:
            return cast("Table", mapper_of(existing).local_table)
        table = table_of(child)
        name = self._table_name.replace("{table}", table.name)
        full = name if table.schema is None else f"{table.schema}.{name}"
        if full in table.metadata.tables or _KEY in child.columns:
            raise MappingError(
                f"DiscriminatorAssociation({child.class_.__name__}) makes a table {full!r} and a column {_KEY!r} in "
                f"{table.fullname!r}, and one of them is there already; drop it, or choose another table with "
                "table_name="
            )
        association = Table(
            name,
            table.metadata,
            Column("id", Integer, primary_key=True),
            Column("discriminator", String(255), nullable=False),
            schema=table.schema,
        )
        class_name = f"{child.class_.__name__}Association"
        # Pickle finds a class by its module and qualified name: it is an attribute of the child's class.
        place = {
            "__module__": child.class_.__module__,
            "__qualname__": f"{child.class_.__qualname__}.{_ASSOCIATION_CLASS}",
        }
        association_class = type(class_name, (), {"identities": {}, **place})
        child.registry.map_imperatively(association_class, association)
        column = Column(_KEY, Integer, ForeignKey(association.c.id, ondelete=self._ondelete), index=True)
        table.append_column(column)
        child.add_property(_KEY, column)
        column_added(child.class_)
        setattr(child.class_, _ASSOCIATION_CLASS, association_class)
        return association


def _before_flush(session: Session, context: object, instances: object) -> None:
    """Give an association row to new parents, and to older ones that need it."""
    for parent in session.new:
        for collection, route in getattr(class_of(parent), _PARENT_ASSOCIATIONS, ()):
            collection.add_association(parent, route.identity)
    missing: dict[tuple[int, str], tuple[MappedObject, AssociationRoute]] = session.info.pop(_MISSING, {})
    for parent, route in missing.values():
        if parent not in session or not state_of(parent).persistent:
            continue
        # Loaded if it has only been expired: most parents have their association, and need no lock.
        if getattr(parent, route.association_key) is None:
            _add_late_association(session, parent, route)


def _add_late_association(session: Session, parent: object, route: AssociationRoute) -> None:
    """Give a parent older than the strategy its association, unless another transaction has just done so."""
    mapper = mapper_of(route.parent)
    table = table_of(mapper)
    connection = session.connection(bind_arguments={"mapper": mapper, "instance": parent})
    # Two transactions may be giving the same parent its first child: only one may make the association, so the row is
    # locked.
    take_write_lock(connection, table)
    # A read of the one column by Core: refresh() would touch what the user has in memory, and fails for a
    # version_id_col.
    values = [getattr(parent, mapper.get_property_by_column(column).key) for column in table.primary_key]
    pairs = zip(table.primary_key, values, strict=True)
    statement = select(table.c[route.association_key]).where(*(column == value for column, value in pairs))
    key = connection.scalar(structural(lock_rows(connection, statement, table)))
    for collection, each in getattr(class_of(parent), _PARENT_ASSOCIATIONS, ()):
        if each is not route:
            continue
        if key is None:
            collection.add_association(parent, route.identity)
        else:
            set_committed_value(parent, route.association_key, key)
            # The relationship may have been loaded when there was no association.
            session.expire(parent, [collection.association_attribute])
