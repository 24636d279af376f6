"""`JoinedTable`: a table for each class of a hierarchy, joined by their keys."""

from __future__ import annotations

from sqlalchemy import ForeignKey, ForeignKeyConstraint
from sqlalchemy.orm import mapped_column

from .._declarative import attribute_key
from .._typing import AnyColumn, AnyMapper, MappedClass
from ._classes import add_constraint, declares, declares_key, name_table, table_of
from ._polymorphic import PolymorphicIdentity


class JoinedTable(PolymorphicIdentity):
    """A class hierarchy in which each subclass has a table for what it adds; otherwise as `PolymorphicIdentity`.

    A subclass gets a table, named like the class in snake case unless it or a base says ``__tablename__``, and in it a
    primary key that is a foreign key to that of its parent's table, under the names that the key has there. A subclass
    that declares a primary key itself, or has it from a mixin or an ``Annotated`` type, keeps it.

    Raises:
        MappingError: When a class is defined: a subclass says that it has no table; and what `PolymorphicIdentity`
            raises.
    """

    @classmethod
    def __sqla_prepare_subclass__(cls, parent: AnyMapper) -> dict[str, object]:
        if vars(cls).get("__table__") is None:
            name_table(cls, "PolymorphicIdentity")
            table = table_of(parent)
            if table is not None and not declares_key(cls):
                _refer_to_key(cls, parent, list(table.primary_key))
        return {}


def _refer_to_key(cls: MappedClass, parent: AnyMapper, key: list[AnyColumn]) -> None:
    names = {attribute_key(parent, column): column for column in key}
    if any(declares(cls, name) for name in names):
        return
    for name, column in names.items():
        # A part of a composite key is not unique: only the whole of it can be referred to.
        reference = (ForeignKey(column),) if len(key) == 1 else ()
        own = mapped_column(column.name, column.type, *reference, primary_key=True, autoincrement=False, sort_order=-1)
        type.__setattr__(cls, name, own)
    if len(key) > 1:
        add_constraint(cls, ForeignKeyConstraint([column.name for column in key], key))
