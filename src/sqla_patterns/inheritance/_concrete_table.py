"""`ConcreteTable`: a table with all columns for each class of a hierarchy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Table
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    RelationshipProperty,
    SynonymProperty,
    composite,
    relationship,
    synonym,
)

from .._sqlalchemy import joins_by_hand, mapped_copy, own_mapper_of
from .._typing import AnyMapper, AnyRelationship, MappedClass
from ..exceptions import MappingError
from ._classes import add_constraint, declares, name_table, table_of
from ._polymorphic import Polymorphic

#: The name of the column that the union of the tables has and they have not. Not "type", which a table may well have.
_DISCRIMINATOR: Final = "sqla_concrete_type"


class ConcreteTable(Polymorphic, ConcreteBase):
    """A class hierarchy in which each class has a table with all of its columns.

    Mix it into the first class, before the declarative base. A subclass gets a table, named like the class in snake
    case unless it or a base says ``__tablename__``, with the columns of its parent, their foreign keys included, and
    with the parent's references to other classes, synonyms and composites. What it declares itself under the same name
    replaces that. There is no column for the identity, which is the name of the class in snake case, or the class
    argument ``identity``.

    Not repeated are constraints over several columns and indexes from ``__table_args__``, relationships whose foreign
    key is in the other table, or that were told how to join, and ``column_property()`` of an SQL expression: they are
    about one table. SQLAlchemy says so when such an attribute of an object is used; in a statement it is still that of
    the parent's table, so declare it on the subclass.

    Raises:
        MappingError: When a class is defined: its identity is that of another class; it says that it has no table;
            mappers were configured already, so that queries would not find it; or the mixin stands after the
            declarative base.
    """

    __sqla_discriminated__: ClassVar[bool] = False
    _concrete_discriminator_name: ClassVar[str] = _DISCRIMINATOR

    if not TYPE_CHECKING:

        @classmethod
        def __declare_first__(cls):
            # SQLAlchemy 2.0 calls it before it configures any mapper of the process, also when the registry of this
            # class was disposed.
            if own_mapper_of(cls) is not None:
                super().__declare_first__()

    @classmethod
    def __sqla_prepare_subclass__(cls, parent: AnyMapper) -> dict[str, object]:
        if parent.with_polymorphic is not None:
            raise MappingError(
                f"{cls.__name__} was defined after queries for {parent.class_.__name__} were prepared, which would not "
                "find it; define all classes of a ConcreteTable before the mappers are configured, which the first "
                "query or object does"
            )
        if vars(cls).get("__table__") is None:
            name_table(cls, "PolymorphicIdentity")
            table = table_of(parent)
            if table is not None:
                _repeat_columns(cls, parent, table)
        _repeat_references(cls, parent)
        _repeat_views_of_columns(cls, parent)
        return {"concrete": True}


def _repeat_columns(cls: MappedClass, parent: AnyMapper, table: Table) -> None:
    repeated: set[str] = set()
    for key, prop in _properties(parent):
        if isinstance(prop, ColumnProperty) and not declares(cls, key):
            column = prop.columns[0]
            if isinstance(column, Column) and column.table is table:
                own = mapped_copy(column, deferred=prop.deferred)
                for reference in column.foreign_keys:
                    if _is_simple(reference):
                        own.column.append_foreign_key(_copied(reference))
                type.__setattr__(cls, key, own)
                repeated.add(column.name)
    for constraint in table.foreign_key_constraints:
        names = [column.name for column in constraint.columns]
        if len(names) > 1 and repeated.issuperset(names):
            targets = [element.target_fullname for element in constraint.elements]
            add_constraint(cls, ForeignKeyConstraint(names, targets, **_options(constraint)))


def _is_simple(reference: ForeignKey) -> bool:
    return reference.constraint is None or len(reference.constraint.elements) == 1


def _copied(reference: ForeignKey) -> ForeignKey:
    # By its name: the table may not exist yet, and metadata that refers to itself by names pickles.
    return ForeignKey(reference.target_fullname, **_options(reference))


def _options(reference: ForeignKey | ForeignKeyConstraint) -> dict[str, Any]:
    # Not the name: MariaDB wants names of foreign keys to be unique in the whole database.
    names = ("onupdate", "ondelete", "deferrable", "initially", "use_alter", "match")
    return {name: getattr(reference, name) for name in names}


def _repeat_references(cls: MappedClass, parent: AnyMapper) -> None:
    for key, prop in _properties(parent):
        if isinstance(prop, RelationshipProperty) and not declares(cls, key):
            relation = cast("Any", prop)
            if _is_reference(relation):
                type.__setattr__(cls, key, _repeated(relation))


def _repeat_views_of_columns(cls: MappedClass, parent: AnyMapper) -> None:
    """Repeat synonyms and composites; those of the parent would put columns of its table into statements."""
    for key, prop in _properties(parent):
        if declares(cls, key):
            continue
        if isinstance(prop, SynonymProperty):
            type.__setattr__(cls, key, synonym(prop.name, descriptor=prop.descriptor))
        elif isinstance(prop, CompositeProperty):
            view = cast("Any", prop)
            attributes = [each.key for each in view.props]
            type.__setattr__(cls, key, composite(view.composite_class, *attributes))


def _is_reference(relation: AnyRelationship) -> bool:
    """Return whether a relationship is a plain reference; its direction is not known before mappers are configured."""
    return relation.uselist is not True and not relation.viewonly and not joins_by_hand(relation)


def _repeated(relation: Any) -> object:
    back = relation.back_populates
    if back is None and relation.backref is not None:
        back = relation.backref if isinstance(relation.backref, str) else relation.backref[0]
    names = (
        "uselist",
        "lazy",
        "innerjoin",
        "passive_deletes",
        "passive_updates",
        "post_update",
        "active_history",
        "doc",
    )
    options = {name: getattr(relation, name) for name in names}
    return relationship(relation.argument, back_populates=back, cascade=", ".join(sorted(relation.cascade)), **options)


def _properties(mapper: AnyMapper) -> Iterator[tuple[str, Any]]:
    # Not mapper.attrs, which would configure the mappers before the subclass is one of them.
    for key in list(mapper.class_manager):
        if mapper.has_property(key):
            yield key, mapper.get_property(key)
