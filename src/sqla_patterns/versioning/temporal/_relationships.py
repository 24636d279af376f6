"""Relationships to objects with temporal rows: to the object, or to one of its versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

from sqlalchemy import ColumnElement, and_
from sqlalchemy.orm import Relationship, foreign, relationship, remote

from ..._typing import AnyExpression, MappedClass
from ...exceptions import InvalidArgumentError, MappingError
from ._config import config_of
from ._pins import FOLLOW

#: A function that returns a column, or several, such as ``lambda: Order.customer_id``.
Columns: TypeAlias = Callable[[], Any]


def stable_relationship(target: Callable[[], type[Any]], key: Columns, **options: Any) -> Relationship[Any]:
    """Return a relationship by the key that an object has in all of its versions.

    ``customer: Mapped[Customer] = stable_relationship(lambda: Customer, lambda: Order.customer_id)``. It leads to the
    current version, and in a statement with `valid_at` to the one of that moment, so that the owner does not change
    with the target. The database cannot check such a reference: the key is not unique in the table of the target.

    Args:
        target: The class that the relationship leads to, as a lambda. It, or the class that owns the relationship, has
            temporal rows.
        key: The column that holds the key, as a lambda; a tuple of columns where the key has several. A column of the
            owner makes a many-to-one, a column of the target a one-to-many.
        options: Further arguments of `relationship()`.

    Raises:
        MappingError: When mappers are configured: the columns do not fit the key of a class with temporal rows.
    """
    made = relationship(target, primaryjoin=lambda: _stable_join(made, target(), _columns(key)), **options)
    return made


def _columns(key: Columns) -> list[AnyExpression]:
    found: Any = key()
    return list(cast("Iterable[AnyExpression]", found)) if isinstance(found, (tuple, list)) else [found]


def _stable_join(made: Relationship[Any], target: MappedClass, columns: list[AnyExpression]) -> ColumnElement[bool]:
    owner, holder = made.parent.class_, _class_of(columns[0])
    is_mine, is_theirs = issubclass(owner, holder), issubclass(target, holder)
    # Between objects of one class both fit, and the annotation tells: a list is the one-to-many.
    to_many = is_theirs and (not is_mine or bool(made.uselist))
    referred = owner if to_many else target
    config = config_of(referred)
    if config is None:
        raise MappingError(
            f"{made}: {referred.__name__} has no temporal rows; use relationship(), or give it VersionedRow, "
            "TemporalRow or CopiedRow"
        )
    return _join(made, columns, [getattr(referred, config.attribute(column)) for column in config.stable], to_many)


def _class_of(column: Any) -> MappedClass:
    return cast("MappedClass", column.parent.class_)


def _join(
    made: Relationship[Any], columns: list[AnyExpression], key: Sequence[Any], to_many: bool = False
) -> ColumnElement[bool]:
    if len(columns) != len(key):
        raise MappingError(
            f"{made} was given {len(columns)} columns, and the key of {key[0].parent.class_.__name__} has {len(key)}; "
            "give one column for each, in this order"
        )
    pairs = zip(columns, key, strict=True)
    if to_many:
        return and_(*(remote(foreign(column)) == value for column, value in pairs))
    return and_(*(foreign(column) == remote(value) for column, value in pairs))


def pinned_relationship(
    target: Callable[[], type[Any]], key: Columns, *, follow: bool | int = False, **options: Any
) -> Relationship[Any]:
    """Return a many-to-one relationship to one version, which stays the same when the target changes.

    The columns may have a foreign key to the primary key of the target, since versions are never removed. Statements
    with `valid_at` and closed owners see the version as well.

    Args:
        target: The class that the relationship leads to, as a lambda; it has temporal rows.
        key: The columns that hold the primary key of the version, as a lambda.
        follow: Have the owners refer to each new version, as SQLAlchemy's recipe does. An owner with temporal rows gets
            a new version by that, and 2 lets the owners of that one follow too. Owners without versions are updated by
            one executemany for each flush, and need not be loaded.
        options: Further arguments of `relationship()`.

    Raises:
        InvalidArgumentError: `follow` is negative, or ``lazy="joined"`` is given: a join reads current rows only.
        MappingError: When mappers are configured: the columns do not fit the primary key of a class with temporal rows;
            or, before the first flush, relationships follow each other in a circle.
    """
    if follow < 0:
        raise InvalidArgumentError(f"pinned_relationship() was given follow={follow!r}; give True, False or a number")
    if options.get("lazy") in {"joined", False}:
        raise InvalidArgumentError(
            "pinned_relationship() was given lazy='joined', and a join reads current rows only; give 'select' or "
            "'selectin'"
        )
    info = {**options.pop("info", {}), FOLLOW: int(follow)}
    made = relationship(target, primaryjoin=lambda: _pinned_join(made, target(), _columns(key)), info=info, **options)
    return made


def _pinned_join(made: Relationship[Any], target: MappedClass, columns: list[AnyExpression]) -> ColumnElement[bool]:
    config = config_of(target)
    if config is None:
        raise MappingError(f"{made}: {target.__name__} has no temporal rows to pin; use relationship()")
    return _join(made, columns, [getattr(target, name) for name in config.key_names])
