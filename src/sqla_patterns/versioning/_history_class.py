"""The class of history rows, as ``__history_mapper__`` shows it."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy.orm import ColumnProperty, Mapped, Mapper, declared_attr
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.orm.interfaces import MapperProperty

from . import _tables
from ._config import TablePair, VersionConfig

__all__ = ("make_history_class",)


def make_history_class(
    mapper: Mapper[Any], history: Table | None, parent: VersionConfig | None, pairs: tuple[TablePair, ...]
) -> Mapper[Any]:
    """Map a class to `history`, or where it is None to the history of the class above.

    Imperatively: the entity's own bases may be dataclasses, want arguments for ``__init__``, or hold relationships and columns that would be
    mapped a second time.
    """
    cls = mapper.class_
    bases = _plain_bases(mapper) if parent is None else (parent.history.class_,)
    namespace: dict[str, Any] = {"__module__": cls.__module__, "__doc__": f"A row of the history of {cls.__name__}."}
    if parent is None and not any("__init__" in vars(base) for base in _mro(bases)):
        namespace["__init__"] = mapper.registry.constructor
    # Not types.new_class: metaclasses are left behind with the bases that have them.
    history_cls = type(f"{cls.__name__}History", bases, namespace)
    properties = _properties(mapper, history, parent, pairs)
    options: dict[str, Any] = {"properties": properties}
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


def _mro(bases: tuple[type[Any], ...]) -> list[type[Any]]:
    return [cls for base in bases for cls in base.__mro__ if cls is not object]


def _plain_bases(mapper: Mapper[Any]) -> tuple[type[Any], ...]:
    """The bases of the entity that add behaviour and map nothing, so that a history row compares and prints as its entity does."""
    return tuple(base for base in mapper.class_.__bases__ if base is not object and all(map(_is_plain, base.__mro__)))


def _is_plain(cls: type[Any]) -> bool:
    if type(cls) is not type or "__init_subclass__" in vars(cls) or "__dataclass_fields__" in vars(cls):
        return cls is object
    mapped = (declared_attr, Mapped, MapperProperty, Column)
    return (
        not any(isinstance(value, mapped) or name == "__setattr__" for name, value in vars(cls).items())
        or cls is object
    )


def _polymorphic_on(mapper: Mapper[Any], pairs: tuple[TablePair, ...]) -> ColumnElement[Any] | None:
    on: Any = mapper.polymorphic_on
    if on is None:
        return None
    pair = pairs[-1]
    return cast("ColumnElement[Any] | None", _tables.move_expression(on, pair.main, pair.history))


def _properties(
    mapper: Mapper[Any], history: Table | None, parent: VersionConfig | None, pairs: tuple[TablePair, ...]
) -> dict[str, Any]:
    """Attributes that are not called as their column is, or that stand for several."""
    properties: dict[str, Any] = {}
    for column in pairs[-1].main.c:
        try:
            # Not by `mapper.attrs`, which would have all mappers configured, and classes that come further down are not there yet.
            attr: Any = mapper.get_property_by_column(column)
        except UnmappedColumnError:
            continue  # a column of another class of the same table
        if history is None and (parent is None or parent.mapper.has_property(attr.key)):
            continue
        if history is None or len(attr.columns) > 1 or attr.columns[0].key != attr.key:
            moved = _moved(attr, pairs)
            if moved is not None and attr.key not in {_tables.VERSION, _tables.VALID_FROM, _tables.REVISION}:
                properties[attr.key] = moved
    if parent is not None and history is not None:
        changed: Any = parent.history.get_property(_tables.CHANGED)
        properties[_tables.CHANGED] = (history.c[_tables.CHANGED], *changed.columns)
    return properties


def _moved(attr: ColumnProperty[Any], pairs: tuple[TablePair, ...]) -> Any:
    by_table = {pair.main: pair.history for pair in pairs}
    found: list[Any] = []
    for column in attr.columns:
        if isinstance(column, Column) and column.table in by_table:
            copy = by_table[column.table].c.get(column.key)
            if copy is not None:
                found.append(copy)
    return None if not found else found[0] if len(found) == 1 else tuple(found)
