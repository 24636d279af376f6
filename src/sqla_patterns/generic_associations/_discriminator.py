"""One association table for all parent classes, with a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast, overload

from sqlalchemy import Column, ColumnElement, ForeignKey, Integer, String, Table
from sqlalchemy.orm import Mapper, RelationshipProperty, Session, foreign, object_session, relationship, remote

from .._declarative import listen_once
from .._locks import take_write_lock
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
from ._private import ANY_OVERLAP
from ._routes import Route, check_hidden_key, class_of, hidden_key, mapper_of, state_of

__all__ = ("DiscriminatorAssociation",)

_KEY = "association_id"
_LINK = "_association_class"
_PARENT_LINKS = "_association_links"
_MISSING = "sqla_patterns.generic_associations.missing"


class AssociationRoute(Route):
    """A route through the association row that the parent and its children share."""

    shares_columns = True

    def __init__(self, *args: Any, identity: str, own_key: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.identity = identity
        #: The attribute of the parent that holds the key of its association row.
        self.own_key = own_key

    def applies(self, child: Any) -> bool:
        """Whether the association row says that the parent is of this class."""
        session, key = object_session(child), getattr(child, _KEY)
        if session is None or key is None:
            return False
        with session.no_autoflush:
            association = session.get(getattr(self.child, _LINK), key)
        # The session refers to it weakly, and the next route asks the same.
        state_of(child).info[_LINK] = association
        return association is not None and association.discriminator == self.identity

    def assigned(self, child: Any, parent: Any) -> None:
        """Ask for an association row, if the parent is older than this strategy and has none."""
        session = object_session(parent)
        state = state_of(parent)
        if session is not None and state.persistent and state.dict.get(self.own_key) is None:
            session.info.setdefault(_MISSING, []).append((parent, self))

    def cleared(self, child: Any) -> None:
        """Belong to no association."""
        setattr(child, _KEY, None)

    def release(self, child: Any) -> None:
        """Take the child off the route, also where its association has no parent any more."""
        super().release(child)
        if getattr(child, _KEY) is not None:
            setattr(child, _KEY, None)

    def inserted(self, child: Any) -> None:
        """A row that was given an association by hand has a parent that is not in memory."""
        if getattr(child, _KEY) is None:
            super().inserted(child)

    @property
    def none_criterion(self) -> object:
        """What routes with the same criterion for none have in common."""
        return _KEY

    def is_none(self, entity: Any) -> ColumnElement[bool]:
        """The criterion that the child has no association."""
        return cast("ColumnElement[bool]", getattr(entity, _KEY).is_(None))


class DiscriminatorAssociation(AssociatedCollection[C]):
    """A collection through one association table for all parent classes, ``address_association``, with a discriminator.

    Each parent has a row there, made with the parent; the parent's table and the children's refer to it. The columns
    ``addresses_association_id`` of the parent and ``association_id`` of the child are added by the strategy.

    The arguments:

    - ``target``: the mapped class of the children, mapped before the parents.
    - ``identity``: what the discriminator holds; by default the name of the parent's table, so that renaming a class breaks no rows.
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
        target: type[Any],
        *,
        collection_class: Any = list,
        order_by: Any = None,
        identity: str | None = None,
        cascade: str = DEFAULT_CASCADE,
        ondelete: str | None = "CASCADE",
        table_name: str = "{table}_association",
    ) -> None:
        """Say what is in the collection."""
        super().__init__(cascade=cascade, order_by=order_by, collection_class=collection_class)
        self._target = target
        self._identity = identity
        self._ondelete = ondelete
        self._table_name = table_name

    @property
    def own_key(self) -> str:
        """The attribute of the parent that holds the key of its association row."""
        return f"{self.name}_association_id"

    @property
    def link(self) -> str:
        """The hidden relationship from the parent to its association row."""
        return f"_{self.name}_association"

    def declare(self, parent: type[Any]) -> RelationshipProperty[Any]:
        """Make the relationship of a class that is about to be mapped."""
        child = mapped_target(self._target, "DiscriminatorAssociation", parent, self.name)
        return self.relationship(
            lambda: child.class_,
            primaryjoin=lambda: mapper_of(parent).columns[self.own_key] == remote(foreign(child.columns[_KEY])),
            back_populates=hidden_key("parent", parent, self.name),
            cascade=self.shared_cascade,
            overlaps=ANY_OVERLAP,
        )

    def table(self, parent: Mapper[Any]) -> None:
        """Make the association table, unless another parent class has, and the parent's column."""
        child = mapped_target(self._target, "DiscriminatorAssociation", parent.class_, self.name)
        association = self._association(child)
        table = table_of(parent)
        if self.own_key in table.c:
            raise MappingError(
                f"{parent.class_.__name__}.{self.name} needs a column {self.own_key!r} in {table.fullname!r}, and there "
                "is one already; drop it, the strategy adds its own"
            )
        place = f"{parent.class_.__name__}.{self.name}"
        identity = self._identity or table.name
        taken: dict[str, str] = getattr(child.class_, _LINK).identities
        if (other := taken.setdefault(identity, place)) != place:
            raise MappingError(
                f"{place} and {other} would both store {identity!r} in {association.fullname!r}; give one of them another "
                "with identity="
            )
        table.append_column(Column(self.own_key, Integer, ForeignKey(association.c.id), unique=True))

    def mapped(self, parent: Mapper[Any]) -> Callable[[], type[Any]]:
        """Make both sides of the association."""
        cls = parent.class_
        child = mapped_target(self._target, "DiscriminatorAssociation", cls, self.name)
        link_class = getattr(child.class_, _LINK)
        table = table_of(parent)
        own = table.c[self.own_key]
        if self.own_key not in parent.columns:
            parent.add_property(self.own_key, own)
        parent.add_property(self.link, relationship(link_class, foreign_keys=[own], cascade="all"))
        key = hidden_key("parent", cls, self.name)
        check_hidden_key(child.class_, key, cls)
        condition = foreign(child.columns[_KEY]) == remote(own)
        hidden = relationship(cls, primaryjoin=condition, uselist=False, back_populates=self.name, overlaps=ANY_OVERLAP)
        child.add_property(key, hidden)
        identity = self._identity or table.name
        route = AssociationRoute(
            child.class_, key, cls, self.name, owns=self.owns, identity=identity, own_key=self.own_key
        )
        setattr(cls, _PARENT_LINKS, (*vars(cls).get(_PARENT_LINKS, ()), (self, route)))
        self.connect(route)
        listen_once(Session, "before_flush", _before_flush)
        return lambda: child.class_

    def associate(self, parent: Any, identity: str) -> None:
        """Give a parent its association row."""
        if getattr(parent, self.link) is None:
            association = getattr(self._target, _LINK)()
            association.discriminator = identity
            setattr(parent, self.link, association)

    def _association(self, child: Mapper[Any]) -> Table:
        if (existing := vars(child.class_).get(_LINK)) is not None:
            return cast("Table", mapper_of(existing).local_table)
        table = table_of(child)
        name = self._table_name.replace("{table}", table.name)
        full = name if table.schema is None else f"{table.schema}.{name}"
        if full in table.metadata.tables or _KEY in child.columns:
            raise MappingError(
                f"DiscriminatorAssociation({child.class_.__name__}) makes a table {full!r} and a column {_KEY!r} in "
                f"{table.fullname!r}, and one of them is there already; drop it, or choose another table with table_name="
            )
        association = Table(
            name,
            table.metadata,
            Column("id", Integer, primary_key=True),
            Column("discriminator", String(255), nullable=False),
            schema=table.schema,
        )
        link_name = f"{child.class_.__name__}Association"
        # Pickle finds a class by its place: an attribute of the child's class.
        place = {"__module__": child.class_.__module__, "__qualname__": f"{child.class_.__qualname__}.{_LINK}"}
        link_class = type(link_name, (), {"identities": {}, **place})
        child.registry.map_imperatively(link_class, association)
        column = Column(_KEY, Integer, ForeignKey(association.c.id, ondelete=self._ondelete), index=True)
        table.append_column(column)
        child.add_property(_KEY, column)
        setattr(child.class_, _LINK, link_class)
        return association


def _before_flush(session: Session, context: Any, instances: Any) -> None:
    """Give an association row to new parents, and to older ones that need it."""
    for parent in session.new:
        for collection, route in getattr(class_of(parent), _PARENT_LINKS, ()):
            collection.associate(parent, route.identity)
    missing: list[tuple[Any, AssociationRoute]] = session.info.pop(_MISSING, [])
    for parent, route in missing:
        if parent not in session or not state_of(parent).persistent:
            continue
        # Two transactions may be giving the same parent its first child: one association must win, so the row is locked.
        mapper = mapper_of(route.parent)
        take_write_lock(session.connection(bind_arguments={"mapper": mapper}), table_of(mapper))
        session.refresh(parent, [route.own_key], with_for_update=True)
        for collection, each in getattr(class_of(parent), _PARENT_LINKS, ()):
            if each is route and getattr(parent, route.own_key) is None:
                collection.associate(parent, route.identity)
