"""Get the class of an object, or a text that names it in an error, with the same types on SQLAlchemy 2.0 and 2.1."""

from __future__ import annotations

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from .._sqlalchemy import state_of
from .._typing import MappedClass


def class_of(obj: object) -> MappedClass:
    """Return the class of an object."""
    cls: MappedClass = obj.__class__
    return cls


def is_mapped(cls: object) -> bool:
    """Return whether `cls` is a mapped class."""
    return isinstance(cls, type) and isinstance(inspect(cls, raiseerr=False), Mapper)


def describe(obj: object) -> str:
    """Return the object's type and identity, for an error message."""
    identity = state_of(obj).identity
    return f"{type(obj).__name__} {identity[0] if identity and len(identity) == 1 else identity or '(not flushed)'}"
