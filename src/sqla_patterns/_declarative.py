"""Helpers for mixins that add columns and relationships to classes on any declarative base.

`mixin_attr` builds an attribute that plain and dataclass bases both accept. `on_mapped` runs a function when a class is
mapped, so that nothing happens on import. The rest reads mappers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Computed, Table, event
from sqlalchemy.orm import ColumnProperty, Mapper, declared_attr

from .exceptions import MappingError

__all__ = ("attribute_key", "keep_onupdate", "listen_once", "mixin_attr", "on_mapped", "sole_primary_key")

if TYPE_CHECKING:
    mixin_attr = declared_attr
else:

    def mixin_attr(fn: Callable[[type], Any]) -> declared_attr:
        """Like `sqlalchemy.orm.declared_attr`, without the return annotation at run time.

        SQLAlchemy 2.1 refuses an annotated attribute of a plain mixin on a `MappedAsDataclass` base, as 2.0 deprecates it;
        an unannotated one is taken as a mapped attribute that is no dataclass field. Type, nullability, target and
        ``uselist`` must therefore be written out in the body.
        """
        fn.__annotations__.pop("return", None)
        return declared_attr(fn)


def listen_once(target: Any, identifier: str, fn: Callable[..., Any], **options: Any) -> None:
    """Listen unless `fn` already does.

    `event.contains` and no flag of ours: test suites remove all listeners, and the next mapped class must bring ours
    back.
    """
    if not event.contains(target, identifier, fn):
        event.listen(target, identifier, fn, **options)


def on_mapped(
    cls: type[Any],
    *,
    table: Callable[[Mapper[Any]], None] | None = None,
    constructed: Callable[[Mapper[Any]], None] | None = None,
) -> None:
    """Call functions while `cls` is mapped: `table` as soon as it has one, `constructed` when its attributes are instrumented.

    Meant for the body of a `mixin_attr`, which SQLAlchemy evaluates while it maps a class: that works for declarative bases, for
    ``registry.mapped`` and for classes that never call ``super().__init_subclass__()``.
    """
    # "instrument_class" is the earliest event that sees the table: the mapper has not looked at the columns' types yet.
    for identifier, fn in (
        ("instrument_class", table),
        ("after_mapper_constructed", constructed),
    ):
        if fn is not None:
            event.listen(cls, identifier, _with_mapper_only(fn))


def _with_mapper_only(fn: Callable[[Mapper[Any]], None]) -> Callable[[Mapper[Any], type[Any]], None]:
    def listener(mapper: Mapper[Any], _: type[Any]) -> None:
        fn(mapper)

    return listener


def sole_primary_key(table: Table, cls: type[Any], pattern: str) -> Column[Any]:
    """The only primary key column of `table`.

    Raises:
        MappingError: the key is composite or missing; `pattern` names the mixin that needs it.
    """
    columns = list(table.primary_key)
    if len(columns) != 1:
        found = ", ".join(repr(column.name) for column in columns) or "none"
        raise MappingError(
            f"{pattern} on {cls.__name__!r} needs a primary key of one column, and table {table.fullname!r} has {found}; "
            "give the class a surrogate key and put a UniqueConstraint over the other columns"
        )
    return columns[0]


def attribute_key(mapper: Mapper[Any], column: Column[Any]) -> str:
    """The name of the attribute that maps `column`, which need not be the column's name."""
    prop = mapper.get_property_by_column(column)
    return str(prop.key) if isinstance(prop, ColumnProperty) else column.key


def keep_onupdate(table: Table) -> dict[Column[Any], Any]:
    """Values that hold the ``onupdate`` columns of `table` still in a Core UPDATE of the library's own bookkeeping.

    A row that moves aside for a sibling was not edited by the user, so neither its ``updated_at`` nor MariaDB's
    ``ON UPDATE CURRENT_TIMESTAMP`` may fire.
    """
    return {
        column: column
        for column in table.c
        if (column.onupdate is not None or column.server_onupdate is not None)
        and not isinstance(column.server_onupdate, Computed)
    }
