"""Check whether a value is SQL, show it in an error, and get attributes of the user's classes, with known types."""

from __future__ import annotations

from typing import Any, Final, TypeAlias, cast

from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.sql import ClauseElement

from .._typing import AnyAttribute

#: A class that the user has mapped, or an alias of one.
MappedEntity: TypeAlias = Any

# How much of a value an error shows.
_SHOWN: Final = 80


def is_a(value: object, kind: type[object]) -> bool:
    """Return `isinstance()` without narrowing: checkers narrow to a class whose parameters are unknown."""
    return isinstance(value, kind)


def is_expression(value: object) -> bool:
    """Return whether a value is SQL rather than a value of Python."""
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def short(value: object) -> str:
    """Return the `repr()` of a value as an error can show it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def attribute_of(entity: MappedEntity, name: str) -> AnyAttribute:
    """Return an attribute of a class or an alias."""
    return cast("QueryableAttribute[Any]", getattr(entity, name))
