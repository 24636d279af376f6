"""Make the class of history rows, which ``__history_mapper__`` maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlalchemy import Column, FromClause, Table
from sqlalchemy.orm import Mapped, declared_attr
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.orm.interfaces import MapperProperty

from .._sql import is_column
from .._typing import AnyColumn, AnyExpression, AnyMapper
from . import _tables
from ._config import TablePair, VersionConfig, columns_of
from ._names import CHANGED, REVISION, VALID_FROM, VERSION

_Columns: TypeAlias = "AnyExpression | tuple[AnyExpression, ...]"


def make_history_class(
    mapper: AnyMapper, history: Table | None, parent: VersionConfig | None, pairs: tuple[TablePair, ...]
) -> AnyMapper:
    """Map a class to a history table, and return its mapper.

    It is mapped imperatively, because the bases of the versioned class may be dataclasses, require arguments for
    ``__init__``, or have relationships and columns that would be mapped a second time.

    Args:
        mapper: The mapper of the versioned class.
        history: The history table; None for a class that shares the table of the class above.
        parent: The configuration of the class above, None for a root.
        pairs: The tables of the class.
    """
    cls = mapper.class_
    bases = _plain_bases(mapper) if parent is None else (parent.history.class_,)
    namespace: dict[str, object] = {"__module__": cls.__module__, "__doc__": f"A row of the history of {cls.__name__}."}
    if parent is None and not any("__init__" in vars(base) for base in _mro(bases)):
        namespace["__init__"] = mapper.registry.constructor
    # Not types.new_class: bases that have a metaclass were left out.
    history_cls = type(f"{cls.__name__}History", bases, namespace)
    options: dict[str, Any] = {"properties": _properties(mapper, history, parent, pairs)}
    if parent is not None:
        options["inherits"] = parent.history
    polymorphic_on = _polymorphic_on(mapper, pairs) if parent is None else None
    if polymorphic_on is not None:
        options["polymorphic_on"] = polymorphic_on
    if (parent is None and polymorphic_on is not None) or parent is not None:
        options["polymorphic_identity"] = mapper.polymorphic_identity
        if getattr(mapper, "polymorphic_abstract", False):
            options["polymorphic_abstract"] = True
    return mapper.registry.map_imperatively(history_cls, history, **options)


def _mro(bases: tuple[type[object], ...]) -> list[type[object]]:
    return [cls for base in bases for cls in base.__mro__ if cls is not object]


def _plain_bases(mapper: AnyMapper) -> tuple[type[object], ...]:
    """Return the bases of a versioned class that map nothing, so that a history row compares and prints like it."""
    return tuple(base for base in mapper.class_.__bases__ if base is not object and all(map(_is_plain, base.__mro__)))


def _is_plain(cls: type[object]) -> bool:
    """Return whether a class maps nothing and does not customize the creation of classes or instances."""
    if type(cls) is not type or "__init_subclass__" in vars(cls) or "__dataclass_fields__" in vars(cls):
        return cls is object
    mapped = (declared_attr, Mapped, MapperProperty, Column)
    return (
        not any(isinstance(value, mapped) or name == "__setattr__" for name, value in vars(cls).items())
        or cls is object
    )


def _polymorphic_on(mapper: AnyMapper, pairs: tuple[TablePair, ...]) -> AnyExpression | None:
    """Return the discriminator column, or expression, in the history table."""
    if mapper.polymorphic_on is None:
        return None
    return _tables.move_expression(mapper.polymorphic_on, pairs[-1].main, pairs[-1].history)


def _properties(
    mapper: AnyMapper, history: Table | None, parent: VersionConfig | None, pairs: tuple[TablePair, ...]
) -> dict[str, _Columns]:
    """Return the attributes that have another name than their column, or several columns, with these."""
    properties: dict[str, _Columns] = {}
    for column in pairs[-1].main.c:
        try:
            # Not by `mapper.attrs`, which would configure all mappers, although later classes are not mapped yet.
            name = str(mapper.get_property_by_column(column).key)
        except UnmappedColumnError:
            continue  # a column of another class of the same table
        if history is None and (parent is None or parent.mapper.has_property(name)):
            continue
        columns = columns_of(mapper, name)
        if history is None or len(columns) > 1 or columns[0].key != name:
            copies = _copies(columns, pairs)
            if copies and name not in {VERSION, VALID_FROM, REVISION}:
                properties[name] = copies[0] if len(copies) == 1 else copies
    if parent is not None and history is not None:
        properties[CHANGED] = (history.c[CHANGED], *columns_of(parent.history, CHANGED))
    return properties


def _copies(columns: Iterable[AnyColumn], pairs: tuple[TablePair, ...]) -> tuple[AnyColumn, ...]:
    """Return the columns of history tables that stand for the columns of an attribute."""
    history_of: dict[FromClause, Table] = {pair.main: pair.history for pair in pairs}
    copies = [
        history_of[column.table].c.get(column.key)
        for column in columns
        if is_column(column) and column.table in history_of
    ]
    return tuple(copy for copy in copies if copy is not None)
