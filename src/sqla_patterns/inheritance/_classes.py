"""Inspect a class before it is mapped: what it declares, what it gets from mixins, and what is mapped above it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, TypeGuard, cast, get_args, get_type_hints

from sqlalchemy import Column, ForeignKeyConstraint, Table
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, MappedColumn
from sqlalchemy.orm.exc import UnmappedColumnError

from .._sqlalchemy import own_mapper_of
from .._typing import AnyColumn, AnyMapper, MappedClass
from ..exceptions import MappingError


def mapped_parent(cls: MappedClass) -> AnyMapper | None:
    """Return the mapper of the nearest base that is mapped, None for the root of a hierarchy."""
    return next((mapper for mapper in map(own_mapper_of, cls.__mro__[1:]) if mapper is not None), None)


def snake_case(name: str) -> str:
    """Return the name of a class in snake case: ``HTTPServer`` is ``http_server``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def own_annotations(cls: MappedClass) -> Mapping[str, object]:
    """Return the annotations of `cls` itself, without evaluating them."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return cast("Mapping[str, object]", vars(cls).get("__annotations__", {}))


def unmapped_bases(cls: MappedClass) -> Iterator[MappedClass]:
    """Yield `cls` and the bases from which Declarative takes dunder attributes: those that are not mapped."""
    for base in cls.__mro__:
        if base is cls or own_mapper_of(base) is None:
            yield base


def annotation_of(cls: MappedClass, name: str) -> object:
    """Return the evaluated annotation of an attribute of `cls` itself, None where it cannot be evaluated."""
    module = sys.modules.get(cls.__module__)
    holder = SimpleNamespace(__annotations__={name: own_annotations(cls)[name]})
    try:
        return get_type_hints(holder, vars(module) if module else {}, dict(vars(cls)), include_extras=True)[name]
    except Exception:  # noqa: BLE001  # evaluating runs the user's code; a name may be known to type checkers only
        return None


def declaring_bases(cls: MappedClass) -> list[MappedClass]:
    """Return `cls` and those of its mixins that its parent does not have."""
    parent = mapped_parent(cls)
    # The mixins of the parent have given their attributes to the parent. Declarative does not repeat them.
    above = {object} if parent is None else set(parent.class_.__mro__)
    return [base for base in cls.__mro__ if base not in above]


def declares(cls: MappedClass, name: str) -> bool:
    """Return whether `cls` or a mixin that its parent does not have declares an attribute, by value or annotation."""
    return any(name in vars(base) or name in own_annotations(base) for base in declaring_bases(cls))


def dunder(cls: MappedClass, name: str) -> Any:
    """Return what Declarative takes for ``__table_args__`` and its like: from `cls` or a mixin, but no mapped base."""
    for base in unmapped_bases(cls):
        if name in vars(base):
            value = vars(base)[name]
            return value.__get__(None, cls) if hasattr(value, "__get__") else value
    return None


def will_be_mapped(cls: MappedClass) -> bool:
    """Return whether a class without a mapped base is one that is going to be mapped, rather than a mixin or a base."""
    if vars(cls).get("__abstract__", False) or {DeclarativeBase, DeclarativeBaseNoMeta} & set(cls.__bases__):
        return False
    has_table = any(name in vars(base) for name in ("__tablename__", "__table__") for base in unmapped_bases(cls))
    return has_table or hasattr(cls, "registry")


def name_table(cls: MappedClass, alternative: str) -> None:
    """Give a subclass a table name: its own, that by which a base names tables, or that of the class.

    Raises:
        MappingError: The class says that it has none.
    """
    if "__table__" in vars(cls) or vars(cls).get("__tablename__", "") is None:
        raise MappingError(
            f"{cls.__name__} says that it has no table, and each class of its hierarchy needs one; leave __tablename__ "
            f"out for the name of the class, or use {alternative}, with which the tables are yours to declare"
        )
    # Also what a base says goes into the class itself: advanced_alchemy takes a subclass that says nothing for
    # single-table.
    type.__setattr__(cls, "__tablename__", dunder(cls, "__tablename__") or snake_case(cls.__name__))


def declares_key(cls: MappedClass) -> bool:
    """Return whether `cls` or a mixin that its parent does not have declares a primary key."""
    return any(
        column.primary_key
        for base in declaring_bases(cls)
        for column in (*_columns_by_value(base), *_columns_by_annotation(base))
    )


def _columns_by_value(cls: MappedClass) -> Iterator[AnyColumn]:
    for value in list(vars(cls).values()):
        column: Any = cast("Any", value).column if isinstance(value, MappedColumn) else value
        if isinstance(column, Column):
            yield column


def _columns_by_annotation(cls: MappedClass) -> Iterator[AnyColumn]:
    """Yield the columns of ``Mapped[Annotated[int, mapped_column(...)]]``."""
    for name in own_annotations(cls):
        for argument in get_args(annotation_of(cls, name)):
            for each in getattr(argument, "__metadata__", ()):
                if isinstance(each, MappedColumn):
                    yield cast("Any", each).column


def table_of(mapper: AnyMapper) -> Table | None:
    """Return the table that a class has or shares; None if it is mapped to something else."""
    table: object = mapper.local_table
    return table if _is_table(table) else None


# isinstance() leaves pyright with a table of unknown columns.
def _is_table(value: object) -> TypeGuard[Table]:
    return isinstance(value, Table)


def maps_column(mapper: AnyMapper, column: AnyColumn) -> bool:
    """Return whether a class maps a column of its table."""
    try:
        mapper.get_property_by_column(column)
    except UnmappedColumnError:
        return False
    return True


def add_constraint(cls: MappedClass, constraint: ForeignKeyConstraint) -> None:
    """Put a constraint in front of the ``__table_args__`` of a class."""
    given: Any = dunder(cls, "__table_args__") or ()
    rest: list[object] = [given] if isinstance(given, Mapping) else list(given)
    type.__setattr__(cls, "__table_args__", (constraint, *rest))
